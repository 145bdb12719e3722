//! The remote word that a thread wrote last, so that the next free into the same page needn't read it.
//!
//! A load from a line that a locked instruction has just written waits for that instruction, and the next one waits for the load:
//! a thread that frees another's blocks page by page goes from one to the next in 40 cycles, 30 of them waiting. With the
//! word at hand the compare-and-swap itself tells whether it still is the page's. `docs/decisions/002-remote-word.md`
//! has the figures.

use crate::free_list::remote::RemoteWord;
use crate::page::descriptor::{Descriptor, PageRef};
use std::cell::Cell;
use std::ptr;

/// A guess at one page's word. A signal handler may come between page and word, and leave those of different pages: then the guess is
/// wrong, as it is when another thread freed into the page or its owner drained it, and costs a compare-and-swap in vain.
pub struct LastRemote {
    page: Cell<*const Descriptor>,
    word: Cell<RemoteWord>,
}

impl LastRemote {
    /// None. All zero.
    pub const fn new() -> Self {
        Self {
            page: Cell::new(ptr::null()),
            word: Cell::new(RemoteWord::IDLE),
        }
    }

    /// What the word of `page` probably is, if that page was the last.
    #[inline(always)]
    pub fn word_of(&self, page: PageRef) -> Option<RemoteWord> {
        ptr::eq(self.page.get(), page).then(|| self.word.get())
    }

    /// Notes the page that the thread is about to write the word of.
    #[inline(always)]
    pub fn begin(&self, page: PageRef) {
        self.page.set(page);
    }

    /// Notes what the thread wrote.
    #[inline(always)]
    pub fn note(&self, page: PageRef, word: RemoteWord) {
        self.page.set(page);
        self.word.set(word);
    }

    /// As [`LastRemote::note`], for the page noted already.
    #[inline(always)]
    pub fn note_word(&self, word: RemoteWord) {
        self.word.set(word);
    }
}
