//! Pooled, guarded stacks for fiber runtimes.
//!
//! ```
//! use millpond::stack::{StackPool, StackSize, stack_lookup};
//!
//! let pool = StackPool::global();
//! let mut stack = pool.take(StackSize::DEFAULT)?;
//! stack.set_tag(7);
//! // A runtime switches to `top`; what it calls there must not reach below `limit`.
//! assert_eq!(stack.top().addr().get() % 64, 0);
//!
//! let below = stack.limit().addr().get() - 1;
//! let info = stack_lookup(below).expect("this is a stack of ours");
//! assert!(info.in_guard());
//! assert_eq!(info.tag(), 7);
//!
//! // From any thread; the next taker gets it.
//! std::thread::spawn(move || drop(stack)).join().unwrap();
//! # Ok::<(), millpond::stack::StackError>(())
//! ```
//!
//! # The life of a stack
//!
//! - **Take** (`local.rs`, `cache.rs`): the thread's cache, last in first out; a dozen instructions, no atomic
//!   read-modify-write. A [`StackCache`] of the worker's own does without thread-local storage.
//! - **Refill** (`depot.rs`): a batch of free slots, found by their bits (`free_slots.rs`); where there is none a span
//!   of up to 64 MiB is mapped (`span.rs`). A slot that is taken for the first time gets its guard (`guard.rs`).
//! - **Give back**: into the cache of whichever thread drops the handle; the older half of a full cache goes to the
//!   depot, where everybody finds it.
//! - **Decay** (`decay.rs`): what lies in the depot for longer than the purge delay is trimmed to what recent stacks
//!   touched, and then to half of that after each further delay, down to one system page.
//! - **Exit**: a thread's cache goes to the depot.
//!
//! # Memory
//!
//! Slots are powers of two, aligned to their size; their lowest system page is the guard. Spans have no huge pages.
//! With [`GuardKind::Installed`] stacks cost no map entries of their own, and a million of them are a matter of memory
//! only: what was touched, and 128 bytes of page table. The global pool keeps the addresses of its spans for ever.
//!
//! One page of guard catches what grows page by page: Rust code does, by its stack probes, and C code that is compiled
//! with `-fstack-clash-protection`. Other C code with frames of more than a page can step over it.
//!
//! Nothing here allocates through the global allocator, whichever that is; and a signal handler may call
//! [`stack_lookup`] only.
//!
//! # fork
//!
//! A child goes on with all pools. What vanished threads held or had cached is lost to it: address space, and no more
//! memory than it shared with the parent.

#[cfg(native)]
mod cache;
#[cfg(native)]
mod decay;
#[cfg(native)]
mod depot;
#[cfg(native)]
mod directory;
mod free_slots;
#[cfg(native)]
mod guard;
#[cfg(native)]
mod handle;
#[cfg(native)]
mod local;
#[cfg(native)]
mod pool;
mod roster;
#[cfg(native)]
mod size;
#[cfg(native)]
mod span;

#[cfg(native)]
pub use self::{
    cache::StackCache,
    directory::{StackInfo, stack_lookup},
    guard::GuardKind,
    handle::StackHandle,
    pool::{StackError, StackPool, StackStats},
    size::StackSize,
};

/// The part of [`collect`](crate::collect) that is the stacks': the global pool's.
#[cfg(native)]
pub(crate) fn collect(force: bool) {
    if force {
        StackPool::global().trim();
    } else {
        StackPool::global().age();
    }
}
