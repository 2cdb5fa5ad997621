//! What git itself says about a repository.

use std::path::Path;
use std::process::Command;

use crate::process::{Failure, capture, capture_text};

fn git(repository: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("git");
    // Variables of a git that started us would lead to its repository.
    command.arg("-C").arg(repository).args(arguments).env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    command
}

/// The text that git prints, without the white space around it.
pub(super) fn git_text(repository: &Path, arguments: &[&str]) -> Result<String, Failure> {
    Ok(capture_text(&mut git(repository, arguments))?.trim().to_owned())
}

/// The rows that a store must have for a commit: how many, and `path TAB id LF` for each, in byte order of paths.
pub(super) fn expected_rows(repository: &Path, commit: &str) -> Result<(usize, Vec<u8>), Failure> {
    let listed = capture(&mut git(repository, &["ls-tree", "-r", "-z", "--full-tree", commit]))?;
    rows(&listed).ok_or_else(|| Failure::new(format!("git ls-tree -r {commit} printed something else than expected")))
}

/// From `<mode> <type> <id> TAB <path> NUL ..`.
fn rows(listed: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut entries = Vec::new();
    for entry in listed.split(|&byte| byte == 0).filter(|entry| !entry.is_empty()) {
        let tab = entry.iter().position(|&byte| byte == b'\t')?;
        let (description, path) = (entry.get(..tab)?, entry.get(tab + 1..)?);
        entries.push((path, description.rsplit(|&byte| byte == b' ').next()?));
    }
    entries.sort_unstable();
    let rows = entries.iter().flat_map(|(path, id)| [path, b"\t".as_slice(), id, b"\n"].concat());
    Some((entries.len(), rows.collect()))
}

#[cfg(test)]
mod tests {
    use super::rows;

    #[test]
    fn trees_become_sorted_rows_with_raw_paths() {
        let listed = b"100644 blob 22\tb \"\xff\x00160000 commit 11\ta/x\0";
        assert_eq!(rows(listed), Some((2, b"a/x\t11\nb \"\xff\t22\n".to_vec())));
        assert_eq!(rows(b""), Some((0, Vec::new())));
        assert_eq!(rows(b"no tab\0"), None);
    }
}
