//! The command line's grammar, as clap reads it. The comments on commands and options are the text of `--help`.

use std::ffi::{OsStr, OsString};
use std::ops::Bound;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use thermocline::{Bytes, Durability, Holding, KeyRange, Table, Version};

use crate::failure::Failure;
use crate::sizes;

/// An embeddable, ordered, multi-version key-value store, from the command line.
#[derive(Debug, Parser)]
#[command(name = "thermocline", version, about, arg_required_else_help = true, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 success, 1 error (the message stands on standard error), 2 wrong usage.
Keys and values are bytes. An argument that begins with a hyphen goes after `--`.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Import a history, commit n as version n; go on where an earlier import stopped
    Import(Import),
    /// Print the value of one key
    Get(Get),
    /// Print the rows of a range in key order
    Scan(Scan),
    /// Print every version of one key, newest first
    History(History),
    /// Print the keys whose values differ between two versions
    Diff(Diff),
    /// Print the commits above a version, or those that a consumer has not had, in order, as they were made
    Changes(Changes),
    /// Print what the store holds
    Stats(Report),
    /// Read every byte of the store's files, check it, and say what was checked
    Verify(Report),
    /// Print the store's sorted files: levels, keys, versions, space by table, amplification
    Inspect(Inspect),
    /// Print the bytes of one file of a store beside their meaning, also of a damaged one
    Dump(Dump),
    /// Move everything into sorted files, and rewrite them so that each key lies in one place
    Compact(Compact),
    /// Print a table in the change format that `import --tsv` reads
    Export(Export),
    /// Print from which version on what can be read
    Horizon(Report),
    /// Give up the versions below one, but for those that are pinned, and rewrite the files without them
    Drop(Drop),
    /// Print the policies of retention, or set one
    Retention(Retention),
    /// Print when rows of tables expire, or set it
    Ttl(Ttl),
    /// Print who keeps old versions or the log, and since when; or make and release pins
    Pins(Pins),
    /// Print how much each pin and consumer keeps that nobody else does; reads everything
    WhyRetained(Report),
    /// Rewrite the files without what nobody may read any more; or print about how much of each table would go
    Reclaim(Reclaim),
}

/// How output looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people: bytes that cannot be shown are escaped
    #[default]
    Text,
    /// Fields between tabs, one line each, keys and values as raw bytes
    Tsv,
    /// One JSON object a line; bytes are a string where they are UTF-8, else {"hex": ".."}
    Json,
}

/// The table, version and format of a read.
#[derive(Debug, Args)]
pub(crate) struct View {
    /// The table: multi, source:N or operator:N
    #[arg(long, default_value = "multi")]
    pub(crate) table: Table,
    /// The version to read at; above the last commit that is the latest state [default: the latest]
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl View {
    pub(crate) fn version(&self) -> Version {
        self.at.map_or(Version::MAX, Version)
    }
}

/// Where a history comes from.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct HistorySource {
    /// Import the first-parent history of a git repository: path to blob id
    #[arg(long, value_name = "REPOSITORY")]
    pub(crate) git: Option<PathBuf>,
    /// Import a file of lines `commit<TAB>put|del<TAB>key<TAB>value`, the value empty for del
    #[arg(long, value_name = "FILE")]
    pub(crate) tsv: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The store's directory; made if it is missing
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    #[command(flatten)]
    pub(crate) source: HistorySource,
    /// With --git: the contents of blobs as values in place of their ids
    #[arg(long, conflicts_with = "tsv")]
    pub(crate) contents: bool,
    /// With --git: the commit whose history is imported
    #[arg(long, conflicts_with = "tsv", default_value = "HEAD", value_name = "REVISION")]
    pub(crate) rev: String,
    /// The table: multi, source:N or operator:N
    #[arg(long, default_value = "multi")]
    pub(crate) table: Table,
    /// What each commit waits for; at the end everything is made durable in any case
    #[arg(long, value_enum, default_value_t)]
    pub(crate) durability: ImportDurability,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// Print `committed <version>` after every N commits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) report_every: Option<u64>,
}

