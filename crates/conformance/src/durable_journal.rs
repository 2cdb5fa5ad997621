//! The file of the durable model: a journal of edits, each record of which is one atomic step. The format is private to the kit.
//!
//! A record is its payload's length (u32), a checksum (u64) and the payload: edits one after the other. The first record of a file
//! is the whole content at the time the file was made. What follows the last good record was never acknowledged; it may be zeros,
//! room that was set aside.

use std::sync::Arc;

use bytes::Bytes;
use thermocline_io::{Access, DirEntry, Disk, DiskFile, FileId, Reason, SyncFailed, read_up_to_at, write_all_at};
use thermocline_tier::{Checkpoint, EntryKind, EntryRef, Error, ErrorKind, RawEntry, Result, Version};

const HEAD_LEN: usize = 12;

/// One change of the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The store that the file belongs to.
    Store([u8; 16]),
    Entry(EntryKind, RawEntry),
    Ensure(EntryKind),
    Clear(EntryKind),
    Drop(EntryKind, Bytes, Version),
    Checkpoint(Checkpoint),
    Horizon(Version),
}

/// Edits as bytes.
#[derive(Debug, Default)]
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    fn table(&mut self, tag: u8, table: EntryKind) {
        let (kind, id) = table.to_parts();
        self.0.extend([tag, kind]);
        self.0.extend(id.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.0.extend(bytes);
    }

    pub(crate) fn store(&mut self, store: [u8; 16]) {
        self.0.push(0);
        self.0.extend(store);
    }

    pub(crate) fn entry(&mut self, table: EntryKind, entry: EntryRef<'_>) {
        self.table(1, table);
        self.0.extend(entry.version.0.to_le_bytes());
        self.bytes(entry.prefix);
        self.bytes(entry.suffix);
        self.0.push(u8::from(entry.value.is_some()));
        self.bytes(entry.value.unwrap_or_default());
    }

    pub(crate) fn ensure(&mut self, table: EntryKind) {
        self.table(2, table);
    }

    pub(crate) fn clear(&mut self, table: EntryKind) {
        self.table(3, table);
    }

    pub(crate) fn drop_version(&mut self, table: EntryKind, prefix: &[u8], version: Version) {
        self.table(4, table);
        self.bytes(prefix);
        self.0.extend(version.0.to_le_bytes());
    }

    pub(crate) fn checkpoint(&mut self, checkpoint: &Checkpoint) {
        self.0.push(5);
        self.0.extend(checkpoint.version.0.to_le_bytes());
        self.bytes(&checkpoint.state);
    }

    pub(crate) fn horizon(&mut self, horizon: Version) {
        self.0.push(6);
        self.0.extend(horizon.0.to_le_bytes());
    }
}

struct Decoder(Bytes);

impl Decoder {
    fn take(&mut self, len: usize) -> Option<Bytes> {
        (len <= self.0.len()).then(|| self.0.split_to(len))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn table(&mut self) -> Option<EntryKind> {
        let [kind] = self.array()?;
        EntryKind::from_parts(kind, u32::from_le_bytes(self.array()?))
    }

    fn version(&mut self) -> Option<Version> {
        self.array().map(u64::from_le_bytes).map(Version)
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let len = u32::from_le_bytes(self.array()?);
        self.take(usize::try_from(len).ok()?)
    }

    fn edit(&mut self) -> Option<Edit> {
        let [tag] = self.array()?;
        Some(match tag {
            0 => Edit::Store(self.array()?),
            1 => {
                let (table, version) = (self.table()?, self.version()?);
                let (prefix, suffix) = (self.bytes()?, self.bytes()?);
                let [has_value] = self.array()?;
                let value = self.bytes()?;
                Edit::Entry(table, RawEntry { prefix, suffix, version, value: (has_value == 1).then_some(value) })
            }
            2 => Edit::Ensure(self.table()?),
            3 => Edit::Clear(self.table()?),
            4 => Edit::Drop(self.table()?, self.bytes()?, self.version()?),
            5 => Edit::Checkpoint(Checkpoint { version: self.version()?, state: self.bytes()? }),
            6 => Edit::Horizon(self.version()?),
            _ => return None,
        })
    }

    /// The edits of a payload; `None` if it has something else too.
    fn edits(mut self) -> Option<Vec<Edit>> {
        let mut edits = Vec::new();
        while !self.0.is_empty() {
            edits.push(self.edit()?);
        }
        Some(edits)
    }
}

/// FNV-1a, begun with the place that the payload belongs to.
fn checksum(number: u64, offset: u64, payload: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let place = [number.to_le_bytes(), offset.to_le_bytes()].concat();
    place.iter().chain(payload).fold(0xcbf2_9ce4_8422_2325, step)
}

/// A failed operation on the file, as the error of a tier.
fn failed_sync(failed: SyncFailed) -> Error {
    Error::with_source(ErrorKind::Poisoned, failed)
}

/// A journal that is written to.
#[derive(Debug)]
pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    number: u64,
    /// Numbers are never used twice, also if making a file fails.
    next_number: u64,
    /// `None` if it is only read.
    file: Option<Arc<dyn DiskFile>>,
    end: u64,
    /// The first failed sync: nothing is written any more.
    poison: Option<Error>,
}

