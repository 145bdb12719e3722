//! Millpond is a multithreaded, general-purpose memory allocator. Each thread has pages of its own, one per size
//! class, and allocates and frees in them without a lock or an atomic read-modify-write; what other threads free
//! into its pages is drained back before any new page is taken.
//!
//! ```
//! use millpond::Millpond;
//!
//! #[global_allocator]
//! static GLOBAL: Millpond = Millpond;
//!
//! let numbers: Vec<u64> = (0..1000).collect();
//! assert_eq!(numbers.iter().sum::<u64>(), 499_500);
//! ```
//!
//! # The life of a block
//!
//! - **Allocate** (`thread_heap/alloc.rs`): the thread's heap, the bin of the size class (`size_class.rs`), the head
//!   of the bin's list.
//! - **Free locally** (`thread_heap/free.rs`): a block of the bin's current page goes back onto the bin's list; one of
//!   another page of the thread, found through the registry (`arena/registry.rs`), onto that page's local list.
//! - **Free remotely** (`page/shared_line.rs`): one compare-and-swap pushes the block onto its page's remote list
//!   (`free_list/remote.rs`); the first one since the last drain announces the page on its owner's news stack
//!   (`free_list/news.rs`), or goes onto the page's local list where the owner has no thread.
//! - **Recycle** (`thread_heap/recycle.rs`, `keep.rs`): above 1 KiB, and of others' blocks in runs, some go onto the list of
//!   the freeing thread's bin instead of to their pages.
//! - **Refill** (`thread_heap/refill.rs`): an empty bin takes its page's local list, drains its remote list, settles
//!   the news (`thread_heap/settle.rs`), takes a partly used page, carves, takes a warm page, adopts a page of a heap
//!   without a thread (`thread_heap/idle.rs`), and only then claims a fresh page (`arena/mod.rs`).
//! - **Exit** (`thread_heap/exit.rs`): the heap is left as it is, with all its pages, to whoever frees into it or
//!   starts next.
//! - **Purge** (`arena/reserve.rs`): free slices beyond the reserve go back to the system in the call that frees them.
//!
//! Blocks over 128 KiB, and over 17 KiB those of sizes that are rarely asked for (`thread_heap/single.rs`), have slices of
//! their own, those over 32 MiB mappings of their own (`large.rs`, `arena/mappings.rs`).
//!
//! A program's own records can come from the same heaps without a global allocator: [`pool`].
//! Stacks for fiber runtimes are pooled by `stack` (Linux on x86-64 and AArch64 only; not in the preload library).
//!
//! # What stays resident
//!
//! The reserve of free memory is 5% of the recent peak, at least 8 and at most 32 MiB, above 8 no more than is in use;
//! and while the program shows that it wants its memory back as much more as is in use, or half of the peak, or 32 MiB of
//! it. Of freed blocks over 32 MiB, at most four mappings of at most 256 MiB each keep their address space for the
//! next such block, for one to two purge delays; what they hold resident is part of the reserve. Larger ones are unmapped at once. `collect(true)`
//! gives all of it back.
//!
//! # Limits
//!
//! Linux on x86-64 and AArch64. Elsewhere, and under Miri, [`PASSES_THROUGH`] is true and every call goes to
//! [`std::alloc::System`]. At most 65,536 threads hold a heap at a time.

