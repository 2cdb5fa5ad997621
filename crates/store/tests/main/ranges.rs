//! Scans from both ends, pages, and cursors that leave the process.

use thermocline_store::{Batch, Cursor};
use thermocline_tier::{ErrorKind, KeyRange, Version};

use super::{T, U, commit, options, store, texts};

#[test]
fn a_scan_walked_from_both_ends_meets_in_the_middle() {
    let (store, _disk) = store();
    let mut batch = Batch::new();
    for key in 0..1000_u32 {
        batch.put(T, &key.to_be_bytes(), b"v");
    }
    store.commit(batch).unwrap();
    let mut deleted = Batch::new();
    for key in (0..1000_u32).filter(|key| key % 3 == 0) {
        deleted.remove(T, &key.to_be_bytes());
    }
    store.commit(deleted).unwrap();
    let expected: Vec<u32> = (0..1000).filter(|key| key % 3 != 0).collect();
    for turns in 1..5 {
        let mut scan = store.snapshot().unwrap().range::<&[u8]>(T, ..);
        let (mut front, mut back) = (Vec::new(), Vec::new());
        let mut turn = 0;
        loop {
            let from_front = turn % (turns + 1) != 0;
            let Some(row) = (if from_front { scan.next() } else { scan.next_back() }) else { break };
            let key = u32::from_be_bytes(row.unwrap().0[..].try_into().unwrap());
            if from_front { &mut front } else { &mut back }.push(key);
            turn += 1;
        }
        assert!(scan.next().is_none() && scan.next_back().is_none());
        front.extend(back.into_iter().rev());
        assert_eq!(front, expected);
    }
}

#[test]
fn pages_hold_what_was_asked_for_past_tombstones_and_end_exactly() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1", "c=1", "d=1", "e=1"]);
    let at = commit(&store, T, &["b", "c", "f=1"]);
    commit(&store, T, &["a=later", "aa=later"]);
    let snapshot = store.at(at).unwrap();
    let page = snapshot.page(T, KeyRange::all(), 2).unwrap();
    assert_eq!(texts(page.entries.clone().into_iter().map(Ok::<_, ()>)), ["a=1", "d=1"]);
    let token = page.next.unwrap().encode();
    drop(snapshot);
    let page = store.resume(&token, 2).unwrap();
    assert_eq!(texts(page.entries.into_iter().map(Ok::<_, ()>)), ["e=1", "f=1"]);
    assert_eq!(page.next, None);

    let page = store.at(at).unwrap().page_rev(T, KeyRange::new("a".."f"), 2).unwrap();
    assert_eq!(texts(page.entries.into_iter().map(Ok::<_, ()>)), ["e=1", "d=1"]);
    let page = store.resume(&page.next.unwrap().encode(), 2).unwrap();
    assert_eq!(texts(page.entries.into_iter().map(Ok::<_, ()>)), ["a=1"]);
    assert_eq!(page.next, None);
}

#[test]
fn a_token_is_refused_by_another_store_and_when_damaged() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    let cursor = store.snapshot().unwrap().page(T, KeyRange::all(), 1).unwrap().next.unwrap();
    let token = cursor.encode();
    let (other, _disk) = super::store();
    assert_eq!(other.resume(&token, 1).unwrap_err().kind(), &ErrorKind::WrongStore { what: "cursor" });
    for at in 0..token.len() {
        let mut damaged = token.clone();
        damaged[at] ^= 1;
        assert!(matches!(store.resume(&damaged, 1).unwrap_err().kind(), ErrorKind::InvalidArgument { .. }));
        assert!(Cursor::decode(&token[..at]).is_err());
    }
    let mut request = cursor.request().clone();
    cursor.check(&request).unwrap();
    request.table = U;
    let error = cursor.check(&request).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::CursorMismatch { what: "table", .. }), "{error}");
    assert!(store.resume_diff(&token).is_err());
    assert!(store.snapshot().unwrap().page(T, KeyRange::all(), 0).is_err());
}

#[test]
fn a_token_survives_reopening() {
    let (store, disk) = store();
    commit(&store, T, &["a=1", "b=1"]);
    let token = store.snapshot().unwrap().page(T, KeyRange::all(), 1).unwrap().next.unwrap().encode();
    store.close().unwrap();
    let store = super::open_on(&disk, options()).unwrap();
    commit(&store, T, &["b=2"]);
    assert_eq!(texts(store.resume(&token, 9).unwrap().entries.into_iter().map(Ok::<_, ()>)), ["b=1"]);
}

#[test]
fn many_keys_answer_in_order_duplicates_twice() {
    let (store, _disk) = store();
    commit(&store, T, &["a=1", "b=2"]);
    commit(&store, T, &["b"]);
    let many = |at| store.at(at).unwrap().get_many(T, ["b", "a", "x", "a"]).unwrap();
    let (one, two) = (Some("1".into()), Some("2".into()));
    assert_eq!(many(Version(1)), [two, one.clone(), None, one.clone()]);
    assert_eq!(many(Version(2)), [None, one.clone(), None, one]);
    assert!(store.get_many(T, [""; 0]).unwrap().is_empty());
}
