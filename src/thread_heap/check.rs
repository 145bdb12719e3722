//! Debug builds: whenever a heap takes a fresh page, no page of that class may have remote frees that the heap was told
//! of before its last look at its news. The published failure of this design's kind was exactly that.
//!
//! A page with undrained frees that stands among the heap's news is noted; if it still stands there, undrained, at
//! the heap's next fresh page of the class, the process is ended: in between, a refill had to settle it. Pages
//! whose token is still on its way are not on the news yet and so are not noted.

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

/// Before step 8.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn before_fresh_page(_: &'static Heap, _: SizeClass) {}

/// Before step 8.
#[cfg(debug_assertions)]
pub fn before_fresh_page(heap: &'static Heap, class: SizeClass) {
    use super::news::Leased;
    use crate::abort;
    use crate::page::descriptor::PageRef;
    use crate::page::shared_line::RemotePage;

    let visit = |first: *mut crate::page::descriptor::Descriptor| {
        let mut at = first;
        while !at.is_null() {
            // SAFETY: descriptors live for ever, and this heap's lease holder, the caller, is the only one to take
            // pages off its news.
            let page: PageRef = unsafe { &*at };
            // SAFETY: the page is of the heap that the caller holds.
            let owned = unsafe { page.owned() };
            if owned.class.get() == class && page.shared().remote().peek().count() > 0 {
                if owned.overlooked.replace(true) {
                    let start = page.shared().start().addr();
                    abort::broken(
                        start,
                        "a fresh page is taken although this page has undrained remote frees",
                    );
                }
            }
            // Relaxed: acquired by `peek`, or linked by the lease holder.
            at = super::news_link(page).load(std::sync::atomic::Ordering::Relaxed);
        }
    };
    visit(heap.news().peek());
    visit(heap.pending.get());
}
