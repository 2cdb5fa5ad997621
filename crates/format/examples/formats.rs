//! Prints the page of documentation about what all files have in common, rendered from the code's own tables.
//! `cargo xtask formats` keeps it under `docs/formats`.

use std::io::Write;

use thermocline_format::{ENVELOPE_TABLE, FileKind, render_markdown};

const INTRODUCTION: &str = "\
Every file of a store begins with the same 64 bytes, the envelope. They say which file this is and which release can read it.

Integers are little-endian and have explicit widths. A *varint* is an unsigned integer in LEB128: seven bits a byte, the lowest first, the
top bit set in all bytes but the last, at most 10 bytes, and always in its shortest form. Reserved bytes are written as zero and checked to
be zero. A file contains no path: its name follows from its kind and number, as `kind-%016x`.

**What never changes.** Every format version of every kind keeps the place and meaning of the magic, the kind, the format version, the
three sets of feature bits and the checksum, and the range that the checksum covers. So an older release can tell a newer file from a
damaged one.

**Order of the checks.** Length; magic; checksum; kind, format version and feature bits; fields; relations. The checksum comes before the
format version is acted upon, so that a flipped bit in the version is damage and not \"a newer release\".

| what is found | verdict |
| --- | --- |
| fewer than 64 bytes | damage |
| 64 zero bytes | damage: the length reached the disk, the data did not |
| a wrong magic, but a right checksum | damage |
| any other wrong magic | foreign file |
| a wrong checksum | damage |
| a kind or format version above those known, or an unknown bit among the incompatible features | unsupported: a newer release wrote it |
| an unknown bit among the read-only features | unsupported for writing, readable |
| kind 0, format version 0, or reserved bytes that are not zero | damage |
| another store's id | foreign file |
| another kind or number than the file's name says | damage: the file is not where it was written |

**Checksums** are XXH3, of 64 bits for records and blocks and of 128 bits for footers and whole files. They find accidents, not attackers.
All but the envelope's own are seeded with the place that the bytes belong to, so that valid bytes in the wrong place are found out:

```text
salt         = XXH3-64(seed 0, store id (16 bytes) | kind (u16) | file number (u64))
seed(offset) = mix(salt + offset * 0x9e3779b97f4a7c15)              arithmetic modulo 2^64
mix(z)       : z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9
               z = (z ^ z >> 27) * 0x94d049bb133111eb
               z =  z ^ z >> 31                                     the finaliser of SplitMix64
```

The offset is that of the structure's first byte, counted from the start of the file.
";

fn main() -> std::io::Result<()> {
    let mut page = render_markdown("What all files have in common", INTRODUCTION, &[ENVELOPE_TABLE]);
    page.push_str(
        "\n## Kinds\n\n| kind | name | what | format versions read | version written |\n| ---: | --- | --- | --- | ---: |\n",
    );
    page.extend(FileKind::ALL.iter().map(|kind| {
        let (oldest, newest) = (kind.version_min(), kind.version_max());
        format!("| {} | `{}` | {} | {oldest} to {newest} | {newest} |\n", kind.code(), kind.name(), kind.meaning())
    }));
    std::io::stdout().write_all(page.as_bytes())
}
