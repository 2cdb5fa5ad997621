//! Commands to drop versions of single keys, which wait until the drop worker gets to them.

use std::collections::BTreeSet;
use std::ops::Bound;

use bytes::Bytes;
use thermocline_tier::{DropRule, EntryKind, Retained, Version};

/// What a waiting command takes beside its key, about, in bytes.
const COMMAND_OVERHEAD_BYTES: usize = 128;

/// A command of a commit to drop versions of a key, of those that the key had once the commit was made.
///
/// ```
/// use thermocline_drop::DropCommand;
/// use thermocline_tier::{DropRule, EntryKind, Retained, Version};
///
/// let rule = DropRule { keep_last: Some(1), ..DropRule::default() };
/// let command = DropCommand { version: Version(7), table: EntryKind::Multi, key: "k".into(), rule };
/// let (dropped, held) = command.select(&[9, 7, 4, 2].map(Version), &Retained::new(Version::MAX, [Version(5)]));
/// assert_eq!((dropped, held), (vec![Version(2)], vec![Version(4)]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropCommand {
    /// The commit's version. Newer versions do not count, and stay.
    pub version: Version,
    /// The table.
    pub table: EntryKind,
    /// The key.
    pub key: Bytes,
    /// Which of its versions.
    pub rule: DropRule,
}

impl DropCommand {
    /// What it takes while it waits, about, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.key.len().saturating_add(COMMAND_OVERHEAD_BYTES)
    }

    /// Of all versions of the key, newest first, those that may go, oldest first; and those that must wait since they are
    /// [pinned](crate::Authority::pinned).
    pub fn select(&self, versions: &[Version], pinned: &Retained) -> (Vec<Version>, Vec<Version>) {
        let newer = versions.partition_point(|version| *version > self.version);
        let mut selected = self.rule.select(&versions[newer..]).into_iter().peekable();
        // Of the newest version every pin holds it that is not older.
        let nexts = std::iter::once(Version::MAX).chain(versions.iter().copied());
        let (mut dropped, mut held) = (Vec::new(), Vec::new());
        for (version, next) in versions.iter().zip(nexts).skip(newer) {
            if selected.next_if_eq(version).is_some() {
                if pinned.sees(*version, Some(next)) { &mut held } else { &mut dropped }.push(*version);
            }
        }
        dropped.reverse();
        (dropped, held)
    }

    /// The same command for all versions from one through another.
    #[must_use]
    pub fn between(&self, first: Version, last: Version) -> Self {
        Self { rule: DropRule { from: first, up_to: last.next(), keep_last: None }, ..self.clone() }
    }

    /// The same command for one version.
    #[must_use]
    pub fn only(&self, version: Version) -> Self {
        Self { rule: DropRule::only(version), ..self.clone() }
    }
}

/// The commands that wait, in the order of their commits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pending {
    commands: BTreeSet<DropCommand>,
    size_bytes: usize,
}

impl Pending {
    /// Adds a command; one that waits already is not added again.
    pub(crate) fn add(&mut self, command: &DropCommand) {
        if self.commands.insert(command.clone()) {
            self.size_bytes += command.size_bytes();
        }
    }

    pub(crate) fn remove(&mut self, command: &DropCommand) {
        if self.commands.remove(command) {
            self.size_bytes -= command.size_bytes();
        }
    }

    /// Those behind one, or all.
    pub(crate) fn after(&self, command: Option<&DropCommand>) -> impl Iterator<Item = &DropCommand> {
        self.commands.range((command.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.size_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(version: u64, rule: DropRule) -> DropCommand {
        DropCommand { version: Version(version), table: EntryKind::Multi, key: Bytes::from_static(b"k"), rule }
    }

    fn select(command: &DropCommand, versions: &[u64], pinned: &Retained) -> (Vec<u64>, Vec<u64>) {
        let versions: Vec<Version> = versions.iter().copied().map(Version).collect();
        let (dropped, held) = command.select(&versions, pinned);
        let numbers = |versions: Vec<Version>| versions.into_iter().map(|version| version.0).collect();
        (numbers(dropped), numbers(held))
    }

    #[test]
    fn newer_versions_than_the_commits_neither_count_nor_go() {
        let unpinned = Retained::new(Version::MAX, []);
        let keep_one = command(7, DropRule { keep_last: Some(1), ..DropRule::default() });
        assert_eq!(select(&keep_one, &[9, 8, 7, 4, 2], &unpinned), (vec![2, 4], vec![]));
        assert_eq!(select(&keep_one, &[9, 8], &unpinned), (vec![], vec![]));
        assert_eq!(select(&command(7, DropRule::default()), &[9, 7, 1], &unpinned), (vec![1, 7], vec![]));
        assert_eq!(select(&command(7, DropRule::only(Version(4))), &[9, 4, 1], &unpinned), (vec![4], vec![]));
    }

    #[test]
    fn versions_that_a_pin_sees_wait_for_it() {
        let all = command(7, DropRule::default());
        let pins = |pins: &[u64]| Retained::new(Version::MAX, pins.iter().copied().map(Version));
        assert_eq!(select(&all, &[7, 4, 2], &pins(&[3, 6])), (vec![7], vec![4, 2]));
        assert_eq!(select(&all, &[7, 4, 2], &pins(&[1])), (vec![2, 4, 7], vec![]));
        assert_eq!(select(&all, &[7, 4, 2], &pins(&[100])), (vec![2, 4], vec![7]));
        assert_eq!(select(&all, &[9, 7, 4], &pins(&[9])), (vec![4, 7], vec![]));
        // All from 4 on.
        assert_eq!(select(&all, &[9, 7, 4, 2], &Retained::new(Version(4), [])), (vec![2], vec![7, 4]));
    }

    #[test]
    fn command_that_waits_counts_once() {
        let mut pending = Pending::default();
        let (first, second) = (command(7, DropRule::default()), command(8, DropRule::default()));
        for command in [&first, &second, &first] {
            pending.add(command);
        }
        assert_eq!((pending.len(), pending.size_bytes()), (2, 2 * first.size_bytes()));
        assert_eq!(pending.after(Some(&first)).collect::<Vec<_>>(), [&second]);
        for _twice in 0..2 {
            pending.remove(&first);
        }
        assert_eq!((pending.len(), pending.size_bytes(), pending.after(None).count()), (1, second.size_bytes(), 1));
    }
}
