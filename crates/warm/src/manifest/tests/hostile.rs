//! Arbitrary bytes as manifests, with checksums made right so that they get past them: whatever is read, nothing may panic, hang,
//! or be believed twice with two results. The fuzz target calls the same function.

use std::sync::Arc;

use thermocline_format::{Envelope, FileKind, Salt, StoreId, checksum128};
use thermocline_io::{Disk, FileId, MemoryDisk, Reason, write_all_at};

use crate::manifest::{Edit, Manifest, State, dump_manifest};

const STORE: StoreId = StoreId([7; 16]);
const PAGE: usize = 4096;

/// Lists that must name what is there: mostly empty. Lists of something new. Lists that must not be empty.
const KNOWN: [u8; 8] = [0, 0, 0, 0, 0, 1, 0, 2];
const NEW: [u8; 8] = [0, 0, 1, 0, 2, 0, 1, 3];
const NEEDED: [u8; 8] = [1, 1, 1, 1, 1, 1, 2, 0];

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

    /// A number that is likely to matter, or any.
    fn number(&mut self, likely: u64) -> u64 {
        match self.byte() {
            0..=199 => likely,
            200..=219 => u64::from(self.byte()),
            _ => u64::from_le_bytes(self.array()),
        }
    }

    /// How many items a list has, one of eight choices, or more than there are.
    fn count(&mut self, likely: [u8; 8]) -> (Vec<u8>, u8) {
        let choice = self.byte();
        let count = likely[usize::from(choice % 8)];
        match choice {
            0..=239 => (vec![count], count),
            240..=250 => (vec![0xff, 0xff, 0xff, 0xff, 0x0f], count),
            _ => (vec![0xff; 12], 0),
        }
    }
}

/// What a well-behaved writer would know.
#[derive(Default)]
struct Writer {
    sequence: u64,
    chain: u128,
    file: u64,
    marker: u64,
}

impl Writer {
    /// A manifest with right checksums around whatever the input says. Most choices are those of a writer that behaves, so that the
    /// others are met deep inside.
    fn manifest(&mut self, input: &mut Input<'_>, number: u64) -> Vec<u8> {
        let salt = Salt::new(STORE, FileKind::Manifest, number);
        let mut bytes = Envelope::new(FileKind::Manifest, number, STORE).encode().to_vec();
        let previous = input.number(number - 1);
        bytes.extend(previous.to_le_bytes());
        (self.sequence, self.chain) = if previous == 0 { (0, 0) } else { (self.sequence.max(1), self.chain) };
        bytes.extend(input.number(self.sequence + 1).to_le_bytes());
        bytes.extend(self.chain.to_le_bytes());
        bytes.resize(PAGE - 16, 0);
        let checksum = checksum128(salt.at(64), &bytes[64..]);
        bytes.extend(checksum.to_le_bytes());
        let mut kind = 1;
        for _ in 0..8 {
            let payload = match kind {
                1 => self.snapshot(input),
                2 => self.edit(input),
                _ => Vec::new(),
            };
            self.record(input, &mut bytes, salt, kind, &payload);
            if input.0.is_empty() {
                break;
            }
            kind = [2, 2, 2, 2, 3, 3, 1, input.byte()][usize::from(input.byte() % 8)];
        }
        let tail = usize::from(input.byte() % 64);
        bytes.extend(input.bytes(tail));
        bytes
    }

    fn snapshot(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        (self.file, self.marker) = (0, 0);
        let counters = [1000, 1000, 1000, 1 << 40, 1 << 40].map(|likely| input.number(likely));
        let edit = self.edit(input);
        [counters.map(u64::to_le_bytes).concat(), edit].concat()
    }

