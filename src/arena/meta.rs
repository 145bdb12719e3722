//! Memory for the allocator's own structures: heaps, arena records, bitmaps. Bumped from chunks, never given back, so
//! a reference to anything in it is good for the life of the process.

use super::mappings;
use crate::os::{self, Reservation};
use crate::units::{KIB, align_up};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Address space per chunk; only what is used is resident. A chunk serves requests of up to a quarter of it.
const CHUNK_BYTES: usize = 512 * KIB;
/// What everything is aligned to: two cache lines, since the adjacent-line prefetcher pairs them.
const ALIGN: usize = 128;

#[repr(C, align(128))]
struct ChunkHeader {
    used: AtomicUsize,
}

static CHUNK: AtomicPtr<ChunkHeader> = AtomicPtr::new(ptr::null_mut());

fn reserve(bytes: usize) -> Option<Reservation> {
    mappings::or_without_cache(|| os::reserve(bytes, ALIGN, c"millpond metadata"))
}

/// Zeroed memory of `bytes`, aligned to 128, that lives for ever; `None` when the system refuses. Lock-free.
pub fn allocate(bytes: usize) -> Option<NonNull<u8>> {
    let bytes = align_up(bytes, ALIGN)?;
    if bytes > CHUNK_BYTES / 4 {
        let own = reserve(bytes)?;
        let base = own.base();
        std::mem::forget(own);
        return Some(base);
    }
    loop {
        // Acquire pairs with the Release that published the chunk with its header.
        let chunk = CHUNK.load(Ordering::Acquire);
        if !chunk.is_null() {
            // SAFETY: a published chunk is never unmapped. Relaxed: the counter only divides the space up.
            let from = unsafe { (*chunk).used.fetch_add(bytes, Ordering::Relaxed) };
            if from <= CHUNK_BYTES - bytes {
                return NonNull::new(chunk.cast::<u8>().wrapping_add(from));
            }
        }
        let new = reserve(CHUNK_BYTES)?;
        let header = new.base().cast::<ChunkHeader>();
        // SAFETY: the mapping is new, zeroed and large enough for the header.
        unsafe { header.as_ref() }
            .used
            .store(size_of::<ChunkHeader>(), Ordering::Relaxed);
        // Release publishes the header. A loser drops its mapping and uses the winner's chunk.
        if CHUNK
            .compare_exchange(chunk, header.as_ptr(), Ordering::Release, Ordering::Relaxed)
            .is_ok()
        {
            std::mem::forget(new);
        }
    }
}
