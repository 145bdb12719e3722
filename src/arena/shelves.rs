//! Empty pages on shelves: part of the reserve, like free slices with old contents, but each still a page, with its class
//! and its list of blocks, so that the heap that puts it down and takes it up again has next to nothing to do. A shelf is a
//! heap's; whoever trims the reserve takes pages away and releases their slices, and so does whoever would otherwise take
//! memory that isn't resident.
//!
//! A page on a shelf has no owner: who frees a block of it once more is told, unless the block goes to a bin as recycled.

use super::registry;
use super::reserve;
use super::shelf::Shelf;
use crate::config;
use crate::page::descriptor::{Descriptor, OwnedLine, PageRef};
use crate::size_class::{PAGE_SIZES, SizeClass};
use crate::units::{SLICE_SIZE, SliceCount};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// How many pages of a size a heap may keep so.
const PAGES: usize = 64;
/// After so many pages put down somebody looks at the clock, and at how full the shelves are.
const TICK: u32 = 32;
/// How long the level of a shelf is remembered at least, in milliseconds, be the purge delay none at all.
const SPAN_MS: u64 = 100;
/// The shelves of so many other heaps are looked at for a page.
const LOOKS: usize = 16;

/// The highest level of a shelf when somebody looked, in this span of time and in the one before. (A loop that puts down and
/// takes up again comes to about the same level each time.)
struct Level {
    most: AtomicU32,
    before: AtomicU32,
}

impl Level {
    const fn new() -> Self {
        Self {
            most: AtomicU32::new(0),
            before: AtomicU32::new(0),
        }
    }

    /// By how much a level is above these; the shelf's keeper alone says so, after so many spans of time.
    fn rise_to(&self, level: u32, spans: u64) -> u32 {
        // Relaxed: the caller is the only one to write them.
        let mut most = self.most.load(Ordering::Relaxed);
        if spans > 0 {
            let before = if spans == 1 { most } else { 0 };
            self.before.store(before, Ordering::Relaxed);
            most = 0;
        }
        self.most.store(most.max(level), Ordering::Relaxed);
        level.saturating_sub(most.max(self.before.load(Ordering::Relaxed)))
    }
}

/// A heap's shelves.
pub struct Shelves {
    by_size: [Shelf<Descriptor, PAGES>; PAGE_SIZES],
    /// How often pages were put down. The heap's holder alone writes it.
    puts: AtomicU32,
    /// How many pages of each size there were of late. As well, and since when, in milliseconds.
    levels: [Level; PAGE_SIZES],
    since: AtomicU64,
    /// Const once they are in the list: those added before.
    below: AtomicPtr<Shelves>,
}

/// The shelves of all heaps, the last first.
static ALL: AtomicPtr<Shelves> = AtomicPtr::new(ptr::null_mut());

fn all() -> impl Iterator<Item = &'static Shelves> {
    // Acquire pairs with the Release of `add`.
    let mut at = ALL.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: only references that live for ever are added.
        let shelves = unsafe { at.as_ref() }?;
        // Relaxed: written before it was published.
        at = shelves.below.load(Ordering::Relaxed);
        Some(shelves)
    })
}

fn owned(page: PageRef) -> &'static OwnedLine {
    // SAFETY: only called with pages that the caller took from a shelf, or is about to put there: nobody else can reach
    // them.
    unsafe { page.owned() }
}

/// How much of an empty page may be resident.
fn resident(page: PageRef) -> SliceCount {
    SliceCount((owned(page).touched.get() as usize).div_ceil(SLICE_SIZE) as u32)
}

impl Shelves {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            by_size: [const { Shelf::new() }; PAGE_SIZES],
            puts: AtomicU32::new(0),
            levels: [const { Level::new() }; PAGE_SIZES],
            since: AtomicU64::new(0),
            below: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Makes a new heap's shelves known to all.
    pub fn add(&'static self) {
        let this = ptr::from_ref(self).cast_mut();
        let mut first = ALL.load(Ordering::Relaxed);
        loop {
            self.below.store(first, Ordering::Relaxed);
            // Release pairs with the Acquire of `all`. They are never removed, so no ABA.
            match ALL.compare_exchange_weak(first, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => first = other,
            }
        }
    }

