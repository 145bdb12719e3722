//! Which span an address lies in, without a lock: a static first level indexed by `address >> 32`, each entry of which
//! leads to an array with a pointer for each 64 KiB of those 4 GiB. Arrays and spans' records are never unmapped, so a
//! look-up may race with anything, in a signal handler too.

use super::handle::top_offset;
use super::span::Span;
use crate::arena::meta;
use crate::arena::registry::{ADDRESS_BITS, Entry};
use crate::os;
use crate::units::{SLICE_SHIFT, SLICE_SIZE};
use std::ops::Range;
use std::sync::atomic::{AtomicPtr, Ordering};

const ARRAY_SHIFT: u32 = 32;
const ENTRIES: usize = 1 << (ADDRESS_BITS - ARRAY_SHIFT);
const ARRAY_SLICES: usize = 1 << (ARRAY_SHIFT - SLICE_SHIFT);

type Array = [AtomicPtr<Span>; ARRAY_SLICES];

static DIRECTORY: [Entry<Array>; ENTRIES] = [const { Entry::empty() }; ENTRIES];

/// The array's place for an address, if the array has been made.
#[inline(always)]
fn place(address: usize) -> Option<&'static AtomicPtr<Span>> {
    let array = DIRECTORY.get(address >> ARRAY_SHIFT)?.get();
    // SAFETY: a published array is never unmapped, and zeroed memory is a valid one.
    let array = unsafe { array.as_ref() }?;
    Some(&array[(address >> SLICE_SHIFT) % ARRAY_SLICES])
}

/// The span that an address lies in.
#[inline(always)]
pub fn span_of(address: usize) -> Option<&'static Span> {
    // Acquire pairs with the Release of `enter`: the span's record is complete.
    let span = place(address)?.load(Ordering::Acquire);
    // SAFETY: spans' records live for ever.
    unsafe { span.as_ref() }
}

/// Makes sure that a range has places; false when the system refuses the memory.
pub fn cover(start: usize, bytes: usize) -> bool {
    let (first, last) = (start >> ARRAY_SHIFT, (start + bytes - 1) >> ARRAY_SHIFT);
    (first..=last).all(|index| {
        DIRECTORY.get(index).is_some_and(|entry| {
            let make = || meta::allocate(size_of::<Array>()).map(|array| array.cast().as_ptr());
            // The array of a thread that loses the race is lost: 512 KiB of address space, no memory.
            entry.get_or_make(make, |_| ()).is_some()
        })
    })
}

/// Enters a span's range, or takes it out (null).
pub fn enter(start: usize, bytes: usize, span: *const Span) {
    for address in (start..start + bytes).step_by(SLICE_SIZE) {
        if let Some(place) = place(address) {
            // Release publishes the record.
            place.store(span.cast_mut(), Ordering::Release);
        }
    }
}

/// Sets the tag of the stack in the slot at `base`, which the caller holds.
pub fn set_tag(base: usize, tag: usize) {
    if let Some(span) = span_of(base) {
        // Relaxed: read by the holder, or by a signal handler on its thread.
        span.tag(span.index_of(base)).store(tag, Ordering::Relaxed);
    }
}

/// What [`stack_lookup`] says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackInfo {
    address: usize,
    base: usize,
    bytes: usize,
    tag: usize,
}

impl StackInfo {
    /// The slot's first address, a multiple of its size.
    pub fn slot(&self) -> usize {
        self.base
    }

    /// The slot's bytes, guard included.
    pub fn size(&self) -> usize {
        self.bytes
    }

    /// Where the stack starts: see [`StackHandle::top`](super::StackHandle::top).
    pub fn top(&self) -> usize {
        let class = self.bytes.trailing_zeros() - SLICE_SHIFT;
        self.base + top_offset(self.base, class as usize)
    }

    /// The lowest usable address: the guard's end.
    pub fn limit(&self) -> usize {
        self.guard().end
    }

    /// The addresses of the guard.
    pub fn guard(&self) -> Range<usize> {
        self.base..self.base + os::page_bytes()
    }

    /// Whether the address that was asked for lies in the guard: then a fault there is a stack overflow.
    pub fn in_guard(&self) -> bool {
        self.guard().contains(&self.address)
    }

    /// What the stack's holder set by [`StackHandle::set_tag`](super::StackHandle::set_tag), or 0.
    pub fn tag(&self) -> usize {
        self.tag
    }
}

/// The pooled stack whose slot an address lies in, of any pool; `None` where there is none, or where its slot was never
/// taken. Exact for an address in a stack that somebody holds; a stack that lies in a pool is found too, with tag 0.
/// For an address in a pool that is being unmapped at that moment the answer may be an older one.
///
/// Async-signal-safe: a few loads, no lock, no allocation, no system call. So a handler for SIGSEGV (on a stack of its
/// own, `sigaltstack`) can tell a fiber's overflow from other faults.
pub fn stack_lookup(address: usize) -> Option<StackInfo> {
    let span = span_of(address)?;
    let (base, index) = span.slot_of(address)?;
    span.is_guarded(index).then(|| StackInfo {
        address,
        base,
        bytes: span.slot_bytes(),
        tag: span.tag(index).load(Ordering::Relaxed),
    })
}

static_assertions::const_assert!(size_of::<Array>() == ARRAY_SLICES * size_of::<*const ()>());
static_assertions::const_assert!(align_of::<Array>() <= 128);

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    fn nothing_is_found_where_no_stack_is() {
        let local = 0_u8;
        for address in [0, ptr::from_ref(&local).addr(), usize::MAX, 1 << 46] {
            assert_eq!(stack_lookup(address), None);
        }
    }
}
