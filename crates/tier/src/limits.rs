//! The limits that hold in every tier and in every file. More is refused before anything changes.

use crate::error::{Error, ErrorKind, Result};

/// The longest key (prefix and suffix together), in bytes.
pub const KEY_SIZE_BYTES_MAX: usize = 65_535;
/// The longest value, in bytes: 1 GiB.
pub const VALUE_SIZE_BYTES_MAX: usize = 1 << 30;
/// The most that one batch may hold, keys and values together, in bytes: 1.25 GiB, so that a value at its limit fits.
pub const BATCH_SIZE_BYTES_MAX: usize = (1 << 30) + (1 << 28);

/// # Errors
/// [`ErrorKind::LimitExceeded`] for a key over [`KEY_SIZE_BYTES_MAX`].
pub fn check_key(key: &[u8]) -> Result<()> {
    check("key size in bytes", key.len(), KEY_SIZE_BYTES_MAX)
}

/// # Errors
/// [`ErrorKind::LimitExceeded`] for a value over [`VALUE_SIZE_BYTES_MAX`].
pub fn check_value(value: &[u8]) -> Result<()> {
    check("value size in bytes", value.len(), VALUE_SIZE_BYTES_MAX)
}

pub(crate) fn check(what: &'static str, found: usize, max: usize) -> Result<()> {
    if found <= max {
        return Ok(());
    }
    Err(Error::new(ErrorKind::LimitExceeded { what, found: found as u64, max: max as u64 }))
}
