//! Millpond's fibers.

use std::ops::Range;
use std::time::Duration;

use millpond_fiber::{Counter, Fiber, JoinHandle, Runtime, Victims, channel};

use crate::blocking::{Blocking, Gate, Group};

/// Millpond's fibers.
pub struct Millpond;

/// Which fibers move between workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migration {
    /// Those that haven't started.
    Pinned,
    /// All.
    Free,
}

/// Starts a runtime and runs `root` as one of its fibers.
pub fn enter<T: Send>(
    workers: usize,
    victims: Victims,
    migration: Migration,
    root: impl FnOnce() -> T + Send,
) -> (T, Runtime) {
    let mut builder = Runtime::builder().workers(workers).victims(victims);
    if migration == Migration::Free {
        // SAFETY: the benchmarks' tasks suspend in the runtime's own operations only, and hold nothing of their thread
        // meanwhile: their checks read the thread's number and forget it.
        builder = unsafe { builder.migrate_started_fibers() };
    }
    let runtime = builder.build();
    let runtime = runtime.unwrap_or_else(|error| crate::fail::cannot_run(&error.to_string()));
    (runtime.block_on(root), runtime)
}

impl Blocking for Millpond {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender<T: Send + 'static> = channel::Sender<T>;
    type Receiver<T: Send + 'static> = channel::Receiver<T>;
    type SharedReceiver<T: Send + 'static> = channel::Receiver<T>;
    type Group = Counter;
    type Gate = Closed;
    type Waker = Fiber;

    fn spawn<T, F>(task: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        millpond_fiber::spawn(task)
    }

    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().unwrap_or_else(|error| error.resume())
    }

    fn yield_now() {
        millpond_fiber::yield_now();
    }

    fn sleep(duration: Duration) {
        millpond_fiber::sleep(duration).expect("nobody cancels");
    }

    fn nursery<F: Fn(usize) + Send + Copy + Sync + 'static>(count: usize, child: F) {
        millpond_fiber::nursery(|nursery| {
            for index in 0..count {
                nursery.spawn(move || child(index));
            }
        });
    }

    fn waker() -> Fiber {
        millpond_fiber::current().expect("benchmarks run in fibers")
    }

    fn park() {
        millpond_fiber::park();
    }

    fn unpark(waker: Fiber) {
        waker.unpark();
    }

    fn channel<T: Send + 'static>(capacity: usize) -> (channel::Sender<T>, channel::Receiver<T>) {
        channel::bounded(capacity)
    }

    fn send<T: Send + 'static>(sender: &channel::Sender<T>, value: T) {
        assert!(sender.send(value).is_ok(), "the receiver lives");
    }

    fn recv<T: Send + 'static>(receiver: &mut channel::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }

    fn spsc(capacity: usize, count: u64) -> u64 {
        // As the documentation of `channel::spsc` advises for few values.
        if capacity < 8 {
            let (sender, receiver) = channel::bounded(capacity);
            let task = Self::spawn(move || (0..count).for_each(|value| Self::send(&sender, value)));
            let sum = receiver.iter().sum();
            Self::join(task);
            return sum;
        }
        let (sender, receiver) = channel::spsc::bounded(capacity);
        let task = Self::spawn(move || {
            for value in 0..count {
                assert!(sender.send(value).is_ok(), "the receiver lives");
            }
        });
        let mut sum = 0;
        while let Ok(value) = receiver.recv() {
            sum += value;
        }
        Self::join(task);
        sum
    }

    fn shared_channel<T: Send + 'static>(
        capacity: usize,
    ) -> (channel::Sender<T>, channel::Receiver<T>) {
        channel::bounded(capacity)
    }

    fn recv_shared<T: Send + 'static>(receiver: &channel::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }

    fn both<A, B, Fa, Fb>(a: Fa, b: Fb) -> (A, B)
    where
        A: Send + 'static,
        B: Send + 'static,
        Fa: FnOnce() -> A + Send + 'static,
        Fb: FnOnce() -> B + Send + 'static,
    {
        millpond_fiber::join(a, b)
    }

    fn parallel_for<F: Fn(usize) + Send + Sync + Copy + 'static>(len: usize, body: F) {
        millpond_fiber::parallel_for(0..len, body);
    }

    fn parallel_chunks<F: Fn(Range<usize>) + Send + Sync + Copy + 'static>(
        len: usize,
        chunk: usize,
        body: F,
    ) {
        millpond_fiber::parallel_for_chunks(0..len, chunk, body);
    }

    fn parallel_sum<F: Fn(usize) -> u64 + Send + Sync + Copy + 'static>(
        len: usize,
        term: F,
    ) -> u64 {
        millpond_fiber::parallel_reduce(0..len, || 0, move |sum, i| sum + term(i), |a, b| a + b)
    }

    fn select_all(
        first: channel::Receiver<u64>,
        second: channel::Receiver<u64>,
    ) -> [(u64, u64); 2] {
        let mut got = [(0, 0); 2];
        let (mut first, mut second) = (Some(first), Some(second));
        while let (Some(one), Some(other)) = (&first, &second) {
            let (place, result) = millpond_fiber::select! {
                recv(one) -> result => (0, result),
                recv(other) -> result => (1, result),
            };
            match result {
                Ok(value) => got[place] = (got[place].0 + 1, got[place].1 + value),
                Err(_) if place == 0 => first = None,
                Err(_) => second = None,
            }
        }
        // The one that is closed later.
        for (left, got) in [first, second].into_iter().zip(&mut got) {
            for value in left.iter().flatten() {
                *got = (got.0 + 1, got.1 + value);
            }
        }
        got
    }
}

impl Group for Counter {
    fn new() -> Self {
        Self::new(0)
    }

    fn add(&self, count: usize) {
        Self::add(self, count);
    }

    fn done(&self) {
        Self::done(self);
    }

    fn wait(&self) {
        Self::wait(self);
    }
}

/// A counter at 1.
pub struct Closed(Counter);

impl Gate for Closed {
    fn new() -> Self {
        Self(Counter::new(1))
    }

    fn wait(&self) {
        self.0.wait();
    }

    fn open(&self) {
        self.0.done();
    }
}
