//! Tests of the authority by itself.

use std::time::Duration;

use super::*;

const ROWS: EntryKind = EntryKind::source(7);
const OTHERS: EntryKind = EntryKind::Multi;

fn pin(versions: PinVersions, scope: Scope) -> Pin {
    Pin { versions, scope, created: Moment::default(), lease_until: None }
}

fn with(pins: &[(&str, Pin)], horizon: u64) -> Authority {
    let mut authority = Authority::default();
    for (name, pin) in pins {
        let change = authority.pin(name, pin.clone()).unwrap();
        authority.apply(&change);
    }
    authority.apply(&Change::Horizon(Version(horizon)));
    authority
}

fn readable(authority: &Authority, table: EntryKind, key: &str) -> Vec<u64> {
    let is_readable = |version: &u64| authority.check_read(table, &KeyRange::new(key..=key), Version(*version)).is_ok();
    (0..12).filter(is_readable).collect()
}

#[test]
fn pin_of_a_table_or_a_range_keeps_no_other() {
    let range = KeyRange::new("b".."d");
    let pins = [
        ("one", pin(PinVersions::One(Version(3)), Scope::Table(ROWS))),
        ("from", pin(PinVersions::From(Version(7)), Scope::Range(ROWS, range.clone()))),
    ];
    let authority = with(&pins, 10);
    assert_eq!(readable(&authority, ROWS, "a"), [3, 10, 11]);
    assert_eq!(readable(&authority, ROWS, "c"), [3, 7, 8, 9, 10, 11]);
    assert_eq!(readable(&authority, OTHERS, "c"), [10, 11]);
    assert!(authority.check_read(ROWS, &range, Version(8)).is_ok());
    assert!(authority.check_read(ROWS, &KeyRange::all(), Version(8)).is_err());
    assert!(authority.check_read(ROWS, &KeyRange::all(), Version(3)).is_ok());
    assert_eq!(*authority.retained().of(OTHERS, b"c"), Retained::new(Version(10), []));
}

#[test]
fn what_is_gone_cannot_be_pinned_and_is_named() {
    let mut authority = with(&[("old", pin(PinVersions::From(Version(5)), Scope::Table(ROWS)))], 10);
    let refused = |authority: &Authority, versions, scope| authority.pin("new", pin(versions, scope)).unwrap_err().to_string();
    let gone = "version 6 was reclaimed: reads are possible from version 10 on";
    assert_eq!(refused(&authority, PinVersions::One(Version(6)), Scope::All), gone);
    assert_eq!(refused(&authority, PinVersions::From(Version(6)), Scope::Table(OTHERS)), gone);
    assert!(authority.pin("new", pin(PinVersions::From(Version(6)), Scope::Table(ROWS))).is_ok());
    assert!(refused(&authority, PinVersions::From(Version(4)), Scope::Table(ROWS)).contains("from version 5 on"));
    // A table whose policy keeps less than the others is named.
    authority.apply(&Change::Table { table: OTHERS, horizon: Version(11), steps: vec![] });
    assert!(refused(&authority, PinVersions::One(Version(10)), Scope::All).starts_with("table multi: "));
    assert!(authority.pin("", pin(PinVersions::One(Version(11)), Scope::All)).is_err());
    assert!(authority.pin(&"x".repeat(256), pin(PinVersions::One(Version(11)), Scope::All)).is_err());
    assert!(authority.release("nobody").unwrap_err().to_string().contains("nobody"));
}

#[test]
fn newest_versions_of_a_kind_are_kept_when_the_horizon_of_the_store_moves_first() {
    let mut authority = with(&[], 0);
    let change = authority.set_policy(PolicyScope::Sources, Some(Retention::NewestVersions(3))).unwrap();
    authority.apply(&change);
    authority.apply(&Change::Horizon(Version(9)));
    let retained = authority.retained();
    let keeps = |table, position| retained.of(table, b"k").keeps(Version(5), Some(Version(6)), position);
    assert!(keeps(ROWS, 2) && !keeps(ROWS, 3));
    assert!(!keeps(OTHERS, 2) && !keeps(EntryKind::operator(1), 2), "no sources");
    // A policy of one table is none of the others'.
    let of_table = authority.set_policy(PolicyScope::Table(ROWS), Some(Retention::NewestVersions(9))).unwrap();
    authority.apply(&of_table);
    let retained = authority.retained();
    let keeps = |table, position| retained.of(table, b"k").keeps(Version(5), Some(Version(6)), position);
    assert!(keeps(ROWS, 8) && keeps(EntryKind::source(8), 2));
    assert!(!keeps(EntryKind::source(8), 3) && !keeps(OTHERS, 0) && !keeps(EntryKind::operator(1), 0));
}

#[test]
fn reader_below_the_horizon_of_a_table_reads_the_others_only() {
    let mut authority = with(&[], 5);
    authority.apply(&Change::Table { table: ROWS, horizon: Version(9), steps: vec![] });
    let mut at = |version| authority.pin_reader(Version(version), "snapshot", Location::caller(), Moment::default());
    assert!(at(4).is_err());
    assert!(at(9).unwrap().1.is_none());
    let (number, granted) = at(7).unwrap();
    let granted = granted.unwrap();
    assert!(granted.check_read(OTHERS, &KeyRange::all(), Version(7)).is_ok());
    assert!(granted.check_read(ROWS, &KeyRange::all(), Version(7)).is_err());
    authority.apply(&Change::Horizon(Version(10)));
    assert_eq!(readable(&authority, OTHERS, "k"), [7, 9, 10, 11]);
    assert_eq!(readable(&authority, ROWS, "k"), [9, 10, 11]);
    authority.let_go(Version(7), number);
    assert_eq!(readable(&authority, OTHERS, "k"), [9, 10, 11]);
}

