//! Millpond's fibers.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millpond_fiber::{Fiber, JoinHandle, Runtime, Victims, channel};

use crate::blocking::{Blocking, Gate, Group};

/// Millpond's fibers.
pub struct Millpond;

/// Starts a runtime and runs `root` as one of its fibers.
pub fn enter<T: Send>(workers: usize, victims: Victims, root: impl FnOnce() -> T + Send) -> (T, Runtime) {
    let runtime = Runtime::builder().workers(workers).victims(victims).build();
    let runtime = runtime.unwrap_or_else(|error| crate::fail::cannot_run(&error.to_string()));
    (runtime.block_on(root), runtime)
}

impl Blocking for Millpond {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender<T: Send + 'static> = channel::Sender<T>;
    type Receiver<T: Send + 'static> = channel::Receiver<T>;
    type SharedReceiver<T: Send + 'static> = channel::Receiver<T>;
    type Group = Counter;
    type Gate = Counter;
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
        let handles: Vec<_> = (0..count).map(|index| Self::spawn(move || child(index))).collect();
        handles.into_iter().for_each(Self::join);
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

    fn shared_channel<T: Send + 'static>(capacity: usize) -> (channel::Sender<T>, channel::Receiver<T>) {
        channel::bounded(capacity)
    }

    fn recv_shared<T: Send + 'static>(receiver: &channel::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }

    fn select_all(first: channel::Receiver<u64>, second: channel::Receiver<u64>) -> [(u64, u64); 2] {
        todo!("{first:?} {second:?}")
    }
}

/// Stands in.
pub struct Counter(AtomicUsize);

impl Group for Counter {
    fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    fn add(&self, count: usize) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn done(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    fn wait(&self) {
        while self.0.load(Ordering::Acquire) != 0 {
            millpond_fiber::yield_now();
        }
    }
}

impl Gate for Counter {
    fn new() -> Self {
        Self(AtomicUsize::new(1))
    }

    fn wait(&self) {
        Group::wait(self);
    }

    fn open(&self) {
        self.done();
    }
}

#[allow(dead_code)]
type Unused = Range<usize>;
