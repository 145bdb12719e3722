//! The descriptor of a page: two cache lines, split by who writes them.
//!
//! ```text
//!  line 0  owner's   local list and its length, carved, place, queue links     the lease holder only
//!  line 1  shared    owner, remote word, news link, what is const after init   any thread
//! ```
//!
//! A local free reads the shared line (owner) and writes the owner's; a remote free touches the shared line only.
//!
//! The invariant of a binned page, with `in_bin` the blocks of it on its bin's list:
//! `carved == live + local_count() + remote.count() + in_bin + sunk` and `carved <= capacity`.

use super::holes;
use super::shared_line::{Kind, SharedLine};
use crate::free_list::news::Announced;
use crate::free_list::remote::Drained;
use crate::free_list::{Block, Chain};
use crate::size_class::SizeClass;
use crate::sync::AtomicPtr;
use crate::units::{SLICE_SIZE, SliceCount};
use static_assertions::{const_assert, const_assert_eq};
use std::cell::Cell;
use std::mem::offset_of;
use std::ops::Range;
use std::ptr::NonNull;

/// Where a page stands in its heap. Facts of the owner's; other threads never ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Place {
    /// No block is free, or the free ones are not known yet: in no queue.
    Full = 0,
    /// Its list is, or was, in the bin of its class.
    Current,
    /// In the bin's queue, with blocks on its local list.
    Partial,
    /// In the bin's list of pages whose only free blocks are uncarved.
    Uncarved,
    /// All blocks are free; kept by the heap for whichever class needs the page size next.
    Warm,
    /// All blocks are free, but the token is out: kept until the page is popped from the news.
    Waiting,
}

/// A descriptor. They live in the registry's arrays, are never unmapped, and start as zeroed memory.
pub type PageRef = &'static Descriptor;

/// What only the holder of the owner's lease touches.
#[repr(C, align(64))]
pub struct OwnedLine {
    /// Freed blocks that are in no bin.
    pub local: Cell<*mut Block>,
    /// After so many more local frees, one has more to do than to push: counted down, since that is two instructions.
    until_event: Cell<u32>,
    /// The length of `local` at which that is: see [`OwnedLine::arm`].
    event_at: Cell<u32>,
    /// Blocks that were ever put on a list since the page was last wholly free.
    pub carved: Cell<u32>,
    /// How many of `local` the statistics have counted as frees.
    pub counted: Cell<u32>,
    /// Queue links.
    pub next: Cell<Option<PageRef>>,
    /// Queue links.
    pub prev: Cell<Option<PageRef>>,
    /// The class, const while the page has it.
    pub class: Cell<SizeClass>,
    /// Bytes of the page, from its start, that may be resident although no block was carved from them since the page was
    /// last wholly free: what was in use before.
    pub touched: Cell<u32>,
    /// Holes: see `page/holes.rs`. The carved blocks that start in them are free.
    pub holes: Cell<u64>,
    /// How many blocks start in holes.
    pub sunk: Cell<u16>,
    /// Where it stands.
    pub place: Cell<Place>,
    /// `local` has blocks that other threads freed, in the order in which they did.
    pub shuffled: Cell<bool>,
    /// Uncarved blocks are known to read as zero.
    pub clean: Cell<bool>,
    /// Debug builds: had undrained remote frees when a refill of its class started.
    pub overlooked: Cell<bool>,
}

/// The descriptor of a slice.
#[repr(C, align(128))]
pub struct Descriptor {
    owned: OwnedLine,
    shared: SharedLine<Descriptor>,
}

const_assert_eq!(size_of::<Descriptor>(), 128);
const_assert_eq!(offset_of!(Descriptor, owned), 0);
const_assert_eq!(offset_of!(Descriptor, shared), 64);
const_assert!(size_of::<OwnedLine>() == 64 && size_of::<SharedLine<Descriptor>>() == 64);
// The news stack tags bit 0 of descriptor addresses.
const_assert!(align_of::<Descriptor>() > 1);

// SAFETY: the shared line is made of atomics. The owner's line is reached through `Descriptor::owned` only, whose
// callers hold the lease of the page's heap; the lease is handed on with Release and Acquire.
unsafe impl Sync for Descriptor {}

