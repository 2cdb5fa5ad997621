//! Errors of disk and format as the errors that callers see.

use thermocline_format::{Corruption, FormatError};
use thermocline_io::{DiskError, DiskErrorKind, SyncFailed};
use thermocline_tier::{Error, ErrorKind};

/// A failed operation on a file: [`DiskFull`](ErrorKind::DiskFull) for missing space, else [`Io`](ErrorKind::Io); the operation
/// itself is the source.
pub(crate) fn disk_error(error: DiskError) -> Error {
    Error::with_source(kind_of(error.kind()), error)
}

/// A failed sync: the cause of poisoning.
pub(crate) fn sync_error(failed: SyncFailed) -> Error {
    Error::with_source(kind_of(failed.cause()), failed)
}

fn kind_of(kind: DiskErrorKind) -> ErrorKind {
    if kind.is_space() { ErrorKind::DiskFull } else { ErrorKind::Io }
}

pub(crate) fn format_error(error: FormatError) -> Error {
    match error {
        FormatError::Corruption(damage) => corruption(damage),
        foreign @ FormatError::Foreign { .. } => Error::with_source(ErrorKind::ForeignFile, foreign),
        unsupported @ FormatError::Unsupported { .. } => Error::with_source(ErrorKind::UnsupportedFormat, unsupported),
        other => Error::with_source(ErrorKind::Corruption, other),
    }
}

pub(crate) fn corruption(damage: Corruption) -> Error {
    Error::with_source(ErrorKind::Corruption, damage)
}

#[cfg(test)]
mod tests {
    use std::error::Error as StdError;

    use thermocline_format::{FileKind, FileLabel};
    use thermocline_io::{FileId, Reason};

    use super::*;

    #[test]
    fn missing_space_is_told_from_other_failures() {
        for (cause, kind) in [
            (DiskErrorKind::DiskFull, ErrorKind::DiskFull),
            (DiskErrorKind::Quota, ErrorKind::DiskFull),
            (DiskErrorKind::Io, ErrorKind::Io),
            (DiskErrorKind::Denied, ErrorKind::Io),
        ] {
            assert_eq!(disk_error(DiskError::new(cause, "write")).kind(), &kind);
            let failed = SyncFailed::new(cause, Some(FileId::Manifest(1)), Reason::ManifestWrite);
            assert_eq!(sync_error(failed).kind(), &kind);
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_stays_the_source() {
        let file = FileLabel::numbered(FileKind::Manifest, 7);
        let damage = Corruption::new(file, 4096, "part", "this", "that");
        let error = format_error(damage.clone().into());
        assert_eq!(error.kind(), &ErrorKind::Corruption);
        assert_eq!(error.source().unwrap().downcast_ref::<Corruption>(), Some(&damage));
        let foreign = FormatError::Foreign { file, expected: "ours".into(), found: "theirs".into() };
        assert_eq!(format_error(foreign).kind(), &ErrorKind::ForeignFile);
        let newer = FormatError::Unsupported { file, what: "format version", found: 2, max: 1 };
        assert_eq!(format_error(newer).kind(), &ErrorKind::UnsupportedFormat);
    }
}
