//! Timing: how a workload's threads start together, stop together and are counted.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::process::Usage;

/// A workload's own figures, by name.
pub type Extra = Map<String, Value>;

/// What one run came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Operations done in the measured part; docs/workloads.md says for each workload what one is.
    pub ops: u64,
    /// Length of the measured part.
    pub seconds: f64,
    /// The kernel's counters, read when the measured part ended.
    pub usage: Usage,
    /// The workload's own figures.
    pub extra: Extra,
}

impl Outcome {
    /// Adds one figure of the workload's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }
}

/// Measures from [`Stopwatch::start`] to [`Stopwatch::stop`].
#[derive(Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Stops; the time first, the counters after it.
    pub fn stop(self, ops: u64) -> Outcome {
        let seconds = self.seconds();
        Outcome {
            ops,
            seconds,
            usage: Usage::now(),
            extra: Extra::new(),
        }
    }
}

/// Says when it is time to stop.
#[derive(Debug, Default)]
pub struct Stop(AtomicBool);

impl Stop {
    /// Whether time is up. One load of a line that is written once, so it may stand in a hot loop.
    #[inline]
    pub fn reached(&self) -> bool {
        // Relaxed: no data is published with the flag; the threads' results are read after a barrier or a join.
        self.0.load(Relaxed)
    }

    /// Declares that time is up.
    pub fn announce(&self) {
        // Relaxed: see `reached`.
        self.0.store(true, Relaxed);
    }

    /// Sleeps for the run's length, then declares that time is up.
    pub fn announce_after(&self, seconds: f64) {
        thread::sleep(Duration::from_secs_f64(seconds));
        self.announce();
    }
}

/// Runs `threads` threads through `prepare`, the measured `work`, and the dropping of their state.
///
/// `prepare` gets the thread's number; `work` runs until [`Stop::reached`] and returns its operations. Only the
/// time between the last thread's readiness and the last thread's return from `work` is measured. Each thread then
/// drops its own state, so that what it still holds is checked and freed by the thread that made it.
pub fn run_threads<State>(
    threads: usize,
    seconds: f64,
    prepare: impl Fn(usize) -> State + Sync,
    work: impl Fn(&mut State, &Stop) -> u64 + Sync,
) -> Outcome {
    run_threads_then(threads, seconds, prepare, work, |_| {})
}

/// As [`run_threads`], with something to do when time is up: waking those who sleep, for example.
pub fn run_threads_then<State>(
    threads: usize,
    seconds: f64,
    prepare: impl Fn(usize) -> State + Sync,
    work: impl Fn(&mut State, &Stop) -> u64 + Sync,
    when_stopped: impl FnOnce(&Stop),
) -> Outcome {
    let stop = Stop::default();
    let (ready, done) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    let worker = |number: usize| {
        let mut state = prepare(number);
        ready.wait();
        let ops = work(&mut state, &stop);
        done.wait();
        drop(state);
        ops
    };
    let worker = &worker;
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || worker(number)))
            .collect();
        ready.wait();
        let stopwatch = Stopwatch::start();
        stop.announce_after(seconds);
        when_stopped(&stop);
        done.wait();
        let outcome = stopwatch.stop(0);
        let ops = handles
            .into_iter()
            .map(|handle| handle.join().expect("a panic ends the process"))
            .sum();
        Outcome { ops, ..outcome }
    })
}

/// The random numbers of one thread: different for each thread, the same in each run.
pub fn random_for(seed: u64, thread: usize) -> fastrand::Rng {
    // An odd constant keeps neighbouring seeds and threads apart.
    fastrand::Rng::with_seed(seed ^ (thread as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_add_up_over_threads() {
        let outcome = run_threads(
            3,
            0.01,
            |number| number as u64,
            |number, stop| {
                while !stop.reached() {
                    thread::yield_now();
                }
                *number
            },
        );
        assert_eq!(outcome.ops, 3);
        assert!(outcome.seconds >= 0.01);
    }
}
