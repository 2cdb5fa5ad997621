//! Rules on Rust files.

use super::Finding;

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 160;

/// What must not be merged, and why. They are split so that this file does not find itself.
const BANNED: &[(&[&str], &str)] = &[
    (&["FIX", "ME"], "do it, or open an issue"),
    (&["XX", "X"], "do it, or open an issue"),
    (&["NOCOM", "MIT"], "it says itself that it must not be merged"),
    (&["db", "g!"], "left over from looking for a fault"),
    (&["to", "do!"], "unfinished"),
    (&["unimple", "mented!"], "unfinished"),
    (&["#[ign", "ore"], "a test that does not run proves nothing"),
    (&["#[should_", "panic"], "it passes for any panic: catch the one that is meant"),
    (&["#[all", "ow("], "say #[expect(lint, reason = \"proof\")]"),
    (&["#![all", "ow("], "say #![expect(lint, reason = \"proof\")]"),
    (&["#[doc(hid", "den)]"], "public or not, nothing between"),
];

/// Where `unsafe` may stand: the crate that talks to the machine, the hot tier's arena, which a benchmark justifies, and the one binding of
/// another engine whose calls are unsafe.
const UNSAFE_PLACES: &[&str] = &["crates/hot/src/arena.rs", "crates/hot/src/arena/", "benches/compare/src/engines/lmdb.rs"];
/// Roots of the crates that hold such a place; all others forbid `unsafe` outright.
const UNSAFE_ROOTS: &[&str] = &["crates/hot/src/lib.rs", "benches/compare/src/main.rs"];

/// Checks one file.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    if !text.starts_with("//!") {
        findings.push(Finding::file(path, "the file does not begin with //! and what it is for"));
    }
    if lines.len() > LINES_MAX {
        findings.push(Finding::file(path, format!("{} lines, over {LINES_MAX}: split it", lines.len())));
    }
    for (index, line) in lines.iter().enumerate() {
        findings.extend(check_line(path, index, line));
        if ends_unused_matches(&lines, index) {
            findings.push(Finding::at(path, index, "matches! as a statement checks nothing: assert it"));
        }
    }
    let root = path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs");
    if root && !UNSAFE_ROOTS.contains(&path) && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::file(path, "the crate does not say #![forbid(unsafe_code)]"));
    }
    findings
}

fn check_line(path: &str, index: usize, line: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let columns = line.chars().count();
    if columns > COLUMNS_MAX {
        findings.push(Finding::at(path, index, format!("{columns} columns, over {COLUMNS_MAX}")));
    }
    for (parts, why) in BANNED {
        let mark = parts.concat();
        if word_positions(line, &mark).next().is_some() {
            findings.push(Finding::at(path, index, format!("{mark}: {why}")));
        }
    }
    let to_do = ["TO", "DO"].concat();
    if word_positions(line, &to_do).any(|position| !line.get(position..).unwrap_or_default().starts_with(&format!("{to_do}(#"))) {
        findings.push(Finding::at(path, index, format!("{to_do} without its issue: {to_do}(#123)")));
    }
    if line.trim_start().starts_with("pub use ") && line.contains("::*") {
        findings.push(Finding::at(path, index, "re-exports are listed one by one"));
    }
    if uses_unsafe(line) && !UNSAFE_PLACES.iter().any(|place| path.starts_with(place)) {
        findings.push(Finding::at(path, index, "unsafe belongs in the hot tier's arena"));
    }
    findings
}

/// Where `mark` stands in `line` without being the end of a longer word.
fn word_positions<'a>(line: &'a str, mark: &'a str) -> impl Iterator<Item = usize> + 'a {
    line.match_indices(mark).map(|(position, _)| position).filter(move |&position| {
        let before = line.get(..position).and_then(|before| before.chars().next_back());
        let after = line.get(position + mark.len()..).and_then(|after| after.chars().next());
        let word = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
        let open = mark.ends_with(|last: char| !last.is_alphanumeric());
        !word(before) && (open || !word(after))
    })
}

fn uses_unsafe(line: &str) -> bool {
    let keyword = ["uns", "afe"].concat();
    let code = line.split("//").next().unwrap_or(line);
    word_positions(code, &keyword).any(|position| {
        let after = code.get(position + keyword.len()..).unwrap_or_default().trim_start();
        ["{", "fn ", "impl", "trait ", "extern "].iter().any(|start| after.starts_with(start))
    })
}

