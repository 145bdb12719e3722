//! A stack in somebody's hands, as one word.

use super::directory;
use super::local;
use super::size::CLASSES;
use crate::os;
use crate::units::SLICE_SHIFT;
use std::fmt;
use std::mem;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};

/// A stack's word: its slot's address, which is a multiple of 64 KiB, and what there is to say in the low bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Packed(NonZeroUsize);

const CLASS_MASK: usize = 15;
const OWN_POOL: usize = 1 << 4;
const TAGGED: usize = 1 << 5;

static_assertions::const_assert!(CLASSES <= CLASS_MASK + 1);

impl Packed {
    /// The stack in the slot at `base`, of the global pool or of one of its own.
    pub fn new(base: NonZeroUsize, class: usize, own_pool: bool) -> Self {
        debug_assert!(base.get().is_multiple_of(1 << SLICE_SHIFT) && class < CLASSES);
        Self(base | class | if own_pool { OWN_POOL } else { 0 })
    }

    /// A word that [`Packed::bits`] gave.
    ///
    /// # Safety
    /// It did.
    #[inline(always)]
    pub unsafe fn from_bits(bits: usize) -> Self {
        // SAFETY: a packed word isn't zero.
        Self(unsafe { NonZeroUsize::new_unchecked(bits) })
    }

    /// The word.
    #[inline(always)]
    pub fn bits(self) -> usize {
        self.0.get()
    }

    /// The class of its size.
    #[inline(always)]
    pub fn class(self) -> usize {
        self.0.get() & CLASS_MASK
    }

    /// Whether it is of another pool than the global one.
    #[inline(always)]
    pub fn is_of_own_pool(self) -> bool {
        self.0.get() & OWN_POOL != 0
    }

    /// Whether its tag may be set.
    #[inline(always)]
    pub fn is_tagged(self) -> bool {
        self.0.get() & TAGGED != 0
    }

    /// The first address of the slot, which is the guard's.
    #[inline(always)]
    pub fn base(self) -> usize {
        self.0.get() & !((1 << SLICE_SHIFT) - 1)
    }

    /// The slot's bytes.
    #[inline(always)]
    pub fn bytes(self) -> usize {
        1 << (SLICE_SHIFT as usize + self.class())
    }

    /// A pointer into the slot.
    #[inline(always)]
    fn at(self, offset: usize) -> NonNull<u8> {
        let pointer = ptr::with_exposed_provenance_mut(self.base() + offset);
        // SAFETY: a slot isn't at address zero, and `offset` is at most its length.
        unsafe { NonNull::new_unchecked(pointer) }
    }

    /// The slot's first address.
    #[inline(always)]
    pub fn slot(self) -> NonNull<u8> {
        self.at(0)
    }

    /// The lowest usable address.
    #[inline(always)]
    pub fn limit(self) -> NonNull<u8> {
        self.at(os::page_bytes())
    }

    /// The slot's end.
    pub fn end(self) -> NonNull<u8> {
        self.at(self.bytes())
    }

    /// Where the stack starts.
    #[inline(always)]
    pub fn top(self) -> NonNull<u8> {
        self.at(top_offset(self.base(), self.class()))
    }

    /// Clears the tag.
    pub fn untagged(self) -> Self {
        if self.is_tagged() {
            directory::set_tag(self.base(), 0);
        }
        // SAFETY: the rest is as it was.
        unsafe { Self::from_bits(self.bits() & !TAGGED) }
    }
}

/// Where the stack in a slot starts, counted from the slot's base: one of [`COLOURS`] cache lines, dealt out by the
/// slot's address. Did all stacks start on the same line of a page, those of many fibers would compete for a few sets
/// of the processor's caches.
#[inline(always)]
pub fn top_offset(base: usize, class: usize) -> usize {
    let shift = SLICE_SHIFT as usize + class;
    (1 << shift) - (base >> shift) % COLOURS * CACHE_LINE
}

const COLOURS: usize = 16;
const CACHE_LINE: usize = 64;

/// A stack that is the holder's, from [`StackPool::take`](super::StackPool::take). Dropping it gives the stack back to
/// its pool, on whichever thread that happens.
///
/// ```text
/// slot()          limit()                                      top()
///   | guard         | usable, grows down                    <----| 0 to 960 bytes |
///   | 1 system page |                                            | unused         |
/// ```
///
/// The contents are whatever an earlier user left. The handle may be moved and dropped anywhere, but not while
/// something still runs on the stack: who switches to a stack keeps its handle elsewhere than on it.
pub struct StackHandle(Packed);

