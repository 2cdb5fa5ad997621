//! Indexes with right checksums that would take far more memory than their files.

use std::ops::Range;
use std::sync::Arc;

use thermocline_format::Writer;
use thermocline_io::{Disk, SimDisk};
use thermocline_tier::{BatchBuilder, DurableTier, EntryKind, ErrorKind, FixedSuffix, Result, TierStorage, Version};
use thermocline_warm::{Compression, dump_sst};

use crate::hostile::{DICTIONARY, Directory, INDEX, Sealed, open, put, samples, u64_at};

const KEY_LEN: usize = 60_000;

fn is_corruption<T>(result: Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == &ErrorKind::Corruption)
}

#[test]
fn frames_of_what_is_never_compressed_must_not_be() {
    for (number, has_parts) in [(0, [true, false]), (3, [true, true])] {
        let sample = &samples()[number];
        let named = [INDEX, DICTIONARY].into_iter().zip(has_parts).filter(|(_, has)| *has);
        let named = named.map(|(part, _)| sample.file.part(part).unwrap());
        for frame in sample.file.partition_parts().into_iter().chain(named) {
            let Range { start, end } = sample.file.frames[frame];
            // Compressed 200 times, as they say; or stored as they are, and longer than they are.
            for (codec, times, part) in [(1, 200, "frame codec"), (2, 200, "frame codec"), (0, 200, "frame raw length")] {
                let mut file = sample.file.clone();
                let raw_len = times * sample.file.payload(frame).len() as u32;
                put(&mut file.bytes, end - 5, &[codec]);
                put(&mut file.bytes, end - 4, &raw_len.to_le_bytes());
                file.seal(frame);
                let at = end - if codec == 0 { 4 } else { 5 };
                let directory = sample.with(file);
                let dump = dump_sst(&directory.file.bytes, directory.number).to_string();
                let tier = open(directory.disk(), Compression::None).unwrap();
                let error = tier.verify().unwrap_err();
                assert_eq!(error.kind(), &ErrorKind::Corruption);
                let said = error.to_string();
                assert!(said.contains(part) && said.contains(&at.to_string()), "frame at {start}: {said}");
                assert!(dump.contains(part), "the dump says it too, of the frame at {start}: {dump}");
                assert!(is_corruption(tier.visit_entries(&mut |_, _| Ok(()))));
            }
        }
    }
}

/// Where a frame is, as an index says it.
fn write_place(writer: &mut Writer, file: &Sealed, frame: usize) {
    let Range { start, end } = file.frames[frame];
    writer.varint(start as u64);
    writer.varint((end - 5 - start) as u64);
    writer.u64(u64_at(&file.bytes, end));
}

/// The end of a file's index: where the only partition has its index and its filter, the last two frames, and its versions.
fn end_of_index(file: &Sealed, partition: usize) -> Vec<u8> {
    let mut writer = Writer::new();
    write_place(&mut writer, file, partition);
    let filter = &file.frames[partition + 1];
    writer.varint((filter.len() - 5) as u64);
    writer.u64(u64_at(&file.bytes, filter.end));
    writer.bytes(&[0, 0]);
    writer.finish()
}

/// A file with one partition of so many blocks, all of them the same one, whose first keys are about as long as keys can be and have
/// all but their ends in common.
fn expanding(blocks: u16) -> Directory {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let tier = open(Arc::clone(&shared), Compression::None).unwrap();
    let mut batch = BatchBuilder::new();
    batch.put(EntryKind::Multi, &vec![b'k'; KEY_LEN], b"").unwrap();
    tier.set(&batch.finish(&FixedSuffix(0), Version(1))).unwrap();
    drop(tier);
    drop(open(shared, Compression::None).unwrap());
    let directory = Directory::of(&disk);
    let mut file = directory.file.clone();
    let (filter, index) = (file.payload(2).to_vec(), file.payload(3).to_vec());
    let beginning = index.strip_suffix(&end_of_index(&file, 1)[..]).unwrap();
    let mut partition = Writer::new();
    partition.bytes(&file.payload(1)[..16]);
    partition.varint(1);
    partition.bytes(&[0; 5]);
    partition.varint(u64::from(blocks));
    for number in 0..blocks {
        if number == 0 {
            partition.varint(0);
            partition.prefixed(&vec![b'k'; KEY_LEN]);
        } else {
            partition.varint(KEY_LEN as u64);
            partition.prefixed(&[(number >> 8) as u8, number as u8]);
        }
        write_place(&mut partition, &file, 0);
        partition.bytes(&[0, 0]);
        partition.u16(1);
        partition.u16(0);
        partition.u32(0);
    }
    partition.varint(0);
    file.cut(1);
    file.push(&partition.finish());
    file.push(&filter);
    let index = [beginning, &end_of_index(&file, 1)].concat();
    file.end(&[index, Vec::new(), Vec::new()]);
    directory.with(file)
}

#[test]
fn partition_with_more_blocks_than_one_can_have_is_refused() {
    for (blocks, is_refused) in [(1, false), (255, false), (256, false), (257, true), (20_000, true)] {
        let directory = expanding(blocks);
        let len = directory.file.bytes.len();
        let tier = open(directory.disk(), Compression::None).unwrap();
        let said = tier.verify().map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(said.contains("index main blocks"), is_refused, "{blocks} blocks in {len} bytes: {said}");
        // The key of the block of which it is made is another one than the index says.
        assert!(is_refused || said.contains("the block of each key"), "{said}");
        assert_eq!(is_corruption(tier.get(EntryKind::Multi, &vec![b'k'; KEY_LEN], Version(1))), is_refused, "{blocks} blocks");
        let dump = dump_sst(&directory.file.bytes, directory.number).to_string();
        assert_eq!(dump.contains("index main blocks"), is_refused, "{blocks} blocks: {dump}");
    }
}
