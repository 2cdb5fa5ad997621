//! What the operating system says about this process and its files.

use std::fs;
use std::path::Path;

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

/// What the files below a directory hold, in bytes: of sparse files what is on the disk, of those with room ahead only what is written.
pub fn size_on_disk(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_on_disk(&entry.path()),
        // Blocks of 512 bytes, whatever the file system's are (stat(2)).
        Ok(metadata) => metadata.len().min(metadata.blocks() * 512),
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}
