//! What the system's error numbers mean to us.

use rustix::io::Errno;

use crate::error::DiskErrorKind;

/// Interruptions in a row after which an operation gives up.
const INTERRUPTIONS_MAX: u32 = 10_000;

pub(super) fn kind_of(errno: Errno) -> DiskErrorKind {
    match errno {
        Errno::NOENT => DiskErrorKind::NotFound,
        Errno::EXIST => DiskErrorKind::AlreadyExists,
        Errno::LOOP | Errno::ISDIR => DiskErrorKind::NotRegular,
        Errno::NOSPC => DiskErrorKind::DiskFull,
        Errno::DQUOT | Errno::FBIG => DiskErrorKind::Quota,
        // A bad descriptor is one that was opened for reading only: we never close one that is in use.
        Errno::ACCESS | Errno::PERM | Errno::BADF => DiskErrorKind::Denied,
        Errno::ROFS => DiskErrorKind::ReadOnly,
        Errno::MFILE | Errno::NFILE => DiskErrorKind::TooManyOpen,
        Errno::INTR => DiskErrorKind::Interrupted,
        Errno::OPNOTSUPP | Errno::NOSYS => DiskErrorKind::Unsupported,
        Errno::NAMETOOLONG | Errno::NOTDIR => DiskErrorKind::InvalidPath,
        Errno::NOMEM => DiskErrorKind::OutOfMemory,
        _ => DiskErrorKind::Io,
    }
}

/// Runs a call that takes no buffer again as long as signals interrupt it.
pub(super) fn uninterrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    for _ in 0..INTERRUPTIONS_MAX {
        match call() {
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
    call()
}
