//! What changes in the authority, as bytes: a list of these is a record of the log, or the state in a checkpoint.
//!
//! ```text
//! list   | changes | change, ..   |
//!        | varint  | one by one   |
//! change | kind | what its kind has           |
//!        | u8   | as the tables below say     |
//! ```
//! Whoever stores a list adds a checksum.

#![deny(
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "bytes from disk must not be able to cause a panic or to be narrowed in silence"
)]

use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use thermocline_format::{Corruption, Encoding, Field, FieldTable, Reader, Writer};
use thermocline_tier::{DropRule, EntryKind, KeyRange, Version, limits};

use crate::authority::PolicyScope;
use crate::consumers::{ConsumerState, Holding};
use crate::pending::DropCommand;
use crate::pins::{NAME_SIZE_BYTES_MAX, Pin, PinVersions, Scope};
use crate::retention::{Anchor, Retention, Rung, Ttl};
use crate::times::{Moment, Reading};

/// A change of what may be reclaimed.
///
/// ```
/// use thermocline_drop::{Change, decode, encode};
/// use thermocline_tier::Version;
///
/// let changes = [Change::Horizon(Version(9))];
/// assert_eq!(decode(&encode(&changes), "here".into(), 0)?, changes);
/// # Ok::<(), thermocline_format::Corruption>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The store's horizon is at least this.
    Horizon(Version),
    /// A table's horizon is at least this, and its ladder keeps these versions below: the end of a span of time and its last version.
    Table {
        /// The table.
        table: EntryKind,
        /// The horizon.
        horizon: Version,
        /// Both ascending.
        steps: Vec<(Moment, Version)>,
    },
    /// A policy was set, or with `None` taken away.
    Policy {
        /// For which tables.
        scope: PolicyScope,
        /// The policy.
        retention: Option<Retention>,
    },
    /// A pin was made, or replaced.
    Pin {
        /// Its name.
        name: String,
        /// What it keeps.
        pin: Pin,
    },
    /// A pin is gone.
    Release {
        /// Its name.
        name: String,
    },
    /// A consumer was made, or is somewhere else.
    Consumer {
        /// Its name.
        name: String,
        /// What is known of it.
        consumer: ConsumerState,
    },
    /// A consumer is gone.
    RemoveConsumer {
        /// Its name.
        name: String,
    },
    /// A version was the last at a moment.
    Time {
        /// The version.
        version: Version,
        /// The moment.
        moment: Moment,
    },
    /// Versions of a key are to be dropped.
    Drop(DropCommand),
    /// The same command was carried out, or others say what is left of it.
    DropEnd(DropCommand),
    /// The versions of a key that a rule without a count selects were dropped by a command of a commit of that version.
    Dropped(DropCommand),
    /// When rows expire was set, or with `None` taken away.
    Ttl {
        /// For which tables.
        scope: PolicyScope,
        /// After which time.
        ttl: Option<Ttl>,
    },
    /// Expired rows of a table were deleted, of those that were there at a version.
    Expired {
        /// The table.
        table: EntryKind,
        /// The version.
        through: Version,
    },
    /// Since when something may be stored that need not be kept; `None` if nothing is.
    Garbage(Option<Moment>),
    /// What moment it was when the wall clock showed something else.
    Clock(Reading),
}

const HORIZON: u8 = 1;
const TABLE: u8 = 2;
const POLICY: u8 = 3;
const PIN: u8 = 4;
const RELEASE: u8 = 5;
const TIME: u8 = 6;
const CONSUMER: u8 = 7;
const REMOVE_CONSUMER: u8 = 8;
const DROP: u8 = 9;
const TTL: u8 = 10;
const EXPIRED: u8 = 11;
const DROP_END: u8 = 12;
const GARBAGE: u8 = 13;
const DROPPED: u8 = 14;
const CLOCK: u8 = 15;

const STEP_SIZE_BYTES: usize = 16;
const RUNG_SIZE_BYTES: usize = 16;
/// The shortest change: a release or removal with its name's length and one byte of it.
const CHANGE_SIZE_BYTES_MIN: usize = 3;

