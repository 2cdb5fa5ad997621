//! Pins: promises that versions stay readable.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::panic::Location;
use std::sync::Arc;

use thermocline_tier::{EntryKind, ErrorKind, KeyRange, Result, RetainedTables, Version, limits};

use crate::times::Moment;

/// The longest name of a pin or a consumer, in bytes.
pub const NAME_SIZE_BYTES_MAX: usize = 255;

/// Which versions a pin keeps.
///
/// ```
/// use thermocline_drop::PinVersions;
/// use thermocline_tier::Version;
///
/// assert_eq!(PinVersions::From(Version(7)).first(), Version(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinVersions {
    /// This one.
    One(Version),
    /// This one and all above.
    From(Version),
}

impl PinVersions {
    /// The oldest of them.
    pub fn first(self) -> Version {
        match self {
            Self::One(version) | Self::From(version) => version,
        }
    }

    /// The one version, if it is only one.
    pub(crate) fn one(self) -> Option<Version> {
        match self {
            Self::One(version) => Some(version),
            Self::From(_) => None,
        }
    }

    /// The version from which on it keeps all, if it does.
    pub(crate) fn from(self) -> Option<Version> {
        match self {
            Self::From(version) => Some(version),
            Self::One(_) => None,
        }
    }
}

/// Of which keys a pin keeps them.
///
/// ```
/// use thermocline_drop::Scope;
/// use thermocline_tier::{EntryKind, KeyRange};
///
/// let scope = Scope::Range(EntryKind::Multi, KeyRange::prefix(b"user/"));
/// assert!(scope.covers(EntryKind::Multi, b"user/1") && !scope.covers(EntryKind::Multi, b"z"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Of all tables.
    All,
    /// Of one table.
    Table(EntryKind),
    /// Of a range of one table's keys.
    Range(EntryKind, KeyRange),
}

impl Scope {
    /// Whether a key belongs to it.
    pub fn covers(&self, table: EntryKind, key: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::Table(own) => *own == table,
            Self::Range(own, range) => *own == table && range.contains(key),
        }
    }

    /// Whether it is one that can be noted.
    ///
    /// # Errors
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) for a bound that is longer than a key may be.
    pub(crate) fn check(&self) -> Result<()> {
        let Self::Range(_, KeyRange { start, end }) = self else { return Ok(()) };
        [start, end].into_iter().try_for_each(|bound| match bound {
            Bound::Included(key) | Bound::Excluded(key) => limits::check_key(key),
            Bound::Unbounded => Ok(()),
        })
    }

    /// The one table that it is about, if it is about one.
    pub fn table(&self) -> Option<EntryKind> {
        match self {
            Self::All => None,
            Self::Table(table) | Self::Range(table, _) => Some(*table),
        }
    }
}

/// A pin that has a name, and survives restarts.
///
/// ```
/// use thermocline_drop::{Moment, Pin, PinVersions, Scope};
/// use thermocline_tier::Version;
///
/// let now = Moment::from_micros(1_000);
/// let pin = Pin { versions: PinVersions::One(Version(7)), scope: Scope::All, created: now, lease_until: Some(now) };
/// assert!(pin.is_expired(Moment::from_micros(1_001)) && !pin.is_expired(now));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// What it keeps.
    pub versions: PinVersions,
    /// Of what.
    pub scope: Scope,
    /// When it was made.
    pub created: Moment,
    /// Until when it holds; `None` until it is released.
    pub lease_until: Option<Moment>,
}

impl Pin {
    /// Whether its lease is over.
    pub fn is_expired(&self, now: Moment) -> bool {
        self.lease_until.is_some_and(|until| now > until)
    }
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    match name.len() {
        0 => Err(ErrorKind::InvalidArgument { what: "an empty name".into() }.into()),
        len if len > NAME_SIZE_BYTES_MAX => {
            let (found, max) = (len as u64, NAME_SIZE_BYTES_MAX as u64);
            Err(ErrorKind::LimitExceeded { what: "the size of a name in bytes", found, max }.into())
        }
        _ => Ok(()),
    }
}

/// A pin that lives as long as the value that made it: a snapshot, an iterator.
///
/// ```
/// use std::panic::Location;
/// use thermocline_drop::{Authority, Moment};
/// use thermocline_tier::Version;
///
/// let mut authority = Authority::default();
/// authority.pin_reader(Version(7), "snapshot", Location::caller(), Moment::from_micros(1))?;
/// let (version, number, reader) = authority.readers().iter().next().expect("there is one");
/// assert_eq!((version, number, reader.holder), (Version(7), 1, "snapshot"));
/// # Ok::<(), thermocline_tier::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    /// What it is, for people.
    pub holder: &'static str,
    /// Where it was made.
    pub place: &'static Location<'static>,
    /// When, by the store's clock.
    pub since: Moment,
    /// What could be read when it was made, if its version was below some table's horizon: it pins no more than that.
    granted: Option<Arc<RetainedTables>>,
}

impl Reader {
    /// Whether it pins its version of a key.
    fn covers(&self, table: EntryKind, key: &[u8], version: Version) -> bool {
        self.granted.as_ref().is_none_or(|granted| granted.of(table, key).allows(version))
    }
}

/// The pins of readers, which do not survive a restart.
///
/// ```
/// assert_eq!(thermocline_drop::Readers::default().iter().count(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Readers {
    last_number: u64,
    live: BTreeMap<(Version, u64), Reader>,
}

impl Readers {
    pub(crate) fn add(&mut self, version: Version, reader: Reader) -> u64 {
        self.last_number += 1;
        self.live.insert((version, self.last_number), reader);
        self.last_number
    }

    pub(crate) fn remove(&mut self, version: Version, number: u64) {
        self.live.remove(&(version, number));
    }

    /// The same once more; a number that is not there pins nothing.
    pub(crate) fn again(&mut self, version: Version, number: u64) -> u64 {
        self.last_number += 1;
        if let Some(reader) = self.live.get(&(version, number)).cloned() {
            self.live.insert((version, self.last_number), reader);
        }
        self.last_number
    }

    /// The versions that are pinned of a key, ascending, some perhaps more than once.
    pub(crate) fn versions(&self, table: EntryKind, key: &[u8]) -> impl Iterator<Item = Version> {
        let covering = self.live.iter().filter(move |((version, _), reader)| reader.covers(table, key, *version));
        covering.map(|((version, _), _)| *version)
    }

    /// All of them, oldest version first: version, number, reader.
    pub fn iter(&self) -> impl Iterator<Item = (Version, u64, &Reader)> {
        self.live.iter().map(|((version, number), reader)| (*version, *number, reader))
    }
}

impl Reader {
    pub(crate) fn new(
        holder: &'static str,
        place: &'static Location<'static>,
        since: Moment,
        granted: Option<Arc<RetainedTables>>,
    ) -> Self {
        Self { holder, place, since, granted }
    }

    pub(crate) fn granted(&self) -> Option<&Arc<RetainedTables>> {
        self.granted.as_ref()
    }
}
