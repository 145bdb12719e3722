//! Channels: values from fiber to fiber, from thread to thread, and between the two.
//!
//! [`bounded`] makes a channel that holds up to so many values (0: sender and receiver meet), [`unbounded`] one that
//! holds any number; any number of fibers and plain threads may use both ends. An operation that has to wait parks its
//! fiber and blocks a plain thread.
//!
//! A value is never lost: a send that fails, for whatever reason, gives it back; a receive that fails has taken
//! nothing.
//!
//! A channel closes when [`Sender::close`] or [`Receiver::close`] is called, or when one side's last end is dropped.
//! Receivers then get what it holds, and after that [`RecvError::Disconnected`]; senders get their values back.

#[macro_use]
mod iterators;
mod buffer;
mod core;
mod error;
mod handle;
mod lock;
mod operation;
mod select;
mod selector;
pub mod spsc;
mod wait_list;

pub use crate::select;
pub use error::{
    RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError, TryRecvError,
    TrySendError,
};
pub use handle::{IntoIter, Iter, Receiver, Sender, TryIter, bounded, unbounded};
pub use operation::{Operation, RecvOp, SendOp};
#[doc(hidden)]
pub use select::{Limit, carry_out};
pub use select::{select, select_deadline, select_timeout, try_select};
pub use selector::{Select, Selected};