const TABLES: [FieldTable; 15] = [
    FieldTable::new(
        "change: horizon",
        "Kind 1: the store's horizon.",
        &[Field::at(0, Encoding::U64, "horizon", "at least this")],
    ),
    FieldTable::new(
        "change: table",
        "Kind 2: a table's own horizon.",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
            Field::at(5, Encoding::U64, "horizon", "at least this"),
            Field::at(13, Encoding::Varint, "steps", "how many follow"),
            Field::after(
                Encoding::Variable,
                "step",
                "each: end of a span (microseconds since the Unix epoch, u64), its last version (u64); both ascending",
            ),
        ],
    ),
    FieldTable::new(
        "change: policy",
        "Kind 3: a policy of retention.",
        &[
            Field::at(0, Encoding::U8, "scope", "1 all sources, 2 all operators, 3 a table"),
            Field::at(1, Encoding::Variable, "table", "tag (u8) and id (u32), for scope 3"),
            Field::after(
                Encoding::U8,
                "policy",
                "0 none, 1 keep all, 2 since, 3 age, 4 newest versions, 5 latest only, 6 ladder",
            ),
            Field::after(
                Encoding::Variable,
                "of the policy",
                "since: version (u64); age: microseconds (u64); newest versions: count (u64); ladder: how many (varint), rungs of age and step \
                 (microseconds, u64 each)",
            ),
        ],
    ),
    FieldTable::new(
        "change: pin",
        "Kind 4: a pin with a name.",
        &[
            Field::at(0, Encoding::Prefixed, "name", "UTF-8, 1 to 255 bytes"),
            Field::after(Encoding::U8, "versions", "1 this one, 2 from this one on"),
            Field::after(Encoding::U64, "version", ""),
            Field::after(Encoding::U64, "created", "microseconds since the Unix epoch"),
            Field::after(Encoding::U64, "lease until", "microseconds since the Unix epoch; 0 without a lease"),
            Field::after(Encoding::Variable, "scope", "as below"),
        ],
    ),
    FieldTable::new(
        "scope of a pin or a consumer",
        "Of which keys it keeps versions.",
        &[
            Field::at(0, Encoding::U8, "kind", "1 all tables, 2 a table, 3 a range of a table"),
            Field::at(1, Encoding::Variable, "table", "tag (u8) and id (u32), for kinds 2 and 3"),
            Field::after(Encoding::Variable, "bounds", "start and end, for kind 3"),
        ],
    ),
    FieldTable::new(
        "bound of a range",
        "",
        &[
            Field::at(0, Encoding::U8, "kind", "0 none, 1 included, 2 excluded"),
            Field::at(1, Encoding::Variable, "key", "its length (varint) and bytes, for kinds 1 and 2"),
        ],
    ),
    FieldTable::new(
        "change: release",
        "Kind 5: the end of a pin.",
        &[Field::at(0, Encoding::Prefixed, "name", "UTF-8, 1 to 255 bytes")],
    ),
    FieldTable::new(
        "change: time",
        "Kind 6: a version was the last at a moment.",
        &[Field::at(0, Encoding::U64, "version", ""), Field::at(8, Encoding::U64, "moment", "microseconds since the Unix epoch")],
    ),
    FieldTable::new(
        "change: consumer",
        "Kind 7: a consumer of changes, and where it is.",
        &[
            Field::at(0, Encoding::Prefixed, "name", "UTF-8, 1 to 255 bytes"),
            Field::after(Encoding::U64, "position", "it has taken every commit up to this version"),
            Field::after(Encoding::U64, "versions from", "it holds none below; 0 without such a bound"),
            Field::after(Encoding::U64, "since", "microseconds since the Unix epoch"),
            Field::after(Encoding::U8, "holding", "0 nothing, 1 all, 2 all and then writers wait, 3 all until it is overtaken"),
            Field::after(Encoding::U64, "limit", "bytes of the log, for holdings 2 and 3; else 0"),
            Field::after(Encoding::U8, "overtaken", "1 if it was, else 0"),
            Field::after(Encoding::Variable, "scope", "as that of a pin"),
        ],
    ),
    FieldTable::new(
        "change: remove consumer",
        "Kind 8: the end of a consumer.",
        &[Field::at(0, Encoding::Prefixed, "name", "UTF-8, 1 to 255 bytes")],
    ),
    FieldTable::new(
        "change: drop",
        "Kind 9: versions of a key are to be dropped. Kind 12, with the same fields: that was done, but for what other changes say. Kind 14: \
         these versions, without a bound for the newest, were dropped.",
        &[
            Field::at(0, Encoding::U64, "version", "of the commit that says so; newer versions stay"),
            Field::at(8, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(9, Encoding::U32, "table id", "0 for multi"),
            Field::at(13, Encoding::U8, "bounds", "1: there is an upper bound; 2: some of the newest are kept"),
            Field::at(14, Encoding::U64, "from", "versions below this one stay"),
            Field::at(22, Encoding::U64, "up to", "versions from this one on stay; 0 without that bound"),
            Field::at(30, Encoding::U64, "keep last", "so many of the newest stay; 0 without that bound"),
            Field::at(38, Encoding::Prefixed, "key", "at most 65,535 bytes"),
        ],
    ),
    FieldTable::new(
        "change: time to live",
        "Kind 10: when rows expire.",
        &[
            Field::at(0, Encoding::U8, "scope", "1 all sources, 2 all operators, 3 a table"),
            Field::at(1, Encoding::Variable, "table", "tag (u8) and id (u32), for scope 3"),
            Field::after(Encoding::U8, "anchor", "0 none: rows live for ever, 1 created, 2 updated"),
            Field::after(Encoding::U64, "after", "microseconds, not 0; 0 without an anchor"),
        ],
    ),
    FieldTable::new(
        "change: expired",
        "Kind 11: expired rows of a table were deleted.",
        &[
            Field::at(0, Encoding::U8, "table tag", "0 multi, 1 source, 2 operator"),
            Field::at(1, Encoding::U32, "table id", "0 for multi"),
            Field::at(5, Encoding::U64, "through", "of the rows that were there at this version"),
        ],
    ),
    FieldTable::new(
        "change: garbage",
        "Kind 13: since when something may be stored that need not be kept.",
        &[Field::at(0, Encoding::U64, "since", "microseconds since the Unix epoch; 0 if nothing is")],
    ),
    FieldTable::new(
        "change: clock",
        "Kind 15: how far what the wall clock showed was from the store's time, when it had jumped.",
        &[
            Field::at(0, Encoding::U64, "moment", "the store's time, in microseconds since the Unix epoch"),
            Field::at(8, Encoding::U64, "wall", "what the wall clock showed then, likewise"),
        ],
    ),
];

