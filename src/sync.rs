//! The one door to atomics: loom's under `--cfg loom`, the standard library's otherwise. The algorithms that have a
//! model import from here, so that what loom checks is the code that ships.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A cell that one thread at a time may touch. Under loom every access is checked for races.
#[derive(Debug)]
#[repr(transparent)]
pub struct OwnedCell<T: Copy>(
    #[cfg(not(loom))] std::cell::UnsafeCell<T>,
    #[cfg(loom)] loom::cell::UnsafeCell<T>,
);

impl<T: Copy> OwnedCell<T> {
    /// A cell that holds `value`.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    /// Reads the value.
    ///
    /// # Safety
    /// No other thread writes the cell meanwhile.
    #[inline(always)]
    pub unsafe fn get(&self) -> T {
        #[cfg(not(loom))]
        // SAFETY: the caller excludes concurrent writes, and no reference to the inside is ever given out.
        return unsafe { *self.0.get() };
        #[cfg(loom)]
        // SAFETY: as above; loom reports a violation.
        return self.0.with(|value| unsafe { *value });
    }

    /// Writes the value.
    ///
    /// # Safety
    /// No other thread reads or writes the cell meanwhile.
    #[inline(always)]
    pub unsafe fn set(&self, value: T) {
        #[cfg(not(loom))]
        // SAFETY: the caller excludes concurrent accesses, and no reference to the inside is ever given out.
        unsafe {
            *self.0.get() = value
        };
        #[cfg(loom)]
        // SAFETY: as above; loom reports a violation.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}
