//! Those who wait at a channel: a list through nodes that lie in the waiters' frames. Everything here happens under the
//! channel's lock, so a node is taken out, or found to be out, before its frame goes.

use crate::wait::Waiter;
use crate::worker::WakeBatch;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// Added to a node's reason: the channel was closed, and nothing was handed over.
pub const CLOSED: usize = 1;
/// Reasons that a node takes up: handed over, closed.
pub const REASONS: usize = 2;

/// A place in a list.
pub struct Node {
    next: Cell<*const Node>,
    previous: Cell<*const Node>,
    queued: Cell<bool>,
    /// Only this node leads to the waiter: no timer, no token, no other node. So who has the list's lock claims it
    /// without a compare-and-swap.
    alone: Cell<bool>,
    waiter: Cell<*const Waiter>,
    /// What the waiter is claimed with, by this node.
    reason: Cell<usize>,
    /// A value to send, or room for one to receive, in the waiter's frame.
    slot: Cell<*mut ()>,
}

impl Node {
    /// In no list.
    pub const fn new() -> Self {
        Self {
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            queued: Cell::new(false),
            alone: Cell::new(false),
            waiter: Cell::new(ptr::null()),
            reason: Cell::new(0),
            slot: Cell::new(ptr::null_mut()),
        }
    }

    /// Prepares it for a list.
    pub fn set(&self, waiter: &Waiter, reason: usize, slot: *mut ()) {
        self.waiter.set(waiter);
        self.reason.set(reason);
        self.slot.set(slot);
    }

    /// Says whether only this node leads to the waiter.
    pub fn set_alone(&self, alone: bool) {
        self.alone.set(alone);
    }

    /// Claims the waiter: `false` if somebody else has.
    fn claim(&self, addend: usize) -> bool {
        let reason = self.reason.get() + addend;
        // SAFETY: the frame stays as long as the node is in its list, or until the signal.
        let waiter = unsafe { &*self.waiter.get() };
        if self.alone.get() {
            waiter.claim_alone(reason);
            return true;
        }
        waiter.claim(reason)
    }
}

/// A waiter that the holder has claimed: it stays in its frame until [`Claimed::signal`].
#[must_use = "a claimed waiter waits for its signal"]
pub struct Claimed(NonNull<Node>);

impl Claimed {
    /// Where the value is, or goes.
    #[inline]
    pub fn slot<T>(&self) -> *mut T {
        // SAFETY: the frame stays until the signal.
        unsafe { self.0.as_ref() }.slot.get().cast()
    }

    /// Ends the wait. Not to be called under a lock: it may make a system call.
    #[inline]
    pub fn signal(self) {
        // SAFETY: claimed, and signalled once, since this takes the right to it.
        unsafe { Waiter::signal(self.0.as_ref().waiter.get()) };
    }
}

/// Waiters, the longest waiting first.
pub struct WaitList {
    first: *const Node,
    last: *const Node,
}

// SAFETY: nodes are touched under the lock that the list lies behind, or by who has claimed their waiter.
unsafe impl Send for WaitList {}

impl WaitList {
    /// Nobody.
    pub const fn new() -> Self {
        Self {
            first: ptr::null(),
            last: ptr::null(),
        }
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Puts a waiter at the end.
    ///
    /// # Safety
    /// The node is in no list, and stays where it is until it is out of this one.
    pub unsafe fn push(&mut self, node: &Node) {
        debug_assert!(!node.queued.get());
        node.queued.set(true);
        node.next.set(ptr::null());
        node.previous.set(self.last);
        // SAFETY: nodes in a list are alive.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
    }

    /// Takes a node out, if it is still in.
    ///
    /// # Safety
    /// The node is in no other list.
    pub unsafe fn remove(&mut self, node: &Node) {
        if !node.queued.replace(false) {
            return;
        }
        let (previous, next) = (node.previous.get(), node.next.get());
        // SAFETY: nodes in a list are alive.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.set(next),
            None => self.first = next,
        }
        // SAFETY: as above.
        match unsafe { next.as_ref() } {
            Some(next) => next.previous.set(previous),
            None => self.last = previous,
        }
    }

    /// Takes out the first waiter that nobody else has claimed, claimed.
    #[inline]
    pub fn claim_first(&mut self) -> Option<Claimed> {
        if self.is_empty() {
            return None;
        }
        self.claim_next(0)
    }

    fn claim_next(&mut self, addend: usize) -> Option<Claimed> {
        while let Some(first) = NonNull::new(self.first.cast_mut()) {
            // SAFETY: nodes in a list are alive, and this one is in no other.
            let node = unsafe {
                self.remove(first.as_ref());
                first.as_ref()
            };
            if node.claim(addend) {
                return Some(Claimed(first));
            }
        }
        None
    }

    /// Takes out and claims all, to be told that the channel is closed.
    pub fn close(&mut self) -> ClosedList {
        let mut closed = ClosedList(ptr::null());
        let mut last: *const Node = ptr::null();
        while let Some(Claimed(node)) = self.claim_next(CLOSED) {
            // SAFETY: claimed and not signalled, so the frames are there.
            unsafe {
                node.as_ref().next.set(ptr::null());
                match last.as_ref() {
                    Some(last) => last.next.set(node.as_ptr()),
                    None => closed.0 = node.as_ptr(),
                }
            }
            last = node.as_ptr();
        }
        closed
    }
}

/// Claimed waiters of a channel that was closed.
#[must_use = "claimed waiters wait for their signals"]
pub struct ClosedList(*const Node);

impl ClosedList {
    /// Ends their waits, those of fibers together. Not to be called under a lock.
    pub fn signal(self, batch: &mut WakeBatch) {
        let mut next = self.0;
        // SAFETY: claimed, and each frame stays until its signal, before which the link is read.
        while let Some(node) = unsafe { next.as_ref() } {
            next = node.next.get();
            // SAFETY: as above; each is signalled once.
            unsafe { Waiter::signal_in(node.waiter.get(), batch) };
        }
    }
}
