//! A cache of stacks, last in first out: a thread's own, or a worker's that it passes along.

use super::depot::Core;
use super::directory;
use super::handle::{Packed, StackHandle};
use super::roster::{Entry, Member, Roster};
use super::size::CLASSES;
use super::{StackError, StackPool, StackSize};
use crate::arena::meta;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// How many stacks of each class are cached: at most 32, and at most 4 MiB of address space or one.
const BOUNDS: [usize; CLASSES] = [32, 32, 16, 8, 4, 2, 1, 1, 1, 1, 1];
/// How many a trip to the depot moves at most: half of the bound.
const MOST_MOVED: usize = BOUNDS[0] / 2;
const OFFSETS: [usize; CLASSES] = {
    let mut offsets = [0; CLASSES];
    let mut class = 1;
    while class < CLASSES {
        offsets[class] = offsets[class - 1] + BOUNDS[class - 1];
        class += 1;
    }
    offsets
};
const ALL: usize = OFFSETS[CLASSES - 1] + BOUNDS[CLASSES - 1];

/// How many stacks of a class a trip to the depot moves.
const fn batch(class: usize) -> usize {
    BOUNDS[class].div_ceil(2)
}

/// What a cache holds. Written by its one user with plain loads and stores (the atomics are for `stats`, which reads
/// the counts from other threads); lives for ever, used again for other caches.
#[repr(C, align(128))]
pub struct Node {
    counts: [AtomicU32; CLASSES],
    /// How many of each class it takes: all [`BOUNDS`], or 0 in the vacant one.
    bounds: [AtomicU32; CLASSES],
    stacks: [AtomicUsize; ALL],
    /// 0 for the global pool, or the address of the core.
    pool: AtomicUsize,
    entry: Entry<Node>,
}

impl Member for Node {
    fn entry(&self) -> &Entry<Self> {
        &self.entry
    }
}

static NODES: Roster<Node> = Roster::new();

/// The cache of threads and workers without one: always empty, always full.
pub static VACANT: Node = Node {
    counts: [const { AtomicU32::new(0) }; CLASSES],
    bounds: [const { AtomicU32::new(0) }; CLASSES],
    stacks: [const { AtomicUsize::new(0) }; ALL],
    pool: AtomicUsize::new(0),
    entry: Entry::unlisted(),
};

impl Node {
    /// An empty cache for stacks of `core`'s; the vacant one when the system refuses the memory.
    pub fn claim(core: &'static Core) -> &'static Node {
        let make = || meta::allocate(size_of::<Node>()).map(NonNull::cast::<Node>);
        let Some(node) = NODES.claim(make) else {
            return &VACANT;
        };
        for (bound, &most) in node.bounds.iter().zip(&BOUNDS) {
            bound.store(most as u32, Relaxed);
        }
        node.pool.store(core.identity(), Relaxed);
        node
    }

    /// Whether it is the vacant one.
    pub fn is_vacant(&self) -> bool {
        std::ptr::eq(self, &VACANT)
    }

    /// The stack that was put in last, if there is one.
    ///
    /// Only the cache's user calls this and `push`.
    #[inline(always)]
    pub fn pop(&self, class: usize) -> Option<Packed> {
        // Relaxed throughout: one user, whose own order is all that matters.
        let count = self.counts[class].load(Relaxed);
        let last = count.checked_sub(1)?;
        let bits = self.stacks[OFFSETS[class] + last as usize].load(Relaxed);
        self.counts[class].store(last, Relaxed);
        // SAFETY: `push` or `refill` put a stack's word there.
        Some(unsafe { Packed::from_bits(bits) })
    }

    /// Puts a stack in; false when there is no room.
    #[inline(always)]
    pub fn push(&self, packed: Packed) -> bool {
        let class = packed.class();
        let count = self.counts[class].load(Relaxed);
        if count >= self.bounds[class].load(Relaxed) {
            return false;
        }
        self.stacks[OFFSETS[class] + count as usize].store(packed.bits(), Relaxed);
        self.counts[class].store(count + 1, Relaxed);
        true
    }

    /// Takes a stack of an empty class, and a batch for later.
    #[cold]
    #[inline(never)]
    pub fn refill(&self, core: &'static Core, class: usize) -> Result<Packed, StackError> {
        let mut stacks = [0; MOST_MOVED];
        let wanted = if self.is_vacant() { 1 } else { batch(class) };
        let got = core.take(class, &mut stacks[..wanted])?;
        // At least one, or it were an error.
        let (first, rest) = stacks[..got].split_last().ok_or(StackError::OutOfMemory)?;
        for (place, &bits) in self.stacks[OFFSETS[class]..].iter().zip(rest) {
            place.store(bits, Relaxed);
        }
        if !rest.is_empty() {
            self.counts[class].store(rest.len() as u32, Relaxed);
        }
        // SAFETY: the depot gives out stacks' words.
        Ok(unsafe { Packed::from_bits(*first) })
    }

    /// Makes room in a full class by giving the batch that has been there longest to the depot, and puts the stack in.
    #[cold]
    #[inline(never)]
    pub fn spill(&self, core: &'static Core, packed: Packed) {
        let class = packed.class();
        if self.is_vacant() {
            return core.give(class, &[packed.bits()]);
        }
        self.give_oldest(core, class, batch(class));
        let put = self.push(packed);
        debug_assert!(put);
    }

    fn give_oldest(&self, core: &'static Core, class: usize, most: usize) {
        let count = self.counts[class].load(Relaxed) as usize;
        let moved = count.min(most).min(MOST_MOVED);
        let places = &self.stacks[OFFSETS[class]..][..count];
        let mut stacks = [0; MOST_MOVED];
        for (bits, place) in stacks.iter_mut().zip(&places[..moved]) {
            *bits = place.load(Relaxed);
        }
        for at in moved..count {
            places[at - moved].store(places[at].load(Relaxed), Relaxed);
        }
        self.counts[class].store((count - moved) as u32, Relaxed);
        if moved > 0 {
            core.give(class, &stacks[..moved]);
        }
    }

    /// Gives everything to the depot.
    pub fn flush(&self, core: &'static Core) {
        for class in 0..CLASSES {
            while self.count(class) > 0 {
                self.give_oldest(core, class, MOST_MOVED);
            }
        }
    }

    /// Gives everything to the depot, and ends the use of the cache.
    pub fn release(&'static self, core: &'static Core) {
        if !self.is_vacant() {
            self.flush(core);
            NODES.release(self);
        }
    }

    /// How many stacks of a class it holds.
    pub fn count(&self, class: usize) -> usize {
        self.counts[class].load(Relaxed) as usize
    }
}

/// How many stacks of a class all caches of `core` hold.
pub fn cached(core: &'static Core, class: usize) -> usize {
    let of_pool = |node: &&Node| node.pool.load(Relaxed) == core.identity();
    NODES
        .in_use()
        .filter(of_pool)
        .map(|node| node.count(class))
        .sum()
}

/// A cache of a pool's stacks for a worker that keeps it at hand, without thread-local storage. Every thread has one
/// like it for the global pool, behind [`StackPool::take`] and the drop of a [`StackHandle`].
///
/// It holds at most 32 stacks of each size, and of sizes over 128 KiB at most 4 MiB or one stack; half of that goes to
/// or comes from the pool at a time. Dropping it gives all of them back.
///
/// ```
/// use millpond::stack::{StackCache, StackPool, StackSize};
///
/// let pool = StackPool::new();
/// let mut cache = StackCache::new(&pool);
/// let stack = cache.take(StackSize::DEFAULT)?;
/// let slot = stack.slot();
/// cache.put(stack);
/// assert_eq!(cache.take(StackSize::DEFAULT)?.slot(), slot);
/// # Ok::<(), millpond::stack::StackError>(())
/// ```
pub struct StackCache<'pool> {
    node: &'static Node,
    pool: &'pool StackPool,
}