/// The field tables of a list of changes, for the page of documentation of whoever stores one.
///
/// ```
/// assert!(thermocline_drop::format_tables().iter().any(|table| table.name == "change: pin"));
/// ```
pub fn format_tables() -> Vec<FieldTable> {
    TABLES.to_vec()
}

/// A list of changes as bytes.
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let mut out = Writer::new();
    out.length(changes.len());
    for change in changes {
        write(&mut out, change);
    }
    out.finish()
}

fn write(out: &mut Writer, change: &Change) {
    match change {
        Change::Horizon(version) => {
            out.u8(HORIZON);
            out.u64(version.0);
        }
        Change::Table { table, horizon, steps } => {
            out.u8(TABLE);
            write_table(out, *table);
            out.u64(horizon.0);
            out.length(steps.len());
            for (end, version) in steps {
                out.u64(end.as_micros());
                out.u64(version.0);
            }
        }
        Change::Policy { scope, retention } => {
            out.u8(POLICY);
            write_policy_scope(out, *scope);
            write_retention(out, retention.as_ref());
        }
        Change::Pin { name, pin } => {
            out.u8(PIN);
            out.prefixed(name.as_bytes());
            write_pin(out, pin);
        }
        Change::Release { name } => {
            out.u8(RELEASE);
            out.prefixed(name.as_bytes());
        }
        Change::Consumer { name, consumer } => {
            out.u8(CONSUMER);
            out.prefixed(name.as_bytes());
            write_consumer(out, consumer);
        }
        Change::RemoveConsumer { name } => {
            out.u8(REMOVE_CONSUMER);
            out.prefixed(name.as_bytes());
        }
        Change::Time { version, moment } => {
            out.u8(TIME);
            out.u64(version.0);
            out.u64(moment.as_micros());
        }
        Change::Drop(command) => write_drop(out, DROP, command),
        Change::DropEnd(command) => write_drop(out, DROP_END, command),
        Change::Dropped(command) => write_drop(out, DROPPED, command),
        Change::Ttl { scope, ttl } => {
            out.u8(TTL);
            write_policy_scope(out, *scope);
            write_ttl(out, *ttl);
        }
        Change::Expired { table, through } => {
            out.u8(EXPIRED);
            write_table(out, *table);
            out.u64(through.0);
        }
        Change::Garbage(since) => {
            out.u8(GARBAGE);
            out.u64(since.map_or(0, |since| since.as_micros().max(1)));
        }
        Change::Clock(Reading { moment, wall }) => {
            out.u8(CLOCK);
            out.u64(moment.as_micros());
            out.u64(wall.as_micros());
        }
    }
}

