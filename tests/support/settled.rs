//! The statistics of a process at rest.

use millpond::Stats;

/// How many remote frees the heaps have drained.
pub fn drained(stats: &Stats) -> u64 {
    stats.drained_active + stats.drained_partial + stats.drained_full + stats.drained_abandoned
}

/// What must hold at any time where threads take turns. (Frees may arrive faster than a refill settles them.)
pub fn never(stats: &Stats) {
    assert_eq!(stats.fresh_pages_with_news_pending, 0, "{stats:#?}");
    assert_eq!(stats.misaligned_pages, 0, "{stats:#?}");
    assert_eq!(stats.registry_misses, 0, "{stats:#?}");
}

/// As [`settled_after_a_race`], where threads took turns: of what must never be, nothing was.
pub fn settled() -> Stats {
    let stats = settled_after_a_race();
    never(&stats);
    stats
}

/// The counters once the only live thread has collected: all that threads kept is with its pages again.
pub fn settled_after_a_race() -> Stats {
    millpond::collect(true);
    let stats = millpond::stats();
    assert_eq!(
        stats.remote_frees,
        drained(&stats),
        "frees are queued after collect: {stats:#?}"
    );
    stats
}
