//! A runtime: workers, their queues, and how they start and end.

mod builder;
mod shared;
mod spawn;

pub use builder::{BuildError, IdlePolicy, RuntimeBuilder, Victims};
pub(crate) use builder::{Config, Migration};
pub(crate) use shared::Shared;
pub use spawn::Builder;
pub(crate) use spawn::{current_shared, spawn_child_on, spawn_detached_on, spawn_on};

use crate::JoinHandle;
use crate::blocking::BlockingPool;
use crate::global::Global;
use crate::idle::Idle;
use crate::inbox::Inbox;
use crate::keeper::Keeper;
use crate::overflow;
use crate::report::{self, Report};
use crate::stack::Roster;
use crate::timer::Timers;
use crate::worker::{self, Counts, Queued, Remote, Worker};
use builder::default_workers;
use crossbeam_deque::Worker as Deque;
use crossbeam_utils::CachePadded;
use shared::phase;
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

/// How a runtime ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything that was spawned runs to its end.
    Finish,
    /// What hasn't started is dropped, and its joiners get [`crate::JoinError::Cancelled`]. What has started is asked to
    /// stop through its token, if it has one, and runs to its end.
    Cancel,
}

/// Worker threads that run fibers.
///
/// Dropping it waits until everything that was spawned has ended ([`Shutdown::Finish`]).
pub struct Runtime {
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// Figures of a runtime since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Worker threads.
    pub workers: usize,
    /// Workers that sleep.
    pub sleeping: usize,
    /// Fibers spawned.
    pub spawned: u64,
    /// Fibers that have ended.
    pub completed: u64,
    /// Tasks taken from another worker.
    pub stolen: u64,
    /// Switches from a worker's loop to a fiber.
    pub switches: u64,
    /// Times a fiber parked.
    pub parks: u64,
    /// Times a worker slept.
    pub sleeps: u64,
    /// Tasks in the global queue.
    pub global: usize,
    /// Tasks that went to the global queue's unbounded part.
    pub spilled: usize,
}

