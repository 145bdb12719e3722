//! Loops over a million items.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Blocking, Slot, slots};
use crate::fail::check;
use crate::measure::{Outcome, Rounds};
use crate::params::Params;
use crate::rules::*;
use crate::work::{work, work_sum};

pub fn store<R: Blocking>(params: &Params) -> Outcome {
    let (len, units) = (items(params), black_box(params.number() as u32));
    let places = stores(len);
    let right = work_sum(0..len, units);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        R::parallel_for(len, move |i| {
            places[i].store(work(i as u32, units), Relaxed)
        });
        rounds.done(len as u64);
    }
    let outcome = rounds.finish();
    check_stores(places, right);
    outcome
}

pub fn shared_atomic<R: Blocking>(params: &Params) -> Outcome {
    sum(params, |len, sum| {
        let units = black_box(UNITS);
        R::parallel_for(len, move |i| {
            sum.fetch_add(u64::from(work(i as u32, units)), Relaxed);
        });
    })
}

pub fn per_chunk<R: Blocking>(params: &Params) -> Outcome {
    sum(params, |len, sum| {
        R::parallel_chunks(len, CHUNK, move |range| {
            sum.fetch_add(work_sum(range, UNITS), Relaxed);
        });
    })
}

pub fn no_atomic<R: Blocking>(params: &Params) -> Outcome {
    let sums = slots(items(params).div_ceil(CHUNK));
    sum(params, |len, sum| {
        R::parallel_chunks(len, CHUNK, move |range| {
            let place = &sums[range.start / CHUNK];
            place.set(work_sum(range, UNITS));
        });
        sum.store(sums.iter().map(Slot::get).sum(), Relaxed);
    })
}

pub fn reduce<R: Blocking>(params: &Params) -> Outcome {
    sum(params, |len, sum| {
        let units = black_box(UNITS);
        sum.store(
            R::parallel_sum(len, move |i| u64::from(work(i as u32, units))),
            Relaxed,
        );
    })
}

fn sum(params: &Params, run: impl Fn(usize, &'static AtomicU64)) -> Outcome {
    let len = items(params);
    let right = work_sum(0..len, UNITS);
    let sum: &'static AtomicU64 = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        run(len, sum);
        let sum = sum.swap(0, Relaxed);
        check(sum == right, || {
            format!("the items' sum is {sum} and not {right}")
        });
        rounds.done(len as u64);
    }
    rounds.finish()
}
