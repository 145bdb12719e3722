//! Tasks that mostly wait: what they cost meanwhile, and how late they are.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Blocking, Gate};
use crate::fail::check;
use crate::measure::{Outcome, Usage};
use crate::memory;
use crate::params::Params;
use crate::rules::*;
use crate::work::{deep, deep_sum};

/// What idle tasks share.
#[derive(Default)]
struct Shared {
    arrived: AtomicUsize,
    left: AtomicUsize,
    sum: AtomicU64,
}

/// Starts tasks that run `first` and wait, measures, and lets them end.
fn park_all<R: Blocking>(tasks: usize, first: fn(usize) -> u64, right: u64) -> Outcome {
    let shared: &'static Shared = Box::leak(Box::default());
    let gate: &'static R::Gate = Box::leak(Box::new(R::Gate::new()));
    let before = memory::resident_bytes();
    let usage = Usage::now();
    let start = Instant::now();
    for task in 0..tasks {
        R::detach(move || {
            let value = first(task);
            shared.arrived.fetch_add(1, Ordering::SeqCst);
            gate.wait();
            shared.sum.fetch_add(value, Ordering::SeqCst);
            shared.left.fetch_add(1, Ordering::SeqCst);
        });
    }
    while shared.arrived.load(Ordering::SeqCst) < tasks {
        R::sleep(Duration::from_micros(500));
    }
    let took = start.elapsed();
    let usage = Usage::now().since(usage);
    R::sleep(Duration::from_millis(50));
    let mut outcome = Outcome {
        ops: tasks as u64,
        seconds: took.as_secs_f64(),
        samples: vec![(took.as_nanos() as f64 / tasks as f64) as f32],
        usage,
        ..Outcome::default()
    };
    memory::describe(&mut outcome.extra, tasks, before);
    gate.open();
    while shared.left.load(Ordering::SeqCst) < tasks {
        R::sleep(Duration::from_millis(1));
    }
    let sum = shared.sum.load(Ordering::SeqCst);
    check(sum == right, || {
        format!("the tasks' sum is {sum} and not {right}")
    });
    outcome
}

pub fn memory<R: Blocking>(params: &Params, tasks: usize) -> Outcome {
    let tasks = params.scaled(tasks, 20);
    let right = (tasks as u64) * (tasks as u64 - 1) / 2;
    park_all::<R>(tasks, |task| task as u64, right)
}

pub fn deep_then_idle<R: Blocking>(params: &Params) -> Outcome {
    let tasks = params.scaled(2_000, 20);
    let right = (0..tasks).map(|task| deep_sum(task as u8)).sum();
    let outcome = park_all::<R>(tasks, |task| deep(task as u8), right);
    R::sleep(Duration::from_secs_f64(0.5_f64.min(params.seconds)));
    outcome.with("rss_bytes_after_all_ended", memory::resident_bytes())
}

pub fn ticker<R: Blocking>(params: &Params) -> Outcome {
    let length = Duration::from_secs_f64(params.seconds);
    let over: &'static AtomicBool = Box::leak(Box::default());
    let hog = R::spawn(move || {
        let start = Instant::now();
        let mut slices = 0;
        while !over.load(Ordering::Relaxed) && start.elapsed() < length + HOG_STAYS {
            hog_slice();
            slices += 1;
            R::yield_now();
        }
        slices
    });
    let ticker = R::spawn(move || {
        let usage = Usage::now();
        let start = Instant::now();
        let mut samples = Vec::new();
        while start.elapsed() < length {
            let due = Instant::now() + TICK;
            R::sleep(TICK);
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
    let outcome = R::join(ticker);
    over.store(true, Ordering::Relaxed);
    let slices = R::join(hog);
    let worst = outcome
        .samples
        .iter()
        .fold(0.0_f32, |worst, &late| worst.max(late));
    outcome
        .with("hog_slices", slices)
        .with("worst_lateness_ns", f64::from(worst))
}
