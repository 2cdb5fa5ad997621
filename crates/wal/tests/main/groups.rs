//! Group commit with real threads: every request is answered once, with its own answer, whatever the others do.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use thermocline_io::sync::Mutex;
use thermocline_wal::group::{GroupCommit, GroupOptions};

/// Runs `body` on so many threads and waits for all.
fn on_threads(count: usize, body: impl Fn(usize) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..count {
            let body = &body;
            scope.spawn(move || body(number));
        }
    });
}

/// How many requests each thread makes.
const EACH: u64 = 2_000;

#[test]
fn each_request_is_answered_once_and_by_one_leader_at_a_time() {
    for (threads, is_slow, gather_wait) in [(1, false, 0), (2, false, 0), (4, true, 50), (8, true, 0), (8, false, 200)] {
        let options = GroupOptions { gather_wait: Duration::from_micros(gather_wait), ..GroupOptions::default() };
        let queue: GroupCommit<u64, u64> = GroupCommit::with_options(options);
        let leads = AtomicBool::new(false);
        let order = Mutex::new(Vec::new());
        on_threads(threads, |thread| {
            for number in 0..EACH {
                let request = thread as u64 * EACH + number;
                let answer = queue.submit(request, is_slow && number % 3 == 0, |group| {
                    assert!(!leads.swap(true, Ordering::AcqRel), "two leaders");
                    order.lock().extend_from_slice(&group);
                    leads.store(false, Ordering::Release);
                    group.into_iter().map(|request| request + 1).collect()
                });
                assert_eq!(answer, request + 1);
            }
        });
        let order = order.into_inner();
        assert_eq!(order.len() as u64, threads as u64 * EACH);
        for thread in 0..threads as u64 {
            let own: Vec<u64> = order.iter().copied().filter(|request| request / EACH == thread).collect();
            assert!(own.is_sorted(), "a thread's requests keep their order");
        }
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
    }
}

#[test]
fn requests_that_come_during_a_group_form_the_next_one() {
    const FOLLOWERS: usize = 7;
    let queue: GroupCommit<usize, usize> = GroupCommit::new();
    let (started, groups) = (Barrier::new(FOLLOWERS + 1), Mutex::new(Vec::new()));
    let submitted = AtomicUsize::new(0);
    on_threads(FOLLOWERS + 1, |thread| {
        let run = |group: Vec<usize>| {
            let is_first = groups.lock().is_empty();
            groups.lock().push(group.len());
            if is_first {
                started.wait();
                // Until all the others are on their way into the queue. That they are in it follows from what is asserted.
                while submitted.load(Ordering::Acquire) < FOLLOWERS {
                    thermocline_io::sync::yield_now();
                }
                (0..10_000).for_each(|_| thermocline_io::sync::yield_now());
            }
            group
        };
        if thread != 0 {
            started.wait();
            submitted.fetch_add(1, Ordering::AcqRel);
        }
        assert_eq!(queue.submit(thread, true, run), thread);
    });
    let groups = groups.into_inner();
    assert_eq!(groups.iter().sum::<usize>(), FOLLOWERS + 1);
    assert_eq!(groups[0], 1);
    assert!(groups.len() <= 4, "{groups:?}: followers were gathered");
}

#[test]
fn panicking_leader_takes_its_group_with_it_and_nobody_else() {
    let queue: Arc<GroupCommit<u64, u64>> = Arc::new(GroupCommit::new());
    let (failed, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    on_threads(4, |thread| {
        for number in 0..200_u64 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                queue.submit(number, number % 2 == 0, |group| {
                    assert!(!(thread == 0 && number % 10 == 3), "planned");
                    if thread == 1 && number % 10 == 7 { vec![] } else { group }
                })
            }));
            match result {
                Ok(answer) => {
                    assert_eq!(answer, number);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    std::panic::set_hook(hook);
    let (failed, answered) = (failed.into_inner(), answered.into_inner());
    assert_eq!(failed + answered, 800, "nobody waits for ever");
    assert!(failed > 0 && answered > 400, "{failed} failed, {answered} answered");
    assert_eq!(queue.submit(1, true, |group| group), 1, "the queue is usable afterwards");
}

#[test]
fn leader_of_a_slow_group_waits_for_as_many_as_last_time() {
    const ROUNDS: usize = 20;
    let options = GroupOptions { gather_wait: Duration::from_millis(100), ..GroupOptions::default() };
    let queue: GroupCommit<usize, usize> = GroupCommit::with_options(options);
    let sizes = Mutex::new(Vec::new());
    let barrier = Barrier::new(3);
    on_threads(3, |thread| {
        for _ in 0..ROUNDS {
            barrier.wait();
            queue.submit(thread, true, |group| {
                sizes.lock().push(group.len());
                group
            });
        }
    });
    let sizes = sizes.into_inner();
    assert_eq!(sizes.iter().sum::<usize>(), 3 * ROUNDS);
    // Once a group had three, the next ones wait for three; a thread may still be held up for longer than that.
    let full = sizes.iter().filter(|&&size| size == 3).count();
    assert!(full >= ROUNDS / 2 || !sizes.contains(&3), "{sizes:?}");
}
