//! The queue: places between a gate for the sender's progress, at which the receiver waits, and one for the receiver's,
//! at which the sender waits. Invariant: `received <= sent <= received + capacity`.
//!
//! Each side remembers how far it last saw the other (as in FastForward and Lamport's queue with cached indices, Lee et
//! al. 2009), so as long as that is enough, it doesn't touch the other's line.

use super::super::core::outcome;
use super::super::error::Unready;
use super::super::wait_list::{Claimed, Node};
use super::gate::{Gate, Progress};
use super::storage::{Cursor, Storage};
use crate::wait::{FIRED, Waiter};
use crate::worker::{self, WakeBatch};
use crossbeam_utils::CachePadded;
use std::cell::Cell;
use std::ptr;
use std::time::Instant;

/// What both sides share.
pub struct Queue<T> {
    sent: CachePadded<Gate>,
    received: CachePadded<Gate>,
    // Both read it; nobody writes it.
    storage: CachePadded<Storage<T>>,
    capacity: u64,
}

/// What one side has for itself.
pub struct Side<T> {
    cursor: Cursor<T>,
    /// How far this side has come.
    count: Cell<u64>,
    /// How far the other side was when this one last looked.
    other: Cell<u64>,
}

impl<T> Queue<T> {
    /// Up to `capacity` values, at least one; `None`: any number.
    pub fn new(capacity: Option<usize>) -> Self {
        Self {
            sent: CachePadded::new(Gate::new()),
            received: CachePadded::new(Gate::new()),
            storage: CachePadded::new(match capacity {
                Some(capacity) => Storage::bounded(capacity),
                None => Storage::unbounded(),
            }),
            capacity: capacity.map_or(u64::MAX, |capacity| capacity as u64),
        }
    }

    /// A side at the start; there is one of each.
    pub fn side(&self) -> Side<T> {
        Side {
            cursor: self.storage.cursor(),
            count: Cell::new(0),
            other: Cell::new(0),
        }
    }

    /// How many there may be.
    pub fn capacity(&self) -> Option<usize> {
        (self.capacity != u64::MAX).then_some(self.capacity as usize)
    }

    /// How many values there are, or were a moment ago.
    pub fn len(&self) -> usize {
        // In this order: what was received was sent before.
        let received = self.received.progress().count;
        let sent = self.sent.progress().count;
        (sent - received).min(self.capacity) as usize
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.sent.progress().closed
    }

    /// The gate that the receiver waits at.
    pub fn sent(&self) -> &Gate {
        &self.sent
    }

    /// The gate that the sender waits at.
    pub fn received(&self) -> &Gate {
        &self.received
    }

    fn is_full(&self, sender: &Side<T>) -> bool {
        if sender.count.get() - sender.other.get() < self.capacity {
            return false;
        }
        sender.other.set(self.received.progress().count);
        sender.count.get() - sender.other.get() == self.capacity
    }

    /// Sends without waiting, or gives the value back. The receiver, if it waited, is to be signalled.
    ///
    /// # Safety
    /// The side is the sender's, which nobody else uses meanwhile.
    #[inline]
    pub unsafe fn try_send(
        &self,
        sender: &Side<T>,
        value: T,
    ) -> Result<Option<Claimed>, (T, Unready)> {
        if self.is_full(sender) {
            let closed = self.is_closed();
            return Err((
                value,
                if closed {
                    Unready::Disconnected
                } else {
                    Unready::Timeout
                },
            ));
        }
        // SAFETY: passed on.
        let place = unsafe { self.storage.to_write(&sender.cursor) };
        // SAFETY: the receiver has left the place, and doesn't come back before `advance`.
        unsafe { place.write(value) };
        match self.sent.advance(sender.count.get()) {
            Ok(claimed) => {
                self.storage.step(&sender.cursor);
                sender.count.set(sender.count.get() + 1);
                Ok(claimed)
            }
            // SAFETY: the receiver won't look there.
            Err(_) => Err((unsafe { place.read() }, Unready::Disconnected)),
        }
    }

    /// Receives without waiting. The sender, if it waited, is to be signalled.
    ///
    /// # Safety
    /// The side is the receiver's, which nobody else uses meanwhile.
    #[inline]
    pub unsafe fn try_recv(&self, receiver: &Side<T>) -> Result<(T, Option<Claimed>), Unready> {
        if receiver.count.get() == receiver.other.get() {
            let Progress { count, closed } = self.sent.progress();
            if receiver.count.get() == count {
                return Err(if closed {
                    Unready::Disconnected
                } else {
                    Unready::Timeout
                });
            }
            receiver.other.set(count);
        }
        // SAFETY: passed on; the sender has gone on from there.
        let value = unsafe { self.storage.to_read(&receiver.cursor).read() };
        // The receiver's gate is never closed: only the sender waits at it, and is told by `close`.
        let claimed = self.received.advance(receiver.count.get()).ok().flatten();
        self.storage.step(&receiver.cursor);
        receiver.count.set(receiver.count.get() + 1);
        Ok((value, claimed))
    }

    /// Sends, or gives the value back when the time is over.
    ///
    /// # Safety
    /// As for [`Queue::try_send`].
    #[inline]
    pub unsafe fn send(
        &self,
        sender: &Side<T>,
        value: T,
        deadline: Option<Instant>,
    ) -> Result<(), (T, Unready)> {
        // SAFETY: passed on.
        match unsafe { self.try_send(sender, value) } {
            Ok(claimed) => {
                if let Some(receiver) = claimed {
                    receiver.signal();
                }
                Ok(())
            }
            // SAFETY: passed on.
            Err((value, Unready::Timeout)) => unsafe { self.send_slowly(sender, value, deadline) },
            Err(refused) => Err(refused),
        }
    }

