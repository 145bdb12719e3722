//! Freeing. The fast path is [`free_small`]: a block of its bin's current page goes onto the bin's list. Otherwise
//! [`free_elsewhere`]: the registry finds the page, and the block goes onto its page's local list, or onto its page's remote
//! list (`free_remote.rs`, which keeps some: `keep.rs`). Above 1 KiB, [`free_recycled_elsewhere`]: mostly it goes onto the bin's list all the same, as recycled.

use super::foreign::{DOUBLE_FREE, foreign};
#[cfg(preload)]
use super::unclassed;
use super::{Heap, follow, free_remote, recycle, settle, slot, sparse};
use crate::abort;
use crate::arena::registry;
use crate::page::descriptor::{PageRef, Place};
#[cfg(preload)]
use crate::page::shared_line::Kind;
use crate::size_class::BinOffset;
use std::ptr::NonNull;

/// Frees a block of a size that the heap's table covers. The alignment of its layout doesn't matter: it decides the class
/// only where the size isn't a multiple of it, and such a block is in no page of the size's bin.
///
/// # Safety
/// `block` came from this allocator with a layout of this size, and is given up.
#[inline(always)]
pub unsafe fn free_small(block: NonNull<u8>, size: usize) {
    let heap = slot::heap();
    // SAFETY: passed on. None of these sizes is recycled whoever owns the page: see `recycle::applies`.
    unsafe { free::<false>(heap, block, heap.table.small(size)) }
}

/// Frees a block of the class that its size gives. (A block that was shrunk in place, or has a large alignment, may be of
/// another class, and so in no page of this bin: the slow path finds it.)
///
/// # Safety
/// `block` came from this allocator with a layout of that size, and is given up; `heap` is the calling thread's.
#[inline(always)]
unsafe fn free<const RECYCLED: bool>(heap: &'static Heap, block: NonNull<u8>, offset: BinOffset) {
    debug_assert_eq!(RECYCLED, recycle::applies(offset));
    let bin = heap.bin_at(offset);
    if bin.holds(block.addr().get()) {
        // SAFETY: the caller gives the block up.
        unsafe { bin.push(block.cast()) };
    } else if RECYCLED {
        // SAFETY: passed on.
        unsafe { free_recycled_elsewhere(block, offset, heap) }
    } else {
        // SAFETY: passed on.
        unsafe { free_elsewhere(block, offset, heap) }
    }
}

/// Frees a block of a class that the caller knows.
///
/// # Safety
/// `block` came from this allocator with a layout of the bin's class, and is given up.
#[cfg(not(preload))]
#[inline(always)]
pub unsafe fn free_in_bin(block: NonNull<u8>, offset: BinOffset) {
    // SAFETY: passed on.
    unsafe {
        if recycle::applies(offset) {
            free::<true>(slot::heap(), block, offset);
        } else {
            free::<false>(slot::heap(), block, offset);
        }
    }
}

/// As [`free_small`], for sizes that `BinTable::medium` covers.
///
/// # Safety
/// As for [`free_small`].
#[inline(always)]
pub unsafe fn free_medium(block: NonNull<u8>, size: usize) {
    let heap = slot::heap();
    // SAFETY: passed on.
    unsafe { free::<true>(heap, block, heap.table.medium(size)) }
}

/// Frees a block outside its bin's current page.
///
/// # Safety
/// As for [`free`]; `heap` is the calling thread's.
#[inline(never)]
unsafe fn free_elsewhere(block: NonNull<u8>, offset: BinOffset, heap: &'static Heap) {
    match registry::find_near(block.addr().get()) {
        // SAFETY: passed on.
        Some(page) => unsafe { free_to_page(heap, page, block) },
        // SAFETY: passed on.
        None => unsafe { free_far(block, offset, heap) },
    }
}

/// As [`free_elsewhere`], for classes that are recycled: so that the other needn't ask.
///
/// # Safety
/// As for [`free_elsewhere`].
#[inline(never)]
unsafe fn free_recycled_elsewhere(block: NonNull<u8>, offset: BinOffset, heap: &'static Heap) {
    if !recycle::is_shut(heap, offset) {
        // SAFETY: passed on.
        return unsafe { free_recycled_near(block, offset, heap) };
    }
    match registry::find_near(block.addr().get()) {
        // SAFETY: passed on.
        Some(page) => unsafe { free_to_page(heap, page, block) },
        // SAFETY: passed on.
        None => unsafe { free_far(block, offset, heap) },
    }
}

/// As [`free_recycled_elsewhere`], for a bin that isn't shut.
///
/// # Safety
/// As for [`free_elsewhere`].
#[inline(never)]
unsafe fn free_recycled_near(block: NonNull<u8>, offset: BinOffset, heap: &'static Heap) {
    match registry::near(block.addr().get()) {
        // SAFETY: passed on.
        Some(slice) => unsafe { free_recycled(heap, slice, block, offset) },
        // SAFETY: passed on.
        None => unsafe { free_far(block, offset, heap) },
    }
}

