//! Starting tasks and waiting for their ends.

use std::time::Instant;

use super::{Blocking, Group, slots};
use crate::fail::check;
use crate::measure::{Outcome, Rounds, SAMPLE_EVERY};
use crate::params::Params;
use crate::work;

pub fn nursery<R: Blocking>(params: &Params) -> Outcome {
    let children = params.scaled(1_000, 10);
    let places = slots(children);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        R::nursery(children, move |child| places[child].set(round + child as u64));
        let sum: u64 = places.iter().map(super::Slot::get).sum();
        let n = children as u64;
        check(sum == n * round + n * (n - 1) / 2, || format!("the children's sum is {sum}"));
        round += 1;
        rounds.done(n);
    }
    rounds.finish()
}

pub fn sequential<R: Blocking>(params: &Params) -> Outcome {
    let fibers = params.scaled(1_000, SAMPLE_EVERY);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let mut sum = 0;
        for i in 0..fibers {
            if i % SAMPLE_EVERY == 0 {
                let start = Instant::now();
                sum += R::join(R::spawn(move || i));
                rounds.single(start.elapsed());
            } else {
                sum += R::join(R::spawn(move || i));
            }
        }
        check(sum == fibers * (fibers - 1) / 2, || format!("the fibers' sum is {sum}"));
        rounds.done(fibers as u64);
    }
    rounds.finish()
}

pub fn trivial<R: Blocking>(params: &Params) -> Outcome {
    let tasks = params.scaled(10_000, 10);
    let places = slots(tasks);
    let group: &'static R::Group = Box::leak(Box::new(R::Group::new()));
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        group.add(tasks);
        for (i, place) in places.iter().enumerate() {
            R::detach(move || {
                place.set(u64::from(work::work(i as u32 + 1, 1)) + round);
                group.done();
            });
        }
        group.wait();
        let sum: u64 = places.iter().map(super::Slot::get).sum();
        let right = work::work_sum(1..tasks + 1, 1) + tasks as u64 * round;
        check(sum == right, || format!("the tasks' sum is {sum} and not {right}"));
        round += 1;
        rounds.done(tasks as u64);
    }
    rounds.finish()
}

pub fn switch<R: Blocking>(params: &Params) -> Outcome {
    let tasks = params.scaled(1_000, 10);
    let places = slots(tasks);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        R::nursery(tasks, move |task| {
            places[task].set(round);
            R::yield_now();
            places[task].set(places[task].get() + task as u64);
        });
        let sum: u64 = places.iter().map(super::Slot::get).sum();
        let n = tasks as u64;
        check(sum == n * round + n * (n - 1) / 2, || format!("the tasks' sum is {sum}"));
        round += 1;
        rounds.done(n);
    }
    rounds.finish()
}

pub fn yield_many<R: Blocking>(params: &Params) -> Outcome {
    let (fibers, yields) = (params.scaled(200, 4), params.scaled(1_000, 10));
    let places = slots(fibers);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        R::nursery(fibers, move |fiber| {
            let mut done = 0;
            for _ in 0..yields {
                R::yield_now();
                done += 1;
            }
            places[fiber].set(done);
        });
        let sum: u64 = places.iter().map(super::Slot::get).sum();
        check(sum == (fibers * yields) as u64, || format!("there were {sum} yields"));
        places.iter().for_each(|place| place.set(0));
        rounds.done(sum);
    }
    rounds.finish()
}

pub fn chained<R: Blocking>(params: &Params) -> Outcome {
    fn link<R: Blocking>(left: usize, sum: u64, done: R::Sender<u64>) {
        if left == 0 {
            R::send(&done, sum);
        } else {
            R::detach(move || link::<R>(left - 1, sum + left as u64, done));
        }
    }
    let length = params.scaled(1_000, 10);
    let mut rounds = Rounds::new(params);
    let (sender, mut receiver) = R::channel::<u64>(1);
    while rounds.more() {
        link::<R>(length, 0, sender.clone());
        let sum = R::recv(&mut receiver).unwrap_or(0);
        check(sum == (length * (length + 1) / 2) as u64, || format!("the chain's sum is {sum}"));
        rounds.done(length as u64);
    }
    rounds.finish()
}

pub fn skynet<R: Blocking>(params: &Params) -> Outcome {
    fn node<R: Blocking>(first: u64, leaves: u64) -> u64 {
        if leaves == 1 {
            return first;
        }
        let each = leaves / 10;
        let children: [R::Handle<u64>; 10] =
            std::array::from_fn(|child| R::spawn(move || node::<R>(first + child as u64 * each, each)));
        children.into_iter().map(R::join).sum()
    }
    let leaves = leaves(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let sum = R::join(R::spawn(move || node::<R>(0, leaves)));
        check(sum == leaves * (leaves - 1) / 2, || format!("the leaves' sum is {sum}"));
        rounds.done(leaves);
    }
    rounds.finish()
}

/// A million, or the power of ten that the scale leaves.
pub fn leaves(params: &Params) -> u64 {
    10_u64.pow(params.scaled(1_000_000, 100).ilog10())
}

pub fn fib<R: Blocking>(params: &Params) -> Outcome {
    fn fib<R: Blocking>(n: u32) -> u64 {
        if n < 2 {
            return u64::from(n);
        }
        let (a, b) = R::both(move || fib::<R>(n - 1), move || fib::<R>(n - 2));
        a + b
    }
    let n = fib_of(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let result = fib::<R>(n);
        check(result == fib_number(n), || format!("fib({n}) is {result}"));
        rounds.done(fib_calls(n));
    }
    rounds.finish()
}

/// 30, or less with a scale.
pub fn fib_of(params: &Params) -> u32 {
    if params.scale < 1.0 { 12 } else { 30 }
}

/// The Fibonacci number, counted up.
pub fn fib_number(n: u32) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

/// Calls that the plain recursion makes.
pub fn fib_calls(n: u32) -> u64 {
    2 * fib_number(n + 1) - 1
}
