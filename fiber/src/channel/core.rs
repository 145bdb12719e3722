//! A channel for any number of senders and receivers: a buffer and two lists of waiters behind one lock.
//!
//! Invariants, whenever the lock is free: receivers wait only while the buffer is empty and no sender waits; senders wait
//! only while the buffer is full; nobody waits once it is closed. (But a waiter whose time is over, who was cancelled, or
//! who was served by another channel of its select may stand there until it takes itself out.)
//!
//! Who finds somebody waiting on the other side claims the waiter under the lock and moves the value from frame to frame
//! or between frame and buffer; the signal comes after the lock is free.

use super::buffer::Buffer;
use super::error::Unready;
use super::lock::{Guard, SpinLock};
use super::wait_list::{CLOSED, Claimed, Node, WaitList};
use crate::wait::{CANCELLED, FIRED, TIMED_OUT, Waiter};
use crate::worker::{self, WakeBatch};
use crossbeam_utils::CachePadded;
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::time::Instant;

/// What the lock is around.
pub struct State<T> {
    buffer: Buffer<T>,
    senders: WaitList,
    receivers: WaitList,
    closed: bool,
}

/// A channel.
pub struct Core<T> {
    state: CachePadded<SpinLock<State<T>>>,
}

impl<T> State<T> {
    /// Sends without waiting, if that can be done. The waiter that it woke, if it did, is to be signalled.
    #[inline]
    pub fn send(&mut self, value: T) -> Result<Option<Claimed>, (T, Unready)> {
        if let Some(receiver) = self.receivers.claim_first() {
            // SAFETY: a waiting receiver's slot is room for a `T`, in a frame that stays until the signal.
            unsafe { receiver.slot::<T>().write(value) };
            return Ok(Some(receiver));
        }
        if self.closed {
            return Err((value, Unready::Disconnected));
        }
        if self.buffer.is_full() {
            return Err((value, Unready::Timeout));
        }
        self.buffer.push(value);
        Ok(None)
    }

    /// Receives without waiting, if that can be done. The waiter that it woke, if it did, is to be signalled.
    #[inline]
    pub fn recv(&mut self) -> Result<(T, Option<Claimed>), Unready> {
        if let Some(value) = self.buffer.pop() {
            // Now there is room for one that waits.
            let sender = self.senders.claim_first();
            if let Some(sender) = &sender {
                // SAFETY: a waiting sender's slot holds its value, which is taken once: by who has claimed it.
                self.buffer.push(unsafe { sender.slot::<T>().read() });
            }
            return Ok((value, sender));
        }
        if let Some(sender) = self.senders.claim_first() {
            // SAFETY: as above.
            let value = unsafe { sender.slot::<T>().read() };
            return Ok((value, Some(sender)));
        }
        Err(if self.closed {
            Unready::Disconnected
        } else {
            Unready::Timeout
        })
    }

    /// Those who wait on one side.
    pub fn waiting(&mut self, side: Side) -> &mut WaitList {
        match side {
            Side::Senders => &mut self.senders,
            Side::Receivers => &mut self.receivers,
        }
    }
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// To send.
    Senders,
    /// To receive.
    Receivers,
}

/// Room for a value in the frame of who waits, which others write or read.
pub struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Slot<T> {
    /// Without a value.
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Where the value is, or goes.
    pub fn place(&self) -> *mut T {
        self.0.get().cast()
    }
}

/// What a wait ended with.
pub fn outcome(reason: usize) -> Result<(), Unready> {
    const CLOSED_BY_OTHER: usize = FIRED + CLOSED;
    match reason {
        FIRED => Ok(()),
        CLOSED_BY_OTHER => Err(Unready::Disconnected),
        TIMED_OUT => Err(Unready::Timeout),
        CANCELLED => Err(Unready::Cancelled),
        _ => unreachable!("a reason that nobody claims with"),
    }
}

impl<T> Core<T> {
    /// Open, with a buffer.
    pub fn new(buffer: Buffer<T>) -> Self {
        let state = State {
            buffer,
            senders: WaitList::new(),
            receivers: WaitList::new(),
            closed: false,
        };
        Self {
            state: CachePadded::new(SpinLock::new(state)),
        }
    }

    /// The lock, for selects.
    pub fn lock(&self) -> &SpinLock<State<T>> {
        &self.state
    }

