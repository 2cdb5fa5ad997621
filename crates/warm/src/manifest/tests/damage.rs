//! Damage to a manifest's bytes: flipped bits, cut, zeroed, garbled and exchanged pages. Whatever is done, opening gives the true
//! state, an older one only where nothing proves that there was more, or a clear error that names the file.

use thermocline_io::{Disk, FileId, Reason, SimDisk};
use thermocline_tier::{Checkpoint, ErrorKind, Version};

use super::support::{Random, STORE, damage, file, open, read_only, shared};
use crate::manifest::{Edit, Manifest, State};
use crate::meta::FileMeta;

const MANIFEST: FileId = FileId::Manifest(2);

/// A manifest that has replaced another, with some edits: a long record among them.
struct Sample {
    disk: SimDisk,
    bytes: Vec<u8>,
    /// After each record, the snapshot first.
    states: Vec<State>,
    /// From the witness before the last edit, which falls under one sync with it, to that edit's end.
    last: std::ops::Range<usize>,
}

fn edits() -> Vec<Edit> {
    let long = FileMeta { summary: vec![0xa5; 5000].into(), ..file(4, 1) };
    vec![
        Edit { add: vec![file(3, 0)], horizon: Some(Version(1)), ..Edit::default() },
        Edit { add: vec![long], remove: vec![1], ..Edit::default() },
        Edit { checkpoint: Some(Checkpoint { version: Version(9), state: vec![3; 10].into() }), ..Edit::default() },
    ]
}

fn sample() -> Sample {
    let disk = SimDisk::new(1);
    let mut state = State::default();
    let mut manifest = Manifest::create(shared(&disk), STORE).unwrap();
    let first = Edit { add: vec![file(1, 0), file(2, 2)], ..Edit::default() };
    state.apply(&first).unwrap();
    manifest.commit(&first, &state).unwrap();
    disk.create_new(FileId::Sst(1), Reason::SstWrite).unwrap();
    let (mut manifest, found) = open(&disk).unwrap().unwrap();
    assert_eq!(found, state);
    let mut states = vec![state.clone()];
    let mut last = 0..0;
    for edit in edits() {
        state.apply(&edit).unwrap();
        let from = disk.file_bytes(MANIFEST).unwrap().len() - 4096;
        manifest.commit(&edit, &state).unwrap();
        last = from..disk.file_bytes(MANIFEST).unwrap().len() - 4096;
        states.push(state.clone());
    }
    let bytes = disk.file_bytes(MANIFEST).unwrap();
    Sample { disk, bytes, states, last }
}

#[derive(Debug, Default)]
struct Outcomes {
    harmless: u64,
    detected: u64,
    older: u64,
}

impl Sample {
    fn known(&self) -> &State {
        self.states.last().unwrap()
    }

    fn disk_with(&self, bytes: &[u8]) -> SimDisk {
        let disk = self.disk.duplicate();
        disk.replace_file(MANIFEST, bytes);
        disk.restart_recording();
        disk
    }

    /// Opens a damaged copy and sorts the outcome. `allowed`: states that may be found beside the true one.
    fn outcome(&self, bytes: &[u8], allowed: &[State], what: &str, outcomes: &mut Outcomes) {
        let disk = self.disk_with(bytes);
        match read_only(&disk) {
            Ok(Some((manifest, state))) => {
                manifest.verify().unwrap_or_else(|error| panic!("{what}: {error}"));
                let is_known = state == *self.known();
                assert!(is_known || allowed.contains(&state), "{what}: a wrong state");
                outcomes.harmless += u64::from(is_known);
                outcomes.older += u64::from(!is_known);
                let (_, again) = open(&disk).unwrap().unwrap();
                assert!(again == state, "{what}: opening to write sees another state");
            }
            Ok(None) => panic!("{what}: the manifest is gone"),
            Err(error) => {
                let is_clear =
                    matches!(error.kind(), ErrorKind::Corruption | ErrorKind::ForeignFile | ErrorKind::UnsupportedFormat);
                assert!(is_clear, "{what}: {error}");
                assert!(error.to_string().contains("manifest-0000000000000002"), "{what}: {error}");
                assert_eq!(error.kind() == &ErrorKind::Corruption, damage(&error).is_some(), "{what}: {error}");
                outcomes.detected += 1;
                assert!(open(&disk).is_err(), "{what}: only the read-only open refuses");
                assert_eq!(disk.operations(), 0, "{what}: something was changed");
            }
        }
    }
}

fn flip_bits(sample: &Sample, bytes: &[u8], may_lose: bool) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut random = Random(3);
    for offset in 0..bytes.len() {
        // Zeros of padding are many and alike: a sample of them will do.
        let near = &bytes[offset.saturating_sub(8)..(offset + 8).min(bytes.len())];
        let is_alike = near.iter().all(|byte| byte == &near[0]);
        if is_alike && offset % 61 != 0 {
            continue;
        }
        // All bits of headers, one of every other byte.
        let is_header = offset < 160 || offset % 4096 < 72 || offset % 4096 >= 4080;
        let bit = random.below(8);
        for bit in if is_header { 0..8 } else { bit..bit + 1 } {
            let mut flipped = bytes.to_vec();
            flipped[offset] ^= 1 << bit;
            let is_last = may_lose && sample.last.contains(&offset);
            let allowed = if is_last { &sample.states[sample.states.len() - 2..] } else { &[] };
            sample.outcome(&flipped, allowed, &format!("byte {offset} bit {bit}"), &mut outcomes);
        }
    }
    println!("flipped bits: {outcomes:?}");
    outcomes
}

