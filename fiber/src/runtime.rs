//! A runtime: workers, their queues, and how they start and end.

use crate::blocking::{self, BlockingPool};
use crate::global::Global;
use crate::idle::{Idle, MAX_WORKERS};
use crate::inbox::Inbox;
use crate::overflow;
use crate::report::{self, Report};
use crate::stack::Roster;
use crate::task::{self, Extra, Header};
use crate::timer::Timers;
use crate::worker::{self, Counts, FEW, Queued, Remote, Work, Worker};
use crate::{CancelToken, JoinHandle};
use crossbeam_deque::Worker as Deque;
use crossbeam_utils::CachePadded;
use millpond::stack::{StackError, StackSize};
use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

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

/// How a runtime ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything that was spawned runs to its end.
    Finish,
    /// What hasn't started is dropped, and its joiners get [`crate::JoinError::Cancelled`]. What has started is asked to
    /// stop through its token, if it has one, and runs to its end.
    Cancel,
}

/// What a builder was told.
#[derive(Clone)]
pub(crate) struct Config {
    pub workers: usize,
    pub stack: StackSize,
    pub name: Arc<str>,
    pub victims: Victims,
    pub migration: Migration,
    pub pin_to_cores: bool,
    pub reports_deadlocks: bool,
    pub seed: Option<u64>,
    pub blocking_threads: usize,
}

/// Why a runtime can't be built.
#[derive(Debug)]
pub enum BuildError {
    /// No workers, or more than 256.
    Workers(usize),
    /// A stack size that the pool doesn't have.
    Stack(StackError),
    /// The system gave no thread.
    Thread(io::Error),
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
    migration: Migration,
    pin_to_cores: bool,
    reports_deadlocks: bool,
    seed: Option<u64>,
    blocking_threads: usize,
}

/// One for each core that the process may use.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_WORKERS))
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        Self {
            workers: default_workers(),
            stack_bytes: StackSize::DEFAULT.bytes(),
            name: "fiber".into(),
            victims: Victims::default(),
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
            migration: self.migration,
            pin_to_cores: self.pin_to_cores,
            reports_deadlocks: self.reports_deadlocks,
            seed: self.seed,
            blocking_threads: self.blocking_threads,
        })
    }
}

/// The end of a runtime, as far as it is asked for.
mod phase {
    pub const RUNNING: u8 = 0;
    pub const FINISHING: u8 = 1;
    pub const CANCELLING: u8 = 2;
}

/// What all workers of a runtime share.
pub(crate) struct Shared {
    pub config: Config,
    pub workers: Box<[Remote]>,
    pub global: Global,
    pub idle: Idle,
    pub roster: Roster,
    /// How many workers may search at a time.
    pub most_searchers: usize,
    pub blocking: BlockingPool,
    phase: AtomicU8,
    over: AtomicBool,
    /// Fibers spawned by plain threads and by fibers of other runtimes.
    spawned_outside: CachePadded<AtomicU64>,
}

impl Shared {
    /// Wakes a worker for work that was just made.
    #[inline]
    pub fn wake_one(&self, few: bool) {
        if let Some(worker) = self.idle.wake_one(few) {
            self.unpark(worker);
        }
    }

    /// Wakes a worker if it sleeps.
    pub fn wake(&self, worker: usize) {
        if self.idle.wake(worker) {
            self.unpark(worker);
        }
    }

    fn unpark(&self, worker: usize) {
        if let Some(thread) = self.workers[worker].thread.get() {
            thread.unpark();
        }
    }

    /// Leaves a chain of fibers for their worker.
    pub fn post(&self, worker: usize, first: NonNull<Header>, last: NonNull<Header>) {
        self.workers[worker].inbox.push(first, last);
        self.wake(worker);
    }

    /// Queues a fiber that a plain thread, or a fiber of another runtime, woke.
    pub fn queue_from_outside(&self, fiber: NonNull<Header>) {
        match self.config.migration {
            Migration::Pinned => {
                // SAFETY: ASSIGNED by the caller, so it is the caller's until it is queued.
                let home = unsafe { fiber.as_ref() }.home.get() as usize;
                self.post(home, fiber, fiber);
            }
            Migration::Free => {
                self.global.push(fiber);
                self.wake_one(false);
            }
        }
    }

    /// Queues a new task of a plain thread.
    fn queue_fresh(&self, task: NonNull<Header>) {
        // SAFETY: the spawner's until it is queued.
        unsafe { task.as_ref() }.control.assign();
        self.spawned_outside.fetch_add(1, Ordering::Relaxed);
        self.global.push(task);
        self.wake_one(false);
    }

    /// What there is to do for a worker that has announced its sleep.
    pub fn work_for(&self, worker: usize) -> Work {
        if self.is_over() || !self.workers[worker].inbox.is_empty() || !self.global.is_empty() {
            return Work::Some;
        }
        let mut work = Work::None;
        if self.config.victims != Victims::None {
            for other in &self.workers {
                match other.stealer.len() {
                    0 => {}
                    1..=FEW => work = Work::Few,
                    _ => return Work::Some,
                }
            }
        }
        work
    }

    /// Whether tasks that haven't started are to be dropped.
    pub fn cancels_queued(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == phase::CANCELLING
    }

    /// Whether the workers may end: for a worker that found nothing to do.
    pub fn is_over(&self) -> bool {
        if self.phase.load(Ordering::Relaxed) == phase::RUNNING {
            return false;
        }
        if self.over.load(Ordering::Acquire) {
            return true;
        }
        if self.live() != 0 || self.over.swap(true, Ordering::AcqRel) {
            return self.over.load(Ordering::Acquire);
        }
        for worker in 0..self.workers.len() {
            self.wake(worker);
        }
        true
    }

