//! Debug builds: no fresh page is taken while the heap knows of remote frees in pages of the class. The published
//! failure of this design's kind was exactly that.
//!
//! When a refill starts, the pages of its class that have undrained frees are noted: the current page, and those among
//! the heap's news. If one of them is as it was when the refill gets to step 8, the process is ended: a step before
//! should have drained it. Pages whose token is still on its way are not among the news yet and so are not noted, and
//! neither are frees that arrive meanwhile.

use super::Heap;
use crate::size_class::SizeClass;

#[cfg(debug_assertions)]
mod switches {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    static OFF: AtomicU8 = AtomicU8::new(0);

    /// Switches a refill step off (2: draining of current pages, 3: news; 0: all on again), to see the check fail.
    pub fn skip_refill_step(step: u8) {
        OFF.store(step, Relaxed);
    }

    pub fn active_drain_is_off() -> bool {
        OFF.load(Relaxed) == 2
    }

    pub fn news_is_off() -> bool {
        OFF.load(Relaxed) == 3
    }
}

#[cfg(not(debug_assertions))]
mod switches {
    #[inline(always)]
    pub fn active_drain_is_off() -> bool {
        false
    }

    #[inline(always)]
    pub fn news_is_off() -> bool {
        false
    }
}

pub use switches::*;

/// At the start of a refill.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn at_refill(_: &'static Heap, _: SizeClass) {}

/// Before step 8.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn before_fresh_page(_: &'static Heap, _: SizeClass) {}

#[cfg(debug_assertions)]
pub use walks::*;

#[cfg(debug_assertions)]
mod walks {
    use super::*;
    use crate::abort;
    use crate::free_list::news::{Announced, Leased};
    use crate::page::descriptor::{Descriptor, PageRef};
    use std::sync::atomic::Ordering::Relaxed;

    /// At the start of a refill.
    pub fn at_refill(heap: &'static Heap, class: SizeClass) {
        each_undrained(heap, class, |page| {
            // SAFETY: the page is of the heap, whose lease the caller holds.
            unsafe { page.owned() }.overlooked.set(true);
        });
    }

    /// Before step 8.
    pub fn before_fresh_page(heap: &'static Heap, class: SizeClass) {
        each_undrained(heap, class, |page| {
            // SAFETY: as above.
            if unsafe { page.owned() }.overlooked.get() {
                let start = page.shared().start().addr();
                abort::broken(
                    start,
                    "a fresh page is taken although this page has undrained remote frees",
                );
            }
        });
    }

    /// Visits the pages of the class with undrained remote frees that the heap knows of, some of them twice.
    fn each_undrained(heap: &'static Heap, class: SizeClass, visit: impl Fn(PageRef)) {
        let look = |page: PageRef| {
            // SAFETY: the page is of the heap, whose lease the caller holds.
            let same = unsafe { page.owned() }.class.get() == class;
            if same && page.shared().remote().peek().count() > 0 {
                visit(page);
            }
        };
        if let Some(page) = heap.bin(class).page.get() {
            look(page);
        }
        let walk = |first: *mut Descriptor| {
            let mut at = first;
            while !at.is_null() {
                // SAFETY: descriptors live for ever, and this heap's lease holder, the caller, is the only one to
                // take pages off its news.
                let page: PageRef = unsafe { &*at };
                look(page);
                // Relaxed: acquired by `peek`, or linked by the lease holder.
                at = page.news_next().load(Relaxed);
            }
        };
        walk(heap.news().peek());
        // SAFETY: the caller holds the heap's lease.
        walk(unsafe { heap.pending.first() });
    }
}
