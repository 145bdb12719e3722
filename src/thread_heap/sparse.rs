//! Gives back the system pages inside sparse pages, so that one live object doesn't pin its page.
//!
//! - Where blocks are at most 4 KiB, a system page whose every block is free becomes a **hole**: the blocks that start in
//!   it lose their links with the contents, so they leave the list, and are carved anew when nothing else is free
//!   (`OwnedLine::sunk`, `OwnedLine::holes`).
//! - Larger blocks contain system pages: a free one keeps its first, with the link, and loses the others.
//!
//! Done by `collect(true)`, by the background thread for heaps without a thread, and in passing: a page that became
//! sparse (an eighth in use) and still is when 64 more have, in a phase that frees a lot: few bins were refilled
//! meanwhile, few holes were carved again lately, the reserve is full, and at least 64 MiB are in use.
//!
//! Costs a walk over the page's list, and page faults for whoever allocates there again.

use super::{Heap, settle};
use crate::abort;
use crate::arena::{self, reserve};
use crate::config;
use crate::free_list::Block;
use crate::free_list::address_order::{Blocks, CORRUPTED, Marks};
use crate::os;
use crate::page::descriptor::{HOLE, OwnedLine, PageRef, Place};
use crate::size_class::SizeClass;
use crate::units::MIB;
use std::cell::Cell;
use std::ops::Range;
use std::ptr::{self, NonNull};

/// How many pages become sparse before one that did is looked at again: most are wholly free by then.
const LAG: usize = 64;
/// A heap that refilled its bins more often meanwhile is not in a phase that frees: it will use the page again.
const FEW_REFILLS: u64 = LAG as u64;
/// A process that uses less has little to gain.
const FROM_BYTES: usize = 64 * MIB;
/// How many holes may be carved again within two purge delays, about, before no more are made in passing.
const FEW_REGRETS: u32 = 64;

/// The pages of a heap that became sparse last. Some are other heaps' since, or no pages any more.
pub struct Candidates {
    noted: [Cell<Noted>; LAG],
    count: Cell<usize>,
    /// Holes that were carved again, halved with each purge delay; and when that was done last, in milliseconds.
    regrets: Cell<u32>,
    halved: Cell<u64>,
}

#[derive(Clone, Copy)]
struct Noted {
    page: Option<PageRef>,
    /// How often the heap had refilled a bin by then.
    refills: u64,
}

impl Candidates {
    /// None.
    pub const fn new() -> Self {
        const NONE: Noted = Noted {
            page: None,
            refills: 0,
        };
        Self {
            noted: [const { Cell::new(NONE) }; LAG],
            count: Cell::new(0),
            regrets: Cell::new(0),
            halved: Cell::new(0),
        }
    }

    /// Adds a page; what was added `LAG` pages ago. A page that was added last isn't added again.
    fn push(&self, new: Noted) -> Option<Noted> {
        let count = self.count.get();
        let last = self.noted[count.wrapping_sub(1) % LAG].get();
        if last
            .page
            .zip(new.page)
            .is_some_and(|(last, new)| ptr::eq(last, new))
        {
            return None;
        }
        self.count.set(count.wrapping_add(1));
        Some(self.noted[count % LAG].replace(new))
    }

    /// Notes that a hole is carved again.
    pub fn regret(&self) {
        self.regrets.set(self.regrets.get().saturating_add(1));
    }

    fn regrets_little(&self) -> bool {
        let now = os::now_ms();
        if now.wrapping_sub(self.halved.get()) >= config::purge_delay_ms() {
            self.halved.set(now);
            self.regrets.set(self.regrets.get() / 2);
        }
        self.regrets.get() <= FEW_REGRETS
    }
}

/// Notes that a page of a heap that the caller holds may have become sparse, and gives back what is free inside one that
/// has been for long.
pub fn note(heap: &'static Heap, page: PageRef) {
    if !is_sparse(heap, page) {
        return;
    }
    let counters = &heap.counters;
    let refills =
        counters.reused_pages.get() + counters.carved_refills.get() + counters.fresh_pages.get();
    let new = Noted {
        page: Some(page),
        refills,
    };
    if let Some(old) = heap.sparse.push(new)
        && let Some(page) = old.page
        && refills - old.refills <= FEW_REFILLS
        && reserve::is_full()
        && reserve::claimed_bytes() >= FROM_BYTES
        && heap.sparse.regrets_little()
        && is_sparse(heap, page)
    {
        thin(heap, page);
    }
}

fn is_sparse(heap: &'static Heap, page: PageRef) -> bool {
    if !ptr::eq(page.shared().owner(), heap) {
        return false;
    }
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    owned.place.get() == Place::Partial && owned.is_sparse()
}

/// Gives back what is free inside the partly used pages of a heap whose lease the caller holds.
pub fn discard_all(heap: &'static Heap) {
    for class in SizeClass::all() {
        for page in heap.queues(class).partial.iter() {
            thin(heap, page);
        }
    }
}

