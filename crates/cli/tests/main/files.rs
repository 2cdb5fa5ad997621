//! Stores whose data lies in sorted files: inspect, compact, verify, and that reading changes nothing.

use std::ffi::OsStr;
use std::fmt::Write;

use thermocline::{Background, Batch, Store, Table};

use crate::program::{Folder, sample};

/// A key that a page must not take for markup, one that is no text, and one that turns a line around.
const MARKUP: &[u8] = b"<script>alert(\"1\")</script><img src=x onerror='x'>&amp;";
const NO_TEXT: &[u8] = b"\x00\xff\r\n\t\x1b[31m";
const TURNED: &[u8] = "\u{202e}\u{feff}turned".as_bytes();

/// Three versions of two tables. The first two lie in a file each, the last is in the log.
pub(crate) fn engine() -> Folder {
    let folder = Folder::new();
    let store = Store::builder(folder.store()).tiers(|tiers| tiers.hot().warm()).background(Background::ByHand);
    let store = store.log_keep(u64::MAX).open().unwrap();
    let (multi, other) = (Table::Multi, Table::operator(7));
    let mut batch = Batch::new();
    batch.put(multi, MARKUP, b"1").put(multi, b"b", b"1").put(multi, b"c", b"1").put(other, NO_TEXT, b"1");
    store.commit(batch).unwrap();
    store.flush().unwrap();
    let mut batch = Batch::new();
    batch.put(multi, b"b", b"2").remove(multi, b"c").put(multi, TURNED, b"2");
    store.commit(batch).unwrap();
    store.flush().unwrap();
    let mut batch = Batch::new();
    batch.put(multi, b"b", b"3").put(other, b"z", b"3");
    store.commit(batch).unwrap();
    store.close().unwrap();
    folder
}

/// What every read gives, of all tables and versions.
fn reads(folder: &Folder) -> String {
    let mut all = String::new();
    for table in ["multi", "operator:7"] {
        for version in 0..=3 {
            all += &folder.say(&format!("scan --format json --table {table} --at {version}")).ok();
            all += &folder.say(&format!("diff {version} 3 --format json --table {table}")).ok();
        }
        all += &folder.say(&format!("history b --table {table}")).ok();
        all += &folder.say(&format!("export --history --format json --table {table}")).ok();
    }
    all
}

#[test]
fn inspect_says_what_the_files_are() {
    let text = engine().say("inspect").ok();
    for part in [
        "version: 3, healthy\n",
        "checkpoint: 2: what came after it, up to version 3, is in the log and in memory\n",
        "read amplification: at most 2 files for a point read: 2 of level 0,",
        "write amplification: 1.0 since the store was made: ",
        "pins: none\n",
        "\nlevel  files",
        "\ntable       files",
        "\nsst-0000000000000001 ",
        "\nsst-0000000000000002 ",
        "operator:7 \\u{0}\\xff\\r\\n\\t\\u{1b}[31m\n",
        "multi \\u{202e}\\u{feff}turned\n",
    ] {
        assert!(text.contains(part), "expected {part:?} in:\n{text}");
    }
}

