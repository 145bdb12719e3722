//! The core: spawn, join, park, timers, cancellation, shutdown, with few and with many workers.

mod support;

use millpond_fiber::sync::Semaphore;
use millpond_fiber::{
    Builder, CancelToken, Cancelled, Fiber, FiberLocal, JoinError, Runtime, Shutdown, Victims,
    nursery,
};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{both_modes, runtime, watched};

const WORKERS: [usize; 3] = [1, 2, 64];

/// Runs a test with few and with many workers, pinned and with migration.
fn on_all(test: impl Fn(&Runtime)) {
    watched(|| {
        for workers in WORKERS {
            both_modes(workers).iter().for_each(&test);
        }
    });
}

#[test]
fn results_come_back() {
    on_all(|runtime| {
        let handles: Vec<_> = (0..1000u64).map(|n| runtime.spawn(move || n * n)).collect();
        let sum: u64 = handles
            .into_iter()
            .map(|handle| handle.join().unwrap())
            .sum();
        assert_eq!(sum, 332_833_500);
    });
}

#[test]
fn fork_and_join() {
    fn fibonacci(n: u32) -> u64 {
        if n < 2 {
            return n.into();
        }
        let other = millpond_fiber::spawn(move || fibonacci(n - 1));
        fibonacci(n - 2) + other.join().unwrap()
    }
    on_all(|runtime| assert_eq!(runtime.block_on(|| fibonacci(18)), 2584));
}

#[test]
fn panics_are_carried() {
    on_all(|runtime| {
        let error = runtime
            .spawn(|| -> u32 { panic!("of the fiber") })
            .join()
            .unwrap_err();
        assert_eq!(error.to_string(), "the fiber panicked: of the fiber");
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(|| std::panic::panic_any(7_u8));
        }));
        assert_eq!(*caught.unwrap_err().downcast::<u8>().unwrap(), 7);
        // The worker goes on.
        assert_eq!(runtime.block_on(|| 1), 1);
    });
}

struct Counted<'a>(&'a AtomicUsize);
impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn closures_and_results_are_dropped_once() {
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    watched(|| {
        let runtime = runtime(2);
        for _ in 0..1000 {
            let counted = Counted(&DROPS);
            // Detached, joined, and joined with the result dropped.
            drop(runtime.spawn(move || drop(counted)));
            let counted = Counted(&DROPS);
            drop(runtime.spawn(move || counted).join().unwrap());
            drop(runtime.spawn(|| Counted(&DROPS)));
        }
        drop(runtime);
        assert_eq!(DROPS.load(Ordering::SeqCst), 3000);
    });
}

#[test]
fn every_unpark_arrives() {
    on_all(|runtime| {
        runtime.block_on(|| {
            let (first, second) = (
                Arc::new(Mutex::new(None::<Fiber>)),
                Arc::new(AtomicU64::new(0)),
            );
            let (slot, turn) = (first.clone(), second.clone());
            let partner = millpond_fiber::current().unwrap();
            let other = millpond_fiber::spawn(move || {
                *slot.lock().unwrap() = millpond_fiber::current();
                partner.unpark();
                for round in 0..2000 {
                    while turn.load(Ordering::SeqCst) != 2 * round + 1 {
                        millpond_fiber::park();
                    }
                    turn.store(2 * round + 2, Ordering::SeqCst);
                    partner.unpark();
                }
            });
            while first.lock().unwrap().is_none() {
                millpond_fiber::park();
            }
            let child = first.lock().unwrap().clone().unwrap();
            for round in 0..2000 {
                second.store(2 * round + 1, Ordering::SeqCst);
                child.unpark();
                while second.load(Ordering::SeqCst) != 2 * round + 2 {
                    millpond_fiber::park();
                }
            }
            other.join().unwrap();
            // Of a fiber that has ended: nothing happens.
            child.unpark();
        });
    });
}

