//! The contract of a tier.

use std::fmt::Debug;
use std::ops::AddAssign;
use std::sync::Arc;

use crate::batch::TierBatch;
use crate::entry::{EntryRef, KeyRef, Lookup, RawEntry};
use crate::error::Result;
use crate::page::RangeBatch;
use crate::range::{Direction, KeyRange, RangeCursor, RangeRequest, ReadWindow};
use crate::table::EntryKind;
use crate::version::Version;

/// One (table, key, version) to remove.
///
/// ```
/// use bytes::Bytes;
/// use thermocline_tier::{DropVersion, EntryKind, Version};
///
/// let one = DropVersion { table: EntryKind::Multi, prefix: Bytes::from_static(b"k"), version: Version(3) };
/// assert_eq!(one.version, Version(3));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropVersion {
    /// The table.
    pub table: EntryKind,
    /// The key's prefix.
    pub prefix: bytes::Bytes,
    /// The version.
    pub version: Version,
}

/// What a tier holds of one table. Exact, unless the tier says otherwise in its docs.
///
/// ```
/// assert_eq!(thermocline_tier::TableStats::default().keys, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Keys with at least one entry.
    pub keys: u64,
    /// Entries: all versions of all keys, tombstones included.
    pub entries: u64,
    /// The tombstones among the entries.
    pub tombstones: u64,
    /// The bytes of the entries as users see them: for each entry its prefix, suffix and value.
    pub user_bytes: u64,
}

impl TableStats {
    /// Adds those of another part of the table, at most up to what the counts can hold: a damaged file may say anything of itself.
    ///
    /// ```
    /// use thermocline_tier::TableStats;
    ///
    /// let mut sum = TableStats { keys: 2, ..TableStats::default() };
    /// sum.add(&TableStats { keys: u64::MAX, entries: 3, ..TableStats::default() });
    /// assert_eq!((sum.keys, sum.entries), (u64::MAX, 3));
    /// ```
    pub fn add(&mut self, other: &Self) {
        self.keys = self.keys.saturating_add(other.keys);
        self.entries = self.entries.saturating_add(other.entries);
        self.tombstones = self.tombstones.saturating_add(other.tombstones);
        self.user_bytes = self.user_bytes.saturating_add(other.user_bytes);
    }
}

/// A number of entries, and the bytes of their keys and values.
///
/// ```
/// use thermocline_tier::Amount;
///
/// let mut amount = Amount::default();
/// amount += Amount { entries: 1, bytes: 10 };
/// assert_eq!(amount.bytes, 10);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Entries.
    pub entries: u64,
    /// Bytes of their keys and values, as [`TableStats::user_bytes`] counts them.
    pub bytes: u64,
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// What a tier holds.
///
/// ```
/// assert!(thermocline_tier::TierStats::default().tables.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Each table that exists in the tier, in order.
    pub tables: Vec<(EntryKind, TableStats)>,
    /// Main memory in use, in bytes: all of it, also what waits to be reclaimed.
    pub memory_bytes: u64,
    /// The part of `memory_bytes` that holds nothing any more and will be reclaimed.
    pub garbage_bytes: u64,
}

/// A streaming scan: keeps its place in the tier between batches, where the paged form seeks anew. At its version it returns what
/// was there when it was opened; whether entries show that are dropped, cleared, or written late while it runs is left to the
/// tier, as for a cursor (C10).
pub trait TierScan: Send + Debug {
    /// Replaces the content of `out` by the next `entries_max` entries, and sets `out.has_more`. There are fewer at the end, and where
    /// values are large: a tier may end a batch early so that it takes little memory, but never without an entry while there are more.
    ///
    /// # Errors
    /// As for [`TierStorage::range_next`], a batch of 0 entries among them. A scan that failed is not used again.
    fn next_batch(&mut self, entries_max: usize, out: &mut RangeBatch) -> Result<()>;
}

/// Says of a file, by what the strategy noted of it (see [`FileSummary::slot`](crate::FileSummary::slot); empty if that is unknown),
/// that a scan does not want its rows.
pub type SkipFile<'a> = &'a dyn Fn(&[u8]) -> bool;

