//! Operations that a select chooses from.

use super::core::{Core, Side, Slot};
use super::error::{RecvError, SendError, Unready};
use super::handle::{Receiver, Sender};
use super::wait_list::{Claimed, Node};
use crate::wait::Waiter;
use std::fmt;
use std::ptr;

/// An operation on a channel that hasn't happened yet: [`RecvOp`], [`SendOp`] and those of [`crate::channel::spsc`].
/// [`crate::channel::select()`] carries one of several out.
pub trait Operation: sealed::Step {}

pub(super) mod sealed {
    use super::Side;
    use super::{Claimed, Waiter};

    /// The steps of a select. In a module that can't be named, so that only this crate's operations are ones.
    ///
    /// # Safety
    /// `acquire` gives the right to `attempt` and `register` until `release`; a node that was registered is out of its
    /// list after `withdraw`.
    pub unsafe trait Step {
        /// Where the lock lies: locks are taken in this order, and each once.
        fn lock_address(&self) -> *const ();
        /// The side that it waits on.
        fn side(&self) -> Side;
        /// Whether there is something to carry out: not, for a send without a value.
        fn is_armed(&self) -> bool {
            true
        }
        /// Takes the channel's lock.
        fn acquire(&self);
        /// Gives it back.
        ///
        /// # Safety
        /// The caller has taken it, and will use the right no more.
        unsafe fn release(&self);
        /// Carries the operation out, if that can be done without waiting. The waiter that it woke, if it did, is to be
        /// signalled.
        ///
        /// # Safety
        /// The caller has the lock.
        unsafe fn attempt(&mut self) -> Option<Option<Claimed>>;
        /// Waits at the channel: `false` if the operation can be carried out now.
        ///
        /// # Safety
        /// The caller has the lock; the operation stays where it is, and the waiter too, until `withdraw`, or until the
        /// waiter was claimed by this operation's node.
        unsafe fn register(&mut self, waiter: &Waiter, reason: usize) -> bool;
        /// Waits there no more.
        ///
        /// # Safety
        /// The caller has the lock.
        unsafe fn withdraw(&mut self);
        /// Ends the operation as whoever claimed its node has left it: `false` if it must wait again.
        ///
        /// # Safety
        /// The waiter was claimed by this operation's node, and signalled.
        unsafe fn finish(&mut self, closed: bool) -> bool;
        /// Ends the operation because the fiber was cancelled.
        fn cancel(&mut self);
        /// Where the result is: an `Option<Result<..>>` of the operation's type.
        fn result(&mut self) -> *mut ();
    }
}

/// A receive, for [`crate::channel::select()`]; made by [`Receiver::recv_op`].
pub struct RecvOp<'channel, T> {
    core: &'channel Core<T>,
    slot: Slot<T>,
    node: Node,
    result: Option<Result<T, RecvError>>,
}

/// A send, for [`crate::channel::select()`]; made by [`Sender::send_op`].
pub struct SendOp<'channel, T> {
    core: &'channel Core<T>,
    slot: Slot<T>,
    /// The slot holds the value.
    full: bool,
    node: Node,
    result: Option<Result<(), SendError<T>>>,
    /// Where the value goes when it wasn't sent.
    source: Option<&'channel mut Option<T>>,
}

// SAFETY: while others may touch the slot and the node, the operation is borrowed by the select; else it is a channel's
// end and a value.
unsafe impl<T: Send> Send for RecvOp<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SendOp<'_, T> {}

impl<T> Receiver<T> {
    /// A receive that hasn't happened yet, to choose from.
    pub fn recv_op(&self) -> RecvOp<'_, T> {
        RecvOp::new(self.core())
    }
}

impl<T> Sender<T> {
    /// A send that hasn't happened yet, to choose from. If another operation is chosen, [`SendOp::into_value`] gives
    /// the value back.
    pub fn send_op(&self, value: T) -> SendOp<'_, T> {
        SendOp::new(self.core(), value)
    }

    /// As [`Sender::send_op`], with the value that `source` holds, which is put back there if it isn't sent.
    ///
    /// # Panics
    /// If there is none.
    pub fn send_op_from<'a>(&'a self, source: &'a mut Option<T>) -> SendOp<'a, T> {
        let value = source.take().expect("a value to send");
        let mut op = self.send_op(value);
        op.source = Some(source);
        op
    }
}

impl<'channel, T> RecvOp<'channel, T> {
    pub(super) fn new(core: &'channel Core<T>) -> Self {
        Self {
            core,
            slot: Slot::new(),
            node: Node::new(),
            result: None,
        }
    }

    /// What was received, if this operation was chosen since the last call; it may be chosen again then.
    pub fn take_result(&mut self) -> Option<Result<T, RecvError>> {
        self.result.take()
    }

    /// As [`RecvOp::take_result`].
    pub fn into_result(mut self) -> Option<Result<T, RecvError>> {
        self.take_result()
    }
}

impl<'channel, T> SendOp<'channel, T> {
    pub(super) fn new(core: &'channel Core<T>, value: T) -> Self {
        let op = Self {
            core,
            slot: Slot::new(),
            full: true,
            node: Node::new(),
            result: None,
            source: None,
        };
        // SAFETY: new.
        unsafe { op.slot.place().write(value) };
        op
    }

    /// How it went, if this operation was chosen since the last call. A send is chosen once; afterwards it is none that
    /// a select could choose.
    pub fn take_result(&mut self) -> Option<Result<(), SendError<T>>> {
        self.result.take()
    }

    /// As [`SendOp::take_result`].
    pub fn into_result(mut self) -> Option<Result<(), SendError<T>>> {
        self.take_result()
    }

