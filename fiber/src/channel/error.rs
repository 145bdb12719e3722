//! Why an operation on a channel did nothing. Each gives back the value that wasn't sent.

use std::error::Error;
use std::fmt;

const DISCONNECTED: &str = "the channel is closed";
const CANCELLED: &str = "the fiber was cancelled while it waited at a channel";
const TIMEOUT: &str = "the time was over before the channel was ready";

macro_rules! describe {
    ($error:ident: $($variant:ident => $text:expr),+) => {
        impl fmt::Debug for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => stringify!($variant)),+ })
            }
        }
        impl fmt::Display for $error {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text),+ })
            }
        }
        impl Error for $error {}
    };
    ($error:ident<T>: $($variant:ident => $text:expr),+) => {
        impl<T> $error<T> {
            /// The value that wasn't sent.
            pub fn into_inner(self) -> T {
                match self { $(Self::$variant(value) => value),+ }
            }
        }
        // Not derived: values need not be `Debug`.
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant(_) => concat!(stringify!($variant), "(..)")),+ })
            }
        }
        impl<T> fmt::Display for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant(_) => $text),+ })
            }
        }
        impl<T> Error for $error<T> {}
    };
}

/// Why a value wasn't sent, with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendError<T> {
    /// The channel is closed, or has no receiver any more.
    Disconnected(T),
    /// The fiber would have had to wait, and its token was cancelled.
    Cancelled(T),
}

/// Why a value wasn't sent without waiting, with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, or at a rendezvous channel nobody to take it.
    Full(T),
    /// The channel is closed, or has no receiver any more.
    Disconnected(T),
}

/// Why a value wasn't sent in time, with the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SendTimeoutError<T> {
    /// The time was over.
    Timeout(T),
    /// The channel is closed, or has no receiver any more.
    Disconnected(T),
    /// The fiber would have had to wait, and its token was cancelled.
    Cancelled(T),
}

/// Why nothing was received.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RecvError {
    /// The channel is closed, or has no sender any more, and is empty.
    Disconnected,
    /// The fiber would have had to wait, and its token was cancelled.
    Cancelled,
}

/// Why nothing was received without waiting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is there.
    Empty,
    /// The channel is closed, or has no sender any more, and is empty.
    Disconnected,
}

/// Why nothing was received in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RecvTimeoutError {
    /// The time was over.
    Timeout,
    /// The channel is closed, or has no sender any more, and is empty.
    Disconnected,
    /// The fiber would have had to wait, and its token was cancelled.
    Cancelled,
}

/// Why none of several operations was carried out in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SelectTimeoutError {
    /// The time was over.
    Timeout,
    /// The fiber would have had to wait, and its token was cancelled.
    Cancelled,
}

describe!(SelectTimeoutError: Timeout => TIMEOUT, Cancelled => CANCELLED);
describe!(SendError<T>: Disconnected => DISCONNECTED, Cancelled => CANCELLED);
describe!(TrySendError<T>: Full => "the channel is full", Disconnected => DISCONNECTED);
describe!(SendTimeoutError<T>: Timeout => TIMEOUT, Disconnected => DISCONNECTED, Cancelled => CANCELLED);
describe!(RecvError: Disconnected => DISCONNECTED, Cancelled => CANCELLED);
describe!(TryRecvError: Empty => "the channel is empty", Disconnected => DISCONNECTED);
describe!(RecvTimeoutError: Timeout => TIMEOUT, Disconnected => DISCONNECTED, Cancelled => CANCELLED);

/// How a wait at a channel ended without success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unready {
    /// Nobody may wait, or the time was over.
    Timeout,
    /// The channel is closed.
    Disconnected,
    /// The token was cancelled.
    Cancelled,
}

impl Unready {
    /// For a send that may wait without limit.
    pub fn send<T>(self, value: T) -> SendError<T> {
        match self {
            Self::Cancelled => SendError::Cancelled(value),
            Self::Timeout | Self::Disconnected => SendError::Disconnected(value),
        }
    }

    /// For a send that doesn't wait.
    pub fn try_send<T>(self, value: T) -> TrySendError<T> {
        match self {
            Self::Disconnected => TrySendError::Disconnected(value),
            Self::Timeout | Self::Cancelled => TrySendError::Full(value),
        }
    }

    /// For a send with a time limit.
    pub fn send_timeout<T>(self, value: T) -> SendTimeoutError<T> {
        match self {
            Self::Timeout => SendTimeoutError::Timeout(value),
            Self::Disconnected => SendTimeoutError::Disconnected(value),
            Self::Cancelled => SendTimeoutError::Cancelled(value),
        }
    }

    /// For a receive that may wait without limit.
    pub fn recv(self) -> RecvError {
        match self {
            Self::Cancelled => RecvError::Cancelled,
            Self::Timeout | Self::Disconnected => RecvError::Disconnected,
        }
    }

    /// For a receive that doesn't wait.
    pub fn try_recv(self) -> TryRecvError {
        match self {
            Self::Disconnected => TryRecvError::Disconnected,
            Self::Timeout | Self::Cancelled => TryRecvError::Empty,
        }
    }

    /// For a receive with a time limit.
    pub fn recv_timeout(self) -> RecvTimeoutError {
        match self {
            Self::Timeout => RecvTimeoutError::Timeout,
            Self::Disconnected => RecvTimeoutError::Disconnected,
            Self::Cancelled => RecvTimeoutError::Cancelled,
        }
    }
}
