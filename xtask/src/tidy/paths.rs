//! Rules on the names and places of files.

use super::Finding;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helpers", "misc", "util", "utils", "v2"];

/// Checks all paths of the repository at once.
pub(super) fn check(paths: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for path in paths {
        if path.split('/').any(|part| EMPTY_NAMES.contains(&part.split('.').next().unwrap_or(part))) {
            findings.push(Finding::file(path, "the name does not say what is inside"));
        }
        if path.rsplit('/').next().is_some_and(|name| name.starts_with("._") || name == ".DS_Store") {
            findings.push(Finding::file(path, "a left-over of a desktop"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::check;

    fn findings(paths: &[&str]) -> usize {
        check(&paths.iter().map(|&path| path.to_owned()).collect::<Vec<_>>()).len()
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        for path in ["crates/io/src/util.rs", "crates/common/src/lib.rs", "docs/misc.md", "crates/io/src/v2/disk.rs"] {
            assert_eq!(findings(&[path]), 1, "{path}");
        }
        assert_eq!(findings(&["crates/io/src/utility_disk.rs", "README.md"]), 0);
        assert_eq!(findings(&["crates/io/src/._lib.rs"]), 1);
    }
}
