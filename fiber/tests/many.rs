//! A hundred thousand parked fibers at the kernel's default limits, each with a guarded stack of its own, and a million
//! queued tasks without one.

mod support;

use millpond_fiber::{Fiber, Runtime};
use std::sync::{Arc, Mutex};
use support::watched;

#[test]
fn parked_fibers() {
    const FIBERS: usize = 100_000;
    watched(|| {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let parked: Arc<Mutex<Vec<Fiber>>> = Arc::default();
        let fibers: Vec<_> = (0..FIBERS)
            .map(|n| {
                let parked = parked.clone();
                runtime.spawn(move || {
                    parked
                        .lock()
                        .unwrap()
                        .push(millpond_fiber::current().unwrap());
                    millpond_fiber::park();
                    n
                })
            })
            .collect();
        while parked.lock().unwrap().len() < FIBERS {
            std::thread::yield_now();
        }
        let stats = millpond::stack::StackPool::global().stats();
        assert!(stats.live >= FIBERS, "{stats:?}");
        let mappings = std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count();
        println!("{mappings} mappings, {stats:?}");
        parked
            .lock()
            .unwrap()
            .drain(..)
            .for_each(|fiber| fiber.unpark());
        let sum: usize = fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum();
        assert_eq!(sum, FIBERS * (FIBERS - 1) / 2);
    });
}

#[test]
fn queued_tasks() {
    const TASKS: usize = 1_000_000;
    watched(|| {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        let before = millpond::stack::StackPool::global().stats().live;
        let (live, sum) = runtime.block_on(|| {
            let tasks: Vec<_> = (0..TASKS)
                .map(|n| millpond_fiber::spawn(move || n))
                .collect();
            let live = millpond::stack::StackPool::global().stats().live;
            let sum: usize = tasks.into_iter().map(|task| task.join().unwrap()).sum();
            (live, sum)
        });
        assert_eq!(sum, TASKS * (TASKS - 1) / 2);
        // The other test may run beside this one, with its own stacks.
        println!("{before} stacks before, {live} with a million tasks queued");
    });
}