/// A tier: ordered, multi-version storage of entries (table, key, version, value or tombstone).
///
/// Keys in this trait are *prefixes*; a suffix is data that travels with an entry. `at` means "the newest version at or below".
///
/// # The contract
///
/// Checked case by case in `thermocline-conformance`; case numbers there.
///
/// - **C1 Exact reads.** A read at `at` answers with the newest entry at or below `at`, and with the version that entry
///   was stored at. Every `u64` is a legal version, 0 and the maximum included. (1 to 7)
/// - **C2 Tombstones answer.** A deleted key reads as [`Lookup::Tombstone`], never as absent; an empty value is a value. (3, 4, 27)
/// - **C3 Unknown tables are empty.** Reading, clearing or dropping from one is not an error and does not create it. (8, 49, 68, 79)
/// - **C4 Atomic batches.** The entries of one [`set`](TierStorage::set) become visible together to every reader, also when their
///   version is not the newest; so does one [`drop_versions`](TierStorage::drop_versions) and one
///   [`clear_table`](TierStorage::clear_table). A reader that has seen one entry of a batch sees, in every later call, all of them. (14, 15, 84)
/// - **C5 Last write wins.** Writing a (key, version) again replaces value and suffix; it never makes a second version. (19 to 21)
/// - **C6 Any order.** Versions may arrive in any order; a late one never hides a newer one. (5, 6, 33)
/// - **C7 Order.** Scans return prefixes in byte order (or its exact reverse), each at most once, within one table. (38, 47, 50, 63)
/// - **C8 Full pages.** A page of n has n entries if there are that many: entries outside the window never shorten a page nor
///   end a scan. Tombstones are returned as entries and count. `has_more` is exact. (37, 44, 45, 48, 51)
/// - **C9 Windows.** A key is selected only if its newest entry at or below `at` lies in the window. (52)
/// - **C10 Cursors.** A cursor holds nothing of the tier. Keys inserted behind it never appear; ahead of it they appear if their
///   version is at or below the cursor's; none appears twice. An exhausted cursor stays exhausted. (53, 54, 56, 59)
/// - **C11 Wrong use.** A cursor of the other direction and a batch size of 0 are refused, by name; an empty or inverted range is
///   empty. (40, 41, 58)
/// - **C12 Drop.** [`drop_versions`](TierStorage::drop_versions) removes exactly the named entries, so that the next older one
///   shows; a pair that is not there is passed over; the same version may be written again. (74 to 82)
/// - **C13 Clear.** [`clear_table`](TierStorage::clear_table) removes every entry at once; pages of open cursors are then empty. The table
///   itself remains. (57, 69)
/// - **C14 All versions.** [`get_all_versions`](TierStorage::get_all_versions) lists each version once, newest first. (89, 90)
/// - **C15 Refusal changes nothing.** After an error from a write, everything reads as before it. (26, 28)
/// - **C16 Readers never wait for readers,** and never make a writer wait.
pub trait TierStorage: Send + Sync + Debug {
    /// The newest entry of a key at or below `at`.
    ///
    /// # Errors
    /// What the tier's storage fails with ([`Io`](crate::ErrorKind::Io), [`Corruption`](crate::ErrorKind::Corruption)); a tier in memory never fails.
    fn get(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<Lookup>;

    /// Whether a key has a value at `at`. A tier that can answer without reading the value does.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get).
    fn contains(&self, table: EntryKind, prefix: &[u8], at: Version) -> Result<bool> {
        Ok(self.get(table, prefix, at)?.is_value())
    }

    /// Many keys at once, of any tables, all at `at`: one answer for each, in the order of the keys, duplicates answered
    /// twice. Much faster than one by one, since the waits for memory overlap.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get); there is no partial answer.
    fn get_many(&self, keys: &[KeyRef<'_>], at: Version) -> Result<Vec<Lookup>> {
        keys.iter().map(|key| self.get(key.table, key.prefix, at)).collect()
    }

    /// The newest entry of a key strictly below `before`: what a change capture needs as pre-image.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get).
    fn get_previous(&self, table: EntryKind, prefix: &[u8], before: Version) -> Result<Lookup> {
        match before.previous() {
            Some(at) => self.get(table, prefix, at),
            None => Ok(Lookup::Absent),
        }
    }

    /// Writes a batch. Creates the tables that it names. An empty batch changes nothing.
    ///
    /// # Errors
    /// [`LimitExceeded`](crate::ErrorKind::LimitExceeded), [`MemoryExhausted`](crate::ErrorKind::MemoryExhausted) or
    /// [`DiskFull`](crate::ErrorKind::DiskFull); nothing is changed then.
    fn set(&self, batch: &TierBatch) -> Result<()>;

    /// Sets aside what `batches` together need, so that [`set`](TierStorage::set) of each, with nothing else written in between, does
    /// not fail for lack of room: for a store, which logs a batch before it writes it. A tier that has no limit needs none of its own.
    ///
    /// # Errors
    /// [`MemoryExhausted`](crate::ErrorKind::MemoryExhausted) or [`DiskFull`](crate::ErrorKind::DiskFull) if they do not fit.
    fn make_room(&self, _batches: &[&TierBatch]) -> Result<()> {
        Ok(())
    }

    /// The next batch of an ascending scan: one entry for each key that its window selects, tombstones included, and the
    /// cursor moved past it.
    ///
    /// # Errors
    /// [`CursorMismatch`](crate::ErrorKind::CursorMismatch) for a descending cursor, [`InvalidArgument`](crate::ErrorKind::InvalidArgument)
    /// for a batch size of 0, else as [`get`](TierStorage::get); the cursor then stays where it was.
    fn range_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch>;

    /// The next batch of a descending scan: the mirror of [`range_next`](TierStorage::range_next).
    ///
    /// # Errors
    /// As [`range_next`](TierStorage::range_next), for an ascending cursor.
    fn range_rev_next(&self, cursor: &mut RangeCursor, batch_size: usize) -> Result<RangeBatch>;

    /// A scan that streams, in either direction. Tiers for which a seek is cheap return a [`PagedScan`](crate::PagedScan).
    ///
    /// # Errors
    /// As [`get`](TierStorage::get).
    fn scan(self: Arc<Self>, request: RangeRequest) -> Result<Box<dyn TierScan>>;

    /// The same without the rows of files whose slots `skip` names, as far as the tier can leave them out: never where one of them hides
    /// what lies elsewhere. So rows that `skip` would leave out may come all the same. `skip` is asked here alone, about each file once.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get).
    fn scan_skipping(self: Arc<Self>, request: RangeRequest, _skip: SkipFile<'_>) -> Result<Box<dyn TierScan>> {
        self.scan(request)
    }

    /// Brings a table into being, empty. Nothing happens if it is there.
    ///
    /// # Errors
    /// As [`set`](TierStorage::set).
    fn ensure_table(&self, table: EntryKind) -> Result<()>;

    /// The tables that exist, in order.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get).
    fn tables(&self) -> Result<Vec<EntryKind>>;

    /// Removes every entry of a table, physically and at once.
    ///
    /// # Errors
    /// As [`set`](TierStorage::set).
    fn clear_table(&self, table: EntryKind) -> Result<()>;

    /// Removes the named entries, all at once. What is not there is passed over.
    ///
    /// # Errors
    /// As [`set`](TierStorage::set).
    fn drop_versions(&self, drops: &[DropVersion]) -> Result<()>;

    /// Every entry of a key, newest first, tombstones included; empty for an unknown key.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get).
    fn get_all_versions(&self, table: EntryKind, prefix: &[u8]) -> Result<Vec<RawEntry>>;

    /// Hands every entry that the tier holds to `visit`: the tables in order, within each the keys in order, of each key its
    /// versions, newest first, tombstones included. The whole of it is the tier's content only if nothing is written meanwhile. For
    /// moving a tier's content to another.
    ///
    /// # Errors
    /// As [`get`](TierStorage::get), and the first error of `visit`, which ends the visit.
    fn visit_entries(&self, visit: &mut dyn FnMut(EntryKind, EntryRef<'_>) -> Result<()>) -> Result<()> {
        const PAGE_ENTRIES: usize = 1024;
        for table in self.tables()? {
            let window = ReadWindow::as_of(Version::MAX);
            let request = RangeRequest { table, range: KeyRange::all(), window, direction: Direction::Forward };
            let mut cursor = request.into_cursor();
            while !cursor.is_exhausted() {
                for newest in self.range_next(&mut cursor, PAGE_ENTRIES)?.iter() {
                    for entry in self.get_all_versions(table, newest.prefix)? {
                        visit(table, entry.as_ref())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What the tier holds. Cost: at most one step for each table.
    fn stats(&self) -> TierStats;

    /// Main memory in use, in bytes, as in [`TierStats::memory_bytes`]: asked before every commit, so a tier with
    /// many tables overrides it.
    fn memory_bytes(&self) -> u64 {
        self.stats().memory_bytes
    }
}
