//! Counters, locks and their kin: by fibers and by plain threads, with times and tokens.

mod support;

use millpond_fiber::sync::{Barrier, Condvar, Mutex, RwLock, Semaphore};
use millpond_fiber::*;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::{both_modes, runtime, watched};

const SHORT: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(30);

/// Calls `work` with each number below `count`: half of them on fibers, half on plain threads, at the same time.
fn mixed(runtime: &Runtime, count: usize, work: impl Fn(usize) + Sync) {
    std::thread::scope(|threads| {
        for i in (0..count).filter(|i| i % 8 == 1) {
            let work = &work;
            threads.spawn(move || work(i));
        }
        runtime.nursery(|n| {
            for i in (0..count).filter(|i| i % 8 != 1) {
                let work = &work;
                n.spawn(move || work(i));
            }
        });
    });
}

fn everywhere(test: impl Fn(&Runtime) + Sync) {
    watched(|| {
        for runtime in [1, 2, 64].into_iter().flat_map(both_modes) {
            test(&runtime);
        }
    });
}

/// Runs `test` as a fiber with a token that is cancelled while it waits.
fn cancelled<T: Send + 'static>(runtime: &Runtime, test: impl FnOnce() -> T + Send + 'static) -> T {
    let token = CancelToken::new();
    let fiber = Builder::new()
        .cancel_token(&token)
        .spawn_on(runtime, test)
        .unwrap();
    std::thread::sleep(SHORT);
    token.cancel();
    fiber.join().unwrap()
}

