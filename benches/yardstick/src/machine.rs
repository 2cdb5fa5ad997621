//! What the figures were measured on: named so that others can compare, without naming host or place.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use rustix::fs::statfs;
use serde_json::{Value, json};

use crate::failure::{Failure, Outcome};

/// `f_type` of a file system in memory, where a sync is no sync (`TMPFS_MAGIC` in Linux' `magic.h`).
const TMPFS: u64 = 0x0102_1994;
/// `f_type` of the file systems worth telling apart, from the same place.
const FILE_SYSTEMS: [(u64, &str); 5] =
    [(0xEF53, "ext4"), (0x5846_5342, "xfs"), (0x9123_683E, "btrfs"), (0x794C_7630, "overlay"), (TMPFS, "tmpfs")];

/// The machine, the tools and the source.
#[derive(Debug)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_gib: u64,
    kernel: String,
    file_system: String,
    free_gib: u64,
    is_tmpfs: bool,
    rustc: String,
    commit: String,
    date: String,
}

impl Machine {
    /// `directory` is where the stores will lie.
    pub fn look(directory: &Path) -> Outcome<Self> {
        let space = statfs(directory).map_err(|source| Failure::Machine { what: "ask for free space", source: source.into() })?;
        let kind = u64::try_from(space.f_type).unwrap_or_default();
        let name = FILE_SYSTEMS.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| (*name).to_owned());
        let free_bytes = space.f_bavail * u64::try_from(space.f_bsize).unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let memory_kib: u64 = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_gib: memory_kib >> 20,
            kernel: kernel.trim().to_owned(),
            file_system: name.unwrap_or_else(|| format!("file system {kind:#x}")),
            free_gib: free_bytes >> 30,
            is_tmpfs: kind == TMPFS,
            rustc: output("rustc", &["--version"]),
            date: output("date", &["--utc", "+%F"]),
            commit: output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"]),
        })
    }

    /// The processors that this process may use.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// Two lines about the machine, and a warning for each way in which it spoils the figures.
    ///
    /// # Errors
    /// As `out`.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { cpu, cores, memory_gib, kernel, file_system, free_gib, rustc, commit, date, is_tmpfs } = self;
        writeln!(out, "{cpu}, {cores} cores, {memory_gib} GiB; Linux {kernel}; {file_system}, {free_gib} GiB free")?;
        writeln!(out, "{rustc}; commit {commit}; {date}")?;
        if *is_tmpfs {
            writeln!(
                out,
                "WARNING: the stores lie in memory, where a sync is no sync: the rows with `Sync` mean nothing; see --dir"
            )?;
        }
        if *cores < 2 {
            writeln!(out, "WARNING: one processor: the rows with two threads mean nothing")?;
        }
        Ok(())
    }

    /// The same for reports.
    pub fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu, "cores": self.cores, "memory_gib": self.memory_gib, "kernel": self.kernel,
            "file_system": self.file_system, "rustc": self.rustc, "commit": self.commit, "date": self.date,
        })
    }
}

/// The first `name: value` line of a file of the kernel's.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// What a tool prints; a report must not fail for want of a tool.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(|| format!("{program} unknown"))
}
