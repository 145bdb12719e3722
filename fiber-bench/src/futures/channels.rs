//! Messages between tasks, through tokio's own channels.

use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use tokio::sync::mpsc;

use super::join;
use crate::measure::{Outcome, Rounds, SAMPLE_EVERY};
use crate::params::Params;
use crate::rules::*;
use crate::work::thread_id;

/// tokio has no rendezvous; at capacity 1 each side waits for the other all the same.
pub async fn ping_pong(params: &Params, apart: bool) -> Outcome {
    let trips = params.scaled(10_000, SAMPLE_EVERY) as u64;
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let (ping, mut pinged) = mpsc::channel::<u64>(1);
    let (pong, mut ponged) = mpsc::channel::<u64>(1);
    let answering = tokio::spawn(async move {
        if apart {
            meet(arrived, 2);
        }
        while let Some(value) = pinged.recv().await {
            pong.send(value + 1).await.expect("the receiver lives");
        }
        thread_id()
    });
    let params = params.clone();
    let asking = tokio::spawn(async move {
        if apart {
            meet(arrived, 2);
        }
        let mut rounds = Rounds::new(&params);
        while rounds.more() {
            let mut sum = 0;
            for i in 0..trips {
                let before = (i % SAMPLE_EVERY as u64 == 0).then(Instant::now);
                ping.send(i).await.expect("the receiver lives");
                sum += ponged.recv().await.unwrap_or(0);
                if let Some(before) = before {
                    rounds.single(before.elapsed());
                }
            }
            check_sum(sum, trips + 1);
            rounds.done(trips);
        }
        (rounds.finish(), thread_id())
    });
    let (outcome, asked_on) = join(asking).await;
    let answered_on = join(answering).await;
    outcome.with("same_thread_at_the_end", asked_on == answered_on)
}

pub async fn single(params: &Params) -> Outcome {
    const CAPACITY: u64 = 1_000;
    let (sender, mut receiver) = mpsc::channel::<u64>(CAPACITY as usize);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        for value in 0..CAPACITY {
            sender.send(value).await.expect("the receiver lives");
        }
        let mut sum = 0;
        for _ in 0..CAPACITY {
            sum += receiver.recv().await.unwrap_or(0);
        }
        check_sum(sum, CAPACITY);
        rounds.done(CAPACITY);
    }
    rounds.finish()
}

pub async fn many_to_one(params: &Params, sides: u64) -> Outcome {
    let (capacity, count) = (params.number(), messages(params));
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let (sender, mut receiver) = mpsc::channel::<u64>(capacity);
        let start = |side: u64| {
            let sender = sender.clone();
            tokio::spawn(async move {
                for value in (side..count).step_by(sides as usize) {
                    sender.send(value).await.expect("the receiver lives");
                }
            })
        };
        let senders: Vec<_> = (0..sides).map(start).collect();
        drop(sender);
        let mut sum = 0;
        while let Some(value) = receiver.recv().await {
            sum += value;
        }
        for sender in senders {
            join(sender).await;
        }
        check_sum(sum, count);
        rounds.done(count);
    }
    rounds.finish()
}

pub async fn select(params: &Params) -> Outcome {
    let count = messages(params);
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        let start = |first: u64| {
            let (sender, receiver) = mpsc::channel::<u64>(SELECT_CAPACITY);
            let task = tokio::spawn(async move {
                for value in (first..count).step_by(2) {
                    sender.send(value).await.expect("the receiver lives");
                }
            });
            (task, receiver)
        };
        let (even, mut evens) = start(0);
        let (odd, mut odds) = start(1);
        let mut got = [(0, 0); 2];
        loop {
            tokio::select! {
                Some(value) = evens.recv() => got[0] = (got[0].0 + 1, got[0].1 + value),
                Some(value) = odds.recv() => got[1] = (got[1].0 + 1, got[1].1 + value),
                else => break,
            }
        }
        join(even).await;
        join(odd).await;
        check_select(got, count);
        rounds.done(count);
    }
    rounds.finish()
}
