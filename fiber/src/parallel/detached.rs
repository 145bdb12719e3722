//! Parallel loops that their starter doesn't wait for at once.

use super::{Granularity, parallel_for, parallel_for_chunks, parallel_reduce};
use crate::counter::Counter;
use crate::join::{JoinError, JoinHandle};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A parallel loop that runs by itself. It owns what it uses; loops that borrow are started in a [`crate::nursery`].
/// Dropping the handle lets the loop go on.
pub struct ParallelHandle<T> {
    counter: Arc<Counter>,
    handle: JoinHandle<T>,
}

impl<T> ParallelHandle<T> {
    /// Reaches zero when the loop has ended, also by a panic. Any number of fibers and threads may wait for it, and it
    /// may outlive the handle.
    pub fn counter(&self) -> &Arc<Counter> {
        &self.counter
    }

    /// Whether the loop has ended.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// Waits until the loop has ended.
    ///
    /// # Errors
    /// With the panic of a call, or if the runtime was shut down before the loop began.
    pub fn join(self) -> Result<T, JoinError> {
        self.handle.join()
    }
}

impl<T> fmt::Debug for ParallelHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParallelHandle")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}

/// Counts the loop down when it ends, however it does.
struct End(Arc<Counter>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.done();
    }
}

fn start<T, F>(work: F) -> ParallelHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let counter = Arc::new(Counter::new(1));
    let end = End(counter.clone());
    let handle = crate::spawn(move || {
        let _end = end;
        work()
    });
    ParallelHandle { counter, handle }
}

/// As [`parallel_for`], without waiting.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let sum = Arc::new(AtomicUsize::new(0));
/// let into = sum.clone();
/// let running = millpond_fiber::spawn_parallel_for(0..1000, move |i| {
///     into.fetch_add(i, Ordering::Relaxed);
/// });
/// running.counter().wait();
/// assert_eq!(sum.load(Ordering::Relaxed), 499_500);
/// running.join().unwrap();
/// ```
pub fn spawn_parallel_for<F>(range: Range<usize>, body: F) -> ParallelHandle<()>
where
    F: Fn(usize) + Send + Sync + 'static,
{
    start(move || parallel_for(range, body))
}

/// As [`parallel_for_chunks`], without waiting.
///
/// # Panics
/// The loop's fiber panics if the batch is 0.
pub fn spawn_parallel_for_chunks<F>(
    range: Range<usize>,
    batch: impl Into<Granularity>,
    body: F,
) -> ParallelHandle<()>
where
    F: Fn(Range<usize>) + Send + Sync + 'static,
{
    let batch = batch.into();
    start(move || parallel_for_chunks(range, batch, body))
}

/// As [`parallel_reduce`], without waiting; [`ParallelHandle::join`] has the result.
pub fn spawn_parallel_reduce<T, I, F, R>(
    range: Range<usize>,
    identity: I,
    op: F,
    reducer: R,
) -> ParallelHandle<T>
where
    T: Send + 'static,
    I: Fn() -> T + Send + Sync + 'static,
    F: Fn(T, usize) -> T + Send + Sync + 'static,
    R: Fn(T, T) -> T + Send + Sync + 'static,
{
    start(move || parallel_reduce(range, identity, op, reducer))
}
