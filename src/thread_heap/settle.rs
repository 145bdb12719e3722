//! Settling news: the remote frees of a page come back to its heap, and the page moves to where it now belongs.

use super::foreign::DOUBLE_FREE;
use super::{Heap, check, idle, sparse};
use crate::abort;
use crate::arena::{self, reserve, shelves};
use crate::free_list::Block;
use crate::free_list::news::Leased;
use crate::free_list::remote::{Drained, Settled, State};
use crate::page::descriptor::{OwnedLine, PageRef, Place};
use crate::size_class::SizeClass;
use crate::stats::counters::Counter;
use std::ptr::{self, NonNull};

/// Settles all news of a heap whose lease the caller holds.
pub fn settle_all(heap: &'static Heap) {
    settle_some(heap, usize::MAX);
}

/// Settles at most `limit` pages of news, the rest stays pending. The number of pages looked at.
pub fn settle_some(heap: &'static Heap, limit: usize) -> usize {
    // SAFETY: the caller holds the lease, and descriptors live for ever.
    unsafe {
        heap.pending
            .settle(heap.news(), limit, |page| settle(heap, &*page))
    }
}

/// Puts a page whose token the caller holds in front of the heap's pending news.
pub fn add_pending(heap: &'static Heap, page: PageRef) {
    // SAFETY: the caller holds the lease and the token, and descriptors live for ever.
    unsafe { heap.pending.add(ptr::from_ref(page).cast_mut()) };
}

/// Settles one page of the heap that the caller popped from its news; false if its last freer is still at it.
fn settle(heap: &'static Heap, page: PageRef) -> bool {
    debug_assert!(ptr::eq(page.shared().owner(), heap));
    // SAFETY: the caller holds the lease of the page's heap.
    let owned = unsafe { page.owned() };
    if check::active_drain_is_off() && owned.place.get() == Place::Current {
        return false;
    }
    match page.shared().remote().settle(page.shared().start()) {
        Settled::Purging => return false,
        Settled::Frees(None) => {
            if owned.place.get() != Place::Waiting {
                heap.counters.pages_scanned_in_vain.add(1);
            }
        }
        Settled::Frees(Some(drained)) => {
            if drained.count == owned.class.get().capacity() {
                reserve::unpin(page.slices().bytes());
            }
            // SAFETY: the blocks were just taken off the page's remote list.
            unsafe { take_in(heap, owned, drained) };
        }
        Settled::Empty => {
            count_drained(heap, owned, owned.class.get().capacity());
            owned.carved.set(0);
            owned.touched.set(0);
            owned.clean.set(true);
        }
    }
    put_in_place(heap, page);
    true
}

/// As if the block had been freed remotely into the page and were the only one so: for a thread that holds the page's heap
/// for the moment.
///
/// # Safety
/// The caller holds the lease of `heap`, which is the page's; `block` is a live one of the page, and is given up.
pub unsafe fn settle_one(heap: &'static Heap, page: PageRef, block: NonNull<Block>) {
    // SAFETY: passed on.
    let owned = unsafe { page.owned() };
    // A live block is none of the free ones, and its page isn't being discarded.
    let word = page.shared().remote().peek();
    let discarded = matches!(word.state(), State::Purging | State::Empty);
    if discarded || word.count() + owned.free_count() >= owned.carved.get() {
        abort::misuse(block.as_ptr().addr(), DOUBLE_FREE);
    }
    // SAFETY: the block is the caller's.
    unsafe { take_in(heap, owned, Drained::single(block)) };
    put_in_place(heap, page);
}

/// Puts drained blocks on their page's local list, and counts them.
///
/// # Safety
/// The caller holds the lease of `heap`, which is the page's, and gives the blocks up.
unsafe fn take_in(heap: &Heap, owned: &OwnedLine, drained: Drained) {
    count_drained(heap, owned, drained.count);
    // SAFETY: passed on.
    if !unsafe { owned.attach(drained) } {
        let block = drained.head.as_ptr().addr();
        abort::misuse(
            block,
            "a block of this page was freed twice, by another thread",
        );
    }
}