#[cfg(native)]
mod abort;
#[cfg(any(native, loom))]
#[cfg_attr(loom, allow(dead_code))]
mod arena;
#[cfg(preload)]
#[path = "../preload/src/mod.rs"]
mod c_api;
#[cfg_attr(not(native), allow(dead_code))]
mod config;
#[cfg(any(native, loom))]
#[cfg_attr(loom, allow(dead_code))]
mod free_list;
#[cfg(native)]
mod global_alloc;
#[cfg(any(native, loom))]
#[cfg_attr(loom, allow(dead_code))]
mod idle_set;
#[cfg(native)]
mod large;
#[cfg(native)]
mod os;
#[cfg(any(native, loom))]
#[cfg_attr(loom, allow(dead_code))]
mod page;
#[cfg(not(native))]
mod pass_through;
#[cfg(not(preload))]
pub mod pool;
#[cfg_attr(not(native), allow(dead_code))]
mod size_class;
#[cfg(all(any(native, loom), not(preload)))]
#[cfg_attr(loom, allow(dead_code))]
pub mod stack;
mod stats;
#[cfg(any(native, loom))]
#[cfg_attr(loom, allow(dead_code))]
mod sync;
#[cfg(native)]
mod thread_heap;
#[cfg_attr(not(native), allow(dead_code))]
mod units;

pub use config::{OptionError, OptionInfo, OptionKind};
pub use stats::Stats;

use std::ptr::NonNull;

#[cfg(not(native))]
use pass_through as imp;
#[cfg(native)]
use thread_heap::collect as imp;

/// The allocator. It has no state of its own: all values of this type are the same allocator.
///
/// `alloc` and `dealloc` cost about a dozen instructions each where the block's page is the thread's current one; both
/// are lock-free otherwise. `alloc` returns null when the system has no memory left. Sizes of zero are allowed.
/// Freeing a pointer that isn't a live block of this allocator ends the process with one line on standard error,
/// wherever that is noticed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Millpond;

/// True where every call is passed through to [`std::alloc::System`]: on platforms without an OS layer of ours, and
/// under Miri.
pub const PASSES_THROUGH: bool = cfg!(not(native));

/// Gives back to the system what is free, as far as the calling thread can reach it: its own heap, heaps without a
/// thread, and the reserve of free memory, cached mappings included (all of it with `force`, otherwise what has not
/// been needed for the purge delay). With `force` the system pages inside partly used pages go, too, where none of
/// their blocks is live: touching them again costs page faults. Blocks freed to other live threads are theirs to collect. The same for the free
/// stacks of the global pool of `stack` and those in the calling thread's cache.
///
/// Cost: proportional to the pages of the heaps looked at. Thread-safe; never waits for another thread.
pub fn collect(force: bool) {
    imp::collect(force);
}

/// The counters, summed over all heaps. Cheap, but not free: proportional to the number of heaps ever held at a time.
pub fn stats() -> Stats {
    imp::stats()
}

/// The bytes that the block at `ptr` can hold: its class's size, or its slices'.
///
/// # Safety
/// `ptr` is a live block of this allocator. What isn't ends the process with one line on standard error where that is
/// noticed.
pub unsafe fn usable_size(ptr: NonNull<u8>) -> usize {
    #[cfg(native)]
    return global_alloc::usable_size(ptr);
    #[cfg(not(native))]
    return pass_through::usable_size(ptr);
}

/// Sets an option by its name in [`options`]; takes effect at once.
///
/// ```
/// millpond::set_option("purge_delay_ms", "200")?;
/// assert_eq!(millpond::set_option("purge", "1"), Err(millpond::OptionError::Unknown));
/// # Ok::<(), millpond::OptionError>(())
/// ```
///
/// # Errors
/// When no option has the name, or the value isn't one that it takes; nothing is changed then.
pub fn set_option(name: &str, value: &str) -> Result<(), OptionError> {
    config::set_option(name, value)?;
    #[cfg(native)]
    thread_heap::background::ensure();
    Ok(())
}

/// All options with their defaults and present values.
///
/// ```
/// for option in millpond::options() {
///     println!("{:20} {:8} {}", option.name, option.value, option.help);
/// }
/// ```
pub fn options() -> impl Iterator<Item = OptionInfo> {
    config::options()
}

/// Switches of debug builds for tests of the allocator itself.
#[cfg(all(native, debug_assertions))]
#[doc(hidden)]
pub mod testing {
    pub use crate::page::in_flight::lose_next_news;
    pub use crate::thread_heap::check::{RefillStep, skip_refill_step};
}
