//! The page registry: the descriptor of any address, without a lock.
//!
//! A static first level is indexed by `address >> 32`; each entry points to an array of 65,536 descriptors, one per
//! slice of those 4 GiB, reserved on first use and resident only where pages are. A look-up is one load and
//! arithmetic; an address outside all arenas and mappings of ours finds no array, or a descriptor that isn't in use.
//! Arrays are published by compare-and-swap and never unmapped, so a racing look-up finds the old state or the new.

use crate::sync::{AtomicPtr, Ordering};

/// One entry of the first level: an array that is made once.
pub struct Entry<T>(AtomicPtr<T>);

impl<T> Entry<T> {
    /// No array yet.
    #[cfg(not(loom))]
    pub const fn empty() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// No array yet.
    #[cfg(loom)]
    pub fn empty() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The array, or null.
    #[inline(always)]
    pub fn get(&self) -> *mut T {
        // Acquire pairs with the Release of `get_or_make`. It costs nothing on x86-64.
        self.0.load(Ordering::Acquire)
    }

    /// The array, made by `make` if there is none; a thread that loses the race hands its own to `unmake`.
    pub fn get_or_make(
        &self,
        make: impl FnOnce() -> Option<*mut T>,
        unmake: impl FnOnce(*mut T),
    ) -> Option<*mut T> {
        let there = self.get();
        if !there.is_null() {
            return Some(there);
        }
        let made = make()?;
        // Release publishes the array's contents; Acquire on failure pairs with the winner's Release.
        match self.0.compare_exchange(
            std::ptr::null_mut(),
            made,
            Ordering::Release,
            Ordering::Acquire,
        ) {
            Ok(_) => Some(made),
            Err(winner) => {
                unmake(made);
                Some(winner)
            }
        }
    }
}

#[cfg(native)]
pub use directory::*;

#[cfg(native)]
mod directory {
    use super::Entry;
    use crate::os;
    use crate::page::descriptor::{Descriptor, PageRef};
    use crate::page::shared_line::Kind;
    use crate::size_class::BinOffset;
    use crate::units::{SLICE_SHIFT, SliceCount};
    use std::ptr::NonNull;

    /// User addresses have at most 47 bits on x86-64 and 48 on AArch64, unless a program asks for higher ones by
    /// address, which this allocator doesn't.
    pub const ADDRESS_BITS: u32 = if cfg!(target_arch = "aarch64") {
        48
    } else {
        47
    };
    const ARRAY_SHIFT: u32 = 32;
    const ENTRIES: usize = 1 << (ADDRESS_BITS - ARRAY_SHIFT);
    const ARRAY_SLICES: usize = 1 << (ARRAY_SHIFT - SLICE_SHIFT);
    const ARRAY_BYTES: usize = ARRAY_SLICES * size_of::<Descriptor>();

    static DIRECTORY: [Entry<Descriptor>; ENTRIES] = [const { Entry::empty() }; ENTRIES];

    /// The descriptor of the page that `address` lies in, by the marks of its slices; `None` where no page ever was.
    /// What is found may be unused: ask its kind or compare its owner.
    #[inline(always)]
    pub fn find(address: usize) -> Option<PageRef> {
        let slice = slice_descriptor(address)?;
        let back = slice.shared().head_distance() as usize;
        // SAFETY: the mark of a slice leads to the head of its page, which lies in the same array: see `mark`.
        // (A huge page that spans arrays has no marks in its other slices.)
        Some(unsafe { NonNull::from(slice).byte_sub(back).as_ref() })
    }

    /// The descriptor of the slice itself.
    #[inline(always)]
    pub fn slice_descriptor(address: usize) -> Option<PageRef> {
        in_array(DIRECTORY.get(address >> ARRAY_SHIFT)?, address)
    }

