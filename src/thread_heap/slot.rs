//! The thread's slot: which heap it holds.
//!
//! ```text
//! Uninit --first allocation, or a free into a heap without a thread--> Live --thread exit--> Exited
//! ```
//!
//! The slot points to the vacant heap unless it is `Live`. It has no destructor of its own, so it can be used at any
//! time of a thread's life; a `pthread` key tells of the exit.
//!
//! A signal handler may allocate and free while it interrupts the thread's first allocation or free, anywhere until the
//! thread has its heap: it finds the vacant heap or a complete one. The slot changes in one instruction, so whoever is
//! late, handler or interrupted, sees that there is a heap and gives its own back. Behind that, a refill may be
//! interrupted while it claims slices, with all the system calls that takes, and nowhere else.

use super::last_remote::LastRemote;
use super::{Heap, VACANT, exit, idle, refill};
use crate::free_list::news::Leased;
use crate::os::thread_exit::ExitHook;
use crate::size_class::SizeClass;
use crate::stats::counters::{self, Counter, Counters};
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Where a thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No heap yet.
    Uninit,
    /// Holds a heap.
    Live,
    /// Gave its heap up: teardown code still runs.
    Exited,
}

#[repr(C)]
pub struct Slot {
    /// First, for `initial_exec.rs`. Written through [`Slot::shared`] only. Not atomic by itself: loads would cost the
    /// fast paths an instruction each.
    pub(super) heap: Cell<&'static Heap>,
    /// Atomic because of signal handlers: no other thread looks.
    exited: AtomicBool,
    /// How many more remote frees a thread without a heap gathers before it adds [`GATHER`] to a shard; 0 if it has none.
    gathers: Cell<i32>,
    /// The heap without a thread that this thread freed into last.
    abandoned: Cell<*const Heap>,
    /// How often it did since it got its own heap or freed into another such heap.
    abandoned_frees: Cell<u32>,
    /// The blocks that its heap had handed out then.
    allocations: Cell<u64>,
    /// Of a thread without a heap.
    last_remote: LastRemote,
}

impl Slot {
    /// The thread's heap, or the vacant one.
    #[inline(always)]
    pub fn heap(&self) -> &'static Heap {
        self.heap.get()
    }

    /// The heap, for writes that a signal handler comes before or after.
    fn shared(&self) -> &AtomicPtr<Heap> {
        // SAFETY: a reference is a pointer that isn't null, aligned like one, and what is written here is one. Only
        // this thread and its signal handlers use the slot, so nothing races with the plain reads.
        unsafe { AtomicPtr::from_ptr(self.heap.as_ptr().cast::<*mut Heap>()) }
    }

    /// Exchanges the heap in one instruction.
    fn replace(&self, heap: &'static Heap) -> &'static Heap {
        // Release: a signal handler on this thread that sees the slot sees the heap complete.
        let old = self.shared().swap(heap.as_owner(), Ordering::Release);
        // SAFETY: the slot points to the vacant heap or to one that lives for ever.
        unsafe { &*old }
    }

    /// Gathers one more remote free; false if it is the first or the last of some.
    #[inline(always)]
    fn gather(&self) -> bool {
        let more = self.gathers.get() - 1;
        self.gathers.set(more);
        more > 0
    }

    fn state(&self) -> State {
        if !ptr::eq(self.heap(), &VACANT) {
            State::Live
        } else if self.exited.load(Ordering::Relaxed) {
            State::Exited
        } else {
            State::Uninit
        }
    }
}

#[cfg(not(preload))]
thread_local! {
    static SLOT: Slot = const {
        Slot {
            heap: Cell::new(&VACANT),
            exited: AtomicBool::new(false),
            gathers: Cell::new(0),
            abandoned: Cell::new(ptr::null()),
            abandoned_frees: Cell::new(0),
            allocations: Cell::new(0),
            last_remote: LastRemote::new(),
        }
    };
}

/// In a library for preloading `thread_local!` would call `__tls_get_addr` for each access, which may allocate besides.
#[cfg(preload)]
use super::initial_exec::SLOT;

/// The thread's heap, or the vacant one.
#[inline(always)]
pub fn heap() -> &'static Heap {
    #[cfg(preload)]
    return SLOT.heap();
    #[cfg(not(preload))]
    SLOT.with(Slot::heap)
}

/// Where the thread stands.
pub fn state() -> State {
    SLOT.with(Slot::state)
}

/// After so many frees into one heap without a thread, a thread may exchange its heap for that one: an exchange takes as long as
/// some ten of them.
const EXCHANGE_AFTER: u32 = 16;

