//! Rules on every file of text.

use super::Finding;
use crate::workspace::has_extension;

/// The rules that hold for all text that people write; captured bytes and generated lists are left alone.
pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    if has_extension(path, "lock")
        || path.contains("/golden/")
        || path.contains("/corpus/")
        || path.contains("proptest-regressions")
    {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::at(path, index, "white space at the end of the line"));
        }
        if let Some(found) = machine_path(line) {
            findings.push(Finding::at(path, index, format!("a path of one machine: {found}")));
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        findings.push(Finding::file(path, "the file does not end with exactly one line break"));
    }
    findings
}

/// Folders of people and machines. They are split so that this file does not find itself.
const MACHINE_FOLDERS: &[&[&str]] = &[&["/ho", "me/"], &["/ro", "ot/"], &["/Us", "ers/"], &["/wo", "rk/"], &["/t", "mp/"]];

fn machine_path(line: &str) -> Option<String> {
    MACHINE_FOLDERS.iter().map(|parts| parts.concat()).find(|folder| {
        line.match_indices(folder.as_str()).any(|(index, _)| {
            // Behind a letter, a dot or a brace it is a part of a longer path, which may be relative or a URL.
            let before = line.get(..index).and_then(|before| before.chars().next_back());
            before.is_none_or(|before| !before.is_alphanumeric() && !matches!(before, '.' | '_' | '-' | '}' | '~' | '/'))
        })
    })
}

/// Relative links of a page of Markdown that lead nowhere. `exists` takes a path relative to the root.
pub(super) fn broken_links(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    debug_assert!(has_extension(path, "md"));
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    let mut code = false;
    for (index, line) in text.lines().enumerate() {
        code ^= line.trim_start().starts_with("```");
        for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|_| !code) {
            let target = target.split('#').next().unwrap_or(target);
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !exists(&resolved(folder, target)) {
                findings.push(Finding::at(path, index, format!("the link {target} leads nowhere")));
            }
        }
    }
    findings
}

fn resolved(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::{broken_links, check, machine_path};

    #[test]
    fn white_space_and_line_ends_are_checked() {
        assert_eq!(check("a.md", "one\ntwo\n"), []);
        assert_eq!(check("a.md", ""), []);
        for text in ["one \n", "one\t\n", "one\r\n", "one", "one\n\n"] {
            assert_eq!(check("a.md", text).len(), 1, "{text:?}");
        }
        assert_eq!(check("crates/wal/tests/golden/a.txt", "one "), []);
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        for folder in ["home", "root", "Users", "work", "tmp"] {
            for line in [format!("/{folder}/me"), format!("see `/{folder}/me`"), format!("dir=/{folder}/x")] {
                assert!(machine_path(&line).is_some(), "{line}");
            }
            for line in [format!("net/{folder}/x"), format!("../{folder}/x"), format!("https://a.org/{folder}/x")] {
                assert_eq!(machine_path(&line), None, "{line}");
            }
        }
    }

    #[test]
    fn links_must_lead_somewhere() {
        let page = "[a](adr/1.md) [b](../README.md#top) [c](#here) [d](https://a.org/b)\n```\n[e](x)\n```\n[f](none.md)\n";
        let exists = |path: &str| matches!(path, "docs/adr/1.md" | "README.md");
        let findings = broken_links("docs/A.md", page, exists);
        assert_eq!(findings.iter().map(ToString::to_string).collect::<Vec<_>>(), ["docs/A.md:5: the link none.md leads nowhere"]);
    }
}
