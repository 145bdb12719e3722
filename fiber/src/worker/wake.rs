//! Waking: an event is brought to a fiber, and the fiber to its worker.

use super::{Queued, Worker, current};
use crate::control::Event;
use crate::runtime::Migration;
use crate::task::Header;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

/// Wake-ups that one operation collects before it delivers them.
const BATCH: usize = 16;

/// Brings an event to a fiber.
///
/// # Safety
/// The fiber isn't finished, or the caller holds a reference to its record.
pub unsafe fn wake(fiber: NonNull<Header>, event: Event) {
    // SAFETY: passed on.
    let header = unsafe { fiber.as_ref() };
    if !header.control.wake(event, is_at_home(header)) {
        return;
    }
    // The fiber is ASSIGNED now: nobody else queues it, and it can't end before.
    // SAFETY: the runtime lives as long as it has fibers.
    let shared = unsafe { &*header.shared.get() };
    match current() {
        Some(worker) if ptr::eq(worker.shared.as_ptr(), shared) => worker.queue_woken(fiber),
        _ => shared.queue_from_outside(fiber),
    }
}

/// Whether the calling thread is the only one that runs the fiber.
fn is_at_home(header: &Header) -> bool {
    current().is_some_and(|worker| {
        // The home of a pinned fiber is set before it first runs, and so before it first waits.
        ptr::eq(worker.shared.as_ptr(), header.shared.get())
            && worker.shared().config.migration == Migration::Pinned
            && header.home.get() as usize == worker.index
    })
}

impl Worker {
    /// Queues a fiber that the running one woke.
    fn queue_woken(&self, fiber: NonNull<Header>) {
        // SAFETY: ASSIGNED by the caller, so it is the caller's until it is queued.
        let header = unsafe { fiber.as_ref() };
        let home = header.home.get() as usize;
        let moves = self.shared().may_move(header);
        if home != self.index && !moves {
            return self.shared().post(home, fiber, fiber);
        }
        if self.hand_off.get().is_null() {
            self.hand_off.set(fiber.as_ptr());
        } else if moves {
            self.deque.push(Queued(fiber));
            self.shared().wake_one(false);
        } else {
            self.ready.push(fiber);
        }
    }
}

/// Fibers that one operation wakes, delivered together: one push for up to [`BATCH`] fibers of a worker. Nothing that can
/// suspend runs between the wakes and the delivery, which dropping the batch does at the latest.
pub struct WakeBatch {
    fibers: [Option<NonNull<Header>>; BATCH],
    count: usize,
}

impl WakeBatch {
    /// Empty.
    pub fn new() -> Self {
        Self {
            fibers: [None; BATCH],
            count: 0,
        }
    }

    /// Adds a fiber that the caller has just made ASSIGNED.
    fn add(&mut self, fiber: NonNull<Header>) {
        self.fibers[self.count] = Some(fiber);
        self.count += 1;
        if self.count == BATCH {
            self.deliver();
        }
    }

    /// Delivers what was collected.
    pub fn deliver(&mut self) {
        let fibers = &mut self.fibers[..std::mem::take(&mut self.count)];
        for first in 0..fibers.len() {
            let Some(fiber) = fibers[first].take() else {
                continue;
            };
            // SAFETY: all in the batch are the caller's to queue, and their runtimes live as long as they do.
            let header = unsafe { fiber.as_ref() };
            // SAFETY: as above.
            let shared = unsafe { &*header.shared.get() };
            let worker = current().filter(|worker| ptr::eq(worker.shared.as_ptr(), shared));
            let home = header.home.get();
            if shared.may_move(header) || worker.is_some_and(|worker| worker.index == home as usize)
            {
                match worker {
                    Some(worker) => worker.queue_woken(fiber),
                    None => shared.queue_from_outside(fiber),
                }
                continue;
            }
            // A chain of all that go to the same worker, youngest first: an inbox is turned round when it is taken.
            let mut top = fiber;
            for other in &mut fibers[first + 1..] {
                let same = other.is_some_and(|other| {
                    // SAFETY: as above.
                    let other = unsafe { other.as_ref() };
                    ptr::eq(other.shared.get(), shared) && other.home.get() == home
                });
                if same && let Some(other) = other.take() {
                    // SAFETY: as above.
                    unsafe { other.as_ref() }
                        .next
                        .store(top.as_ptr(), Ordering::Relaxed);
                    top = other;
                }
            }
            shared.post(home as usize, top, fiber);
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        self.deliver();
    }
}

/// As [`wake`], delivered with the batch.
///
/// # Safety
/// As for [`wake`].
pub unsafe fn wake_in(batch: &mut WakeBatch, fiber: NonNull<Header>, event: Event) {
    // SAFETY: passed on.
    let header = unsafe { fiber.as_ref() };
    if header.control.wake(event, is_at_home(header)) {
        batch.add(fiber);
    }
}
