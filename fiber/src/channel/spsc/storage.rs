//! Where the values of a queue lie: in a ring, or for an unbounded one, in blocks that the sender adds and the receiver
//! frees. Each side walks through it with a cursor of its own.

use crate::atomics::{AtomicPtr, Ordering};
use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::ptr;

/// Values in a block.
const BLOCK: usize = 64;

type Place<T> = UnsafeCell<MaybeUninit<T>>;

struct Block<T> {
    places: [Place<T>; BLOCK],
    next: AtomicPtr<Block<T>>,
}

impl<T> Block<T> {
    fn allocate() -> *mut Self {
        let mut block = Box::<Self>::new_uninit();
        // SAFETY: the link is the only part that must be set: places may be uninitialised.
        let block = unsafe {
            (&raw mut (*block.as_mut_ptr()).next).write(AtomicPtr::new(ptr::null_mut()));
            block.assume_init()
        };
        Box::into_raw(block)
    }
}

/// The places.
pub struct Storage<T> {
    /// None for an unbounded queue.
    ring: Option<Box<[Place<T>]>>,
    /// Where the receiver was when it went, for the end; before, the first block.
    first: AtomicPtr<Block<T>>,
    /// A block that the receiver has emptied, for the sender's next need.
    spare: AtomicPtr<Block<T>>,
}

// SAFETY: a place is touched by one side at a time: the sender until it has advanced, then the receiver.
unsafe impl<T: Send> Sync for Storage<T> {}

/// Where one side is.
pub struct Cursor<T> {
    place: Cell<usize>,
    block: Cell<*mut Block<T>>,
}

// SAFETY: its block is the queue's.
unsafe impl<T: Send> Send for Cursor<T> {}

impl<T> Storage<T> {
    /// A ring of so many places.
    pub fn bounded(capacity: usize) -> Self {
        Self {
            ring: Some(
                (0..capacity)
                    .map(|_| UnsafeCell::new(MaybeUninit::uninit()))
                    .collect(),
            ),
            first: AtomicPtr::new(ptr::null_mut()),
            spare: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Blocks.
    pub fn unbounded() -> Self {
        Self {
            ring: None,
            first: AtomicPtr::new(Block::allocate()),
            spare: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// At the first place.
    pub fn cursor(&self) -> Cursor<T> {
        Cursor {
            place: Cell::new(0),
            block: Cell::new(self.first.load(Ordering::Relaxed)),
        }
    }

    /// The sender's place.
    ///
    /// # Safety
    /// The cursor is the sender's, who calls this.
    #[inline]
    pub unsafe fn to_write(&self, cursor: &Cursor<T>) -> *mut T {
        if let Some(ring) = &self.ring {
            return ring[cursor.place.get()].get().cast();
        }
        if cursor.place.get() == BLOCK {
            self.add_block(cursor);
        }
        // SAFETY: the sender's block is freed by the receiver when that goes on to the next, so not before the sender.
        unsafe {
            (*cursor.block.get()).places[cursor.place.get()]
                .get()
                .cast()
        }
    }

    #[cold]
    fn add_block(&self, cursor: &Cursor<T>) {
        // Acquire: what the receiver did with the block comes before.
        let spare = self.spare.swap(ptr::null_mut(), Ordering::Acquire);
        let block = if spare.is_null() {
            Block::allocate()
        } else {
            // SAFETY: nobody else knows it.
            unsafe { &*spare }
                .next
                .store(ptr::null_mut(), Ordering::Relaxed);
            spare
        };
        // Relaxed: the receiver looks for it when it knows of a value in it.
        // SAFETY: as in `to_write`.
        unsafe { &*cursor.block.get() }
            .next
            .store(block, Ordering::Relaxed);
        cursor.block.set(block);
        cursor.place.set(0);
    }

    /// The receiver's place, which holds a value.
    ///
    /// # Safety
    /// The cursor is the receiver's, who calls this and knows that the sender has gone on from that place.
    #[inline]
    pub unsafe fn to_read(&self, cursor: &Cursor<T>) -> *mut T {
        if let Some(ring) = &self.ring {
            return ring[cursor.place.get()].get().cast();
        }
        if cursor.place.get() == BLOCK {
            self.remove_block(cursor);
        }
        // SAFETY: the receiver alone frees blocks.
        unsafe {
            (*cursor.block.get()).places[cursor.place.get()]
                .get()
                .cast()
        }
    }

    #[cold]
    fn remove_block(&self, cursor: &Cursor<T>) {
        let block = cursor.block.get();
        // SAFETY: the receiver's block. There is a value in the next, so it is linked.
        let next = unsafe { &*block }.next.load(Ordering::Relaxed);
        debug_assert!(!next.is_null());
        cursor.block.set(next);
        cursor.place.set(0);
        // Release: as in `add_block`.
        let spare = self.spare.swap(block, Ordering::AcqRel);
        if !spare.is_null() {
            // SAFETY: allocated by `Block::allocate`; nobody else knows it.
            drop(unsafe { Box::from_raw(spare) });
        }
    }

    /// Goes on by one.
    #[inline]
    pub fn step(&self, cursor: &Cursor<T>) {
        let next = cursor.place.get() + 1;
        let wraps = self.ring.as_ref().is_some_and(|ring| next == ring.len());
        cursor.place.set(if wraps { 0 } else { next });
    }

    /// The receiver is done, and has taken all there was: the rest is freed with the storage.
    pub fn leave(&self, cursor: &Cursor<T>) {
        // Relaxed: both sides are gone when it is read, and the count of the queue's references tells that.
        self.first.store(cursor.block.get(), Ordering::Relaxed);
    }
}

impl<T> Drop for Storage<T> {
    /// Frees the blocks; the values are gone.
    fn drop(&mut self) {
        let mut next = self.first.load(Ordering::Relaxed);
        while !next.is_null() {
            // SAFETY: allocated by `Block::allocate`, in the list once.
            let block = unsafe { Box::from_raw(next) };
            next = block.next.load(Ordering::Relaxed);
        }
        let spare = self.spare.load(Ordering::Relaxed);
        if !spare.is_null() {
            // SAFETY: as above, and not in the list.
            drop(unsafe { Box::from_raw(spare) });
        }
    }
}