#[test]
fn sleeps_are_long_enough_and_in_order() {
    on_all(|runtime| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        let handles: Vec<_> = [50_u64, 10, 30]
            .into_iter()
            .map(|milliseconds| {
                let order = order.clone();
                runtime.spawn(move || {
                    millpond_fiber::sleep(Duration::from_millis(milliseconds)).unwrap();
                    order.lock().unwrap().push(milliseconds);
                })
            })
            .collect();
        handles
            .into_iter()
            .for_each(|handle| handle.join().unwrap());
        assert!(start.elapsed() >= Duration::from_millis(50));
        assert_eq!(*order.lock().unwrap(), [10, 30, 50]);
    });
}

#[test]
fn a_join_with_a_limit_gives_the_handle_back() {
    on_all(|runtime| {
        let wait = |runtime: &Runtime| {
            let go = Arc::new(AtomicBool::new(false));
            let seen = go.clone();
            let handle = runtime.spawn(move || {
                while !seen.load(Ordering::SeqCst) {
                    millpond_fiber::sleep(Duration::from_millis(1)).unwrap();
                }
                5
            });
            (go, handle)
        };
        // By a plain thread, then by a fiber.
        let (go, handle) = wait(runtime);
        let handle = handle.join_timeout(Duration::from_millis(5)).unwrap_err();
        go.store(true, Ordering::SeqCst);
        assert_eq!(handle.join().unwrap(), 5);
        let (go, handle) = wait(runtime);
        runtime.block_on(move || {
            let handle = handle.join_timeout(Duration::from_millis(5)).unwrap_err();
            go.store(true, Ordering::SeqCst);
            assert_eq!(
                handle
                    .join_timeout(Duration::from_secs(50))
                    .unwrap()
                    .unwrap(),
                5
            );
        });
    });
}

/// The end of a fiber and the end of the time come together, many times.
#[test]
fn joins_that_just_miss() {
    watched(|| {
        let runtime = runtime(2);
        let (mut ended, mut missed) = (0, 0);
        for round in 0..400_u64 {
            let pause = Duration::from_micros(50 + round % 40);
            let handle = runtime.spawn(move || {
                let start = Instant::now();
                while start.elapsed() < pause {
                    millpond_fiber::yield_now();
                }
                round
            });
            runtime.block_on(|| match handle.join_timeout(Duration::from_micros(60)) {
                Ok(result) => {
                    assert_eq!(result.unwrap(), round);
                    ended += 1;
                }
                Err(handle) => {
                    assert_eq!(handle.join().unwrap(), round);
                    missed += 1;
                }
            });
        }
        assert_eq!(ended + missed, 400);
    });
}

#[test]
fn a_token_ends_waits() {
    on_all(|runtime| {
        let token = CancelToken::new();
        let fibers: Vec<_> = (0..10)
            .map(|_| {
                let builder = Builder::new().cancel_token(&token);
                builder
                    .spawn_on(runtime, || millpond_fiber::sleep(Duration::from_secs(1000)))
                    .unwrap()
            })
            .collect();
        std::thread::sleep(Duration::from_millis(5));
        token.cancel();
        for fiber in fibers {
            assert_eq!(fiber.join().unwrap(), Err(Cancelled));
        }
        // A wait that begins afterwards ends at once.
        let late = Builder::new().cancel_token(&token);
        let late = late.spawn_on(runtime, || millpond_fiber::sleep(Duration::from_secs(1000)));
        assert_eq!(late.unwrap().join().unwrap(), Err(Cancelled));
    });
}