#[test]
fn no_flipped_bit_gives_an_older_state() {
    let sample = sample();
    let outcomes = flip_bits(&sample, &sample.bytes, false);
    assert!(outcomes.detected > 1000 && outcomes.harmless > 100);
}

#[test]
fn flipped_bits_before_the_witness_was_written_harm_the_last_edit_alone() {
    let sample = sample();
    let unwitnessed = &sample.bytes[..sample.last.end];
    let outcomes = flip_bits(&sample, unwitnessed, true);
    assert!(outcomes.detected > 1000 && outcomes.older > 100);
}

#[test]
fn every_cut_gives_the_state_after_some_record_or_an_error() {
    let sample = sample();
    let mut outcomes = Outcomes::default();
    for len in 0..sample.bytes.len() {
        for tail in 0..3 {
            let mut cut = sample.bytes[..len].to_vec();
            // Every length as it is; some of them with something behind.
            match tail {
                0 => {}
                _ if len % 37 != 0 && len % 4096 > 1 => continue,
                1 => cut.resize(sample.bytes.len(), 0),
                _ => cut.extend((0..5000).map(|index: usize| (index * 7 + len) as u8 | 1)),
            }
            sample.outcome(&cut, &sample.states, &format!("{len} bytes, tail {tail}"), &mut outcomes);
        }
    }
    println!("cuts: {outcomes:?}");
    assert!(outcomes.detected > 4096 && outcomes.older > 1000 && outcomes.harmless > 1000);
}

#[test]
fn no_spoilt_page_gives_an_older_state() {
    let sample = sample();
    let mut outcomes = Outcomes::default();
    let mut random = Random(4);
    for size in [512, 4096] {
        for page in 0..sample.bytes.len() / size {
            for kind in 0..3 {
                let mut bytes = sample.bytes.clone();
                let range = page * size..(page + 1) * size;
                match kind {
                    0 => bytes[range].fill(0),
                    1 => bytes[range].iter_mut().for_each(|byte| *byte = random.next() as u8),
                    _ => {
                        let other = random.below((sample.bytes.len() / size) as u64) as usize * size;
                        bytes.copy_within(other..other + size, range.start);
                    }
                }
                sample.outcome(&bytes, &[], &format!("page {page} of {size}, kind {kind}"), &mut outcomes);
            }
        }
    }
    println!("spoilt pages: {outcomes:?}");
    assert!(outcomes.detected > 20 && outcomes.harmless > 20);
}

#[test]
fn what_stands_behind_the_end_changes_nothing() {
    let sample = sample();
    let mut outcomes = Outcomes::default();
    for tail in [vec![0; 100_000], vec![0xaa; 1], vec![0xaa; 4096], sample.bytes[4096..12_288].to_vec(), vec![1; 9000]] {
        let bytes = [&sample.bytes[..], &tail].concat();
        sample.outcome(&bytes, &[], &format!("{} bytes behind", tail.len()), &mut outcomes);
    }
    assert_eq!(outcomes.harmless, 5);
}

#[test]
fn damage_is_named_with_its_place() {
    let sample = sample();
    let mut bytes = sample.bytes.clone();
    bytes[8192 + 4096 + 100] ^= 1;
    let error = read_only(&sample.disk_with(&bytes)).unwrap_err();
    let damage = damage(&error).unwrap();
    assert_eq!((damage.offset(), damage.part()), (8192 + 4096 + 72, "record payload checksum"), "{error}");
    assert!(error.to_string().starts_with("corruption: manifest-0000000000000002 is damaged at byte 12360"), "{error}");
}

#[test]
fn damage_is_found_by_a_check_while_it_is_open() {
    let sample = sample();
    let disk = sample.disk.duplicate();
    let (mut manifest, mut state) = open(&disk).unwrap().unwrap();
    for edit in [Edit::default(), Edit { add: vec![file(20, 3)], ..Edit::default() }] {
        state.apply(&edit).unwrap();
        manifest.commit(&edit, &state).unwrap();
    }
    let id = FileId::Manifest(3);
    let whole = disk.file_bytes(id).unwrap();
    manifest.verify().unwrap();
    for place in [10, 70, 4080, 4100, 8184, 3 * 4096 + 5, 5 * 4096 + 60] {
        let mut bytes = whole.clone();
        bytes[place] ^= 4;
        disk.replace_file(id, &bytes);
        let error = manifest.verify().unwrap_err();
        assert!(error.to_string().contains("manifest-0000000000000003"), "byte {place}: {error}");
        assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::ForeignFile));
    }
    disk.replace_file(id, &whole[..5 * 4096]);
    assert_eq!(manifest.verify().unwrap_err().kind(), &ErrorKind::Corruption);
    disk.replace_file(id, &whole);
    manifest.verify().unwrap();
}
