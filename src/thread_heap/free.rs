//! Freeing. The fast path is [`free`]: a block of its bin's current page goes onto the bin's list. Otherwise
//! [`free_elsewhere`]: the registry finds the page, and the block goes onto the page's local or remote list.

use super::slot;
use super::{Heap, exit, recycle, settle};
use crate::abort;
use crate::arena::{registry, reserve};
use crate::free_list::Block;
use crate::large;
use crate::page::descriptor::{PageRef, Place};
use crate::page::shared_line::{Kind, RemotePage, remote_free};
use crate::size_class::SizeClass;
use std::ptr::NonNull;

const DOUBLE_FREE: &str =
    "this block is freed twice, or was never allocated; look for a second free of it";
const FOREIGN: &str =
    "freeing a pointer that Millpond did not allocate, or whose block is freed already";
const INTERIOR: &str =
    "freeing a pointer into the middle of a block; free takes the pointer that alloc returned";

/// Frees a block of the class that its layout gives. (A block that was shrunk in place is of a larger class, and so
/// in no page of this bin: the slow path finds it.)
///
/// # Safety
/// `block` came from this allocator with a layout of that class, and is given up.
#[inline(always)]
pub unsafe fn free(block: NonNull<u8>, class: SizeClass) {
    let heap = slot::heap();
    let bin = heap.bin(class);
    if block.addr().get().wrapping_sub(bin.start.get()) < bin.bytes.get() as usize {
        let block = block.cast::<Block>();
        // SAFETY: the caller gives the block up; the bin's list belongs to the thread that holds the heap.
        unsafe { Block::link(block, bin.free.get()) };
        bin.free.set(block.as_ptr());
    } else {
        // SAFETY: passed on.
        unsafe { recycle_or_free(heap, block, class) }
    }
}

/// Frees a block outside its bin's current page: onto the bin's list, if there is credit for it.
///
/// # Safety
/// As for [`free`]; `heap` is the calling thread's.
#[inline(never)]
unsafe fn recycle_or_free(heap: &'static Heap, block: NonNull<u8>, class: SizeClass) {
    if recycle::applies(class) {
        let bin = heap.bin(class);
        let Some(page) = registry::find(block.addr().get()) else {
            foreign(block)
        };
        // A block that was shrunk in place is of another class: its alignment may be less than this class promises.
        let recyclable =
            page.shared().block_bytes() == class.bytes() && !page.shared().owner().is_null();
        if recyclable && recycle::spend(heap, bin, class) {
            heap.counters.recycled.add(1);
            let block = block.cast::<Block>();
            // SAFETY: the caller gives the block up; the bin's list belongs to the thread that holds the heap.
            unsafe { Block::link(block, bin.free.get()) };
            bin.free.set(block.as_ptr());
            return;
        }
    }
    // SAFETY: passed on.
    unsafe { free_elsewhere(heap, block) }
}

/// Frees a block wherever it is.
///
/// # Safety
/// As for [`free`]; `heap` is the calling thread's.
#[inline]
pub unsafe fn free_elsewhere(heap: &'static Heap, block: NonNull<u8>) {
    // SAFETY: passed on.
    if let Some(owner) = unsafe { give_back(heap, block) } {
        exit::serve_abandoned(owner);
    }
}

/// Puts a block onto the local or remote list of its page. What it returns is a heap without a thread whose lease the
/// caller holds now, and which it must serve and park.
///
/// # Safety
/// As for [`free`], but `heap` is any heap that the caller holds, or the vacant one.
#[inline]
pub unsafe fn give_back(heap: &'static Heap, block: NonNull<u8>) -> Option<&'static Heap> {
    let Some(page) = registry::find(block.addr().get()) else {
        foreign(block)
    };
    if page.shared().owner() == heap.as_owner() {
        // SAFETY: the page is of the heap that the caller holds.
        let owned = unsafe { page.owned() };
        // SAFETY: the block is the caller's to give.
        if unsafe { owned.push_local(block.cast()) } {
            local_event(heap, page, block);
        }
        return None;
    }
    // SAFETY: passed on.
    unsafe { free_to_others(heap, page, block) }
}

/// A local free that changes where its page stands.
#[cold]
#[inline(never)]
fn local_event(heap: &'static Heap, page: PageRef, block: NonNull<u8>) {
    // SAFETY: the page is of the heap that the caller holds.
    let owned = unsafe { page.owned() };
    if owned.local_count.get() > owned.carved.get()
        || matches!(owned.place.get(), Place::Warm | Place::Waiting)
    {
        abort::misuse(block.addr().get(), DOUBLE_FREE);
    }
    settle::replace(heap, page);
}

/// A free into a page of another heap, or of a block with a page or mapping of its own.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
unsafe fn free_to_others(
    heap: &'static Heap,
    page: PageRef,
    block: NonNull<u8>,
) -> Option<&'static Heap> {
    match page.shared().kind() {
        Kind::Binned => {}
        Kind::Large | Kind::Huge if page.shared().start() == block.as_ptr() => {
            // SAFETY: the block is the page's only one, and is given up.
            unsafe { large::free(page) };
            return None;
        }
        _ => foreign(block),
    }
    slot::count(heap, |counters| &counters.remote_frees, 1);
    let wants_purge = || reserve::over_with(page.slices().bytes());
    // SAFETY: the block is a live one of this page, and is given up.
    let Ok(done) =
        (unsafe { remote_free(page, block.cast(), wants_purge, || settle::discard(page)) })
    else {
        abort::misuse(block.addr().get(), DOUBLE_FREE)
    };
    if done.pinned {
        reserve::pin(page.slices().bytes());
    }
    // SAFETY: heaps are never unmapped.
    done.serve.map(|owner| unsafe { owner.as_ref() })
}

/// Ends the process because of a pointer that isn't a block's.
#[cold]
#[inline(never)]
pub fn foreign(block: NonNull<u8>) -> ! {
    crate::stats::counters::shard(block.addr().get())
        .registry_misses
        .add_shared(1);
    let inside = large::holding(block.addr().get()).is_some();
    abort::misuse(block.addr().get(), if inside { INTERIOR } else { FOREIGN })
}