impl Announced for Descriptor {
    #[inline(always)]
    fn news_next(&self) -> &AtomicPtr<Self> {
        self.shared.news_next()
    }
}

impl Descriptor {
    /// The part of any thread.
    #[inline(always)]
    pub fn shared(&self) -> &SharedLine<Self> {
        &self.shared
    }

    /// The part of the lease holder.
    ///
    /// # Safety
    /// The caller holds the lease of the heap that owns the page, or nobody else can reach the page.
    #[inline(always)]
    pub unsafe fn owned(&self) -> &OwnedLine {
        &self.owned
    }

    /// How many slices the page has.
    pub fn slices(&self) -> SliceCount {
        match self.shared.kind() {
            // SAFETY: the class of a binned page doesn't change while anyone asks for its extent.
            Kind::Binned => self.owned.class.get().page_slices(),
            Kind::None => SliceCount(0),
            Kind::Large | Kind::Huge => {
                SliceCount::covering(self.shared.block_bytes()).unwrap_or(SliceCount(0))
            }
        }
    }
}

impl OwnedLine {
    /// Sets up the owner's part of a new page, or of one that is wholly free. `touched` is not reset: the
    /// caller does that for a new page.
    pub fn init(&self, class: SizeClass, clean: bool) {
        self.local.set(std::ptr::null_mut());
        self.set_local_count(0);
        self.carved.set(0);
        self.counted.set(0);
        self.next.set(None);
        self.prev.set(None);
        self.class.set(class);
        self.holes.set(0);
        self.sunk.set(0);
        self.shuffled.set(false);
        self.clean.set(clean);
        self.overlooked.set(false);
        self.stand(Place::Full);
    }

    /// The length of `local`.
    #[inline]
    pub fn local_count(&self) -> u32 {
        self.event_at.get().wrapping_sub(self.until_event.get())
    }

    /// Notes a new length of `local`.
    #[inline]
    pub fn set_local_count(&self, count: u32) {
        self.until_event
            .set(self.event_at.get().wrapping_sub(count));
    }

    /// Moves the page to another place and arms the count of local frees that matters there.
    #[inline]
    pub fn stand(&self, place: Place) {
        self.place.set(place);
        self.arm();
    }

    /// The next local free to look at: the first one of a page in no queue or only uncarved; the one that makes a partly
    /// used page sparse, and the one that empties it; none of a current page; one too many of a page that is free already.
    #[inline]
    pub fn arm(&self) {
        let count = self.local_count();
        let event_at = match self.place.get() {
            Place::Full | Place::Uncarved => count + 1,
            // (The larger blocks are in no holes.)
            Place::Partial if !self.class.get().is_dense() => self.carved.get(),
            Place::Partial if count < self.sparse_from() => self.sparse_from(),
            Place::Partial => self.outside_holes(),
            Place::Current => u32::MAX,
            Place::Warm | Place::Waiting => count + 1,
        };
        self.event_at.set(event_at);
        self.set_local_count(count);
    }

    /// As [`OwnedLine::arm`], of a page that is sparse: the next local free to look at is the one that leaves a quarter of the
    /// live blocks.
    pub fn arm_for_fewer(&self) {
        let count = self.local_count();
        self.event_at
            .set(self.outside_holes() - (self.outside_holes() - count) / 4);
        self.set_local_count(count);
    }

    /// The carved blocks that aren't in holes.
    fn outside_holes(&self) -> u32 {
        self.carved.get() - u32::from(self.sunk.get())
    }

    /// The length of the local list from which on the page is sparse ([`SizeClass::sparse_live`]). Not for a few system pages,
    /// nor for the larger blocks.
    fn sparse_from(&self) -> u32 {
        let class = self.class.get();
        if !class.is_dense() || (self.carved_bytes() as usize) < SLICE_SIZE / 2 {
            return 0;
        }
        let sparse = self.carved.get() - class.sparse_live(self.carved.get());
        sparse.saturating_sub(u32::from(self.sunk.get()))
    }

    /// Few of the blocks are in use, and there is something to gain by giving system pages back.
    pub fn is_sparse(&self) -> bool {
        let from = self.sparse_from();
        from > 0 && self.local_count() >= from
    }

