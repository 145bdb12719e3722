//! A list of operations to choose from that may change: [`Select`].

use super::core::{Core, Side};
use super::error::{RecvError, SelectTimeoutError, SendError};
use super::handle::{Receiver, Sender};
use super::operation::{Operation, SendOp};
use super::select::{select, select_deadline, select_timeout, try_select};
use crate::Cancelled;
use std::fmt;
use std::ptr;
use std::time::{Duration, Instant};

/// Operations to choose from, for a number of them that is known only at run time.
///
/// They are on channels for any number of senders and receivers; for those of [`crate::channel::spsc`] there are
/// [`crate::channel::select()`] and [`crate::select!`]. Each takes one allocation when it is added. A receive may be
/// chosen again and again; a send is chosen once, and then needs another value ([`Select::refill`]).
///
/// ```
/// use millpond_fiber::channel::{self, Select};
///
/// let channels: Vec<_> = (0..10).map(|_| channel::bounded(1)).collect();
/// let mut select = Select::new();
/// for (_, receiver) in &channels {
///     select.recv(receiver);
/// }
/// channels[4].0.send("four").unwrap();
/// let selected = select.select().unwrap();
/// let index = selected.index();
/// assert_eq!((index, selected.recv(&channels[index].1)), (4, Ok("four")));
/// assert!(select.try_select().is_none());
/// ```
#[derive(Default)]
pub struct Select<'channel> {
    operations: Vec<Option<Box<dyn Operation + 'channel>>>,
}

/// An operation that a [`Select`] has carried out. Dropping it drops what was received.
#[must_use = "it has the result"]
pub struct Selected<'select> {
    index: usize,
    operation: &'select mut dyn Operation,
}

impl<'channel> Select<'channel> {
    /// Without operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a receive; its number.
    pub fn recv<T>(&mut self, receiver: &'channel Receiver<T>) -> usize {
        self.add(receiver.recv_op())
    }

    /// Adds a send; its number.
    pub fn send<T>(&mut self, sender: &'channel Sender<T>, value: T) -> usize {
        self.add(sender.send_op(value))
    }

    fn add(&mut self, operation: impl Operation + 'channel) -> usize {
        self.operations.push(Some(Box::new(operation)));
        self.operations.len() - 1
    }

    /// Takes an operation out; the others keep their numbers. A value to send that it had is dropped.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn remove(&mut self, index: usize) {
        let removed = self.operations[index].take();
        assert!(removed.is_some(), "operation {index} was removed already");
    }

    /// Gives a send another value; the one that it had and didn't send.
    ///
    /// # Panics
    /// If the operation of this number isn't a send by this sender's channel.
    pub fn refill<T: 'channel>(&mut self, index: usize, sender: &Sender<T>, value: T) -> Option<T> {
        let operation = self.operations[index]
            .as_deref_mut()
            .expect("it was removed");
        let of_sender =
            operation.lock_address() == lock_of(sender.core()) && operation.side() == Side::Senders;
        assert!(of_sender, "operation {index} isn't a send to this channel");
        // SAFETY: the channel's address is that of a core of `T`, and only `SendOp<T>` is a send to one. (No other `T`,
        // not even by a lifetime: a channel's ends are invariant.)
        let operation = unsafe { &mut *ptr::from_mut(operation).cast::<SendOp<'channel, T>>() };
        operation.refill(value)
    }

    /// Carries one of them out, as [`crate::channel::select()`] does.
    ///
    /// # Errors
    /// When it has to wait and the fiber's token is cancelled.
    ///
    /// # Panics
    /// Without operations.
    pub fn select(&mut self) -> Result<Selected<'_>, Cancelled> {
        self.run(select)
    }

    /// As [`Select::select`], without waiting.
    pub fn try_select(&mut self) -> Option<Selected<'_>> {
        self.run(|operations| try_select(operations).ok_or(())).ok()
    }

    /// As [`Select::select`], for a time at most.
    ///
    /// # Errors
    /// When the time is over, and as for [`Select::select`].
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Selected<'_>, SelectTimeoutError> {
        self.run(|operations| select_timeout(operations, timeout))
    }

    /// As [`Select::select`], until a time at most.
    ///
    /// # Errors
    /// When the time is over, and as for [`Select::select`].
    pub fn select_deadline(
        &mut self,
        deadline: Instant,
    ) -> Result<Selected<'_>, SelectTimeoutError> {
        self.run(|operations| select_deadline(operations, deadline))
    }

    fn run<E>(
        &mut self,
        select: impl FnOnce(&mut [&mut dyn Operation]) -> Result<usize, E>,
    ) -> Result<Selected<'_>, E> {
        let (numbers, mut operations): (Vec<usize>, Vec<&mut dyn Operation>) = self
            .operations
            .iter_mut()
            .enumerate()
            .filter_map(|(index, operation)| {
                Some((index, operation.as_deref_mut()? as &mut dyn Operation))
            })
            .unzip();
        let chosen = select(&mut operations)?;
        Ok(Selected {
            index: numbers[chosen],
            operation: operations.swap_remove(chosen),
        })
    }
}

impl Selected<'_> {
    /// The operation's number.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What was received.
    ///
    /// # Errors
    /// As for [`Receiver::recv`].
    ///
    /// # Panics
    /// If the operation isn't a receive from this receiver's channel.
    pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        self.check(lock_of(receiver.core()), Side::Receivers);
        // SAFETY: the channel's address is that of a core of `T`, so this is the result of a receive of one.
        let result = unsafe {
            &mut *self
                .operation
                .result()
                .cast::<Option<Result<T, RecvError>>>()
        };
        result.take().expect("the operation was carried out")
    }

    /// How the send went.
    ///
    /// # Errors
    /// As for [`Sender::send`].
    ///
    /// # Panics
    /// If the operation isn't a send to this sender's channel.
    pub fn send<T>(self, sender: &Sender<T>) -> Result<(), SendError<T>> {
        self.check(lock_of(sender.core()), Side::Senders);
        // SAFETY: as in `recv`.
        let result = unsafe {
            &mut *self
                .operation
                .result()
                .cast::<Option<Result<(), SendError<T>>>>()
        };
        result.take().expect("the operation was carried out")
    }

    fn check(&self, channel: *const (), side: Side) {
        assert!(
            self.operation.lock_address() == channel && self.operation.side() == side,
            "operation {} is another one",
            self.index
        );
    }
}

fn lock_of<T>(core: &Core<T>) -> *const () {
    ptr::from_ref(core).cast()
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.operations.iter().flatten().count();
        f.debug_struct("Select")
            .field("operations", &count)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selected")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
