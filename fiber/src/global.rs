//! The queue of fibers that no worker spawned, and of what a worker gives away: bounded and lock-free, with a second,
//! unbounded one behind it, so that nothing is ever dropped and a spawner never waits.

use crate::task::Header;
use crossbeam_queue::{ArrayQueue, SegQueue};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many stand in the bounded part.
pub const CAPACITY: usize = 4096;

/// A record in a queue.
struct Queued(NonNull<Header>);
// SAFETY: a record in a queue is whoever's takes it out; its closure is `Send`.
unsafe impl Send for Queued {}

/// The queue.
pub struct Global {
    bounded: ArrayQueue<Queued>,
    spill: SegQueue<Queued>,
    /// How many ever spilled, for the metrics.
    spilled: AtomicUsize,
}

impl Global {
    /// Empty.
    pub fn new() -> Self {
        Self {
            bounded: ArrayQueue::new(CAPACITY),
            spill: SegQueue::new(),
            spilled: AtomicUsize::new(0),
        }
    }

    /// Puts a fiber at the end. (While some have spilled, new ones spill too, so that the order holds but for races.)
    pub fn push(&self, fiber: NonNull<Header>) {
        let fiber = if self.spill.is_empty() {
            match self.bounded.push(Queued(fiber)) {
                Ok(()) => return,
                Err(fiber) => fiber,
            }
        } else {
            Queued(fiber)
        };
        self.spilled.fetch_add(1, Ordering::Relaxed);
        self.spill.push(fiber);
    }

    /// Takes the first.
    pub fn pop(&self) -> Option<NonNull<Header>> {
        let first = self.bounded.pop().or_else(|| self.spill.pop())?;
        Some(first.0)
    }

    /// Whether nothing stands there, as far as the caller can see.
    pub fn is_empty(&self) -> bool {
        self.bounded.is_empty() && self.spill.is_empty()
    }

    /// How many stand there.
    pub fn len(&self) -> usize {
        self.bounded.len() + self.spill.len()
    }

    /// How many ever went to the unbounded part.
    pub fn spilled(&self) -> usize {
        self.spilled.load(Ordering::Relaxed)
    }
}
