//! The bytes of format version 1, as literal files: what this release writes, and what every later one must still read.
//!
//! `THERMOCLINE_WRITE_GOLDEN=1 cargo test -p thermocline-warm golden` writes the files anew; do that only for a format that was
//! never released, or if a newer release of a compression library makes other bytes, which say the same.

use std::sync::Arc;

use thermocline_conformance::ModelTier;
use thermocline_io::SimDisk;
use thermocline_tier::{Checkpoint, DurableTier, TierBatch, TierStorage, Version};
use thermocline_warm::{Compression, OpenWarm, WarmOptions, WarmTier};

use crate::backends;
use crate::hostile::{Directory, STORE, Sealed};
use crate::support::{MULTI, OPERATOR, SOURCE, batch, compare, one, questions};

/// The versions at which reads differ.
pub(crate) const VERSIONS: [u64; 10] = [0, 2, 3, 4, 5, 7, 20, 49, 5_000_000_001, u64::MAX];

/// Everything that an entry can be, in as few bytes as it takes.
fn features() -> Vec<TierBatch> {
    let mut batches = Vec::new();
    // Two lines of keys with a common prefix, of which some are shorter than a head.
    for number in 0..12 {
        batches.push(one(3, MULTI, &format!("key/{number:02}=narrow")));
    }
    batches.extend([one(3, MULTI, "key/=short"), one(3, MULTI, "key/1=an end of others")]);
    // Older versions: a tombstone among them, one that it uncovers, an empty value.
    batches.extend([one(2, MULTI, "key/03=oldest"), one(5, MULTI, "key/03"), one(7, MULTI, "key/03=newest")]);
    batches.extend([one(4, MULTI, "key/04="), one(5, MULTI, "key/05")]);
    // Wide forms: of a version that is far above the others, of a long key, of a history with large gaps.
    batches.push(one(5_000_000_000, MULTI, "key/06=wide"));
    batches.push(batch(3, &[(MULTI, &[b'l'; 300], Some(b"long key"))]));
    // Suffixes, in the main block and in a history, where another version has none.
    for (version, write) in [(3, "s/1#one=1"), (4, "s/1=2"), (5, "s/1#three=3"), (3, "s/2#=only a mark")] {
        batches.push(one(version, SOURCE, write));
    }
    // Large values, of the newest version and of an older one.
    batches.push(batch(3, &[(SOURCE, b"value", Some(&[b'v'; 4096]))]));
    batches.push(batch(7, &[(SOURCE, b"value", Some(&[b'w'; 4097]))]));
    batches.push(batch(7, &[(SOURCE, b"", Some(b"the empty key"))]));
    batches.extend((20..50).map(|version| one(version, OPERATOR, &format!("counter={version}"))));
    batches
}

/// A history of several blocks, and a key behind it.
fn history() -> Vec<TierBatch> {
    let counter = (2..600).map(|version| one(version, OPERATOR, &format!("counter={version:090}")));
    counter.chain([one(5, OPERATOR, "counter/2=5"), one(4, OPERATOR, "counter/2=4")]).collect()
}

/// The same with more keys, for partitions of few blocks: some of them have a history, some begin with another table.
fn partitions() -> Vec<TierBatch> {
    let mut batches = features();
    for number in 0..40 {
        batches.push(one(3, MULTI, &format!("more/{number:02}=of the newest version")));
        if number % 3 == 0 {
            batches.push(one(2, MULTI, &format!("more/{number:02}=of an older version")));
        }
    }
    batches
}

/// Small blocks of rows that have much in common, enough for a dictionary.
fn alike() -> Vec<TierBatch> {
    let row = |number: u32| {
        let (town, state) =
            (["Turku", "Tampere", "Oulu", "Vaasa"][number as usize % 4], ["open", "paid", "sent"][number as usize % 3]);
        one(
            3,
            MULTI,
            &format!(
                "order/{number:05}=town:{town},state:{state},amount:{},carrier:road",
                number.wrapping_mul(2_654_435_761) >> 22
            ),
        )
    };
    (0..2_400).map(row).collect()
}

/// One golden file: its name, its content, how it is compressed, and its bytes.
pub(crate) struct Golden {
    pub(crate) name: &'static str,
    pub(crate) compression: Compression,
    pub(crate) content: Arc<ModelTier>,
    pub(crate) bytes: &'static [u8],
}

macro_rules! golden {
    ($name:literal, $compression:expr, $content:expr) => {
        Golden {
            name: $name,
            compression: $compression,
            content: model(&$content),
            bytes: include_bytes!(concat!("../golden/", $name, ".v1.bin")),
        }
    };
}

fn model(batches: &[TierBatch]) -> Arc<ModelTier> {
    let model = Arc::new(ModelTier::new());
    for batch in batches {
        model.set(batch).unwrap();
    }
    model
}

