//! A fiber runtime on Millpond's task records and stacks.
//!
//! ```
//! use millpond_fiber::Runtime;
//!
//! let runtime = Runtime::new()?;
//! let sum: u64 = runtime.block_on(|| {
//!     let fibers: Vec<_> = (0..10u64).map(|n| millpond_fiber::spawn(move || n * n)).collect();
//!     fibers.into_iter().map(|fiber| fiber.join().unwrap()).sum()
//! });
//! assert_eq!(sum, 285);
//! # Ok::<(), millpond_fiber::BuildError>(())
//! ```
//!
//! Fibers that borrow, and wait for each other through a channel:
//!
//! ```
//! use millpond_fiber::{Runtime, channel};
//!
//! let runtime = Runtime::new()?;
//! let sum = runtime.block_on(|| {
//!     let (sender, receiver) = channel::bounded(64);
//!     millpond_fiber::nursery(|nursery| {
//!         nursery.spawn(|| (0..1000_u64).for_each(|n| sender.send(n).unwrap()));
//!         (0..1000).map(|_| receiver.recv().unwrap()).sum::<u64>()
//!     })
//! });
//! assert_eq!(sum, 499_500);
//! # Ok::<(), millpond_fiber::BuildError>(())
//! ```
//!
//! Fibers are stackful: any function may wait, however deep it was called, and needs no `async`. They are cooperative: a
//! fiber that computes keeps its worker.
//!
//! # Which thread a fiber runs on
//!
//! A task that hasn't started may be started by any worker. Once started it stays on its worker, so what safe code may
//! do with thread-locals, [`std::rc::Rc`] and guards that aren't `Send` stays sound: a fiber never goes on on another
//! thread. The fibers of one worker do share its thread-locals: a value that one leaves there over a wait may be changed
//! by another, as by a function that was called meanwhile; a `RefCell` that is borrowed over a wait is borrowed for the
//! others. What belongs to a fiber goes into a [`FiberLocal`].
//!
//! A destructor may wait while its fiber panics; the fiber goes on on the same thread, in any mode, since the standard
//! library counts panics by thread. Meanwhile [`std::thread::panicking`] is true for the other fibers of that thread, too.
//!
//! [`RuntimeBuilder::migrate_started_fibers`] lifts the restriction and is `unsafe` for it.

mod atomics;
mod blocking;
mod cancel;
pub mod channel;
mod completion;
mod control;
mod counter;
mod fiber;
mod fork_join;
mod global;
mod idle;
mod inbox;
mod join;
mod join_set;
mod keeper;
mod local;
mod nursery;
mod overflow;
mod parallel;
mod prefetch;
mod ready;
mod report;
mod runtime;
mod stack;
pub mod sync;
mod tally;
mod task;
mod timer;
mod wait;
mod wait_list;
mod worker;

pub use blocking::spawn_blocking;
pub use cancel::CancelToken;
pub use counter::Counter;
pub use fiber::{Cancelled, Fiber, current, park, sleep, sleep_until, yield_now};
pub use fork_join::join;
pub use join::{JoinError, JoinHandle};
pub use join_set::{JoinSet, TimedOut};
pub use local::FiberLocal;
pub use nursery::{Nursery, ScopedJoinHandle, nursery};
pub use parallel::{
    Granularity, ParallelHandle, parallel_chunks, parallel_chunks_mut, parallel_for,
    parallel_for_chunks, parallel_map, parallel_reduce, parallel_reduce_chunks, spawn_parallel_for,
    spawn_parallel_for_chunks, spawn_parallel_reduce,
};
pub use report::report;
pub use runtime::{
    BuildError, Builder, IdlePolicy, Metrics, Runtime, RuntimeBuilder, Shutdown, Victims,
};

/// Starts a fiber on the calling fiber's runtime, or, on a plain thread, on the process's own ([`Runtime::global`]).
///
/// One allocation, of the record; the stack is bound when the fiber first runs. A panic of the closure ends the fiber,
/// and is what [`JoinHandle::join`] returns.
pub fn spawn<F, T>(closure: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: the closure and its result own what they use.
    unsafe { runtime::spawn_on(runtime::current_shared(), closure, None) }
}
