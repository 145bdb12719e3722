//! The two ends of a channel for one sender and one receiver.

use super::super::error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use super::super::handle::deadline;
use super::queue::{Queue, Side};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The sending end. Dropping it closes the channel.
pub struct Sender<T> {
    pub(super) queue: Arc<Queue<T>>,
    // Not `Sync`, so neither is the end.
    pub(super) side: Side<T>,
}

/// The receiving end. Dropping it closes the channel and drops the values in it.
pub struct Receiver<T> {
    pub(super) queue: Arc<Queue<T>>,
    pub(super) side: Side<T>,
}

fn channel<T>(queue: Queue<T>) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(queue);
    let sender = Sender {
        side: queue.side(),
        queue: queue.clone(),
    };
    let receiver = Receiver {
        side: queue.side(),
        queue,
    };
    (sender, receiver)
}

/// A channel that holds up to `capacity` values; the sender waits when it finds it full. The room is allocated at once.
///
/// # Panics
/// When the capacity is 0 (for a rendezvous there is [`crate::channel::bounded`]), or the room is larger than half the
/// address space.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a rendezvous is a `channel::bounded`");
    channel(Queue::new(Some(capacity)))
}

/// A channel that holds any number of values: a send never waits. It allocates a block for each 64 values that it
/// holds.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(Queue::new(None))
}

impl<T> Sender<T> {
    /// Sends a value; waits while the channel is full.
    ///
    /// # Errors
    /// Gives the value back when the channel is closed, and when the fiber has to wait and its token is cancelled.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        // SAFETY: this is the sender's side, and no other thread has a reference to it.
        let sent = unsafe { self.queue.send(&self.side, value, None) };
        sent.map_err(|(value, why)| why.send(value))
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Errors
    /// Gives the value back when the channel is full or closed.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        // SAFETY: as in `send`.
        let sent = unsafe { self.queue.try_send(&self.side, value) };
        if let Some(receiver) = sent.map_err(|(value, why)| why.try_send(value))? {
            receiver.signal();
        }
        Ok(())
    }

    /// As [`Sender::send`], for a time at most.
    ///
    /// # Errors
    /// As for [`Sender::send`], and when the time is over.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        // SAFETY: as in `send`.
        let sent = unsafe { self.queue.send(&self.side, value, deadline(timeout)) };
        sent.map_err(|(value, why)| why.send_timeout(value))
    }

    /// As [`Sender::send`], until a time at most.
    ///
    /// # Errors
    /// As for [`Sender::send`], and when the time is over.
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        // SAFETY: as in `send`.
        let sent = unsafe { self.queue.send(&self.side, value, Some(deadline)) };
        sent.map_err(|(value, why)| why.send_timeout(value))
    }
}

impl<T> Receiver<T> {
    /// Receives a value; waits until there is one.
    ///
    /// # Errors
    /// When the channel is closed and empty, and when the fiber has to wait and its token is cancelled.
    #[inline]
    pub fn recv(&self) -> Result<T, RecvError> {
        // SAFETY: this is the receiver's side, and no other thread has a reference to it.
        unsafe { self.queue.recv(&self.side, None) }.map_err(|why| why.recv())
    }

    /// Receives a value if one is there.
    ///
    /// # Errors
    /// When none is there.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        // SAFETY: as in `recv`.
        let received = unsafe { self.queue.try_recv(&self.side) };
        let (value, claimed) = received.map_err(|why| why.try_recv())?;
        if let Some(sender) = claimed {
            sender.signal();
        }
        Ok(value)
    }

    /// As [`Receiver::recv`], for a time at most.
    ///
    /// # Errors
    /// As for [`Receiver::recv`], and when the time is over; then nothing was taken.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        // SAFETY: as in `recv`.
        let received = unsafe { self.queue.recv(&self.side, deadline(timeout)) };
        received.map_err(|why| why.recv_timeout())
    }

    /// As [`Receiver::recv`], until a time at most.
    ///
    /// # Errors
    /// As for [`Receiver::recv`], and when the time is over; then nothing was taken.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        // SAFETY: as in `recv`.
        let received = unsafe { self.queue.recv(&self.side, Some(deadline)) };
        received.map_err(|why| why.recv_timeout())
    }

    /// The values, until the channel is closed and empty (or the wait for the next one is cancelled).
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The values that are there; it doesn't wait.
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }
}

/// What both ends have.
macro_rules! both_ends {
    ($end:ident) => {
        impl<T> $end<T> {
            /// How many values the channel holds, or held a moment ago.
            pub fn len(&self) -> usize {
                self.queue.len()
            }

            /// Whether the channel holds no value.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the channel holds as many values as it can.
            pub fn is_full(&self) -> bool {
                Some(self.len()) == self.capacity()
            }

            /// How many values the channel can hold; `None` if any number.
            pub fn capacity(&self) -> Option<usize> {
                self.queue.capacity()
            }

            /// Closes the channel, for both ends: nothing more goes in. The receiver gets what it holds; a sender that
            /// waits gets its value back. `false` if it was closed already.
            pub fn close(&self) -> bool {
                self.queue.close()
            }

            /// Whether the channel is closed, because somebody closed it or because the other end is gone.
            pub fn is_closed(&self) -> bool {
                self.queue.is_closed()
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($end))
                    .field("len", &self.len())
                    .field("capacity", &self.capacity())
                    .field("is_closed", &self.is_closed())
                    .finish()
            }
        }

        // Values only pass through, whole; nothing of a channel is left broken by a panic.
        impl<T> UnwindSafe for $end<T> {}
        impl<T> RefUnwindSafe for $end<T> {}
    };
}

both_ends!(Sender);
both_ends!(Receiver);

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // SAFETY: the receiver's side, for the last time.
        unsafe { self.queue.leave(&self.side) };
    }
}

iterators!();
