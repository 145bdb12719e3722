//! Blocks with a page or a mapping of their own.
//!
//! A large block (up to 32 MiB, and from 17 KiB on where its class isn't in demand: `thread_heap/single.rs`) is claimed
//! slices of an arena; the arena's reserve is what makes freeing and reallocating it cheap. A huge block is a mapping of
//! its own, from a small cache of them where one fits. Both are nobody's: whoever frees such a block is the only thread that can reach it, so it is released on the spot.

use crate::arena::huge::WHOLE_BLOCK;
use crate::arena::mappings::{self, Mapping};
use crate::arena::{self, MAX_ARENA_BLOCK, Usage, registry};
use crate::os;
use crate::page::descriptor::PageRef;
use crate::page::shared_line::{Identity, Kind};
use crate::size_class::{BinOffset, SizeClass};
use crate::units::{SLICE_SIZE, SliceCount, align_up};
use std::ptr::{self, NonNull};

/// Address space above this is never asked for: it can't be had, and sums of it could overflow.
const MAX_BYTES: usize = 1 << 47;

/// A large or huge block.
#[derive(Clone, Copy, Debug)]
pub struct LargeBlock {
    /// The first byte.
    pub start: NonNull<u8>,
    /// The bytes that it has: those of its slices, but for [`single`] ones.
    pub bytes: usize,
    /// All of it reads as zero.
    pub zero: bool,
}

/// A block of `size` bytes at a multiple of `align`; zero where `zeroed` asks for it. `None` when the system refuses.
pub fn allocate(size: usize, align: usize, zeroed: bool) -> Option<LargeBlock> {
    if size > MAX_BYTES || align > MAX_BYTES {
        return None;
    }
    let slices = SliceCount::covering(size.max(1))?;
    if slices.bytes() <= MAX_ARENA_BLOCK && align <= MAX_ARENA_BLOCK {
        large(slices.bytes(), align, zeroed)
    } else {
        let mapping = mappings::allocate(slices.bytes(), align.max(SLICE_SIZE), zeroed)?;
        Some(LargeBlock {
            zero: zeroed,
            ..register(mapping)?
        })
    }
}

fn identity(kind: Kind, start: NonNull<u8>, block_bytes: usize, arena: u32) -> Identity {
    Identity {
        kind,
        start,
        block_bytes,
        capacity: 1,
        bin: BinOffset::NONE,
        arena,
    }
}

/// A block of a size class without a page: it has just `bytes` of its slices, so that whoever asks for its size gets the
/// class's. `None` when the system refuses.
pub fn single(bytes: usize) -> Option<LargeBlock> {
    large(bytes, SLICE_SIZE, false)
}

fn large(bytes: usize, align: usize, zeroed: bool) -> Option<LargeBlock> {
    let slices = SliceCount::covering(bytes)?;
    let align = (align / SLICE_SIZE).max(1) as u32;
    // Larger blocks are mostly filled; of what is smaller, a huge page would be a large part.
    let usage = if slices >= WHOLE_BLOCK {
        Usage::Whole
    } else {
        Usage::Part
    };
    let run = arena::claim(slices, align, usage)?;
    let page = registry::slice_descriptor(run.start.addr().get())?;
    page.shared().register(
        identity(Kind::Large, run.start, bytes, run.arena),
        ptr::null_mut(),
    );
    if zeroed && !run.clean {
        // SAFETY: the slices were just claimed.
        unsafe { run.start.write_bytes(0, bytes) };
    }
    Some(LargeBlock {
        start: run.start,
        bytes,
        zero: zeroed || run.clean,
    })
}

/// Registers a mapping as a huge block.
fn register(mapping: Mapping) -> Option<LargeBlock> {
    let (start, bytes) = (mapping.base(), mapping.bytes());
    // Always there: the mapping was made with descriptors.
    let page = registry::slice_descriptor(start.addr().get())?;
    mappings::store(page, mapping);
    page.shared()
        .register(identity(Kind::Huge, start, bytes, 0), ptr::null_mut());
    Some(LargeBlock {
        start,
        bytes,
        zero: false,
    })
}

/// Takes a huge block's mapping out of the registry, before it is freed or moved: from here on its slices may be
/// somebody else's.
fn unregister(page: PageRef) -> Mapping {
    page.shared().unregister();
    // SAFETY: the block is the caller's, and so its mapping.
    unsafe { mappings::load(page) }
}

