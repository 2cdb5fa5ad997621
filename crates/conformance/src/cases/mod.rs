//! The cases, in modules by what they are about. Each says in its name which number it has and which fact it proves; the table of
//! them, with the clauses that they check, is [`for_each_tier_case`](crate::for_each_tier_case).

pub(crate) mod batches;
pub(crate) mod bounds;
pub(crate) mod concurrency;
pub(crate) mod cursors;
pub(crate) mod drops;
pub(crate) mod point_reads;
pub(crate) mod ranges;
pub(crate) mod reverse;
pub(crate) mod scenarios;
pub(crate) mod tables;
pub(crate) mod tombstones;
pub(crate) mod two_tiers;
pub(crate) mod versions;
pub(crate) mod writes;