/// As [`free_elsewhere`], outside the registry's span.
///
/// # Safety
/// As for [`free_elsewhere`].
#[cold]
#[inline(never)]
unsafe fn free_far(block: NonNull<u8>, offset: BinOffset, heap: &'static Heap) {
    let Some(page) = registry::find(block.addr().get()) else {
        foreign(block)
    };
    // SAFETY: passed on.
    unsafe { free_found(heap, page, block, offset) }
}

/// Frees a block outside its bin's current page, of which it isn't known whether its class is recycled.
///
/// # Safety
/// As for [`free`]; `page` is the block's.
#[inline(always)]
unsafe fn free_found(heap: &'static Heap, page: PageRef, block: NonNull<u8>, offset: BinOffset) {
    if recycle::applies(offset) && !recycle::is_shut(heap, offset) {
        // SAFETY: passed on.
        unsafe { free_recycled(heap, page, block, offset) }
    } else {
        // SAFETY: passed on.
        unsafe { free_to_page(heap, page, block) }
    }
}

/// Frees a block of a class that is recycled, whose bin isn't shut.
///
/// # Safety
/// As for [`free`]; `slice` is one of the block's page.
#[inline(always)]
unsafe fn free_recycled(
    heap: &'static Heap,
    slice: PageRef,
    block: NonNull<u8>,
    offset: BinOffset,
) {
    // A block that was shrunk in place is of another class: its alignment may be less than this class promises. What is
    // no page of a class, or none any more, has another bin, too.
    if slice.shared().bin() != offset {
        // SAFETY: passed on.
        return unsafe { free_to_page(heap, registry::head(slice), block) };
    }
    // SAFETY: passed on.
    unsafe { recycle_block(heap, block, offset) }
}

/// Puts a block of a recycled class onto its bin's list, if there is credit.
///
/// # Safety
/// As for [`free`]; the page of the block is of the bin's class, and the bin isn't shut.
#[inline(always)]
unsafe fn recycle_block(heap: &'static Heap, block: NonNull<u8>, offset: BinOffset) {
    if !recycle::spend(heap, offset) {
        // SAFETY: passed on.
        return unsafe { free_without_credit(block, offset, heap) };
    }
    heap.counters.recycled.add(1);
    // SAFETY: the caller gives the block up.
    unsafe { heap.bin_at(offset).push(block.cast()) };
}

/// Frees a block of a recycled class whose bin has no credit left, but may get new one.
///
/// # Safety
/// As for [`free_recycled`].
#[cold]
#[inline(never)]
unsafe fn free_without_credit(block: NonNull<u8>, offset: BinOffset, heap: &'static Heap) {
    if !recycle::may_set_aside(heap, offset) {
        heap.recycling.refuse(offset.class());
        let Some(page) = registry::find(block.addr().get()) else {
            foreign(block)
        };
        // SAFETY: passed on.
        return unsafe { free_to_page(heap, page, block) };
    }
    let bin = heap.bin_at(offset);
    recycle::set_aside(heap, bin, offset);
    heap.counters.recycled.add(1);
    // SAFETY: the caller gives the block up.
    unsafe { bin.push(block.cast()) };
    recycle::age(heap);
}

/// Frees a block of a size that has no class.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
pub unsafe fn free_unclassed(block: NonNull<u8>) {
    let Some(page) = registry::find(block.addr().get()) else {
        foreign(block)
    };
    // SAFETY: passed on.
    unsafe { free_to_page(slot::heap(), page, block) }
}

/// Frees a block of which nothing but the address is known: C's free. Of an address that is no block's it tells
/// `unknown`, null included.
///
/// # Safety
/// `address` is a live block, which the caller gives up, or none.
#[cfg(preload)]
#[inline(always)]
pub unsafe fn free_unsized(address: *mut u8, unknown: impl Fn(*mut u8)) {
    let heap = slot::heap();
    let Some(slice) = registry::near(address.addr()) else {
        // SAFETY: passed on.
        return unsafe { free_unsized_far(address, heap, unknown) };
    };
    let bin = heap.bin_at(slice.shared().bin());
    if bin.holds(address.addr()) {
        // SAFETY: the block lies in the bin's page, hence not at 0, and the caller gives it up.
        unsafe { bin.push(NonNull::new_unchecked(address).cast()) };
    } else {
        // SAFETY: passed on.
        unsafe { free_unsized_elsewhere(address, heap, registry::head(slice), unknown) }
    }
}

