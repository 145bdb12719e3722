//! Operations on a channel for one sender and one receiver, that a select chooses from. A waiter is only told that the
//! other side has gone on, and carries its operation out itself.

use super::super::core::Side as Kind;
use super::super::error::{RecvError, SendError, Unready};
use super::super::operation::{Operation, sealed::Step};
use super::super::wait_list::{Claimed, Node};
use super::gate::Gate;
use super::handle::{Receiver, Sender};
use crate::wait::Waiter;
use std::fmt;
use std::ptr;

/// A receive, for [`crate::channel::select()`]; made by [`Receiver::recv_op`].
pub struct RecvOp<'channel, T> {
    receiver: &'channel Receiver<T>,
    node: Node,
    result: Option<Result<T, RecvError>>,
}

/// A send, for [`crate::channel::select()`]; made by [`Sender::send_op`].
pub struct SendOp<'channel, T> {
    sender: &'channel Sender<T>,
    value: Option<T>,
    node: Node,
    result: Option<Result<(), SendError<T>>>,
    /// Where the value goes when it wasn't sent.
    source: Option<&'channel mut Option<T>>,
}

impl<T> Receiver<T> {
    /// A receive that hasn't happened yet, to choose from.
    pub fn recv_op(&self) -> RecvOp<'_, T> {
        RecvOp {
            receiver: self,
            node: Node::new(),
            result: None,
        }
    }

    fn gate(&self) -> &Gate {
        self.queue.sent()
    }
}

impl<T> Sender<T> {
    /// A send that hasn't happened yet, to choose from. If another operation is chosen, [`SendOp::into_value`] gives
    /// the value back.
    pub fn send_op(&self, value: T) -> SendOp<'_, T> {
        SendOp {
            sender: self,
            value: Some(value),
            node: Node::new(),
            result: None,
            source: None,
        }
    }

    /// As [`Sender::send_op`], with the value that `source` holds, which is put back there if it isn't sent.
    ///
    /// # Panics
    /// If there is none.
    pub fn send_op_from<'a>(&'a self, source: &'a mut Option<T>) -> SendOp<'a, T> {
        let mut op = self.send_op(source.take().expect("a value to send"));
        op.source = Some(source);
        op
    }

    fn gate(&self) -> &Gate {
        self.queue.received()
    }
}

impl<T> RecvOp<'_, T> {
    /// What was received, if this operation was chosen since the last call; it may be chosen again then.
    pub fn take_result(&mut self) -> Option<Result<T, RecvError>> {
        self.result.take()
    }

    /// As [`RecvOp::take_result`].
    pub fn into_result(mut self) -> Option<Result<T, RecvError>> {
        self.take_result()
    }
}

impl<T> SendOp<'_, T> {
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
        self.value.take().or_else(|| match self.result.take() {
            Some(Err(error)) => Some(error.into_inner()),
            _ => None,
        })
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

// SAFETY: the gate's lock, and its list under it.
unsafe impl<T> Step for RecvOp<'_, T> {
    fn lock_address(&self) -> *const () {
        ptr::from_ref(self.receiver.gate()).cast()
    }

    fn side(&self) -> Kind {
        Kind::Receivers
    }

    fn acquire(&self) {
        self.receiver.gate().lock().acquire();
    }

    unsafe fn release(&self) {
        // SAFETY: passed on.
        unsafe { self.receiver.gate().lock().release() };
    }

    unsafe fn withdraw(&mut self) {
        let gate = self.receiver.gate();
        // SAFETY: passed on; in this list, if in any.
        unsafe { gate.withdraw(gate.lock().held(), &self.node) };
    }

    unsafe fn finish(&mut self, _closed: bool) -> bool {
        // Fibers of one thread may share an end (by a thread-local), and another may have come before this one.
        // SAFETY: `attempt` needs the side, not the lock.
        let Some(claimed) = (unsafe { self.attempt() }) else {
            return false;
        };
        if let Some(claimed) = claimed {
            claimed.signal();
        }
        true
    }

    fn result(&mut self) -> *mut () {
        ptr::from_mut(&mut self.result).cast()
    }

    unsafe fn attempt(&mut self) -> Option<Option<Claimed>> {
        let Receiver { queue, side } = self.receiver;
        // SAFETY: the receiver's side; the receiver isn't `Sync`, so no other thread uses it.
        let (result, claimed) = match unsafe { queue.try_recv(side) } {
            Ok((value, claimed)) => (Ok(value), claimed),
            Err(Unready::Timeout) => return None,
            Err(why) => (Err(why.recv()), None),
        };
        self.result = Some(result);
        Some(claimed)
    }

    unsafe fn register(&mut self, waiter: &Waiter, reason: usize) -> bool {
        self.node.set(waiter, reason, ptr::null_mut());
        let Receiver { queue, side } = self.receiver;
        // SAFETY: passed on.
        unsafe { queue.register_receiver(side, &self.node) }
    }

    fn cancel(&mut self) {
        self.result = Some(Err(RecvError::Cancelled));
    }
}

// SAFETY: as above.
unsafe impl<T> Step for SendOp<'_, T> {
    fn lock_address(&self) -> *const () {
        ptr::from_ref(self.sender.gate()).cast()
    }

    fn side(&self) -> Kind {
        Kind::Senders
    }

    fn is_armed(&self) -> bool {
        self.value.is_some()
    }

    fn acquire(&self) {
        self.sender.gate().lock().acquire();
    }

    unsafe fn release(&self) {
        // SAFETY: passed on.
        unsafe { self.sender.gate().lock().release() };
    }

    unsafe fn withdraw(&mut self) {
        let gate = self.sender.gate();
        // SAFETY: passed on; in this list, if in any.
        unsafe { gate.withdraw(gate.lock().held(), &self.node) };
    }

    unsafe fn finish(&mut self, _closed: bool) -> bool {
        // Fibers of one thread may share an end (by a thread-local), and another may have come before this one.
        // SAFETY: `attempt` needs the side, not the lock.
        let Some(claimed) = (unsafe { self.attempt() }) else {
            return false;
        };
        if let Some(claimed) = claimed {
            claimed.signal();
        }
        true
    }

    fn result(&mut self) -> *mut () {
        ptr::from_mut(&mut self.result).cast()
    }

    unsafe fn attempt(&mut self) -> Option<Option<Claimed>> {
        let value = self.value.take()?;
        let Sender { queue, side } = self.sender;
        // SAFETY: the sender's side; the sender isn't `Sync`, so no other thread uses it.
        let (result, claimed) = match unsafe { queue.try_send(side, value) } {
            Ok(claimed) => (Ok(()), claimed),
            Err((value, Unready::Timeout)) => {
                self.value = Some(value);
                return None;
            }
            Err((value, why)) => (Err(why.send(value)), None),
        };
        self.result = Some(result);
        Some(claimed)
    }

    unsafe fn register(&mut self, waiter: &Waiter, reason: usize) -> bool {
        if self.value.is_none() {
            return true;
        }
        self.node.set(waiter, reason, ptr::null_mut());
        let Sender { queue, side } = self.sender;
        // SAFETY: passed on.
        unsafe { queue.register_sender(side, &self.node) }
    }

    fn cancel(&mut self) {
        if let Some(value) = self.take_value() {
            self.result = Some(Err(SendError::Cancelled(value)));
        }
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