/// Counts one more free into `heap`, which has no thread. True when most of what this thread frees is that heap's:
/// then it was handed the work of the thread that ended, and is better off with that thread's heap. (Without the
/// comparison, a thread with blocks of two heaps exchanges them for ever.)
pub fn belongs_to(heap: &'static Heap) -> bool {
    SLOT.with(|slot| {
        let allocations = slot.heap().counters.allocations.get();
        if !ptr::eq(slot.abandoned.get(), heap) {
            slot.abandoned.set(heap);
            slot.abandoned_frees.set(0);
            slot.allocations.set(allocations);
        }
        let count = slot.abandoned_frees.get() + 1;
        slot.abandoned_frees.set(count);
        // What was handed out can be taken back uncounted: a flush returns the bins' blocks.
        let allocated = allocations.saturating_sub(slot.allocations.get());
        count >= EXCHANGE_AFTER && u64::from(count) * 2 >= allocated
    })
}

/// Adds to a counter of the thread's heap, or of a shard if it has none.
#[inline]
pub fn count(heap: &'static Heap, which: impl Fn(&Counters) -> &Counter, n: u64) {
    if ptr::eq(heap, &VACANT) {
        which(counters::shard(
            SLOT.with(|slot| ptr::from_ref(slot).addr()),
        ))
        .add_shared(n);
    } else {
        which(&heap.counters).add(n);
    }
}

/// Calls `free` with the last remote word of a thread without a heap.
#[inline(always)]
pub fn with_last_remote<T>(free: impl FnOnce(&LastRemote) -> T) -> T {
    SLOT.with(|slot| free(&slot.last_remote))
}

/// Counts a remote free. A thread without a heap gathers a few before it adds them to a shard, because an atomic
/// read-modify-write for each is a tenth of the time of a thread that only frees.
#[inline(always)]
pub fn count_remote_free(heap: &'static Heap) {
    if !ptr::eq(heap, &VACANT) {
        heap.counters.remote_frees.add(1);
    } else if !SLOT.with(Slot::gather) {
        watch_or_add();
    }
}

/// So many remote frees are added at a time.
const GATHER: i32 = 256;

/// The first remote free of some: makes sure that they are added when the thread ends. The last: adds them.
#[cold]
#[inline(never)]
fn watch_or_add() {
    SLOT.with(|slot| {
        if slot.gathers.get() == 0 {
            return add(slot, GATHER);
        }
        slot.gathers.set(GATHER - 1);
        match slot.state() {
            State::Exited => add_gathered(),
            _ => watch_exit(),
        }
    });
}

/// Adds what the thread gathered to a shard.
pub fn add_gathered() {
    SLOT.with(|slot| {
        let more = slot.gathers.replace(0);
        if more > 0 {
            add(slot, GATHER - more);
        }
    });
}

fn add(slot: &Slot, gathered: i32) {
    let shard = counters::shard(ptr::from_ref(slot).addr());
    let gathered = gathered.unsigned_abs();
    shard.remote_frees.add_shared(gathered.into());
}

/// Makes `heap`, whose lease the caller holds, the thread's own. If a signal handler has got the thread one meanwhile,
/// it is given back instead.
pub fn install(heap: &'static Heap) {
    idle::keep(heap);
    let first = SLOT.with(|slot| {
        // Release as in `replace`. Relaxed on failure: the handler ran on this thread.
        let (vacant, new) = (VACANT.as_owner(), heap.as_owner());
        slot.shared()
            .compare_exchange(vacant, new, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    });
    if first {
        counters::count_thread(true);
        // May allocate (the C library keeps the values of high keys on its heap), hence after the slot is set.
        watch_exit();
    } else {
        idle::park(heap);
    }
}

/// Allocates for a thread without a heap: gets it one, or borrows one for the moment when the thread is exiting.
#[cold]
pub fn allocate_without_heap(class: SizeClass) -> refill::Refill {
    if state() == State::Exited {
        return exit::with_borrowed(|heap| {
            let block = refill::refill(heap, class);
            exit::flush_class(heap, class);
            block
        })
        .unwrap_or(refill::Refill::NONE);
    }
    // A signal handler that ran since the caller looked may have got the thread a heap.
    if state() == State::Uninit {
        match idle::lease_or_make() {
            Some(heap) => install(heap),
            None if state() == State::Uninit => return refill::Refill::NONE,
            None => {}
        }
    }
    refill::allocate(class.bin(), heap())
}

static EXIT: ExitHook = ExitHook::new(on_thread_exit);

fn watch_exit() {
    // Without a key (the process has used up its 1,024) the heap stays with the thread that ended: a leak of one
    // heap per thread, never a wrong answer.
    EXIT.arm();
}

unsafe extern "C" fn on_thread_exit(_: *mut c_void) {
    let heap = SLOT.with(|slot| {
        slot.exited.store(true, Ordering::Relaxed);
        slot.replace(&VACANT)
    });
    add_gathered();
    if !ptr::eq(heap, &VACANT) {
        counters::count_thread(false);
        exit::leave(heap);
    }
}

/// Exchanges the thread's heap for `heap`, whose lease the caller holds; the old one is left to others.
pub fn exchange(heap: &'static Heap) {
    idle::keep(heap);
    let old = SLOT.with(|slot| {
        slot.abandoned.set(ptr::null());
        slot.replace(heap)
    });
    exit::leave(old);
    debug_assert!(heap.news().is_leased());
}
