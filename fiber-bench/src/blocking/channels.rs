//! Messages between tasks.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use super::Blocking;
use crate::measure::{Outcome, Rounds, SAMPLE_EVERY};
use crate::params::Params;
use crate::rules::*;
use crate::work::thread_id;

/// Where the two sides of a ping-pong start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Where the runtime puts them.
    Anywhere,
    /// On different workers: each keeps its worker busy until the other has started.
    Apart,
}

pub fn ping_pong<R: Blocking>(params: &Params, start: Start) -> Outcome {
    let trips = params.scaled(10_000, SAMPLE_EVERY);
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let (ping, mut pinged) = R::channel::<u64>(0);
    let (pong, mut ponged) = R::channel::<u64>(0);
    let answering = R::spawn(move || {
        if start == Start::Apart {
            meet(arrived, 2);
        }
        while let Some(value) = R::recv(&mut pinged) {
            R::send(&pong, value + 1);
        }
        thread_id()
    });
    let params = params.clone();
    let asking = R::spawn(move || {
        if start == Start::Apart {
            meet(arrived, 2);
        }
        let mut rounds = Rounds::new(&params);
        while rounds.more() {
            let mut sum = 0;
            for i in 0..trips as u64 {
                let before = (i % SAMPLE_EVERY as u64 == 0).then(Instant::now);
                R::send(&ping, i);
                sum += R::recv(&mut ponged).unwrap_or(0);
                if let Some(before) = before {
                    rounds.single(before.elapsed());
                }
            }
            check_sum(sum, trips as u64 + 1);
            rounds.done(trips as u64);
        }
        (rounds.finish(), thread_id())
    });
    let (outcome, asked_on) = R::join(asking);
    let answered_on = R::join(answering);
    outcome.with("same_thread_at_the_end", asked_on == answered_on)
}

pub fn single<R: Blocking>(params: &Params) -> Outcome {
    const CAPACITY: u64 = 1_000;
    let (sender, mut receiver) = R::channel::<u64>(CAPACITY as usize);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        for value in 0..CAPACITY {
            R::send(&sender, value);
        }
        let sum: u64 = (0..CAPACITY).filter_map(|_| R::recv(&mut receiver)).sum();
        check_sum(sum, CAPACITY);
        rounds.done(CAPACITY);
    }
    rounds.finish()
}

pub fn spsc<R: Blocking>(params: &Params) -> Outcome {
    let (capacity, count) = (params.number(), messages(params));
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let sum = R::spsc(capacity, count);
        check_sum(sum, count);
        rounds.done(count);
    }
    rounds.finish()
}

fn send_all<R: Blocking>(sender: &R::Sender<u64>, count: u64) -> Vec<R::Handle<()>> {
    let start = |side| {
        let sender = sender.clone();
        R::spawn(move || {
            for value in (side..count).step_by(SIDES as usize) {
                R::send(&sender, value);
            }
        })
    };
    (0..SIDES).map(start).collect()
}

pub fn mpsc<R: Blocking>(params: &Params) -> Outcome {
    let (capacity, count) = (params.number(), messages(params));
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let (sender, mut receiver) = R::channel(capacity);
        let senders = send_all::<R>(&sender, count);
        drop(sender);
        let mut sum = 0;
        while let Some(value) = R::recv(&mut receiver) {
            sum += value;
        }
        senders.into_iter().for_each(R::join);
        check_sum(sum, count);
        rounds.done(count);
    }
    rounds.finish()
}

pub fn mpmc<R: Blocking>(params: &Params) -> Outcome {
    let (capacity, count) = (params.number(), messages(params));
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let (sender, receiver) = R::shared_channel(capacity);
        let receive = |_| {
            let receiver: R::SharedReceiver<u64> = receiver.clone();
            R::spawn(move || {
                let mut sum = 0;
                while let Some(value) = R::recv_shared(&receiver) {
                    sum += value;
                }
                sum
            })
        };
        let receivers: Vec<R::Handle<u64>> = (0..SIDES).map(receive).collect();
        let senders = send_all::<R>(&sender, count);
        drop(sender);
        senders.into_iter().for_each(R::join);
        let sum: u64 = receivers.into_iter().map(R::join).sum();
        check_sum(sum, count);
        rounds.done(count);
    }
    rounds.finish()
}

pub fn select<R: Blocking>(params: &Params) -> Outcome {
    let count = messages(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let start = |first: u64| {
            let (sender, receiver) = R::channel(SELECT_CAPACITY);
            let task = R::spawn(move || {
                (first..count)
                    .step_by(2)
                    .for_each(|value| R::send(&sender, value))
            });
            (task, receiver)
        };
        let (even, evens) = start(0);
        let (odd, odds) = start(1);
        let got = R::select_all(evens, odds);
        R::join(even);
        R::join(odd);
        check_select(got, count);
        rounds.done(count);
    }
    rounds.finish()
}
