//! The benchmarks for runtimes whose tasks block in place: fibers and threads.

mod channels;
mod idle;
mod parallel;
mod parked;
mod pool;
mod spawning;

use std::ops::Range;
use std::time::Duration;

use crate::measure::Outcome;
use crate::params::Params;

/// What the benchmarks need of a runtime. All of it is called from inside one of the runtime's tasks.
pub trait Blocking: Sized + 'static {
    /// The right to a task's result.
    type Handle<T: Send + 'static>: Send;
    /// The end of a channel that sends.
    type Sender<T: Send + 'static>: Send + Clone + 'static;
    /// The end of a channel that receives.
    type Receiver<T: Send + 'static>: Send + 'static;
    /// The end of a channel that receives, of several.
    type SharedReceiver<T: Send + 'static>: Send + Clone + 'static;
    /// Counts up and down; those who wait for 0 go on when it gets there.
    type Group: Group;
    /// Those who wait go on when it opens.
    type Gate: Gate;
    /// Wakes one parked task.
    type Waker: Send + 'static;

    /// Starts a task.
    fn spawn<T, F>(task: F) -> Self::Handle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static;
    /// Waits for a task's result.
    fn join<T: Send + 'static>(handle: Self::Handle<T>) -> T;
    /// Starts a task that nobody waits for.
    fn detach<F: FnOnce() + Send + 'static>(task: F) {
        drop(Self::spawn(task));
    }
    /// Runs two closures, in parallel if a worker is free, and waits for both.
    fn both<A, B, Fa, Fb>(a: Fa, b: Fb) -> (A, B)
    where
        A: Send + 'static,
        B: Send + 'static,
        Fa: FnOnce() -> A + Send + 'static,
        Fb: FnOnce() -> B + Send + 'static,
    {
        let a = Self::spawn(a);
        let b = b();
        (Self::join(a), b)
    }
    /// Lets other tasks run.
    fn yield_now();
    /// Waits for a time.
    fn sleep(duration: Duration);
    /// Starts `count` children and waits for all of them.
    fn nursery<F: Fn(usize) + Send + Copy + Sync + 'static>(count: usize, child: F);
    /// For [`Blocking::park`].
    fn waker() -> Self::Waker;
    /// Waits for the calling task's waker; may return without it.
    fn park();
    /// Wakes a parked task, or lets its next park return at once.
    fn unpark(waker: Self::Waker);
    /// A channel with several senders and one receiver; 0 is a rendezvous.
    fn channel<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);
    /// Sends, waiting for room.
    fn send<T: Send + 'static>(sender: &Self::Sender<T>, value: T);
    /// Receives; `None` when there are no senders left.
    fn recv<T: Send + 'static>(receiver: &mut Self::Receiver<T>) -> Option<T>;
    /// One sender and one receiver: sends `0..count`; returns the sum of what was received.
    fn spsc(capacity: usize, count: u64) -> u64 {
        let (sender, mut receiver) = Self::channel(capacity);
        let task = Self::spawn(move || {
            for value in 0..count {
                Self::send(&sender, value);
            }
        });
        let mut sum = 0;
        while let Some(value) = Self::recv(&mut receiver) {
            sum += value;
        }
        Self::join(task);
        sum
    }
    /// A channel with several senders and several receivers.
    fn shared_channel<T: Send + 'static>(
        capacity: usize,
    ) -> (Self::Sender<T>, Self::SharedReceiver<T>);
    /// Receives; `None` when there are no senders left.
    fn recv_shared<T: Send + 'static>(receiver: &Self::SharedReceiver<T>) -> Option<T>;
    /// Receives from two channels, whichever has something, until both are closed; counts and sums what came by each.
    fn select_all(first: Self::Receiver<u64>, second: Self::Receiver<u64>) -> [(u64, u64); 2];
    /// Calls `body` on every index below `len`, in parallel.
    fn parallel_for<F: Fn(usize) + Send + Sync + Copy + 'static>(len: usize, body: F) {
        Self::parallel_chunks(len, len.div_ceil(64).max(1), move |range| {
            range.for_each(body)
        });
    }
    /// Calls `body` on chunks of `0..len`, in parallel.
    fn parallel_chunks<F: Fn(Range<usize>) + Send + Sync + Copy + 'static>(
        len: usize,
        chunk: usize,
        body: F,
    ) {
        Self::nursery(len.div_ceil(chunk), move |index| {
            body(index * chunk..len.min((index + 1) * chunk));
        });
    }
    /// The sum of `term` over all indices below `len`, in parallel.
    fn parallel_sum<F: Fn(usize) -> u64 + Send + Sync + Copy + 'static>(
        len: usize,
        term: F,
    ) -> u64 {
        let chunk = len.div_ceil(64).max(1);
        let sums = slots(len.div_ceil(chunk));
        Self::parallel_chunks(len, chunk, move |range| {
            let first = range.start / chunk;
            sums[first].set(range.map(term).sum());
        });
        sums.iter().map(Slot::get).sum()
    }
}

