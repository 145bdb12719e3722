//! Fibers that other threads woke, on their way to their worker: pushed one by one or as a chain, taken all at once, so
//! that no pop reads the link of a record it doesn't own.

use crate::atomics::{AtomicPtr, Ordering};
use crate::task::Header;
use std::ptr::{self, NonNull};

/// What can stand in an inbox.
pub trait Linked {
    /// The link, the queue's while the record stands there.
    fn next(&self) -> &AtomicPtr<Self>
    where
        Self: Sized;
}

impl Linked for Header {
    fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

/// A stack with many pushers and one taker.
pub struct Inbox<T: Linked> {
    top: AtomicPtr<T>,
}

impl<T: Linked> Inbox<T> {
    /// Empty.
    pub fn new() -> Self {
        Self {
            top: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Whether nothing stands there, as far as the caller can see.
    pub fn is_empty(&self) -> bool {
        self.top.load(Ordering::Relaxed).is_null()
    }

    /// Puts a chain from `first`, which is taken first, to `last` there; `first` may be `last`.
    pub fn push(&self, first: NonNull<T>, last: NonNull<T>) {
        // A stack turns the order round, so the chain's far end comes out last: see `take`.
        let mut top = self.top.load(Ordering::Relaxed);
        loop {
            // SAFETY: the pusher owns the chain until it is there.
            unsafe { last.as_ref() }
                .next()
                .store(top, Ordering::Relaxed);
            // Release: the taker follows the links, and sees what was done before the push.
            match self.top.compare_exchange_weak(
                top,
                first.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => top = now,
            }
        }
    }

    /// Takes all there is, what was pushed last first; calls `take` with each.
    pub fn take(&self, mut take: impl FnMut(NonNull<T>)) {
        // Acquire: see `push`.
        let mut next = self.top.swap(ptr::null_mut(), Ordering::Acquire);
        while let Some(record) = NonNull::new(next) {
            // SAFETY: what was taken is the taker's alone. Read before `take`, which may use the link again.
            next = unsafe { record.as_ref() }.next().load(Ordering::Relaxed);
            take(record);
        }
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    struct Record {
        next: AtomicPtr<Record>,
        value: loom::cell::UnsafeCell<u32>,
    }

    impl Linked for Record {
        fn next(&self) -> &AtomicPtr<Self> {
            &self.next
        }
    }

    fn record(value: u32) -> NonNull<Record> {
        let record = Record {
            next: AtomicPtr::new(ptr::null_mut()),
            value: loom::cell::UnsafeCell::new(value),
        };
        NonNull::from(Box::leak(Box::new(record)))
    }

    /// Two pushers, one of a chain, and a taker: each record comes out once, with what its pusher wrote.
    #[test]
    fn nothing_is_lost() {
        loom::model(|| {
            let inbox = Arc::new(Inbox::<Record>::new());
            let (one, two) = (inbox.clone(), inbox.clone());
            let first = thread::spawn(move || {
                let record = record(1);
                one.push(record, record);
            });
            let second = thread::spawn(move || {
                let (a, b) = (record(2), record(4));
                // SAFETY: not shared yet.
                unsafe { a.as_ref() }
                    .next
                    .store(b.as_ptr(), Ordering::Relaxed);
                two.push(a, b);
            });
            let mut sum = 0;
            let mut add = |record: NonNull<Record>| {
                // SAFETY: taken once, and leaked by `record`.
                let record = unsafe { Box::from_raw(record.as_ptr()) };
                sum += record.value.with(|value| unsafe { *value });
            };
            inbox.take(&mut add);
            first.join().unwrap();
            second.join().unwrap();
            inbox.take(&mut add);
            assert_eq!(sum, 7);
        });
    }
}
