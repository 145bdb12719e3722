//! Heaps without a thread: all heaps ever made, which of them are free to take, and which have blocks of a class.
//!
//! What stands here are hints. The truth is the lease: who finds a heap here still has to get it, and never waits.

use super::{Heap, VACANT, exit, recycle, settle, sparse};
use crate::arena::meta;
use crate::config;
use crate::free_list::news::Leased;
use crate::idle_set::IdleSet;
use crate::os;
use crate::size_class::{CLASSES, SizeClass};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// The most heaps, and so the most threads that hold one at a time.
pub const MAX_HEAPS: usize = 1 << 16;
const CLASS_WORDS: usize = 4;

static HEAPS: [AtomicPtr<Heap>; MAX_HEAPS] = [const { AtomicPtr::new(ptr::null_mut()) }; MAX_HEAPS];
static MADE: AtomicU32 = AtomicU32::new(0);
static IDLE: IdleSet<{ MAX_HEAPS / 64 }> = IdleSet::new();
/// A bit per class and heap number modulo 256: probably without a holder, and has free blocks of the class.
static WITH_CLASS: [[AtomicU64; CLASS_WORDS]; CLASSES] =
    [const { [const { AtomicU64::new(0) }; CLASS_WORDS] }; CLASSES];

/// How many heaps there are.
pub fn made() -> usize {
    // Relaxed: `by_id` acquires each heap, and skips one that is not published yet.
    (MADE.load(Ordering::Relaxed) as usize).min(MAX_HEAPS)
}

/// Heaps that are probably without a holder.
pub fn idle() -> usize {
    IDLE.count()
}

/// All heaps.
pub fn all() -> impl Iterator<Item = &'static Heap> {
    (0..made()).filter_map(by_id)
}

fn by_id(id: usize) -> Option<&'static Heap> {
    // Acquire pairs with the Release in `make`.
    let heap = HEAPS.get(id)?.load(Ordering::Acquire);
    // SAFETY: published heaps are never unmade.
    unsafe { heap.as_ref() }
}

/// A heap whose lease the caller then holds: one without a holder, or a new one. `None` when the system has no
/// memory for it, or all heaps are held.
pub fn lease_or_make() -> Option<&'static Heap> {
    lease_any().or_else(make)
}

fn lease_any() -> Option<&'static Heap> {
    IDLE.find(made(), |id| {
        by_id(id).filter(|heap| heap.news().try_lease())
    })
}

fn make() -> Option<&'static Heap> {
    let memory = meta::allocate(size_of::<Heap>())?.cast::<Heap>();
    // From the vacant heap, which is as new for ever: a value would lie on the stack first, and the check for its 23 KiB cost
    // every new thread a page fault there.
    // SAFETY: fresh memory, aligned to 128 as the type asks for; nothing writes to the vacant heap.
    let heap: &'static Heap = unsafe {
        memory.copy_from_nonoverlapping(NonNull::from(&VACANT), 1);
        memory.as_ref()
    };
    let id = MADE.fetch_add(1, Ordering::Relaxed);
    let Some(entry) = HEAPS.get(id as usize) else {
        MADE.fetch_sub(1, Ordering::Relaxed);
        return None;
    };
    if id == 0 {
        super::fork::watch();
        crate::config::read_environment();
    }
    heap.id.set(id);
    heap.shelves.add();
    // Release publishes the heap to whoever walks all of them.
    entry.store(heap.as_owner(), Ordering::Release);
    Some(heap)
}

