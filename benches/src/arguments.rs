//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::rows::{self, ROWS, TIER_ROWS};
use thermocline_yardstick::failure::{Failure, Outcome};

/// Measures whole stores and prints each figure beside its bar.
#[derive(Clone, Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Arguments {
    /// A tenth of the data and one round: shows that everything runs; the figures say little.
    #[arg(long)]
    pub(crate) quick: bool,

    /// How often each row is measured [default: 5, with --quick 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,

    /// Only these rows, separated by commas: a row's name, or a part of several rows' names; see --list.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,

    /// Only the rows over one kind of data.
    #[arg(long, value_enum, default_value_t = Data::All)]
    pub(crate) workload: Data,

    /// Also measures loads and reads of the tier alone.
    #[arg(long)]
    pub(crate) tier: bool,

    /// Seeds keys, values, tombstones and orders.
    #[arg(long, value_name = "SEED", default_value_t = 42)]
    pub(crate) seed: u64,

    /// How often a measurement that foreign load disturbed is taken again.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) retries: u32,

    /// How long to wait before a measurement for others to leave the processors, in seconds; then it is taken all the same.
    #[arg(long, value_name = "S", default_value_t = 0)]
    patience: u64,

    /// How long one measurement of reads or commits lasts, in milliseconds.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..))]
    slice: Option<u64>,

    /// Where the stores are made, in a directory that is removed afterwards [default: beside the program].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Also writes every sample to this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Lists the names of all rows and ends.
    #[arg(long)]
    pub(crate) list: bool,
}

/// The data that rows are measured over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Data {
    /// 500,000 keys, 4 rounds.
    W,
    /// 40,000 keys, 50 rounds.
    D,
    /// Small commits, made for their number.
    Commits,
    /// Everything.
    All,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 })
    }

    /// The length of one measurement.
    pub(crate) fn slice(&self) -> Duration {
        Duration::from_millis(self.slice.unwrap_or(if self.quick { 200 } else { 500 }))
    }

    /// How long to wait before a measurement for a quiet machine.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(self.patience)
    }

    /// By what the workloads' keys are divided.
    pub(crate) fn shrink(&self) -> u32 {
        if self.quick { 10 } else { 1 }
    }

    pub(crate) fn has_data(&self, data: Data) -> bool {
        self.workload == Data::All || self.workload == data
    }

    /// Whether a row was asked for. A row's whole name asks for that row alone, anything else for every row whose name contains it; the
    /// tier's rows are measured on demand, or when they are named outright.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let is_tier = TIER_ROWS.iter().any(|row| row.name == name);
        let is_whole = |wanted: &str| ROWS.iter().chain(TIER_ROWS).any(|row| row.name == wanted);
        let asks = |wanted: &String| {
            if is_whole(wanted) { name == wanted } else { name.contains(wanted.as_str()) && (self.tier || !is_tier) }
        };
        if self.only.is_empty() { self.tier || !is_tier } else { self.only.iter().any(asks) }
    }

    pub(crate) fn wants_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.wants(name))
    }

    /// Refuses names that no row contains: a slip would otherwise measure nothing and look fine.
    pub(crate) fn check(&self) -> Outcome<()> {
        let is_unknown = |wanted: &&String| {
            let contains = |row: &rows::Row| row.name.contains(wanted.as_str());
            !ROWS.iter().any(contains) && !TIER_ROWS.iter().any(contains)
        };
        match self.only.iter().find(is_unknown) {
            Some(unknown) => Err(Failure::Usage(format!("no row's name contains `{unknown}`; --list names them all"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::parse_from(line.split(' '))
    }

    #[test]
    fn only_selects_by_parts_of_names() {
        let arguments = parse("bench --only get,single");
        assert!(arguments.wants("get-latest") && arguments.wants("single") && !arguments.wants("load"));
        assert!(!arguments.wants("tier-get-latest"), "the tier's rows need --tier or their whole name");
        assert!(parse("bench --only tier-get-latest").wants("tier-get-latest"));
        assert!(parse("bench --tier --only get").wants("tier-get-latest"));
    }

    #[test]
    fn a_whole_name_selects_one_row() {
        let arguments = parse("bench --only load,sync-1");
        assert!(arguments.wants("load") && arguments.wants("sync-1"));
        assert!(!arguments.wants("load-two") && !arguments.wants("tier-load"));
    }

    #[test]
    fn unknown_row_names_are_refused() {
        assert!(parse("bench --only get").check().is_ok());
        assert!(parse("bench --only gte").check().is_err());
    }

    #[test]
    fn quick_means_one_short_round_unless_told_otherwise() {
        assert_eq!(parse("bench --quick").rounds(), 1);
        assert_eq!(parse("bench --quick --rounds 3").rounds(), 3);
        assert_eq!(parse("bench").rounds(), 5);
    }
}
