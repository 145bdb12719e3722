//! Channels for one sender and one receiver, which is faster: neither locks, and each keeps to a cache line of its own as
//! long as it knows that there is room, or values. The ends can't be cloned, nor shared by threads; they may move.
//!
//! ```
//! use millpond_fiber::{channel::spsc, spawn};
//!
//! let (sender, receiver) = spsc::bounded(64);
//! let sum = spawn(move || receiver.iter().sum::<u64>());
//! for n in 0..1000u64 {
//!     sender.send(n).unwrap();
//! }
//! drop(sender);
//! assert_eq!(sum.join().unwrap(), 499_500);
//! ```

mod gate;
mod handle;
mod operation;
mod queue;
mod storage;

pub use handle::{IntoIter, Iter, Receiver, Sender, TryIter, bounded, unbounded};
pub use operation::{RecvOp, SendOp};