    /// Puts an empty page down that the caller holds, and whose heap these shelves are; false, with the page as it was, where
    /// there is no room on the shelf or in the reserve: it is to be released. Now and then `grown` is told by how many bytes
    /// there is more on the shelves than there was of late.
    #[inline]
    pub fn put(&self, page: PageRef, grown: impl FnOnce(usize)) -> bool {
        owned(page).note_touched();
        let (slices, old) = (owned(page).class.get().page_slices(), resident(page));
        if !reserve::shelve(slices, old) {
            return false;
        }
        let owner = page.shared().owner();
        page.shared().set_owner(ptr::null_mut());
        let put = self.by_size[slices.0.trailing_zeros() as usize].put(page);
        if !put {
            page.shared().set_owner(owner);
            reserve::unshelve(slices, old);
        }
        // A program may have no other slow path that ends the reserve's window. Relaxed: one writer.
        let puts = self.puts.load(Ordering::Relaxed).wrapping_add(1);
        self.puts.store(puts, Ordering::Relaxed);
        if puts.is_multiple_of(TICK) {
            grown(self.look());
        }
        put
    }

    /// Ends the reserve's window if it is time, and measures the shelves; by how many bytes they are fuller than they were.
    #[cold]
    #[inline(never)]
    fn look(&self) -> usize {
        reserve::tick();
        // (The window's start rather than the clock, which `tick` alone asks.) Relaxed: the caller is the only one to write it.
        let since = self.since.load(Ordering::Relaxed);
        let window = reserve::window();
        let spans = window.saturating_sub(since) / config::purge_delay_ms().max(SPAN_MS);
        if spans > 0 {
            self.since.store(window, Ordering::Relaxed);
        }
        let mut grown = 0;
        for (size, (shelf, level)) in self.by_size.iter().zip(&self.levels).enumerate() {
            grown += level.rise_to(shelf.level() as u32, spans) << size;
        }
        SliceCount(grown).bytes()
    }

    /// Takes a page of a size up again: the page is the caller's then, who gives it an owner.
    pub fn take(&self, size: usize) -> Option<PageRef> {
        let page = self.by_size[size].take()?;
        reserve::taken_up(SliceCount(1 << size), resident(page));
        Some(page)
    }

    /// Releases all pages.
    pub fn release(&self) {
        for shelf in &self.by_size {
            while let Some(page) = shelf.take() {
                release_from_shelf(page);
            }
        }
    }
}

/// As [`Shelves::take`], from any heap's shelf, if there is no free memory besides that is resident.
pub fn take_any(class: SizeClass) -> Option<PageRef> {
    let slices = class.page_slices();
    if !reserve::is_all_on_shelves(slices) {
        return None;
    }
    let shelves = all().take(LOOKS);
    let page = shelves.map(|shelves| &shelves.by_size[class.page_size_index()]);
    let page = page.filter_map(Shelf::take_away).next()?;
    reserve::taken_up(slices, resident(page));
    Some(page)
}

/// Releases pages of any heap's shelves until `bytes` of what was resident are free slices; the bytes of all that were
/// released.
pub fn release_some(bytes: usize) -> usize {
    let mut released = 0;
    // Large pages first: fewer system calls, and fewer of them for who wants them back.
    for size in (0..PAGE_SIZES).rev() {
        for shelves in all() {
            while released < bytes {
                let Some(page) = shelves.by_size[size].take_away() else {
                    break;
                };
                released += resident(page).bytes();
                release_from_shelf(page);
            }
        }
    }
    released
}

/// Releases all pages of all shelves; whether there were any.
pub fn release_all() -> bool {
    let mut any = false;
    for shelf in all().flat_map(|shelves| &shelves.by_size) {
        while let Some(page) = shelf.take_away() {
            release_from_shelf(page);
            any = true;
        }
    }
    any
}

fn release_from_shelf(page: PageRef) {
    reserve::unshelve(owned(page).class.get().page_slices(), resident(page));
    release_untrimmed(page);
}

/// Gives the slices of an empty page back to their arena. The caller is the only one to reach the page.
pub fn release(page: PageRef) {
    release_untrimmed(page);
    reserve::trim();
}

fn release_untrimmed(page: PageRef) {
    let owned = owned(page);
    let slices = owned.class.get().page_slices();
    owned.note_touched();
    let touched = resident(page);
    registry::mark(page, slices, None);
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    let number = page.shared().arena();
    page.shared().unregister();
    super::release_untrimmed(start, number, slices, touched);
}
