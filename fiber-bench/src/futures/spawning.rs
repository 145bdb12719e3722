//! Starting tasks and waiting for their ends.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, yield_now};

use super::join;
use crate::blocking::slots;
use crate::measure::{Outcome, Rounds, SAMPLE_EVERY};
use crate::memory;
use crate::params::Params;
use crate::rules::*;
use crate::work::{thread_id, work};

/// Starts `count` children and waits for all of them.
pub async fn all<F: Future<Output = ()> + Send + 'static>(
    count: usize,
    child: impl Fn(usize) -> F,
) {
    let handles: Vec<JoinHandle<()>> = (0..count).map(|index| tokio::spawn(child(index))).collect();
    for handle in handles {
        join(handle).await;
    }
}

pub async fn nursery(params: &Params) -> Outcome {
    let children = params.scaled(1_000, 10);
    let places = slots(children);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        all(children, |child| async move {
            places[child].set(round + child as u64)
        })
        .await;
        check_places(places, round);
        round += 1;
        rounds.done(children as u64);
    }
    rounds.finish()
}

pub async fn sequential(params: &Params) -> Outcome {
    let tasks = params.scaled(1_000, SAMPLE_EVERY);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let mut sum = 0;
        for i in 0..tasks {
            if i % SAMPLE_EVERY == 0 {
                let start = Instant::now();
                sum += join(tokio::spawn(async move { i })).await;
                rounds.single(start.elapsed());
            } else {
                sum += join(tokio::spawn(async move { i })).await;
            }
        }
        check_sum(sum as u64, tasks as u64);
        rounds.done(tasks as u64);
    }
    rounds.finish()
}

/// A count whose last one notifies: tokio has no wait group.
#[derive(Default)]
struct Counted {
    left: AtomicUsize,
    zero: Notify,
}

pub async fn trivial(params: &Params) -> Outcome {
    let tasks = params.scaled(10_000, 10);
    let places = slots(tasks);
    let counted: &'static Counted = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        counted.left.store(tasks, Ordering::Relaxed);
        for (i, place) in places.iter().enumerate() {
            tokio::spawn(async move {
                place.set(u64::from(work(i as u32 + 1, 1)) + round);
                if counted.left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    counted.zero.notify_one();
                }
            });
        }
        counted.zero.notified().await;
        check_trivial(places, round);
        round += 1;
        rounds.done(tasks as u64);
    }
    rounds.finish()
}

pub async fn switch(params: &Params) -> Outcome {
    let tasks = params.scaled(1_000, 10);
    let places = slots(tasks);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        let task = |task: usize| async move {
            places[task].set(round);
            yield_now().await;
            places[task].set(places[task].get() + task as u64);
        };
        all(tasks, task).await;
        check_places(places, round);
        round += 1;
        rounds.done(tasks as u64);
    }
    rounds.finish()
}

pub async fn yield_many(params: &Params) -> Outcome {
    let (tasks, yields) = (params.scaled(200, 4), params.scaled(1_000, 10));
    let places = slots(tasks);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let task = |task: usize| async move {
            let mut done = 0;
            for _ in 0..yields {
                yield_now().await;
                done += 1;
            }
            places[task].set(done);
        };
        all(tasks, task).await;
        check_yields(places, yields);
        rounds.done((tasks * yields) as u64);
    }
    rounds.finish()
}

pub async fn chained(params: &Params) -> Outcome {
    fn link(left: usize, sum: u64, done: mpsc::Sender<u64>) {
        tokio::spawn(async move {
            if left == 1 {
                done.send(sum + 1).await.expect("the receiver lives");
            } else {
                link(left - 1, sum + left as u64, done);
            }
        });
    }
    let length = params.scaled(1_000, 10);
    let mut rounds = Rounds::new(params);
    let (sender, mut receiver) = mpsc::channel(1);
    while rounds.more() {
        link(length, 0, sender.clone());
        check_sum(receiver.recv().await.unwrap_or(0), length as u64 + 1);
        rounds.done(length as u64);
    }
    rounds.finish()
}

pub async fn skynet(params: &Params) -> Outcome {
    fn node(first: u64, leaves: u64) -> Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(async move {
            let each = leaves / 10;
            let mut sum = 0;
            if each == 1 {
                // A leaf needs no boxed future of its own.
                let children: [JoinHandle<u64>; 10] =
                    std::array::from_fn(|child| tokio::spawn(async move { first + child as u64 }));
                for child in children {
                    sum += join(child).await;
                }
            } else {
                let children: [JoinHandle<u64>; 10] = std::array::from_fn(|child| {
                    tokio::spawn(node(first + child as u64 * each, each))
                });
                for child in children {
                    sum += join(child).await;
                }
            }
            sum
        })
    }
    let leaves = leaves(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        check_sum(join(tokio::spawn(node(0, leaves))).await, leaves);
        rounds.done(leaves);
    }
    rounds.finish()
}

pub async fn fib(params: &Params) -> Outcome {
    fn fib(n: u32) -> Pin<Box<dyn Future<Output = u64> + Send>> {
        Box::pin(async move {
            if n < 2 {
                return u64::from(n);
            }
            let a = tokio::spawn(fib(n - 1));
            let b = fib(n - 2).await;
            join(a).await + b
        })
    }
    let n = fib_of(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        check_fib(n, fib(n).await);
        rounds.done(fib_calls(n));
    }
    rounds.finish()
}

pub async fn cross(params: &Params) -> Outcome {
    let tasks = params.scaled(100_000, 100) as u64;
    let shared: &'static Crossing = Box::leak(Box::default());
    let home = thread_id();
    let mut spawned = 0;
    let mut rounds = Rounds::new(params);
    let mut early = 0;
    while rounds.more() {
        if early == 0 && spawned > 0 {
            early = memory::resident_bytes();
        }
        for _ in 0..tasks {
            let value = spawned;
            spawned += 1;
            tokio::spawn(async move { shared.complete(value, home) });
            // Without an await: the other worker steals.
            while spawned - shared.completed.load(Ordering::Acquire) > BACKLOG {
                std::hint::spin_loop();
            }
        }
        rounds.done(tasks);
    }
    let outcome = rounds.finish();
    while shared.completed.load(Ordering::Acquire) < spawned {
        yield_now().await;
    }
    shared.finish(outcome, spawned, early)
}
