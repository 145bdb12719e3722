//! Loops over a million items, in 64 tasks or in chunks: tokio has no loop of its own.

use std::hint::black_box;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::spawning::all;
use crate::blocking::{Slot, slots};
use crate::fail::check;
use crate::measure::{Outcome, Rounds};
use crate::params::Params;
use crate::rules::*;
use crate::work::{work, work_sum};

async fn chunks<F: Fn(Range<usize>) + Send + Sync + Copy + 'static>(
    len: usize,
    chunk: usize,
    body: F,
) {
    let task = |index: usize| async move { body(index * chunk..len.min((index + 1) * chunk)) };
    all(len.div_ceil(chunk), task).await;
}

fn sixty_fourth(len: usize) -> usize {
    len.div_ceil(64).max(1)
}

pub async fn store(params: &Params) -> Outcome {
    let (len, units) = (items(params), black_box(params.number() as u32));
    let places = stores(len);
    let right = work_sum(0..len, units);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        chunks(len, sixty_fourth(len), move |range| {
            range.for_each(|i| places[i].store(work(i as u32, units), Relaxed));
        })
        .await;
        rounds.done(len as u64);
    }
    let outcome = rounds.finish();
    check_stores(places, right);
    outcome
}

pub async fn shared_atomic(params: &Params) -> Outcome {
    let units = black_box(UNITS);
    sum(params, sixty_fourth(items(params)), move |range, sum| {
        for i in range {
            sum.fetch_add(u64::from(work(i as u32, units)), Relaxed);
        }
    })
    .await
}

pub async fn per_chunk(params: &Params) -> Outcome {
    sum(params, CHUNK, |range, sum| {
        sum.fetch_add(work_sum(range, UNITS), Relaxed);
    })
    .await
}

pub async fn no_atomic(params: &Params) -> Outcome {
    in_places(params, CHUNK).await
}

pub async fn reduce(params: &Params) -> Outcome {
    in_places(params, sixty_fourth(items(params))).await
}

async fn in_places(params: &Params, chunk: usize) -> Outcome {
    let len = items(params);
    let sums = slots(len.div_ceil(chunk));
    let right = work_sum(0..len, UNITS);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        chunks(len, chunk, move |range| {
            sums[range.start / chunk].set(work_sum(range, UNITS))
        })
        .await;
        let sum: u64 = sums.iter().map(Slot::get).sum();
        check(sum == right, || {
            format!("the items' sum is {sum} and not {right}")
        });
        rounds.done(len as u64);
    }
    rounds.finish()
}

async fn sum<F>(params: &Params, chunk: usize, body: F) -> Outcome
where
    F: Fn(Range<usize>, &AtomicU64) + Send + Sync + Copy + 'static,
{
    let len = items(params);
    let right = work_sum(0..len, UNITS);
    let sum: &'static AtomicU64 = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        chunks(len, chunk, move |range| body(range, sum)).await;
        let sum = sum.swap(0, Relaxed);
        check(sum == right, || {
            format!("the items' sum is {sum} and not {right}")
        });
        rounds.done(len as u64);
    }
    rounds.finish()
}