#[test]
fn consumer_holds_from_where_it_was_until_its_position_is_durable() {
    let mut authority = Authority::default();
    let put = |authority: &mut Authority, position, scope: Scope| {
        let (position, since) = (Version(position), Moment::default());
        let (versions_from, holding) = (Version::ZERO, Holding::All);
        let state = ConsumerState { position, versions_from, scope, holding, is_overtaken: false, since };
        let change = authority.set_consumer("view", state, true).unwrap();
        authority.apply(&change);
    };
    put(&mut authority, 3, Scope::Table(ROWS));
    assert_eq!((authority.unsettled(), authority.log_from()), (vec![], Some(Version(3))));
    authority.apply(&Change::Horizon(Version(10)));
    put(&mut authority, 6, Scope::Table(ROWS));
    let noted = authority.unsettled();
    put(&mut authority, 8, Scope::Table(ROWS));
    assert_eq!((authority.log_from(), readable(&authority, ROWS, "k")), (Some(Version(3)), (3..12).collect()));
    authority.settle(&noted);
    assert_eq!((authority.log_from(), readable(&authority, ROWS, "k")), (Some(Version(6)), (6..12).collect()));
    authority.settle(&authority.unsettled());
    assert_eq!((authority.unsettled(), readable(&authority, ROWS, "k")), (vec![], (8..12).collect()));
    // What was held of one table says nothing of another.
    put(&mut authority, 11, Scope::Table(OTHERS));
    assert_eq!((readable(&authority, ROWS, "k"), readable(&authority, OTHERS, "k")), (vec![10, 11], vec![10, 11]));
    assert_eq!(authority.log_from(), Some(Version(11)));
}

#[test]
fn what_is_about_to_be_pinned_stays_when_the_reader_that_pinned_it_goes() {
    let mut authority = Authority::default();
    let (number, _) = authority.pin_reader(Version(3), "snapshot", Location::caller(), Moment::default()).unwrap();
    authority.apply(&Change::Horizon(Version(10)));
    let change = authority.pin("report", pin(PinVersions::One(Version(3)), Scope::Table(ROWS))).unwrap();
    authority.reserve(&change);
    authority.let_go(Version(3), number);
    assert_eq!(readable(&authority, ROWS, "k"), [3, 10, 11]);
    assert_eq!(readable(&authority, OTHERS, "k"), [10, 11]);
    // Nor is it purged meanwhile.
    assert!(authority.check_no_pin_below(ROWS, Version(12)).unwrap_err().to_string().contains("\"report\""));
    assert!(authority.check_no_pin_below(OTHERS, Version(12)).is_ok());
    authority.apply(&change);
    authority.end_reservation();
    assert_eq!(readable(&authority, ROWS, "k"), [3, 10, 11]);

    let refused = authority.pin("another", pin(PinVersions::One(Version(4)), Scope::Table(ROWS)));
    assert!(refused.is_err());
    authority.reserve(&Change::Release { name: "report".into() });
    authority.apply(&authority.release("report").unwrap());
    assert_eq!(readable(&authority, ROWS, "k"), [10, 11]);
}

#[test]
fn removal_of_a_table_is_refused_while_it_is_pinned_below() {
    let mut authority = with(&[("report", pin(PinVersions::From(Version(5)), Scope::Table(ROWS)))], 0);
    let refused =
        |authority: &Authority, table| authority.check_no_pin_below(table, Version(9)).map_err(|error| error.to_string());
    assert_eq!(refused(&authority, ROWS), Err("version 5 is pinned by \"report\"".into()));
    assert_eq!(refused(&authority, OTHERS), Ok(()));
    let (number, _) = authority.pin_reader(Version(8), "diff", Location::caller(), Moment::default()).unwrap();
    assert_eq!(refused(&authority, OTHERS), Err("version 8 is pinned by diff 1".into()));
    authority.let_go(Version(8), number);
    authority.pin_reader(Version(9), "diff", Location::caller(), Moment::default()).unwrap();
    assert_eq!(refused(&authority, OTHERS), Ok(()));
}

#[test]
fn leases_end_and_policies_move_horizons_when_they_are_due() {
    let second = Duration::from_secs(1);
    let now = |seconds: u32| Moment::default().after(second * seconds);
    let lease = Pin { lease_until: Some(now(3)), ..pin(PinVersions::One(Version(1)), Scope::All) };
    let mut authority = with(&[("lease", lease)], 0);
    for (scope, retention) in
        [(PolicyScope::Operators, Retention::LatestOnly), (PolicyScope::Table(ROWS), Retention::Age(2 * second))]
    {
        let change = authority.set_policy(scope, Some(retention)).unwrap();
        authority.apply(&change);
    }
    let tables = [OTHERS, ROWS, EntryKind::operator(1)];
    let mut horizons = Vec::new();
    for seconds in 1..=6 {
        let changes = authority.due(now(seconds), Version(u64::from(seconds) * 10), &tables);
        for change in &changes {
            authority.apply(change);
        }
        horizons.push(tables.map(|table| authority.table_horizon(table).0));
        assert_eq!(authority.pins().count(), usize::from(seconds <= 3));
    }
    assert_eq!(horizons, [[0, 0, 10], [0, 0, 20], [0, 10, 30], [0, 20, 40], [0, 30, 50], [0, 40, 60]]);
    // A clock that has run backwards makes nothing older.
    assert_eq!(authority.due(now(1), Version(60), &tables), []);
}
