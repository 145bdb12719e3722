//! Freeing into a page of another heap: one compare-and-swap on the page's remote word. [`free`] is the usual case; the
//! first block of a page after a drain, and the last one of a page, take [`free_and_announce`], which puts the block on its page's
//! local list where the page's heap has no thread. Of a run of frees into one page the thread keeps some (`keep.rs`).

use super::foreign::{DOUBLE_FREE, foreign};
use super::{Heap, VACANT, exit, keep, recycle, settle, slot, sparse, unclassed};
use crate::abort;
use crate::arena::reserve;
use crate::free_list::remote::RemoteWord;
use crate::page::descriptor::PageRef;
use crate::page::shared_line::{
    self, Kind, remote_free, remote_free_among, remote_free_onto, sparse_from,
};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// A free into a page that isn't the thread's: in the usual case, one compare-and-swap, or a push onto the bin's list.
///
/// # Safety
/// `block` came from this allocator and is given up; `page` is the block's, and `heap` the calling thread's.
#[inline(never)]
pub unsafe fn free(block: NonNull<u8>, page: PageRef, heap: &'static Heap) {
    if ptr::eq(heap, &VACANT) {
        // SAFETY: passed on.
        return unsafe { free_without_heap(block, page) };
    }
    let seen = match heap.last_remote.word_of(page) {
        Some(word) => {
            if heap.run.goes_on() {
                // SAFETY: passed on.
                return unsafe { free_in_run(block, page, heap) };
            }
            word
        }
        None => {
            heap.last_remote.begin(page);
            heap.run.begin();
            page.shared().remote().peek()
        }
    };
    // (The word of a page that nobody owns never allows it.)
    // SAFETY: passed on.
    let Ok(word) = (unsafe { remote_free_onto(page, seen, block.cast()) }) else {
        // The owner drained the page, as a rule.
        heap.run.begin();
        // SAFETY: passed on: the block is the caller's still.
        return unsafe { free_again(block, page, heap) };
    };
    heap.last_remote.note_word(word);
    heap.counters.remote_frees.add(1);
    if became_sparse(page, word) {
        note_sparse(heap, page);
    }
}

/// As [`free`], in a run of frees into one page.
///
/// # Safety
/// As for [`free`].
#[inline(always)]
unsafe fn free_in_run(block: NonNull<u8>, page: PageRef, heap: &'static Heap) {
    // SAFETY: the block is of the page's class, unless that has none, and the caller gives it up.
    if !unsafe { keep::keep(heap, block.cast(), page.shared().bin()) } {
        // SAFETY: passed on: the block is the caller's still.
        unsafe { free_in_run_without_credit(block, page, heap) }
    }
}

/// As [`free_in_run`], where the bin has no credit, or its blocks are never kept.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_in_run_without_credit(block: NonNull<u8>, page: PageRef, heap: &'static Heap) {
    let offset = page.shared().bin();
    // SAFETY: as in `free_in_run`.
    if !keep::renew(heap, offset) || !unsafe { keep::keep(heap, block.cast(), offset) } {
        heap.run.end();
        // SAFETY: passed on: the block is the caller's still.
        unsafe { free_again(block, page, heap) };
    }
}

/// As [`free`], of a thread without a heap.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
unsafe fn free_without_heap(block: NonNull<u8>, page: PageRef) {
    let done = slot::with_last_remote(|last| {
        let seen = last.word_of(page)?;
        // SAFETY: passed on.
        let word = unsafe { remote_free_onto(page, seen, block.cast()) }.ok()?;
        last.note_word(word);
        Some(())
    });
    match done {
        Some(()) => slot::count_remote_free(&VACANT),
        // SAFETY: passed on: the block is the caller's still.
        None => unsafe { free_again(block, page, &VACANT) },
    }
}

/// Whether a remote free made its page sparse: as [`RemoteFree::sparse`](crate::page::shared_line::RemoteFree::sparse).
/// (The page may be another's since the push, and the answer wrong: who is told looks for himself.)
#[inline(always)]
fn became_sparse(page: PageRef, word: RemoteWord) -> bool {
    word.count() == sparse_from(page.shared().capacity())
}