/// What follows when blocks of a page came back.
fn put_in_place(heap: &'static Heap, page: PageRef) {
    // SAFETY: the caller holds the lease of the page's heap.
    unsafe { page.owned() }.overlooked.set(false);
    replace(heap, page);
    sparse::note(heap, page);
}

/// Counts remotely freed blocks of a page as drained and freed.
pub fn count_drained(heap: &Heap, owned: &OwnedLine, blocks: u32) {
    drained_counter(heap, owned.place.get()).add(u64::from(blocks));
    count_freed(heap, owned.class.get(), blocks);
}

fn drained_counter(heap: &Heap, place: Place) -> &Counter {
    let counters = &heap.counters;
    match place {
        _ if !heap.tenanted.get() => &counters.drained_abandoned,
        Place::Current => &counters.drained_active,
        Place::Partial | Place::Uncarved => &counters.drained_partial,
        Place::Full | Place::Warm | Place::Waiting => &counters.drained_full,
    }
}

/// Counts blocks that came back.
pub fn count_freed(heap: &Heap, class: SizeClass, blocks: u32) {
    heap.counters.frees.add(u64::from(blocks));
    heap.counters
        .freed_bytes
        .add(u64::from(blocks) * class.bytes() as u64);
}

/// Counts the local frees of a page that nobody counted yet.
pub fn count_local(heap: &Heap, owned: &OwnedLine) {
    let new = owned.local_count() - owned.counted.replace(owned.local_count());
    count_freed(heap, owned.class.get(), new);
}

/// Moves a full page of the heap, not all of it free, to the partly used ones: what [`replace`] does after a first free.
pub fn open(heap: &'static Heap, page: PageRef) {
    // SAFETY: the caller holds the lease of the page's heap.
    let owned = unsafe { page.owned() };
    debug_assert!(owned.place.get() == Place::Full && owned.local_count() > 0 && !owned.is_free());
    let class = owned.class.get();
    owned.stand(Place::Partial);
    heap.queues(class).partial.push(page);
    if !heap.tenanted.get() {
        idle::publish(heap, class);
    }
}

/// Retires a partly used or full page of the heap whose last block was freed locally: what [`replace`] does where the token
/// isn't out. False, with nothing changed, where it is.
pub fn empty(heap: &'static Heap, page: PageRef) -> bool {
    // SAFETY: the caller holds the lease of the page's heap.
    let owned = unsafe { page.owned() };
    let place = owned.place.get();
    debug_assert!(matches!(place, Place::Partial | Place::Full) && owned.is_free());
    let idle = page.shared().remote().peek().state() == State::Idle;
    if idle {
        if place == Place::Partial {
            heap.queues(owned.class.get()).partial.remove(page);
        }
        owned.stand(Place::Warm);
        retire(heap, page);
    }
    idle
}

/// Moves a page of the heap to the place that its lists ask for: after frees, or when it stops being current.
pub fn replace(heap: &'static Heap, page: PageRef) {
    // SAFETY: the caller holds the lease of the page's heap.
    let owned = unsafe { page.owned() };
    let queues = heap.queues(owned.class.get());
    let place = owned.place.get();
    let target = if place == Place::Current {
        return;
    } else if owned.is_free() {
        // While the token is out, the page may be on the news stack and has to stay what it is.
        if page.shared().remote().peek().state() == State::Idle {
            Place::Warm
        } else {
            Place::Waiting
        }
    } else if owned.local_count() > 0 {
        Place::Partial
    } else if owned.has_uncarved() {
        Place::Uncarved
    } else {
        Place::Full
    };
    if target == place {
        owned.arm();
        return;
    }
    match place {
        Place::Partial => queues.partial.remove(page),
        Place::Uncarved => queues.uncarved.remove(page),
        _ => {}
    }
    owned.stand(target);
    match target {
        Place::Partial => {
            queues.partial.push(page);
            if !heap.tenanted.get() {
                idle::publish(heap, owned.class.get());
            }
        }
        Place::Uncarved => queues.uncarved.push(page),
        Place::Warm => retire(heap, page),
        Place::Full | Place::Current | Place::Waiting => {}
    }
}

