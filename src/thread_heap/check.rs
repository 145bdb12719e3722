//! Debug builds: no fresh page is taken while remote frees lie in pages of the class. The published failure of this
//! design's kind was exactly that.
//!
//! When a refill starts, the pages of its class that have undrained frees are noted: the current page, and those among
//! the heap's news. When it gets to the last step, it walks all pages that the heap has of the class. Of one whose token is
//! out, two things are asked, or the process is ended:
//!
//! - It was not noted, or was drained since: otherwise a step before overlooked it.
//! - It stands among the news, or a thread is at freeing a block into it right now, so that it will: otherwise it is
//!   lost, and nothing would ever drain it.
//!
//! What is left are frees that arrived while the refill ran. The walk looks at every claimed slice, so the cost of a fresh
//! page grows with the memory in use: debug builds of programs with gigabytes are slow to grow.

use super::Heap;
use crate::size_class::SizeClass;

#[cfg(debug_assertions)]
mod switches {
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    /// What a refill can be made to leave out.
    #[repr(u8)]
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum RefillStep {
        /// Draining the bin's page.
        ActiveDrain = 1,
        /// Settling the heap's news.
        News,
    }

    /// A step, or 0.
    static OFF: AtomicU8 = AtomicU8::new(0);

    /// Switches a step off in all heaps, to see the check fail.
    pub fn skip_refill_step(step: RefillStep) {
        OFF.store(step as u8, Relaxed);
    }

    pub fn active_drain_is_off() -> bool {
        OFF.load(Relaxed) == RefillStep::ActiveDrain as u8
    }

    pub fn news_is_off() -> bool {
        OFF.load(Relaxed) == RefillStep::News as u8
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

/// Before a fresh page is taken.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn before_fresh_page(_: &'static Heap, _: SizeClass) {}

#[cfg(debug_assertions)]
pub use walks::*;

#[cfg(debug_assertions)]
mod walks {
    use super::*;
    use crate::abort;
    use crate::arena::{self, registry};
    use crate::free_list::news::{Announced, Leased};
    use crate::free_list::remote::State;
    use crate::page::descriptor::{Descriptor, PageRef};
    use crate::page::shared_line::Kind;
    use std::ptr;
    use std::sync::atomic::Ordering::{Acquire, Relaxed};
    use std::sync::atomic::fence;

    /// At the start of a refill.
    pub fn at_refill(heap: &'static Heap, class: SizeClass) {
        let note = |page: PageRef| {
            // SAFETY: the page is of the heap, whose lease the caller holds.
            let owned = unsafe { page.owned() };
            if owned.class.get() == class && is_undrained(page) {
                owned.overlooked.set(true);
            }
        };
        if let Some(page) = heap.bin(class).page.get() {
            note(page);
        }
        each_known(heap, note);
    }

    /// Before a fresh page is taken.
    pub fn before_fresh_page(heap: &'static Heap, class: SizeClass) {
        if let Some(page) = heap.bin(class).page.get() {
            check(heap, class, page);
        }
        each_known(heap, |page| check(heap, class, page));
        arena::each_claimed_slice(|start| {
            let page = registry::slice_descriptor(start.addr().get());
            // Only the lease holder, the caller, makes pages the heap's or takes them away.
            if let Some(page) = page
                && ptr::eq(page.shared().owner(), heap)
                && page.shared().kind() == Kind::Binned
            {
                check(heap, class, page);
            }
        });
    }

    /// Looks at a page of the heap.
    fn check(heap: &'static Heap, class: SizeClass, page: PageRef) {
        // SAFETY: the page is of the heap, whose lease the caller holds.
        let owned = unsafe { page.owned() };
        if owned.class.get() != class || page.shared().remote().peek().state() == State::Idle {
            return;
        }
        // The word was looked at relaxed; `InFlight::nobody` asks for it to be acquired.
        fence(Acquire);
        let start = page.shared().start().addr();
        if owned.overlooked.get() && is_undrained(page) {
            abort::broken(
                start,
                "a fresh page is taken although this page has undrained remote frees",
            );
        }
        if page.shared().in_flight().nobody() && !is_known(heap, page) {
            abort::broken(start, "this page's remote frees were never announced");
        }
    }

    /// Has remote frees that the heap could drain now.
    fn is_undrained(page: PageRef) -> bool {
        let word = page.shared().remote().peek();
        word.count() > 0 || word.state() == State::Empty
    }

    fn is_known(heap: &'static Heap, page: PageRef) -> bool {
        let mut known = false;
        each_known(heap, |other| known |= ptr::eq(other, page));
        known
    }

    /// Visits the pages among the heap's news and what it took of them and has not settled yet.
    fn each_known(heap: &'static Heap, mut visit: impl FnMut(PageRef)) {
        let mut walk = |first: *mut Descriptor| {
            let mut at = first;
            while !at.is_null() {
                // SAFETY: descriptors live for ever, and this heap's lease holder, the caller, is the only one to
                // take pages off its news.
                let page: PageRef = unsafe { &*at };
                visit(page);
                // Relaxed: acquired by `peek`, or linked by the lease holder.
                at = page.news_next().load(Relaxed);
            }
        };
        walk(heap.news().peek());
        // SAFETY: the caller holds the heap's lease.
        walk(unsafe { heap.pending.first() });
    }
}
