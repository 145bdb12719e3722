//! Settings of a runtime.

use super::Runtime;
use crate::blocking;
use crate::idle::MAX_WORKERS;
use millpond::stack::{StackError, StackSize};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Which fibers may go to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Migration {
    /// Only those that have not run yet.
    Pinned,
    /// All.
    Free,
}

/// Whom a worker without work looks at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Victims {
    /// From a random worker on, in turn. Spreads thieves over victims.
    #[default]
    Random,
    /// From the next worker on, in turn: with workers pinned to cores, those that share caches come first.
    Neighbours,
    /// Nobody: tasks stay on the worker that spawned them; those spawned by plain threads go to whichever is free.
    None,
}

/// What a worker does before it sleeps when it finds no work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdlePolicy {
    /// Looks for work for 5 to 80 µs, longer when its last searches paid. Wakes take microseconds, so short pauses cost less
    /// awake; an idle runtime sleeps.
    #[default]
    Adaptive,
    /// Looks for so long after each piece of work: for latency where a core may burn. At most half of the cores do at a
    /// time, but two in any case.
    Spin(Duration),
    /// Looks once: for machines that others use.
    Sleep,
}

/// What a builder was told.
#[derive(Clone)]
pub(crate) struct Config {
    pub workers: usize,
    pub stack: StackSize,
    pub name: Arc<str>,
    pub victims: Victims,
    pub idle: IdlePolicy,
    pub migration: Migration,
    pub pin_to_cores: bool,
    pub reports_deadlocks: bool,
    pub seed: Option<u64>,
    pub blocking_threads: usize,
}

/// Why a runtime can't be built, or a fiber.
#[derive(Debug)]
pub enum BuildError {
    /// No workers, or more than 256.
    Workers(usize),
    /// A stack size that the pool doesn't have.
    Stack(StackError),
    /// The system gave no thread.
    Thread(io::Error),
    /// The runtime has no worker of that number.
    NoSuchWorker {
        /// The number that was asked for.
        worker: usize,
        /// How many there are, counted from 0.
        workers: usize,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers(count) => {
                write!(
                    f,
                    "a runtime has between 1 and {MAX_WORKERS} workers, not {count}"
                )
            }
            Self::Stack(error) => write!(f, "the stack size of a runtime: {error}"),
            Self::NoSuchWorker { worker, workers } => write!(
                f,
                "there is no worker {worker} in a runtime with {workers}, counted from 0"
            ),
            Self::Thread(error) => write!(f, "a worker's thread can't be started: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}

/// Settings of a runtime.
///
/// ```
/// let runtime = millpond_fiber::Runtime::builder().workers(2).name("io").build()?;
/// assert_eq!(runtime.block_on(|| 6 * 7), 42);
/// # Ok::<(), millpond_fiber::BuildError>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it builds"]
pub struct RuntimeBuilder {
    workers: usize,
    stack_bytes: usize,
    name: Arc<str>,
    victims: Victims,
    idle: IdlePolicy,
    migration: Migration,
    pin_to_cores: bool,
    reports_deadlocks: bool,
    seed: Option<u64>,
    blocking_threads: usize,
}

/// One for each core that the process may use.
pub(super) fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS))
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        Self {
            workers: default_workers(),
            stack_bytes: StackSize::DEFAULT.bytes(),
            name: "fiber".into(),
            victims: Victims::default(),
            idle: IdlePolicy::default(),
            migration: Migration::Pinned,
            pin_to_cores: false,
            reports_deadlocks: false,
            seed: None,
            blocking_threads: blocking::DEFAULT_THREADS,
        }
    }
}