/// Counts up and down; those who wait for 0 go on when it gets there.
pub trait Group: Send + Sync + 'static {
    /// Starts at 0.
    fn new() -> Self;
    /// Adds.
    fn add(&self, count: usize);
    /// Takes one off.
    fn done(&self);
    /// Waits for 0.
    fn wait(&self);
}

/// Those who wait go on when it opens.
pub trait Gate: Send + Sync + 'static {
    /// Closed.
    fn new() -> Self;
    /// Waits until it is open.
    fn wait(&self);
    /// Opens it, for good.
    fn open(&self);
}

/// A place for one task's result, on a cache line of its own neighbours' account: as a slice's elements lie.
#[derive(Debug, Default)]
pub struct Slot(std::sync::atomic::AtomicU64);

impl Slot {
    /// Puts a value in.
    #[inline]
    pub fn set(&self, value: u64) {
        // Relaxed: read after the task's end, which publishes it.
        self.0.store(value, std::sync::atomic::Ordering::Relaxed);
    }

    /// The value.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// Places that live as long as the process, so that tasks of any runtime may hold them without counting references.
pub fn slots(count: usize) -> &'static [Slot] {
    (0..count)
        .map(|_| Slot::default())
        .collect::<Vec<_>>()
        .leak()
}

/// Runs the benchmark; inside one of the runtime's tasks.
///
/// # Panics
/// For a benchmark that isn't in the catalog.
pub fn run<R: Blocking>(params: &Params) -> Outcome {
    match params.benchmark {
        "spawn_nursery" => spawning::nursery::<R>(params),
        "spawn_sequential" => spawning::sequential::<R>(params),
        "trivial_task" => spawning::trivial::<R>(params),
        "switch_task" => spawning::switch::<R>(params),
        "yield_many" => spawning::yield_many::<R>(params),
        "chained_spawn" => spawning::chained::<R>(params),
        "skynet" => spawning::skynet::<R>(params),
        "fib_30" => spawning::fib::<R>(params),
        "ping_pong_local" => channels::ping_pong::<R>(params, channels::Start::Anywhere),
        "ping_pong_cross" => channels::ping_pong::<R>(params, channels::Start::Apart),
        "chan_single_thread" => channels::single::<R>(params),
        "spsc_0" | "spsc_1" | "spsc_64" | "spsc_1000" => channels::spsc::<R>(params),
        "mpsc_0" | "mpsc_1" | "mpsc_64" | "mpsc_1000" => channels::mpsc::<R>(params),
        "mpmc_0" | "mpmc_1" | "mpmc_64" | "mpmc_1000" => channels::mpmc::<R>(params),
        "select_2" => channels::select::<R>(params),
        "blocking_pressure" => parked::pressure::<R>(params),
        "parked_20000" => parked::parked::<R>(params),
        "herd_1000" => parked::herd::<R>(params),
        "counters_adjacent" => parked::counters::<R, 0>(params),
        "counters_apart" => parked::counters::<R, 4096>(params),
        "parallel_for_0" | "parallel_for_15" | "parallel_for_1000" => parallel::store::<R>(params),
        "parallel_for_shared_atomic" => parallel::shared_atomic::<R>(params),
        "parallel_for_per_chunk" => parallel::per_chunk::<R>(params),
        "parallel_for_no_atomic" => parallel::no_atomic::<R>(params),
        "parallel_reduce" => parallel::reduce::<R>(params),
        "idle_memory_10k" => idle::memory::<R>(params, 10_000),
        "idle_memory_100k" => idle::memory::<R>(params, 100_000),
        "idle_memory_1m" => idle::memory::<R>(params, 1_000_000),
        "deep_then_idle" => idle::deep_then_idle::<R>(params),
        "hog_and_ticker" => idle::ticker::<R>(params),
        "idle_cpu" => spawning::nursery::<R>(params),
        "task_pool_cross" => pool::cross::<R>(params),
        other => panic!("there is no benchmark {other}"),
    }
}
