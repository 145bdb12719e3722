//! Task records for runtimes: boxes in Millpond's own pages, each on cache lines of its own, freed on any thread.
//!
//! ```
//! use millpond::pool::{Pool, PoolBox};
//!
//! struct Task {
//!     number: u64,
//! }
//!
//! static TASKS: Pool<Task> = Pool::new();
//!
//! let task: PoolBox<Task> = TASKS.boxed(Task { number: 7 });
//! let number = std::thread::spawn(move || task.number).join().unwrap(); // freed there
//! assert_eq!(number, 7);
//! ```
//!
//! # Where records come from
//!
//! From the heap of the thread that makes them, whatever `#[global_allocator]` the program has. A record freed on its
//! own thread goes back onto the list it came from; one freed elsewhere is pushed back to the page of the thread that
//! made it, which drains it before it takes new memory. A pool has no lists of its own, so there is nothing that could
//! be left behind: when a thread ends, its heap with all its pages goes to whoever frees into it or starts next, and
//! its records are freed as before. For the same reason a pool counts nothing ([`stats`](crate::stats()) counts the
//! blocks of all pools with all others) and has no destructor: a `Pool` may be dropped before its records are.
//!
//! Two records never share a cache line of 64 bytes, nor does a record share one with anything else of Millpond's: its
//! size is rounded up to [`Pool::SIZE`], its address is a multiple of [`Pool::ALIGN`]. A record of more than 128 KiB
//! has slices of its own, one of more than 32 MiB a mapping: they cost a claim each time, and may cost system calls.
//!
//! # Fibers that move between threads
//!
//! Everything here may be called on a fiber that is resumed on another thread than it was suspended on, under any
//! optimisation, fat link-time optimisation included: the thread-local accesses stand in functions that are never
//! inlined and never suspend (`src/pool/memory.rs` has the whole argument). What must not happen is that a fiber is
//! moved in the middle of one of these calls, which only a runtime that preempts by signals could do. A value may
//! suspend its fiber in its destructor: the memory is freed by whichever thread the destructor returns on.
//!
//! # What isn't there
//!
//! `PoolBox<dyn Trait>`: the coercion to an unsized type takes `CoerceUnsized`, which isn't stable. A runtime keeps a
//! table of functions in the record's header, and a pointer to that: `examples/task_records.rs` shows how.
//!
//! On targets without an OS layer and under Miri ([`PASSES_THROUGH`](crate::PASSES_THROUGH)) records come from
//! [`std::alloc::System`], with the same layout.

mod boxed;
mod memory;

pub use boxed::PoolBox;

use memory::Record;
use std::alloc::handle_alloc_error;
use std::error::Error;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::pin::Pin;

/// Makes records that hold a `T`. It has no size and no state: all pools of a type are the same pool.
///
/// ```
/// use millpond::pool::Pool;
///
/// static NODES: Pool<[u64; 9]> = Pool::new();
/// assert_eq!(size_of_val(&NODES), 0);
/// assert_eq!((Pool::<[u64; 9]>::SIZE, Pool::<[u64; 9]>::ALIGN), (128, 64));
/// ```
pub struct Pool<T>(PhantomData<fn() -> T>);

impl<T> Pool<T> {
    /// The bytes of a record: the size of `T` rounded up to a multiple of [`Pool::ALIGN`], 0 for a `T` of size 0. What
    /// it takes in memory is the size class: the same up to 1 KiB, at most 12.5% more above, and whole slices of 64 KiB
    /// beyond 128 KiB.
    pub const SIZE: usize = Record::<T>::LAYOUT.size();

    /// The alignment of a record in bytes: that of `T`, and at least 64. (A `T` of size 0 has no memory, and an address
    /// that is a multiple of its own alignment.)
    pub const ALIGN: usize = Record::<T>::LAYOUT.align();

    /// The pool of records of this type.
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// A record that holds `value`. Costs a call and about ten instructions where the thread's current page has a free
    /// block; lock-free otherwise.
    ///
    /// When the system has no memory left, ends the process as `Box::new` does: through
    /// [`handle_alloc_error`], after which `value` is not dropped.
    #[inline]
    pub fn boxed(&self, value: T) -> PoolBox<T> {
        PoolBox::write(self.boxed_uninit(), value)
    }

    /// A record that holds `value`.
    ///
    /// # Errors
    /// When the system has no memory left; the error has the value.
    #[inline]
    pub fn try_boxed(&self, value: T) -> Result<PoolBox<T>, PoolError<T>> {
        match self.try_boxed_uninit() {
            Ok(record) => Ok(PoolBox::write(record, value)),
            Err(PoolError(())) => Err(PoolError(value)),
        }
    }

    /// A record that holds `value`, pinned. As [`Pool::boxed`] otherwise.
    #[inline]
    pub fn boxed_pin(&self, value: T) -> Pin<PoolBox<T>> {
        PoolBox::into_pin(self.boxed(value))
    }

    /// A record whose value `init` writes in place: for large records, which [`Pool::boxed`] copies. When `init`
    /// panics, the memory is freed and nothing dropped. Exhausted memory as in [`Pool::boxed`]; `init` isn't called
    /// then.
    ///
    /// # Safety
    /// When `init` returns, it has initialised the whole value.
    ///
    /// ```
    /// use millpond::pool::Pool;
    ///
    /// static BUFFERS: Pool<[u8; 1 << 20]> = Pool::new();
    ///
    /// // SAFETY: all bytes are written, and zero is a value of each.
    /// let buffer = unsafe { BUFFERS.boxed_with(|place| place.as_mut_ptr().write_bytes(0, 1)) };
    /// assert_eq!(buffer[1000], 0);
    /// ```
    #[inline]
    pub unsafe fn boxed_with(&self, init: impl FnOnce(&mut MaybeUninit<T>)) -> PoolBox<T> {
        let mut record = self.boxed_uninit();
        init(&mut record);
        // SAFETY: the caller's promise.
        unsafe { record.assume_init() }
    }

    /// A record that holds nothing yet; [`PoolBox::write`] and [`PoolBox::assume_init`] make it one that does.
    /// Exhausted memory as in [`Pool::boxed`].
    #[inline]
    pub fn boxed_uninit(&self) -> PoolBox<MaybeUninit<T>> {
        match self.try_boxed_uninit() {
            Ok(record) => record,
            Err(_) => exhausted::<T>(),
        }
    }

    /// A record that holds nothing yet.
    ///
    /// # Errors
    /// When the system has no memory left.
    #[inline]
    pub fn try_boxed_uninit(&self) -> Result<PoolBox<MaybeUninit<T>>, PoolError<()>> {
        match Record::<MaybeUninit<T>>::allocate() {
            // SAFETY: the memory is that of such a record, nobody else has it, and uninitialised is what it may be.
            Some(place) => Ok(unsafe { PoolBox::from_raw(place) }),
            None => Err(PoolError(())),
        }
    }
}

#[cold]
#[inline(never)]
fn exhausted<T>() -> ! {
    handle_alloc_error(Record::<T>::LAYOUT)
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pool<T> {}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pool")
            .field("record", &std::any::type_name::<T>())
            .field("size", &Self::SIZE)
            .field("align", &Self::ALIGN)
            .finish()
    }
}

/// The system has no memory left. Has the value that was to be put into a record.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PoolError<T>(T);

impl<T> PoolError<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

// The value needn't be printable, and as a rule nobody wants to see it.
impl<T> fmt::Debug for PoolError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("PoolError").finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PoolError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no memory left for a record")
    }
}

impl<T> Error for PoolError<T> {}
