//! The page registry: the descriptor of any address, without a lock.
//!
//! The first arena that is fenced, in which mostly everything lies, has an array of descriptors of its own: the
//! [`Span`]. A look-up there is an addition, a comparison and arithmetic.
//!
//! For all other addresses a static first level is indexed by `address >> 30`; each entry points to an array of 16,384
//! descriptors, one per slice of that GiB, reserved on first use and resident only where pages are. An address outside
//! all arenas and mappings of ours finds no array, or a descriptor that isn't in use. Arrays are published by
//! compare-and-swap and never unmapped, so a racing look-up finds the old state or the new.

use crate::sync::{AtomicPtr, AtomicUsize, Ordering};
use crate::units::SLICE_SHIFT;
use std::ptr::NonNull;

/// Consecutive slices, with an item for each.
#[repr(align(64))]
pub struct Span<T> {
    /// The bytes from the base on whose items are accessible. It only grows, and is 0 until the others are there.
    covered: AtomicUsize,
    /// The base, negated: a sum needs no copy of the address, which a difference would overwrite.
    minus_base: AtomicUsize,
    bytes: AtomicUsize,
    items: AtomicPtr<T>,
}

impl<T> Span<T> {
    /// No slices.
    #[cfg(not(loom))]
    pub const fn empty() -> Self {
        Self {
            covered: AtomicUsize::new(0),
            minus_base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            items: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// No slices.
    #[cfg(loom)]
    pub fn empty() -> Self {
        Self {
            covered: AtomicUsize::new(0),
            minus_base: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            items: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    /// The item of an address, if it is accessible.
    #[inline(always)]
    pub fn get(&self, address: usize) -> Option<NonNull<T>> {
        // Acquire pairs with the Release of `cover`: base and items are there, and the item is accessible.
        let covered = self.covered.load(Ordering::Acquire);
        let offset = address.wrapping_add(self.minus_base.load(Ordering::Relaxed));
        if offset < covered {
            let items = self.items.load(Ordering::Relaxed);
            // SAFETY: there is an item for each slice that is covered.
            Some(unsafe { NonNull::new_unchecked(items.add(offset >> SLICE_SHIFT)) })
        } else {
            None
        }
    }

    /// Becomes the span of `bytes` from `base` on; false if it is another's already. Nothing is covered yet.
    pub fn set(&self, base: usize, bytes: usize, items: NonNull<T>) -> bool {
        let null = std::ptr::null_mut();
        // Relaxed: `cover` publishes.
        if self
            .items
            .compare_exchange(null, items.as_ptr(), Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return false;
        }
        self.minus_base
            .store(base.wrapping_neg(), Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        true
    }

    /// Whether there are slices.
    pub fn is_set(&self) -> bool {
        !self.items.load(Ordering::Relaxed).is_null()
    }

    /// How far behind the base an address of the span lies. (An address that isn't in it may be asked for at any time: what is
    /// half set has no bytes.)
    pub fn offset_of(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_add(self.minus_base.load(Ordering::Relaxed));
        (offset < self.bytes.load(Ordering::Relaxed)).then_some(offset)
    }

    /// The items, and of how many bytes. As for [`Span::offset_of`].
    pub fn extent(&self) -> Option<(NonNull<T>, usize)> {
        let items = NonNull::new(self.items.load(Ordering::Relaxed))?;
        Some((items, self.bytes.load(Ordering::Relaxed)))
    }

    /// How many bytes are covered.
    pub fn covered(&self) -> usize {
        self.covered.load(Ordering::Relaxed)
    }

    /// The items of the first `bytes` are accessible now.
    pub fn cover(&self, bytes: usize) {
        // Release: see `get`.
        self.covered.fetch_max(bytes, Ordering::Release);
    }
}

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
    use super::{Entry, Span};
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
    /// An array takes 2 MiB of address space, which counts where that is limited, and the first level 1 MiB, on
    /// AArch64 2.
    const ARRAY_SHIFT: u32 = 30;
    const ENTRIES: usize = 1 << (ADDRESS_BITS - ARRAY_SHIFT);
    const ARRAY_SLICES: usize = 1 << (ARRAY_SHIFT - SLICE_SHIFT);
    const ARRAY_BYTES: usize = ARRAY_SLICES * size_of::<Descriptor>();

    /// The span is covered in steps of so many bytes: for 1 MiB of descriptors.
    const SPAN_STEP: usize = 512 << 20;

    static SPAN: Span<Descriptor> = Span::empty();
    static DIRECTORY: [Entry<Descriptor>; ENTRIES] = [const { Entry::empty() }; ENTRIES];

    /// The descriptor of the page that `address` lies in, by the marks of its slices; `None` where no page ever was.
    /// What is found may be unused: ask its kind or compare its owner.
    #[inline]
    pub fn find(address: usize) -> Option<PageRef> {
        slice_descriptor(address).map(head)
    }

    /// As [`find`], but for addresses in the span only: short, for fast paths.
    #[inline(always)]
    pub fn find_near(address: usize) -> Option<PageRef> {
        near(address).map(head)
    }

    /// The page of a slice.
    #[inline(always)]
    pub fn head(slice: PageRef) -> PageRef {
        let back = slice.shared().head_distance() as usize;
        // SAFETY: the mark of a slice leads to the head of its page, which lies in the same array: see `mark`.
        // (A huge page that spans arrays has no marks in its other slices.)
        unsafe { NonNull::from(slice).byte_sub(back).as_ref() }
    }

    /// The descriptor of a slice of the span.
    #[inline(always)]
    pub fn near(address: usize) -> Option<PageRef> {
        // SAFETY: zeroed memory is a valid descriptor, and the array is never unmapped.
        SPAN.get(address).map(|slice| unsafe { slice.as_ref() })
    }

    /// The descriptor of the slice itself.
    #[inline]
    pub fn slice_descriptor(address: usize) -> Option<PageRef> {
        near(address).or_else(|| far(address))
    }

    fn far(address: usize) -> Option<PageRef> {
        let array = NonNull::new(DIRECTORY.get(address >> ARRAY_SHIFT)?.get())?;
        let index = (address >> SLICE_SHIFT) % ARRAY_SLICES;
        // SAFETY: a published array has ARRAY_SLICES descriptors, zeroed memory is a valid one, and it is never
        // unmapped.
        Some(unsafe { array.add(index).as_ref() })
    }

    /// Makes a new arena the span, if there is none yet: one that will never be unmapped. Best effort; whether it is
    /// the span now.
    pub fn span(start: NonNull<u8>, bytes: usize) -> bool {
        if SPAN.is_set() {
            return false;
        }
        let Some(array) = os::reserve(span_bytes(bytes), 128, c"millpond registry") else {
            return false;
        };
        // What isn't needed yet shall not be charged to the process.
        // SAFETY: nothing uses the new reservation yet.
        unsafe { os::fence(array.base(), array.bytes()) };
        let set = SPAN.set(start.addr().get(), bytes, array.base().cast());
        if set {
            std::mem::forget(array);
        }
        set
    }

    /// The bytes of the descriptors of `bytes` of slices.
    fn span_bytes(bytes: usize) -> usize {
        ((bytes >> SLICE_SHIFT) * size_of::<Descriptor>()).next_multiple_of(os::page_size())
    }

    /// Makes the descriptors of what ends `end` bytes behind the start of the span accessible.
    fn cover_in_span(end: usize) -> bool {
        let covered = SPAN.covered();
        if end <= covered {
            return true;
        }
        let Some((items, bytes)) = SPAN.extent() else {
            return false;
        };
        let target = end.next_multiple_of(SPAN_STEP).min(bytes);
        let (from, to) = (span_bytes(covered), span_bytes(target));
        // SAFETY: the range lies in the reservation, since the target lies in the span. Racing calls overlap, which does
        // no harm.
        let accessible = unsafe { os::commit(items.cast::<u8>().add(from), to - from) };
        if accessible {
            SPAN.cover(target);
        }
        accessible
    }

    /// Makes sure that every slice of a range has a descriptor; false when the system refuses the memory.
    pub fn cover(start: NonNull<u8>, bytes: usize) -> bool {
        if let Some(offset) = SPAN.offset_of(start.addr().get()) {
            return cover_in_span(offset + bytes);
        }
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

    const SLICE: usize = 1 << SLICE_SHIFT;
    const BASE: usize = 7 * SLICE;

    /// A span's slices are made accessible while another thread looks: what it finds is accessible.
    #[test]
    fn a_span_has_what_it_covers() {
        loom::model(|| {
            type Item = loom::cell::UnsafeCell<u32>;
            let items = Arc::new([Item::new(0), Item::new(0)]);
            let span = Arc::new(Span::<Item>::empty());
            let look = |slice: usize| {
                let found = span.get(BASE + slice * SLICE + 1);
                // SAFETY: what is found is an item of the array, and accessible: nobody writes to it any more.
                found.map(|item| unsafe { item.as_ref().with(|value| *value) })
            };
            let maker = {
                let (span, items) = (span.clone(), items.clone());
                loom::thread::spawn(move || {
                    assert!(span.set(BASE, 2 * SLICE, NonNull::from(&items[0])));
                    for slice in 0..2 {
                        // SAFETY: nobody else reaches an item before it is covered.
                        items[slice].with_mut(|value| unsafe { *value = 1 });
                        span.cover((slice + 1) * SLICE);
                    }
                })
            };
            let (second, first) = (look(1), look(0));
            assert!(matches!(first, None | Some(1)) && matches!(second, None | Some(1)));
            assert!(second.is_none() || first.is_some(), "coverage shrank");
            maker.join().unwrap();
            assert_eq!((look(0), look(1)), (Some(1), Some(1)));
            assert!(span.get(BASE - 1).is_none() && span.get(BASE + 2 * SLICE).is_none());
            assert_eq!(span.offset_of(BASE + SLICE), Some(SLICE));
            assert_eq!(span.offset_of(BASE + 2 * SLICE), None);
            assert!(!span.set(0, SLICE, NonNull::from(&items[1])));
        });
    }

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
