//! Nurseries, fork and join, join sets.

mod support;

use millpond_fiber::*;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{both_modes, runtime, watched};

fn message(payload: Box<dyn std::any::Any + Send>) -> String {
    match payload.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(payload) => *payload.downcast::<String>().unwrap(),
    }
}

/// Calls `test` on runtimes with 1, 2 and 64 workers, from a fiber and from a plain thread.
fn everywhere(test: impl Fn(&Runtime) + Sync) {
    watched(|| {
        for runtime in [1, 2, 64].into_iter().flat_map(both_modes) {
            runtime.block_on(|| test(&runtime));
            test(&runtime);
        }
    });
}

#[test]
fn children_borrow() {
    everywhere(|runtime| {
        for count in [0, 1, 2, 100, 5000] {
            let mut results = vec![0; count];
            let name = String::from("shared");
            runtime.nursery(|n| {
                for (i, result) in results.iter_mut().enumerate() {
                    let name = &name;
                    n.spawn(move || *result = i + name.len());
                }
            });
            assert!(
                results
                    .iter()
                    .enumerate()
                    .all(|(i, &result)| result == i + 6)
            );
        }
    });
}

#[test]
fn children_wait_and_spawn_siblings() {
    everywhere(|runtime| {
        let ended = AtomicUsize::new(0);
        runtime.nursery(|n| {
            for i in 0..50 {
                let ended = &ended;
                n.spawn(move || {
                    if i % 3 == 0 {
                        yield_now();
                    }
                    if i % 7 == 0 {
                        sleep(Duration::from_millis(1)).unwrap();
                    }
                    for _ in 0..10 {
                        n.spawn(move || {
                            yield_now();
                            ended.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(ended.into_inner(), 500);
    });
}

#[test]
fn nested() {
    fn tree(depth: usize) -> usize {
        if depth == 0 {
            return 1;
        }
        let mut sums = [0; 3];
        nursery(|n| {
            for sum in &mut sums {
                n.spawn(move || *sum = tree(depth - 1));
            }
        });
        sums.iter().sum()
    }
    watched(|| {
        for workers in [1, 2, 64] {
            assert_eq!(runtime(workers).block_on(|| tree(7)), 2187);
        }
    });
}

/// Children of two nurseries in turn on the same workers: the ends that are counted together belong to one.
#[test]
fn two_nurseries_at_once() {
    everywhere(|runtime| {
        let ended = [AtomicUsize::new(0), AtomicUsize::new(0)];
        for _ in 0..50 {
            runtime.nursery(|outer| {
                for _ in 0..20 {
                    outer.spawn(|| {
                        ended[0].fetch_add(1, Ordering::Relaxed);
                    });
                }
                runtime.nursery(|inner| {
                    for _ in 0..20 {
                        outer.spawn(|| {
                            ended[0].fetch_add(1, Ordering::Relaxed);
                        });
                        inner.spawn(|| {
                            ended[1].fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
                assert_eq!(ended[1].swap(0, Ordering::Relaxed), 20);
            });
            assert_eq!(ended[0].swap(0, Ordering::Relaxed), 40);
        }
    });
}

/// A child that blocks its worker, beside one that computes: the end of the nursery isn't held back by what the worker
/// does next.
#[test]
fn ends_are_not_held_back() {
    watched(|| {
        for workers in [1, 2] {
            runtime(workers).block_on(|| {
                let stop = std::sync::Arc::new(AtomicBool::new(false));
                let other = stop.clone();
                let hog = spawn(move || {
                    let start = Instant::now();
                    while !other.load(Ordering::Relaxed)
                        && start.elapsed() < Duration::from_secs(20)
                    {
                        yield_now();
                    }
                    start.elapsed()
                });
                for _ in 0..100 {
                    nursery(|n| (0..10).for_each(|_| n.spawn(|| ())));
                }
                stop.store(true, Ordering::Relaxed);
                assert!(hog.join().unwrap() < Duration::from_secs(20));
            });
        }
    });
}

#[test]
fn the_first_panic_is_carried_when_all_have_ended() {
    everywhere(|runtime| {
        let ended = AtomicUsize::new(0);
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.nursery(|n| {
                n.spawn(|| panic!("a child"));
                for _ in 0..20 {
                    n.spawn(|| {
                        sleep(Duration::from_millis(2)).unwrap();
                        ended.fetch_add(1, Ordering::Relaxed);
                    });
                }
            })
        }));
        assert_eq!(message(result.unwrap_err()), "a child");
        assert_eq!(ended.swap(0, Ordering::Relaxed), 20);

        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            runtime.nursery(|n| {
                n.spawn(|| {
                    sleep(Duration::from_millis(2)).unwrap();
                    ended.fetch_add(1, Ordering::Relaxed);
                });
                panic!("the closure");
            })
        }));
        assert_eq!(message(result.unwrap_err()), "the closure");
        assert_eq!(ended.into_inner(), 1);
    });
}

#[test]
fn a_cancelled_runtime_drops_children_and_the_nursery_says_so() {
    watched(|| {
        let one = runtime(1);
        let began = std::sync::Arc::new(AtomicBool::new(false));
        let seen = began.clone();
        let owner = one.spawn(move || {
            nursery(|n| {
                for _ in 0..10 {
                    n.spawn(|| ());
                }
                began.store(true, Ordering::Release);
                // The worker is kept until the shutdown has begun.
                std::thread::sleep(Duration::from_millis(100));
            })
        });
        while !seen.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        one.shutdown(Shutdown::Cancel);
        match owner.join() {
            Err(JoinError::Panic(payload)) => {
                assert_eq!(
                    message(payload),
                    "the fiber was cancelled before it started"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn plain_threads_share_a_nursery() {
    watched(|| {
        let runtime = runtime(2);
        let ended = AtomicUsize::new(0);
        runtime.nursery(|n| {
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| {
                        for _ in 0..1000 {
                            n.spawn(|| {
                                ended.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    });
                }
            });
        });
        assert_eq!(ended.into_inner(), 4000);
    });
}

#[test]
fn handles_of_children() {
    everywhere(|runtime| {
        let text = String::from("borrowed");
        let lengths = runtime.nursery(|n| {
            let handles: Vec<_> = (0..20)
                .map(|i| {
                    let text = &text;
                    n.spawn_joinable(move || {
                        if i % 2 == 0 {
                            yield_now();
                        }
                        &text[..i % 8]
                    })
                })
                .collect();
            // Not joined: its result is dropped with the child.
            drop(n.spawn_joinable(|| vec![text.clone()]));
            let mut lengths = 0;
            for handle in handles {
                lengths += handle.join().unwrap().len();
            }
            let failed = n.spawn_joinable(|| -> usize { panic!("mine") });
            assert!(failed.join().unwrap_err().is_panic());
            lengths
        });
        assert_eq!(lengths, (0..20).map(|i| i % 8).sum());
    });
}

#[test]
fn join_runs_both_and_carries_panics() {
    everywhere(|runtime| {
        runtime.block_on(|| {
            let (mut a, mut b) = (0, 0);
            assert_eq!(join(|| a = 1, || b = 2), ((), ()));
            assert_eq!((a, b), (1, 2));
            let (a, b) = join(|| join(|| 1, || 2), || join(|| 3, || 4));
            assert_eq!((a, b), ((1, 2), (3, 4)));

            let ran = AtomicUsize::new(0);
            let count = || ran.fetch_add(1, Ordering::Relaxed);
            let result = panic::catch_unwind(AssertUnwindSafe(|| {
                join(|| panic!("a"), count);
            }));
            assert_eq!(message(result.unwrap_err()), "a");
            let result = panic::catch_unwind(AssertUnwindSafe(|| {
                join(count, || panic!("b"));
            }));
            assert_eq!(message(result.unwrap_err()), "b");
            let result = panic::catch_unwind(AssertUnwindSafe(|| {
                join(|| panic!("a"), || panic!("b"));
            }));
            assert_eq!(message(result.unwrap_err()), "a");
            assert_eq!(ran.into_inner(), 2);
        });
    });
    // From a plain thread.
    assert_eq!(join(|| 1, || 2), (1, 2));
}

/// Each side waits for the other, so `b` must get a stack of its own.
#[test]
fn both_sides_of_a_join_may_wait_for_each_other() {
    everywhere(|runtime| {
        runtime.block_on(|| {
            let barrier = sync::Barrier::new(2);
            let (a, b) = join(|| barrier.wait(), || barrier.wait());
            assert!(a != b);
        });
    });
}

/// What the first side leaves in the worker's queue doesn't keep the second from being run.
#[test]
fn a_join_beside_other_tasks() {
    everywhere(|runtime| {
        runtime.block_on(|| {
            let mut left = Vec::new();
            for _ in 0..100 {
                let (handle, two) = join(|| spawn(|| 1), || 2);
                assert_eq!(two, 2);
                left.push(handle);
            }
            let sum: usize = left.into_iter().map(|handle| handle.join().unwrap()).sum();
            assert_eq!(sum, 100);
        });
    });
}

#[test]
fn join_sets_yield_all_results() {
    everywhere(|runtime| {
        let mut set = JoinSet::new();
        for i in 0..500usize {
            set.spawn_on(runtime, move || {
                if i % 5 == 0 {
                    yield_now();
                }
                assert!(i != 77, "seventy-seven");
                i
            });
        }
        let (mut sum, mut panics) = (0, 0);
        while let Some(result) = set.join_next() {
            match result {
                Ok(i) => sum += i,
                Err(error) => {
                    assert!(error.is_panic());
                    panics += 1;
                }
            }
        }
        assert_eq!((sum, panics), (499 * 250 - 77, 1));
        assert!(set.is_empty() && set.try_join_next().is_none());
    });
}

#[test]
fn join_sets_in_the_order_of_ends() {
    everywhere(|runtime| {
        let mut set = JoinSet::new();
        for i in [30, 1, 15] {
            set.spawn_on(runtime, move || {
                sleep(Duration::from_millis(i * 4)).unwrap();
                i
            });
        }
        assert!(matches!(
            set.join_next_timeout(Duration::from_micros(100)),
            Err(TimedOut)
        ));
        assert_eq!(set.len(), 3);
        let first = set.join_next_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(first.unwrap().unwrap(), 1);
        assert_eq!(set.join_all(), [15, 30]);
        // Dropped with fibers left: they go on.
        let mut set = JoinSet::new();
        set.spawn_on(runtime, || sleep(Duration::from_millis(1)));
        drop(set);
    });
}

/// Timed waits beside fibers that end at the same moment.
#[test]
fn join_sets_with_short_times() {
    everywhere(|runtime| {
        for _ in 0..100 {
            let mut set = JoinSet::new();
            for _ in 0..5 {
                set.spawn_on(runtime, yield_now);
            }
            let mut left = 5;
            while left != 0 {
                if let Ok(result) = set.join_next_timeout(Duration::from_micros(3)) {
                    result.unwrap().unwrap();
                    left -= 1;
                }
            }
        }
    });
}

/// Fibers that move between workers, with guards, nurseries and joins under way.
#[test]
fn with_migration() {
    watched(|| {
        for workers in [2, 64] {
            // SAFETY: nothing below holds what belongs to its thread over a wait.
            let runtime = unsafe { Runtime::builder().workers(workers).migrate_started_fibers() };
            let runtime = runtime.build().unwrap();
            runtime.block_on(|| {
                let (total, ended) = (sync::Mutex::new(0), Counter::new(100));
                let lock = sync::RwLock::new(0);
                nursery(|n| {
                    for i in 0..100 {
                        let (total, ended, lock) = (&total, &ended, &lock);
                        n.spawn(move || {
                            for _ in 0..20 {
                                let mut guard = total.lock();
                                yield_now();
                                *guard += 1;
                                drop(guard);
                                let (a, b) = join(yield_now, || *lock.read() + i);
                                assert_eq!((a, b), ((), i));
                            }
                            nursery(|n| n.spawn(yield_now));
                            ended.done();
                        });
                    }
                    ended.wait();
                });
                assert_eq!(total.into_inner(), 2000);
                let sum = parallel_reduce(
                    0..2000,
                    || 0,
                    |sum, i| {
                        if i % 50 == 0 {
                            yield_now();
                        }
                        sum + i
                    },
                    |a, b| a + b,
                );
                assert_eq!(sum, 1999 * 1000);
            });
        }
    });
}
