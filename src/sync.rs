//! The one door to atomics: loom's under `--cfg loom`, the standard library's otherwise. The algorithms that have a
//! model import from here, so that what loom checks is the code that ships.

#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[cfg(loom)]
pub use explored::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
#[cfg(loom)]
pub use loom::sync::atomic::Ordering;

/// loom's atomics, made to try every order of accesses. To decide which accesses to exchange, loom 0.7 looks at the last
/// one of each atomic only; a thread that loads and then compares and swaps hides the loads of other threads behind its
/// own, and the order in which its swap comes first is never tried. Here a read-modify-write of a second atomic
/// precedes each access. It hides nothing, being an access of the strongest kind; and it synchronises nothing, being
/// relaxed, so that loads still return whatever the orderings allow.
#[cfg(loom)]
mod explored {
    use loom::sync::atomic::{self, Ordering};

    macro_rules! explored {
        ($name:ident $(<$parameter:ident>)?, $value:ty, $($integer:ident)?) => {
            #[derive(Debug)]
            pub struct $name $(<$parameter>)? {
                inner: atomic::$name $(<$parameter>)?,
                turn: atomic::AtomicUsize,
            }

            impl $(<$parameter>)? $name $(<$parameter>)? {
                pub fn new(value: $value) -> Self {
                    Self {
                        inner: atomic::$name::new(value),
                        turn: atomic::AtomicUsize::new(0),
                    }
                }
            }

            explored! { methods $name $(<$parameter>)?,
                load(order: Ordering) -> $value;
                store(value: $value, order: Ordering) -> ();
                swap(value: $value, order: Ordering) -> $value;
                compare_exchange(
                    old: $value, new: $value, success: Ordering, failure: Ordering
                ) -> Result<$value, $value>;
                compare_exchange_weak(
                    old: $value, new: $value, success: Ordering, failure: Ordering
                ) -> Result<$value, $value>;
            }
            $(explored! { methods $integer,
                fetch_add(value: $value, order: Ordering) -> $value;
                fetch_sub(value: $value, order: Ordering) -> $value;
                fetch_max(value: $value, order: Ordering) -> $value;
                fetch_or(value: $value, order: Ordering) -> $value;
                fetch_and(value: $value, order: Ordering) -> $value;
            })?
        };
        (methods $name:ident $(<$parameter:ident>)?,
            $($method:ident($($argument:ident: $kind:ty),*) -> $result:ty;)*
        ) => {
            impl $(<$parameter>)? $name $(<$parameter>)? {
                $(pub fn $method(&self, $($argument: $kind),*) -> $result {
                    self.turn.fetch_add(1, Ordering::Relaxed);
                    self.inner.$method($($argument),*)
                })*
            }
        };
    }

    explored! { AtomicU32, u32, AtomicU32 }
    explored! { AtomicU64, u64, AtomicU64 }
    explored! { AtomicUsize, usize, AtomicUsize }
    explored! { AtomicPtr<T>, *mut T, }
}

/// A cell that one thread at a time may touch. Under loom every access is checked for races.
#[derive(Debug)]
#[repr(transparent)]
pub struct OwnedCell<T: Copy>(
    #[cfg(not(loom))] std::cell::UnsafeCell<T>,
    #[cfg(loom)] loom::cell::UnsafeCell<T>,
);

impl<T: Copy> OwnedCell<T> {
    /// A cell that holds `value`.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

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