fn write_ttl(out: &mut Writer, ttl: Option<Ttl>) {
    out.u8(match ttl.map(|ttl| ttl.anchor) {
        None => 0,
        Some(Anchor::Created) => 1,
        Some(Anchor::Updated) => 2,
    });
    out.u64(ttl.map_or(0, |ttl| Moment::default().after(ttl.after).as_micros().max(1)));
}

fn write_pin(out: &mut Writer, pin: &Pin) {
    out.u8(match pin.versions {
        PinVersions::One(_) => 1,
        PinVersions::From(_) => 2,
    });
    out.u64(pin.versions.first().0);
    out.u64(pin.created.as_micros());
    out.u64(pin.lease_until.map_or(0, Moment::as_micros));
    write_scope(out, &pin.scope);
}

fn write_policy_scope(out: &mut Writer, scope: PolicyScope) {
    match scope {
        PolicyScope::Sources => out.u8(1),
        PolicyScope::Operators => out.u8(2),
        PolicyScope::Table(table) => {
            out.u8(3);
            write_table(out, table);
        }
    }
}

fn write_consumer(out: &mut Writer, consumer: &ConsumerState) {
    out.u64(consumer.position.0);
    out.u64(consumer.versions_from.0);
    out.u64(consumer.since.as_micros());
    out.u8(match consumer.holding {
        Holding::Nothing => 0,
        Holding::All => 1,
        Holding::HoldWriters(_) => 2,
        Holding::Overtake(_) => 3,
    });
    out.u64(consumer.holding.limit_bytes().unwrap_or_default());
    out.u8(u8::from(consumer.is_overtaken));
    write_scope(out, &consumer.scope);
}

fn write_drop(out: &mut Writer, kind: u8, DropCommand { version, table, key, rule }: &DropCommand) {
    out.u8(kind);
    out.u64(version.0);
    write_table(out, *table);
    out.u8(u8::from(rule.up_to.is_some()) | u8::from(rule.keep_last.is_some()) << 1);
    out.u64(rule.from.0);
    out.u64(rule.up_to.unwrap_or_default().0);
    out.u64(rule.keep_last.map_or(0, |count| u64::try_from(count).unwrap_or(u64::MAX)));
    out.prefixed(key);
}

fn write_table(out: &mut Writer, table: EntryKind) {
    let (tag, id) = table.to_parts();
    out.u8(tag);
    out.u32(id);
}