    /// Fibers that have been spawned and not completed. Never 0 while there is one: completions are summed first, so
    /// that a fiber counted as completed is counted as spawned, too, and so are all that it spawned.
    pub fn live(&self) -> u64 {
        let sum = |counter: fn(&Counts) -> &AtomicU64| -> u64 {
            let counts = self.workers.iter().map(|worker| counter(&worker.counts));
            counts.map(|counter| counter.load(Ordering::SeqCst)).sum()
        };
        let completed = sum(|counts| &counts.completed);
        std::sync::atomic::fence(Ordering::SeqCst);
        let spawned = sum(|counts| &counts.spawned) + self.spawned_outside.load(Ordering::SeqCst);
        spawned - completed
    }

    /// Writes a report if no fiber can go on by itself: for a worker that has announced its sleep.
    #[cold]
    pub fn report_deadlock(&self) {
        let asleep = self.idle.sleepers() == self.workers.len();
        let idle = self
            .workers
            .iter()
            .all(|worker| worker.inbox.is_empty() && worker.timers.is_empty());
        if asleep && idle && self.global.is_empty() && self.live() != 0 {
            eprint!(
                "millpond-fiber: every fiber waits, and no fiber can wake one:\n{}",
                Report(self)
            );
        }
    }

    /// There is no stack for a fiber that must run.
    #[cold]
    pub fn out_of_stacks(&self, error: &StackError) -> ! {
        eprintln!("millpond-fiber: no stack for a fiber: {error}");
        std::process::abort();
    }
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
            config,
            global: Global::new(),
            idle: Idle::new(),
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
            let thread = thread::Builder::new()
                .name(format!("{}-{index}", shared.config.name))
                .spawn(move || run_worker(&shared, index, deque));
            // Dropping the runtime ends those that have started.
            runtime.threads.push(thread.map_err(BuildError::Thread)?);
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
    let _ = shared.workers[index].thread.set(thread::current());
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

/// Starts a fiber on a runtime: on the calling worker if it is one of the runtime's, otherwise on whichever is free.
///
/// # Safety
/// What the closure borrows outlives the fiber, and its result what the handle does.
pub(crate) unsafe fn spawn_on<F, T>(
    shared: &Shared,
    closure: F,
    extra: Option<Box<Extra>>,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let task = task::new(closure, shared, false, extra);
    // SAFETY: a new record with a result of this type.
    let handle = unsafe { JoinHandle::new(task) };
    queue(shared, task);
    handle
}

/// As [`spawn_on`], without a handle: the result is dropped.
///
/// # Safety
/// As for [`spawn_on`].
pub(crate) unsafe fn spawn_detached_on<F>(shared: &Shared, closure: F)
where
    F: FnOnce() + Send,
{
    queue(shared, task::new(closure, shared, true, None));
}

/// As [`spawn_detached_on`], for a nursery's child.
///
/// # Safety
/// As for [`spawn_on`].
pub(crate) unsafe fn spawn_child_on<F>(shared: &Shared, closure: F)
where
    F: FnOnce() + Send,
{
    let task = task::new(closure, shared, true, None);
    // SAFETY: nobody else knows the record yet.
    unsafe { task.as_ref() }.home.set(task::FRESH_CHILD);
    queue(shared, task);
}

fn queue(shared: &Shared, task: NonNull<Header>) {
    match worker::current() {
        Some(worker) if ptr::eq(worker.shared.as_ptr(), shared) => worker.queue_fresh(task),
        _ => shared.queue_fresh(task),
    }
}

/// The runtime that the calling fiber runs on, or the process's own.
pub(crate) fn current_shared<'a>() -> &'a Shared {
    match worker::current() {
        // SAFETY: the runtime outlives its workers; callers use it at once.
        Some(worker) => unsafe { &*worker.shared.as_ptr() },
        None => Runtime::global().shared(),
    }
}

/// Settings of a fiber.
///
/// ```
/// let fiber = millpond_fiber::Builder::new().name("deep").stack_size(1 << 20).spawn(|| 1 + 1)?;
/// assert_eq!(fiber.join().unwrap(), 2);
/// # Ok::<(), millpond_fiber::BuildError>(())
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    extra: Extra,
}

impl Builder {
    /// As the runtime's settings say.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name for reports.
    pub fn name(mut self, name: &str) -> Self {
        self.extra.name = Some(name.into());
        self
    }

    /// Bytes of stack, the guard included: rounded up to a power of two.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.extra.stack_bytes = bytes;
        self
    }

    /// The token that cancels the fiber's waits.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.extra.token = Some(token.clone());
        self
    }

    /// Starts a fiber on the calling fiber's runtime, or on the process's own; see [`crate::spawn`].
    pub fn spawn<F, T>(self, closure: F) -> Result<JoinHandle<T>, BuildError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_in(current_shared(), closure)
    }

    /// Starts a fiber on a runtime.
    pub fn spawn_on<F, T>(self, runtime: &Runtime, closure: F) -> Result<JoinHandle<T>, BuildError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_in(runtime.shared(), closure)
    }

    fn spawn_in<F, T>(self, shared: &Shared, closure: F) -> Result<JoinHandle<T>, BuildError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.extra.stack_bytes != 0 {
            StackSize::custom(self.extra.stack_bytes).map_err(BuildError::Stack)?;
        }
        // SAFETY: the closure and its result own what they use.
        Ok(unsafe { spawn_on(shared, closure, Some(Box::new(self.extra))) })
    }
}
