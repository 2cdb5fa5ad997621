//! The dump command: the bytes of one file beside their meaning. It opens no store, so that it works on damaged ones.

use std::io::{Read, Write};
use std::path::Path;

use crate::arguments::Dump;
use crate::failure::Failure;
use crate::output::put;

#[expect(clippy::disallowed_types, reason = "the file may lie anywhere, also outside of a store, and no store is opened")]
type InputFile = std::fs::File;

/// Prints a part of a file.
pub(crate) fn run(arguments: &Dump, out: &mut dyn Write) -> Result<(), Failure> {
    let path = &arguments.file;
    let refuse = || Failure::Refused {
        what: format!("`{}` is not named as a file of a store that can be dumped", path.display()),
        hint: "such files are called wal-, manifest- or sst- and 16 hexadecimal digits; a copy needs that name, too",
    };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(refuse)?;
    // The name decides alone; without it no file is read.
    thermocline::dump_file(name, &[], 0..0).ok_or_else(refuse)?;
    let bytes = read(path)?;
    let len = bytes.len() as u64;
    let from = arguments.from.min(len);
    let to = from.saturating_add(arguments.bytes).min(len);
    let dump = thermocline::dump_file(name, &bytes, from..to).ok_or_else(refuse)?;
    write!(out, "{dump}").map_err(Failure::Output)?;
    if from > 0 || to < len {
        let left_out = len - (to - from);
        put!(out, "bytes {from} to {to} of {len} were dumped; {left_out} are left out: see --from and --bytes")?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |source| Failure::input(path, source);
    let mut bytes = Vec::new();
    InputFile::open(path).map_err(failed)?.read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