fn write_retention(out: &mut Writer, retention: Option<&Retention>) {
    let span = |out: &mut Writer, span: Duration| out.u64(Moment::default().after(span).as_micros());
    match retention {
        None => out.u8(0),
        Some(Retention::KeepAll) => out.u8(1),
        Some(Retention::Since(version)) => {
            out.u8(2);
            out.u64(version.0);
        }
        Some(Retention::Age(age)) => {
            out.u8(3);
            span(out, *age);
        }
        Some(Retention::NewestVersions(count)) => {
            out.u8(4);
            out.u64(*count);
        }
        Some(Retention::LatestOnly) => out.u8(5),
        Some(Retention::Ladder(rungs)) => {
            out.u8(6);
            out.length(rungs.len());
            for rung in rungs {
                span(out, rung.age);
                span(out, rung.every);
            }
        }
    }
}

fn write_scope(out: &mut Writer, scope: &Scope) {
    match scope {
        Scope::All => out.u8(1),
        Scope::Table(table) => {
            out.u8(2);
            write_table(out, *table);
        }
        Scope::Range(table, range) => {
            out.u8(3);
            write_table(out, *table);
            for bound in [&range.start, &range.end] {
                match bound {
                    Bound::Unbounded => out.u8(0),
                    Bound::Included(key) => {
                        out.u8(1);
                        out.prefixed(key);
                    }
                    Bound::Excluded(key) => {
                        out.u8(2);
                        out.prefixed(key);
                    }
                }
            }
        }
    }
}

/// A list of changes from its bytes. `file` and `offset` say where they were found, for errors.
///
/// # Errors
/// For bytes that [`encode`] does not write.
pub fn decode(bytes: &[u8], file: thermocline_format::FileLabel, offset: u64) -> Result<Vec<Change>, Corruption> {
    let mut reader = Reader::new(bytes, file, offset);
    let count = reader.count(usize::MAX, CHANGE_SIZE_BYTES_MIN, "changes")?;
    let mut changes = Vec::with_capacity(count);
    for _change in 0..count {
        changes.push(read(&mut reader)?);
    }
    reader.finish()?;
    Ok(changes)
}

fn read(reader: &mut Reader<'_>) -> Result<Change, Corruption> {
    let before = reader.clone();
    Ok(match reader.u8("kind of change")? {
        HORIZON => Change::Horizon(Version(reader.u64("horizon")?)),
        TABLE => {
            let (table, horizon) = (read_table(reader)?, Version(reader.u64("table horizon")?));
            let count = reader.count(usize::MAX, STEP_SIZE_BYTES, "steps")?;
            let mut steps: Vec<(Moment, Version)> = Vec::with_capacity(count);
            for _step in 0..count {
                let before = reader.clone();
                let (end, version) = (Moment::from_micros(reader.u64("end of step")?), Version(reader.u64("version of step")?));
                if steps.last().is_some_and(|last| last.0 >= end || last.1 >= version) {
                    return Err(before.corruption("step", "above the one before", format!("version {version}")));
                }
                steps.push((end, version));
            }
            Change::Table { table, horizon, steps }
        }
        POLICY => Change::Policy { scope: read_policy_scope(reader)?, retention: read_retention(reader)? },
        PIN => {
            let name = read_name(reader)?;
            let before = reader.clone();
            let kind = reader.u8("versions of pin")?;
            let version = Version(reader.u64("version of pin")?);
            let versions = match kind {
                1 => PinVersions::One(version),
                2 => PinVersions::From(version),
                _ => return Err(before.corruption("versions of pin", "1 or 2", kind.to_string())),
            };
            let created = Moment::from_micros(reader.u64("pin created")?);
            let lease = reader.u64("lease of pin")?;
            let lease_until = (lease > 0).then(|| Moment::from_micros(lease));
            let scope = read_scope(reader)?;
            Change::Pin { name, pin: Pin { versions, scope, created, lease_until } }
        }
        RELEASE => Change::Release { name: read_name(reader)? },
        TIME => Change::Time { version: Version(reader.u64("version")?), moment: Moment::from_micros(reader.u64("moment")?) },
        CONSUMER => Change::Consumer { name: read_name(reader)?, consumer: read_consumer(reader)? },
        REMOVE_CONSUMER => Change::RemoveConsumer { name: read_name(reader)? },
        DROP => Change::Drop(read_drop(reader)?),
        DROP_END => Change::DropEnd(read_drop(reader)?),
        DROPPED => Change::Dropped(read_drop(reader)?),
        CLOCK => {
            let (moment, wall) = (Moment::from_micros(reader.u64("moment")?), Moment::from_micros(reader.u64("wall clock")?));
            Change::Clock(Reading { moment, wall })
        }
        TTL => Change::Ttl { scope: read_policy_scope(reader)?, ttl: read_ttl(reader)? },
        EXPIRED => Change::Expired { table: read_table(reader)?, through: Version(reader.u64("version of expiry")?) },
        GARBAGE => match reader.u64("garbage since")? {
            0 => Change::Garbage(None),
            since => Change::Garbage(Some(Moment::from_micros(since))),
        },
        kind => return Err(before.corruption("kind of change", "1 to 15", kind.to_string())),
    })
}

