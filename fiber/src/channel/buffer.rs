//! What a channel holds: a ring for a bounded one, allocated when the channel is made, and blocks in a list for an
//! unbounded one, so that it grows without copying.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

/// Values in the order in which they came.
pub enum Buffer<T> {
    /// Up to a number.
    Ring(Ring<T>),
    /// Any number.
    Blocks(Blocks<T>),
}

impl<T> Buffer<T> {
    /// For up to `capacity` values.
    pub fn bounded(capacity: usize) -> Self {
        Self::Ring(Ring {
            slots: Box::new_uninit_slice(capacity),
            first: 0,
            length: 0,
        })
    }

    /// For any number.
    pub fn unbounded() -> Self {
        Self::Blocks(Blocks {
            first: None,
            last: None,
            spare: None,
            taken: 0,
            put: 0,
            length: 0,
        })
    }

    /// How many there are.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Self::Ring(ring) => ring.length,
            Self::Blocks(blocks) => blocks.length,
        }
    }

    /// Whether one more finds no room.
    #[inline]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Ring(ring) => ring.length == ring.slots.len(),
            Self::Blocks(_) => false,
        }
    }

    /// How many there may be, if there is a limit.
    pub fn capacity(&self) -> Option<usize> {
        match self {
            Self::Ring(ring) => Some(ring.slots.len()),
            Self::Blocks(_) => None,
        }
    }

    /// Puts a value at the end. The buffer isn't full.
    #[inline]
    pub fn push(&mut self, value: T) {
        match self {
            Self::Ring(ring) => ring.push(value),
            Self::Blocks(blocks) => blocks.push(value),
        }
    }

    /// Takes the first value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        match self {
            Self::Ring(ring) => ring.pop(),
            Self::Blocks(blocks) => blocks.pop(),
        }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        /// Goes on when a destructor panics; when a second one does, the process ends, as everywhere.
        struct Rest<'buffer, T>(&'buffer mut Buffer<T>);

        impl<T> Drop for Rest<'_, T> {
            fn drop(&mut self) {
                while let Some(value) = self.0.pop() {
                    drop(value);
                }
            }
        }

        let rest = Rest(self);
        while let Some(value) = rest.0.pop() {
            drop(value);
        }
    }
}

/// A ring.
pub struct Ring<T> {
    /// Those from `first` on, `length` of them, modulo their number, are values.
    slots: Box<[MaybeUninit<T>]>,
    first: usize,
    length: usize,
}

impl<T> Ring<T> {
    /// Where the slot that is `distance` after the first lies; `distance` is at most the number of slots.
    #[inline]
    fn place(&self, distance: usize) -> usize {
        // Not a modulo: a division costs as much as the rest. No overflow: no slice is longer than half the address
        // space, but of values without a size it may be, hence the subtraction first.
        let until_end = self.slots.len() - self.first;
        if distance < until_end {
            self.first + distance
        } else {
            distance - until_end
        }
    }

    #[inline]
    fn push(&mut self, value: T) {
        assert!(self.length < self.slots.len());
        let place = self.place(self.length);
        self.slots[place].write(value);
        self.length += 1;
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        // SAFETY: the first is a value, and is none from now on.
        let value = unsafe { self.slots[self.first].assume_init_read() };
        self.first = self.place(1);
        self.length -= 1;
        Some(value)
    }
}

/// Values in a block of an unbounded channel.
const BLOCK: usize = 64;

struct Block<T> {
    slots: [MaybeUninit<T>; BLOCK],
    next: Option<NonNull<Block<T>>>,
}

/// Blocks in a list. `length` values, from place `taken` of the first block to before place `put` of the last. No block
/// is empty but the only one.
pub struct Blocks<T> {
    first: Option<NonNull<Block<T>>>,
    last: Option<NonNull<Block<T>>>,
    /// One that was emptied, for the next need.
    spare: Option<NonNull<Block<T>>>,
    taken: usize,
    put: usize,
    length: usize,
}

// SAFETY: the blocks are the buffer's alone.
unsafe impl<T: Send> Send for Blocks<T> {}

impl<T> Blocks<T> {
    #[inline]
    fn push(&mut self, value: T) {
        let last = match self.last {
            Some(last) if self.put < BLOCK => last,
            _ => self.add_block(),
        };
        // SAFETY: a block of the list is alive and this buffer's; the place holds no value.
        unsafe { (*last.as_ptr()).slots[self.put].write(value) };
        self.put += 1;
        self.length += 1;
    }

    #[cold]
    fn add_block(&mut self) -> NonNull<Block<T>> {
        let block = self.spare.take().unwrap_or_else(|| {
            let mut block = Box::<Block<T>>::new_uninit();
            // SAFETY: the link is the only part that must be set: slots may be uninitialised.
            let block = unsafe {
                (&raw mut (*block.as_mut_ptr()).next).write(None);
                block.assume_init()
            };
            NonNull::from(Box::leak(block))
        });
        // SAFETY: not in the list yet, or a block of the list: this buffer's in either case.
        unsafe {
            (*block.as_ptr()).next = None;
            match self.last {
                Some(last) => (*last.as_ptr()).next = Some(block),
                None => {
                    self.first = Some(block);
                    self.taken = 0;
                }
            }
        }
        self.last = Some(block);
        self.put = 0;
        block
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        if self.length == 0 {
            return None;
        }
        let first = self.first.expect("values lie in blocks");
        // SAFETY: the place holds a value, and none from now on.
        let value = unsafe { (*first.as_ptr()).slots[self.taken].assume_init_read() };
        self.taken += 1;
        self.length -= 1;
        if self.length == 0 && self.first == self.last {
            self.taken = 0;
            self.put = 0;
        } else if self.taken == BLOCK {
            self.remove_block(first);
        }
        Some(value)
    }

    #[cold]
    fn remove_block(&mut self, block: NonNull<Block<T>>) {
        // SAFETY: the first of the list, and not the last, which would have been the only one and empty.
        self.first = unsafe { block.as_ref() }.next;
        self.taken = 0;
        if let Some(spare) = self.spare.replace(block) {
            // SAFETY: leaked by `add_block`, and in no list; its slots hold no values.
            drop(unsafe { Box::from_raw(spare.as_ptr()) });
        }
    }
}

impl<T> Drop for Blocks<T> {
    /// The values are gone: see `Buffer`'s.
    fn drop(&mut self) {
        let mut next = self.first;
        if let Some(spare) = self.spare {
            // SAFETY: leaked by `add_block`, and in no list.
            drop(unsafe { Box::from_raw(spare.as_ptr()) });
        }
        while let Some(block) = next {
            // SAFETY: leaked by `add_block`, in the list once.
            let block = unsafe { Box::from_raw(block.as_ptr()) };
            next = block.next;
        }
    }
}