pub(crate) fn all() -> [Golden; 5] {
    [
        golden!("sst-none", Compression::None, features()),
        golden!("sst-lz4", Compression::Lz4, features()),
        golden!("sst-zstd", Compression::Zstd(3), features()),
        golden!("sst-history", Compression::Zstd(3), history()),
        golden!("sst-partitions", Compression::Lz4, partitions()),
    ]
}

/// One with a dictionary, too large for what is done with each byte of the others.
fn with_dictionary() -> Golden {
    golden!("sst-dictionary", Compression::Zstd(3), alike())
}

impl Golden {
    pub(crate) fn options(&self) -> WarmOptions {
        let defaults = WarmOptions::default();
        let (block_size_bytes, partition_blocks) = match self.name {
            "sst-partitions" => (256, 2),
            "sst-dictionary" => (1024, defaults.partition_blocks),
            _ => (defaults.block_size_bytes, defaults.partition_blocks),
        };
        let (compression, compression_flushed) = (self.compression, self.compression);
        WarmOptions { block_size_bytes, partition_blocks, compression, compression_flushed, ..defaults }
    }

    pub(crate) fn model(&self) -> Arc<dyn TierStorage> {
        Arc::clone(&self.content) as Arc<dyn TierStorage>
    }

    /// A directory with the content as it is written now.
    pub(crate) fn write(&self) -> SimDisk {
        let disk = SimDisk::new(1);
        let tier = backends::open(&disk, self.options()).unwrap();
        tier.absorb(&*self.content, Checkpoint { version: Version(7), state: "state".into() }).unwrap();
        drop(tier);
        // The manifest written anew says it all in one record.
        drop(backends::open(&disk, self.options()).unwrap());
        disk
    }
}

#[expect(clippy::disallowed_methods, reason = "golden files are part of the source tree, not of a store")]
fn write_file(name: &str, bytes: &[u8]) {
    let path = format!("{}/tests/golden/{name}.v1.bin", env!("CARGO_MANIFEST_DIR"));
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn bytes_are_those_of_format_version_1() {
    for golden in all() {
        let written = Directory::of(&golden.write()).file.bytes;
        if std::env::var_os("THERMOCLINE_WRITE_GOLDEN").is_some() {
            write_file(golden.name, &written);
            continue;
        }
        let first = written.iter().zip(golden.bytes).position(|(written, golden)| written != golden);
        assert!(written == golden.bytes, "{}: {} bytes, the first other one at {first:?}", golden.name, written.len());
        assert!(written.len() < 16 << 10, "golden files are small");
    }
}

/// What the trainer makes of the same rows is another matter with each release of the library: it is only read.
#[test]
fn golden_dictionary_is_written_on_demand() {
    if std::env::var_os("THERMOCLINE_WRITE_GOLDEN").is_some() {
        write_file("sst-dictionary", &Directory::of(&with_dictionary().write()).file.bytes);
    }
    let file = Sealed::new(1, with_dictionary().bytes.to_vec());
    let with_dictionary = file.frames.iter().filter(|frame| file.bytes[frame.end - 5] == 3).count();
    assert!(with_dictionary > 50, "{with_dictionary} frames");
}

#[test]
fn golden_bytes_alone_are_read_as_what_was_written() {
    for golden in all().into_iter().chain([with_dictionary()]) {
        let written = Directory::of(&golden.write());
        // Also if this release writes other bytes: the manifest is made to name the golden ones.
        let literal = written.with(Sealed::new(written.number, golden.bytes.to_vec()));
        let request =
            OpenWarm { disk: literal.disk(), store: STORE, options: golden.options(), is_read_only: true, migration: None };
        let tier: Arc<dyn TierStorage> = Arc::new(WarmTier::open(request).unwrap());
        let questions = questions(&golden.model(), &VERSIONS);
        compare(&tier, &golden.model(), &questions);
    }
}

#[test]
fn golden_files_hold_each_codec_and_a_history_of_several_blocks() {
    let codecs = |golden: &Golden| {
        let file = Sealed::new(1, golden.bytes.to_vec());
        file.frames.iter().map(|frame| file.bytes[frame.end - 5]).collect::<Vec<u8>>()
    };
    let [none, lz4, zstd, history, partitions] = all();
    assert!(codecs(&none).iter().all(|codec| *codec == 0));
    assert!(codecs(&lz4).contains(&1) && codecs(&zstd).contains(&2));
    // A main block, indexes, a filter, and the rest is history.
    assert!(codecs(&history).into_iter().filter(|codec| *codec == 2).count() >= 4, "{:?}", codecs(&history));
    // An index and a filter each.
    let parts = |golden: &Golden| Sealed::new(1, golden.bytes.to_vec()).partition_parts().len();
    assert_eq!([&none, &lz4, &zstd, &history].map(parts), [2; 4]);
    assert!(parts(&partitions) >= 6, "{} indexes and filters", parts(&partitions));
}
