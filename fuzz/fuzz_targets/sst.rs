//! Sorted files with any content and right checksums: a directory with one of them is opened, all of it is read in every way, and
//! rewritten. What is checked is shared with the crate's own tests.

#![no_main]
#![expect(dead_code, reason = "parts that only the crate's own tests use")]

#[path = "../../crates/warm/tests/main/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile::check(data);
});