impl Runtime {
    /// With default settings.
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    /// Settings to choose.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// The process's own runtime, started at its first use with default settings, never shut down.
    ///
    /// # Panics
    /// When the system gives no thread.
    pub fn global() -> &'static Runtime {
        static GLOBAL: OnceLock<Runtime> = OnceLock::new();
        GLOBAL.get_or_init(|| Self::new().expect("the default runtime"))
    }

    fn start(config: Config) -> Result<Self, BuildError> {
        overflow::install();
        let deques: Vec<Deque<Queued>> = (0..config.workers).map(|_| Deque::new_lifo()).collect();
        let workers = deques.iter().map(|deque| Remote {
            stealer: deque.stealer(),
            inbox: CachePadded::new(Inbox::new()),
            thread: OnceLock::new(),
            timers: CachePadded::new(Timers::new()),
            counts: CachePadded::new(Counts::default()),
        });
        let shared = Arc::new(Shared {
            workers: workers.collect(),
            blocking: BlockingPool::new(config.blocking_threads, &config.name),
            global: Global::new(),
            idle: Idle::new(config.workers, default_workers()),
            keeper: Keeper::new(),
            config,
            roster: Roster::default(),
            // Half of the cores, as in Go's scheduler, but two, who may be partners.
            most_searchers: (default_workers() / 2).max(2),
            phase: AtomicU8::new(phase::RUNNING),
            over: AtomicBool::new(false),
            spawned_outside: CachePadded::default(),
        });
        report::enter(&shared);
        let mut runtime = Self {
            shared,
            threads: Vec::new(),
        };
        for (index, deque) in deques.into_iter().enumerate() {
            let shared = runtime.shared.clone();
            // Asleep until somebody has work for it: many threads that start at once would take the cores from the
            // first fibers.
            shared.idle.announce(index);
            let thread = thread::Builder::new()
                .name(format!("{}-{index}", shared.config.name))
                .spawn(move || run_worker(&shared, index, deque));
            // Dropping the runtime ends those that have started.
            let thread = thread.map_err(BuildError::Thread)?;
            // Nobody wakes a worker before, since nobody has the runtime.
            let _ = runtime.shared.workers[index]
                .thread
                .set(thread.thread().clone());
            runtime.threads.push(thread);
        }
        Ok(runtime)
    }

    /// Starts a fiber; see [`crate::spawn`].
    pub fn spawn<F, T>(&self, closure: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // SAFETY: the closure and its result own what they use.
        unsafe { spawn_on(&self.shared, closure, None) }
    }

    /// Runs a closure as a fiber and waits for its result; for plain threads, the way in. A fiber that calls it parks.
    ///
    /// # Panics
    /// With the closure's panic, if it panics.
    pub fn block_on<F, T>(&self, closure: F) -> T
    where
        F: FnOnce() -> T + Send,
        T: Send,
    {
        // SAFETY: joined below, whatever happens; nothing between can unwind.
        let handle = unsafe { spawn_on(&self.shared, closure, None) };
        match handle.join() {
            Ok(value) => value,
            Err(error) => error.resume(),
        }
    }

    /// Ends the runtime, and waits until it has ended.
    ///
    /// # Panics
    /// When called by one of its own fibers, which it would wait for.
    pub fn shutdown(mut self, how: Shutdown) {
        self.end(how);
    }

    fn end(&mut self, how: Shutdown) {
        let inside = worker::current()
            .is_some_and(|worker| ptr::eq(worker.shared.as_ptr(), Arc::as_ptr(&self.shared)));
        assert!(
            !inside,
            "a fiber can't shut down the runtime that it runs on"
        );
        let phase = match how {
            Shutdown::Finish => phase::FINISHING,
            Shutdown::Cancel => phase::CANCELLING,
        };
        self.shared.phase.store(phase, Ordering::SeqCst);
        if how == Shutdown::Cancel {
            // Fibers may wait for them.
            self.shared.blocking.cancel();
        }
        for worker in 0..self.shared.workers.len() {
            self.shared.wake(worker);
        }
        for thread in self.threads.drain(..) {
            // A worker doesn't panic: its tasks' panics are caught.
            let _ = thread.join();
        }
        self.shared.blocking.end();
    }

    /// What it has done so far. The figures of different counters need not fit each other while fibers run.
    pub fn metrics(&self) -> Metrics {
        let shared = &self.shared;
        let mut metrics = Metrics {
            workers: shared.workers.len(),
            sleeping: shared.idle.sleepers(),
            spawned: shared.spawned_outside.load(Ordering::Relaxed),
            global: shared.global.len(),
            spilled: shared.global.spilled(),
            ..Metrics::default()
        };
        for worker in &shared.workers {
            let counts = &worker.counts;
            metrics.spawned += counts.spawned.load(Ordering::Relaxed);
            metrics.completed += counts.completed.load(Ordering::Relaxed);
            metrics.stolen += counts.stolen.load(Ordering::Relaxed);
            metrics.switches += counts.switches.load(Ordering::Relaxed);
            metrics.parks += counts.parks.load(Ordering::Relaxed);
            metrics.sleeps += counts.sleeps.load(Ordering::Relaxed);
        }
        metrics
    }

    /// What its workers do and its fibers wait for, for people.
    pub fn report(&self) -> String {
        Report(&self.shared).to_string()
    }

    /// For fibers with settings of their own on this runtime.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.end(Shutdown::Finish);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("name", &self.shared.config.name)
            .field("metrics", &self.metrics())
            .finish()
    }
}

/// A worker thread's life.
fn run_worker(shared: &Arc<Shared>, index: usize, deque: Deque<Queued>) {
    if shared.config.pin_to_cores {
        pin(index);
    }
    // Without one, an overflow ends the process as a bare fault.
    let _alternate = overflow::AlternateStack::ensure();
    let seed = shared.config.seed.unwrap_or(index as u64).wrapping_add(1);
    let seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed);
    let worker = Worker::new(NonNull::from(shared.as_ref()), index, deque, seed);
    worker.work();
}

/// Binds the calling thread to one of the cores that it may use.
fn pin(index: usize) {
    // SAFETY: a set of cores is plain bits; the calls write into it and read from it.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&allowed), &mut allowed) != 0 {
            return;
        }
        let count = libc::CPU_COUNT(&allowed) as usize;
        let cores = (0..libc::CPU_SETSIZE as usize).filter(|&core| libc::CPU_ISSET(core, &allowed));
        if let Some(core) = cores.into_iter().nth(index % count.max(1)) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core, &mut one);
            libc::sched_setaffinity(0, size_of_val(&one), &one);
        }
    }
}