/// Keeps an empty page for reuse, or releases it if the heap has enough of them.
fn retire(heap: &'static Heap, page: PageRef) {
    // SAFETY: the caller holds the lease of the page's heap.
    let owned = unsafe { page.owned() };
    count_local(heap, owned);
    heap.pages.set(heap.pages.get() - 1);
    let class = owned.class.get();
    let bytes = class.page_slices().bytes();
    if heap.warm_bytes.get() + bytes <= crate::config::heap_reserve_bytes() {
        heap.warm_bytes.set(heap.warm_bytes.get() + bytes);
        heap.warm[class.page_size_index()].push(page);
    } else if !heap
        .shelves
        .put(page, |bytes| heap.recycling.note_released(bytes))
    {
        heap.recycling.note_released(bytes);
        debug_assert_eq!(page.shared().remote().peek().state(), State::Idle);
        shelves::release(page);
    }
}

/// Takes an empty page of a class's page size that the heap kept.
pub fn take_warm(heap: &'static Heap, class: SizeClass) -> Option<PageRef> {
    if let Some(page) = heap.warm[class.page_size_index()].pop_last() {
        note_taken(heap, class);
        return Some(page);
    }
    let page = heap.shelves.take(class.page_size_index())?;
    adopt_shelved(heap, page);
    Some(page)
}

/// As [`take_warm`], but only a page of the class if there are several to choose from.
#[inline]
pub fn take_at_once(heap: &'static Heap, class: SizeClass) -> Option<PageRef> {
    let size = class.page_size_index();
    let Some(last) = heap.warm[size].last() else {
        let page = heap.shelves.take(size)?;
        adopt_shelved(heap, page);
        return Some(page);
    };
    // SAFETY: the page is of the heap that the caller holds.
    if unsafe { last.owned() }.class.get() != class {
        return None;
    }
    heap.warm[size].remove(last);
    note_taken(heap, class);
    Some(last)
}

/// Makes an empty page that the caller took from a shelf the heap's.
pub fn adopt_shelved(heap: &'static Heap, page: PageRef) {
    page.shared().set_owner(heap.as_owner());
    heap.pages.set(heap.pages.get() + 1);
}

/// As [`take_warm`], a page that is of the class already.
pub fn take_warm_of_class(heap: &'static Heap, class: SizeClass) -> Option<PageRef> {
    let kept = &heap.warm[class.page_size_index()];
    // SAFETY: the pages are of the heap that the caller holds.
    let of_class = |page: &PageRef| unsafe { page.owned() }.class.get() == class;
    let page = kept.iter().find(of_class)?;
    kept.remove(page);
    note_taken(heap, class);
    Some(page)
}

fn note_taken(heap: &Heap, class: SizeClass) {
    heap.pages.set(heap.pages.get() + 1);
    heap.warm_bytes
        .set(heap.warm_bytes.get() - class.page_slices().bytes());
}

/// Releases all empty pages that the heap kept.
pub fn release_warm(heap: &'static Heap) {
    for queue in &heap.warm {
        while let Some(page) = queue.pop() {
            shelves::release(page);
        }
    }
    heap.warm_bytes.set(0);
    heap.shelves.release();
}

/// Discards the contents of a page whose every block is free, and which the caller alone can reach: PURGING keeps
/// everyone out.
#[cold]
#[inline(never)]
pub fn discard(page: PageRef) {
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    // SAFETY: no block of the page is live, and it is whole slices of an arena.
    unsafe { arena::discard(start, page.shared().arena(), page.slices()) };
}

/// The bytes of a page. Out of line, since remote frees need it only when they fill the page.
#[cold]
#[inline(never)]
pub fn bytes_of(page: PageRef) -> usize {
    page.slices().bytes()
}
