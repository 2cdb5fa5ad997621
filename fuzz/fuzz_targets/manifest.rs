//! Manifests with any content and right checksums. Nothing of the manifest is public, so its modules are compiled into this program;
//! what is checked is shared with the crate's own tests.

#![no_main]
#![expect(dead_code, unused_imports, reason = "parts of the modules that this program does not use")]

#[path = "../../crates/warm/src/error.rs"]
mod error;
#[path = "../../crates/warm/src/manifest/tests/hostile.rs"]
mod hostile;
#[path = "../../crates/warm/src/manifest/mod.rs"]
mod manifest;
#[path = "../../crates/warm/src/meta.rs"]
mod meta;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hostile::check(data);
});
