//! News that a heap's holder has taken and not settled yet: pages over a refill's limit, pages whose last freer is still
//! discarding the contents, and pages that were handed to the heap.

use super::news::{Announced, News, visit};
use crate::sync::{Ordering, OwnedCell};
use std::ptr;

/// The pending news of one heap, linked like the news. Part of what the lease protects.
pub struct Pending<P>(OwnedCell<*mut P>);

impl<P: Announced> Pending<P> {
    /// Nothing pending.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self(OwnedCell::new(ptr::null_mut()))
    }

    /// Nothing pending.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(OwnedCell::new(ptr::null_mut()))
    }

    /// The first page, for walks by the lease holder.
    ///
    /// # Safety
    /// The caller holds the heap's lease.
    pub unsafe fn first(&self) -> *mut P {
        // SAFETY: the caller is the only one to touch the cell.
        unsafe { self.0.get() }
    }

    fn take(&self) -> *mut P {
        // SAFETY: only called by `settle`, whose caller is the only one to touch the cell.
        unsafe {
            let first = self.0.get();
            self.0.set(ptr::null_mut());
            first
        }
    }

    /// Puts a page in front.
    ///
    /// # Safety
    /// The caller holds the heap's lease, and the token of the page, which stays valid for as long as it stands here.
    pub unsafe fn add(&self, page: *mut P) {
        // SAFETY: the caller vouches for the page, and is the only one to touch the cell. Relaxed: whoever holds the
        // token owns the link.
        unsafe {
            (*page).news_next().store(self.0.get(), Ordering::Relaxed);
            self.0.set(page);
        }
    }

    /// Calls `settle` for at most `limit` pages, the pending ones first and then the news. Those it answers false for
    /// stay pending, in front of what is left. The number of pages looked at.
    ///
    /// # Safety
    /// The caller holds the heap's lease, and `news` is the same heap's.
    pub unsafe fn settle(
        &self,
        news: &News<P>,
        limit: usize,
        mut settle: impl FnMut(*mut P) -> bool,
    ) -> usize {
        let mut seen = 0;
        let mut first = self.take();
        let (mut kept, mut last_kept) = (ptr::null_mut::<P>(), ptr::null_mut::<P>());
        loop {
            if first.is_null() {
                first = news.take();
            }
            if first.is_null() || seen >= limit {
                break;
            }
            let limit = limit - seen;
            let each = |page: *mut P| {
                seen += 1;
                if !settle(page) {
                    // SAFETY: the page's token is out still, so the link is the lease holder's, hence Relaxed.
                    unsafe { (*page).news_next() }.store(kept, Ordering::Relaxed);
                    kept = page;
                    if last_kept.is_null() {
                        last_kept = page;
                    }
                }
            };
            // SAFETY: taken from this heap's news, or pending, which is the same to the lease holder.
            first = unsafe { visit(first, limit, each) };
        }
        if !kept.is_null() {
            // SAFETY: as above, the link of a page whose token is out.
            unsafe { (*last_kept).news_next() }.store(first, Ordering::Relaxed);
            first = kept;
        }
        // SAFETY: as above.
        unsafe { self.0.set(first) };
        seen
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::sync::AtomicPtr;
    use std::sync::Arc;

    struct Node {
        next: AtomicPtr<Node>,
        looked_at: OwnedCell<u32>,
    }

    // SAFETY: the cells are the lease holder's, which is what the model checks.
    unsafe impl Send for Node {}
    // SAFETY: as above.
    unsafe impl Sync for Node {}

    impl Announced for Node {
        fn news_next(&self) -> &AtomicPtr<Self> {
            &self.next
        }
    }

    /// Three pages, one of them announced meanwhile, are settled two at a time; the first look at each keeps it
    /// pending.
    #[test]
    fn what_is_kept_or_over_the_limit_is_not_lost() {
        loom::model(|| {
            let nodes: Arc<Vec<Node>> = Arc::new(
                (0..3)
                    .map(|_| Node {
                        next: AtomicPtr::new(ptr::null_mut()),
                        looked_at: OwnedCell::new(0),
                    })
                    .collect(),
            );
            let news = Arc::new(News::new_leased());
            let page = |node: &Node| ptr::from_ref(node).cast_mut();
            let pending = Pending::new();
            let (their_news, their_nodes) = (news.clone(), nodes.clone());
            let other = loom::thread::spawn(move || {
                // SAFETY: the page is announced once.
                unsafe { their_news.push(page(&their_nodes[0])) }
            });
            let look = |node: *mut Node| {
                // SAFETY: the pages live until the end; loom checks that the caller is alone.
                unsafe {
                    let count = (*node).looked_at.get() + 1;
                    (*node).looked_at.set(count);
                    count == 2
                }
            };
            // SAFETY: this thread holds the lease, and these pages are on no other list.
            unsafe {
                pending.add(page(&nodes[1]));
                pending.add(page(&nodes[2]));
                assert_eq!(pending.settle(&news, 2, look), 2);
                assert!(!other.join().unwrap());
                while pending.settle(&news, 2, look) > 0 {}
                assert!(pending.first().is_null() && news.is_empty());
                for node in nodes.iter() {
                    assert_eq!(node.looked_at.get(), 2);
                }
            }
        });
    }
}
