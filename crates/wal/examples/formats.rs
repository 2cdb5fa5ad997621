//! Prints the page of documentation about the log's format, rendered from the code's own tables. `cargo xtask formats` keeps it under
//! `docs/formats`.

use std::io::Write;

use thermocline_format::render_markdown;
use thermocline_wal::format_tables;

const INTRODUCTION: &str = "\
The log of a store is a chain of segments, files `wal-%016x` of kind `wal`, format version 1. What all files have in common, the envelope
and how checksums are salted, is in [envelope.md](envelope.md); how the log is read back after a crash is in
[recovery.md](../recovery.md).

```text
byte 0          64               4096
     +----------+----------------+--------+--------+---------+--------+---------+-----------------+
     | envelope | segment header | record | record | padding | record | padding | zeros, not used |
     +----------+----------------+--------+--------+---------+--------+---------+-----------------+
                                 '-------- group ------------'---- group -------'
```

- A **segment** is begun once and never written again where it holds durable records. Its header is durable before the first record
  is written; it says where the segment before it ends, and everything there is durable by then. Numbers only grow and are never used again.
- A **group** is what was written by one call: its records count only if all of them are there, and if padded, only if the copy of the last
  header checksum at the padding's very end is there too. So a write that failed half-way is never taken for one that worked.
- A **record** has a header with a checksum of its own and a payload. Sequences are contiguous over the whole chain. A record also says how
  far its segment was known to be durable when it was made: that is what tells rot from a torn write.
- **Padding** fills a group up to the unit in the segment's header before it is synced, so that what is written later touches no sector
  that holds durable records. Groups that are not synced are not padded; the sync that covers them writes a witness record, padded.
- **Kinds** of records: genesis is the first of a log; commit, ensure table and purge table are the store's history; witness says only
  how far the segment is durable; close says that too, and that the log was closed. Kind 0 is never valid, so zeros are no record. A kind
  that a release does not know, with right checksums, was written by a newer release.
- A segment that was begun by opening the log may start with records that were **carried over**: those that were readable but not known
  to be durable. They keep their order and get new sequences, places and checksums. If nothing of the last segment was known to be durable,
  the new one takes its place: it continues from the same predecessor, names what it replaces, and that one is removed afterwards.
- A log may be **cut**: its first segments are removed once a durable tier holds what they say. The segment that is then the first still
  names the one before it; where the log begins is kept elsewhere, together with what the genesis said.
";

fn main() -> std::io::Result<()> {
    let page = render_markdown("The commit log", INTRODUCTION, &format_tables());
    std::io::stdout().write_all(page.as_bytes())
}