    fn edit(&mut self, input: &mut Input<'_>) -> Vec<u8> {
        let parts = [0, 1, 2, 3, 0, 1, 2, 4][usize::from(input.byte() % 8)];
        let mut bytes = vec![parts];
        if parts & 1 != 0 {
            bytes.extend(input.number(3).to_le_bytes());
            bytes.extend([2, 1, 2]);
        }
        if parts & 2 != 0 {
            bytes.extend(input.number(5).to_le_bytes());
        }
        let known = u64::from(input.byte()) % (self.file + 1);
        self.list(input, &mut bytes, KNOWN, |_, input, bytes| bytes.extend(input.number(known).to_le_bytes()));
        self.list(input, &mut bytes, KNOWN, |_, input, bytes| {
            bytes.extend(input.number(known + 1).to_le_bytes());
            bytes.push(input.byte() % 9);
        });
        self.list(input, &mut bytes, NEW, Self::added);
        self.list(input, &mut bytes, NEW, |_, input, bytes| table(input, bytes));
        self.list(input, &mut bytes, KNOWN, |writer, input, bytes| writer.dropped(input, bytes, false));
        self.list(input, &mut bytes, NEW, |writer, input, bytes| writer.dropped(input, bytes, true));
        self.list(input, &mut bytes, KNOWN, |_, input, bytes| table(input, bytes));
        self.list(input, &mut bytes, NEW, |writer, input, bytes| {
            table(input, bytes);
            writer.marker += 1;
            bytes.extend(input.number(writer.marker).to_le_bytes());
        });
        if input.byte() == 255 {
            bytes.push(0);
        }
        bytes
    }

