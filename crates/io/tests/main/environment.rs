//! Clock, randomness, threads and memory.

use std::sync::Arc;
use std::time::Duration;

use thermocline_io::memory::Anonymous;
use thermocline_io::sync::Mutex;
use thermocline_io::{
    Clock, DiskErrorKind, Environment, Randomness, RealSpawner, SeededRandomness, SimClock, SimSpawner, Spawner,
};

#[test]
fn a_simulated_clock_moves_by_hand_only() {
    let clock = SimClock::new();
    let (now, wall) = (clock.now(), clock.wall());
    let step = Duration::from_millis(5);
    clock.advance(step);
    assert_eq!((clock.now(), clock.wall()), (now + step, wall + step));
    clock.set_wall(Duration::from_secs(1));
    assert_eq!((clock.now(), clock.wall()), (now + step, Duration::from_secs(1)));
    clock.advance(Duration::MAX);
    assert_eq!(clock.now(), Duration::MAX);
}

#[test]
fn seeded_bytes_depend_on_the_seed_alone() {
    let draw = |seed, len| {
        let randomness = SeededRandomness::new(seed);
        let mut bytes = vec![0; len];
        randomness.fill(&mut bytes).unwrap();
        bytes
    };
    assert_eq!(draw(1, 33), draw(1, 33));
    assert_ne!(draw(1, 33), draw(2, 33));
    assert_ne!(draw(0, 16), [0; 16]);
}

#[test]
fn an_environment_is_shared_by_cloning() {
    let environment = Environment::simulated(3);
    let (mut first, mut second) = ([0; 8], [0; 8]);
    environment.randomness.fill(&mut first).unwrap();
    environment.clone().randomness.fill(&mut second).unwrap();
    assert_ne!(first, second);
}

#[test]
fn simulated_tasks_run_in_an_order_that_follows_from_the_seed() {
    let run = |seed| {
        let spawner = SimSpawner::new(seed);
        let order = Arc::new(Mutex::new(Vec::new()));
        let handles: Vec<_> = (0..8)
            .map(|number| {
                let order = Arc::clone(&order);
                spawner.spawn(&number.to_string(), Box::new(move || order.lock().push(number))).unwrap()
            })
            .collect();
        assert!(handles.iter().all(|handle| !handle.is_finished()));
        while spawner.run_one() {}
        assert!(handles.into_iter().all(|handle| handle.is_finished() && handle.join().is_ok()));
        std::mem::take(&mut *order.lock())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn joining_a_simulated_task_runs_it_once() {
    let spawner = SimSpawner::new(1);
    let count = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&count);
    let handle = spawner.spawn("once", Box::new(move || *counter.lock() += 1)).unwrap();
    handle.join().unwrap();
    assert_eq!((*count.lock(), spawner.waiting().len()), (1, 0));
    assert!(!spawner.run_one());
}

#[test]
fn panics_of_tasks_are_reported_by_name() {
    let simulated = SimSpawner::new(1).spawn("compaction", Box::new(|| panic!("{}", 7))).unwrap();
    assert_eq!(simulated.join().unwrap_err().to_string(), "background task compaction panicked: 7");
    let real = RealSpawner.spawn("with\0zero", Box::new(|| panic!("oh"))).unwrap();
    assert_eq!(real.join().unwrap_err().to_string(), "background task with zero panicked: oh");
}

#[test]
fn mapped_memory_has_the_length_asked_for() {
    for len in [1, 4096, 4097, 1 << 22] {
        let memory = Anonymous::new(len).unwrap();
        assert_eq!(memory.len(), len);
        assert!(!memory.as_ptr().is_null() && memory.as_ptr().addr().is_multiple_of(4096));
    }
    for len in [0, usize::MAX, 1 << 63] {
        assert_eq!(Anonymous::new(len).unwrap_err().kind(), DiskErrorKind::InvalidRange);
    }
    assert_eq!(Anonymous::new(isize::MAX as usize / 2).unwrap_err().kind(), DiskErrorKind::OutOfMemory);
}
