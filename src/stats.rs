//! Counters.

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the allocator did so far, summed over all threads.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        impl Stats {
            /// Each counter's name and value, in declaration order.
            pub fn entries(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

stats! {
    /// Blocks handed out.
    allocations,
    /// Blocks freed.
    frees,
    /// Refills served by a fresh page.
    fresh_pages,
    /// Bytes of fresh pages.
    fresh_page_bytes,
    /// Refills served from freed blocks.
    reused_pages,
    /// Remote frees.
    remote_frees,
    /// Live bytes.
    live_bytes,
    /// Highest live bytes.
    peak_live_bytes,
    /// Threads.
    threads,
}

/// Sums the counters.
pub fn stats() -> Stats {
    Stats::default()
}
