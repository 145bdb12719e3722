//! The news stack of a heap, and its lease.
//!
//! One atomic pointer holds both: the top of the stack of pages with remote frees, and in bit 0 whether somebody holds
//! the heap. Whoever sets the bit holds the lease: a live thread for as long as it lives, an adopter or a servant for
//! a moment. Since one compare-and-swap covers both parts, a lease can't be given up while news has arrived that
//! nobody will look at: the exit's swap fails, or the pusher finds the lease free, takes it and serves the heap itself.
//!
//! The stack is pushed to by anyone and taken whole, never popped one by one: no ABA.

use crate::sync::{AtomicPtr, Ordering};
use std::ptr;

/// A page that can stand on a news stack. The link belongs to whoever holds the page's token, and to the lease
/// holder once the page is taken.
pub trait Announced {
    /// The link to the page below.
    fn news_next(&self) -> &AtomicPtr<Self>
    where
        Self: Sized;
}

const LEASED: usize = 1;

/// The news stack and lease of one heap.
pub struct News<P>(AtomicPtr<P>);

fn is_leased<P>(top: *mut P) -> bool {
    top.addr() & LEASED != 0
}

fn leased<P>(top: *mut P) -> *mut P {
    top.map_addr(|address| address | LEASED)
}

fn page<P>(top: *mut P) -> *mut P {
    top.map_addr(|address| address & !LEASED)
}

impl<P: Announced> News<P> {
    /// No news, and the lease taken by the caller.
    #[cfg(not(loom))]
    pub const fn new_leased() -> Self {
        // Only the tag: no page is behind it.
        Self(AtomicPtr::new(ptr::without_provenance_mut(LEASED)))
    }

    /// No news, and the lease taken by the caller.
    #[cfg(loom)]
    pub fn new_leased() -> Self {
        Self(AtomicPtr::new(leased(ptr::null_mut())))
    }

    /// Announces a page whose token the caller holds. True: nobody held the heap, the caller does now and must serve
    /// it and give the lease up again.
    ///
    /// # Safety
    /// `announced` points to a live page, stays valid for as long as it stands here, and its token is the caller's.
    #[must_use]
    pub unsafe fn push(&self, announced: *mut P) -> bool {
        // Relaxed: validated by the compare-and-swap; the pages below are not looked at.
        let mut top = self.0.load(Ordering::Relaxed);
        loop {
            // SAFETY: the caller vouches for the page. Relaxed: published by the Release below.
            unsafe { (*announced).news_next() }.store(page(top), Ordering::Relaxed);
            // Release publishes the link to the Acquire of `take`; Acquire pairs with the Release of `try_unlease`,
            // for the case that this push takes the lease: the heap's former holder is finished with it.
            match self.0.compare_exchange_weak(
                top,
                leased(announced),
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return !is_leased(top),
                Err(now) => top = now,
            }
        }
    }

    /// Whether there is no news right now.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Relaxed: a hint; who needs the pages calls `take`.
        page(self.0.load(Ordering::Relaxed)).is_null()
    }

    /// The first announced page, for walks by the lease holder: only it takes pages off, so what stands here stays.
    pub fn peek(&self) -> *mut P {
        // Acquire pairs with the Release of `push`: the links are followed.
        page(self.0.load(Ordering::Acquire))
    }

    /// Takes all news; the first page, or null. Only by the lease holder.
    pub fn take(&self) -> *mut P {
        if self.is_empty() {
            return ptr::null_mut();
        }
        // Acquire pairs with the Release of `push`: the links are followed next.
        page(self.0.swap(leased(ptr::null_mut()), Ordering::Acquire))
    }

    /// Takes the lease of a heap that nobody holds. Never waits.
    #[must_use]
    pub fn try_lease(&self) -> bool {
        // A free lease means no news: a push onto a free heap takes the lease along.
        // Acquire pairs with the Release of `try_unlease`.
        self.0
            .compare_exchange(
                ptr::null_mut(),
                leased(ptr::null_mut()),
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Gives the lease up, unless news has arrived. Only by the lease holder.
    #[must_use]
    pub fn try_unlease(&self) -> bool {
        // Release hands everything the holder did to the next one (`try_lease` or `push`, Acquire).
        self.0
            .compare_exchange(
                leased(ptr::null_mut()),
                ptr::null_mut(),
                Ordering::Release,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// Whether somebody holds the heap right now; out of date at once.
    pub fn is_leased(&self) -> bool {
        // Relaxed: a hint for statistics.
        is_leased(self.0.load(Ordering::Relaxed))
    }
}

/// A heap that is served through its lease.
pub trait Leased {
    /// Its pages.
    type Page: Announced;

    /// Its news stack.
    fn news(&self) -> &News<Self::Page>;

    /// Settles all its news. Called by the lease holder only.
    fn serve(&self);

    /// Gives the lease up. News that arrives meanwhile is served first: each round means that another thread got a
    /// page onto the stack, so some thread always makes progress, and nobody waits.
    fn unlease(&self) {
        while !self.news().try_unlease() {
            self.serve();
        }
    }
}

/// Visits at most `limit` pages of the taken stack that starts with `first`, and returns the rest. The link is read
/// before the visit, which may hand the page's token back to other threads.
///
/// # Safety
/// `first` came from [`News::take`] (or is a rest of it), and the caller still holds the lease.
pub unsafe fn visit<P: Announced>(
    first: *mut P,
    limit: usize,
    mut each: impl FnMut(*mut P),
) -> *mut P {
    let mut at = first;
    for _ in 0..limit {
        if at.is_null() {
            break;
        }
        // SAFETY: the page's token is out, so the page exists. Relaxed: `take` acquired the whole stack.
        let next = unsafe { (*at).news_next() }.load(Ordering::Relaxed);
        each(at);
        at = next;
    }
    at
}