/// What was found on a disk.
pub(crate) struct Found {
    /// The files that hold journals, ascending.
    numbers: Vec<u64>,
    /// Number, length of the good records, and the edits of the journal that counts.
    pub(crate) newest: Option<(u64, u64, Vec<Edit>)>,
}

/// Reads the newest journal that was finished being made.
pub(crate) fn find(disk: &dyn Disk) -> Result<Found> {
    let entries = disk.list(Reason::ManifestRead).map_err(thermocline_wal::disk_error)?;
    let mut numbers: Vec<u64> = entries
        .iter()
        .filter_map(|entry| match entry {
            DirEntry::File(FileId::Manifest(number), _) => Some(*number),
            _ => None,
        })
        .collect();
    numbers.sort_unstable();
    let mut newest = None;
    for number in numbers.iter().rev() {
        let (end, edits) = read(disk, *number)?;
        if end > 0 {
            newest = Some((*number, end, edits));
            break;
        }
    }
    Ok(Found { numbers, newest })
}

/// The edits of the good records of a file, and where those end.
pub(crate) fn read(disk: &dyn Disk, number: u64) -> Result<(u64, Vec<Edit>)> {
    let reason = Reason::ManifestRead;
    let file = disk.open(FileId::Manifest(number), Access::Read, reason).map_err(thermocline_wal::disk_error)?;
    let len = file.len().map_err(thermocline_wal::disk_error)?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let read = read_up_to_at(&*file, 0, &mut bytes, reason).map_err(thermocline_wal::disk_error)?;
    bytes.truncate(read);
    let mut rest = Decoder(Bytes::from(bytes));
    let (mut end, mut all) = (0, Vec::new());
    while let Some((size, edits)) = record(&mut rest, number, end) {
        all.extend(edits);
        end += size;
    }
    Ok((end, all))
}

fn record(rest: &mut Decoder, number: u64, offset: u64) -> Option<(u64, Vec<Edit>)> {
    let len = usize::try_from(u32::from_le_bytes(rest.array()?)).ok()?;
    let sum = u64::from_le_bytes(rest.array()?);
    let payload = rest.take(len)?;
    let is_good = len > 0 && checksum(number, offset, &payload) == sum;
    let size = u64::try_from(HEAD_LEN + len).ok()?;
    Decoder(payload).edits().filter(|_| is_good).map(|edits| (size, edits))
}

impl Journal {
    /// A journal that is read and never written.
    pub(crate) fn read_only(disk: Arc<dyn Disk>, number: u64, end: u64) -> Self {
        Self { disk, number, next_number: number + 1, file: None, end, poison: None }
    }

    /// Makes a new file with `content` as its first record, and removes the others. Nothing is trusted to be durable because it can
    /// be read.
    pub(crate) fn make(disk: Arc<dyn Disk>, found: &Found, content: &Encoder) -> Result<Self> {
        let number = found.numbers.last().copied().unwrap_or(0);
        let mut journal = Self { disk, number, next_number: number + 1, file: None, end: 0, poison: None };
        journal.replace(content)?;
        for old in &found.numbers {
            journal.remove(*old);
        }
        Ok(journal)
    }