/// Whether the line `index` begins a statement that is `matches!(..);` and nothing else.
fn ends_unused_matches(lines: &[&str], index: usize) -> bool {
    let Some(first) = lines.get(index).filter(|line| line.trim_start().starts_with("matches!(")) else {
        return false;
    };
    let before = lines.iter().take(index).rev().map(|line| line.trim()).find(|line| !line.is_empty() && !line.starts_with("//"));
    if !before.is_none_or(|before| before.ends_with([';', '{', '}'])) {
        return false;
    }
    let mut depth = 0_usize;
    for line in std::iter::once(first).chain(lines.iter().skip(index + 1)) {
        for (position, letter) in line.char_indices() {
            match letter {
                '(' => depth += 1,
                ')' if depth == 1 => return line.get(position + 1..).unwrap_or_default().trim_start().starts_with(';'),
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::{BANNED, COLUMNS_MAX, LINES_MAX, check};

    /// The findings in a file of `crates/store` with this body.
    fn findings(body: &str) -> Vec<String> {
        findings_at("crates/store/src/read.rs", &format!("//! Head.\n{body}\n"))
    }

    fn findings_at(path: &str, text: &str) -> Vec<String> {
        check(path, text).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn file_begins_with_what_it_is_for() {
        assert_eq!(findings_at("crates/io/src/disk.rs", "//! Head.\n"), Vec::<String>::new());
        for text in ["", "use std::fmt;\n", "// Head.\n", "\n//! Head.\n"] {
            assert_eq!(findings_at("crates/io/src/disk.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(findings(&"a".repeat(COLUMNS_MAX)), Vec::<String>::new());
        assert_eq!(findings(&"a".repeat(COLUMNS_MAX + 1)).len(), 1);
        assert_eq!(findings(&"a\n".repeat(LINES_MAX - 2)), Vec::<String>::new());
        assert_eq!(findings(&"a\n".repeat(LINES_MAX)).len(), 1);
    }

    #[test]
    fn banned_marks_are_found_and_longer_words_are_not() {
        for (parts, _) in BANNED {
            let mark = parts.concat();
            assert_eq!(findings(&format!("    {mark}")).len(), 1, "{mark}");
            if mark.starts_with(char::is_alphanumeric) {
                assert_eq!(findings(&format!("    a{mark}")), Vec::<String>::new(), "a{mark}");
            }
        }
        let to_do = ["TO", "DO"].concat();
        assert_eq!(findings(&format!("// {to_do}: later")).len(), 1);
        assert_eq!(findings(&format!("// {to_do}(#12): later")), Vec::<String>::new());
    }

    #[test]
    fn glob_re_export_is_found() {
        assert_eq!(findings("pub use crate::disk::*;").len(), 1);
        assert_eq!(findings("use proptest::prelude::*;"), Vec::<String>::new());
    }

    #[test]
    fn matches_as_a_statement_is_found() {
        for body in
            ["fn f() {\n    matches!(a, B);\n}", "a();\nmatches!(\n    a,\n    B(c)\n);", "{\n// note\nmatches!(f(x), B) ;"]
        {
            assert_eq!(findings(body).len(), 1, "{body}");
        }
        for body in ["fn f() -> bool {\n    matches!(a, B)\n}", "let a =\n    matches!(a, B);", "assert!(\n    matches!(a, B));"]
        {
            assert_eq!(findings(body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn unsafe_stands_only_in_its_places() {
        let block = format!("//! Head.\nlet a = {} {{ b() }};\n", ["uns", "afe"].concat());
        for path in ["crates/hot/src/arena/node.rs", "crates/hot/src/arena.rs"] {
            assert_eq!(findings_at(path, &block), Vec::<String>::new(), "{path}");
        }
        for path in ["crates/hot/src/tier.rs", "crates/io/src/disk.rs", "crates/store/src/read.rs", "xtask/src/tidy.rs"] {
            assert_eq!(findings_at(path, &block).len(), 1, "{path}");
        }
        assert_eq!(findings("// an unsafe { block } in a comment"), Vec::<String>::new());
    }

    #[test]
    fn crate_root_forbids_unsafe() {
        let text = "//! Head.\n";
        assert_eq!(findings_at("crates/store/src/lib.rs", text).len(), 1);
        assert_eq!(findings_at("crates/hot/src/lib.rs", text), Vec::<String>::new());
        assert_eq!(findings_at("crates/store/src/lib.rs", "//! Head.\n#![forbid(unsafe_code)]\n"), Vec::<String>::new());
    }
}
