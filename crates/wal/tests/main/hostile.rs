//! Arbitrary bytes as log segments, with checksums made right so that they get past them: whatever is read, nothing may panic, hang,
//! or be believed twice with two results. The fuzz target calls the same function.

use std::sync::Arc;

use thermocline_format::{Envelope, FileKind, Salt, StoreId, checksum64};
use thermocline_io::{Disk, FileId, MemoryDisk, Reason, SeededRandomness, SimClock, write_all_at};
use thermocline_tier::{Version, WholeKey};
use thermocline_wal::{Genesis, Log, LogBase, LogOptions, OpenLog, Replayed, dump_segment, verify};

const STORE: StoreId = StoreId([7; 16]);
const HEADER_LEN: usize = 4096;

/// Takes bytes off the front; zeros where there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let take = self.0.len().min(N);
        bytes[..take].copy_from_slice(&self.0[..take]);
        self.0 = &self.0[take..];
        bytes
    }

    fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let take = self.0.len().min(len);
        let bytes = self.0[..take].to_vec();
        self.0 = &self.0[take..];
        bytes
    }
}

/// A number that is likely to matter, or any.
fn number(input: &mut Input<'_>, likely: &[u64]) -> u64 {
    let choice = usize::from(input.byte());
    likely.get(choice).copied().unwrap_or_else(|| u64::from_le_bytes(input.array()))
}

/// What a well-behaved writer would know.
#[derive(Default)]
struct Writer {
    sequence: u64,
    chain: u64,
    version: u64,
    previous_end: u64,
}

impl Writer {
    /// A segment with right checksums around whatever the input says. Most choices are those of a writer that behaves, so that the
    /// others are met deep inside.
    fn segment(&mut self, input: &mut Input<'_>, file_number: u64) -> Vec<u8> {
        let salt = Salt::new(STORE, FileKind::Wal, file_number);
        let mut bytes = Envelope::new(FileKind::Wal, file_number, STORE).encode().to_vec();
        let previous = if file_number > 1 && input.byte() % 8 != 7 { file_number - 1 } else { 0 };
        let is_first = previous == 0;
        if is_first {
            (self.sequence, self.chain) = (0, 0);
        }
        bytes.extend(number(input, &[self.sequence + 1; 6]).to_le_bytes());
        bytes.extend(previous.to_le_bytes());
        bytes.extend(if is_first { 0 } else { number(input, &[self.previous_end; 6]) }.to_le_bytes());
        bytes.extend(if is_first { 0 } else { number(input, &[self.chain; 6]) }.to_le_bytes());
        bytes.extend(number(input, &[4096, 4096, 4096, 4608, 4500]).to_le_bytes());
        bytes.extend(number(input, &[0, 0, 0, 1, 2]).to_le_bytes());
        let unit = [1_u32, 512, 512, 4096, 3][usize::from(input.byte() % 5)];
        bytes.extend(unit.to_le_bytes());
        bytes.resize(HEADER_LEN - 8, 0);
        let checksum = checksum64(salt.at(64), &bytes[64..]);
        bytes.extend(checksum.to_le_bytes());

        if is_first && input.byte() % 16 != 15 {
            let genesis = [&5_u64.to_le_bytes()[..], b"\x09whole-key"].concat();
            self.record(input, &mut bytes, salt, unit, 1, &genesis, 0);
        }
        for _ in 0..12 {
            if input.0.is_empty() {
                break;
            }
            let (kind, payload, entries) = self.payload(input);
            self.record(input, &mut bytes, salt, unit, kind, &payload, entries);
        }
        self.previous_end = bytes.len() as u64;
        let tail = usize::from(input.byte() % 64);
        bytes.extend(input.bytes(tail));
        bytes
    }

