//! Prints the pages of documentation about the warm tier's formats, rendered from the code's own tables. `cargo xtask formats`
//! keeps them under `docs/formats`.

use std::io::Write;

use thermocline_format::render_markdown;
use thermocline_warm::{manifest_format_tables, sst_format_tables};

const MANIFEST: &str = "\
The manifest of the warm tier says which sorted files are live, what they hold, and what belongs to the tier as a whole. It is a
file `manifest-%016x` of kind `manifest`, format version 1; there is one at a time, and for a moment two. What all files have in
common, the envelope and how checksums are salted, is in [envelope.md](envelope.md).

```text
byte 0          64                4096       n * 4096
     +----------+-----------------+----------+------+---------+------+---------+--
     | envelope | manifest header | snapshot | edit | witness | edit | witness | ..
     +----------+-----------------+----------+------+---------+------+---------+--
     '---------- a page ----------'---- records, each a whole number of pages ----
```

- A **page** has 4096 bytes and is written once. So no write can harm what another made durable, on devices that write sectors of
  512 or of 4096 bytes, also where a loss of power spoils the whole sector.
- A **record** has a header with a checksum of its own and a payload. It names the header checksum of the record before, so that
  all of them are a chain. It is whole only if a copy of its own header checksum ends its last page: a write that was refused
  half-way is never taken for one that worked.
- A **snapshot** is the first record of a file, and no other. It is all that the manifest says at that moment.
- An **edit** changes that, all or nothing. It is durable when it is acknowledged: each is synced before the next is written.
- A **witness** carries nothing. It is written when an edit has become durable, and says so by its *synced through*. It is not
  synced itself; the next edit's sync makes it durable, and so does the system when it likes.
- Kinds that a release does not know, with right checksums, were written by a newer release. Kind 0 is never valid, so zeros are
  no record.

## How one manifest takes the place of another

When the file has grown to four times its length with the snapshot alone, and to a mebibyte at least; when a write to it has
failed, since nothing is written behind such a write; and whenever it is opened for writing, since what can be read need not be
durable:

1. The new file gets its length of one page, which is synced; then its header, which is synced; then its snapshot, which is synced.
2. The directory is synced. The new file is complete, durable, and found.
3. The old file is removed, and the directory is synced. It will not come back.
4. Only now is anything written to the new file that the old one does not say.

Numbers only grow and are never used again, also those of files that could not be finished. After a failed sync nothing is written
and nothing is removed any more: opening finds out what is durable.

## How it is read back

The manifest with the highest number that is complete (its header and its snapshot are good) counts. It ends with the last good
record.

| what is found | verdict |
| --- | --- |
| zeros, or the end of the file, behind the good records | the end |
| a bad record, and none behind it says that the file was durable beyond its beginning | a lost write: cut, and reported |
| a bad record, and one behind it says so | damage |
| a record with right checksums that cannot stand there: sequence, chain, kind, impossible content | damage |
| a bad header, and the file goes on behind its first page | damage, or somebody else's file |
| a bad header in a file shorter than a page, other than zeros | damage (somebody has cut it), or somebody else's file |
| a bad header in a file of exactly a page, or a file of zeros up to a page | begun and never in use |
| a bad snapshot, no record behind it, and the manifest that it was to replace is complete | begun and never in use |
| a bad snapshot, and the manifest that it was to replace is gone | damage |
| a bad snapshot in a store's first manifest, no record behind it, and no sorted file | a store that was never finished: none |
| sorted files, and no complete manifest | damage |
| another store's id; a newer format version or feature | refused by name |
| an older manifest with an edit that the one that took its place does not know | damage |

What is damaged or refused is left as it is. Opening for reading only follows the same rules and writes nothing.

What stays undecidable: damage to the last edit, or to the witness before it, in the moment between its sync and the time when its
own witness has reached the device, looks like a write that did not survive if the power fails in that moment. A file that
somebody has cut off between two records looks like one that was not written further.
";

const SST: &str = "\
A sorted file of the warm tier holds entries (table, key, version, value or tombstone) in order. It is a file `sst-%016x` of kind `sst`, format
version 1, written once and never changed. What all files have in common, the envelope and how checksums are salted, is in
[envelope.md](envelope.md); which files are live says the [manifest](manifest.md).

```text
byte 0          64                                                       length - 92   length
     +----------+-----------+-----------+-----+-------+------------+---------+--------+
     | envelope | partition | partition | ... | index | dictionary | summary | footer |
     |          |           |           |     |       | if any     | if any  |        |
     +----------+-----------+-----------+-----+-------+------------+---------+--------+

partition:
     +--------+---------+---------+-----+--------+-----------+--------+
     | value  | history | history | ... | main   | partition | filter |
     | apart  | block   | block   |     | blocks | index     |        |
     +--------+---------+---------+-----+--------+-----------+--------+
     '------ frames, main blocks in runs --------'
```

- A **partition** holds the keys of some main blocks, one after the other, with all that belongs to them: its index and its filter say all
  about them, and are read and given up together. It is closed behind the main block with which it has 256, or 1,024 history blocks
  (or less, if the options say so), and never has more than 256 main blocks. The **index** of the file says where each begins; it is all that
  stays in memory.
- A **main block** holds each of its keys once, with the newest entry. It begins with **lines** of 64 bytes: of ten keys the four bytes after
  what all keys of the block have in common, and where their entries begin. The first head of each line is in the partition index, so
  that a search reads one line and one entry.
- A **history block** holds older versions, in **groups** of one key each, newest first. Who reads the present never comes here.
- A **value apart** is one of 4096 bytes and more: a frame of its own, which a rewrite copies as it is.
- A **frame** is what is read and checked at once. Its checksum covers where it belongs, and stands also in what refers to it: the partition
  index for blocks, the entry for values apart, the index for the indexes and filters of partitions, the footer for the rest, and the manifest
  for the footer. So whatever is in the wrong place is found. Only blocks and values apart are compressed.
- The **filter** of a partition is a split block Bloom filter over the hashes of table and key (XXH3-64 of the key, seeded with the table's code:
  tag in bits 32 and up, id below), as the Parquet format specifies it: the upper half of the hash chooses one of the blocks of eight u32,
  the lower half one bit in each of its words.
- Blocks are closed at 120 keys, where a table ends, and where one more entry of the average size would take them over 16 KiB before compression (or
  less: if the options say so, or half of it while the tier is one to eight times as large as its cache).
";

fn main() -> std::io::Result<()> {
    let pages = [
        ("manifest.md", render_markdown("The manifest", MANIFEST, &manifest_format_tables())),
        ("sst.md", render_markdown("Sorted files", SST, &sst_format_tables())),
    ];
    let mut out = std::io::stdout();
    for (name, page) in pages {
        write!(out, "<!-- page: {name} -->\n{page}")?;
    }
    Ok(())
}
