//! Blocks that a test allocates and frees by hand, so that it says which thread does what and when.

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;

/// What zeroed memory is compared with, in pieces: quick in debug builds, too.
static ZERO: [u8; 4096] = [0; 4096];

/// A live block. Dropping it leaks: a test frees its blocks where it means to.
#[derive(Debug)]
pub struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block is memory that belongs to whoever has this value; Millpond frees it on any thread.
unsafe impl Send for Block {}

impl Block {
    /// A block of the size, aligned to 8, its first and last bytes written; `None` when there is no memory.
    pub fn try_new(layout: Layout) -> Option<Self> {
        // SAFETY: Millpond takes any layout, sizes of zero included.
        let start = NonNull::new(unsafe { Millpond.alloc(layout) })?;
        assert_eq!(
            start.addr().get() % layout.align(),
            0,
            "{layout:?} is misaligned"
        );
        let mut block = Self { start, layout };
        if let Some(first) = block.bytes_mut().first_mut() {
            *first = 0xA5;
        }
        if let Some(last) = block.bytes_mut().last_mut() {
            *last = 0x5A;
        }
        Some(block)
    }

    /// As [`Block::try_new`], for tests that need the block.
    pub fn with_layout(layout: Layout) -> Self {
        Self::try_new(layout).unwrap_or_else(|| panic!("no memory for {layout:?}"))
    }

    /// A block of `size` bytes, aligned to 8, that must be there.
    pub fn new(size: usize) -> Self {
        Self::with_layout(Layout::from_size_align(size, 8).unwrap())
    }

    /// A zeroed block; checks that it is.
    pub fn zeroed(layout: Layout) -> Self {
        // SAFETY: as in `try_new`.
        let start = NonNull::new(unsafe { Millpond.alloc_zeroed(layout) })
            .unwrap_or_else(|| panic!("no memory for {layout:?}"));
        let block = Self { start, layout };
        if let Some(at) = block.bytes().iter().position(|&byte| byte != 0) {
            panic!(
                "byte {at} of a zeroed block of {layout:?} is {}",
                block.bytes()[at]
            );
        }
        block
    }

    /// Its first byte.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// What it was allocated with.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The bytes that it can hold, which is what the statistics count.
    pub fn usable(&self) -> u64 {
        // SAFETY: the block is live.
        unsafe { millpond::usable_size(self.start) as u64 }
    }

    /// Its contents.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block is live, of this size, and written or zero wherever a test reads.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.layout.size()) }
    }

    /// Its contents, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; the block is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }

    /// Changes its size; gives it back unchanged when there is no memory.
    pub fn resize(self, size: usize) -> Result<Self, Self> {
        // SAFETY: the block is live with this layout.
        let start = unsafe { Millpond.realloc(self.start.as_ptr(), self.layout, size) };
        match NonNull::new(start) {
            Some(start) => {
                let layout = Layout::from_size_align(size, self.layout.align()).unwrap();
                Ok(Self { start, layout })
            }
            None => Err(self),
        }
    }

    /// Frees it.
    pub fn free(self) {
        // SAFETY: the block is live with this layout, and this was its only handle.
        unsafe { Millpond.dealloc(self.start.as_ptr(), self.layout) };
    }

    /// Frees it and keeps the handle: for tests that go on to misuse it.
    ///
    /// # Safety
    /// The caller expects the process to end, or never touches the block again.
    pub unsafe fn free_keeping(&self) {
        // SAFETY: the caller means it.
        unsafe { Millpond.dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// `count` blocks of `size` bytes.
pub fn blocks(size: usize, count: usize) -> Vec<Block> {
    let mut blocks = Vec::with_capacity(count);
    blocks.extend((0..count).map(|_| Block::new(size)));
    blocks
}
