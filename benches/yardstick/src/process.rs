//! What the operating system says about this process and its files.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

use crate::failure::{Failure, Outcome};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The highest resident set since [`forget_peak`], in bytes.
    pub peak_memory_bytes: u64,
    /// The resident set now, in bytes.
    pub memory_bytes: u64,
    /// What it has caused to be written to devices, in bytes.
    pub written_bytes: u64,
}

impl Usage {
    /// As of now; zeros where the system does not tell.
    pub fn now() -> Self {
        let kib = |name| field("/proc/self/status", name) << 10;
        let io = |name| field("/proc/self/io", name);
        // Pages of files that were removed before they were written back were never written.
        let written_bytes = io("write_bytes").saturating_sub(io("cancelled_write_bytes"));
        Self { peak_memory_bytes: kib("VmHWM"), memory_bytes: kib("VmRSS"), written_bytes }
    }
}

/// Makes the highest resident set the present one.
pub fn forget_peak() {
    // Without it the peak of making the workload counts too, for every engine alike.
    let _is_forgotten = fs::write("/proc/self/clear_refs", "5").is_ok();
}

fn field(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What the files below a directory take on the disk, in bytes: of sparse files and of those filled ahead only what is there.
pub fn size_on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_on_disk(&entry.path()),
        // Blocks of 512 bytes, whatever the file system's are (stat(2)).
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}

/// Has the system forget what it holds in memory of the files below a directory. What is not written back yet stays.
pub fn forget_pages(directory: &Path) -> Outcome<()> {
    for entry in fs::read_dir(directory).map_err(Failure::machine("list a store's files"))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            forget_pages(&path)?;
        } else if let Ok(file) = fs::File::open(&path) {
            let forgotten = fadvise(file, 0, None, Advice::DontNeed);
            forgotten.map_err(|error| Failure::Machine { what: "forget a file's pages", source: error.into() })?;
        }
    }
    Ok(())
}

/// Where the control group of a worker is, by the number of its process; `None` where this system has none for memory. Its parent is
/// the group that worker and runner begin in.
pub fn memory_group(worker: u32) -> Option<PathBuf> {
    group_of(&fs::read_to_string("/proc/self/cgroup").ok()?, worker)
}

/// From the groups that a process is in, as cgroups(7) describes them.
fn group_of(groups: &str, worker: u32) -> Option<PathBuf> {
    let path_of = |has: &dyn Fn(&str) -> bool| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            has(controllers).then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let name = format!("thermocline-yardstick-{worker}");
    // Version 1 has a hierarchy for each controller, version 2 one for all.
    match path_of(&|controllers| controllers.split(',').any(|controller| controller == "memory")) {
        Some(path) => Some(Path::new("/sys/fs/cgroup/memory").join(path).join(name)),
        None => path_of(&str::is_empty).map(|path| Path::new("/sys/fs/cgroup").join(path).join(name)),
    }
}

/// Bounds what this process takes in memory from now on, pages of files that it brings in included. What it has already is not counted
/// where the system has control groups of version 1. [`memory_group`] is left for the runner to remove.
pub fn bound_memory(bytes: u64) -> Outcome<()> {
    let group = memory_group(std::process::id()).ok_or_else(|| Failure::Unsupported("no control group for memory".to_owned()))?;
    fs::create_dir(&group).map_err(Failure::machine("make a control group"))?;
    let limits = ["memory.limit_in_bytes", "memory.max"].map(|name| group.join(name));
    let limit = limits.iter().find(|limit| limit.exists());
    let limit = limit.ok_or_else(|| Failure::Unsupported("the control group has no limit of memory".to_owned()))?;
    fs::write(limit, bytes.to_string()).map_err(Failure::machine("bound the memory"))?;
    fs::write(group.join("cgroup.procs"), std::process::id().to_string()).map_err(Failure::machine("join a control group"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_for_memory_is_found_in_both_versions() {
        let found = |groups| group_of(groups, 7);
        let first = "8:pids:/\n4:cpu,memory:/user/a\n0::/user\n";
        assert_eq!(found(first), Some("/sys/fs/cgroup/memory/user/a/thermocline-yardstick-7".into()));
        assert_eq!(found("0::/user/b\n"), Some("/sys/fs/cgroup/user/b/thermocline-yardstick-7".into()));
        assert_eq!((found("8:pids:/\n"), found("")), (None, None));
    }
}
