//! Many tasks that wait.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinHandle, yield_now};

use super::join;
use crate::blocking::slots;
use crate::fail::check;
use crate::measure::{Outcome, Rounds, Usage};
use crate::memory;
use crate::params::Params;
use crate::rules::*;

/// Lets others run until as many tasks have come.
async fn await_all(arrived: &AtomicUsize, all: usize) {
    while arrived.load(Ordering::SeqCst) < all {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

/// Without a rendezvous each task hands in a oneshot channel, and waits for the collector's answer in it.
pub async fn pressure(params: &Params) -> Outcome {
    let tasks = params.scaled(5_000, 20);
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let usage = Usage::now();
    let start = Instant::now();
    let (sender, mut receiver) = mpsc::unbounded_channel::<(u64, oneshot::Sender<()>)>();
    let begin = |task| {
        let sender = sender.clone();
        tokio::spawn(async move {
            let (answer, answered) = oneshot::channel();
            assert!(sender.send((task, answer)).is_ok(), "the receiver lives");
            arrived.fetch_add(1, Ordering::SeqCst);
            answered.await.expect("the collector answers all");
            start.elapsed()
        })
    };
    let handles: Vec<JoinHandle<Duration>> = (0..tasks as u64).map(begin).collect();
    await_all(arrived, tasks).await;
    let mut sum = 0;
    for _ in 0..tasks {
        let (task, answer) = receiver.recv().await.expect("all have sent");
        sum += task;
        answer.send(()).expect("the task waits");
    }
    let mut samples = Vec::with_capacity(tasks);
    for handle in handles {
        samples.push(join(handle).await.as_nanos() as f32);
    }
    let seconds = start.elapsed().as_secs_f64();
    check_sum(sum, tasks as u64);
    check(seconds < PRESSURE_LIMIT, || {
        format!("{tasks} tasks took {seconds:.2} s")
    });
    let usage = Usage::now().since(usage);
    Outcome {
        ops: tasks as u64,
        seconds,
        samples,
        usage,
        ..Outcome::default()
    }
    .with("completed", tasks)
}

pub async fn parked(params: &Params) -> Outcome {
    let tasks = params.scaled(20_000, 20);
    let places = slots(tasks);
    let wakers: &'static [Notify] = (0..tasks).map(|_| Notify::new()).collect::<Vec<_>>().leak();
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    let mut resident = 0;
    while rounds.more() {
        arrived.store(0, Ordering::SeqCst);
        places.iter().for_each(|place| place.set(0));
        let begin = |task: usize| {
            tokio::spawn(async move {
                arrived.fetch_add(1, Ordering::SeqCst);
                wakers[task].notified().await;
                places[task].get()
            })
        };
        let handles: Vec<JoinHandle<u64>> = (0..tasks).map(begin).collect();
        await_all(arrived, tasks).await;
        if resident == 0 {
            resident = memory::resident_bytes();
        }
        for (place, waker) in places.iter().zip(wakers) {
            place.set(3);
            waker.notify_one();
        }
        let mut sum = 0;
        for handle in handles {
            sum += join(handle).await;
        }
        check(sum == 3 * tasks as u64, || {
            format!("the tasks' sum is {sum}")
        });
        rounds.done(tasks as u64);
    }
    rounds.finish().with("rss_bytes_parked", resident)
}

/// Those who wait go on when it opens.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    opened: Notify,
}

impl Gate {
    /// Waits until it is open.
    pub async fn wait(&self) {
        let notified = self.opened.notified();
        tokio::pin!(notified);
        // In the queue before the look, so that an opening between the two isn't missed.
        notified.as_mut().enable();
        if !self.open.load(Ordering::SeqCst) {
            notified.await;
        }
    }

    /// Opens it, for good.
    pub fn open(&self) {
        self.open.store(true, Ordering::SeqCst);
        self.opened.notify_waiters();
    }
}

pub async fn herd(params: &Params) -> Outcome {
    let tasks = params.scaled(1_000, 10);
    let arrived: &'static AtomicUsize = Box::leak(Box::default());
    let mut rounds = Rounds::new(params);
    while rounds.more() {
        arrived.store(0, Ordering::SeqCst);
        let gate = std::sync::Arc::new(Gate::default());
        let begin = |task: u64| {
            let gate = gate.clone();
            tokio::spawn(async move {
                arrived.fetch_add(1, Ordering::SeqCst);
                gate.wait().await;
                task
            })
        };
        let handles: Vec<JoinHandle<u64>> = (0..tasks as u64).map(begin).collect();
        while arrived.load(Ordering::SeqCst) < tasks {
            yield_now().await;
        }
        gate.open();
        let mut sum = 0;
        for handle in handles {
            sum += join(handle).await;
        }
        check_sum(sum, tasks as u64);
        rounds.done(tasks as u64);
    }
    rounds.finish()
}