fn read_ttl(reader: &mut Reader<'_>) -> Result<Option<Ttl>, Corruption> {
    let before = reader.clone();
    let (anchor, after) = (reader.u8("anchor of time to live")?, reader.u64("time to live")?);
    let anchor = match (anchor, after) {
        (0, 0) => return Ok(None),
        (1, 1..) => Anchor::Created,
        (2, 1..) => Anchor::Updated,
        _ => {
            let found = format!("anchor {anchor}, {after} microseconds");
            return Err(before.corruption("time to live", "anchor 1 or 2 with a time, or 0 without", found));
        }
    };
    Ok(Some(Ttl { after: Duration::from_micros(after), anchor }))
}

fn read_drop(reader: &mut Reader<'_>) -> Result<DropCommand, Corruption> {
    let version = Version(reader.u64("version of drop")?);
    let table = read_table(reader)?;
    let before = reader.clone();
    let (bounds, from) = (reader.u8("bounds of drop")?, Version(reader.u64("first version of drop")?));
    let (up_to, keep_last) = (reader.u64("bound of drop")?, reader.u64("versions kept by drop")?);
    let (has_bound, keeps) = match bounds {
        0..=3 => (bounds & 1 != 0, bounds & 2 != 0),
        _ => return Err(before.corruption("bounds of drop", "0 to 3", bounds.to_string())),
    };
    if !has_bound && up_to != 0 || !keeps && keep_last != 0 {
        return Err(before.corruption("bounds of drop", "0 where there is no bound", format!("{up_to} and {keep_last}")));
    }
    let keep_last = keeps.then(|| usize::try_from(keep_last).unwrap_or(usize::MAX));
    let rule = DropRule { from, up_to: has_bound.then_some(Version(up_to)), keep_last };
    let key = Bytes::copy_from_slice(reader.prefixed(limits::KEY_SIZE_BYTES_MAX, "key of drop")?);
    Ok(DropCommand { version, table, key, rule })
}

fn read_consumer(reader: &mut Reader<'_>) -> Result<ConsumerState, Corruption> {
    let position = Version(reader.u64("position of consumer")?);
    let versions_from = Version(reader.u64("first version of consumer")?);
    let since = Moment::from_micros(reader.u64("consumer since")?);
    let before = reader.clone();
    let holding = match (reader.u8("holding of consumer")?, reader.u64("limit of consumer")?) {
        (0, 0) => Holding::Nothing,
        (1, 0) => Holding::All,
        (2, bytes) => Holding::HoldWriters(bytes),
        (3, bytes) => Holding::Overtake(bytes),
        (kind, bytes) => {
            let found = format!("{kind} with a limit of {bytes}");
            return Err(before.corruption("holding of consumer", "0 to 3, a limit with 2 and 3 alone", found));
        }
    };
    let before = reader.clone();
    let is_overtaken = match reader.u8("consumer overtaken")? {
        0 => false,
        1 => true,
        found => return Err(before.corruption("consumer overtaken", "0 or 1", found.to_string())),
    };
    Ok(ConsumerState { position, versions_from, scope: read_scope(reader)?, holding, is_overtaken, since })
}

