//! Gives memory back inside pages of heaps that other threads hold. Those may sleep for ever, with most of a page's blocks
//! on its remote list.
//!
//! Whoever does it takes that list back (`free_list/remote.rs`): the blocks are its own then, as before they were freed, the
//! page stays what it is, and nobody else may touch what they cover. It discards what can be discarded, and frees the
//! blocks again. The owner finds the holes when it drains the list.

use super::{Heap, exit, idle, settle, sparse};
use crate::abort;
use crate::arena::{self, registry, reserve};
use crate::free_list::Block;
use crate::free_list::address_order::{Blocks, CORRUPTED, Marks};
use crate::free_list::remote::Drained;
use crate::os;
use crate::page::descriptor::PageRef;
use crate::page::holes::{self, HOLE};
use crate::page::put_back::put_back;
use crate::page::shared_line::Kind;
use crate::size_class::{MAX_DENSE, SizeClass};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Gives back what is free inside all pages that other threads freed into and that nobody has drained: one look at each
/// slice in use.
pub fn thin_all() {
    thin_where(|_| true);
}

/// As [`thin_all`], for heaps whose holders refilled no bin since this was called last, and without what would be looked at
/// in vain each time: for the background thread.
pub fn thin_quiet() {
    for heap in idle::all() {
        heap.rest.note(sparse::refills(heap));
    }
    thin_where(|page| {
        let sleeps = sparse::owner(page).is_some_and(|owner| owner.rest.is_quiet());
        sleeps && is_news(page)
    });
}

fn thin_where(wanted: impl Fn(PageRef) -> bool) {
    arena::each_claimed_slice(|start| {
        if let Some(page) = registry::slice_descriptor(start.addr().get())
            && page.shared().kind() == Kind::Binned
            && wanted(page)
            && let Some(owner) = thin(page, 1)
        {
            exit::settle_and_park(owner);
        }
    });
}

/// Whether a page has something to give back that it hadn't, probably, the last time.
fn is_news(page: PageRef) -> bool {
    let word = page.shared().remote().peek();
    let all = word.count() == page.shared().capacity();
    all || page.shared().block_bytes() <= MAX_DENSE && !word.is_thinned()
}

/// What the background thread knows of a heap's holder: written by that thread only.
pub struct Rest {
    refills: AtomicU64,
    quiet: AtomicBool,
}

impl Rest {
    /// Of a new heap.
    pub const fn new() -> Self {
        Self {
            refills: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
        }
    }

    fn note(&self, refills: u64) {
        // Relaxed: an estimate. A thread that wakes just now finds holes to carve anew, nothing worse.
        let before = self.refills.swap(refills, Relaxed);
        self.quiet.store(before == refills, Relaxed);
    }

    fn is_quiet(&self) -> bool {
        self.quiet.load(Relaxed)
    }
}

/// Gives back what is free inside a page, if so many of its blocks were freed remotely since they were drained last. By any
/// thread. What this returns is a heap without a thread whose lease the caller holds now, and which it must serve and park.
pub fn thin(page: PageRef, at_least: u32) -> Option<&'static Heap> {
    let taken = page.shared().remote().take_back(at_least)?;
    // Only now is it certain which page this is: it has blocks of ours.
    let class = page.shared().bin().class();
    let blocks = taken.blocks(page.shared().start())?;
    let blocks = if blocks.count == class.capacity() {
        // It waits for its owner as a whole, for which it was counted; `put_back` discards it.
        reserve::unpin(page.slices().bytes());
        blocks
    } else {
        // SAFETY: the blocks are ours.
        unsafe { discard_parts(page, class, blocks) }
    };
    // SAFETY: the blocks are ours, and none is below 16 bytes where there are holes.
    match unsafe { put_back(page, blocks, || settle::discard(page)) } {
        // SAFETY: heaps are never unmapped.
        Ok(serve) => serve.map(|owner| unsafe { owner.as_ref() }),
        Err(_) => abort::misuse(blocks.head.as_ptr().addr(), CORRUPTED),
    }
}

/// Discards the system pages that the blocks cover, and what blocks above 4 KiB have besides their first: what is left of
/// the list.
///
/// # Safety
/// The blocks are the caller's, and of this page with this class.
unsafe fn discard_parts(page: PageRef, class: SizeClass, blocks: Drained) -> Drained {
    let discarded;
    let mut left = blocks;
    if !class.is_dense() {
        // SAFETY: passed on.
        discarded = unsafe { sparse::inside_list(page, blocks.head.as_ptr(), blocks.count) };
    } else if os::page_size() == HOLE && class.bytes() >= 2 * size_of::<Block>() {
        // SAFETY: passed on.
        (left, discarded) = unsafe { make_holes(page, class, blocks) };
    } else {
        discarded = 0;
    }
    reserve::count_discarded_inside(discarded);
    left
}

/// Makes holes of all system pages that the blocks cover, but leaves one block at least to tell of them. What is left of the
/// list, and the bytes discarded.
///
/// # Safety
/// As for [`discard_parts`].
unsafe fn make_holes(page: PageRef, class: SizeClass, list: Drained) -> (Drained, usize) {
    let corrupted = |address: usize| -> ! { abort::misuse(address, CORRUPTED) };
    let blocks = Blocks::of(page.shared().start(), class);
    let sunk = holes::sunk_in(class, list.holes);
    let Some(linked) = list.count.checked_sub(sunk) else {
        corrupted(list.tail.as_ptr().addr())
    };
    if linked >= class.capacity() / 2 {
        blocks.prefetch(class.capacity());
    }
    let mut free: Marks = Marks::none();
    // SAFETY: the list is the caller's.
    if let Err(found) = unsafe { blocks.mark(list.head, linked, &mut free) } {
        corrupted(found.address)
    }
    let bytes = page.slices().bytes();
    let mut new = holes::wholly_free(blocks, &free, class.capacity(), list.holes, bytes);
    while new != 0 && holes::sunk_in(class, new) >= linked {
        new ^= 1 << new.ilog2();
    }
    if new == 0 {
        return (list, 0);
    }
    let discarded = new.count_ones() as usize * HOLE;
    sparse::discard_holes(page, new);
    for hole in holes::numbers(new) {
        let starting = holes::starting_in(class, class.capacity(), hole);
        if starting.is_empty() {
            // Behind the start of the last block: nothing is to be carved there.
            new ^= 1 << hole;
        }
        for index in starting {
            free.remove(index as usize);
        }
    }
    // SAFETY: what is marked was on the list, which is the caller's, and not all of it is in holes.
    let (head, tail) = unsafe {
        let head = NonNull::new_unchecked(blocks.link(&free));
        (head, blocks.last(&free).unwrap_or(head))
    };
    let left = Drained {
        head,
        tail,
        count: list.count,
        holes: list.holes | new,
    };
    (left, discarded)
}
