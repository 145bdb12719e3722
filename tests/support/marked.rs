//! Blocks that tell where they were made, to see that nothing else wrote to them; and random numbers for tests.

use super::block::Block;

/// A block with every byte derived from its address and size.
pub fn marked(size: usize) -> Block {
    let mut block = Block::new(size);
    let mark = mark(&block);
    block.bytes_mut().fill(mark);
    block
}

fn mark(block: &Block) -> u8 {
    let address = block.bytes().as_ptr().addr();
    (address >> 4) as u8 ^ (address >> 12) as u8 ^ block.bytes().len() as u8
}

/// Such a block has kept its contents.
pub fn check(block: &Block) {
    let mark = mark(block);
    assert!(
        block.bytes().iter().all(|byte| *byte == mark),
        "a block of {} bytes lost its contents",
        block.bytes().len()
    );
}

/// Knuth's generator (MMIX), since tests are to be the same each time; its high bits are good enough.
pub struct Random(pub u64);

impl Random {
    /// The next number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    /// Puts items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }
}