    /// Number and length of the file.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.number, self.end)
    }

    fn check(&self) -> Result<()> {
        match &self.poison {
            Some(cause) => Err(Error::with_source(ErrorKind::Poisoned, cause.clone())),
            None => Ok(()),
        }
    }

    fn write(file: &dyn DiskFile, number: u64, offset: u64, payload: &[u8]) -> Result<u64> {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        let sum = checksum(number, offset, payload);
        let record = [&len.to_le_bytes()[..], &sum.to_le_bytes()[..], payload].concat();
        write_all_at(file, offset, &record, Reason::ManifestWrite).map_err(thermocline_wal::disk_error)?;
        Ok(offset + record.len() as u64)
    }

    /// Makes the edits durable, in one atomic step.
    pub(crate) fn append(&mut self, edits: &Encoder) -> Result<()> {
        self.check()?;
        let Some(file) = self.file.clone() else {
            return Err(ErrorKind::Unsupported { what: "writing to a tier that was opened for reading".into() }.into());
        };
        let end = Self::write(&*file, self.number, self.end, &edits.0)?;
        file.sync_data(Reason::ManifestWrite).map_err(|failed| self.poison(failed))?;
        self.end = end;
        Ok(())
    }

    /// Makes sure that the disk has room for these edits as `records` records.
    pub(crate) fn reserve(&self, edits: &Encoder, records: usize) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let size = (edits.0.len() + records * HEAD_LEN) as u64;
        file.allocate(self.end, size, Reason::ManifestWrite).map_err(thermocline_wal::disk_error)
    }

    fn poison(&mut self, failed: SyncFailed) -> Error {
        let error = failed_sync(failed);
        self.poison = Some(error.clone());
        error
    }

    /// Goes on in a new file, of which `content` is all.
    pub(crate) fn replace(&mut self, content: &Encoder) -> Result<()> {
        self.check()?;
        let (old, number) = (self.file.as_ref().map(|_| self.number), self.next_number);
        self.next_number += 1;
        let id = FileId::Manifest(number);
        let file = self.disk.create_new(id, Reason::ManifestWrite).map_err(thermocline_wal::disk_error)?;
        let end = Self::write(&*file, number, 0, &content.0).inspect_err(|_| self.remove(number))?;
        file.sync_data(Reason::ManifestWrite).map_err(|failed| self.poison(failed))?;
        self.disk.sync_dir(Reason::ManifestWrite).map_err(|failed| self.poison(failed))?;
        (self.file, self.number, self.end) = (Some(file), number, end);
        if let Some(old) = old {
            self.remove(old);
        }
        Ok(())
    }

    /// A file that cannot be removed is harmless: a newer one counts.
    fn remove(&self, number: u64) {
        drop(self.disk.remove(FileId::Manifest(number), Reason::ManifestRemove));
    }
}

#[cfg(test)]
mod tests {
    use thermocline_io::SimDisk;

    use super::*;

    fn edits(edits: &[Edit]) -> Encoder {
        let mut encoder = Encoder::default();
        for edit in edits {
            match edit {
                Edit::Store(store) => encoder.store(*store),
                Edit::Entry(table, entry) => encoder.entry(*table, entry.as_ref()),
                Edit::Ensure(table) => encoder.ensure(*table),
                Edit::Clear(table) => encoder.clear(*table),
                Edit::Drop(table, prefix, version) => encoder.drop_version(*table, prefix, *version),
                Edit::Checkpoint(checkpoint) => encoder.checkpoint(checkpoint),
                Edit::Horizon(horizon) => encoder.horizon(*horizon),
            }
        }
        encoder
    }

    #[test]
    fn what_was_appended_is_read_back_and_a_torn_end_is_not() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let entry = |value: Option<&'static [u8]>| {
            let value = value.map(Bytes::from_static);
            RawEntry { prefix: "k".into(), suffix: "s".into(), version: Version(3), value }
        };
        let first = [Edit::Store([7; 16]), Edit::Horizon(Version(2)), Edit::Ensure(EntryKind::source(9))];
        let more = [
            Edit::Entry(EntryKind::Multi, entry(None)),
            Edit::Entry(EntryKind::Multi, entry(Some(b""))),
            Edit::Clear(EntryKind::operator(1)),
            Edit::Drop(EntryKind::Multi, "k".into(), Version(3)),
            Edit::Checkpoint(Checkpoint { version: Version(3), state: "state".into() }),
        ];
        let mut journal = Journal::make(Arc::clone(&disk), &find(&*disk).unwrap(), &edits(&first)).unwrap();
        journal.append(&edits(&more)).unwrap();
        let (number, end) = journal.place();
        let found = find(&*disk).unwrap().newest.unwrap();
        assert_eq!(found, (number, end, [&first[..], &more[..]].concat()));

        let file = disk.open(FileId::Manifest(number), Access::ReadWrite, Reason::ManifestWrite).unwrap();
        file.set_len(end - 1, Reason::ManifestWrite).unwrap();
        assert_eq!(find(&*disk).unwrap().newest.unwrap().2, first);
        let again = Journal::make(Arc::clone(&disk), &find(&*disk).unwrap(), &edits(&more)).unwrap();
        assert_eq!(find(&*disk).unwrap().numbers, [again.place().0]);
        assert_eq!(find(&*disk).unwrap().newest.unwrap().2, more);
    }
}