/// As [`free`], where it wasn't the usual case or the page's word was another.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
unsafe fn free_again(block: NonNull<u8>, page: PageRef, heap: &'static Heap) {
    // SAFETY: passed on.
    let Some(word) = (unsafe { remote_free_among(page, block.cast()) }) else {
        // SAFETY: passed on: the block is the caller's still.
        return unsafe { free_and_tell(block, page, heap) };
    };
    note_last(heap, page, word);
    slot::count_remote_free(heap);
    if became_sparse(page, word) {
        note_sparse(heap, page);
    }
}

/// As [`free`], where that is more than one push.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
unsafe fn free_and_tell(block: NonNull<u8>, page: PageRef, heap: &'static Heap) {
    // SAFETY: passed on.
    let owner = unsafe { free_and_announce(heap, page, block) };
    // It was a free into this page all the same. (It may be anybody's since, or nobody's: what is noted is a guess.)
    note_last(heap, page, page.shared().remote().peek());
    if let Some(owner) = owner {
        exit::serve_abandoned(owner);
    }
}

fn note_last(heap: &Heap, page: PageRef, word: RemoteWord) {
    if ptr::eq(heap, &VACANT) {
        slot::with_last_remote(|last| last.note(page, word));
    } else {
        heap.last_remote.note(page, word);
    }
}

/// Notes that a page of another heap became sparse.
#[cold]
#[inline(never)]
fn note_sparse(heap: &'static Heap, page: PageRef) {
    if let Some(other) = sparse::note_others(heap, page) {
        exit::settle_and_park(other);
    }
}

/// A free into a page of another heap, or of a block that has a page or mapping of its own. What it returns is as for
/// [`return_block`](super::free::return_block).
///
/// # Safety
/// As for [`return_block`](super::free::return_block); `page` is the block's.
#[inline(always)]
pub unsafe fn free_and_announce(
    heap: &'static Heap,
    page: PageRef,
    block: NonNull<u8>,
) -> Option<&'static Heap> {
    if page.shared().owner().is_null() {
        // SAFETY: passed on.
        unsafe { free_unowned(page, block) };
        return None;
    }
    slot::count_remote_free(heap);
    // SAFETY: the block is a live one of this page, whose heap is another.
    if let Some(owner) = unsafe { shared_line::lease_owner(page) } {
        // SAFETY: heaps are never unmapped.
        let owner = unsafe { owner.as_ref() };
        // SAFETY: the lease was taken just now, and the block is given up.
        unsafe { settle::settle_one(owner, page, block.cast()) };
        return Some(owner);
    }
    // Asked for before the push that fills the page: after it, the page may be another's, or no page any more.
    let bytes = Cell::new(0);
    let wants_purge = || {
        bytes.set(settle::bytes_of(page));
        reserve::over_with(bytes.get())
    };
    // SAFETY: the block is a live one of this page, and is given up.
    let done = unsafe { remote_free(page, block.cast(), wants_purge, || settle::discard(page)) };
    let Ok(done) = done else {
        abort::misuse(block.addr().get(), DOUBLE_FREE)
    };
    if done.pinned {
        reserve::pin(bytes.get());
    }
    if done.sparse {
        note_sparse(heap, page);
    }
    if done.filled && !ptr::eq(heap, &VACANT) {
        recycle::note_others_released(heap, bytes.get());
    }
    // SAFETY: heaps are never unmapped.
    done.serve.map(|owner| unsafe { owner.as_ref() })
}

/// Frees a block that has a page or mapping of its own.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_unowned(page: PageRef, block: NonNull<u8>) {
    match page.shared().kind() {
        Kind::Large | Kind::Huge if page.shared().start() == block.as_ptr() => {
            // SAFETY: the block is the page's only one, and is given up.
            unsafe { unclassed::free(page) }
        }
        _ => foreign(block),
    }
}
