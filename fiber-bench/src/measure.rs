//! Timing: rounds of a fixed amount of work until the time is over.

use std::time::{Duration, Instant};

use crate::params::Params;
use crate::report::Extra;

/// Samples kept; a run that has more keeps the first.
const SAMPLES: usize = 1 << 18;
/// The share of the run that isn't counted: caches and pools fill meanwhile.
const WARM_UP: f64 = 0.1;

/// What the kernel counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time in user mode.
    pub user_seconds: f64,
    /// Processor time in the kernel.
    pub sys_seconds: f64,
    /// Context switches, voluntary and not.
    pub context_switches: u64,
}

impl Usage {
    /// The whole process's since its start.
    pub fn now() -> Self {
        // SAFETY: all-zero bytes are a valid rusage, a plain struct of integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is a live, writable rusage, and RUSAGE_SELF is a valid target.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Self {
            user_seconds: seconds(usage.ru_utime),
            sys_seconds: seconds(usage.ru_stime),
            context_switches: (usage.ru_nvcsw + usage.ru_nivcsw) as u64,
        }
    }

    /// What came since.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_seconds: self.user_seconds - earlier.user_seconds,
            sys_seconds: self.sys_seconds - earlier.sys_seconds,
            context_switches: self.context_switches - earlier.context_switches,
        }
    }
}

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Operations in the measured part.
    pub ops: u64,
    /// Its length.
    pub seconds: f64,
    /// Nanoseconds an operation, not sorted.
    pub samples: Vec<f32>,
    /// What the kernel counted meanwhile.
    pub usage: Usage,
    /// The benchmark's own figures.
    pub extra: Extra,
}

impl Outcome {
    /// Adds one figure of the benchmark's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// The sample that a share of all is not above, in nanoseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f32::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        sorted.get(place).map_or(0.0, |&sample| f64::from(sample))
    }
}

/// Runs rounds and times them.
///
/// `while rounds.more() { work; rounds.done(operations) }`
#[derive(Debug)]
pub struct Rounds {
    seconds: f64,
    warm: bool,
    started: Option<Instant>,
    mark: Instant,
    usage: Usage,
    ops: u64,
    of_rounds: Vec<f32>,
    of_single: Vec<f32>,
}

impl Rounds {
    /// None yet.
    pub fn new(params: &Params) -> Self {
        Self {
            seconds: params.seconds,
            warm: false,
            started: None,
            mark: Instant::now(),
            usage: Usage::default(),
            ops: 0,
            of_rounds: Vec::with_capacity(1 << 12),
            of_single: Vec::new(),
        }
    }

    /// Whether there is to be another round. At least one is counted.
    pub fn more(&mut self) -> bool {
        let Some(started) = self.started else {
            self.start();
            return true;
        };
        let elapsed = started.elapsed().as_secs_f64();
        if !self.warm && elapsed >= self.seconds * WARM_UP {
            self.warm = true;
            // A single round that fills the time is the measurement.
            if elapsed < self.seconds * 0.5 {
                self.start();
                return true;
            }
        }
        self.mark = Instant::now();
        elapsed < self.seconds
    }

    fn start(&mut self) {
        self.ops = 0;
        self.of_rounds.clear();
        self.of_single.clear();
        self.usage = Usage::now();
        self.mark = Instant::now();
        self.started = Some(self.mark);
    }

    /// A round is over.
    pub fn done(&mut self, ops: u64) {
        self.ops += ops;
        if self.of_rounds.len() < SAMPLES {
            let nanoseconds = self.mark.elapsed().as_nanos() as f64;
            self.of_rounds
                .push((nanoseconds / ops.max(1) as f64) as f32);
        }
    }

    /// An operation that was timed by itself.
    pub fn single(&mut self, took: Duration) {
        if self.of_single.len() < SAMPLES {
            self.of_single.push(took.as_nanos() as f32);
        }
    }

    /// The result: time runs from the start of the first counted round.
    pub fn finish(self) -> Outcome {
        let started = self.started.expect("at least one round was run");
        Outcome {
            seconds: started.elapsed().as_secs_f64(),
            usage: Usage::now().since(self.usage),
            ops: self.ops,
            samples: if self.of_single.is_empty() {
                self.of_rounds
            } else {
                self.of_single
            },
            extra: Extra::new(),
        }
    }
}

/// Every how many operations one is timed by itself, where they are too short to time all.
pub const SAMPLE_EVERY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn params(seconds: f64) -> Params {
        Params {
            benchmark: "yield_many",
            workers: 1,
            seconds,
            scale: 1.0,
        }
    }

    #[test]
    fn the_warm_up_is_not_counted() {
        let mut rounds = Rounds::new(&params(0.05));
        let mut all = 0;
        while rounds.more() {
            std::thread::sleep(Duration::from_millis(1));
            all += 1;
            rounds.done(1);
        }
        let outcome = rounds.finish();
        assert!(
            outcome.ops < all && outcome.ops > 5,
            "{} of {all}",
            outcome.ops
        );
        assert!(outcome.percentile(0.5) >= 1e6);
    }

    #[test]
    fn one_long_round_is_enough() {
        let mut rounds = Rounds::new(&params(0.001));
        while rounds.more() {
            std::thread::sleep(Duration::from_millis(5));
            rounds.done(7);
        }
        assert_eq!(rounds.finish().ops, 7);
    }
}
