//! The news stack of a heap, and its lease.
//!
//! One atomic pointer holds both: the top of the stack of pages with remote frees, and in bit 0 whether somebody holds
//! the heap. Whoever sets the bit holds the lease: a live thread for as long as it lives, an adopter or a servant for
//! a moment. Since one compare-and-swap covers both parts, a lease can't be given up while news has arrived that
//! nobody will look at: the exit's swap fails, or the pusher finds the lease free, takes it and serves the heap itself.
//!
//! The stack is pushed to by anyone and taken whole, never popped one by one: no ABA.

use super::pending::Pending;
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
    #[cfg(any(debug_assertions, loom))]
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

    /// Its pending news.
    fn pending(&self) -> &Pending<Self::Page>;

    /// Settles all its news, what is pending first. Called by the lease holder only.
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

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::page::model::check;
    use crate::sync::OwnedCell;
    use std::sync::Arc;

    /// A page that is announced once, and a heap that counts how often it was served.
    struct Node {
        next: AtomicPtr<Node>,
        served: OwnedCell<u32>,
    }

    struct Heap {
        news: News<Node>,
        pending: Pending<Node>,
        /// On the line of the lease holder: loom reports two services at a time.
        served: OwnedCell<u32>,
        nodes: [Node; 2],
    }

    // SAFETY: the cells are the lease holder's, which is what the models check.
    unsafe impl Send for Heap {}
    // SAFETY: as above.
    unsafe impl Sync for Heap {}

    impl Announced for Node {
        fn news_next(&self) -> &AtomicPtr<Self> {
            &self.next
        }
    }

    impl Leased for Heap {
        type Page = Node;

        fn news(&self) -> &News<Node> {
            &self.news
        }

        fn pending(&self) -> &Pending<Node> {
            &self.pending
        }

        fn serve(&self) {
            // SAFETY: the caller holds the lease, which loom checks.
            unsafe {
                self.pending.settle(&self.news, usize::MAX, |node| {
                    self.count(&*node);
                    true
                });
            }
        }
    }

    impl Heap {
        /// A heap, its lease taken.
        fn new() -> Arc<Self> {
            Arc::new(Self {
                news: News::new_leased(),
                pending: Pending::new(),
                served: OwnedCell::new(0),
                nodes: [0, 1].map(|_| Node {
                    next: AtomicPtr::new(ptr::null_mut()),
                    served: OwnedCell::new(0),
                }),
            })
        }

        fn count(&self, node: &Node) {
            // SAFETY: loom checks that the caller is alone.
            unsafe {
                node.served.set(node.served.get() + 1);
                self.served.set(self.served.get() + 1);
            }
        }

        fn served(&self) -> [u32; 2] {
            // SAFETY: as above.
            [0, 1].map(|index| unsafe { self.nodes[index].served.get() })
        }

        fn leave(&self) {
            self.serve();
            self.unlease();
        }

        /// Announces a page, and serves the heap if nobody else will.
        fn announce(&self, index: usize) {
            let node = ptr::from_ref(&self.nodes[index]).cast_mut();
            // SAFETY: each page is announced by one thread, once.
            if unsafe { self.news.push(node) } {
                self.leave();
            }
        }

        /// Two threads announce a page each while this one runs `holder`.
        fn run(self: &Arc<Self>, holder: impl FnOnce(&Self)) {
            let pushers = [0, 1].map(|index| {
                let heap = self.clone();
                loom::thread::spawn(move || heap.announce(index))
            });
            holder(self);
            for pusher in pushers {
                pusher.join().unwrap();
            }
        }
    }

    /// Who holds the heap sees each announced page once, taken together or one by one.
    #[test]
    fn each_page_is_taken_once() {
        check(4, || {
            let heap = Heap::new();
            heap.run(Leased::serve);
            heap.serve();
            assert_eq!(heap.served(), [1, 1]);
            assert!(heap.news.is_empty() && heap.news.is_leased());
        });
    }

    /// The holder leaves: each page is served, by it or by a pusher that found no holder, and the lease is free in the
    /// end.
    #[test]
    fn no_page_is_stranded_by_an_exit() {
        check(4, || {
            let heap = Heap::new();
            heap.run(Heap::leave);
            assert!(heap.news.is_empty() && heap.news.try_lease());
            assert_eq!(heap.served(), [1, 1]);
        });
    }

    /// Two pushes onto a heap without a holder.
    #[test]
    fn one_of_two_pushers_takes_the_lease() {
        check(4, || {
            let heap = Heap::new();
            assert!(heap.news.try_unlease());
            heap.run(|_| {});
            assert!(heap.news.is_empty() && heap.news.try_lease());
            assert_eq!(heap.served(), [1, 1]);
        });
    }

    /// A thread that looks for a heap and one that serves it for a moment exclude each other.
    #[test]
    fn a_lease_has_one_holder() {
        check(3, || {
            let heap = Heap::new();
            assert!(heap.news.try_unlease());
            let mut tries = 0;
            heap.run(|heap| {
                if heap.news.try_lease() {
                    tries = 1;
                    // SAFETY: loom checks that the caller is alone.
                    unsafe { heap.served.set(heap.served.get() + 1) };
                    heap.leave();
                }
            });
            assert!(heap.news.is_empty() && heap.news.try_lease());
            // SAFETY: as above.
            assert_eq!(unsafe { heap.served.get() }, 2 + tries);
        });
    }
}
