//! `GlobalAlloc`: where a `Layout` becomes a size class.

use crate::page::descriptor::PageRef;
use crate::page::shared_line::Kind;
use crate::size_class::{
    MAX_BINNED, MAX_BINNED_ALIGN, MAX_SMALL, MAX_SMALL_ALIGN, MEDIUM_ALIGN, SizeClass,
};
use crate::thread_heap::foreign::foreign;
use crate::thread_heap::single::MAX_PAGED;
use crate::thread_heap::{alloc, free, unclassed};
use crate::{Millpond, arena::registry};
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

// With fibers that move between threads, these must stay calls: inlined into a function that is suspended and goes on
// elsewhere, a compiler may keep the address of the thread's slot over the switch (`pool/memory.rs` has the argument,
// and why a call is enough).
// SAFETY: blocks are disjoint, aligned and at least as large as asked for (the size classes' property tests), stay
// valid until freed whichever thread exits, and nothing here unwinds.
unsafe impl GlobalAlloc for Millpond {
    #[cfg_attr(feature = "migrating-fibers", inline(never))]
    #[cfg_attr(not(feature = "migrating-fibers"), inline)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_SMALL {
            if layout.size() > MAX_BINNED {
                return alloc::allocate_any(layout.size(), layout.align());
            }
            if layout.align() > MEDIUM_ALIGN {
                return alloc::allocate_aligned(layout.size(), layout.align());
            }
            return alloc::allocate_medium(layout.size());
        }
        if layout.align() > MAX_SMALL_ALIGN {
            return alloc::allocate_aligned(layout.size(), layout.align());
        }
        alloc::allocate_small(layout.size())
    }

    #[cfg_attr(feature = "migrating-fibers", inline(never))]
    #[cfg_attr(not(feature = "migrating-fibers"), inline)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() <= MAX_SMALL && layout.align() <= MAX_SMALL_ALIGN {
            alloc::allocate_small_zeroed(layout.size())
        } else {
            alloc::allocate_any_zeroed(layout.size(), layout.align())
        }
    }

    #[cfg_attr(feature = "migrating-fibers", inline(never))]
    #[cfg_attr(not(feature = "migrating-fibers"), inline)]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: GlobalAlloc's contract: `ptr` came from `alloc`, which never returned null for it.
        let block = unsafe { NonNull::new_unchecked(ptr) };
        // SAFETY, for all three: the contract: the layout is that of the allocation, and the block is given up.
        if layout.size() > MAX_SMALL {
            return if layout.size() <= MAX_BINNED {
                // SAFETY: see above.
                unsafe { free::free_medium(block, layout.size()) }
            } else {
                // SAFETY: see above.
                unsafe { free::free_unclassed(block) }
            };
        }
        // SAFETY: see above.
        unsafe { free::free_small(block, layout.size()) }
    }

    #[cfg_attr(feature = "migrating-fibers", inline(never))]
    #[cfg_attr(not(feature = "migrating-fibers"), inline)]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let class = SizeClass::of(layout.size(), layout.align());
        if class.is_some() && class == SizeClass::of(new_size, layout.align()) {
            // The block is at least as large as its layout's class.
            return ptr;
        }
        // SAFETY: passed on.
        unsafe { resize(self, ptr, layout, new_size) }
    }
}

/// A `realloc` that changes the class.
///
/// # Safety
/// As for `GlobalAlloc::realloc`.
#[cold]
#[inline(never)]
unsafe fn resize(this: &Millpond, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
    // SAFETY: as in `dealloc`.
    let block = unsafe { NonNull::new_unchecked(ptr) };
    // SAFETY: the block is the caller's.
    match unsafe { resize_in_place(block, new_size, layout.align()) } {
        Resized::Done(resized) => return resized.as_ptr(),
        Resized::Copy(usable) => debug_assert!(layout.size() <= usable),
        Resized::Foreign => foreign(block),
    }
    // SAFETY: realloc's contract: the new size, rounded up to the alignment, doesn't overflow.
    let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
    // SAFETY: the sizes are those of the two blocks, which are disjoint; the old one is the caller's to free.
    unsafe {
        let new = this.alloc(new_layout);
        if !new.is_null() {
            new.copy_from_nonoverlapping(ptr, layout.size().min(new_size));
            this.dealloc(ptr, layout);
        }
        new
    }
}

/// What became of a block whose size was to change.
pub enum Resized {
    /// It has the new size, and starts here.
    Done(NonNull<u8>),
    /// It is as it was, with so many usable bytes: the contents have to be copied.
    Copy(usize),
    /// It is no block.
    Foreign,
}

/// Changes the size of a block without copying, where that can be.
///
/// # Safety
/// `block` is a live block of the caller's, whose alignment is `align`, or no block at all.
pub unsafe fn resize_in_place(block: NonNull<u8>, new_size: usize, align: usize) -> Resized {
    let Some(page) = page_of(block) else {
        return Resized::Foreign;
    };
    let bytes = page.shared().block_bytes();
    let resized = match page.shared().kind() {
        // Smaller, but not by so much that a smaller block would be worth a copy.
        Kind::Binned => (new_size <= bytes && new_size >= bytes / 2).then_some(block),
        // Slices are too much for what has a page elsewhere. (Above its alignment nothing has.)
        Kind::Large if new_size <= MAX_PAGED && align <= MAX_BINNED_ALIGN => None,
        // SAFETY: the block is the caller's.
        Kind::Large | Kind::Huge => unsafe { unclassed::resize(page, new_size, align) },
        Kind::None => return Resized::Foreign,
    };
    resized.map_or(Resized::Copy(bytes), Resized::Done)
}

/// The bytes that a block can hold; `None` for what is no block.
#[cfg(preload)]
pub fn size_of_block(block: NonNull<u8>) -> Option<usize> {
    page_of(block).map(|page| page.shared().block_bytes())
}

/// The page that holds a live block.
fn page_of(block: NonNull<u8>) -> Option<PageRef> {
    registry::find(block.addr().get()).filter(|page| page.shared().kind() != Kind::None)
}

/// See [`crate::usable_size`].
pub fn usable_size(block: NonNull<u8>) -> usize {
    match page_of(block) {
        Some(page) => page.shared().block_bytes(),
        None => foreign(block),
    }
}