impl RuntimeBuilder {
    /// How many worker threads run fibers: 1 to 256. By default as many as the process has cores.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Bytes of stack of a fiber that doesn't ask for another size, its guard included: rounded up to a power of two.
    /// By default 64 KiB.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_bytes = bytes;
        self
    }

    /// The start of the worker threads' names; a dash and the worker's number follow. By default `fiber`.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Whom a worker without work looks at first.
    pub fn victims(mut self, victims: Victims) -> Self {
        self.victims = victims;
        self
    }

    /// What a worker does before it sleeps when it finds no work.
    ///
    /// ```
    /// use millpond_fiber::{IdlePolicy, Runtime};
    /// use std::time::Duration;
    ///
    /// let policy = IdlePolicy::Spin(Duration::from_millis(1));
    /// let runtime = Runtime::builder().workers(2).idle_policy(policy).build()?;
    /// assert_eq!(runtime.block_on(|| 1), 1);
    /// # Ok::<(), millpond_fiber::BuildError>(())
    /// ```
    pub fn idle_policy(mut self, policy: IdlePolicy) -> Self {
        self.idle = policy;
        self
    }

    /// Binds worker `n` to core `n`, modulo the cores that the process may use.
    pub fn pin_to_cores(mut self, pin: bool) -> Self {
        self.pin_to_cores = pin;
        self
    }

    /// Whenever all workers sleep, no timer runs and fibers are left, writes on standard error which fibers wait for what.
    /// For programs whose fibers are woken by fibers only: what a plain thread may still do isn't known.
    pub fn report_deadlocks(mut self, report: bool) -> Self {
        self.reports_deadlocks = report;
        self
    }

    /// How many threads there are at most for [`crate::spawn_blocking`], started as they are needed. By default 64.
    ///
    /// # Panics
    /// If it is 0.
    pub fn blocking_threads(mut self, most: usize) -> Self {
        assert!(most != 0, "blocking calls need a thread");
        self.blocking_threads = most;
        self
    }

    /// For tests: one worker, which chooses the next fiber at random among all that can run, in an order that depends
    /// on the seed alone as long as only fibers make and wake fibers and no times are waited for. A failure that a seed
    /// finds can be repeated with it.
    ///
    /// ```
    /// let order = |seed| {
    ///     let runtime = millpond_fiber::Runtime::builder().deterministic(seed).build().unwrap();
    ///     runtime.block_on(|| {
    ///         let order = std::sync::Mutex::new(Vec::new());
    ///         let order = std::sync::Arc::new(order);
    ///         let fibers: Vec<_> = (0..20).map(|n| {
    ///             let order = order.clone();
    ///             millpond_fiber::spawn(move || order.lock().unwrap().push(n))
    ///         }).collect();
    ///         fibers.into_iter().for_each(|fiber| fiber.join().unwrap());
    ///         order.lock().unwrap().clone()
    ///     })
    /// };
    /// assert_eq!(order(1), order(1));
    /// assert_ne!(order(1), order(2));
    /// ```
    pub fn deterministic(mut self, seed: u64) -> Self {
        self.workers = 1;
        self.seed = Some(seed);
        self
    }

    /// Lets suspended fibers go on on any worker, not only tasks that haven't started.
    ///
    /// # Safety
    /// No fiber may suspend (wait, yield, or call anything that does) while it holds what belongs to its thread: a
    /// reference from [`std::thread::LocalKey::with`], a [`std::sync::MutexGuard`] or other guard that isn't `Send`, an
    /// [`std::rc::Rc`] that others on the thread share, or an address of thread-local storage that a library keeps
    /// (`errno`). Safe code can do all of these, hence the `unsafe`.
    pub unsafe fn migrate_started_fibers(mut self) -> Self {
        self.migration = Migration::Free;
        self
    }

    /// Starts the workers.
    pub fn build(self) -> Result<Runtime, BuildError> {
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return Err(BuildError::Workers(self.workers));
        }
        let stack = StackSize::custom(self.stack_bytes).map_err(BuildError::Stack)?;
        Runtime::start(Config {
            workers: self.workers,
            stack,
            name: self.name,
            victims: self.victims,
            idle: self.idle,
            migration: self.migration,
            pin_to_cores: self.pin_to_cores,
            reports_deadlocks: self.reports_deadlocks,
            seed: self.seed,
            blocking_threads: self.blocking_threads,
        })
    }
}
