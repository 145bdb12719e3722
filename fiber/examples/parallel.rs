//! Times structured concurrency and data parallelism: nanoseconds per operation, the best of several rounds.
//!
//! `cargo run --release -p millpond-fiber --example parallel`

use millpond_fiber::*;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const ROUNDS: usize = 7;
const ITEMS: usize = 1_000_000;

/// The best of several rounds of something with so many operations.
fn best(operations: usize, mut round: impl FnMut()) -> f64 {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_nanos() as f64 / operations as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// Work that isn't optimised away.
fn units(count: usize, seed: usize) -> usize {
    let mut x = seed;
    for _ in 0..count {
        x = black_box(x.wrapping_mul(5).wrapping_add(1));
    }
    x
}

fn spawn_nursery(runtime: &Runtime) -> f64 {
    best(ITEMS, || {
        runtime.block_on(|| {
            let ended = AtomicUsize::new(0);
            for _ in 0..ITEMS / 1000 {
                nursery(|n| {
                    for i in 0..1000usize {
                        n.spawn(move || {
                            black_box(i);
                        });
                    }
                });
                ended.fetch_add(1000, Ordering::Relaxed);
            }
            assert_eq!(ended.into_inner(), ITEMS);
        });
    })
}

fn parallel_loop(runtime: &Runtime, work: usize) -> f64 {
    best(ITEMS, || {
        runtime.block_on(|| {
            parallel_for(0..ITEMS, |i| {
                black_box(units(work, i));
            });
        });
    })
}

fn reduce(runtime: &Runtime) -> f64 {
    best(ITEMS, || {
        let sum = runtime.block_on(|| {
            parallel_reduce(0..ITEMS, || 0, |sum, i| sum + units(1, i) % 7, |a, b| a + b)
        });
        assert!(sum > 0);
    })
}

fn chunks(runtime: &Runtime) -> f64 {
    best(ITEMS, || {
        let sum = AtomicUsize::new(0);
        runtime.block_on(|| {
            parallel_for_chunks(0..ITEMS, 1000, |part| {
                sum.fetch_add(part.map(|i| units(15, i) % 7).sum(), Ordering::Relaxed);
            });
        });
        assert!(sum.into_inner() > 0);
    })
}

/// Two fibers count down, each its own counter: in one array, or far apart.
fn counters(runtime: &Runtime, distance: usize) -> f64 {
    let counters: Vec<Counter> = (0..=distance).map(|_| Counter::new(0)).collect();
    best(2 * ITEMS, || {
        runtime.block_on(|| {
            nursery(|n| {
                for counter in [&counters[0], &counters[distance]] {
                    counter.add(ITEMS);
                    n.spawn(move || (0..ITEMS).for_each(|_| counter.done()));
                }
                counters[0].wait();
                counters[distance].wait();
            });
        });
    })
}

fn fib(n: u32) -> u32 {
    if n < 2 {
        return n;
    }
    let (a, b) = join(|| fib(n - 1), || fib(n - 2));
    a + b
}

fn main() {
    let one = Runtime::builder().workers(1).build().unwrap();
    let two = Runtime::builder().workers(2).build().unwrap();
    println!(
        "{:<24} {:>10} {:>10} {:>8}",
        "ns per operation", "1 worker", "2 workers", "ratio"
    );
    let row = |name: &str, time: &dyn Fn(&Runtime) -> f64| {
        let (one, two) = (time(&one), time(&two));
        println!("{name:<24} {one:>10.2} {two:>10.2} {:>8.2}", one / two);
    };
    row("spawn_nursery", &spawn_nursery);
    row("parallel_for_0", &|runtime| parallel_loop(runtime, 0));
    row("parallel_for_15", &|runtime| parallel_loop(runtime, 15));
    row("parallel_for_1000", &|runtime| parallel_loop(runtime, 1000));
    row("parallel_for_per_chunk", &chunks);
    row("parallel_reduce", &reduce);
    row("counters_adjacent", &|runtime| counters(runtime, 1));
    row("counters_apart", &|runtime| counters(runtime, 64));
    row("fib_27 by join", &|runtime| {
        best(832_040, || {
            assert_eq!(runtime.block_on(|| fib(27)), 196_418)
        })
    });
}
