//! What others may see of a worker.

use super::Queued;
use crate::inbox::Inbox;
use crate::task::Header;
use crate::timer::Timers;
use crossbeam_deque::Stealer;
use crossbeam_utils::CachePadded;
use std::mem::offset_of;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

/// What others may see of a worker: each part that somebody writes on cache lines of its own.
#[repr(C)]
pub struct Remote {
    /// Its fresh tasks (with migration: all that can run), for thieves.
    pub stealer: Stealer<Queued>,
    /// Its thread, to unpark.
    pub thread: OnceLock<Thread>,
    /// Its own fibers that others woke. Written by whoever wakes one.
    pub inbox: CachePadded<Inbox<Header>>,
    /// Its fibers' timers.
    pub timers: CachePadded<Timers>,
    /// Written by the worker alone, and read by thieves.
    pub counts: CachePadded<Counts>,
}

const LINES: usize = align_of::<CachePadded<u8>>();
static_assertions::const_assert!(LINES >= 64 && size_of::<Remote>().is_multiple_of(LINES));
static_assertions::const_assert!(offset_of!(Remote, inbox) >= LINES);
static_assertions::const_assert!(offset_of!(Remote, timers) >= offset_of!(Remote, inbox) + LINES);
static_assertions::const_assert!(offset_of!(Remote, counts) >= offset_of!(Remote, timers) + LINES);

/// A worker's counters. Only it writes them, with a load and a store.
#[derive(Default)]
pub struct Counts {
    /// Picks: stands still while one fiber runs.
    pub picks: AtomicU64,
    /// Fibers spawned on it.
    pub spawned: AtomicU64,
    /// Fibers completed on it.
    pub completed: AtomicU64,
    /// Tasks that it stole.
    pub stolen: AtomicU64,
    /// Times it slept.
    pub sleeps: AtomicU64,
    /// Switches to a suspended or fresh fiber.
    pub switches: AtomicU64,
    /// Fibers of its that parked.
    pub parks: AtomicU64,
}

/// Adds one to a counter that only the caller writes.
pub fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}
