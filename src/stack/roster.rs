//! Records that live for ever and are used again: each is on the list from when it is made, and a flag says whether it
//! is in use. Nothing is ever taken off the list, so walks need no protection, in a signal handler either.

use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::ptr::{self, NonNull};

/// What a record has for the roster.
pub struct Entry<T> {
    /// The record made before it; const after it is listed.
    next: AtomicPtr<T>,
    /// 1 while it is in use.
    used: AtomicU32,
}

impl<T> Entry<T> {
    /// A record that is in use by whoever makes it. (Zeroed memory is one that is not listed yet, too.)
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            used: AtomicU32::new(0),
        }
    }

    /// Part of a record that is never listed.
    #[cfg(not(loom))]
    pub const fn unlisted() -> Self {
        Self {
            next: AtomicPtr::new(ptr::null_mut()),
            used: AtomicU32::new(0),
        }
    }
}

/// A record of a roster.
pub trait Member: Sized + 'static {
    /// Its part that belongs to the roster.
    fn entry(&self) -> &Entry<Self>;
}

/// All records of a kind.
pub struct Roster<T> {
    first: AtomicPtr<T>,
    /// How many are not in use, about: spares a walk in vain.
    unused: AtomicUsize,
}

impl<T: Member> Roster<T> {
    /// No record.
    #[cfg(not(loom))]
    pub const fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            unused: AtomicUsize::new(0),
        }
    }

    /// No record.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self {
            first: AtomicPtr::new(ptr::null_mut()),
            unused: AtomicUsize::new(0),
        }
    }

    /// A record that is the caller's: one that is not in use, or the one that `make` makes.
    pub fn claim(&self, make: impl FnOnce() -> Option<NonNull<T>>) -> Option<&'static T> {
        // Relaxed: a hint. One that is missed is found the next time.
        if self.unused.load(Ordering::Relaxed) > 0 {
            let found = self.iter().find(|record| {
                // Acquire pairs with the Release of `release`: what its last user did.
                let used = &record.entry().used;
                used.load(Ordering::Relaxed) == 0
                    && used
                        .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                        .is_ok()
            });
            if let Some(record) = found {
                self.unused.fetch_sub(1, Ordering::Relaxed);
                return Some(record);
            }
        }
        let made = make()?;
        // SAFETY: the caller's new record, which lives for ever.
        let record = unsafe { made.as_ref() };
        record.entry().used.store(1, Ordering::Relaxed);
        let mut first = self.first.load(Ordering::Relaxed);
        loop {
            record.entry().next.store(first, Ordering::Relaxed);
            // Release publishes the record. Pushed only, never popped: that the list is the same when the swap succeeds
            // is all that matters.
            match self.first.compare_exchange_weak(
                first,
                made.as_ptr(),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(record),
                Err(now) => first = now,
            }
        }
    }

    /// Ends the use of a record that was claimed.
    pub fn release(&self, record: &'static T) {
        // Release: see `claim`. The count may be low for a moment, not high for ever.
        record.entry().used.store(0, Ordering::Release);
        self.unused.fetch_add(1, Ordering::Relaxed);
    }

    /// All records, in use or not.
    pub fn iter(&self) -> impl Iterator<Item = &'static T> {
        // Acquire pairs with the Release of the push; it covers the older records too, which the pusher had seen or
        // that were published by earlier swaps of the same word.
        let mut at = self.first.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: records live for ever, and listed ones are published.
            let record = unsafe { at.as_ref() }?;
            at = record.entry().next.load(Ordering::Relaxed);
            Some(record)
        })
    }

    /// The records that are in use.
    #[cfg(not(loom))]
    pub fn in_use(&self) -> impl Iterator<Item = &'static T> {
        // Relaxed: whoever asks wants numbers.
        self.iter()
            .filter(|record| record.entry().used.load(Ordering::Relaxed) == 1)
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::page::model::check;
    use crate::sync::OwnedCell;
    use std::sync::Arc;

    struct Record {
        entry: Entry<Record>,
        uses: OwnedCell<u32>,
    }

    // SAFETY: the cell is the user's, which is what the model checks.
    unsafe impl Sync for Record {}

    impl Member for Record {
        fn entry(&self) -> &Entry<Self> {
            &self.entry
        }
    }

    fn make() -> Option<NonNull<Record>> {
        let record = Record {
            entry: Entry::new(),
            uses: OwnedCell::new(0),
        };
        Some(NonNull::from(Box::leak(Box::new(record))))
    }

    /// Threads claim, use and release records: one that is in use has one user, and all are listed.
    #[test]
    fn a_record_has_one_user() {
        check(3, || {
            let roster = Arc::new(Roster::new());
            let work = |roster: &Roster<Record>| {
                let record = roster.claim(make).unwrap();
                // SAFETY: loom checks that the caller is alone with it.
                unsafe { record.uses.set(record.uses.get() + 1) };
                roster.release(record);
            };
            work(&roster);
            let others = [0, 1].map(|_| {
                let roster = roster.clone();
                loom::thread::spawn(move || work(&roster))
            });
            for other in others {
                other.join().unwrap();
            }
            // SAFETY: the threads have ended.
            let uses: u32 = roster
                .iter()
                .map(|record| unsafe { record.uses.get() })
                .sum();
            assert_eq!(uses, 3);
            for record in roster.iter().collect::<Vec<_>>() {
                // SAFETY: made by `make`, and nobody uses it any more.
                drop(unsafe { Box::from_raw(ptr::from_ref(record).cast_mut()) });
            }
        });
    }
}