    /// Pushes a freed block; true when [`OwnedLine::arm`] asked to be told.
    ///
    /// # Safety
    /// `block` is a block of this page that the caller gives up.
    #[inline(always)]
    pub unsafe fn push_local(&self, block: NonNull<Block>) -> bool {
        // SAFETY: the caller owns the block.
        unsafe { Block::link(block, self.local.get()) };
        self.local.set(block.as_ptr());
        let left = self.until_event.get().wrapping_sub(1);
        self.until_event.set(left);
        left == 0
    }

    /// Puts a drained list on the local one. False if that makes more blocks free than there are: a double free.
    ///
    /// # Safety
    /// The caller owns the blocks, which belong to this page.
    #[must_use]
    pub unsafe fn attach(&self, drained: Drained) -> bool {
        let Some(chain) = self.linked(drained) else {
            return false;
        };
        // SAFETY: the caller owns the chain and, holding the lease, the list.
        self.local.set(unsafe { chain.join(self.local.get()) });
        self.set_local_count(self.local_count() + chain.count);
        self.counted.set(self.counted.get() + chain.count);
        self.shuffled.set(true);
        self.free_count() <= self.carved.get()
    }

    /// The linked blocks of a drained list, after noting its holes. None if it can't be so: a double free.
    #[inline]
    pub fn linked(&self, drained: Drained) -> Option<Chain> {
        if drained.holes == 0 {
            return Some(drained.chain(0));
        }
        let sunk = holes::sunk_in(self.class.get(), drained.holes);
        if self.holes.get() & drained.holes != 0 || sunk >= drained.count {
            return None;
        }
        self.holes.set(self.holes.get() | drained.holes);
        self.sunk.set(self.sunk.get() + sunk as u16);
        Some(drained.chain(sunk))
    }

    /// Every block that was carved is on the local list, or in a hole.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.free_count() == self.carved.get()
    }

    /// The carved blocks that are on the local list, or in holes.
    #[inline]
    pub fn free_count(&self) -> u32 {
        self.local_count() + u32::from(self.sunk.get())
    }

    /// Blocks may be carved that never were: those behind the last carved one.
    #[inline]
    fn has_frontier(&self) -> bool {
        self.carved.get() < self.class.get().capacity()
    }

    /// The next block to be carved lies in memory that was in use before, and so probably costs no page fault.
    #[inline]
    pub fn has_resident_uncarved(&self) -> bool {
        self.has_frontier() && self.carved_bytes() < self.touched.get()
    }

    /// How many such blocks there are.
    pub fn resident_uncarved(&self) -> u32 {
        let bytes = self.touched.get().saturating_sub(self.carved_bytes());
        bytes.div_ceil(self.class.get().bytes() as u32)
    }

    /// Takes at most `most` blocks to be carved now, one at least: from a hole, if there is one, and otherwise those
    /// behind the last carved one. Only where there are any.
    pub fn take_uncarved(&self, most: u32) -> Range<u32> {
        if self.holes.get() == 0 || self.has_resident_uncarved() {
            let from = self.carved.get();
            let to = self.class.get().capacity().min(from + most);
            self.carved.set(to);
            return from..to;
        }
        let hole = self.holes.get().trailing_zeros();
        let blocks = self.starting_in(hole as usize);
        self.holes.set(self.holes.get() & !(1 << hole));
        self.sunk.set(self.sunk.get() - blocks.len() as u16);
        blocks
    }

    /// The carved blocks that start in a system page of the page.
    pub fn starting_in(&self, hole: usize) -> Range<u32> {
        holes::starting_in(self.class.get(), self.carved.get(), hole)
    }

    /// Bytes of the page, from its start, that blocks were carved from.
    #[inline]
    pub fn carved_bytes(&self) -> u32 {
        self.carved.get() * self.class.get().bytes() as u32
    }

    /// Notes how far into the page blocks were handed out, before it begins anew.
    pub fn note_touched(&self) {
        self.touched
            .set(self.touched.get().max(self.carved_bytes()));
    }

    /// Blocks may still be carved, behind the last carved one or in holes.
    #[inline]
    pub fn has_uncarved(&self) -> bool {
        self.has_frontier() || self.holes.get() != 0
    }
}