impl StackHandle {
    /// The stack of a word that nobody else holds.
    #[inline(always)]
    pub(super) fn new(packed: Packed) -> Self {
        Self(packed)
    }

    /// Its word, which is the caller's to give back.
    #[inline(always)]
    pub(super) fn into_packed(self) -> Packed {
        let packed = self.0;
        mem::forget(self);
        packed
    }

    /// Its word, for a look.
    pub(super) fn packed(&self) -> Packed {
        self.0
    }

    /// Where the stack starts: the end of its highest byte, a multiple of 64. It grows down from here. At most 960
    /// bytes below the slot's end: stacks start on different cache lines, so that fibers that take turns don't evict
    /// each other (a third to two thirds of the time of touching a fiber's first lines, with 16 to 1,000 fibers).
    #[inline(always)]
    pub fn top(&self) -> NonNull<u8> {
        self.0.top()
    }

    /// The lowest usable address, just above the guard.
    #[inline(always)]
    pub fn limit(&self) -> NonNull<u8> {
        self.0.limit()
    }

    /// The slot's bytes, guard included: a power of two.
    #[inline(always)]
    pub fn size(&self) -> usize {
        self.0.bytes()
    }

    /// The slot's first address, a multiple of [`size`](Self::size): the guard's first byte, never to be dereferenced.
    #[inline(always)]
    pub fn slot(&self) -> NonNull<u8> {
        self.0.slot()
    }

    /// Sets the stack's word for [`stack_lookup`](super::stack_lookup): for example the address of its fiber's name.
    /// It is 0 in a stack that was just taken. Costs three loads and a store, and about as much again when the stack
    /// is given back.
    pub fn set_tag(&mut self, tag: usize) {
        directory::set_tag(self.0.base(), tag);
        // SAFETY: the rest is as it was.
        self.0 = unsafe { Packed::from_bits(self.0.bits() | TAGGED) };
    }

    /// What [`set_tag`](Self::set_tag) set, or 0.
    pub fn tag(&self) -> usize {
        if !self.0.is_tagged() {
            return 0;
        }
        directory::stack_lookup(self.0.base()).map_or(0, |info| info.tag())
    }

    /// Gives memory below a parked stack pointer back to the system, down to the guard: for a fiber that will be
    /// waiting for long. The bytes discarded, resident or not; 0 where there is no whole system page. One system call.
    ///
    /// # Safety
    /// Nothing runs on the stack, and whatever parked on it did so with its stack pointer at `stack_pointer`: memory
    /// more than 256 bytes below that (the platforms' red zones have at most 128) is not needed any more.
    pub unsafe fn discard_below(&self, stack_pointer: *const u8) -> usize {
        const RED_ZONE: usize = 256;
        let limit = self.limit();
        let to = stack_pointer
            .addr()
            .min(self.top().addr().get())
            .saturating_sub(RED_ZONE);
        let to = to & !(os::page_bytes() - 1);
        let Some(bytes) = to.checked_sub(limit.addr().get()) else {
            return 0;
        };
        // SAFETY: the range lies in the stack's slot, on the borders of system pages; the caller vouches that nobody
        // needs its contents.
        if bytes > 0 && unsafe { os::give_back(limit, bytes) } {
            bytes
        } else {
            0
        }
    }

    /// The stack as a word without low-level meaning, for a runtime that keeps one word: [`from_raw`](Self::from_raw)
    /// makes a handle of it again. A word that is dropped is a stack lost.
    #[inline(always)]
    pub fn into_raw(self) -> NonZeroUsize {
        self.into_packed().0
    }

    /// The handle that [`into_raw`](Self::into_raw) took apart.
    ///
    /// # Safety
    /// `raw` is from `into_raw` of this same process (or of its parent before `fork`), and no handle was made of it
    /// since.
    #[inline(always)]
    pub unsafe fn from_raw(raw: NonZeroUsize) -> Self {
        Self(Packed(raw))
    }
}

impl Drop for StackHandle {
    #[inline(always)]
    fn drop(&mut self) {
        local::give_back(self.0);
    }
}

impl fmt::Debug for StackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackHandle")
            .field("limit", &self.limit())
            .field("top", &self.top())
            .field("tag", &self.tag())
            .finish()
    }
}
