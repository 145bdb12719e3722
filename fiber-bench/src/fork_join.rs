//! The benchmarks that rayon can run: tasks that never wait but for those they have started.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed};

use rayon::prelude::*;

use crate::blocking::slots;
use crate::fail::check;
use crate::measure::{Outcome, Rounds};
use crate::params::Params;
use crate::rules::*;
use crate::work::{thread_id, work, work_sum};

/// Runs the benchmark on a pool of its own.
///
/// # Panics
/// For a benchmark that rayon can't run.
pub fn run(params: &Params) -> Outcome {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(params.workers)
        .build();
    let pool = pool.unwrap_or_else(|error| crate::fail::cannot_run(&error.to_string()));
    let outcome = pool.install(|| dispatch(params));
    // Not dropped: `idle_cpu` looks at it while it has nothing to do.
    std::mem::forget(pool);
    outcome
}

fn dispatch(params: &Params) -> Outcome {
    match params.benchmark {
        "spawn_nursery" | "idle_cpu" => nursery(params),
        "trivial_task" => trivial(params),
        "chained_spawn" => chained(params),
        "skynet" => skynet(params),
        "fib_30" => fib(params),
        "parallel_for_0" | "parallel_for_15" | "parallel_for_1000" => store(params),
        "parallel_for_shared_atomic" => sum(params, |len, sum| {
            let units = black_box(UNITS);
            (0..len).into_par_iter().for_each(|i| {
                sum.fetch_add(u64::from(work(i as u32, units)), Relaxed);
            });
        }),
        "parallel_for_per_chunk" => sum(params, |len, sum| {
            (0..len.div_ceil(CHUNK)).into_par_iter().for_each(|chunk| {
                sum.fetch_add(work_sum(chunk_range(chunk, len), UNITS), Relaxed);
            });
        }),
        "parallel_for_no_atomic" => {
            let sums = slots(items(params).div_ceil(CHUNK));
            sum(params, |len, sum| {
                sums.par_iter().enumerate().for_each(|(chunk, place)| {
                    place.set(work_sum(chunk_range(chunk, len), UNITS));
                });
                sum.store(sums.iter().map(crate::blocking::Slot::get).sum(), Relaxed);
            })
        }
        "parallel_reduce" => sum(params, |len, sum| {
            let units = black_box(UNITS);
            let total = (0..len)
                .into_par_iter()
                .map(|i| u64::from(work(i as u32, units)))
                .sum();
            sum.store(total, Relaxed);
        }),
        "task_pool_cross" => cross(params),
        other => panic!("rayon doesn't run {other}"),
    }
}

fn chunk_range(chunk: usize, len: usize) -> std::ops::Range<usize> {
    chunk * CHUNK..len.min((chunk + 1) * CHUNK)
}

fn nursery(params: &Params) -> Outcome {
    let children = params.scaled(1_000, 10);
    let places = slots(children);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        rayon::scope(|scope| {
            for (child, place) in places.iter().enumerate() {
                scope.spawn(move |_| place.set(round + child as u64));
            }
        });
        check_places(places, round);
        round += 1;
        rounds.done(children as u64);
    }
    rounds.finish()
}

fn trivial(params: &Params) -> Outcome {
    let tasks = params.scaled(10_000, 10);
    let places = slots(tasks);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        rayon::scope(|scope| {
            for (i, place) in places.iter().enumerate() {
                scope.spawn(move |_| place.set(u64::from(work(i as u32 + 1, 1)) + round));
            }
        });
        check_trivial(places, round);
        round += 1;
        rounds.done(tasks as u64);
    }
    rounds.finish()
}

fn chained(params: &Params) -> Outcome {
    fn link<'scope>(scope: &rayon::Scope<'scope>, left: usize, sum: u64, done: &'scope AtomicU64) {
        scope.spawn(move |scope| {
            if left == 1 {
                done.store(sum + 1, Relaxed);
            } else {
                link(scope, left - 1, sum + left as u64, done);
            }
        });
    }
    let length = params.scaled(1_000, 10);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let sum = AtomicU64::new(0);
        rayon::scope(|scope| link(scope, length, 0, &sum));
        check_sum(sum.into_inner(), length as u64 + 1);
        rounds.done(length as u64);
    }
    rounds.finish()
}

fn skynet(params: &Params) -> Outcome {
    fn node(first: u64, leaves: u64) -> u64 {
        if leaves == 1 {
            return first;
        }
        let each = leaves / 10;
        let mut sums = [0; 10];
        rayon::scope(|scope| {
            for (child, sum) in (0..).zip(&mut sums) {
                scope.spawn(move |_| *sum = node(first + child * each, each));
            }
        });
        sums.iter().sum()
    }
    let leaves = leaves(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        check_sum(node(0, leaves), leaves);
        rounds.done(leaves);
    }
    rounds.finish()
}

fn fib(params: &Params) -> Outcome {
    fn fib(n: u32) -> u64 {
        if n < 2 {
            return u64::from(n);
        }
        let (a, b) = rayon::join(|| fib(n - 1), || fib(n - 2));
        a + b
    }
    let n = fib_of(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        check_fib(n, fib(n));
        rounds.done(fib_calls(n));
    }
    rounds.finish()
}

fn store(params: &Params) -> Outcome {
    let (len, units) = (items(params), black_box(params.number() as u32));
    let places = stores(len);
    let right = work_sum(0..len, units);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        places
            .par_iter()
            .enumerate()
            .for_each(|(i, place)| place.store(work(i as u32, units), Relaxed));
        rounds.done(len as u64);
    }
    let outcome = rounds.finish();
    check_stores(places, right);
    outcome
}

fn sum(params: &Params, run: impl Fn(usize, &AtomicU64) + Sync) -> Outcome {
    let len = items(params);
    let right = work_sum(0..len, UNITS);
    let sum = AtomicU64::new(0);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        run(len, &sum);
        let sum = sum.swap(0, Relaxed);
        check(sum == right, || {
            format!("the items' sum is {sum} and not {right}")
        });
        rounds.done(len as u64);
    }
    rounds.finish()
}

fn cross(params: &Params) -> Outcome {
    let tasks = params.scaled(100_000, 100) as u64;
    let shared: &'static Crossing = Box::leak(Box::default());
    let home = thread_id();
    let mut spawned = 0;
    let mut rounds = Rounds::new(params);
    let mut early = 0;
    while rounds.more() {
        if early == 0 && spawned > 0 {
            early = crate::memory::resident_bytes();
        }
        for _ in 0..tasks {
            let value = spawned;
            spawned += 1;
            rayon::spawn(move || shared.complete(value, home));
            // The other worker steals: this one runs nothing before the end.
            while spawned - shared.completed.load(Ordering::Acquire) > BACKLOG {
                std::hint::spin_loop();
            }
        }
        rounds.done(tasks);
    }
    let outcome = rounds.finish();
    while shared.completed.load(Ordering::Acquire) < spawned {
        rayon::yield_now();
    }
    shared.finish(outcome, spawned, early)
}
