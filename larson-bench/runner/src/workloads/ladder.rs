//! What `sh6bench` and `sh8bench` share: the sizes of a batch, and the orders in which batches are freed.

use crate::block::Block;
use crate::handover::Batch;
use crate::options::Params;

/// Sizes of one batch, smallest first: every size up to 16, then in steps of a sixteenth; a size below 512 appears
/// 512 / size times, 64 at most. So small blocks are many, and each size takes about as many bytes as its neighbours.
pub fn sizes(params: &Params) -> Box<[u32]> {
    let mut sizes = Vec::new();
    let mut size = params.min;
    while size <= params.max {
        let repeats = (512 / size).clamp(1, 64);
        sizes.extend(std::iter::repeat_n(size as u32, repeats));
        size += 1 + size / 16;
    }
    sizes.into()
}

/// Appends one block of each size, up the ladder or down it.
pub fn fill(batch: &mut Batch, sizes: &[u32], downwards: bool) {
    if downwards {
        batch.extend(sizes.iter().rev().map(|size| Block::new(*size as usize)));
    } else {
        batch.extend(sizes.iter().map(|size| Block::new(*size as usize)));
    }
}

/// Frees all blocks in one of three orders, in turn: oldest first, newest first, from the middle.
pub fn free_in_turn(batch: &mut Batch, turn: u64) -> u64 {
    let count = batch.len() as u64;
    match turn % 3 {
        0 => batch.clear(),
        1 => while batch.pop().is_some() {},
        _ => {
            // The last block moves into the gap, so that neighbours are freed far apart.
            while !batch.is_empty() {
                drop(batch.swap_remove(batch.len() / 2));
            }
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_climbs_from_the_smallest_to_the_largest() {
        let sizes = sizes(&Params {
            min: 1,
            max: 1_000,
            ..Params::BASE
        });
        assert_eq!(sizes[0], 1);
        assert!(sizes.is_sorted() && *sizes.last().unwrap() > 900);
        assert!((1_000..5_000).contains(&sizes.len()), "{}", sizes.len());
    }

    #[test]
    fn every_order_frees_everything() {
        for turn in 0..3 {
            let mut batch = Batch::new();
            fill(&mut batch, &[1, 2, 3, 4, 5], turn == 1);
            assert_eq!(free_in_turn(&mut batch, turn), 5);
            assert!(batch.is_empty());
        }
    }
}
