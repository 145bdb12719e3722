//! The one door to atomics and locks for what has a loom model.

#[cfg(not(fiber_loom))]
pub use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(fiber_loom)]
pub use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

/// A `const fn`; in models, whose locks and atomics are not made at compile time, a plain one.
#[cfg(not(fiber_loom))]
macro_rules! const_unless_model {
    ($(#[$meta:meta])* $visibility:vis const fn $($rest:tt)*) => {
        $(#[$meta])* $visibility const fn $($rest)*
    };
}

/// A plain function, see the other variant.
#[cfg(fiber_loom)]
macro_rules! const_unless_model {
    ($(#[$meta:meta])* $visibility:vis const fn $($rest:tt)*) => {
        $(#[$meta])* $visibility fn $($rest)*
    };
}

pub(crate) use const_unless_model;
