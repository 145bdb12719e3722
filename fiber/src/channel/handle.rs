//! The two ends of a channel.

use super::buffer::Buffer;
use super::core::Core;
use super::error::{
    RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError, TrySendError,
};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A channel and how many ends it has.
struct Shared<T> {
    core: Core<T>,
    capacity: Option<usize>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

/// The sending end of a channel. Clones send into the same one; when the last is dropped, the channel closes.
///
/// Any thread may use it, a fiber or not. A fiber that has to wait parks; a plain thread looks for a while and blocks.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

/// The receiving end of a channel. Clones receive from the same one, each value once; when the last is dropped, the
/// channel closes, and the values in it are dropped.
///
/// Any thread may use it, a fiber or not. A fiber that has to wait parks; a plain thread looks for a while and blocks.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

/// Both ends of a new channel.
fn channel<T>(buffer: Buffer<T>) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        capacity: buffer.capacity(),
        core: Core::new(buffer),
        senders: AtomicUsize::new(1),
        receivers: AtomicUsize::new(1),
    });
    let receiver = Receiver {
        shared: shared.clone(),
    };
    (Sender { shared }, receiver)
}

/// A channel that holds up to `capacity` values; a sender that finds it full waits. With a capacity of 0 it holds none:
/// a sender and a receiver meet, and the value goes from one to the other (a rendezvous).
///
/// The room is allocated at once. Values come out in the order in which they went in.
///
/// ```
/// use millpond_fiber::{channel, spawn};
///
/// let (sender, receiver) = channel::bounded(2);
/// let squares = spawn(move || {
///     for n in 0..10u64 {
///         sender.send(n * n).unwrap();
///     }
/// });
/// assert_eq!(receiver.iter().sum::<u64>(), 285);
/// squares.join().unwrap();
/// ```
///
/// # Panics
/// When the room is larger than half the address space.
pub fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    channel(Buffer::bounded(capacity))
}

/// A channel that holds any number of values: a send never waits. It allocates a block for each 64 values that it
/// holds.
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    channel(Buffer::unbounded())
}

/// The end of a time from now; `None` if that is further off than any clock runs.
pub(super) fn deadline(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

impl<T> Sender<T> {
    /// Sends a value; waits while the channel is full.
    ///
    /// # Errors
    /// Gives the value back when the channel is closed, and when the fiber has to wait and its token is cancelled.
    #[inline]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        let sent = self.shared.core.send(value, None);
        sent.map_err(|(value, why)| why.send(value))
    }

    /// Sends a value if that needs no waiting.
    ///
    /// # Errors
    /// Gives the value back when the channel is full (a rendezvous channel: when no receiver waits) or closed.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        let sent = self.shared.core.try_send(value);
        sent.map_err(|(value, why)| why.try_send(value))
    }

    /// As [`Sender::send`], for a time at most.
    ///
    /// # Errors
    /// As for [`Sender::send`], and when the time is over.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        let sent = self.shared.core.send(value, deadline(timeout));
        sent.map_err(|(value, why)| why.send_timeout(value))
    }

    /// As [`Sender::send`], until a time at most.
    ///
    /// # Errors
    /// As for [`Sender::send`], and when the time is over.
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        let sent = self.shared.core.send(value, Some(deadline));
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
        self.shared.core.recv(None).map_err(|why| why.recv())
    }

    /// Receives a value if one is there.
    ///
    /// # Errors
    /// When none is there.
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.shared.core.try_recv().map_err(|why| why.try_recv())
    }

    /// As [`Receiver::recv`], for a time at most.
    ///
    /// # Errors
    /// As for [`Receiver::recv`], and when the time is over; then nothing was taken.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let received = self.shared.core.recv(deadline(timeout));
        received.map_err(|why| why.recv_timeout())
    }

    /// As [`Receiver::recv`], until a time at most.
    ///
    /// # Errors
    /// As for [`Receiver::recv`], and when the time is over; then nothing was taken.
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        let received = self.shared.core.recv(Some(deadline));
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
    ($end:ident, $count:ident) => {
        impl<T> $end<T> {
            /// How many values the channel holds.
            pub fn len(&self) -> usize {
                self.shared.core.len()
            }

            /// Whether the channel holds no value.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// Whether the channel holds as many values as it can; always, for a rendezvous channel.
            pub fn is_full(&self) -> bool {
                self.shared.core.is_full()
            }

            /// How many values the channel can hold; `None` if any number.
            pub fn capacity(&self) -> Option<usize> {
                self.shared.capacity
            }

            pub(super) fn core(&self) -> &Core<T> {
                &self.shared.core
            }

            /// Closes the channel, for all its ends: nothing more goes in. Receivers get what it holds; senders that
            /// wait get their values back. `false` if it was closed already.
            pub fn close(&self) -> bool {
                self.shared.core.close()
            }

            /// Whether the channel is closed, because somebody closed it or because one side has no ends left.
            pub fn is_closed(&self) -> bool {
                self.shared.core.is_closed()
            }

            /// Whether both are ends of the same channel.
            pub fn same_channel(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.shared, &other.shared)
            }
        }

        impl<T> Clone for $end<T> {
            fn clone(&self) -> Self {
                // Relaxed: this end keeps the count above 0.
                self.shared.$count.fetch_add(1, Ordering::Relaxed);
                Self {
                    shared: self.shared.clone(),
                }
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

both_ends!(Sender, senders);
both_ends!(Receiver, receivers);

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // AcqRel: what the others sent came before the close.
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.core.close();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if self.shared.receivers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.core.close_and_drain();
        }
    }
}

iterators!();