impl<'pool> StackCache<'pool> {
    /// An empty cache for stacks of `pool`. Where the system has no memory for it, every call goes to the pool.
    pub fn new(pool: &'pool StackPool) -> Self {
        let node = pool.core().map_or(&VACANT, Node::claim);
        Self { node, pool }
    }

    /// A stack of the pool: the one put in last, or a batch from the pool.
    ///
    /// # Errors
    /// As for [`StackPool::take`].
    #[inline]
    pub fn take(&mut self, size: StackSize) -> Result<StackHandle, StackError> {
        let class = size.class();
        match self.node.pop(class) {
            Some(packed) => Ok(StackHandle::new(packed)),
            None => self.refill(class),
        }
    }

    #[cold]
    fn refill(&mut self, class: usize) -> Result<StackHandle, StackError> {
        let core = self.pool.core().ok_or(StackError::OutOfMemory)?;
        self.node.refill(core, class).map(StackHandle::new)
    }

    /// Keeps a stack for the next [`take`](Self::take), or gives a batch to the pool if there are too many. A stack of
    /// another pool goes back to that one.
    #[inline]
    pub fn put(&mut self, stack: StackHandle) {
        let packed = stack.packed();
        let core = if packed.is_of_own_pool() {
            directory::span_of(packed.base()).map(|span| span.core().identity())
        } else {
            Some(0)
        };
        if core != Some(self.node.pool.load(Relaxed)) || self.node.is_vacant() {
            return drop(stack);
        }
        let packed = stack.into_packed().untagged();
        if !self.node.push(packed)
            && let Some(core) = self.pool.core()
        {
            self.node.spill(core, packed);
        }
    }

    /// Gives all stacks to the pool: for a worker that goes to sleep.
    pub fn flush(&mut self) {
        if let Some(core) = self.pool.core() {
            self.node.flush(core);
        }
    }

    /// How many stacks of a size it holds.
    pub fn len(&self, size: StackSize) -> usize {
        self.node.count(size.class())
    }

    /// Whether it holds none of a size.
    pub fn is_empty(&self, size: StackSize) -> bool {
        self.len(size) == 0
    }
}

impl Drop for StackCache<'_> {
    fn drop(&mut self) {
        if let Some(core) = self.pool.core() {
            self.node.release(core);
        }
    }
}

impl fmt::Debug for StackCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held: usize = (0..CLASSES).map(|class| self.node.count(class)).sum();
        f.debug_struct("StackCache").field("held", &held).finish()
    }
}

const fn bounds_fit() -> bool {
    let mut class = 0;
    while class < CLASSES {
        let most = (4 << 20) / (StackSize::MIN_BYTES << class);
        if BOUNDS[class] > 32 || (BOUNDS[class] > 1 && BOUNDS[class] > most) {
            return false;
        }
        class += 1;
    }
    true
}

static_assertions::const_assert!(bounds_fit());