    /// Sends without waiting, or gives the value back.
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), (T, Unready)> {
        let claimed = self.state.lock().send(value)?;
        if let Some(receiver) = claimed {
            receiver.signal();
        }
        Ok(())
    }

    /// Sends, or gives the value back when the time is over.
    #[inline]
    pub fn send(&self, value: T, deadline: Option<Instant>) -> Result<(), (T, Unready)> {
        let mut state = self.state.lock();
        match state.send(value) {
            Ok(claimed) => {
                drop(state);
                if let Some(receiver) = claimed {
                    receiver.signal();
                }
                Ok(())
            }
            Err((value, Unready::Timeout)) => self.wait_to_send(state, value, deadline),
            Err(refused) => Err(refused),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_to_send(
        &self,
        state: Guard<'_, State<T>>,
        value: T,
        deadline: Option<Instant>,
    ) -> Result<(), (T, Unready)> {
        let slot = Slot::<T>::new();
        // SAFETY: nobody else knows the slot yet.
        unsafe { slot.place().write(value) };
        self.wait(state, Side::Senders, &slot, deadline)
            // SAFETY: nobody has taken the value, and nobody will: the waiter was claimed for something else.
            .map_err(|why| (unsafe { slot.place().read() }, why))
    }

    /// Receives without waiting.
    #[inline]
    pub fn try_recv(&self) -> Result<T, Unready> {
        let (value, claimed) = self.state.lock().recv()?;
        if let Some(sender) = claimed {
            sender.signal();
        }
        Ok(value)
    }

    /// Receives, until a time at most.
    #[inline]
    pub fn recv(&self, deadline: Option<Instant>) -> Result<T, Unready> {
        let mut state = self.state.lock();
        match state.recv() {
            Ok((value, claimed)) => {
                drop(state);
                if let Some(sender) = claimed {
                    sender.signal();
                }
                Ok(value)
            }
            Err(Unready::Timeout) => self.wait_to_recv(state, deadline),
            Err(why) => Err(why),
        }
    }

    #[cold]
    #[inline(never)]
    fn wait_to_recv(
        &self,
        state: Guard<'_, State<T>>,
        deadline: Option<Instant>,
    ) -> Result<T, Unready> {
        let slot = Slot::<T>::new();
        self.wait(state, Side::Receivers, &slot, deadline)
            // SAFETY: who claimed the waiter with this reason has written the value.
            .map(|()| unsafe { slot.place().read() })
    }

    /// Waits until somebody has dealt with the slot.
    fn wait(
        &self,
        mut state: Guard<'_, State<T>>,
        side: Side,
        slot: &Slot<T>,
        deadline: Option<Instant>,
    ) -> Result<(), Unready> {
        let waiter = Waiter::new();
        let alone = deadline.is_none() && !worker::has_token();
        let node = Node::new();
        node.set(&waiter, FIRED, slot.place().cast());
        node.set_alone(alone);
        // SAFETY: new, and taken out below, unless who claims the waiter has taken it out.
        unsafe { state.waiting(side).push(&node) };
        drop(state);
        if alone {
            return outcome(waiter.wait());
        }
        let ended = outcome(waiter.wait_interruptibly(deadline));
        if matches!(ended, Err(Unready::Timeout | Unready::Cancelled)) {
            // SAFETY: it was in this list only.
            unsafe { self.state.lock().waiting(side).remove(&node) };
        }
        ended
    }

    /// Closes it: `false` if it was closed already.
    pub fn close(&self) -> bool {
        let mut batch = WakeBatch::new();
        let (senders, receivers) = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.closed, true) {
                return false;
            }
            (state.senders.close(), state.receivers.close())
        };
        senders.signal(&mut batch);
        receivers.signal(&mut batch);
        true
    }

    /// Closes it, and drops what it holds: nobody is left to receive it.
    pub fn close_and_drain(&self) {
        self.close();
        let held = {
            let mut state = self.state.lock();
            std::mem::replace(&mut state.buffer, Buffer::unbounded())
        };
        // Destructors of values may use the channel.
        drop(held);
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.state.lock().buffer.len()
    }

    /// Whether a send would wait for a receiver, were there none.
    pub fn is_full(&self) -> bool {
        self.state.lock().buffer.is_full()
    }
}