/// Gives back what is free inside a partly used page of a heap that the caller holds.
#[cold]
#[inline(never)]
fn thin(heap: &'static Heap, page: PageRef) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    settle::count_local(heap, owned);
    let discarded = if !owned.class.get().is_dense() {
        inside_blocks(page, owned)
    } else if os::page_size() == HOLE {
        make_holes(page, owned)
    } else {
        0
    };
    if discarded > 0 {
        reserve::count_discarded_inside(discarded);
        settle::replace(heap, page);
    }
}

fn before_discard(page: PageRef) {
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    arena::before_discard(start, page.shared().arena(), page.slices());
}

/// Discards a part of a page, in bytes from its start.
fn discard(page: PageRef, part: Range<usize>) -> usize {
    let bytes = part.len();
    // SAFETY: pages lie above address 0, and the part lies in the page.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()).add(part.start) };
    // SAFETY: the callers pass system pages of which nothing is in use.
    unsafe { os::discard(start, bytes) };
    bytes
}

/// Discards all but the first system page of each free block, and what lies behind the carved ones. The bytes discarded.
fn inside_blocks(page: PageRef, owned: &OwnedLine) -> usize {
    let unit = os::page_size();
    let bytes = owned.class.get().bytes();
    let start = page.shared().start().addr();
    let mut discarded = 0;
    let tail = (owned.carved_bytes() as usize).next_multiple_of(unit)
        ..owned.touched.get() as usize / unit * unit;
    if !tail.is_empty() {
        before_discard(page);
        discarded += discard(page, tail);
    }
    forget_tail(owned);
    let mut at = owned.local.get();
    for _ in 0..owned.local_count() {
        let Some(block) = NonNull::new(at) else { break };
        let offset = at.addr() - start;
        let from = (offset + size_of::<Block>()).next_multiple_of(unit);
        let to = (offset + bytes) / unit * unit;
        if from < to {
            if discarded == 0 {
                before_discard(page);
            }
            discarded += discard(page, from..to);
        }
        // SAFETY: the block is on the list of a page that the caller holds.
        at = unsafe { Block::next(block) };
    }
    discarded
}

/// Makes holes of all system pages without a live block. The bytes discarded.
fn make_holes(page: PageRef, owned: &OwnedLine) -> usize {
    let blocks = Blocks::of(page.shared().start(), owned.class.get());
    let Some(first) = NonNull::new(owned.local.get()) else {
        return 0;
    };
    let mut free: Marks = Marks::none();
    // SAFETY: the list is the page's, and the caller holds it.
    if let Err(corrupted) = unsafe { blocks.mark(first, owned.local_count(), &mut free) } {
        abort::misuse(corrupted.address, CORRUPTED);
    }
    let carved = owned.carved.get() as usize;
    let old = owned.holes.get();
    let is_free = |index: usize| {
        index >= carved || free.has(index) || old >> (index * blocks.bytes / HOLE) & 1 == 1
    };
    // What was never touched isn't there to be given back.
    let touched = owned.touched.get().max(owned.carved_bytes()) as usize;
    let mut new = 0_u64;
    for number in (0..touched.div_ceil(HOLE)).filter(|number| old >> number & 1 == 0) {
        let part = number * HOLE..(number + 1) * HOLE;
        let mut touching = part.start / blocks.bytes..part.end.div_ceil(blocks.bytes);
        if touching.all(is_free) {
            new |= 1 << number;
        }
    }
    if new == 0 {
        return 0;
    }
    before_discard(page);
    for run in runs(new) {
        discard(page, run.start * HOLE..run.end * HOLE);
    }
    sink(owned, blocks, &mut free, new);
    forget_tail(owned);
    new.count_ones() as usize * HOLE
}

/// Notes that nothing behind the carved blocks is resident any more.
fn forget_tail(owned: &OwnedLine) {
    owned
        .touched
        .set(owned.touched.get().min(owned.carved_bytes()));
}

/// The runs of set bits, lowest first.
fn runs(mut bits: u64) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        (bits != 0).then(|| {
            let start = bits.trailing_zeros();
            let end = start + (bits >> start).trailing_ones();
            bits &= u64::MAX.checked_shl(end).unwrap_or(0);
            start as usize..end as usize
        })
    })
}

/// Takes the blocks that start in new holes off the page's list.
fn sink(owned: &OwnedLine, blocks: Blocks, free: &mut Marks, new: u64) {
    let mut taken = 0;
    // From the end, where blocks become uncarved again.
    for number in (0..u64::BITS as usize)
        .rev()
        .filter(|number| new >> number & 1 == 1)
    {
        let carved = owned.carved.get();
        let starting = owned.starting_in(number);
        if starting.is_empty() {
            // All of it is uncarved.
            continue;
        }
        for index in starting.clone() {
            free.remove(index as usize);
        }
        taken += starting.len() as u32;
        if starting.end == carved {
            owned.carved.set(starting.start);
        } else {
            owned.holes.set(owned.holes.get() | 1 << number);
            owned.sunk.set(owned.sunk.get() + starting.len() as u16);
        }
    }
    owned.set_local_count(owned.local_count() - taken);
    owned.counted.set(owned.local_count());
    owned.shuffled.set(false);
    // SAFETY: what is marked was on the page's list, which the caller holds.
    owned.local.set(unsafe { blocks.link(free) });
}
