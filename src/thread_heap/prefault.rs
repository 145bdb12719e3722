//! First touches ahead of carving: a large heap makes the next 32 KiB that it will link resident in one call of the
//! system, where each system page of them would be a page fault of its own.
//!
//! A fault costs more for entering the kernel than a page costs in the call: 1.9 and 1.4 microseconds on one virtual
//! machine. All of it will be used, unless the class is no longer wanted: so a heap does this from 256 pages on only, 16
//! to 64 MiB, and for blocks of at most 4 KiB, whose linking touches every system page. At most 32 KiB for each such class
//! are resident in vain, a tenth of the heap at the worst. Larger pieces gain nothing more in the system, and have left the
//! nearer caches before all classes' pieces are linked.
//! `docs/decisions/019-first-touches.md` has the figures.

use super::Heap;
use crate::config;
use crate::os;
use crate::page::descriptor::{OwnedLine, PageRef};
use crate::units::KIB;
use std::ptr::NonNull;

/// From so many pages of a heap on.
const FROM_PAGES: u32 = 256;
/// What is made resident at a time.
const PIECE: usize = 32 * KIB;

/// Before blocks that take `bytes` are carved from a page: makes the piece behind the last carved one resident, unless it
/// probably is.
#[inline]
pub fn before_carving(heap: &Heap, page: PageRef, owned: &OwnedLine, bytes: usize) {
    if heap.pages.get() >= FROM_PAGES
        && owned.class.get().is_dense()
        && owned.carved_bytes() as usize + bytes > owned.touched.get() as usize
        && owned.holes.get() == 0
    {
        ahead(page, owned);
    }
}

/// A refusal of the system is as good as its consent: then the pages are faulted in one by one.
fn ahead(page: PageRef, owned: &OwnedLine) {
    if !config::prefault() {
        return;
    }
    let known = owned.carved_bytes().max(owned.touched.get()) as usize;
    let from = known / PIECE * PIECE;
    let to = (from + PIECE).min(owned.class.get().page_slices().bytes());
    if to <= known {
        return;
    }
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    // SAFETY: the piece lies in the page, which is writable, and starts and ends at multiples of system pages: pages of at
    // most 32 KiB, since the page starts at a slice. Others are refused.
    if unsafe { os::prefault(start.add(from), to - from) } {
        owned.touched.set(to as u32);
    }
}