/// Frees the block of a large or huge page; the bytes that it took.
///
/// # Safety
/// The caller gives the page's only block up.
pub unsafe fn free(page: PageRef) -> usize {
    let bytes = page.shared().block_bytes();
    if page.shared().kind() == Kind::Huge {
        mappings::free(unregister(page));
        return bytes;
    }
    let slices = page.slices();
    let number = page.shared().arena();
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    page.shared().unregister();
    arena::release(start, number, slices, slices);
    bytes
}

/// Changes the size of a large or huge block without copying: in place where that can be, by moving the mapping of a
/// huge one otherwise. `None` when the contents have to be copied; the block is unchanged then.
///
/// # Safety
/// `page` holds the caller's block, whose alignment is `align`, a power of two.
pub unsafe fn resize(page: PageRef, size: usize, align: usize) -> Option<LargeBlock> {
    if size > MAX_BYTES {
        return None;
    }
    // What has a class now may grow to its end without being asked for, as in a page of the class.
    let class = SizeClass::of(size, align);
    // (A block of no bytes keeps a slice, as in `allocate`.)
    let slices = SliceCount::covering(class.map_or(size.max(1), SizeClass::bytes))?;
    let bytes = class.map_or(slices.bytes(), SizeClass::bytes);
    let old = page.slices();
    // SAFETY: pages lie above address 0.
    let start = unsafe { NonNull::new_unchecked(page.shared().start()) };
    let done = |start| {
        Some(LargeBlock {
            start,
            bytes,
            zero: false,
        })
    };
    match page.shared().kind() {
        Kind::Huge if slices == old => done(start),
        Kind::Large if slices == old => {
            page.shared().set_block_bytes(bytes);
            done(start)
        }
        // What a mapping from the cache may be too long by: only what is there is given back.
        Kind::Huge if slices < old && mappings::fits(old.bytes(), slices.bytes()) => {
            // SAFETY: the rest of the block, which is the caller's to give up.
            unsafe { os::discard(start.add(slices.bytes()), old.bytes() - slices.bytes()) };
            Some(LargeBlock {
                start,
                bytes: old.bytes(),
                zero: false,
            })
        }
        Kind::Huge if slices.bytes() > MAX_ARENA_BLOCK => {
            let align = align_up(align, SLICE_SIZE)?;
            // Out of the registry first: the kernel may give the old addresses to another thread at once.
            let mapping = unregister(page);
            // SAFETY: the block is the caller's, who gets its new address.
            match unsafe { mappings::resize(mapping, slices.bytes(), align) } {
                Ok(moved) if registry::cover(moved.base(), slices.bytes()) => register(moved),
                Ok(moved) => {
                    // No memory for descriptors of the new place: the block can't stay there.
                    // SAFETY: as above, in the other direction; the old size fits the new one or is a part of it.
                    let back = unsafe { mappings::resize(moved, old.bytes(), align) };
                    register(back.unwrap_or_else(|mapping| mapping));
                    None
                }
                Err(mapping) => {
                    register(mapping);
                    None
                }
            }
        }
        Kind::Large if slices < old && slices.0 >= old.0 / 2 => {
            let rest = SliceCount(old.0 - slices.0);
            page.shared().set_block_bytes(bytes);
            // SAFETY: the rest lies in the page.
            let from = unsafe { start.add(slices.bytes()) };
            arena::release(from, page.shared().arena(), rest, rest);
            done(start)
        }
        Kind::Large if slices > old && slices.bytes() <= MAX_ARENA_BLOCK => {
            let more = SliceCount(slices.0 - old.0);
            arena::extend(start, page.shared().arena(), old, more)?;
            page.shared().set_block_bytes(bytes);
            done(start)
        }
        _ => None,
    }
}

/// The large or huge page that `address` lies in, though not at its start: for error messages. Looks at the slices
/// below, as many as the largest block in an arena has.
pub fn holding(address: usize) -> Option<PageRef> {
    let first = address & !(SLICE_SIZE - 1);
    (0..=MAX_ARENA_BLOCK / SLICE_SIZE).find_map(|back| {
        let page = registry::find(first.checked_sub(back * SLICE_SIZE)?)?;
        if !matches!(page.shared().kind(), Kind::Large | Kind::Huge) {
            return None;
        }
        let offset = address.checked_sub(page.shared().start().addr())?;
        (offset < page.slices().bytes()).then_some(page)
    })
}