#[test]
fn a_counter_wakes_all_who_wait_for_zero() {
    everywhere(|runtime| {
        for round in 0..20 {
            let (counter, done) = (Counter::new(30), AtomicUsize::new(0));
            mixed(runtime, 40, |i| {
                if i < 30 {
                    if round % 2 == 0 {
                        yield_now();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    counter.done();
                } else {
                    counter.wait();
                    assert_eq!(done.load(Ordering::Relaxed), 30);
                }
            });
            assert_eq!(counter.value(), 0);
        }
    });
}

#[test]
fn a_counter_is_used_again() {
    everywhere(|runtime| {
        let (counter, done) = (Counter::new(0), AtomicUsize::new(0));
        runtime.nursery(|n| {
            n.spawn(|| {
                for round in 1..200 {
                    counter.add(3);
                    for _ in 0..3 {
                        n.spawn(|| {
                            done.fetch_add(1, Ordering::Relaxed);
                            counter.done();
                        });
                    }
                    counter.wait();
                    assert_eq!(done.load(Ordering::Relaxed), 3 * round);
                }
            });
        });
    });
}

#[test]
fn a_counter_with_times_and_tokens() {
    everywhere(|runtime| {
        let counter = Arc::new(Counter::new(1));
        assert!(!counter.wait_timeout(SHORT));
        assert!(!runtime.block_on(|| counter.wait_timeout(SHORT)));
        let waits = counter.clone();
        let result = cancelled(runtime, move || waits.wait_cancellable());
        assert_eq!(result, Err(Cancelled));
        counter.done();
        assert!(runtime.block_on(|| counter.wait_timeout(LONG)));
        assert_eq!(counter.wait_cancellable(), Ok(()));
    });
}

#[test]
fn a_counter_below_zero_panics_and_stays() {
    let counter = Counter::new(1);
    counter.done();
    for count in [1, 5] {
        let result = panic::catch_unwind(AssertUnwindSafe(|| counter.done_many(count)));
        let text = result.unwrap_err().downcast::<String>().unwrap();
        assert!(text.contains("there were more `done` than `add`"), "{text}");
        assert_eq!(counter.value(), 0);
    }
    let result = panic::catch_unwind(AssertUnwindSafe(|| counter.add(Counter::MAX + 1)));
    assert!(result.is_err());
    counter.add(2);
    assert_eq!(counter.value(), 2);
}

#[test]
fn a_mutex_excludes() {
    everywhere(|runtime| {
        let total = Mutex::new((0, 0));
        mixed(runtime, 64, |i| {
            for k in 0..200 {
                let mut guard = total.lock();
                guard.0 += 1;
                // Held over a wait.
                if (i + k) % 13 == 0 {
                    yield_now();
                }
                guard.1 += 1;
                assert_eq!(guard.0, guard.1);
            }
        });
        assert_eq!(total.into_inner(), (12_800, 12_800));
    });
}

/// Whoever locks it again at once doesn't keep it for ever from one that waits.
#[test]
fn a_mutex_is_passed_on() {
    watched(|| {
        for workers in [1, 2] {
            let runtime = runtime(workers);
            let (mutex, got) = (Mutex::new(()), AtomicUsize::new(0));
            runtime.nursery(|n| {
                n.spawn(|| {
                    let start = Instant::now();
                    while got.load(Ordering::Relaxed) < 100 {
                        assert!(start.elapsed() < LONG, "the lock was kept");
                        let guard = mutex.lock();
                        yield_now();
                        drop(guard);
                    }
                });
                n.spawn(|| {
                    for _ in 0..100 {
                        let guard = mutex.lock();
                        got.fetch_add(1, Ordering::Relaxed);
                        drop(guard);
                        yield_now();
                    }
                });
            });
        }
    });
}

#[test]
fn a_mutex_with_times_and_tokens() {
    everywhere(|runtime| {
        let mutex = Arc::new(Mutex::new(1));
        let guard = mutex.lock();
        assert!(mutex.try_lock().is_none());
        assert!(mutex.lock_timeout(SHORT).is_none());
        runtime.block_on(|| assert!(mutex.lock_timeout(SHORT).is_none()));
        let waits = mutex.clone();
        assert!(cancelled(runtime, move || waits
            .lock_cancellable()
            .is_err()));
        // The guard may be dropped elsewhere.
        runtime.block_on(move || drop(guard));
        assert_eq!(*mutex.lock_timeout(LONG).unwrap(), 1);
        assert_eq!(*mutex.try_lock().unwrap(), 1);

        let panics = mutex.clone();
        let fiber = runtime.spawn(move || {
            let _guard = panics.lock();
            panic!("with the lock");
        });
        assert!(fiber.join().unwrap_err().is_panic());
        assert_eq!(*mutex.lock(), 1);
    });
}

/// Waits that are given up at the moment at which they would be served.
#[test]
fn short_times() {
    everywhere(|runtime| {
        let (mutex, semaphore, lock) = (Mutex::new(()), Semaphore::new(2), RwLock::new(()));
        let served = AtomicUsize::new(0);
        mixed(runtime, 32, |i| {
            for k in 0..50u64 {
                let time = Duration::from_micros(k % 7);
                let mut got = 0;
                if let Some(_guard) = mutex.lock_timeout(time) {
                    got += 1;
                    yield_now();
                }
                if let Some(_permits) = semaphore.acquire_timeout(1 + i % 2, time) {
                    got += 1;
                    yield_now();
                }
                if i % 4 == 0 {
                    if let Some(_guard) = lock.write_timeout(time) {
                        got += 1;
                        yield_now();
                    }
                } else if let Some(_guard) = lock.read_timeout(time) {
                    got += 1;
                    yield_now();
                }
                served.fetch_add(got, Ordering::Relaxed);
            }
        });
        assert!(served.into_inner() > 0);
        assert!(mutex.try_lock().is_some());
        assert_eq!(semaphore.available(), 2);
        assert!(semaphore.try_acquire_many(2).is_some());
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn a_semaphore_bounds() {
    everywhere(|runtime| {
        let (semaphore, inside) = (Semaphore::new(5), AtomicUsize::new(0));
        mixed(runtime, 64, |i| {
            for k in 0..30 {
                let permits = semaphore.acquire_many(1 + (i + k) % 5);
                let count = permits.count();
                assert!(inside.fetch_add(count, Ordering::Relaxed) + count <= 5);
                if k % 3 == 0 {
                    yield_now();
                }
                inside.fetch_sub(count, Ordering::Relaxed);
            }
        });
        assert_eq!(semaphore.available(), 5);
    });
}

#[test]
fn a_semaphore_serves_in_order() {
    everywhere(|runtime| {
        let semaphore = Arc::new(Semaphore::new(1));
        let one = semaphore.acquire();
        let waits = semaphore.clone();
        let many = runtime.spawn(move || waits.acquire_many(3).forget());
        std::thread::sleep(SHORT);
        drop(one);
        std::thread::sleep(SHORT);
        // There is one, but it is for the one that waits for three.
        assert!(semaphore.try_acquire().is_none());
        let waits = semaphore.clone();
        assert!(cancelled(runtime, move || waits
            .acquire_cancellable(1)
            .is_err()));
        semaphore.release(2);
        many.join().unwrap();
        assert_eq!(semaphore.available(), 0);
        let result =
            panic::catch_unwind(AssertUnwindSafe(|| semaphore.release(Semaphore::MAX + 1)));
        assert!(result.is_err());
    });
}

#[test]
fn readers_share_and_writers_are_alone() {
    everywhere(|runtime| {
        let (lock, most) = (RwLock::new((0, 0)), AtomicUsize::new(0));
        let readers = AtomicUsize::new(0);
        mixed(runtime, 64, |i| {
            for k in 0..50 {
                if (i + k) % 5 == 0 {
                    let mut guard = lock.write();
                    assert_eq!(readers.load(Ordering::Relaxed), 0);
                    guard.0 += 1;
                    yield_now();
                    guard.1 += 1;
                    if k % 2 == 0 {
                        let guard = guard.downgrade();
                        assert_eq!(guard.0, guard.1);
                    }
                } else {
                    let guard = lock.read();
                    most.fetch_max(
                        readers.fetch_add(1, Ordering::Relaxed) + 1,
                        Ordering::Relaxed,
                    );
                    yield_now();
                    assert_eq!(guard.0, guard.1);
                    readers.fetch_sub(1, Ordering::Relaxed);
                }
            }
        });
        assert!(most.into_inner() > 1);
        assert_eq!(lock.into_inner(), (640, 640));
    });
}

#[test]
fn a_writer_that_gives_up_lets_readers_on() {
    everywhere(|runtime| {
        let lock = Arc::new(RwLock::new(()));
        let reader = lock.read();
        let (writes, reads) = (lock.clone(), lock.clone());
        let writer = runtime.spawn(move || writes.write_timeout(4 * SHORT).is_none());
        std::thread::sleep(SHORT);
        assert!(lock.try_read().is_none(), "a writer waits");
        let second = runtime.spawn(move || reads.read_timeout(LONG).is_some());
        assert!(writer.join().unwrap());
        assert!(second.join().unwrap());
        let waits = lock.clone();
        assert!(cancelled(runtime, move || waits
            .write_cancellable()
            .is_err()));
        drop(reader);
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn a_condition_passes_a_baton() {
    everywhere(|runtime| {
        const SIZE: usize = 16;
        let (turn, changed) = (Mutex::new(0), Condvar::new());
        mixed(runtime, SIZE, |i| {
            for round in 0..20 {
                let mut guard = changed.wait_while(turn.lock(), |turn| *turn != round * SIZE + i);
                *guard += 1;
                drop(guard);
                changed.notify_all();
            }
        });
        assert_eq!(turn.into_inner(), 20 * SIZE);
    });
}

#[test]
fn a_condition_with_times_and_tokens() {
    everywhere(|runtime| {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let (flag, changed) = &*shared;
        let (guard, woken) = changed.wait_timeout(flag.lock(), SHORT);
        assert!(!woken);
        drop(guard);
        runtime.block_on(|| {
            let (_guard, ended) = changed.wait_timeout_while(flag.lock(), SHORT, |flag| !*flag);
            assert!(!ended);
        });
        let waits = shared.clone();
        assert!(cancelled(runtime, move || {
            let (guard, result) = waits.1.wait_cancellable(waits.0.lock());
            drop(guard);
            result.is_err()
        }));
        let waits = shared.clone();
        let waiter = runtime.spawn(move || {
            let (guard, ended) = waits
                .1
                .wait_timeout_while(waits.0.lock(), LONG, |flag| !*flag);
            *guard && ended
        });
        std::thread::sleep(SHORT);
        *flag.lock() = true;
        changed.notify_one();
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn a_barrier_holds_until_all_are_there() {
    everywhere(|runtime| {
        let (barrier, arrived) = (Barrier::new(24), AtomicUsize::new(0));
        let leaders = AtomicUsize::new(0);
        mixed(runtime, 24, |_| {
            for round in 1..20 {
                arrived.fetch_add(1, Ordering::Relaxed);
                if barrier.wait() {
                    leaders.fetch_add(1, Ordering::Relaxed);
                }
                assert!(arrived.load(Ordering::Relaxed) >= 24 * round);
                barrier.wait();
            }
        });
        assert_eq!(leaders.into_inner(), 19);
    });
    assert!(Barrier::new(0).wait() && Barrier::new(1).wait());
}

#[test]
fn statics() {
    static MUTEX: Mutex<u32> = Mutex::new(1);
    static LOCK: RwLock<u32> = RwLock::new(2);
    static SEMAPHORE: Semaphore = Semaphore::new(3);
    static COUNTER: Counter = Counter::new(0);
    COUNTER.wait();
    assert_eq!(*MUTEX.lock() + *LOCK.read(), 3);
    assert_eq!(SEMAPHORE.acquire().count(), 1);
}

#[test]
fn many_waiters_of_a_counter() {
    watched(|| {
        let runtime = runtime(2);
        let (counter, woken) = (Counter::new(1), AtomicUsize::new(0));
        runtime.nursery(|n| {
            for _ in 0..10_000 {
                n.spawn(|| {
                    counter.wait();
                    woken.fetch_add(1, Ordering::Relaxed);
                });
            }
            std::thread::sleep(SHORT);
            counter.done();
        });
        assert_eq!(woken.into_inner(), 10_000);
    });
}