    /// The descriptor of the slice in an array, if that has been made.
    #[inline(always)]
    fn in_array(entry: &Entry<Descriptor>, address: usize) -> Option<PageRef> {
        let array = NonNull::new(entry.get())?;
        let index = (address >> SLICE_SHIFT) % ARRAY_SLICES;
        // SAFETY: a published array has ARRAY_SLICES descriptors, zeroed memory is a valid one, and it is never
        // unmapped.
        Some(unsafe { array.add(index).as_ref() })
    }

    /// Makes sure that every slice of a range has a descriptor; false when the system refuses the memory.
    pub fn cover(start: NonNull<u8>, bytes: usize) -> bool {
        let first = start.addr().get() >> ARRAY_SHIFT;
        let last = (start.addr().get() + bytes - 1) >> ARRAY_SHIFT;
        (first..=last).all(|index| {
            DIRECTORY.get(index).is_some_and(|entry| {
                let mut made = None;
                let make = || {
                    let array = os::reserve(ARRAY_BYTES, 128, c"millpond registry")?;
                    let base = array.base().cast::<Descriptor>().as_ptr();
                    made = Some(array);
                    Some(base)
                };
                let mut lost = false;
                let array = entry.get_or_make(make, |_| lost = true);
                // The winner's array lives for ever; a loser's reservation is dropped and so unmapped.
                if !lost {
                    std::mem::forget(made.take());
                }
                array.is_some()
            })
        })
    }

    /// What the slice of an address says of its page's bin: for a fast look. Any address may be asked for, and one that
    /// isn't ours may get the answer of another one's slice: who uses it compares the block with the bin's page.
    #[cfg(preload)]
    #[inline(always)]
    pub fn bin_of(address: usize) -> Option<BinOffset> {
        let entry = &DIRECTORY[(address >> ARRAY_SHIFT) % ENTRIES];
        Some(in_array(entry, address)?.shared().bin())
    }

    /// Marks the slices behind the head of a page with its bin, or takes the marks back. Only for pages with blocks that
    /// start there: arenas are aligned such that these never span two arrays.
    pub fn mark(head: PageRef, slices: SliceCount, bin: Option<BinOffset>) {
        for slice in 1..slices.0 {
            // SAFETY: the page lies in one array, see above.
            let tail = unsafe { NonNull::from(head).add(slice as usize).as_ref() };
            let distance = slice * size_of::<Descriptor>() as u32;
            match bin {
                Some(bin) => tail.shared().mark(distance, bin),
                None => tail.shared().mark(0, BinOffset::NONE),
            }
        }
    }

    /// The page in use whose first byte is `address`.
    #[inline]
    pub fn find_start(address: usize) -> Option<PageRef> {
        let page = slice_descriptor(address)?;
        (page.shared().kind() != Kind::None && page.shared().start().addr() == address)
            .then_some(page)
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    /// Two threads need the same array at once: both get the same one, the other is unmade, and its contents are
    /// visible to a reader that only looks.
    #[test]
    fn one_array_wins() {
        loom::model(|| {
            let entry = Arc::new(Entry::<loom::cell::UnsafeCell<u32>>::empty());
            let need = |entry: &Entry<loom::cell::UnsafeCell<u32>>| {
                let make = || Some(Box::into_raw(Box::new(loom::cell::UnsafeCell::new(7))));
                // SAFETY: the loser's array was made by its `make` and published to nobody.
                let unmake = |array| drop(unsafe { Box::from_raw(array) });
                let array = entry.get_or_make(make, unmake).unwrap();
                // SAFETY: published arrays live until the end of the model.
                assert_eq!(unsafe { (*array).with(|value| *value) }, 7);
                array.addr()
            };
            let (a, b) = (entry.clone(), entry.clone());
            let first = loom::thread::spawn(move || need(&a));
            let second = loom::thread::spawn(move || need(&b));
            let seen = entry.get();
            if !seen.is_null() {
                // SAFETY: as above.
                assert_eq!(unsafe { (*seen).with(|value| *value) }, 7);
            }
            assert_eq!(first.join().unwrap(), second.join().unwrap());
            // SAFETY: the one published array, and nobody uses it any more.
            drop(unsafe { Box::from_raw(entry.get()) });
        });
    }
}
