//! Tables: the logical namespaces of a store.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// The number of a source table's shape.
///
/// ```
/// assert_eq!(thermocline_tier::ShapeId(7).0, 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeId(pub u32);

/// The number of a data-flow operator.
///
/// ```
/// assert_eq!(thermocline_tier::FlowNodeId(3).0, 3);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowNodeId(pub u32);

/// The name of a table. Its order, (kind tag, id), is the order of tables in every tier, so that each table is one
/// contiguous range of keys.
///
/// A table needs no handle and no declaration: the first write to it brings it into being.
///
/// ```
/// use thermocline_tier::EntryKind;
///
/// let table = EntryKind::source(7);
/// assert_eq!(table.to_string(), "source:7");
/// assert_eq!("source:7".parse::<EntryKind>().ok(), Some(table));
/// assert!(EntryKind::Multi < table && table < EntryKind::operator(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryKind {
    /// The one table for everything that belongs to no source and no operator.
    Multi,
    /// The rows of one source.
    Source(ShapeId),
    /// The state of one data-flow operator.
    Operator(FlowNodeId),
}

impl EntryKind {
    /// The table of source `id`.
    pub const fn source(id: u32) -> Self {
        Self::Source(ShapeId(id))
    }

    /// The table of operator `id`.
    pub const fn operator(id: u32) -> Self {
        Self::Operator(FlowNodeId(id))
    }

    /// The tag (0 multi, 1 source, 2 operator) and the id (0 for multi): the pair that orders tables and that files store.
    pub const fn to_parts(self) -> (u8, u32) {
        match self {
            Self::Multi => (0, 0),
            Self::Source(ShapeId(id)) => (1, id),
            Self::Operator(FlowNodeId(id)) => (2, id),
        }
    }

    /// The table of a (tag, id) pair; `None` for a tag that no table has, and for `Multi` with an id that is not 0.
    pub const fn from_parts(tag: u8, id: u32) -> Option<Self> {
        match (tag, id) {
            (0, 0) => Some(Self::Multi),
            (1, id) => Some(Self::source(id)),
            (2, id) => Some(Self::operator(id)),
            _ => None,
        }
    }

    /// One number with the order of the tables: the tag above the id.
    pub const fn code(self) -> u64 {
        let (tag, id) = self.to_parts();
        // Widening casts, which `From` cannot do in a `const fn`.
        ((tag as u64) << 32) | id as u64
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Multi => f.write_str("multi"),
            Self::Source(ShapeId(id)) => write!(f, "source:{id}"),
            Self::Operator(FlowNodeId(id)) => write!(f, "operator:{id}"),
        }
    }
}

impl FromStr for EntryKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let id = |digits: &str| digits.parse::<u32>().ok();
        let table = match text.split_once(':') {
            None if text == "multi" => Some(Self::Multi),
            Some(("source", digits)) => id(digits).map(Self::source),
            Some(("operator", digits)) => id(digits).map(Self::operator),
            _ => None,
        };
        table.ok_or_else(|| {
            let what = format!("table `{text}` is not multi, source:N or operator:N with N from 0 to {}", u32::MAX);
            Error::new(ErrorKind::InvalidArgument { what })
        })
    }
}
