//! What a log can be told when it is opened, and for an append.

use thermocline_tier::{Error, ErrorKind, Result};

use crate::layout::SEGMENT_HEADER_SIZE;

/// When a commit counts as made. Ordered by strength.
///
/// ```
/// use thermocline_wal::Durability;
///
/// assert!(Durability::Memory < Durability::Buffered && Durability::Buffered < Durability::Sync);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// It is in the process's memory. Lost if the process dies: up to [`LogOptions::stage_size_bytes`] of commits, and all that has not
    /// been synced if the power fails.
    Memory,
    /// The operating system has it. Survives the death of the process; lost if the power fails before the next sync.
    Buffered,
    /// It is on the device. Survives loss of power.
    Sync,
}

/// The unit to which a group of records is filled up before it is synced, so that later writes never touch a sector that holds
/// durable records: a device that loses power while it writes a sector may garble all of it.
///
/// ```
/// use thermocline_wal::Padding;
///
/// assert_eq!(Padding::Sector512.round_up(513), 1024);
/// assert_eq!(Padding::None.round_up(513), 513);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// None: only for devices that promise to overwrite sectors safely.
    None,
    /// 512 bytes: for devices whose unit of writing is that, reached without a page cache.
    Sector512,
    /// 4,096 bytes: the page that the operating system writes, and the physical sector of nearly all devices.
    Page4096,
}

impl Padding {
    /// The unit in bytes, 1 for none.
    pub const fn unit(self) -> u32 {
        match self {
            Self::None => 1,
            Self::Sector512 => 512,
            Self::Page4096 => 4096,
        }
    }

    /// The padding with this unit.
    pub const fn from_unit(unit: u32) -> Option<Self> {
        match unit {
            1 => Some(Self::None),
            512 => Some(Self::Sector512),
            4096 => Some(Self::Page4096),
            _ => None,
        }
    }

    /// The next multiple of the unit at or above `offset`; the largest `u64` if there is none.
    pub fn round_up(self, offset: u64) -> u64 {
        offset.checked_next_multiple_of(u64::from(self.unit())).unwrap_or(u64::MAX)
    }
}

/// Whether segments are filled with zeros before they are used.
///
/// ```
/// assert_ne!(thermocline_wal::Preallocate::Zeroed, thermocline_wal::Preallocate::No);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preallocate {
    /// Segments grow as they are written. Each sync then also writes the file's length.
    No,
    /// While appends ask for syncs, segments are filled with zeros ahead of use, so that a sync writes data alone. (Reserving space without writing it is no
    /// faster than growing: the first write to it changes the file's extents.)
    Zeroed,
}

/// The options of a log.
///
/// ```
/// use thermocline_wal::LogOptions;
///
/// let options = LogOptions { segment_size_bytes: 1 << 20, ..LogOptions::default() };
/// assert!(options.check().is_ok());
/// assert!(LogOptions { segment_size_bytes: 100, ..options }.check().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How long a segment may become, in bytes, from [`SEGMENT_SIZE_BYTES_MIN`](Self::SEGMENT_SIZE_BYTES_MIN) to
    /// [`SEGMENT_SIZE_BYTES_MAX`](Self::SEGMENT_SIZE_BYTES_MAX). A group of records that is longer gets a segment of its own size.
    /// Default: 64 MiB.
    pub segment_size_bytes: u64,
    /// Default: [`Padding::Page4096`]. A page is what the operating system rewrites around a smaller record, and syncing it costs the
    /// same; only the log becomes longer, by half a page for each sync.
    pub padding: Padding,
    /// Default: [`Preallocate::Zeroed`].
    pub preallocate: Preallocate,
    /// How many bytes of [`Durability::Memory`] commits are gathered before they are handed to the operating system, at most
    /// [`STAGE_SIZE_BYTES_MAX`](Self::STAGE_SIZE_BYTES_MAX). Default: 60 KiB.
    pub stage_size_bytes: usize,
}

impl LogOptions {
    /// The shortest segment, in bytes.
    pub const SEGMENT_SIZE_BYTES_MIN: u64 = 2 * SEGMENT_HEADER_SIZE;
    /// The longest segment, in bytes: 16 GiB.
    pub const SEGMENT_SIZE_BYTES_MAX: u64 = 16 << 30;
    /// The longest stage, in bytes: 64 MiB.
    pub const STAGE_SIZE_BYTES_MAX: usize = 64 << 20;

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) naming the option and its range.
    pub fn check(&self) -> Result<()> {
        let sizes = Self::SEGMENT_SIZE_BYTES_MIN..=Self::SEGMENT_SIZE_BYTES_MAX;
        if !sizes.contains(&self.segment_size_bytes) {
            return Err(out_of_range("segment_size_bytes", self.segment_size_bytes, *sizes.start(), *sizes.end()));
        }
        if self.stage_size_bytes > Self::STAGE_SIZE_BYTES_MAX {
            let (found, max) = (crate::to_u64(self.stage_size_bytes), crate::to_u64(Self::STAGE_SIZE_BYTES_MAX));
            return Err(out_of_range("stage_size_bytes", found, 0, max));
        }
        Ok(())
    }
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_size_bytes: 64 << 20,
            padding: Padding::Page4096,
            preallocate: Preallocate::Zeroed,
            stage_size_bytes: 60 << 10,
        }
    }
}

fn out_of_range(option: &str, found: u64, min: u64, max: u64) -> Error {
    Error::new(ErrorKind::InvalidArgument { what: format!("log option {option} is {found}, not within {min} to {max}") })
}
