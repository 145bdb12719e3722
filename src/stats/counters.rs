//! The counters of one heap, and shards of them for threads without one.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

macro_rules! counters {
    ($($name:ident,)*) => {
        /// Written by the lease holder with plain loads and stores (an atomic read-modify-write only in the shards),
        /// read by anyone.
        #[derive(Default)]
        #[repr(C, align(128))]
        pub struct Counters { $(pub $name: Counter,)* }

        impl Counters {
            /// All zero.
            pub const fn new() -> Self {
                Self { $($name: Counter(AtomicU64::new(0)),)* }
            }

            /// Adds the other's values to this one's.
            pub fn absorb(&self, other: &Counters) {
                $(self.$name.add(other.$name.get());)*
            }
        }
    };
}

counters! {
    allocations, frees, recycled, allocated_bytes, freed_bytes,
    fresh_pages, fresh_page_bytes, reused_pages, carved_refills,
    remote_frees, drained_active, drained_partial, drained_full, drained_abandoned,
    fresh_pages_with_news_pending, pages_scanned_in_vain,
    adopted_pages, adopted_heaps, abandoned_pages, registry_misses,
}

/// A counter with one writer at a time.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`, as the only writer.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        // Relaxed: one writer, handed on with the lease; readers want a recent value only.
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes back `n`, as the only writer.
    #[inline(always)]
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// Adds `n` where several threads may write.
    #[inline]
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

const SHARDS: usize = 16;

static SHARD: [Counters; SHARDS] = [const { Counters::new() }; SHARDS];

/// A shard for a thread without a heap; threads are dealt out by the address of something of theirs.
pub fn shard(of: usize) -> &'static Counters {
    // Thread-local addresses differ in their middle bits: a Fibonacci hash spreads them.
    let hash = of.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize);
    &SHARD[hash >> (usize::BITS - SHARDS.trailing_zeros())]
}

/// Adds up all shards.
pub fn absorb_shards(into: &Counters) {
    for shard in &SHARD {
        into.absorb(shard);
    }
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Counts a thread that got or lost its heap.
pub fn count_thread(arrived: bool) {
    if arrived {
        THREADS.fetch_add(1, Relaxed)
    } else {
        THREADS.fetch_sub(1, Relaxed)
    };
}

/// In a forked child: one thread is left, with or without a heap.
pub fn reset_threads(left: usize) {
    THREADS.store(left, Relaxed);
}

/// Threads that hold a heap.
pub fn threads() -> usize {
    THREADS.load(Relaxed)
}