/// [`free_unsized`] outside the registry's span.
///
/// # Safety
/// As for [`free_unsized`]; `heap` is the calling thread's.
#[cfg(preload)]
#[cold]
#[inline(never)]
unsafe fn free_unsized_far(address: *mut u8, heap: &'static Heap, unknown: impl Fn(*mut u8)) {
    let Some(page) = registry::find(address.addr()) else {
        return unknown(address);
    };
    let bin = heap.bin_at(page.shared().bin());
    if bin.holds(address.addr()) {
        // SAFETY: as in `free_unsized`.
        unsafe { bin.push(NonNull::new_unchecked(address).cast()) };
    } else {
        // SAFETY: passed on.
        unsafe { free_unsized_elsewhere(address, heap, page, unknown) }
    }
}

/// [`free_unsized`] outside the current page of the bin.
///
/// # Safety
/// As for [`free_unsized`]; `heap` is the calling thread's, and `page` that of the address, if it is one.
#[cfg(preload)]
#[inline(never)]
unsafe fn free_unsized_elsewhere(
    address: *mut u8,
    heap: &'static Heap,
    page: PageRef,
    unknown: impl Fn(*mut u8),
) {
    // SAFETY: no page lies at 0.
    let block = unsafe { NonNull::new_unchecked(address) };
    let (owner, offset) = (page.shared().owner(), page.shared().bin());
    // First what is most frequent and shortest. (A page that the calling thread owns has a class.)
    if owner == heap.as_owner() {
        if !recycle::applies(offset) || recycle::is_shut(heap, offset) {
            // SAFETY: passed on.
            return unsafe { free_locally(heap, page, block) };
        }
        // SAFETY: passed on: the class is the page's.
        return unsafe { recycle_block(heap, block, offset) };
    }
    // A page that is being released has an owner and no bin for a moment: a second free of one of its blocks may see that.
    if !owner.is_null() && offset != BinOffset::NONE {
        // SAFETY: passed on: the class is the page's.
        return unsafe { free_found(heap, page, block, offset) };
    }
    match page.shared().kind() {
        Kind::Large | Kind::Huge if page.shared().start() == address => {
            // SAFETY: the block is the page's only one, and is given up.
            unsafe { unclassed::free(page) }
        }
        _ => unknown(address),
    }
}

/// Frees a block to its page.
///
/// # Safety
/// As for [`free`]; `page` is the block's, and `heap` the calling thread's.
#[inline(always)]
unsafe fn free_to_page(heap: &'static Heap, page: PageRef, block: NonNull<u8>) {
    if page.shared().owner() == heap.as_owner() {
        // SAFETY: passed on.
        unsafe { free_locally(heap, page, block) }
    } else {
        // SAFETY: passed on.
        unsafe { free_remote::free(block, page, heap) }
    }
}

/// A free into a page of the heap.
///
/// # Safety
/// As for [`free`]; `page` is the block's, and of `heap`, which the caller holds.
#[inline(always)]
unsafe fn free_locally(heap: &'static Heap, page: PageRef, block: NonNull<u8>) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    // SAFETY: the block is the caller's to give.
    if unsafe { owned.push_local(block.cast()) } {
        local_event(block, page, heap);
    }
}

/// Returns a block that no bin wants any more to its page. What this returns is a heap without a thread whose lease the
/// caller holds now, and which it must give back.
///
/// # Safety
/// As for [`free`], but `heap` is any heap that the caller holds.
pub unsafe fn return_block(heap: &'static Heap, block: NonNull<u8>) -> Option<&'static Heap> {
    let Some(page) = registry::find(block.addr().get()) else {
        foreign(block)
    };
    if page.shared().owner() == heap.as_owner() {
        // SAFETY: passed on.
        unsafe { free_locally(heap, page, block) };
        return None;
    }
    // SAFETY: passed on.
    unsafe { free_remote::free_and_announce(heap, page, block) }
}

/// A local free that changes where its page stands.
#[cold]
#[inline(never)]
fn local_event(block: NonNull<u8>, page: PageRef, heap: &'static Heap) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    let (place, used) = (
        owned.place.get(),
        owned.carved.get().wrapping_sub(owned.free_count()),
    );
    // First what is most frequent.
    if place == Place::Full && (used as i32) > 0 {
        return match follow::wants(heap, page) {
            true => follow::follow(heap, page),
            false => settle::open(heap, page),
        };
    }
    if place == Place::Partial && used == 0 && settle::empty(heap, page) {
        return recycle::trim(heap);
    }
    if owned.free_count() > owned.carved.get()
        || matches!(owned.place.get(), Place::Warm | Place::Waiting)
    {
        abort::misuse(block.addr().get(), DOUBLE_FREE);
    }
    if owned.place.get() == Place::Partial && !owned.is_free() {
        // It became sparse, or more so, and stays where it is.
        return sparse::note_by_free(heap, page);
    }
    settle::replace(heap, page);
    recycle::trim(heap);
}