    #[cold]
    unsafe fn send_slowly(
        &self,
        sender: &Side<T>,
        mut value: T,
        deadline: Option<Instant>,
    ) -> Result<(), (T, Unready)> {
        loop {
            if let Err(why) = self.wait(&self.received, sender.other.get(), deadline) {
                return Err((value, why));
            }
            // SAFETY: passed on.
            match unsafe { self.try_send(sender, value) } {
                Ok(claimed) => {
                    if let Some(receiver) = claimed {
                        receiver.signal();
                    }
                    return Ok(());
                }
                Err((unsent, Unready::Timeout)) => value = unsent,
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Receives, until a time at most.
    ///
    /// # Safety
    /// As for [`Queue::try_recv`].
    #[inline]
    pub unsafe fn recv(&self, receiver: &Side<T>, deadline: Option<Instant>) -> Result<T, Unready> {
        // SAFETY: passed on.
        match unsafe { self.try_recv(receiver) } {
            Ok((value, claimed)) => {
                if let Some(sender) = claimed {
                    sender.signal();
                }
                Ok(value)
            }
            // SAFETY: passed on.
            Err(Unready::Timeout) => unsafe { self.recv_slowly(receiver, deadline) },
            Err(why) => Err(why),
        }
    }

    #[cold]
    unsafe fn recv_slowly(
        &self,
        receiver: &Side<T>,
        deadline: Option<Instant>,
    ) -> Result<T, Unready> {
        loop {
            let waited = self.wait(&self.sent, receiver.count.get(), deadline);
            // Closed since: what came before it is still to be had.
            if !matches!(waited, Ok(()) | Err(Unready::Disconnected)) {
                return waited.map(|()| unreachable!());
            }
            // SAFETY: passed on.
            match unsafe { self.try_recv(receiver) } {
                Ok((value, claimed)) => {
                    if let Some(sender) = claimed {
                        sender.signal();
                    }
                    return Ok(value);
                }
                Err(Unready::Timeout) => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Waits until the gate's side goes on from `count`.
    fn wait(&self, gate: &Gate, count: u64, deadline: Option<Instant>) -> Result<(), Unready> {
        let waiter = Waiter::new();
        let node = Node::new();
        let alone = deadline.is_none() && !worker::has_token();
        node.set(&waiter, FIRED, ptr::null_mut());
        node.set_alone(alone);
        {
            let mut waiting = gate.lock().lock();
            // Who closes says so before it looks who waits for room.
            if self.is_closed() {
                return Err(Unready::Disconnected);
            }
            // SAFETY: locked; new, and taken out below, unless who claims the waiter has taken it out.
            if !unsafe { gate.register(&mut waiting, &node, count) } {
                return Ok(());
            }
        }
        if alone {
            return outcome(waiter.wait());
        }
        let ended = outcome(waiter.wait_interruptibly(deadline));
        if matches!(ended, Err(Unready::Timeout | Unready::Cancelled)) {
            // SAFETY: it was in this list only.
            unsafe { gate.withdraw(&mut gate.lock().lock(), &node) };
        }
        ended
    }

    /// Lets a select wait at a gate: `false` if there is no need to.
    ///
    /// # Safety
    /// The caller holds the gate's lock; the side is its own; the node is in no list, and stays where it is until it is
    /// out of this one.
    pub unsafe fn register_sender(&self, sender: &Side<T>, node: &Node) -> bool {
        // SAFETY: passed on.
        unsafe {
            let waiting = self.received.lock().held();
            self.received.register(waiting, node, sender.other.get())
        }
    }

    /// As [`Queue::register_sender`], for the receiver.
    ///
    /// # Safety
    /// As for [`Queue::register_sender`].
    pub unsafe fn register_receiver(&self, receiver: &Side<T>, node: &Node) -> bool {
        // SAFETY: passed on.
        unsafe {
            let waiting = self.sent.lock().held();
            self.sent.register(waiting, node, receiver.count.get())
        }
    }

    /// Closes it: `false` if it was closed already.
    pub fn close(&self) -> bool {
        let mut batch = WakeBatch::new();
        let Some(receivers) = self.sent.close() else {
            return false;
        };
        receivers.signal(&mut batch);
        self.received.dismiss_all().signal(&mut batch);
        true
    }

    /// The receiver goes: closes it, and drops what it holds.
    ///
    /// # Safety
    /// As for [`Queue::try_recv`], for the last time.
    pub unsafe fn leave(&self, receiver: &Side<T>) {
        /// Goes on when a destructor panics; when a second one does, the process ends, as everywhere.
        struct Rest<'queue, T>(&'queue Queue<T>, &'queue Side<T>);

        impl<T> Rest<'_, T> {
            fn pop(&self) -> Option<T> {
                // SAFETY: passed on by `leave`. Closed, so no sender waits.
                unsafe { self.0.try_recv(self.1) }
                    .ok()
                    .map(|(value, _)| value)
            }
        }

        impl<T> Drop for Rest<'_, T> {
            fn drop(&mut self) {
                while let Some(value) = self.pop() {
                    drop(value);
                }
                self.0.storage.leave(&self.1.cursor);
            }
        }

        self.close();
        let rest = Rest(self, receiver);
        while let Some(value) = rest.pop() {
            drop(value);
        }
    }
}