/// What a command that writes opens the store with. Sizes are numbers of bytes such as 65536, 64KiB or 2GiB.
#[derive(Debug, Args)]
pub(crate) struct Writing {
    /// The main memory that the store may use, such as 64MiB [default: 512MiB]
    #[arg(long, value_name = "BYTES", value_parser = sizes::parse)]
    pub(crate) memory_budget: Option<u64>,
    /// How much of that each of the two tables may use that take the writes; a full one becomes a file [default: an eighth]
    #[arg(long, value_name = "BYTES", value_parser = sizes::parse)]
    pub(crate) hot_budget: Option<u64>,
    /// How much of the log stays, for `changes` and `export --history`, once its commits lie in files; a number of bytes or `all`
    #[arg(long, value_name = "BYTES", default_value = "all", value_parser = sizes::parse_or_all)]
    pub(crate) log_keep: u64,
}

/// What each commit of an import waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ImportDurability {
    /// For the disk: survives a loss of power
    Sync,
    /// For the operating system: survives the death of the process
    #[default]
    Buffered,
    /// For nothing
    Memory,
}

impl From<ImportDurability> for Durability {
    fn from(chosen: ImportDurability) -> Self {
        match chosen {
            ImportDurability::Sync => Self::Sync,
            ImportDurability::Buffered => Self::Buffered,
            ImportDurability::Memory => Self::Memory,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// The key
    #[arg(value_name = "KEY")]
    key: OsString,
    #[command(flatten)]
    hex: Hex,
    #[command(flatten)]
    pub(crate) view: View,
}

impl Get {
    pub(crate) fn key(&self) -> Result<Vec<u8>, Failure> {
        self.hex.decode(&self.key)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Scan {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Only keys at or above this one
    #[arg(long, value_name = "KEY")]
    from: Option<OsString>,
    /// Only keys below this one
    #[arg(long, value_name = "KEY")]
    to: Option<OsString>,
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY")]
    prefix: Option<OsString>,
    /// In descending order of keys
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    hex: Hex,
    #[command(flatten)]
    pub(crate) view: View,
}

impl Scan {
    pub(crate) fn range(&self) -> Result<KeyRange, Failure> {
        self.hex.range(self.from.as_deref(), self.to.as_deref(), self.prefix.as_deref())
    }
}

#[derive(Debug, Args)]
pub(crate) struct History {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// The key
    #[arg(value_name = "KEY")]
    key: OsString,
    #[command(flatten)]
    hex: Hex,
    #[command(flatten)]
    pub(crate) view: View,
}

impl History {
    pub(crate) fn key(&self) -> Result<Vec<u8>, Failure> {
        self.hex.decode(&self.key)
    }
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// The version to go from; 0 is the empty state before the first commit
    #[arg(value_name = "FROM")]
    pub(crate) from: u64,
    /// The version to go to; may be the older one
    #[arg(value_name = "TO")]
    pub(crate) to: u64,
    /// Only keys at or above this one
    #[arg(long, value_name = "KEY")]
    from_key: Option<OsString>,
    /// Only keys below this one
    #[arg(long, value_name = "KEY")]
    to_key: Option<OsString>,
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY")]
    prefix: Option<OsString>,
    #[command(flatten)]
    hex: Hex,
    /// The table: multi, source:N or operator:N
    #[arg(long, default_value = "multi")]
    pub(crate) table: Table,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl Diff {
    pub(crate) fn range(&self) -> Result<KeyRange, Failure> {
        self.hex.range(self.from_key.as_deref(), self.to_key.as_deref(), self.prefix.as_deref())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Changes {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Only commits above this version; 0 gives all. For a consumer, where a new one begins [default: what comes from now on]
    #[arg(long, value_name = "VERSION", required_unless_present_any = ["consumer", "follow"])]
    pub(crate) since: Option<u64>,
    /// At most so many commits that changed the table
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// For a consumer with this name, which is made if there is none: what was printed is not printed again, unless this was killed before
    /// its place was noted
    #[arg(long, value_name = "NAME", conflicts_with = "at")]
    pub(crate) consumer: Option<String>,
    /// What the consumer keeps from going before it has had it
    /// [default: what it has kept so far, and all for a new one]
    #[arg(long, requires = "consumer", value_name = "nothing|all|BYTES", value_parser = parse_holding)]
    pub(crate) hold: Option<Holding>,
    /// If the consumer was left behind, print the latest state as a commit that emptied the table before (without its time, and not counted
    /// by --limit), and go on from there
    #[arg(long, requires = "consumer")]
    pub(crate) resync: bool,
    /// Remove the consumer, and print nothing
    #[arg(long, requires = "consumer", conflicts_with = "follow")]
    pub(crate) forget: bool,
    /// Go on with what comes: look again and again, and wait while another process has the store open
    #[arg(long, conflicts_with = "at")]
    pub(crate) follow: bool,
    /// How long to wait between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", requires = "follow", value_parser = humantime::parse_duration)]
    pub(crate) every: Duration,
    #[command(flatten)]
    pub(crate) view: View,
}

/// What a consumer holds back: `nothing`, `all`, or all until so many bytes of the log lie ahead of it.
fn parse_holding(text: &str) -> Result<Holding, String> {
    match text {
        "nothing" => Ok(Holding::Nothing),
        "all" => Ok(Holding::All),
        bytes => sizes::parse(bytes).map(Holding::Overtake).map_err(|error| format!("neither `nothing` nor `all`: {error}")),
    }
}

#[derive(Debug, Args)]
pub(crate) struct Drop {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// The first version that stays readable; above the last commit that is the last commit
    #[arg(long, value_name = "VERSION")]
    pub(crate) before: u64,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Reclaim {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Change nothing, and print what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// As if this were the first version that stays readable
    #[arg(long, value_name = "VERSION", default_value = "0", requires = "dry_run")]
    pub(crate) before: u64,
    /// Read everything, and say exactly how much
    #[arg(long, requires = "dry_run")]
    pub(crate) exact: bool,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Ttl {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Have rows expire so long after they were written first or last: created:TIME or updated:TIME, such as updated:30m
    #[arg(long, value_name = "TIME", requires = "scope", value_parser = crate::retain::parse_ttl)]
    pub(crate) set: Option<thermocline::Ttl>,
    /// Have rows live for ever
    #[arg(long, requires = "scope", conflicts_with = "set")]
    pub(crate) unset: bool,
    #[command(flatten)]
    pub(crate) scope: PolicyOf,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Retention {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Set this policy: all, latest, newest:N, since:VERSION, age:TIME, or ladder:TIME,TIME/STEP,.. such as ladder:1d,30d/1h
    #[arg(long, value_name = "POLICY", requires = "scope", value_parser = crate::retain::parse_policy)]
    pub(crate) set: Option<thermocline::Retention>,
    /// Take the policy away
    #[arg(long, requires = "scope", conflicts_with = "set")]
    pub(crate) unset: bool,
    #[command(flatten)]
    pub(crate) scope: PolicyOf,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

/// For which tables a policy is.
#[derive(Debug, Args)]
#[group(id = "scope", multiple = false)]
pub(crate) struct PolicyOf {
    /// For this table: multi, source:N or operator:N
    #[arg(long)]
    pub(crate) table: Option<Table>,
    /// For all tables of sources that have none of their own
    #[arg(long)]
    pub(crate) sources: bool,
    /// For all tables of operators that have none of their own
    #[arg(long)]
    pub(crate) operators: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Pins {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Make a pin of this name, or another one in its place
    #[arg(long, value_name = "NAME", requires = "version")]
    pub(crate) set: Option<String>,
    /// With --set: keep this version
    #[arg(long = "at", value_name = "VERSION", requires = "set", group = "version")]
    pub(crate) at: Option<u64>,
    /// With --set: keep this version and all above
    #[arg(long, value_name = "VERSION", requires = "set", group = "version")]
    pub(crate) from: Option<u64>,
    /// With --set: only of this table
    #[arg(long, requires = "set")]
    pub(crate) table: Option<Table>,
    /// With --set: only for so long, such as 12h or 7d
    #[arg(long, value_name = "TIME", requires = "set", value_parser = humantime::parse_duration)]
    pub(crate) lease: Option<Duration>,
    /// Release the pin of this name
    #[arg(long, value_name = "NAME", conflicts_with = "set")]
    pub(crate) release: Option<String>,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Print one JSON object, with whole keys
    #[arg(long, conflicts_with = "html")]
    pub(crate) json: bool,
    /// Write a page for a browser to this file, with a picture of all files by keys and versions
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    /// The file, under the name that it has in a store
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The offset of the first byte that is dumped; also in hexadecimal, after 0x
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = sizes::parse_offset)]
    pub(crate) from: u64,
    /// How many bytes of the file are dumped
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = sizes::parse)]
    pub(crate) bytes: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Compact {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Only this table: multi, source:N or operator:N
    #[arg(long)]
    pub(crate) table: Option<Table>,
    /// Only files with keys at or above this one
    #[arg(long, value_name = "KEY", requires = "table")]
    from: Option<OsString>,
    /// Only files with keys below this one
    #[arg(long, value_name = "KEY", requires = "table")]
    to: Option<OsString>,
    /// Only files with keys that begin with this
    #[arg(long, value_name = "KEY", requires = "table")]
    prefix: Option<OsString>,
    #[command(flatten)]
    hex: Hex,
    #[command(flatten)]
    pub(crate) writing: Writing,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

impl Compact {
    pub(crate) fn range(&self) -> Result<KeyRange, Failure> {
        self.hex.range(self.from.as_deref(), self.to.as_deref(), self.prefix.as_deref())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The store's directory
    #[arg(value_name = "STORE")]
    pub(crate) directory: PathBuf,
    /// Every change of every commit; without it, the state as one commit at its version
    #[arg(long)]
    pub(crate) history: bool,
    /// The table: multi, source:N or operator:N
    #[arg(long, default_value = "multi")]
    pub(crate) table: Table,
    /// The version to export; above the last commit that is the latest state [default: the latest]
    #[arg(long, value_name = "VERSION")]
    at: Option<u64>,
    /// How the output looks
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExportFormat,
}

impl Export {
    pub(crate) fn version(&self) -> Version {
        self.at.map_or(Version::MAX, Version)
    }
}

/// How an export looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// The change format, which `import --tsv` reads; refuses keys and values that hold a tab or a line feed
    #[default]
    Tsv,
    /// One JSON object a change; holds any bytes
    Json,
}

/// How keys are written on the command line.
#[derive(Debug, Args)]
struct Hex {
    /// Keys on the command line are hexadecimal digits, two a byte
    #[arg(long)]
    hex: bool,
}

impl Hex {
    fn decode(&self, text: &OsStr) -> Result<Vec<u8>, Failure> {
        let bytes = text.as_encoded_bytes();
        if !self.hex {
            return Ok(bytes.to_vec());
        }
        let digits: Option<Vec<u8>> = bytes.iter().map(|byte| hex_digit(*byte)).collect();
        match digits {
            Some(digits) if digits.len() % 2 == 0 => Ok(digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect()),
            _ => Err(Failure::Usage(format!("`{}` is not pairs of hexadecimal digits, as --hex asks", text.display()))),
        }
    }

    /// The keys from `from` (inclusive) to `to` (exclusive) that begin with `prefix`.
    fn range(&self, from: Option<&OsStr>, to: Option<&OsStr>, prefix: Option<&OsStr>) -> Result<KeyRange, Failure> {
        let decode = |text: Option<&OsStr>| text.map(|text| self.decode(text).map(Bytes::from)).transpose();
        let mut range = decode(prefix)?.map_or(KeyRange::all(), |prefix| KeyRange::prefix(&prefix));
        if let Some(from) = decode(from)?
            && range.is_after_start(&from)
        {
            range.start = Bound::Included(from);
        }
        if let Some(to) = decode(to)?
            && range.is_before_end(&to)
        {
            range.end = Bound::Excluded(to);
        }
        Ok(range)
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn hexadecimal_keys_decode_and_refuse_other_digits() {
        let hex = Hex { hex: true };
        assert_eq!(hex.decode(OsStr::new("00fF1a")).unwrap(), [0, 0xff, 0x1a]);
        assert!(hex.decode(OsStr::new("0")).is_err());
        assert!(hex.decode(OsStr::new("zz")).is_err());
    }

    #[test]
    fn bounds_and_prefix_narrow_each_other() {
        let raw = Hex { hex: false };
        let range =
            |from: &str, to: &str| raw.range(Some(OsStr::new(from)), Some(OsStr::new(to)), Some(OsStr::new("b"))).unwrap();
        assert!(range("a", "c").contains(b"b") && range("a", "c").contains(b"bz") && !range("a", "c").contains(b"a"));
        assert!(range("bb", "bd").contains(b"bc") && !range("bb", "bd").contains(b"ba") && !range("bb", "bd").contains(b"bd"));
        assert!(!range("bb", "z").contains(b"c"));
    }
}
