//! Prints the page of documentation about what a store keeps in the checkpoint of its durable tier, rendered from the code's own
//! tables. `cargo xtask formats` keeps it under `docs/formats`.

use std::io::Write;

use thermocline_format::render_markdown;
use thermocline_store::format_tables;

const INTRODUCTION: &str = "\
A durable tier keeps a checkpoint: the version up to which it has taken over from the log, and the *state*, some bytes of the store's
own, which it hands back when it is opened. Both are written in the same atomic step as the entries that they stand for. These are the
bytes of the state, layout version 1. The state of the very first checkpoint, at version 0, has no bytes.

```text
byte 0         2       3      4
     +---------+-------+------+----------------+--------+-------------------+-----------+----------+
     | version | flags | zero | log base       | tables | marks of a table  | retention | checksum |
     +---------+-------+------+----------------+--------+-------------------+-----------+----------+
     '----------------------- covered by the checksum -----------------------------------'
```

- The **log base** says where the log begins. It is durable before the log is cut there, so segments before it are leftovers.
- **Marks** hold for a whole table: the versions at which it was cleared, and that of its last purge. They are those of the
  checkpoint's version; replaying the log from there brings later ones back.
- **Retention** is what may still be read: horizons, pins, policies, consumers and commands that wait, as a note that says all of it.
- Rows that were purged and still lie in the tier, since it had no room to remove them at once, are hidden by the floor; nothing is
  moved into the tier before they are gone.
";

fn main() -> std::io::Result<()> {
    let page = render_markdown("The state in a checkpoint", INTRODUCTION, &format_tables());
    let mut out = std::io::stdout();
    out.write_all(b"<!-- page: checkpoint.md -->\n")?;
    out.write_all(page.as_bytes())
}
