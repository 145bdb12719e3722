//! Those who wait for the same thing, first in, first out. The nodes lie in the waiters' frames, so a wait allocates
//! nothing; the list is used under its lock only, and a waiter has had the lock after its wait unless it was fired.

use crate::stack::Label;
use crate::wait::Waiter;
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// A waiter in a list.
pub struct Node {
    /// Who waits.
    pub waiter: Waiter,
    /// What for, to the list's owner.
    pub wants: usize,
    next: Cell<*const Node>,
    previous: Cell<*const Node>,
    queued: Cell<bool>,
}

impl Node {
    /// For the calling fiber or thread, to wait once.
    pub fn new(wants: usize, label: Label) -> Self {
        let waiter = Waiter::new();
        waiter.set_label(label);
        Self {
            waiter,
            wants,
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
            queued: Cell::new(false),
        }
    }
}

/// The list.
///
/// Every node in it lives: whoever puts one there takes it out, or sees it taken out, before it goes.
pub struct WaitList {
    first: *const Node,
    last: *const Node,
}

// SAFETY: the nodes are used by whoever has the list alone, wherever that is.
unsafe impl Send for WaitList {}

impl WaitList {
    /// Empty.
    pub const fn new() -> Self {
        Self {
            first: ptr::null(),
            last: ptr::null(),
        }
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// The one that has waited longest.
    pub fn first(&self) -> Option<&Node> {
        // SAFETY: nodes in the list live.
        unsafe { self.first.as_ref() }
    }

    /// Puts a node at the end.
    ///
    /// # Safety
    /// The node is in no list, and stays where it is until it is taken out of this one.
    pub unsafe fn push_back(&mut self, node: &Node) {
        node.next.set(ptr::null());
        node.previous.set(self.last);
        node.queued.set(true);
        // SAFETY: nodes in the list live.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(node),
            None => self.first = node,
        }
        self.last = node;
    }

    /// Puts a node at the front.
    ///
    /// # Safety
    /// As for [`WaitList::push_back`].
    pub unsafe fn push_front(&mut self, node: &Node) {
        node.next.set(self.first);
        node.previous.set(ptr::null());
        node.queued.set(true);
        // SAFETY: nodes in the list live.
        match unsafe { self.first.as_ref() } {
            Some(first) => first.previous.set(node),
            None => self.last = node,
        }
        self.first = node;
    }

    /// Takes the first. It lives until its waiter is claimed and signalled, or the list's lock given up.
    pub fn pop_front(&mut self) -> Option<NonNull<Node>> {
        let first = NonNull::new(self.first.cast_mut())?;
        // SAFETY: nodes in the list live.
        self.remove(unsafe { first.as_ref() });
        Some(first)
    }

    /// Takes a node out; `false` if it is in no list. (It must not be in another one.)
    pub fn remove(&mut self, node: &Node) -> bool {
        if !node.queued.replace(false) {
            return false;
        }
        // SAFETY: nodes in the list live, for both neighbours.
        match unsafe { node.previous.get().as_ref() } {
            Some(previous) => previous.next.set(node.next.get()),
            None => self.first = node.next.get(),
        }
        // SAFETY: as above.
        match unsafe { node.next.get().as_ref() } {
            Some(next) => next.previous.set(node.previous.get()),
            None => self.last = node.previous.get(),
        }
        true
    }
}
