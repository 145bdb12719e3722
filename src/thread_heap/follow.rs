//! Bins that follow the frees: where a phase frees one page after the other, the page that it comes to becomes its bin's.
//! So all but the first of the page's blocks are freed on the fast path, and are counted when the phase comes to the next.
//!
//! Only for classes that are recycled, while their bin is shut (`recycle.rs`): what is freed goes to its page then. And only
//! where each of the full pages opened last is gone already when the next is opened: with frees in random order many are
//! open at a time.

use super::{Bin, Heap, exit, recycle, settle};
use crate::abort;
use crate::arena::reserve;
use crate::free_list::Block;
use crate::page::descriptor::{OwnedLine, PageRef, Place};
use crate::size_class::SizeClass;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// So many pages were opened one after the other before the bin follows.
const STREAK: u32 = 2;
const TWICE: &str = "a block of this page, or one beside it on a list, was freed twice";

/// What a class's frees looked like lately.
pub struct Order {
    /// The full page that a local free opened last. It may be anybody's since: it is only compared.
    opened: Cell<*const ()>,
    /// How many pages in a row were gone when the next was opened.
    streak: Cell<u32>,
}

impl Order {
    /// Nothing was freed.
    pub const fn new() -> Self {
        Self {
            opened: Cell::new(ptr::null()),
            streak: Cell::new(0),
        }
    }
}

/// Notes that a local free opens a full page of the heap; whether the bin is to follow there.
#[inline]
pub fn wants(heap: &'static Heap, page: PageRef) -> bool {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    let class = owned.class.get();
    if !recycle::applies(class.bin()) {
        return false;
    }
    let queues = heap.queues(class);
    let order = &queues.order;
    let opened = order.opened.replace(ptr::from_ref(page).cast());
    let last = queues
        .partial
        .last()
        .map_or(ptr::null(), |last| ptr::from_ref(last).cast());
    if ptr::eq(last, opened) {
        order.streak.set(0);
        return false;
    }
    let streak = order.streak.get() + 1;
    if streak < STREAK {
        order.streak.set(streak);
        return false;
    }
    recycle::is_shut(heap, class.bin())
        && heap.bin(class).page.get().is_some()
        && owned.local_count() == 1
}

/// Makes a full page of the heap, of which a first block was just freed locally, the bin's.
#[cold]
#[inline(never)]
pub fn follow(heap: &'static Heap, page: PageRef) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    let class = owned.class.get();
    let bin = heap.bin(class);
    let Some(old) = bin.page.replace(Some(page)) else {
        return;
    };
    // SAFETY: as above.
    let line = unsafe { old.owned() };
    let mut others = None;
    if !recycle::is_pure(heap, class.bin()) {
        others = part(bin, line, class);
        recycle::note_pure(heap, class.bin());
    }
    give_back(bin, line);
    bin.start.set(page.shared().start().addr());
    // The block goes with the page, uncounted like all that are freed to the bin.
    bin.free.set(owned.local.replace(ptr::null_mut()));
    owned.set_local_count(0);
    owned.stand(Place::Current);
    line.stand(Place::Full);
    if !line.is_free() {
        // It wasn't worth it, perhaps.
        heap.queues(class).order.streak.set(0);
        settle::replace(heap, old);
    } else if !settle::empty(heap, old) {
        settle::replace(heap, old);
    }
    if let Some(others) = others {
        exit::return_list(heap, others);
    }
    recycle::trim(heap);
}

/// Takes the recycled blocks out of the bin's list, which is one of blocks of its page then; as a list. `line` is the page's,
/// whatever its class.
pub fn part(bin: &Bin, line: &OwnedLine, class: SizeClass) -> Option<NonNull<Block>> {
    let start = bin.start.get();
    // Nothing bounds a list of recycled blocks but the memory in use, which others may give back meanwhile: they can't be more
    // than twice that in a program that does nothing wrong.
    let mut left = 2 * (reserve::claimed_bytes() / class.bytes() + line.carved.get() as usize);
    let mut others = ptr::null_mut();
    let mut at = bin.free.replace(ptr::null_mut());
    while let Some(block) = NonNull::new(at) {
        left -= 1;
        if left == 0 {
            abort::misuse(start, TWICE);
        }
        // SAFETY: the block is on a list that the caller took out of the bin, and goes onto another.
        unsafe {
            at = Block::next(block);
            if bin.holds(block.addr().get()) {
                bin.push(block);
            } else {
                Block::link(block, others);
                others = block.as_ptr();
            }
        }
    }
    NonNull::new(others)
}

/// Moves the bin's list, all of it blocks of its page, to the page.
fn give_back(bin: &Bin, line: &OwnedLine) {
    let Some(head) = NonNull::new(bin.free.replace(ptr::null_mut())) else {
        return;
    };
    let most = line.carved.get() - line.free_count();
    let mut left = most;
    let mut last = head;
    while left > 0 {
        left -= 1;
        // SAFETY: the list was the bin's, and is the caller's now.
        match NonNull::new(unsafe { Block::next(last) }) {
            Some(next) => last = next,
            None => {
                // SAFETY: as above.
                unsafe { Block::link(last, line.local.replace(head.as_ptr())) };
                line.set_local_count(line.local_count() + (most - left));
                return;
            }
        }
    }
    abort::misuse(last.addr().get(), TWICE);
}