    fn list(
        &mut self,
        input: &mut Input<'_>,
        bytes: &mut Vec<u8>,
        likely: [u8; 8],
        item: impl Fn(&mut Self, &mut Input<'_>, &mut Vec<u8>),
    ) {
        let (count, items) = input.count(likely);
        bytes.extend(count);
        (0..items).for_each(|_| item(self, input, bytes));
    }

    fn dropped(&mut self, input: &mut Input<'_>, bytes: &mut Vec<u8>, is_new: bool) {
        key(input, bytes, b'k');
        bytes.extend(input.number(1).to_le_bytes());
        if is_new {
            self.marker += 1;
            bytes.extend(input.number(self.marker).to_le_bytes());
        }
    }

    fn added(&mut self, input: &mut Input<'_>, bytes: &mut Vec<u8>) {
        self.file += 1;
        bytes.extend(input.number(self.file).to_le_bytes());
        bytes.push(input.byte() % 9);
        for likely in [9, 9, 1, 2, 0, self.file] {
            bytes.extend(input.number(likely).to_le_bytes());
        }
        let letter = b'a' + (self.file % 10) as u8 * 2;
        key(input, bytes, letter);
        let last = letter + input.byte() % 2;
        key(input, bytes, last);
        self.list(input, bytes, NEEDED, |_, input, bytes| {
            table(input, bytes);
            bytes.extend([1 + input.byte() % 2, 2, input.byte() % 3 + input.byte() / 128, 7]);
        });
        let summary = input.byte() % 9;
        bytes.push(summary);
        bytes.extend(vec![1; usize::from(summary)]);
    }

    fn record(&mut self, input: &mut Input<'_>, bytes: &mut Vec<u8>, salt: Salt, kind: u8, payload: &[u8]) {
        let start = bytes.len();
        let offset = start as u64;
        let choice = input.byte();
        self.sequence += 1;
        let stated = if choice == 250 { u32::from_le_bytes(input.array()) } else { payload.len() as u32 };
        bytes.extend(stated.to_le_bytes());
        bytes.extend([kind, 0, 0, 0]);
        bytes.extend(if choice == 251 { input.number(0) } else { self.sequence }.to_le_bytes());
        bytes.extend(if choice % 16 == 9 { input.number(PAGE as u64) } else { offset }.to_le_bytes());
        bytes.extend(if choice == 252 { 5 } else { self.chain }.to_le_bytes());
        bytes.extend(checksum128(salt.at(offset + 72), payload).to_le_bytes());
        let checksum = checksum128(salt.at(offset), &bytes[start..]);
        self.chain = checksum;
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(payload);
        bytes.resize((bytes.len() + 16).next_multiple_of(PAGE) - 16, 0);
        bytes.extend(if choice == 253 { [0; 16] } else { checksum.to_le_bytes() });
        if choice == 254 {
            bytes[start + 80] ^= 1;
        }
    }
}

fn table(input: &mut Input<'_>, bytes: &mut Vec<u8>) {
    let choice = input.byte();
    match choice {
        0..=229 => bytes.extend([0; 5]),
        230..=249 => bytes.extend([1, choice, 0, 0, 0]),
        _ => bytes.extend([input.byte(), 0, 0, 0, input.byte()]),
    }
}

fn key(input: &mut Input<'_>, bytes: &mut Vec<u8>, letter: u8) {
    table(input, bytes);
    let len = input.byte() % 3 + 1;
    bytes.push(len);
    bytes.push(letter);
    bytes.extend(vec![b'x'; usize::from(len) - 1]);
}

fn open(disk: &Arc<dyn Disk>, is_read_only: bool) -> Result<Option<(Manifest, State)>, String> {
    Manifest::open(Arc::clone(disk), None, is_read_only).map_err(|error| error.to_string())
}

/// Makes manifests of the input and does with them all that can be done with a directory. Returns how many files were found live;
/// `None` if no manifest was accepted.
pub(crate) fn check(data: &[u8]) -> Option<usize> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let mut input = Input(data);
    let count = 1 + u64::from(input.byte() % 4 == 3);
    let mut writer = Writer::default();
    for number in 1..=count {
        let bytes = writer.manifest(&mut input, number);
        let file = disk.create_new(FileId::Manifest(number), Reason::Open).unwrap();
        write_all_at(&*file, 0, &bytes, Reason::Open).unwrap();
        // Never fails and never loops: its rows are fewer than the bytes.
        assert!(dump_manifest(&bytes, number).to_string().lines().count() <= bytes.len());
    }
    let seen = open(&disk, true);
    if let Ok(Some((manifest, _))) = &seen {
        manifest.verify().unwrap();
    }
    let opened = open(&disk, false);
    let (mut manifest, mut state) = match (seen, opened) {
        (Ok(Some((_, seen))), Ok(Some((manifest, state)))) => {
            assert!(seen == state, "reading only and reading to write see the same");
            (manifest, state)
        }
        (Ok(None), Ok(None)) => return None,
        (Err(seen), Err(opened)) => {
            assert_eq!(seen, opened);
            return None;
        }
        (seen, opened) => panic!("reading only: {seen:?}, reading to write: {opened:?}"),
    };
    let edit = Edit { remove: state.files.keys().copied().take(1).collect(), ..Edit::default() };
    state.apply(&edit).unwrap();
    manifest.commit(&edit, &state).unwrap();
    manifest.verify().unwrap();
    let again = open(&disk, false).unwrap().unwrap().1;
    assert!(again == state, "what was opened for writing can be opened again and holds the same");
    Some(state.files.len() + edit.remove.len())
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::manifest::tests::support::Random;

    /// Environment variable that multiplies how many inputs are tried.
    const SCALE: &str = "THERMOCLINE_HOSTILE_SCALE";

    const INPUTS: u64 = 6_000;

    #[test]
    fn no_bytes_with_right_checksums_do_harm() {
        let scale: u64 = std::env::var(SCALE).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
        let mut random = Random(11);
        let (mut accepted, mut with_files) = (0, 0);
        assert_eq!(check(&[]), Some(0));
        for _ in 0..INPUTS * scale {
            let longest = [40, 80, 200, 900][random.below(4) as usize];
            let len = random.below(longest) as usize;
            // Small numbers are the choices of a writer that behaves.
            let strange = [0, 1, 5, 50][random.below(4) as usize];
            let data: Vec<u8> =
                (0..len).map(|_| if random.chance(strange) { random.next() as u8 } else { random.below(6) as u8 }).collect();
            let found = check(&data);
            accepted += u64::from(found.is_some());
            with_files += u64::from(found.is_some_and(|files| files > 0));
        }
        println!("{accepted} of {} inputs were accepted, {with_files} with files", INPUTS * scale);
        assert!(accepted > INPUTS / 10 && with_files > INPUTS / 100, "{accepted} were accepted, {with_files} with files");
    }
}
