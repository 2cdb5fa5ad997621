//! Log segments with any content and right checksums. What is checked is shared with the crate's own tests, which also replay a corpus.

#![no_main]

#[path = "../../crates/wal/tests/main/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile::check(data);
});
