//! [`PoolBox`]: the handle that owns a record.

use super::Pool;
use super::memory::Record;
use std::borrow::{Borrow, BorrowMut};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::{Deref, DerefMut};
use std::panic::UnwindSafe;
use std::pin::Pin;
use std::ptr::{self, NonNull};

/// Owns a record made by a [`Pool`]: a `Box` in all but where its memory comes from. Dropping it drops the value and
/// frees the record, on any thread; when the value's destructor panics, the record is freed all the same.
///
/// It is one pointer, never null, so `Option<PoolBox<T>>` is no larger. Its functions take `this`, not `self`, lest
/// they hide the value's methods. Unlike `Box`, moving it asserts nothing about other pointers to the record: a runtime
/// may keep one from [`PoolBox::as_ptr`] while the box moves, as long as it keeps to the rules of `&mut` when the box
/// is dereferenced.
pub struct PoolBox<T> {
    record: NonNull<T>,
    /// It owns a `T`.
    owns: PhantomData<T>,
}

// SAFETY: the box owns its value, as a `Box` does, and the record is freed on any thread.
unsafe impl<T: Send> Send for PoolBox<T> {}
// SAFETY: a shared box gives out shared references to its value, and nothing else.
unsafe impl<T: Sync> Sync for PoolBox<T> {}
// The value doesn't move when the box does.
impl<T> Unpin for PoolBox<T> {}
// As for `Box`: the pointer in it isn't a reference to what others see.
impl<T: UnwindSafe> UnwindSafe for PoolBox<T> {}

impl<T> PoolBox<T> {
    /// Gives up the box for a pointer to its value, which [`PoolBox::from_raw`] takes back. Until then nothing is
    /// dropped or freed. The pointer is a multiple of [`Pool::ALIGN`], so its low bits can carry a tag (not that of a
    /// value of size 0).
    ///
    /// ```
    /// # use millpond::pool::{Pool, PoolBox};
    /// let raw = PoolBox::into_raw(Pool::new().boxed(String::from("later")));
    /// // SAFETY: the pointer is from `into_raw`, and used once.
    /// assert_eq!(*unsafe { PoolBox::from_raw(raw) }, "later");
    /// ```
    #[inline]
    pub fn into_raw(this: Self) -> NonNull<T> {
        ManuallyDrop::new(this).record
    }

    /// The box for a pointer that [`PoolBox::into_raw`] gave, on any thread.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of a box of this type, or of one whose value has the same size and alignment, it
    /// points to a live value, and this is the only box made of it.
    #[inline]
    pub unsafe fn from_raw(raw: NonNull<T>) -> Self {
        Self {
            record: raw,
            owns: PhantomData,
        }
    }

    /// Moves the value out and frees the record.
    #[inline]
    pub fn into_inner(this: Self) -> T {
        let record = Self::into_raw(this);
        // SAFETY: the value is live and read once; then the record is empty, and this was its only owner.
        unsafe {
            let value = record.read();
            Record::free(record);
            value
        }
    }

    /// A pointer to the value, without giving up the box. Good for reads and writes until the box is dropped, and never
    /// through a reference, so that using it keeps other such pointers good.
    #[inline]
    pub fn as_ptr(this: &Self) -> NonNull<T> {
        this.record
    }

    /// Gives up the box for a reference that lives as long as wanted; the record is never freed unless
    /// [`PoolBox::from_raw`] gets the pointer back.
    #[inline]
    pub fn leak<'a>(this: Self) -> &'a mut T
    where
        T: 'a,
    {
        // SAFETY: the value is live, and nobody owns the record any more: the reference is the only one.
        unsafe { Self::into_raw(this).as_mut() }
    }

    /// Pins the value: it stays where it is until it is dropped, whatever becomes of the box.
    #[inline]
    pub fn into_pin(this: Self) -> Pin<Self> {
        // SAFETY: the value lies in the record, which neither moves nor is freed before its value is dropped, and
        // nothing moves a value out of a pinned box.
        unsafe { Pin::new_unchecked(this) }
    }
}

impl<T> PoolBox<MaybeUninit<T>> {
    /// Writes the value. One that was written before is not dropped.
    #[inline]
    pub fn write(this: Self, value: T) -> PoolBox<T> {
        let record = Self::into_raw(this).cast::<T>();
        // SAFETY: the record has a value now, one of the same size and alignment.
        unsafe {
            record.write(value);
            PoolBox::from_raw(record)
        }
    }

    /// The box of a value that was written in place.
    ///
    /// # Safety
    /// The whole value is initialised.
    #[inline]
    pub unsafe fn assume_init(self) -> PoolBox<T> {
        // SAFETY: the caller's promise; the size and alignment are the same.
        unsafe { PoolBox::from_raw(Self::into_raw(self).cast()) }
    }
}

impl<T> Drop for PoolBox<T> {
    #[inline]
    fn drop(&mut self) {
        /// Frees the record when the value is dropped, however that ends.
        struct Emptied<T>(NonNull<T>);

        impl<T> Drop for Emptied<T> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the box that is dropped owned the record, whose value is dropped already.
                unsafe { Record::free(self.0) }
            }
        }

        let emptied = Emptied(self.record);
        // SAFETY: the value is live, and dropped once.
        unsafe { emptied.0.drop_in_place() }
    }
}

impl<T> Deref for PoolBox<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is live as long as the box is, and borrowed as the box is.
        unsafe { self.record.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { self.record.as_mut() }
    }
}

impl<T> From<PoolBox<T>> for Pin<PoolBox<T>> {
    fn from(this: PoolBox<T>) -> Self {
        PoolBox::into_pin(this)
    }
}

impl<T: Clone> Clone for PoolBox<T> {
    /// A record of its own with a clone of the value, made by the calling thread.
    fn clone(&self) -> Self {
        let place = Pool::new().boxed_uninit();
        PoolBox::write(place, T::clone(self))
    }
}

impl<T> AsRef<T> for PoolBox<T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> AsMut<T> for PoolBox<T> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T> Borrow<T> for PoolBox<T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T> BorrowMut<T> for PoolBox<T> {
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: PartialEq> PartialEq for PoolBox<T> {
    fn eq(&self, other: &Self) -> bool {
        T::eq(self, other)
    }
}

impl<T: Eq> Eq for PoolBox<T> {}

impl<T: PartialOrd> PartialOrd for PoolBox<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        T::partial_cmp(self, other)
    }
}

impl<T: Ord> Ord for PoolBox<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        T::cmp(self, other)
    }
}

impl<T: Hash> Hash for PoolBox<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        T::hash(self, state);
    }
}

impl<T: fmt::Debug> fmt::Debug for PoolBox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, formatter)
    }
}

impl<T: fmt::Display> fmt::Display for PoolBox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, formatter)
    }
}

impl<T> fmt::Pointer for PoolBox<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&ptr::from_ref::<T>(self), formatter)
    }
}
