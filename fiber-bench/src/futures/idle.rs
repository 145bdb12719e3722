//! Tasks that mostly wait: what they cost meanwhile, and how late they are.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::join;
use super::parked::Gate;
use crate::fail::check;
use crate::measure::{Outcome, Usage};
use crate::memory;
use crate::params::Params;
use crate::rules::*;
use crate::work::{deep, deep_sum};

#[derive(Default)]
struct Shared {
    arrived: AtomicUsize,
    left: AtomicUsize,
    sum: AtomicU64,
    gate: Gate,
}

async fn park_all(tasks: usize, first: fn(usize) -> u64, right: u64) -> Outcome {
    let shared: &'static Shared = Box::leak(Box::default());
    let before = memory::resident_bytes();
    let usage = Usage::now();
    let start = Instant::now();
    for task in 0..tasks {
        tokio::spawn(async move {
            let value = first(task);
            shared.arrived.fetch_add(1, Ordering::SeqCst);
            shared.gate.wait().await;
            shared.sum.fetch_add(value, Ordering::SeqCst);
            shared.left.fetch_add(1, Ordering::SeqCst);
        });
    }
    while shared.arrived.load(Ordering::SeqCst) < tasks {
        sleep(Duration::from_micros(500)).await;
    }
    let took = start.elapsed();
    let usage = Usage::now().since(usage);
    sleep(Duration::from_millis(50)).await;
    let mut outcome = Outcome {
        ops: tasks as u64,
        seconds: took.as_secs_f64(),
        samples: vec![(took.as_nanos() as f64 / tasks as f64) as f32],
        usage,
        ..Outcome::default()
    };
    memory::describe(&mut outcome.extra, tasks, before);
    shared.gate.open();
    while shared.left.load(Ordering::SeqCst) < tasks {
        sleep(Duration::from_millis(1)).await;
    }
    let sum = shared.sum.load(Ordering::SeqCst);
    check(sum == right, || {
        format!("the tasks' sum is {sum} and not {right}")
    });
    outcome
}

pub async fn memory(params: &Params, tasks: usize) -> Outcome {
    let tasks = params.scaled(tasks, 20);
    let right = (tasks as u64) * (tasks as u64 - 1) / 2;
    park_all(tasks, |task| task as u64, right).await
}

pub async fn deep_then_idle(params: &Params) -> Outcome {
    let tasks = params.scaled(2_000, 20);
    let right = (0..tasks).map(|task| deep_sum(task as u8)).sum();
    let outcome = park_all(tasks, |task| deep(task as u8), right).await;
    sleep(Duration::from_secs_f64(0.5_f64.min(params.seconds))).await;
    outcome.with("rss_bytes_after_all_ended", memory::resident_bytes())
}

pub async fn ticker(params: &Params) -> Outcome {
    let length = Duration::from_secs_f64(params.seconds);
    let over: &'static AtomicBool = Box::leak(Box::default());
    let hog = tokio::spawn(async move {
        let start = Instant::now();
        let mut slices = 0;
        while !over.load(Ordering::Relaxed) && start.elapsed() < length + HOG_STAYS {
            hog_slice();
            slices += 1;
            tokio::task::yield_now().await;
        }
        slices
    });
    let ticker = tokio::spawn(async move {
        let usage = Usage::now();
        let start = Instant::now();
        let mut samples = Vec::new();
        while start.elapsed() < length {
            let due = Instant::now() + TICK;
            sleep(TICK).await;
            let now = Instant::now();
            check(now >= due, || "a tick came early".to_owned());
            samples.push((now - due).as_nanos() as f32);
        }
        Outcome {
            ops: samples.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
            usage: Usage::now().since(usage),
            samples,
            ..Outcome::default()
        }
    });
    let outcome = join(ticker).await;
    over.store(true, Ordering::Relaxed);
    let slices = join(hog).await;
    let worst = outcome
        .samples
        .iter()
        .fold(0.0_f32, |worst, &late| worst.max(late));
    outcome
        .with("hog_slices", slices)
        .with("worst_lateness_ns", f64::from(worst))
}
