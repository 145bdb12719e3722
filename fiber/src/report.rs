//! What workers do and fibers wait for, in words: for the watchdogs of tests, and for programs that hang.

use crate::runtime::Shared;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// The runtimes of the process.
static RUNTIMES: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

fn runtimes() -> MutexGuard<'static, Vec<Weak<Shared>>> {
    RUNTIMES.lock().unwrap_or_else(|e| e.into_inner())
}

/// Notes a new runtime.
pub fn enter(shared: &Arc<Shared>) {
    let mut runtimes = runtimes();
    runtimes.retain(|runtime| runtime.strong_count() > 0);
    runtimes.push(Arc::downgrade(shared));
}

/// What the workers of all runtimes of the process do, and what their fibers wait for. Any thread may ask at any time;
/// the figures are those of slightly different moments.
pub fn report() -> String {
    let shared: Vec<_> = runtimes().iter().filter_map(Weak::upgrade).collect();
    shared
        .iter()
        .map(|shared| Report(shared).to_string())
        .collect()
}

/// The report of one runtime.
pub struct Report<'a>(pub &'a Shared);

/// Unnamed fibers are told by what they wait for; named ones each, up to this many.
const NAMES: usize = 20;

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = self.0;
        writeln!(
            f,
            "runtime `{}`: {} fibers live, {} tasks in the global queue",
            shared.config.name,
            shared.live(),
            shared.global.len()
        )?;
        for (index, worker) in shared.workers.iter().enumerate() {
            let counts = &worker.counts;
            writeln!(
                f,
                "  worker {index}: {}; {} fresh tasks queued, {}{} picks, {} parks, {} completed",
                if shared.idle.is_asleep(index) {
                    "asleep"
                } else {
                    "awake"
                },
                worker.stealer.len(),
                if worker.inbox.is_empty() {
                    ""
                } else {
                    "woken fibers in its inbox, "
                },
                counts.picks.load(Ordering::Relaxed),
                counts.parks.load(Ordering::Relaxed),
                counts.completed.load(Ordering::Relaxed),
            )?;
        }
        let mut unnamed: BTreeMap<&'static str, usize> = BTreeMap::new();
        let mut named = Vec::new();
        shared.roster.each(|seen| match seen.waits() {
            Some((what, Some(name))) => named.push((name, what)),
            Some((what, None)) => *unnamed.entry(what).or_default() += 1,
            None => {}
        });
        named.sort();
        for (name, what) in named.iter().take(NAMES) {
            writeln!(f, "  fiber `{name}` waits for {what}")?;
        }
        if named.len() > NAMES {
            writeln!(f, "  and {} more with names", named.len() - NAMES)?;
        }
        for (what, count) in unnamed {
            let (fibers, wait) = if count == 1 {
                ("fiber", "waits")
            } else {
                ("fibers", "wait")
            };
            writeln!(f, "  {count} {fibers} without a name {wait} for {what}")?;
        }
        Ok(())
    }
}
