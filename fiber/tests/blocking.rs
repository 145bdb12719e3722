//! The pool for blocking calls.

mod support;

use millpond_fiber::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use support::{runtime, watched};

#[test]
fn calls_run_beside_the_workers() {
    watched(|| {
        for workers in [1, 2, 64] {
            let runtime = runtime(workers);
            let start = Instant::now();
            let sum: usize = runtime.block_on(|| {
                let calls: Vec<_> = (0..20)
                    .map(|i| {
                        spawn_blocking(move || {
                            assert!(current().is_none());
                            std::thread::sleep(Duration::from_millis(100));
                            i
                        })
                    })
                    .collect();
                // The worker goes on meanwhile.
                spawn(|| ()).join().unwrap();
                calls.into_iter().map(|call| call.join().unwrap()).sum()
            });
            assert_eq!(sum, 190);
            assert!(start.elapsed() < Duration::from_millis(1500));
            assert_eq!(runtime.spawn_blocking(|| 7).join().unwrap(), 7);
        }
    });
}

#[test]
fn threads_are_bounded_and_calls_are_not() {
    watched(|| {
        let runtime = Runtime::builder()
            .workers(2)
            .blocking_threads(3)
            .build()
            .unwrap();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let calls: Vec<_> = (0..300)
            .map(|_| {
                let (now, most) = (now.clone(), most.clone());
                runtime.spawn_blocking(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_micros(200));
                    now.fetch_sub(1, Ordering::SeqCst);
                })
            })
            .collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    });
}

#[test]
fn a_panic_is_carried_and_the_thread_goes_on() {
    watched(|| {
        let runtime = Runtime::builder()
            .workers(1)
            .blocking_threads(1)
            .build()
            .unwrap();
        for _ in 0..3 {
            assert!(
                runtime
                    .spawn_blocking(|| panic!("blocked"))
                    .join()
                    .unwrap_err()
                    .is_panic()
            );
        }
        assert_eq!(runtime.block_on(|| spawn_blocking(|| 1).join().unwrap()), 1);
    });
}

#[test]
fn a_runtime_that_ends_waits_for_calls_or_drops_them() {
    watched(|| {
        for how in [Shutdown::Finish, Shutdown::Cancel] {
            let runtime = Runtime::builder()
                .workers(1)
                .blocking_threads(1)
                .build()
                .unwrap();
            let ended = Arc::new(AtomicUsize::new(0));
            let (began, seen) = mpsc::channel();
            let first = ended.clone();
            drop(runtime.spawn_blocking(move || {
                began.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(50));
                first.fetch_add(1, Ordering::SeqCst);
            }));
            seen.recv().unwrap();
            let second = ended.clone();
            let queued = runtime.spawn_blocking(move || second.fetch_add(1, Ordering::SeqCst));
            // A fiber that waits for a call that is dropped goes on.
            let waits = runtime.spawn(|| spawn_blocking(|| ()).join().is_ok());
            while runtime.metrics().parks == 0 {
                std::thread::yield_now();
            }
            runtime.shutdown(how);
            let finished = how == Shutdown::Finish;
            assert_eq!(ended.load(Ordering::SeqCst), if finished { 2 } else { 1 });
            assert_eq!(queued.join().is_ok(), finished);
            assert_eq!(waits.join().unwrap(), finished);
        }
    });
}

/// The last handle to a runtime is dropped by one of its own blocking calls.
#[test]
fn a_call_that_ends_its_runtime() {
    watched(|| {
        let runtime = Arc::new(runtime(1));
        let inner = runtime.clone();
        let (go, wait) = mpsc::channel::<()>();
        let call = runtime.spawn_blocking(move || {
            wait.recv().unwrap();
            drop(inner);
        });
        drop(runtime);
        go.send(()).unwrap();
        call.join().unwrap();
    });
}