fn read_table(reader: &mut Reader<'_>) -> Result<EntryKind, Corruption> {
    let before = reader.clone();
    let (tag, id) = (reader.u8("table tag")?, reader.u32("table id")?);
    let found = || before.corruption("table", "tag 0 with id 0, or tag 1 or 2", format!("tag {tag}, id {id}"));
    EntryKind::from_parts(tag, id).ok_or_else(found)
}

fn read_name(reader: &mut Reader<'_>) -> Result<String, Corruption> {
    let before = reader.clone();
    let name = reader.prefixed(NAME_SIZE_BYTES_MAX, "name")?;
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() => Ok(name.to_owned()),
        _ => Err(before.corruption("name", "UTF-8, not empty", "other bytes")),
    }
}

fn read_policy_scope(reader: &mut Reader<'_>) -> Result<PolicyScope, Corruption> {
    let before = reader.clone();
    Ok(match reader.u8("scope of policy")? {
        1 => PolicyScope::Sources,
        2 => PolicyScope::Operators,
        3 => PolicyScope::Table(read_table(reader)?),
        scope => return Err(before.corruption("scope of policy", "1 to 3", scope.to_string())),
    })
}

fn read_retention(reader: &mut Reader<'_>) -> Result<Option<Retention>, Corruption> {
    let before = reader.clone();
    let span = |reader: &mut Reader<'_>| reader.u64("span of time").map(Duration::from_micros);
    let retention = match reader.u8("policy")? {
        0 => return Ok(None),
        1 => Retention::KeepAll,
        2 => Retention::Since(Version(reader.u64("version of policy")?)),
        3 => Retention::Age(span(reader)?),
        4 => Retention::NewestVersions(reader.u64("versions of policy")?),
        5 => Retention::LatestOnly,
        6 => {
            let count = reader.count(usize::MAX, RUNG_SIZE_BYTES, "rungs")?;
            let mut rungs = Vec::with_capacity(count);
            for _rung in 0..count {
                rungs.push(Rung { age: span(reader)?, every: span(reader)? });
            }
            Retention::Ladder(rungs)
        }
        policy => return Err(before.corruption("policy", "0 to 6", policy.to_string())),
    };
    match retention.check() {
        Ok(()) => Ok(Some(retention)),
        Err(error) => Err(before.corruption("policy", "one that can be set", error.to_string())),
    }
}

fn read_scope(reader: &mut Reader<'_>) -> Result<Scope, Corruption> {
    let before = reader.clone();
    Ok(match reader.u8("scope")? {
        1 => Scope::All,
        2 => Scope::Table(read_table(reader)?),
        3 => {
            let table = read_table(reader)?;
            Scope::Range(table, KeyRange { start: read_bound(reader)?, end: read_bound(reader)? })
        }
        scope => return Err(before.corruption("scope", "1 to 3", scope.to_string())),
    })
}

