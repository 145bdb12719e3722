//! The pool as its users see it.

use super::cache;
use super::depot::{self, Core};
use super::directory;
use super::guard::{self, GuardKind};
use super::handle::{Packed, StackHandle};
use super::local;
use super::size::StackSize;
use crate::arena::registry::Entry;
use std::fmt;
use std::ptr;

/// Why there is no stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackError {
    /// Stacks have at most 64 MiB.
    TooLarge,
    /// The system refuses address space or memory.
    OutOfMemory,
    /// The process has as many map entries as the system allows, but for a thousand that are left to the rest of the
    /// program: only with [`GuardKind::Protected`].
    MapLimit,
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "a stack has at most 64 MiB",
            Self::OutOfMemory => "the system refuses address space for stacks",
            Self::MapLimit => {
                "the limit of memory mappings is reached (vm.max_map_count): before Linux 6.13 every guarded stack \
                 takes two; raise it with sysctl, or use fewer stacks"
            }
        })
    }
}

impl std::error::Error for StackError {}

/// A pool of stacks: the [global](Self::global) one, which has a cache in every thread, or one of its own, whose memory
/// goes back when it is dropped.
///
/// Stacks of a pool that was dropped stay valid; the memory of each size is unmapped when the last one is back.
/// All calls may be made from any thread.
pub struct StackPool {
    /// Null until it is needed, and in the global pool.
    core: Entry<Core>,
    global: bool,
    protect: bool,
}

static GLOBAL: StackPool = StackPool {
    core: Entry::empty(),
    global: true,
    protect: false,
};

impl StackPool {
    /// The pool of the process.
    #[inline(always)]
    pub fn global() -> &'static StackPool {
        &GLOBAL
    }

    /// A pool of its own. Its stacks are guarded as the kernel can do it best. No system call until the first stack is
    /// taken.
    ///
    /// Only the global pool has a cache in every thread: use a [`StackCache`](super::StackCache) with this one; without
    /// it each stack taken or given back costs a few atomic operations on shared memory.
    pub const fn new() -> StackPool {
        Self::with_protect(false)
    }

    /// A pool of its own whose guards are pages protected by `mprotect`, also where the kernel has better: for tests of
    /// programs that are to run on older kernels.
    pub const fn with_protected_guards() -> StackPool {
        Self::with_protect(true)
    }

    const fn with_protect(protect: bool) -> StackPool {
        Self {
            core: Entry::empty(),
            global: false,
            protect,
        }
    }

    /// The pool behind the handle; `None` when the system refuses the memory.
    #[inline]
    pub(super) fn core(&self) -> Option<&'static Core> {
        if self.global {
            return Some(&depot::GLOBAL);
        }
        let make = || Core::claim(self.protect).map(|core| ptr::from_ref(core).cast_mut());
        // The core of a thread that loses the race is closed, with no span in it.
        // SAFETY: `make` made it from a reference to a core; cores live for ever.
        let unmake = |core: *mut Core| unsafe { &*core }.close();
        let core = self.core.get_or_make(make, unmake)?;
        // SAFETY: as above.
        Some(unsafe { &*core })
    }

    /// A stack of at least `size`, which is the caller's until the handle is dropped. About ten nanoseconds where the
    /// thread's cache has one (see [`StackCache`](super::StackCache) for its bounds); now and then a trip to the depot,
    /// and one or a few system calls where slots are taken for the first time.
    ///
    /// # Errors
    /// [`StackError::OutOfMemory`] and [`StackError::MapLimit`]. Nothing is lost then: a stack that is given back can
    /// be taken again.
    #[inline]
    pub fn take(&self, size: StackSize) -> Result<StackHandle, StackError> {
        if self.global {
            local::take(size.class()).map(StackHandle::new)
        } else {
            self.take_from_depot(size)
        }
    }

    #[inline(never)]
    fn take_from_depot(&self, size: StackSize) -> Result<StackHandle, StackError> {
        let core = self.core().ok_or(StackError::OutOfMemory)?;
        let mut one = [0];
        core.take(size.class(), &mut one)?;
        // SAFETY: the depot gives out stacks' words, at least one or it is an error.
        Ok(StackHandle::new(unsafe { Packed::from_bits(one[0]) }))
    }

    /// Gives back to the system what free stacks hold: all of the depot's, and for the global pool those in the calling
    /// thread's cache. Other threads' caches are theirs. Address space and guards stay.
    ///
    /// Cost: proportional to the number of free stacks, about a system call for each run of neighbours.
    pub fn trim(&self) {
        if self.global {
            local::flush();
        }
        if let Some(core) = self.made() {
            for class in core.classes() {
                class.decay.trim_all(class);
            }
        }
    }

    /// Ends what the purge delay is over for: see [`collect`](crate::collect).
    pub(super) fn age(&self) {
        if let Some(core) = self.made() {
            for class in core.classes() {
                class.decay.pass(class);
            }
        }
    }

    /// Whether a stack is of this pool.
    pub fn owns(&self, stack: &StackHandle) -> bool {
        let span = directory::span_of(stack.packed().base());
        span.is_some_and(|span| self.made().is_some_and(|core| ptr::eq(core, span.core())))
    }

    /// The core, if it has been made.
    fn made(&self) -> Option<&'static Core> {
        if self.global {
            return Some(&depot::GLOBAL);
        }
        // SAFETY: cores live for ever.
        unsafe { self.core.get().as_ref() }
    }

    /// What the pool has right now. Proportional to the number of caches. The numbers are taken one after the other:
    /// exact while no other thread takes stacks or gives some back.
    pub fn stats(&self) -> StackStats {
        let guard = match self.made() {
            Some(core) => core.guard(),
            None if self.protect => GuardKind::Protected,
            None => guard::kernels(),
        };
        let mut stats = StackStats {
            live: 0,
            cached: 0,
            depot: 0,
            spans: 0,
            mapped_bytes: 0,
            trims: 0,
            guard,
        };
        let Some(core) = self.made() else {
            return stats;
        };
        for (index, class) in core.classes().iter().enumerate() {
            let (total, free) = (class.total(), class.available().get());
            let cached = cache::cached(core, index);
            stats.live += total.saturating_sub(free + cached);
            stats.cached += cached;
            stats.depot += free;
            stats.trims += class.decay.trims();
            stats.spans += class.span_count();
            stats.mapped_bytes += total * (StackSize::MIN_BYTES << index);
        }
        stats
    }
}

impl Default for StackPool {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StackPool {
    fn drop(&mut self) {
        if !self.global
            && let Some(core) = self.made()
        {
            core.close();
        }
    }
}

impl fmt::Debug for StackPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stats().fmt(f)
    }
}

/// What a pool has and did: see [`StackPool::stats`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackStats {
    /// Stacks that somebody holds.
    pub live: usize,
    /// Stacks in the caches of threads and workers.
    pub cached: usize,
    /// Free slots outside of caches, those among them that were never taken included.
    pub depot: usize,
    /// Spans: mappings of the system.
    pub spans: usize,
    /// Their bytes of address space.
    pub mapped_bytes: usize,
    /// Stacks whose memory was given back to the system, in whole or in part; a stack counts each time.
    pub trims: u64,
    /// How the stacks are guarded.
    pub guard: GuardKind,
}

static_assertions::assert_impl_all!(StackHandle: Send, Sync);
static_assertions::assert_impl_all!(StackPool: Send, Sync);
static_assertions::assert_not_impl_any!(StackHandle: Clone);
static_assertions::assert_eq_size!(StackHandle, Option<StackHandle>, usize);