#[test]
fn fiber_locals_are_the_fibers_own() {
    static VALUE: FiberLocal<Cell<u64>> = FiberLocal::new(|| Cell::new(0));
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    static DROPPED: FiberLocal<Counted<'static>> = FiberLocal::new(|| Counted(&DROPS));
    watched(|| {
        let runtime = runtime(2);
        let fibers: Vec<_> = (1..100_u64)
            .map(|n| {
                runtime.spawn(move || {
                    DROPPED.with(|_| ());
                    VALUE.with(|value| value.set(n));
                    millpond_fiber::yield_now();
                    VALUE.with(|value| {
                        millpond_fiber::yield_now();
                        value.get() == n
                    })
                })
            })
            .collect();
        assert!(fibers.into_iter().all(|fiber| fiber.join().unwrap()));
        assert_eq!(DROPS.load(Ordering::SeqCst), 99);
        assert_eq!(VALUE.with(Cell::get), 0);
    });
}

/// A million spawns from a plain thread, far more than the global queue holds: none is lost.
#[test]
fn a_full_global_queue_loses_nothing() {
    static RUN: AtomicU64 = AtomicU64::new(0);
    watched(|| {
        let runtime = runtime(2);
        for n in 0..1_000_000_u64 {
            drop(runtime.spawn(move || RUN.fetch_add(n, Ordering::Relaxed)));
        }
        let spilled = runtime.metrics().spilled;
        runtime.shutdown(Shutdown::Finish);
        assert_eq!(RUN.load(Ordering::Relaxed), 499_999_500_000);
        assert!(spilled > 0, "the bounded part was never full");
    });
}

#[test]
fn shutdown_finishes_what_was_spawned() {
    watched(|| {
        for workers in WORKERS {
            let done = Arc::new(AtomicUsize::new(0));
            let runtime = runtime(workers);
            for _ in 0..100 {
                let done = done.clone();
                drop(runtime.spawn(move || {
                    millpond_fiber::sleep(Duration::from_millis(3)).unwrap();
                    let inner = done.clone();
                    drop(millpond_fiber::spawn(move || {
                        inner.fetch_add(1, Ordering::SeqCst)
                    }));
                    done.fetch_add(1, Ordering::SeqCst);
                }));
            }
            runtime.shutdown(Shutdown::Finish);
            assert_eq!(done.load(Ordering::SeqCst), 200);
        }
    });
}