fn read_bound(reader: &mut Reader<'_>) -> Result<Bound<Bytes>, Corruption> {
    let before = reader.clone();
    let kind = reader.u8("bound")?;
    let key = |reader: &mut Reader<'_>| reader.prefixed(limits::KEY_SIZE_BYTES_MAX, "key of bound").map(Bytes::copy_from_slice);
    Ok(match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(reader)?),
        2 => Bound::Excluded(key(reader)?),
        kind => return Err(before.corruption("bound", "0 to 2", kind.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes() -> Vec<Change> {
        let created = Moment::from_micros(1_700_000_000_000_000);
        let pin = |versions, scope, lease_until| Pin { versions, scope, created, lease_until };
        let rung = |age, every| Rung { age: Duration::from_secs(age), every: Duration::from_secs(every) };
        let policy = |scope, retention| Change::Policy { scope, retention };
        let updated = Ttl { after: Duration::from_micros(1), anchor: Anchor::Updated };
        let ended = DropCommand { version: Version(9), table: EntryKind::Multi, key: Bytes::new(), rule: DropRule::default() };
        let consumer = |holding: Holding, scope| Change::Consumer {
            name: "a view".into(),
            consumer: ConsumerState {
                position: Version(8),
                versions_from: Version(holding.limit_bytes().unwrap_or_default()),
                scope,
                holding,
                is_overtaken: holding.limit_bytes() == Some(3),
                since: created,
            },
        };
        vec![
            Change::Time { version: Version(3), moment: created },
            Change::Clock(Reading { moment: created, wall: Moment::from_micros(7) }),
            Change::Horizon(Version(9)),
            Change::Table {
                table: EntryKind::Multi,
                horizon: Version(7),
                steps: vec![(created, Version(2)), (created.after(Duration::from_secs(1)), Version(4))],
            },
            policy(PolicyScope::Sources, Some(Retention::KeepAll)),
            policy(PolicyScope::Operators, Some(Retention::LatestOnly)),
            policy(PolicyScope::Table(EntryKind::source(7)), None),
            policy(PolicyScope::Table(EntryKind::source(7)), Some(Retention::Since(Version(5)))),
            policy(PolicyScope::Table(EntryKind::Multi), Some(Retention::Age(Duration::from_micros(77)))),
            policy(PolicyScope::Table(EntryKind::operator(1)), Some(Retention::NewestVersions(3))),
            policy(PolicyScope::Table(EntryKind::operator(2)), Some(Retention::Ladder(vec![rung(60, 0), rung(600, 60)]))),
            Change::Pin { name: "a".into(), pin: pin(PinVersions::One(Version(1)), Scope::All, None) },
            Change::Pin {
                name: "b".into(),
                pin: pin(PinVersions::From(Version(2)), Scope::Table(EntryKind::source(300)), Some(created)),
            },
            Change::Pin {
                name: "ä".into(),
                pin: pin(PinVersions::One(Version(1)), Scope::Range(EntryKind::Multi, KeyRange::new("k"..="m")), None),
            },
            Change::Pin {
                name: "d".into(),
                pin: pin(PinVersions::One(Version(1)), Scope::Range(EntryKind::Multi, KeyRange::new(.."m")), None),
            },
            Change::Release { name: "b".into() },
            Change::Ttl {
                scope: PolicyScope::Sources,
                ttl: Some(Ttl { after: Duration::from_secs(9), anchor: Anchor::Created }),
            },
            Change::Ttl { scope: PolicyScope::Table(EntryKind::source(7)), ttl: Some(updated) },
            Change::Ttl { scope: PolicyScope::Operators, ttl: None },
            Change::Expired { table: EntryKind::source(7), through: Version(12) },
            Change::Drop(DropCommand {
                version: Version(9),
                table: EntryKind::source(300),
                key: Bytes::from_static(b"key"),
                rule: DropRule { from: Version(1), up_to: Some(Version(7)), keep_last: Some(2) },
            }),
            Change::DropEnd(ended.clone()),
            Change::Dropped(ended.between(Version(3), Version(8))),
            consumer(Holding::Nothing, Scope::All),
            consumer(Holding::All, Scope::Table(EntryKind::operator(3))),
            consumer(Holding::HoldWriters(1 << 40), Scope::All),
            consumer(Holding::Overtake(3), Scope::Range(EntryKind::Multi, KeyRange::new("k"..))),
            Change::RemoveConsumer { name: "a view".into() },
            Change::Garbage(Some(created)),
            Change::Garbage(None),
        ]
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        assert_eq!(decode(&encode(&changes()), "here".into(), 0).unwrap(), changes());
        assert_eq!(decode(&encode(&[]), "here".into(), 0).unwrap(), []);
    }

    #[test]
    fn every_cut_is_found_and_no_flipped_bit_causes_a_panic() {
        let bytes = encode(&changes());
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], "here".into(), 0).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The checksum is whose who stores it; what is decoded is not what was there.
            if let Ok(decoded) = decode(&damaged, "here".into(), 0) {
                assert_ne!(decoded, changes(), "bit {bit}");
            }
        }
    }
}
