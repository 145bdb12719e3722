//! Queues of a heap's pages: doubly linked through the descriptors' owner lines, first in, first out.

use super::descriptor::{OwnedLine, PageRef};
use std::cell::Cell;

/// A queue; all zero is empty.
pub struct PageQueue {
    first: Cell<Option<PageRef>>,
    last: Cell<Option<PageRef>>,
}

/// The links of a queued page.
fn links(page: PageRef) -> &'static OwnedLine {
    // SAFETY: a queue belongs to a heap, holds pages of that heap only, and is touched by its lease holder only.
    unsafe { page.owned() }
}

impl PageQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            first: Cell::new(None),
            last: Cell::new(None),
        }
    }

    /// The page that was pushed first.
    #[inline]
    pub fn first(&self) -> Option<PageRef> {
        self.first.get()
    }

    /// The page that was pushed last.
    #[inline]
    pub fn last(&self) -> Option<PageRef> {
        self.last.get()
    }

    /// Appends a page that stands in no queue.
    pub fn push(&self, page: PageRef) {
        let last = self.last.replace(Some(page));
        links(page).prev.set(last);
        links(page).next.set(None);
        match last {
            Some(last) => links(last).next.set(Some(page)),
            None => self.first.set(Some(page)),
        }
    }

    /// Takes a page out that stands in this queue.
    pub fn remove(&self, page: PageRef) {
        let (prev, next) = (links(page).prev.take(), links(page).next.take());
        match prev {
            Some(prev) => links(prev).next.set(next),
            None => self.first.set(next),
        }
        match next {
            Some(next) => links(next).prev.set(prev),
            None => self.last.set(prev),
        }
    }

    /// Takes the page out that was pushed first.
    pub fn pop(&self) -> Option<PageRef> {
        let page = self.first.get()?;
        // As `remove`, of a page with none before it.
        let next = links(page).next.take();
        self.first.set(next);
        match next {
            Some(next) => links(next).prev.set(None),
            None => self.last.set(None),
        }
        Some(page)
    }

    /// Takes the page out that was pushed last: the one most likely in the cache.
    pub fn pop_last(&self) -> Option<PageRef> {
        let page = self.last.get()?;
        self.remove(page);
        Some(page)
    }

    /// The pages, first to last. The page at hand may be removed meanwhile.
    pub fn iter(&self) -> impl Iterator<Item = PageRef> {
        let mut at = self.first.get();
        std::iter::from_fn(move || {
            let page = at?;
            at = links(page).next.get();
            Some(page)
        })
    }
}