    /// The value, if it wasn't sent.
    pub fn into_value(mut self) -> Option<T> {
        self.take_value()
    }

    fn take_value(&mut self) -> Option<T> {
        if std::mem::take(&mut self.full) {
            // SAFETY: full, and not from now on.
            return Some(unsafe { self.slot.place().read() });
        }
        match self.result.take() {
            Some(Err(error)) => Some(error.into_inner()),
            _ => None,
        }
    }

    /// Arms it with another value, after the first was sent.
    pub(super) fn refill(&mut self, value: T) -> Option<T> {
        let old = self.take_value();
        // SAFETY: empty.
        unsafe { self.slot.place().write(value) };
        self.full = true;
        old
    }
}

impl<T> Drop for SendOp<'_, T> {
    fn drop(&mut self) {
        if let Some(value) = self.take_value() {
            match self.source.take() {
                Some(source) => *source = Some(value),
                None => drop(value),
            }
        }
    }
}

// SAFETY: the core's lock, and its lists under it.
unsafe impl<T> sealed::Step for RecvOp<'_, T> {
    fn lock_address(&self) -> *const () {
        ptr::from_ref(self.core).cast()
    }

    fn side(&self) -> Side {
        Side::Receivers
    }

    fn acquire(&self) {
        self.core.lock().acquire();
    }

    unsafe fn release(&self) {
        // SAFETY: passed on.
        unsafe { self.core.lock().release() };
    }

    unsafe fn attempt(&mut self) -> Option<Option<Claimed>> {
        // SAFETY: passed on; the reference ends here.
        let state = unsafe { self.core.lock().held() };
        let (result, claimed) = match state.recv() {
            Ok((value, claimed)) => (Ok(value), claimed),
            Err(Unready::Timeout) => return None,
            Err(why) => (Err(why.recv()), None),
        };
        self.result = Some(result);
        Some(claimed)
    }

    unsafe fn register(&mut self, waiter: &Waiter, reason: usize) -> bool {
        self.node.set(waiter, reason, self.slot.place().cast());
        // SAFETY: passed on.
        unsafe {
            self.core
                .lock()
                .held()
                .waiting(Side::Receivers)
                .push(&self.node)
        };
        true
    }

    unsafe fn withdraw(&mut self) {
        // SAFETY: passed on; in this list, if in any.
        unsafe {
            self.core
                .lock()
                .held()
                .waiting(Side::Receivers)
                .remove(&self.node)
        };
    }

    unsafe fn finish(&mut self, closed: bool) -> bool {
        self.result = Some(if closed {
            Err(RecvError::Disconnected)
        } else {
            // SAFETY: who claimed the node has written the value.
            Ok(unsafe { self.slot.place().read() })
        });
        true
    }

    fn cancel(&mut self) {
        self.result = Some(Err(RecvError::Cancelled));
    }

    fn result(&mut self) -> *mut () {
        ptr::from_mut(&mut self.result).cast()
    }
}

// SAFETY: as above.
unsafe impl<T> sealed::Step for SendOp<'_, T> {
    fn lock_address(&self) -> *const () {
        ptr::from_ref(self.core).cast()
    }

    fn side(&self) -> Side {
        Side::Senders
    }

    fn is_armed(&self) -> bool {
        self.full
    }

    fn acquire(&self) {
        self.core.lock().acquire();
    }

    unsafe fn release(&self) {
        // SAFETY: passed on.
        unsafe { self.core.lock().release() };
    }

    unsafe fn attempt(&mut self) -> Option<Option<Claimed>> {
        if !self.full {
            return None;
        }
        // SAFETY: full; put back if it isn't sent.
        let value = unsafe { self.slot.place().read() };
        // SAFETY: passed on; the reference ends here.
        let state = unsafe { self.core.lock().held() };
        let (result, claimed) = match state.send(value) {
            Ok(claimed) => (Ok(()), claimed),
            Err((value, Unready::Timeout)) => {
                // SAFETY: the place is the one it came from.
                unsafe { self.slot.place().write(value) };
                return None;
            }
            Err((value, why)) => (Err(why.send(value)), None),
        };
        self.full = false;
        self.result = Some(result);
        Some(claimed)
    }

    unsafe fn register(&mut self, waiter: &Waiter, reason: usize) -> bool {
        if self.full {
            self.node.set(waiter, reason, self.slot.place().cast());
            // SAFETY: passed on.
            unsafe {
                self.core
                    .lock()
                    .held()
                    .waiting(Side::Senders)
                    .push(&self.node)
            };
        }
        true
    }

    unsafe fn withdraw(&mut self) {
        // SAFETY: passed on; in this list, if in any.
        unsafe {
            self.core
                .lock()
                .held()
                .waiting(Side::Senders)
                .remove(&self.node)
        };
    }

    unsafe fn finish(&mut self, closed: bool) -> bool {
        if closed {
            let value = self.take_value().expect("it waited with its value");
            self.result = Some(Err(SendError::Disconnected(value)));
        } else {
            // Taken by who claimed the node.
            self.full = false;
            self.result = Some(Ok(()));
        }
        true
    }

    fn cancel(&mut self) {
        if let Some(value) = self.take_value() {
            self.result = Some(Err(SendError::Cancelled(value)));
        }
    }

    fn result(&mut self) -> *mut () {
        ptr::from_mut(&mut self.result).cast()
    }
}

impl<T> Operation for RecvOp<'_, T> {}
impl<T> Operation for SendOp<'_, T> {}

impl<T> fmt::Debug for RecvOp<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvOp")
            .field("is_done", &self.result.is_some())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for SendOp<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendOp")
            .field("is_done", &self.result.is_some())
            .finish_non_exhaustive()
    }
}
