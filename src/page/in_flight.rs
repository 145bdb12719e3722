//! Debug builds: the threads that are at freeing a block into a page remotely, counted in the page's shared line, so
//! that a walk can tell a token on its way to the news from one that is lost. Nothing in release builds.

/// How many threads are between the start of a remote free into the page and the end of the push that announces it.
#[derive(Debug)]
pub struct InFlight(#[cfg(debug_assertions)] crate::sync::AtomicU32);

impl InFlight {
    /// None.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(
            #[cfg(debug_assertions)]
            crate::sync::AtomicU32::new(0),
        )
    }
}

#[cfg(not(debug_assertions))]
impl InFlight {
    /// Before the compare-and-swap on the remote word.
    #[inline(always)]
    pub fn enter(&self) {}

    /// After the page is announced, if this free had to.
    #[inline(always)]
    pub fn leave(&self) {}
}

#[cfg(debug_assertions)]
impl InFlight {
    /// Before the compare-and-swap on the remote word.
    pub fn enter(&self) {
        // Relaxed: the compare-and-swap that follows publishes it (Release) to whoever sees the freed block (Acquire).
        self.0.fetch_add(1, crate::sync::Ordering::Relaxed);
    }

    /// After the page is announced, if this free had to. The page may be another's by now, or no page any more; the
    /// count is the descriptor's, which lives for ever.
    pub fn leave(&self) {
        // Release pairs with the Acquire of `nobody`.
        self.0.fetch_sub(1, crate::sync::Ordering::Release);
    }

    /// No freer is at it: for a caller that has acquired a value of the page's remote word, whoever pushed what that
    /// value tells of has announced the page, and a look at the news finds it.
    #[cfg(not(loom))]
    pub fn nobody(&self) -> bool {
        // Acquire pairs with the Release of `leave`.
        self.0.load(crate::sync::Ordering::Acquire) == 0
    }
}

/// Tests: loses an announcement, to see the walk find the page.
#[cfg(all(debug_assertions, native))]
mod loss {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    static NEXT: AtomicBool = AtomicBool::new(false);

    /// The next page that any thread would announce to its owner isn't.
    pub fn lose_next_news() {
        NEXT.store(true, Relaxed);
    }

    /// Whether the page at hand is the one.
    pub fn is_lost() -> bool {
        NEXT.load(Relaxed) && NEXT.swap(false, Relaxed)
    }
}

#[cfg(not(all(debug_assertions, native)))]
mod loss {
    #[inline(always)]
    pub fn is_lost() -> bool {
        false
    }
}

pub use loss::*;