    /// The kind, bytes and number of entries of a record.
    fn payload(&mut self, input: &mut Input<'_>) -> (u8, Vec<u8>, u32) {
        let kind = input.byte() % 12;
        if kind == 11 {
            let len = usize::from(u16::from_le_bytes(input.array())) % 600;
            return (input.byte(), input.bytes(len), u32::from(input.byte()));
        }
        self.version += 1;
        let version = number(input, &[self.version; 6]).to_le_bytes();
        match kind {
            0..6 => {
                let mut payload = [version, [0; 8]].concat();
                let mut entries = 0;
                payload.push(input.byte() % 8 / 7);
                for tag in 0..input.byte() % 3 {
                    payload.extend([tag + input.byte() % 8 / 7, 0, 0, 0, 0]);
                    let count = u32::from(input.byte() % 3) + 1;
                    entries += count;
                    payload.extend(if input.byte() % 16 == 15 { u32::from_le_bytes(input.array()) } else { count }.to_le_bytes());
                    for index in 0..count {
                        let (key, suffix, value) = (input.byte() % 4 + 1, input.byte() % 5, input.byte() % 8);
                        payload.extend([key, suffix.saturating_sub(2), value, b'a' + index as u8]);
                        payload.extend(input.bytes(usize::from(key + value.saturating_sub(1)) - 1));
                    }
                }
                (2, payload, if input.byte() % 16 == 15 { u32::from(input.byte()) } else { entries })
            }
            6 => (3, vec![input.byte() % 4, input.byte() % 2, 0, 0, 0], 0),
            7 => (4, [&version[..], &[0; 8], &[1, input.byte(), 0, 0, 0]].concat(), 0),
            8 => (6, vec![], 0),
            _ => (5, vec![], 0),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a part of the record")]
    fn record(
        &mut self,
        input: &mut Input<'_>,
        bytes: &mut Vec<u8>,
        salt: Salt,
        unit: u32,
        kind: u8,
        payload: &[u8],
        entries: u32,
    ) {
        let start = bytes.len();
        let offset = start as u64;
        let choice = input.byte();
        let flags = match choice {
            0 | 8..16 => 0,
            1 | 2 | 16..100 => 1,
            250.. => choice,
            _ if unit == 1 => 1,
            _ => 3,
        };
        let stated = if choice == 107 { u32::from_le_bytes(input.array()) } else { payload.len() as u32 };
        self.sequence += 1;
        bytes.extend(stated.to_le_bytes());
        bytes.extend([kind, flags, 0, 0]);
        bytes.extend(if choice == 106 { number(input, &[0]) } else { self.sequence }.to_le_bytes());
        bytes.extend(entries.to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(if choice % 32 == 14 || choice == 5 { number(input, &[offset, 4608]) } else { 4096 }.to_le_bytes());
        bytes.extend(checksum64(salt.at(offset + 48), payload).to_le_bytes());
        let checksum = checksum64(salt.at(offset), &bytes[start..]).to_le_bytes();
        self.chain = checksum64(self.chain, &checksum);
        bytes.extend(checksum);
        bytes.extend(payload);
        if flags == 3 && choice != 249 {
            let end = (bytes.len() + 8).next_multiple_of(unit.max(2) as usize);
            bytes.resize(end - 8, 0);
            bytes.extend(checksum);
        }
    }
}

/// What opening a directory gives: a history, or an error's text.
fn read(disk: &Arc<dyn Disk>, is_read_only: bool, base: Option<&LogBase>) -> (Result<Log, String>, Vec<String>) {
    let mut found = Vec::new();
    let request = OpenLog {
        disk: Arc::clone(disk),
        randomness: &SeededRandomness::new(1),
        clock: &SimClock::new(),
        options: LogOptions { segment_size_bytes: 8192, ..LogOptions::default() },
        layout: &WholeKey,
        is_read_only,
        store: None,
        base: base.cloned(),
    };
    let opened = Log::open(request, &mut |record| {
        found.push(match record {
            Replayed::Commit(commit) => {
                format!("{} {} {:?} {:?}", commit.version, commit.time, commit.clears, commit.batch.iter().collect::<Vec<_>>())
            }
            other => format!("{other:?}"),
        });
        Ok(())
    });
    (opened.map(|(log, _)| log).map_err(|error| error.to_string()), found)
}

/// Makes segments of the input and does with them all that can be done with a directory. Returns how many records were accepted.
pub(crate) fn check(data: &[u8]) -> usize {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut input = Input(data);
    let count = 1 + u64::from(input.byte() % 3);
    let mut writer = Writer::default();
    for file_number in 1..=count {
        let bytes = writer.segment(&mut input, file_number);
        let file = disk.create_new(FileId::Wal(file_number), Reason::Open).unwrap();
        write_all_at(&*file, 0, &bytes, Reason::Open).unwrap();
        // Never fails and never loops: its rows are fewer than the bytes.
        assert!(dump_segment(&bytes, file_number).to_string().lines().count() <= bytes.len());
    }
    for number in 1..=count {
        let genesis = Genesis { layout: "whole-key".into(), time: 5 };
        let base = LogBase { number, after: Version(u64::from(data.last().copied().unwrap_or(0) % 4)), genesis };
        let (opened, _) = read(&disk, true, Some(&base));
        if let Ok(log) = opened {
            assert!(verify(&*disk, Some(&base)).is_ok());
            assert!(log.base(u64::MAX) == base, "{base:?}");
            log.verify().unwrap();
        }
    }
    let verified = verify(&*disk, None);
    let (read_only, first) = read(&disk, true, None);
    if let Ok(log) = &read_only {
        assert!(verified.is_ok(), "opened what verify refuses: {verified:?}");
        let mut reader = log.reader(Version::ZERO).unwrap();
        while reader.next_commit(Version::MAX).unwrap().is_some() {}
        log.verify().unwrap();
    }
    let (opened, second) = read(&disk, false, None);
    if read_only.is_ok() {
        assert_eq!(first, second, "reading only and reading to write see the same");
        assert!(opened.is_ok(), "{opened:?}");
    }
    if let Ok(log) = opened {
        drop(log);
        let (again, third) = read(&disk, true, None);
        assert!(again.is_ok(), "what was opened for writing can be opened again: {again:?}");
        assert!(second == third, "and holds the same");
        return third.len();
    }
    0
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::support::Random;

    /// Environment variable that multiplies how many inputs are tried.
    const SCALE: &str = "THERMOCLINE_HOSTILE_SCALE";

    const INPUTS: u64 = 3_000;

    #[expect(clippy::disallowed_methods, reason = "the corpus is part of the source tree, not of a store")]
    fn corpus() -> Vec<Vec<u8>> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile");
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    #[test]
    fn no_bytes_with_right_checksums_do_harm() {
        let scale: u64 = std::env::var(SCALE).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        check(&[]);
        let mut random = Random(11);
        let mut accepted = 0;
        let corpus = corpus();
        for _ in 0..INPUTS * scale {
            let longest = [40, 80, 200, 900][random.below(4) as usize];
            let len = random.below(longest) as usize;
            // Small numbers are the interesting ones: lengths, counts, choices.
            let small = random.below(4) != 0;
            let data: Vec<u8> =
                (0..len).map(|_| if small && !random.chance(20) { random.below(6) as u8 } else { random.next() as u8 }).collect();
            accepted += u64::from(check(&data) > 0);
            // And what is nearly right.
            let mut nearly = corpus[random.below(corpus.len() as u64) as usize].clone();
            for _ in 0..random.below(4) {
                let place = random.below(nearly.len() as u64 + 1) as usize;
                match nearly.get_mut(place) {
                    Some(byte) => *byte = random.below(if small { 12 } else { 256 }) as u8,
                    None => nearly.extend(data.iter().take(40)),
                }
            }
            accepted += u64::from(check(&nearly) > 0);
        }
        println!("{accepted} of {} inputs hold records", 2 * INPUTS * scale);
    }

    #[test]
    fn corpus_of_the_fuzzer_does_no_harm() {
        let accepted = corpus().iter().filter(|input| check(input) > 0).count();
        assert!(accepted >= 2, "some get past every check");
    }
}
