//! The options that workloads take, on the command line and resolved.
//!
//! [`WorkloadOptions`] is what a person may write, [`Params`] what a workload gets: its own defaults with those
//! options laid over them. An option that a workload doesn't know is an error, not something to ignore.

use clap::{Args, ValueEnum};

use crate::workloads::Workload;

/// Who frees what `burst` allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FreeBy {
    /// The thread that allocated.
    Same,
    /// Another thread, while the allocating thread is alive but blocked.
    Other,
    /// Another thread, after the allocating thread has ended.
    AfterExit,
}

/// A workload's options as written; `None` means the workload's default.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Workload options (see docs/workloads.md for who takes which)")]
pub struct WorkloadOptions {
    /// Smallest block, in bytes
    #[arg(long, value_name = "BYTES")]
    pub min: Option<usize>,
    /// Largest block, in bytes
    #[arg(long, value_name = "BYTES")]
    pub max: Option<usize>,
    /// Blocks that a thread keeps
    #[arg(long, value_name = "COUNT")]
    pub blocks: Option<usize>,
    /// Repetitions of the workload's inner loop (larson: blocks x rounds operations end a thread)
    #[arg(long, value_name = "COUNT")]
    pub rounds: Option<u64>,
    /// Blocks handed over at a time
    #[arg(long, value_name = "COUNT")]
    pub batch: Option<usize>,
    /// Bytes of live memory that the workload aims at, all threads together
    #[arg(long, value_name = "BYTES")]
    pub bytes: Option<u64>,
    /// Seed of the random numbers
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// burst: keep every N-th block while measuring what comes back
    #[arg(long, value_name = "N")]
    pub keep_every: Option<usize>,
    /// burst: who frees the blocks
    #[arg(long, value_enum)]
    pub free_by: Option<FreeBy>,
    /// burst: seconds to idle after freeing, before collecting
    #[arg(long, value_name = "SECONDS")]
    pub idle_seconds: Option<f64>,
}

impl WorkloadOptions {
    /// The options that were given, as (name without dashes, value).
    pub fn given(&self) -> Vec<(&'static str, String)> {
        fn one(name: &'static str, value: Option<impl ToString>) -> Option<(&'static str, String)> {
            value.map(|value| (name, value.to_string()))
        }
        let free_by = self.free_by.and_then(|value| value.to_possible_value());
        [
            one("min", self.min),
            one("max", self.max),
            one("blocks", self.blocks),
            one("rounds", self.rounds),
            one("batch", self.batch),
            one("bytes", self.bytes),
            one("seed", self.seed),
            one("keep-every", self.keep_every),
            one("free-by", free_by.map(|value| value.get_name().to_owned())),
            one("idle-seconds", self.idle_seconds),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// What a run is asked to do, complete.
#[derive(Clone, Debug)]
pub struct Params {
    /// Threads that work at the same time.
    pub threads: usize,
    /// How long the measured part lasts; workloads with fixed work ignore it.
    pub seconds: f64,
    /// Smallest block, in bytes.
    pub min: usize,
    /// Largest block, in bytes.
    pub max: usize,
    /// Blocks per thread.
    pub blocks: usize,
    /// Repetitions of the inner loop.
    pub rounds: u64,
    /// Blocks handed over at a time.
    pub batch: usize,
    /// Live bytes aimed at; 0 lets the workload choose.
    pub bytes: u64,
    /// Seed of the random numbers.
    pub seed: u64,
    /// burst: every how many blocks one is kept; 0 keeps none.
    pub keep_every: usize,
    /// burst: who frees.
    pub free_by: FreeBy,
    /// burst: seconds of idling.
    pub idle_seconds: f64,
}

impl Params {
    /// What workloads start their own defaults from.
    pub const BASE: Self = Self {
        threads: 2,
        seconds: 1.5,
        min: 16,
        max: 1_024,
        blocks: 1_000,
        rounds: 1,
        batch: 100,
        bytes: 0,
        seed: 12_345,
        keep_every: 0,
        free_by: FreeBy::Same,
        idle_seconds: 10.0,
    };

    /// Lays what was asked for over the workload's defaults.
    ///
    /// # Errors
    /// One sentence that names the first thing wrong.
    pub fn resolve(
        workload: &dyn Workload,
        threads: Option<usize>,
        seconds: Option<f64>,
        options: &WorkloadOptions,
    ) -> Result<Self, String> {
        let about = workload.about();
        if let Some((name, _)) = options.given().iter().find(|(name, _)| !about.takes(name)) {
            return Err(format!("{} takes no option --{name}.", about.name));
        }
        let defaults = about.defaults;
        let params = Self {
            threads: threads.unwrap_or(defaults.threads),
            seconds: seconds.unwrap_or(defaults.seconds),
            min: options.min.unwrap_or(defaults.min),
            max: options.max.unwrap_or(defaults.max),
            blocks: options.blocks.unwrap_or(defaults.blocks),
            rounds: options.rounds.unwrap_or(defaults.rounds),
            batch: options.batch.unwrap_or(defaults.batch),
            bytes: options.bytes.unwrap_or(defaults.bytes),
            seed: options.seed.unwrap_or(defaults.seed),
            keep_every: options.keep_every.unwrap_or(defaults.keep_every),
            free_by: options.free_by.unwrap_or(defaults.free_by),
            idle_seconds: options.idle_seconds.unwrap_or(defaults.idle_seconds),
        };
        params.check(workload)?;
        Ok(params)
    }

    fn check(&self, workload: &dyn Workload) -> Result<(), String> {
        const LARGEST_BLOCK: usize = 1 << 34;
        let about = workload.about();
        let name = about.name;
        let (fewest, most) = (*about.threads.start(), *about.threads.end());
        if self.threads < fewest {
            return Err(format!(
                "{name} needs {fewest} threads or more, not {}.",
                self.threads
            ));
        }
        if self.threads > most {
            return Err(format!(
                "{name} runs on {most} thread(s) at most, not {}.",
                self.threads
            ));
        }
        if !(self.seconds > 0.0 && self.seconds <= 86_400.0) {
            return Err("The number of seconds must be above 0 and at most 86400.".to_owned());
        }
        if !(0.0..=86_400.0).contains(&self.idle_seconds) {
            return Err("The number of idle seconds must be between 0 and 86400.".to_owned());
        }
        if self.min == 0 {
            return Err("The smallest block must have 1 byte or more.".to_owned());
        }
        if self.min > self.max {
            return Err(format!(
                "The smallest block ({}) is larger than the largest ({}).",
                self.min, self.max
            ));
        }
        if self.max > LARGEST_BLOCK {
            return Err(format!(
                "The largest block may have {LARGEST_BLOCK} bytes at most."
            ));
        }
        for (value, what) in [
            (self.blocks as u64, "blocks"),
            (self.rounds, "rounds"),
            (self.batch as u64, "batch"),
        ] {
            if value == 0 || value > 1 << 32 {
                return Err(format!(
                    "The value of {what} must be between 1 and 4294967296."
                ));
            }
        }
        workload.check(self)
    }
}

/// Random sizes between two bounds, both included, each equally likely.
#[derive(Clone, Copy, Debug)]
pub struct SizeRange {
    min: usize,
    span: u64,
}

impl SizeRange {
    /// The range of a run's options.
    pub fn of(params: &Params) -> Self {
        Self {
            min: params.min,
            span: (params.max - params.min) as u64 + 1,
        }
    }

    /// One size.
    #[inline]
    pub fn pick(self, random: &mut fastrand::Rng) -> usize {
        self.min + random.u64(..self.span) as usize
    }
}