#[test]
fn inspect_has_everything_as_json() {
    let folder = engine();
    let json = folder.json("inspect --json");
    assert_eq!((&json["last_version"], &json["checkpoint"], &json["horizon"]), (&3.into(), &2.into(), &0.into()));
    assert_eq!((&json["read_files_max"], &json["health"]), (&2.into(), &"healthy".into()));
    assert_eq!(json["session"]["written_bytes"], 0);
    assert!(json["pins"].as_array().unwrap().is_empty());
    assert!(json["space_amplification"].as_f64().unwrap() > 1.0 && json["log"]["bytes"].as_u64().unwrap() > 0);

    let files = json["files"].as_array().unwrap();
    let sizes: Vec<u64> = files.iter().map(|file| file["bytes"].as_u64().unwrap()).collect();
    for (name, content) in folder.content().iter().filter(|(name, _)| name.starts_with("sst-")) {
        let file = files.iter().find(|file| file["name"] == name.as_str()).unwrap();
        assert_eq!(file["bytes"], content.len());
    }
    let first = files.iter().find(|file| file["name"] == "sst-0000000000000001").unwrap();
    assert_eq!(first["first"], serde_json::json!({ "table": "multi", "key": std::str::from_utf8(MARKUP).unwrap() }));
    assert_eq!(first["last"], serde_json::json!({ "table": "operator:7", "key": { "hex": "00ff0d0a091b5b33316d" } }));
    assert_eq!((&first["oldest_version"], &first["newest_version"], &first["level"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!((&first["keys"], &first["entries"], &first["tables"][1]["keys"]), (&4.into(), &4.into(), &1.into()));

    let level = &json["levels"][0];
    assert_eq!((&level["level"], &level["files"], &level["bytes"]), (&0.into(), &2.into(), &sizes.iter().sum::<u64>().into()));
    assert_eq!((&level["entries"], &level["tombstones"], &level["old_versions"]), (&7.into(), &1.into(), &0.into()));
    assert_eq!(json["total"]["entries"], 7);
    let tables = json["tables"].as_array().unwrap();
    assert_eq!((&tables[0]["table"], &tables[0]["files"], &tables[0]["entries"]), (&"multi".into(), &2.into(), &6.into()));
    let estimates = tables.iter().map(|table| table["bytes_estimate"].as_u64().unwrap());
    assert!(estimates.sum::<u64>().abs_diff(sizes.iter().sum()) <= 4);
}

#[test]
fn the_page_stands_alone_and_takes_no_key_for_markup() {
    let folder = engine();
    let path = folder.path("page.html");
    let said = folder.run("inspect", [OsStr::new("--html"), path.as_os_str()]).ok();
    assert_eq!(said, format!("wrote {}\n", path.display()));
    let page = std::fs::read_to_string(path).unwrap();
    for never in ["<script", "<img", "onerror=\"", "src=\"", "href=", "http:", "https:", "url(", "\u{202e}", "\x1b", "\0"] {
        assert!(!page.contains(never), "{never:?}");
    }
    // Of a long key there are both ends, escaped.
    assert!(page.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;\u{2026}or=&#39;x&#39;&gt;&amp;amp;"), "{page}");
    assert_eq!(page.matches("<rect class=\"file level0\"").count(), 2);
    assert!(page.contains("sst-0000000000000001, level 0") && page.contains("versions 3 to 3 are in the log"));
    let tags = |tag: &str| page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
    for tag in ["svg", "title", "table", "td", "tr", "span", "dl", "dd", "p", "text", "div", "h2", "body"] {
        assert_eq!(tags(tag), page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}

#[test]
fn a_page_that_cannot_be_written_is_named() {
    let folder = engine();
    let path = folder.path("missing/page.html");
    folder.run("inspect", [OsStr::new("--html"), path.as_os_str()]).refused(1, "cannot write `");
}

#[test]
fn a_store_without_files_is_inspected_too() {
    let folder = Folder::new();
    Store::open(folder.store()).unwrap().close().unwrap();
    let text = folder.say("inspect").ok();
    assert!(text.contains("checkpoint: none") && text.contains("files: 0 B in 0 files") && !text.contains("\nlevel"), "{text}");
    assert!(text.contains("read amplification: none"), "{text}");
    let json = folder.json("inspect --json");
    assert_eq!(json["files"], serde_json::json!([]));
    assert!(json["space_amplification"].is_null());
    let path = folder.path("page.html");
    folder.run("inspect", [OsStr::new("--html"), path.as_os_str()]).ok();
    assert!(!std::fs::read_to_string(path).unwrap().contains("<svg"));
}

#[test]
fn reading_changes_no_store_whether_it_has_files_or_not() {
    for folder in [engine(), sample()] {
        let before = folder.content();
        let page = folder.path("page.html");
        for line in
            ["scan", "get b", "history b", "diff 0 3", "changes --since 0", "stats", "verify", "inspect", "inspect --json"]
        {
            folder.say(line).ok();
        }
        folder.run("inspect", [OsStr::new("--html"), page.as_os_str()]).ok();
        assert!(before == folder.content(), "the directory has changed");
    }
    // A store that an engine keeps in memory alone stays one.
    let folder = Folder::new();
    let open = || Store::builder(folder.store()).tiers(thermocline::TierSet::hot).open();
    let store = open().unwrap();
    let mut batch = Batch::new();
    batch.put(Table::Multi, b"k", b"v");
    store.commit(batch).unwrap();
    store.close().unwrap();
    let before = folder.content();
    assert_eq!(folder.say("scan").ok(), "k = v\n");
    folder.say("inspect").ok();
    assert!(before == folder.content());
    open().unwrap();
}

#[test]
fn compact_puts_each_key_in_one_place_and_changes_no_answer() {
    let folder = engine();
    let before = reads(&folder);
    let json = folder.json("compact --format json");
    assert_eq!((&json["before"]["files"], &json["before"]["entries"]), (&2.into(), &7.into()));
    assert_eq!((&json["after"]["files"], &json["after"]["entries"]), (&1.into(), &9.into()));
    assert!(json["session"]["rewritten_bytes"].as_u64().unwrap() > 0);
    assert!(reads(&folder) == before, "a read gives something else");
    let inspected = folder.json("inspect --json");
    assert_eq!((&inspected["read_files_max"], &inspected["checkpoint"]), (&1.into(), &3.into()));
    assert_eq!(inspected["levels"][0]["old_versions"], 3);
    // Also for those who only look.
    let times = inspected["write_amplification"].as_f64().unwrap();
    assert!(times > 1.0 && times < 3.0, "{times}");
    assert_eq!(inspected["rewritten_total_bytes"], inspected["total"]["bytes"]);

    let text = folder.say("compact").ok();
    let lines: Vec<&str> = text.lines().collect();
    let [before, after, written] = lines[..] else { panic!("{text}") };
    assert!(
        before.starts_with("before: 1 files with ")
            && before.contains(" hold 9 entries, of them 3 older versions and 1 tombstones")
    );
    assert!(after.starts_with("after: 1 files"), "{after}");
    assert!(written.starts_with("wrote ") && written.ends_with(", of that 0 B by rewriting"), "{written}");
}

#[test]
fn compact_rewrites_nothing_without_keys_of_the_range() {
    let folder = Folder::new();
    let store = Store::builder(folder.store()).tiers(|tiers| tiers.hot().warm()).background(Background::ByHand).open().unwrap();
    for (table, value) in [(Table::source(1), b"1"), (Table::source(2), b"1"), (Table::source(2), b"2")] {
        let mut batch = Batch::new();
        batch.put(table, b"k", value);
        store.commit(batch).unwrap();
        store.flush().unwrap();
    }
    store.close().unwrap();
    let inspected = || {
        let json = folder.json("inspect --json");
        (json["files"].clone(), json["tables"][1]["files"].as_u64().unwrap())
    };
    let before = inspected();
    assert_eq!(before.1, 2);
    folder.say("compact --table source:2 --from x").ok();
    folder.say("compact --table source:3").ok();
    assert_eq!(inspected(), before, "there is nothing to rewrite");
    folder.say("compact --table source:2 --from k --to l").ok();
    assert_eq!(inspected().1, 1);
    assert_eq!(folder.say("history k --table source:2").ok(), "version 3: 2\nversion 2: 1\n");
}

#[test]
fn compact_moves_a_store_that_lay_in_its_log_into_files() {
    let folder = sample();
    let before = folder.say("changes --since 0").ok();
    let state = folder.say("scan --at 2").ok();
    let json = folder.json("compact --format json");
    assert_eq!((&json["before"]["files"], &json["after"]["files"], &json["after"]["entries"]), (&0.into(), &1.into(), &6.into()));
    assert_eq!((folder.say("changes --since 0").ok(), folder.say("scan --at 2").ok()), (before, state));
    let stats = folder.say("stats").ok();
    assert!(stats.contains(" in 1 files, up to version 4\nlevel ") && stats.contains(" in 1 files, 6 entries\n"), "{stats}");
}

#[test]
fn the_log_stays_unless_it_is_let_go() {
    let folder = sample();
    let before = folder.say("changes --since 0").ok();
    folder.say("compact --log-keep 0").ok();
    // What came after the compaction is there.
    folder.import("1 put a 1; 1 put b 1; 2 put b 2; 2 put c 2; 4 del a -; 4 put d 4; 5 put e 5").ok();
    assert_eq!(folder.say("changes --since 4").ok(), "version 5\n  put e = 5\n");
    assert_ne!(before, "");
    let refused = folder.say("changes --since 0");
    refused.refused(1, "version 0 was reclaimed");
    refused.refused(1, "`--log-keep` says how much stays");
    assert_eq!(folder.say("history b").ok(), "version 2: 2\nversion 1: 1\n");
    assert_eq!(folder.say("diff 0 5").ok(), "+ b = 2\n+ c = 2\n+ d = 4\n+ e = 5\n");
}

#[test]
fn an_import_in_little_memory_says_what_it_wrote_to_files() {
    let folder = Folder::new();
    let mut lines = String::new();
    for version in 1..=3000_u64 {
        writeln!(lines, "{version}\tput\tkey/{:03}\tvalue of version {version}", version * 7 % 400).unwrap();
    }
    let file = folder.write("many.tsv", &lines);
    let options = ["--hot-budget", "64KiB", "--memory-budget", "1 MiB", "--log-keep", "0", "--tsv"].map(OsStr::new);
    let said = folder.run("import", options.into_iter().chain([file.as_os_str()])).ok();
    assert!(
        said.contains("imported 3000 commits")
            && said.contains("\nwrote ")
            && said.ends_with(" bytes for each byte of keys and values\n"),
        "{said}"
    );
    let json = folder.json("stats --format json");
    let (checkpoint, files) = (json["checkpoint"].as_u64().unwrap(), &json["files"]);
    assert!(checkpoint > 1000 && files["files"].as_u64().unwrap() > 0, "{json}");
    let levels: u64 = json["levels"].as_object().unwrap().values().map(|level| level["files"].as_u64().unwrap()).sum();
    assert_eq!(files["files"], levels);
    let tsv = folder.say("stats --format tsv").ok();
    assert!(tsv.contains(&format!("checkpoint\t{checkpoint}\n")) && tsv.contains("files.files\t"), "{tsv}");
    let too_much = folder.run("import", ["--hot-budget", "1GiB", "--tsv", "changes.tsv"]);
    assert_eq!(too_much.code, Some(1), "{}", too_much.errors);
    assert_eq!(folder.say("scan --limit 1 --at 400").ok(), "key/000 = value of version 400\n");
}

#[test]
fn verify_reads_the_files_too() {
    let folder = engine();
    assert!(folder.say("verify").ok().contains(" bytes in 3 files are intact: 7 entries\n"));
    let json = folder.json("verify --format json");
    assert_eq!((&json["files"]["files"], &json["files"]["entries"]), (&3.into(), &7.into()));
}

/// Each file loses or changes a byte in turn: the commands give the answers of before, or name the file that is damaged.
#[test]
fn damage_in_files_is_named_or_harmless_and_never_misread() {
    let folder = engine();
    folder.say("compact --log-keep 0").ok();
    let reads = |folder: &Folder| (0..=3).map(|at| folder.say(&format!("scan --format json --at {at}"))).collect::<Vec<_>>();
    let expected: Vec<String> = reads(&folder).into_iter().map(crate::program::Ran::ok).collect();
    let mut found = 0;
    for (name, bytes) in folder.content().iter().filter(|(name, _)| name.starts_with("sst-")) {
        let path = folder.store().join(name);
        for place in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            for (read, expected) in reads(&folder).into_iter().zip(&expected) {
                match read.code {
                    Some(0) => assert_eq!(&read.text, expected, "{name} byte {place}"),
                    _ => assert!(
                        read.code == Some(1) && read.errors.contains(name.as_str()),
                        "{name} byte {place}: {}",
                        read.errors
                    ),
                }
            }
            let verified = folder.say("verify");
            assert_eq!(verified.code, Some(1), "{name} byte {place}: {}", verified.text);
            assert!(verified.errors.contains(name.as_str()), "{name} byte {place}: {}", verified.errors);
            found += 1;
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(found >= 40);
    folder.say("verify").ok();
}
