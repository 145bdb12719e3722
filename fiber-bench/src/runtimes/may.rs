//! may's coroutines. Its channels are unbounded, all of them: a benchmark that needs a bound isn't run.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use may::coroutine::{Coroutine, JoinHandle};
use may::sync::{SyncFlag, mpsc};
use may::{coroutine, go};

use crate::blocking::{Blocking, Gate, Group};

/// may's coroutines.
pub struct May;

/// Starts may's scheduler, which there is one of in a process, and runs `root` as a coroutine.
pub fn enter<T: Send + 'static>(
    workers: usize,
    deep: bool,
    root: impl FnOnce() -> T + Send + 'static,
) -> T {
    may::config().set_workers(workers);
    if deep {
        // Its stacks don't grow: as Millpond's, 64 KiB, in words.
        may::config().set_stack_size((64 << 10) / size_of::<usize>());
    }
    // SAFETY: as `go!` in `spawn`; the root's stack holds the frames of the benchmarks, whose thread-locals stay within
    // calls that don't wait.
    let root = unsafe {
        coroutine::Builder::new()
            .stack_size((256 << 10) / size_of::<usize>())
            .spawn(root)
    };
    root.expect("may starts")
        .join()
        .expect("a panic ends the process")
}

impl Blocking for May {
    type Handle<T: Send + 'static> = JoinHandle<T>;
    type Sender<T: Send + 'static> = mpsc::Sender<T>;
    type Receiver<T: Send + 'static> = mpsc::Receiver<T>;
    type SharedReceiver<T: Send + 'static> = Arc<mpsc::Receiver<T>>;
    type Group = Counted;
    type Gate = Flag;
    type Waker = Coroutine;

    fn spawn<T, F>(task: F) -> JoinHandle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        go!(task)
    }

    fn join<T: Send + 'static>(handle: JoinHandle<T>) -> T {
        handle.join().expect("a panic ends the process")
    }

    fn yield_now() {
        coroutine::yield_now();
    }

    fn sleep(duration: Duration) {
        coroutine::sleep(duration);
    }

    fn nursery<F: Fn(usize) + Send + Copy + Sync + 'static>(count: usize, child: F) {
        coroutine::scope(|scope| {
            for index in 0..count {
                go!(scope, move || child(index));
            }
        });
    }

    fn waker() -> Coroutine {
        coroutine::current()
    }

    fn park() {
        coroutine::park();
    }

    fn unpark(waker: Coroutine) {
        waker.unpark();
    }

    fn channel<T: Send + 'static>(_: usize) -> (mpsc::Sender<T>, mpsc::Receiver<T>) {
        mpsc::channel()
    }

    fn send<T: Send + 'static>(sender: &mpsc::Sender<T>, value: T) {
        assert!(sender.send(value).is_ok(), "the receiver lives");
    }

    fn recv<T: Send + 'static>(receiver: &mut mpsc::Receiver<T>) -> Option<T> {
        receiver.recv().ok()
    }

    fn shared_channel<T: Send + 'static>(_: usize) -> (mpsc::Sender<T>, Arc<mpsc::Receiver<T>>) {
        unreachable!("not in the catalog for may")
    }

    fn recv_shared<T: Send + 'static>(_: &Arc<mpsc::Receiver<T>>) -> Option<T> {
        unreachable!("not in the catalog for may")
    }

    fn select_all(_: mpsc::Receiver<u64>, _: mpsc::Receiver<u64>) -> [(u64, u64); 2] {
        unreachable!("not in the catalog for may")
    }
}

/// Counts; the last one fires a flag. may's own wait group counts by clones of a pointer, made anew for each use.
pub struct Counted {
    count: AtomicUsize,
    zero: may::sync::Semphore,
}

impl Group for Counted {
    fn new() -> Self {
        Self {
            count: AtomicUsize::new(0),
            zero: may::sync::Semphore::new(0),
        }
    }

    fn add(&self, count: usize) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    fn done(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.zero.post();
        }
    }

    fn wait(&self) {
        self.zero.wait();
    }
}

/// may's flag.
pub struct Flag(SyncFlag);

impl Gate for Flag {
    fn new() -> Self {
        Self(SyncFlag::new())
    }

    fn wait(&self) {
        self.0.wait();
    }

    fn open(&self) {
        self.0.fire();
    }
}