/// Flushes the heaps that have been without a thread for a whole purge delay, so that what they hoard is not kept for
/// ever after threads have come and gone. From slow paths and the background thread: once a delay somebody walks the
/// heaps, and flushes at most two at a time. `thoroughly`: the system pages inside their sparse pages go, too.
pub fn age(thoroughly: bool) {
    /// The next heap to look at; 0: none until the delay is over.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    static STARTED: AtomicU64 = AtomicU64::new(0);
    /// What a heap has waited when two walks came by.
    const FLUSHED: u8 = 2;
    const FLUSHES: usize = 2;
    // Relaxed throughout: two threads that age at once do the work twice.
    let first = NEXT.load(Ordering::Relaxed);
    if first == 0 {
        let now = os::now_ms();
        if now.wrapping_sub(STARTED.load(Ordering::Relaxed)) < config::purge_delay_ms() {
            return;
        }
        STARTED.store(now, Ordering::Relaxed);
    }
    let mut flushed = 0;
    for id in first..made() {
        if flushed == FLUSHES {
            NEXT.store(id, Ordering::Relaxed);
            return;
        }
        let Some(heap) = by_id(id) else { continue };
        let waited = heap.waited.load(Ordering::Relaxed);
        if waited == FLUSHED || heap.news().is_leased() || !heap.news().try_lease() {
            continue;
        }
        heap.waited.store(waited + 1, Ordering::Relaxed);
        if waited + 1 == FLUSHED {
            settle::settle_all(heap);
            exit::flush(heap);
            settle::release_warm(heap);
            if thoroughly {
                sparse::discard_all(heap);
            }
            publish_classes(heap);
            flushed += 1;
        }
        park(heap);
    }
    NEXT.store(0, Ordering::Relaxed);
}

/// Says where the next one looks that the heap is without a holder, and gives its lease up.
pub fn park(heap: &'static Heap) {
    recycle::set_tenanted(heap, false);
    IDLE.insert(heap.id.get() as usize);
    heap.unlease();
}

/// Says that the caller, who holds the lease of the heap, means to keep it.
pub fn keep(heap: &'static Heap) {
    recycle::set_tenanted(heap, true);
    IDLE.remove(heap.id.get() as usize);
}

/// Says that the heap, about to be parked, has free blocks of these classes.
pub fn publish_classes(heap: &'static Heap) {
    heap.used.each(|class| {
        if has_any(heap, class) {
            publish(heap, class);
        }
    });
}

fn has_any(heap: &Heap, class: SizeClass) -> bool {
    let (bin, queues) = (heap.bin(class), heap.queues(class));
    bin.page.get().is_some()
        || !bin.free.get().is_null()
        || queues.partial.first().is_some()
        || queues.uncarved.first().is_some()
}

/// Says that the heap has free blocks of the class.
pub fn publish(heap: &'static Heap, class: SizeClass) {
    let id = heap.id.get() as usize % (64 * CLASS_WORDS);
    let bits = &WITH_CLASS[class.0 as usize][id / 64];
    if bits.load(Ordering::Relaxed) & (1 << (id % 64)) == 0 {
        bits.fetch_or(1 << (id % 64), Ordering::Relaxed);
    }
}

/// Looks for heaps without a thread that have free blocks of the class, and takes a page from the first that can be
/// leased: at most `ATTEMPTS` of them, so that the search doesn't grow with the number of heaps.
pub fn adopt(heap: &'static Heap, class: SizeClass) -> bool {
    const ATTEMPTS: usize = 16;
    /// Of the heaps that share a bit.
    const NAMESAKES: usize = 4;
    if idle() == 0 {
        return false;
    }
    let mut attempts = 0;
    for (word, bits) in WITH_CLASS[class.0 as usize].iter().enumerate() {
        // Relaxed: hints.
        let mut seen = bits.load(Ordering::Relaxed);
        while seen != 0 && attempts < ATTEMPTS {
            attempts += 1;
            let bit = seen & seen.wrapping_neg();
            seen &= !bit;
            if bits.fetch_and(!bit, Ordering::Relaxed) & bit == 0 {
                continue;
            }
            let number = word * 64 + bit.trailing_zeros() as usize;
            for id in (number..made()).step_by(64 * CLASS_WORDS).take(NAMESAKES) {
                let Some(from) = by_id(id) else { continue };
                if ptr::eq(from, heap) {
                    continue;
                }
                if !from.news().try_lease() {
                    // Served by somebody for the moment, perhaps: the hint stays good.
                    publish(from, class);
                    continue;
                }
                let adopted = exit::hand_over(from, heap, class);
                park(from);
                if adopted {
                    return true;
                }
            }
        }
    }
    false
}
