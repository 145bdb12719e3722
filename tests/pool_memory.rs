//! What becomes of the memory of records, by the statistics: drained, reused, and left by no thread.
//!
//! Each test is alone in a process of its own. The program's allocator is the system's, so every block that Millpond
//! counts is a record.

mod support;

use millpond::Stats;
use millpond::pool::{Pool, PoolBox};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Barrier, mpsc};
use std::thread;
use support::process::{MIB, resident};
use support::settled::{drained, settled};
use support::thread::run_to_end;

support::harness::each_alone! {
    a_million_records_spawned_here_and_dropped_there,
    records_of_ended_threads_are_reused,
    a_thread_that_only_drops_needs_no_heap,
    ten_thousand_threads_leave_nothing_behind,
    panics_leave_nothing_behind,
    sizes_of_every_kind_come_back,
}

/// 192 bytes: three lines.
struct Task([u64; 20]);

static TASKS: Pool<Task> = Pool::new();

fn task(number: u64) -> PoolBox<Task> {
    TASKS.boxed(Task([number; 20]))
}

/// Fails unless no record is live, exactly.
fn nothing_lives() -> Stats {
    let stats = settled();
    assert_eq!(stats.live_bytes, 0, "{stats:#?}");
    assert_eq!(stats.allocations, stats.frees, "{stats:#?}");
    stats
}

fn a_million_records_spawned_here_and_dropped_there() {
    const RECORDS: u64 = 1_000_000;
    const WAITING: usize = 1000;
    let (sender, receiver) = mpsc::sync_channel::<PoolBox<Task>>(WAITING);
    let before = resident();
    let sum = thread::spawn(move || receiver.into_iter().map(|task| task.0[19]).sum::<u64>());
    for number in 0..RECORDS {
        sender.send(task(number)).unwrap();
    }
    let after = resident();
    drop(sender);
    assert_eq!(sum.join().unwrap(), RECORDS * (RECORDS - 1) / 2);
    let stats = nothing_lives();
    assert_eq!(stats.remote_frees, RECORDS, "{stats:#?}");
    // A thousand records on their way fill three pages; all million would fill 2,931.
    assert!(stats.fresh_pages < 50, "{stats:#?}");
    assert!(stats.reused_pages > 1000, "{stats:#?}");
    assert!(after < before + 8 * MIB, "{} bytes more", after - before);
}

fn records_of_ended_threads_are_reused() {
    const RECORDS: u64 = 10_000;
    const ROUNDS: usize = 100;
    let mut records = Vec::with_capacity(RECORDS as usize);
    let (before, mut first) = (resident(), Stats::default());
    for round in 0..ROUNDS {
        run_to_end(|| records.extend((0..RECORDS).map(task)));
        // The spawner is gone; another thread that ends drops the records.
        run_to_end(|| {
            for (at, task) in records.drain(..).enumerate() {
                assert_eq!(task.0, [at as u64; 20]);
            }
        });
        if round == 1 {
            first = millpond::stats();
        }
    }
    let last = millpond::stats();
    // 1.9 MB a round, 192 MB in all. (Empty pages beyond a heap's few go back to the arena, and are claimed again.)
    assert_eq!(last.committed_bytes, first.committed_bytes, "{last:#?}");
    assert!(resident() < before + 8 * MIB, "{} bytes", resident());
    assert_eq!(last.live_bytes, 0, "{last:#?}");
    // The one who drops takes the ended spawner's heap, the next spawner his.
    assert_eq!(last.heaps, 1, "{last:#?}");
    assert!(last.adopted_heaps >= ROUNDS as u64 - 1, "{last:#?}");
    nothing_lives();
}

fn a_thread_that_only_drops_needs_no_heap() {
    let mut records: Vec<_> = Vec::with_capacity(1000);
    records.extend((0..1000).map(task));
    let before = millpond::stats();
    run_to_end(|| drop(std::mem::take(&mut records)));
    let after = millpond::stats();
    assert_eq!(after.heaps, before.heaps, "{after:#?}");
    assert_eq!(after.remote_frees - before.remote_frees, 1000);
    // And the spawner takes no fresh page for as many again.
    let again: Vec<_> = (0..1000).map(task).collect();
    let reused = millpond::stats();
    assert_eq!(reused.fresh_pages, before.fresh_pages, "{reused:#?}");
    assert!(drained(&reused) > 0, "{reused:#?}");
    drop(again);
    nothing_lives();
}

fn ten_thousand_threads_leave_nothing_behind() {
    // Each makes ten records, drops the ten of the thread before it, and leaves its own to the next.
    let mut left: Vec<PoolBox<Task>> = Vec::with_capacity(10);
    let mut fresh = 0;
    for round in 0..10_000 {
        run_to_end(|| {
            left.clear();
            left.extend((0..10).map(task));
        });
        if round == 10 {
            fresh = millpond::stats().fresh_pages;
        }
    }
    let stats = millpond::stats();
    assert_eq!(stats.fresh_pages, fresh, "{stats:#?}");
    assert!(stats.heaps <= 2, "{stats:#?}");
    drop(left);
    nothing_lives();
}

fn panics_leave_nothing_behind() {
    struct Panics([u64; 20]);
    impl Drop for Panics {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new(self.0[0]));
        }
    }
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<PoolBox<Panics>>(16);
        let barrier = &barrier;
        scope.spawn(move || {
            for record in receiver {
                assert!(catch_unwind(AssertUnwindSafe(|| drop(record))).is_err());
            }
            barrier.wait();
        });
        let pool = Pool::new();
        for at in 0..10_000 {
            sender.send(pool.boxed(Panics([at; 20]))).unwrap();
            let own = pool.boxed(Panics([at; 20]));
            assert!(catch_unwind(AssertUnwindSafe(|| drop(own))).is_err());
        }
        drop(sender);
        barrier.wait();
    });
    let stats = nothing_lives();
    assert!(stats.fresh_pages < 20, "{stats:#?}");
}

fn sizes_of_every_kind_come_back() {
    fn rounds<const N: usize>() {
        let pool = Pool::<[u8; N]>::new();
        let mut records = Vec::with_capacity(8);
        for _ in 0..5 {
            for here in [true, false] {
                let make =
                    |records: &mut Vec<_>| records.extend((0..8).map(|_| pool.boxed_uninit()));
                match here {
                    true => make(&mut records),
                    false => run_to_end(|| make(&mut records)),
                }
                assert!(settled().live_bytes >= 8 * N as u64, "{N} bytes");
                match here {
                    true => run_to_end(|| records.clear()),
                    false => records.clear(),
                }
                nothing_lives();
            }
        }
    }
    rounds::<1>();
    rounds::<1000>();
    rounds::<5000>();
    rounds::<{ 100 << 10 }>();
    rounds::<{ 1 << 20 }>();
    rounds::<{ 40 << 20 }>();
}
