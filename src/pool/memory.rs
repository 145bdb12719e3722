//! The memory of a record: its layout and its size class, both known at compile time, and the two calls that leave the
//! caller's function.
//!
//! # Why the calls are calls
//!
//! A fiber may be suspended on one thread and resumed on another. The address of a thread-local variable that a
//! compiler computed before the switch is then another thread's, and compilers do keep it: LLVM regards it as constant
//! within a function. So no function that can be suspended may contain the thread-local access. Here:
//!
//! - The access stands in `imp::allocate` and `imp::free` (or, for layouts without a class, in what those call). Both
//!   are `#[inline(never)]`, which LLVM's inliner obeys within a crate, across crates and at link time: not even fat
//!   LTO merges them into their callers.
//! - Neither returns the slot's address, or anything that a caller could turn into it, and both write memory: LLVM
//!   can't take two calls for one, as it may with a function that does no more than return the address.
//! - Neither suspends the fiber: they run nothing of the program's. A value's destructor runs before the call that
//!   frees the memory, not in it.
//!
//! `tests/migration.rs` moves a fiber between its calls, in a program built with fat LTO, and reads the fiber's
//! instructions: no thread-local access is left among them.
//!
//! They are generic for two reasons. The class is a constant in them; and they are compiled in the crate that uses the
//! type, a program as a rule, where the thread-local access is two instructions. In a library it is a call that the
//! linker turns into two, but the registers saved around it stay: 17 instructions more for a record made and dropped.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// What no two records share.
pub const CACHE_LINE: usize = 64;

/// The memory of records that hold a `T`.
pub struct Record<T>(PhantomData<T>);

impl<T> Record<T> {
    /// Whole cache lines; none for a `T` of size 0.
    pub const LAYOUT: Layout = {
        let align = if align_of::<T>() < CACHE_LINE {
            CACHE_LINE
        } else {
            align_of::<T>()
        };
        match Layout::from_size_align(size_of::<T>(), align) {
            Ok(layout) => layout.pad_to_align(),
            Err(_) => panic!("a record of whole cache lines would be larger than isize::MAX"),
        }
    };

    /// Uninitialised memory; `None` when the system has none left.
    #[inline]
    pub fn allocate() -> Option<NonNull<T>> {
        if size_of::<T>() == 0 {
            return Some(NonNull::dangling());
        }
        NonNull::new(imp::allocate::<T>().cast())
    }

    /// Frees the memory, on any thread. What it holds is not dropped.
    ///
    /// # Safety
    /// `place` came from [`Record::allocate`] of a type with the same size and alignment, and is given up.
    #[inline]
    pub unsafe fn free(place: NonNull<T>) {
        if size_of::<T>() != 0 {
            // SAFETY: passed on; there is memory, because the size isn't 0.
            unsafe { imp::free::<T>(place.cast()) }
        }
    }
}

#[cfg(native)]
mod imp {
    use super::Record;
    use crate::size_class::{BinOffset, SizeClass};
    use crate::thread_heap::{alloc, free};
    use std::ptr::NonNull;

    impl<T> Record<T> {
        /// The bin of its class; `None` for what needs a page of its own.
        const BIN: Option<BinOffset> =
            match SizeClass::of(Self::LAYOUT.size(), Self::LAYOUT.align()) {
                Some(class) => Some(class.bin()),
                None => None,
            };
    }

    /// Memory for a type whose size isn't 0; null when there is none left.
    #[inline(never)]
    pub fn allocate<T>() -> *mut u8 {
        match Record::<T>::BIN {
            Some(bin) => alloc::allocate_in_bin(bin),
            None => alloc::allocate_any(Record::<T>::LAYOUT.size(), Record::<T>::LAYOUT.align()),
        }
    }

    /// # Safety
    /// As for [`Record::free`], of a type whose size isn't 0.
    #[inline(never)]
    pub unsafe fn free<T>(place: NonNull<u8>) {
        match Record::<T>::BIN {
            // SAFETY: passed on: the bin follows from the size and the alignment.
            Some(bin) => unsafe { free::free_in_bin(place, bin) },
            // SAFETY: passed on.
            None => unsafe { free::free_unclassed(place) },
        }
    }
}

#[cfg(not(native))]
mod imp {
    use super::Record;
    use std::alloc::{GlobalAlloc, System};
    use std::ptr::NonNull;

    #[inline(always)]
    pub fn allocate<T>() -> *mut u8 {
        // SAFETY: the size isn't 0.
        unsafe { System.alloc(Record::<T>::LAYOUT) }
    }

    /// # Safety
    /// As for [`Record::free`], of a type whose size isn't 0.
    #[inline(always)]
    pub unsafe fn free<T>(place: NonNull<u8>) {
        // SAFETY: passed on: the layout follows from the size and the alignment.
        unsafe { System.dealloc(place.as_ptr(), Record::<T>::LAYOUT) }
    }
}
