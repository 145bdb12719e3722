//! Statistics: counted where the slow paths are anyway, summed when somebody asks.
//!
//! No fast path counts anything. A refill counts the blocks that it moves into a bin as allocations; a block that is
//! freed into its bin's current page and handed out again from there is not counted twice, because nobody saw it.
//! Frees are counted when the owner next looks at the page. So `allocations - frees` is the number of blocks that are
//! live or lie in a bin; `collect` and thread exit empty the bins, and then it is exact.

#[cfg(native)]
pub mod counters;
#[cfg(native)]
pub use counters::Counters;

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the allocator did so far, summed over all threads, and what it holds right now.
        ///
        /// ```
        /// let stats = millpond::stats();
        /// for (name, value) in stats.entries() {
        ///     println!("{name} {value}");
        /// }
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            /// Each counter's name and value, in the order of the fields.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

stats! {
    /// Blocks moved into bins or handed out directly, less those that came back from bins unused.
    allocations,
    /// Blocks that came back to their pages, and recycled ones.
    frees,
    /// Blocks freed outside their bin's current page that went straight back into the bin, without a visit to their
    /// page. Counted among the frees, and among the allocations since they are in a bin again.
    recycled,
    /// Refills served by a page that was claimed from an arena (step 12).
    fresh_pages,
    /// The bytes of those pages.
    fresh_page_bytes,
    /// Refills served by freed blocks: by a batch of recycled ones, or from the current page, news, partly used, warm
    /// or adopted pages (steps 1, 3 to 7, 9 and 10).
    reused_pages,
    /// Refills served by blocks of a page in use that were on no list (steps 2 and 8): never handed out before, for most
    /// of them. Not counted as reuse, since no free made them available; but those of a page that is carved anew, and
    /// of system pages that were given back, are counted here, too.
    carved_refills,
    /// Blocks freed by a thread that doesn't hold the heap of their page, counted when they were pushed; a thread
    /// without a heap adds up to 255 of them when it calls `collect` or `stats`, or ends.
    remote_frees,
    /// Remotely freed blocks taken back from their bin's current page.
    drained_active,
    /// Remotely freed blocks taken back from partly used pages.
    drained_partial,
    /// Remotely freed blocks taken back from full pages.
    drained_full,
    /// Remotely freed blocks taken back from pages of heaps without a thread.
    drained_abandoned,
    /// Fresh pages taken although the heap had news after three rounds of draining.
    fresh_pages_with_news_pending,
    /// Pages that a refill looked at and that had no block to give: tokens of pages already drained in place.
    pages_scanned_in_vain,
    /// Pages taken over from heaps without a thread, one by one.
    adopted_pages,
    /// Whole heaps taken over, with all their pages, by a thread that had freed into them.
    adopted_heaps,
    /// Pages left behind by threads that ended or exchanged their heap, other than warm ones; a page counts each time.
    abandoned_pages,
    /// Claimed pages that don't start on 64 KiB: always 0.
    misaligned_pages,
    /// Look-ups of an address that no page of ours holds.
    registry_misses,
    /// Bytes given back to the system so far.
    purged_bytes,
    /// Bytes of address space taken from the system.
    reserved_bytes,
    /// Bytes of it that are accessible; what is resident is less.
    committed_bytes,
    /// Bytes of live blocks, class sizes not requests; exact once every live thread has called
    /// [`collect`](crate::collect) or has exited, before that within one page per thread and class, and what threads have recycled:
    /// at most 80 KiB per class up to 1 KiB, above that an eighth of the memory in use.
    live_bytes,
    /// Bytes of free slices and of freed huge mappings kept resident for reuse.
    reserve_bytes,
    /// Arenas.
    arenas,
    /// Live threads that hold a heap.
    threads,
    /// Heaps made so far; they are reused, never unmade.
    heaps,
}