#[test]
fn shutdown_cancels_what_has_not_started() {
    watched(|| {
        let runtime = runtime(1);
        let started = Arc::new(AtomicBool::new(false));
        let (seen, stop) = (started.clone(), Arc::new(AtomicBool::new(false)));
        let end = stop.clone();
        let first = runtime.spawn(move || {
            seen.store(true, Ordering::SeqCst);
            while !end.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        while !started.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        let later: Vec<_> = (0..10).map(|n| runtime.spawn(move || n)).collect();
        let thread = std::thread::spawn(move || runtime.shutdown(Shutdown::Cancel));
        std::thread::sleep(Duration::from_millis(5));
        stop.store(true, Ordering::SeqCst);
        thread.join().unwrap();
        first.join().unwrap();
        for handle in later {
            assert!(matches!(handle.join(), Err(JoinError::Cancelled)));
        }
    });
}

#[test]
fn a_fiber_that_computes_does_not_hold_up_its_child() {
    watched(|| {
        let runtime = runtime(2);
        runtime.block_on(|| {
            // Often, since the other worker may be awake, dozing or asleep.
            for _ in 0..50 {
                let done = Arc::new(AtomicBool::new(false));
                let seen = done.clone();
                let child = millpond_fiber::spawn(move || seen.store(true, Ordering::SeqCst));
                let start = Instant::now();
                while !done.load(Ordering::SeqCst) {
                    assert!(
                        start.elapsed() < Duration::from_secs(20),
                        "nobody took the child"
                    );
                    std::hint::spin_loop();
                }
                child.join().unwrap();
            }
        });
    });
}

#[test]
fn without_victims_tasks_stay() {
    watched(|| {
        let builder = Runtime::builder().workers(2).victims(Victims::None);
        let runtime = builder.build().unwrap();
        let elsewhere = runtime.block_on(|| {
            let here = std::thread::current().id();
            let fibers: Vec<_> = (0..1000)
                .map(|_| millpond_fiber::spawn(move || std::thread::current().id() != here))
                .collect();
            fibers
                .into_iter()
                .filter(|_| true)
                .map(|fiber| fiber.join().unwrap())
                .filter(|&e| e)
                .count()
        });
        assert_eq!(elsewhere, 0);
    });
}

/// A started fiber stays on its thread, whoever wakes it.
#[test]
fn started_fibers_are_pinned() {
    watched(|| {
        let runtime = runtime(4);
        let fibers: Vec<_> = (0..200_u64)
            .map(|n| {
                runtime.spawn(move || {
                    let here = std::thread::current().id();
                    (0..50).all(|round| {
                        if (n + round) % 2 == 0 {
                            millpond_fiber::yield_now();
                        } else {
                            millpond_fiber::sleep(Duration::from_micros(n)).unwrap();
                        }
                        std::thread::current().id() == here
                    })
                })
            })
            .collect();
        assert!(fibers.into_iter().all(|fiber| fiber.join().unwrap()));
    });
}

/// A fiber for a worker runs there, whoever spawns it.
#[test]
fn fibers_start_on_the_worker_that_is_named() {
    on_all(|runtime| {
        let workers = runtime.metrics().workers;
        let number = || {
            let thread = std::thread::current();
            let (_, number) = thread.name().unwrap().rsplit_once('-').unwrap();
            number.parse::<usize>().unwrap()
        };
        let on_each = || {
            let fibers: Vec<_> = (0..workers * 3)
                .map(|n| {
                    let builder = Builder::new().worker(n % workers);
                    (n % workers, builder.spawn_on(runtime, number).unwrap())
                })
                .collect();
            for (worker, fiber) in fibers {
                assert_eq!(fiber.join().unwrap(), worker);
            }
        };
        on_each();
        runtime.block_on(on_each);
        let refused = Builder::new().worker(workers).spawn_on(runtime, number);
        let error = refused.expect_err("there is no such worker").to_string();
        assert!(error.contains(&format!("no worker {workers} ")), "{error}");
    });
}

/// A backtrace goes from the fiber's own frames to the start of its stack, also after a switch.
#[test]
fn backtraces_work_in_fibers() {
    #[inline(never)]
    fn innermost() -> String {
        millpond_fiber::yield_now();
        std::backtrace::Backtrace::force_capture().to_string()
    }
    #[inline(never)]
    fn outermost() -> String {
        std::hint::black_box(innermost())
    }
    on_all(|runtime| {
        let trace = runtime.spawn(outermost).join().unwrap();
        let at = |name: &str| {
            trace
                .find(name)
                .unwrap_or_else(|| panic!("{name} in:\n{trace}"))
        };
        assert!(at("innermost") < at("outermost"));
    });
}

/// Waits in the destructor of a fiber that panics.
struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        let here = std::thread::current().id();
        for round in 0..4 {
            if round % 2 == 0 {
                millpond_fiber::yield_now();
            } else {
                millpond_fiber::sleep(Duration::from_micros(200)).unwrap();
            }
            // The standard library counts panics by thread.
            if std::thread::current().id() != here || !std::thread::panicking() {
                return;
            }
        }
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn destructors_may_wait_while_their_fiber_panics() {
    on_all(|runtime| {
        let stayed = Arc::new(AtomicUsize::new(0));
        let fibers: Vec<_> = (0..100)
            .map(|_| {
                let waits = Waits(stayed.clone());
                runtime.spawn(move || {
                    let _waits = waits;
                    panic!("on purpose");
                })
            })
            .collect();
        for fiber in fibers {
            let result: Result<(), JoinError> = fiber.join();
            assert!(matches!(result, Err(JoinError::Panic(_))));
        }
        assert_eq!(stayed.load(Ordering::SeqCst), 100);
        // No thread was left with a panic that it counts and doesn't have.
        let checks: Vec<_> = (0..200)
            .map(|_| {
                runtime.spawn(|| {
                    millpond_fiber::yield_now();
                    std::thread::panicking()
                })
            })
            .collect();
        for check in checks {
            assert!(!check.join().unwrap());
        }
    });
}

/// With migration, another worker goes on with a fiber whose time is over while its own is busy.
#[test]
fn with_migration_timers_are_punctual_beside_a_fiber_that_computes() {
    watched(|| {
        // SAFETY: the fibers keep nothing of their threads over a wait.
        let builder = unsafe { Runtime::builder().workers(2).migrate_started_fibers() };
        let runtime = builder.build().unwrap();
        let ticks = runtime.block_on(|| {
            let over = Arc::new(AtomicBool::new(false));
            let seen = over.clone();
            let hog = millpond_fiber::spawn(move || {
                while !seen.load(Ordering::SeqCst) {
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(50) {
                        std::hint::spin_loop();
                    }
                    millpond_fiber::yield_now();
                }
            });
            let ticker = millpond_fiber::spawn(|| {
                let start = Instant::now();
                let mut ticks = 0;
                while start.elapsed() < Duration::from_millis(500) {
                    millpond_fiber::sleep(Duration::from_millis(1)).unwrap();
                    ticks += 1;
                }
                ticks
            });
            let ticks = ticker.join().unwrap();
            over.store(true, Ordering::SeqCst);
            hog.join().unwrap();
            ticks
        });
        // Were they woken between the slices only, there would be ten.
        assert!(
            ticks > 50,
            "{ticks} ticks of a millisecond in half a second"
        );
    });
}

/// With migration, what a join forked may have begun elsewhere, waited, and come back to the top of the caller's queue. It
/// must not be taken for a fork that nobody stole.
#[test]
fn with_migration_a_fork_that_came_back_is_not_begun_again() {
    watched(|| {
        // SAFETY: the fibers keep nothing of their threads over a wait.
        let builder = unsafe { Runtime::builder().workers(2).migrate_started_fibers() };
        let runtime = builder.build().unwrap();
        runtime.block_on(|| {
            for _ in 0..200 {
                let (first, second) = (Semaphore::new(0), Semaphore::new(0));
                let waiting = AtomicUsize::new(0);
                let begun = AtomicUsize::new(0);
                let wait_for = |semaphore: &Semaphore| {
                    waiting.fetch_add(1, Ordering::SeqCst);
                    semaphore.acquire().forget();
                };
                nursery(|nursery| {
                    nursery.spawn(|| wait_for(&first));
                    while waiting.load(Ordering::SeqCst) == 0 {
                        millpond_fiber::yield_now();
                    }
                    let a = || {
                        // Without a wait, so that another worker has to begin the fork.
                        while waiting.load(Ordering::SeqCst) < 2 {
                            std::hint::spin_loop();
                        }
                        let parked = Instant::now();
                        while parked.elapsed() < Duration::from_micros(50) {
                            std::hint::spin_loop();
                        }
                        // The first goes next; the second waits in the queue.
                        first.release(1);
                        second.release(1);
                    };
                    let b = || {
                        begun.fetch_add(1, Ordering::SeqCst);
                        wait_for(&second);
                    };
                    millpond_fiber::join(a, b);
                });
                assert_eq!(begun.into_inner(), 1);
            }
        });
    });
}

/// With migration, some do move: otherwise the tests with it test nothing.
#[test]
fn with_migration_fibers_move() {
    watched(|| {
        // SAFETY: the fibers keep nothing of their threads over a wait.
        let builder = unsafe { Runtime::builder().workers(2).migrate_started_fibers() };
        let runtime = builder.build().unwrap();
        let moved = runtime.block_on(|| {
            (0..100).any(|_| {
                let parked: Arc<Mutex<Vec<Fiber>>> = Arc::default();
                let fibers: Vec<_> = (0..50)
                    .map(|_| {
                        let parked = parked.clone();
                        millpond_fiber::spawn(move || {
                            let here = std::thread::current().id();
                            let fiber = millpond_fiber::current().unwrap();
                            parked.lock().unwrap().push(fiber);
                            millpond_fiber::park();
                            std::thread::current().id() != here
                        })
                    })
                    .collect();
                while parked.lock().unwrap().len() < fibers.len() {
                    millpond_fiber::yield_now();
                }
                parked.lock().unwrap().iter().for_each(Fiber::unpark);
                // Whoever is to go on before this fiber waits must go on elsewhere.
                let start = Instant::now();
                while start.elapsed() < Duration::from_millis(5) {
                    std::hint::spin_loop();
                }
                let moved = fibers.into_iter().map(|fiber| fiber.join().unwrap());
                moved.filter(|&moved| moved).count() > 0
            })
        });
        assert!(moved);
    });
}

#[test]
fn fibers_of_one_runtime_wait_for_those_of_another() {
    watched(|| {
        let (one, two) = (runtime(1), Arc::new(runtime(2)));
        let inner = two.clone();
        let sum: u64 = one.block_on(move || {
            let handles: Vec<_> = (0..100_u64).map(|n| inner.spawn(move || n)).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().unwrap())
                .sum()
        });
        assert_eq!(sum, 4950);
    });
}

#[test]
fn unusable_settings_are_refused() {
    let text = |builder: millpond_fiber::RuntimeBuilder| builder.build().unwrap_err().to_string();
    assert!(text(Runtime::builder().workers(0)).contains("between 1 and 256 workers, not 0"));
    assert!(text(Runtime::builder().workers(257)).contains("257"));
    let error = text(Runtime::builder().stack_size(1 << 40));
    assert!(
        error.starts_with("the stack size of a runtime: "),
        "{error}"
    );
    let runtime = runtime(1);
    assert!(
        Builder::new()
            .stack_size(1 << 40)
            .spawn_on(&runtime, || ())
            .is_err()
    );
}

#[test]
fn stacks_are_as_large_as_asked_for() {
    fn deep(bytes: usize) -> usize {
        let frame = [1_u8; 1024];
        let frame = std::hint::black_box(&frame);
        if bytes < 1024 {
            frame[0].into()
        } else {
            deep(bytes - 1024) + usize::from(frame[1])
        }
    }
    watched(|| {
        let runtime = runtime(2);
        // Twice, and mixed with small ones, so that stacks of both sizes are used again.
        for _ in 0..20 {
            let large = Builder::new().stack_size(1 << 20);
            let large = large.spawn_on(&runtime, || deep(400 << 10)).unwrap();
            let small = runtime.spawn(|| deep(8 << 10));
            assert_eq!(large.join().unwrap(), 401);
            assert_eq!(small.join().unwrap(), 9);
        }
    });
}

/// Workers without work use no time: under 2% of a core.
#[test]
fn idle_workers_sleep() {
    watched(|| {
        let runtime = Runtime::builder().workers(4).name("idler").build().unwrap();
        runtime.block_on(|| {
            let fibers: Vec<_> = (0..1000).map(|_| millpond_fiber::spawn(|| ())).collect();
            fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
        });
        let used = || {
            let worker = |thread: &str| thread.starts_with("idler-");
            let mut ticks = 0_u64;
            for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
                let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                let stat =
                    std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                if worker(name.trim()) {
                    let time = stat
                        .split(' ')
                        .next()
                        .and_then(|time| time.parse::<u64>().ok());
                    ticks += time.unwrap_or_default();
                }
            }
            ticks
        };
        std::thread::sleep(Duration::from_millis(50));
        let before = used();
        std::thread::sleep(Duration::from_secs(1));
        let share = (used() - before) as f64 / 1e9;
        assert!(
            share < 0.02,
            "idle workers use {:.1}% of a core",
            share * 100.0
        );
    });
}
