//! Stores that an engine has written: tables that were cleared and purged, and writes to several at once.

use thermocline::{Batch, Store, Table};

use crate::program::Folder;

const CLEARED: Table = Table::source(1);
const PURGED: Table = Table::operator(2);

/// Three versions of two tables, of which the second clears the first table and writes to it again, and the last purges the other.
fn engine() -> Folder {
    let folder = Folder::new();
    let store = Store::open(folder.store()).unwrap();
    let mut batch = Batch::new();
    batch.put(CLEARED, b"a", b"1").put(CLEARED, b"b", b"1").put(PURGED, b"p", b"1");
    store.commit(batch).unwrap();
    let mut batch = Batch::new();
    batch.clear_table(CLEARED).put(CLEARED, b"b", b"2").put(CLEARED, b"c", b"2");
    store.commit(batch).unwrap();
    store.purge_table(PURGED).unwrap();
    store.close().unwrap();
    folder
}

#[test]
fn a_clear_is_shown_as_it_was_made_and_spelt_out_in_the_change_format() {
    let folder = engine();
    let text = "version 2\n  clear source:1\n  put b = 2\n  put c = 2\n";
    assert_eq!(folder.say("changes --since 1 --table source:1").ok(), text);
    let tsv = "1\tput\ta\t1\n1\tput\tb\t1\n2\tdel\ta\t\n2\tput\tb\t2\n2\tput\tc\t2\n";
    assert_eq!(folder.say("changes --since 0 --table source:1 --format tsv").ok(), tsv);
    assert_eq!(folder.say("export --history --table source:1").ok(), tsv);
    let json = folder.say("export --history --format json --table source:1").ok();
    assert!(json.contains("{\"removal\":\"clear\",\"table\":\"source:1\",\"version\":2}\n"), "{json}");
    assert_eq!(folder.say("scan --table source:1 --format tsv").ok(), "b\t2\nc\t2\n");
}

#[test]
fn a_purge_is_shown_and_refused_by_the_change_format() {
    let folder = engine();
    assert_eq!(folder.say("changes --since 2 --table operator:2").ok(), "version 3\n  purge operator:2\n");
    let refused = folder.say("export --history --table operator:2");
    assert_eq!(refused.code, Some(1));
    assert!(refused.errors.contains("table operator:2 was purged at version 3"), "{}", refused.errors);
    folder.say("scan --table operator:2 --at 1").refused(1, "version 1 was reclaimed");
}

#[test]
fn an_import_does_not_mix_with_what_an_engine_wrote() {
    let folder = engine();
    folder.import("1 put a 1; 2 put b 1").refused(1, "the store is at version 3, but its table multi does not hold this history");
}
