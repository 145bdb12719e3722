//! Starting tasks and waiting for their ends.

use std::time::Instant;

use super::{Blocking, Group, slots};
use crate::measure::{Outcome, Rounds, SAMPLE_EVERY};
use crate::params::Params;
use crate::rules::*;
use crate::work;

pub fn nursery<R: Blocking>(params: &Params) -> Outcome {
    let children = params.scaled(1_000, 10);
    let places = slots(children);
    let mut rounds = Rounds::new(params);
    let mut round = 0;
    while rounds.more() {
        R::nursery(children, move |child| {
            places[child].set(round + child as u64)
        });
        check_places(places, round);
        round += 1;
        rounds.done(children as u64);
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
        check_sum(sum as u64, fibers as u64);
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
        check_trivial(places, round);
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
        check_places(places, round);
        round += 1;
        rounds.done(tasks as u64);
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
        check_yields(places, yields);
        rounds.done((fibers * yields) as u64);
    }
    rounds.finish()
}

pub fn chained<R: Blocking>(params: &Params) -> Outcome {
    fn link<R: Blocking>(left: usize, sum: u64, done: R::Sender<u64>) {
        R::detach(move || {
            if left == 1 {
                R::send(&done, sum + 1);
            } else {
                link::<R>(left - 1, sum + left as u64, done);
            }
        });
    }
    let length = params.scaled(1_000, 10);
    let mut rounds = Rounds::new(params);
    let (sender, mut receiver) = R::channel::<u64>(1);
    while rounds.more() {
        link::<R>(length, 0, sender.clone());
        check_sum(R::recv(&mut receiver).unwrap_or(0), length as u64 + 1);
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
        let children: [R::Handle<u64>; 10] = std::array::from_fn(|child| {
            R::spawn(move || node::<R>(first + child as u64 * each, each))
        });
        children.into_iter().map(R::join).sum()
    }
    let leaves = leaves(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        check_sum(R::join(R::spawn(move || node::<R>(0, leaves))), leaves);
        rounds.done(leaves);
    }
    rounds.finish()
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
        check_fib(n, fib::<R>(n));
        rounds.done(fib_calls(n));
    }
    rounds.finish()
}
