//! Looking into single files of a store.

use std::fmt;
use std::ops::Range;

use thermocline_io::FileId;

/// The bytes of a file of a store beside their meaning, as lines of text, without a store being opened; `None` if the name is not that of a
/// segment of the log, a manifest or a sorted file. `window` says which bytes of the file are shown, counted from its start: memory is
/// taken for those alone. Damage becomes a line that says so.
///
/// ```
/// let dump = thermocline::dump_file("wal-0000000000000001", b"THERMOCL", 0..u64::MAX);
/// assert!(dump.is_some_and(|dump| dump.to_string().contains("magic")));
/// assert!(thermocline::dump_file("letter.txt", b"Dear", 0..u64::MAX).is_none());
/// ```
pub fn dump_file(name: &str, bytes: &[u8], window: Range<u64>) -> Option<impl fmt::Display + use<>> {
    match FileId::parse(name)? {
        FileId::Wal(number) => Some(thermocline_wal::dump_segment_part(bytes, number, window)),
        FileId::Manifest(number) => Some(thermocline_warm::dump_manifest_part(bytes, number, window)),
        FileId::Sst(number) => Some(thermocline_warm::dump_sst_part(bytes, number, window)),
        _ => None,
    }
}
