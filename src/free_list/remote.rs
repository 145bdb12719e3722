//! The remote free list of a page: one atomic word, `state | count | tail | head`.
//!
//! ```text
//!  bit 63..62   61..40    39..20          19..0
//!      state    count     tail offset     head offset      offsets in units of 8 bytes from the page's start
//! ```
//!
//! A push is one compare-and-swap and so is a drain; the count is known without a walk, and so is the last block, so a
//! drained chain is joined to another list in O(1). `count == 0` means empty: offset 0 is a block, since descriptors
//! lie outside their pages.
//!
//! QUEUED is a token: the thread that moves IDLE to QUEUED pushes the page on its owner's news stack, and until the
//! holder of that heap's lease has popped it from there, the page is not released, re-classed or re-owned.
//!
//! ```text
//! IDLE   --first push-->              QUEUED     the pusher announces the page
//! QUEUED --push-->                    QUEUED
//! QUEUED --drain in place-->          QUEUED     count 0, the token stays out
//! QUEUED --push that fills the page-> PURGING    only where the pusher wants to discard the contents
//! PURGING --contents discarded-->     EMPTY
//! QUEUED, EMPTY --settle-->           IDLE       by the lease holder that popped the page
//! IDLE   --claim for adoption-->      QUEUED     by an adopter that holds the owner's lease
//! ```

use super::{Block, Chain};
use crate::sync::{AtomicU64, Ordering};
use std::ptr::{self, NonNull};

const OFFSET_BITS: u32 = 20;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const COUNT_SHIFT: u32 = 2 * OFFSET_BITS;
const COUNT_BITS: u32 = 22;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const STATE_SHIFT: u32 = COUNT_SHIFT + COUNT_BITS;

/// The largest page, in bytes, whose block offsets fit the word.
const MAX_PAGE_BYTES: usize = 8 << OFFSET_BITS;

static_assertions::const_assert!(STATE_SHIFT + 2 == 64);
static_assertions::const_assert!(MAX_PAGE_BYTES >= 16 * crate::units::SLICE_SIZE);

/// What a page's remote word says about the page's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No remote frees, and the page is on no news stack.
    Idle = 0,
    /// The token is out: the page is on its owner's news stack, or about to be.
    Queued = 1,
    /// Every block was freed remotely; the last freer is discarding the contents.
    Purging = 2,
    /// Every block was freed remotely and the contents are discarded: the page reads as zero.
    Empty = 3,
}

/// The packed word. Nothing outside this type masks or shifts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RemoteWord(u64);

impl RemoteWord {
    /// IDLE with no blocks; all bits zero, so zeroed descriptors are valid.
    pub const IDLE: Self = Self(0);

    const fn new(state: State, count: u32, tail: u64, head: u64) -> Self {
        Self(
            (state as u64) << STATE_SHIFT
                | (count as u64) << COUNT_SHIFT
                | tail << OFFSET_BITS
                | head,
        )
    }

    const fn of_state(state: State) -> Self {
        Self::new(state, 0, 0, 0)
    }

    /// The token's state.
    pub const fn state(self) -> State {
        match self.0 >> STATE_SHIFT {
            0 => State::Idle,
            1 => State::Queued,
            2 => State::Purging,
            _ => State::Empty,
        }
    }

    /// How many blocks are on the list.
    pub const fn count(self) -> u32 {
        (self.0 >> COUNT_SHIFT & COUNT_MASK) as u32
    }

    const fn head(self) -> u64 {
        self.0 & OFFSET_MASK
    }

    const fn tail(self) -> u64 {
        self.0 >> OFFSET_BITS & OFFSET_MASK
    }

    /// The list as a chain, for whoever just took it off.
    fn chain(self, page_start: *mut u8) -> Option<Chain> {
        let block = |offset: u64| {
            let address = page_start.wrapping_add(offset as usize * 8).cast::<Block>();
            // SAFETY: pages lie above address 0, so no block of one is null.
            unsafe { NonNull::new_unchecked(address) }
        };
        (self.count() > 0).then(|| Chain {
            head: block(self.head()),
            tail: block(self.tail()),
            count: self.count(),
        })
    }
}

/// What a push did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The pusher holds the token and must announce the page to its owner.
    pub announce: bool,
    /// The block was the page's last one, and the pusher must now discard the contents and call
    /// [`RemoteList::finish_purge`], before it announces the page.
    pub purge: bool,
    /// The push brought the count to the page's capacity.
    pub filled: bool,
}

/// What the lease holder found on a page that it popped from its news.
#[derive(Debug)]
pub enum Settled {
    /// The last freer is still discarding the contents; the token stays out. Look again later.
    Purging,
    /// The contents are discarded: no block is live or free, the page is as fresh from the system.
    Empty,
    /// The remote frees since the last drain, none if the page was drained in place meanwhile.
    Frees(Option<Chain>),
}

/// Why a push was refused: every block of the page is free already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleFree;

/// The remote free list of one page.
#[derive(Debug)]
#[repr(transparent)]
pub struct RemoteList(AtomicU64);

impl RemoteList {
    /// An empty list.
    #[cfg(loom)]
    pub fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The word, for checks and reports; it may be out of date at once.
    #[inline]
    pub fn peek(&self) -> RemoteWord {
        // Relaxed: the value is looked at, never followed.
        RemoteWord(self.0.load(Ordering::Relaxed))
    }

    /// Makes the list that of a new page. Only while nobody can reach the page.
    pub fn reset(&self) {
        // Relaxed: the page's blocks reach other threads through the program's own synchronisation.
        self.0.store(RemoteWord::IDLE.0, Ordering::Relaxed);
    }

    /// Pushes a block that the calling thread owns. `wants_purge` is asked when this push would make every block of
    /// the page free, and decides whether the pusher discards the page's contents.
    ///
    /// # Safety
    /// `block` is a live block of the page at `page_start`, which has `capacity` blocks, and the caller gives it up.
    #[inline]
    pub unsafe fn push(
        &self,
        page_start: *mut u8,
        block: NonNull<Block>,
        capacity: u32,
        wants_purge: impl Fn() -> bool,
    ) -> Result<Pushed, DoubleFree> {
        let offset = (block.as_ptr().addr() - page_start.addr()) as u64 / 8;
        // Relaxed: the compare-and-swap below validates the value, and its link is not followed here.
        let mut seen = RemoteWord(self.0.load(Ordering::Relaxed));
        loop {
            let state = seen.state();
            if seen.count() >= capacity || matches!(state, State::Purging | State::Empty) {
                return Err(DoubleFree);
            }
            let first = seen.count() == 0;
            let next = if first {
                ptr::null_mut()
            } else {
                page_start
                    .wrapping_add(seen.head() as usize * 8)
                    .cast::<Block>()
            };
            // SAFETY: the caller owns the block until the compare-and-swap below publishes it.
            unsafe { Block::link(block, next) };
            let filled = seen.count() + 1 == capacity;
            let purge = filled && wants_purge();
            let new = if purge {
                RemoteWord::of_state(State::Purging)
            } else {
                let tail = if first { offset } else { seen.tail() };
                RemoteWord::new(State::Queued, seen.count() + 1, tail, offset)
            };
            // Release publishes the block's link to the Acquire of `drain` and `settle`; Acquire pairs with the
            // Release of `settle`, so that a first pusher sees the owner that the last settling left behind, and
            // of earlier pushes, so that whoever purges comes after every other free of the page.
            match self
                .0
                .compare_exchange_weak(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Ok(Pushed {
                        announce: state == State::Idle,
                        purge,
                        filled,
                    });
                }
                Err(now) => seen = RemoteWord(now),
            }
        }
    }

    /// Says that the contents are discarded, after a push that answered `purge`.
    pub fn finish_purge(&self) {
        debug_assert_eq!(self.peek().state(), State::Purging);
        // Release: whoever settles the page (Acquire) comes after the discarding.
        self.0
            .store(RemoteWord::of_state(State::Empty).0, Ordering::Release);
    }

    /// Takes the list without touching the token: for the owner's current page, which may be on the news stack.
    #[inline]
    pub fn drain(&self, page_start: *mut u8) -> Option<Chain> {
        // Relaxed: validated by the compare-and-swap.
        let mut seen = RemoteWord(self.0.load(Ordering::Relaxed));
        loop {
            if seen.count() == 0 {
                return None;
            }
            let new = RemoteWord::of_state(State::Queued);
            // Acquire pairs with the Release of `push`: the links are followed next. Nothing is published: a later
            // pusher touches blocks that it was handed since, and earlier pushes stay visible through this swap.
            match self
                .0
                .compare_exchange_weak(seen.0, new.0, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return seen.chain(page_start),
                Err(now) => seen = RemoteWord(now),
            }
        }
    }

    /// Takes the list and the token, for the lease holder that popped the page from its heap's news.
    pub fn settle(&self, page_start: *mut u8) -> Settled {
        // Relaxed: validated by the compare-and-swap.
        let mut seen = RemoteWord(self.0.load(Ordering::Relaxed));
        loop {
            match seen.state() {
                State::Purging => return Settled::Purging,
                State::Idle => {
                    debug_assert!(false, "a page on the news stack without its token");
                    return Settled::Frees(None);
                }
                State::Queued | State::Empty => {}
            }
            // Acquire pairs with the Release of `push` and `finish_purge`; Release lets the next first pusher
            // (Acquire) see an owner written before this call.
            match self.0.compare_exchange_weak(
                seen.0,
                RemoteWord::IDLE.0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) if seen.state() == State::Empty => return Settled::Empty,
                Ok(_) => return Settled::Frees(seen.chain(page_start)),
                Err(now) => seen = RemoteWord(now),
            }
        }
    }

    /// Takes the token of an idle page, so that its owner may be changed; false if a first pusher was quicker. Only by
    /// the holder of the owner's lease.
    pub fn claim(&self) -> bool {
        let queued = RemoteWord::of_state(State::Queued);
        // Relaxed: the lease hands on what the last settling left, and the settling that follows this publishes what
        // the caller does. After a failure the page is left alone.
        self.0
            .compare_exchange(
                RemoteWord::IDLE.0,
                queued.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list() -> RemoteList {
        RemoteList(AtomicU64::new(0))
    }

    proptest! {
        #[test]
        fn fields_round_trip(count in 0_u32..1 << 22, tail in 0_u64..1 << 20, head in 0_u64..1 << 20) {
            for state in [State::Idle, State::Queued, State::Purging, State::Empty] {
                let word = RemoteWord::new(state, count, tail, head);
                prop_assert_eq!(
                    (word.state(), word.count(), word.tail(), word.head()),
                    (state, count, tail, head)
                );
            }
        }
    }

    #[test]
    fn last_in_first_out_with_the_first_as_tail() {
        let mut memory = [0_u64; 8];
        let start = memory.as_mut_ptr().cast::<u8>();
        let block = |i: usize| NonNull::new(start.wrapping_add(i * 16).cast::<Block>()).unwrap();
        let remote = list();
        let mut announced = 0;
        for i in 0..4 {
            // SAFETY: the block lies in `memory`, and is pushed once.
            let pushed = unsafe { remote.push(start, block(i), 4, || false) }.unwrap();
            announced += u32::from(pushed.announce);
            assert_eq!(pushed.filled, i == 3);
        }
        assert_eq!(announced, 1);
        // SAFETY: refused before the block is touched.
        let refused = unsafe { remote.push(start, block(0), 4, || false) };
        assert_eq!(refused, Err(DoubleFree));
        let Settled::Frees(Some(chain)) = remote.settle(start) else {
            panic!("nothing settled")
        };
        assert_eq!(
            (chain.head, chain.tail, chain.count),
            (block(3), block(0), 4)
        );
        // SAFETY: the chain was just taken.
        let second = unsafe { Block::next(chain.head) };
        assert_eq!(second, block(2).as_ptr());
        assert_eq!(remote.peek().state(), State::Idle);
    }

    #[test]
    fn the_last_freer_purges_when_it_wants_to() {
        let mut memory = [0_u64; 2];
        let start = memory.as_mut_ptr().cast::<u8>();
        let block = NonNull::new(start.cast::<Block>()).unwrap();
        let remote = list();
        // SAFETY: the block lies in `memory`.
        let pushed = unsafe { remote.push(start, block, 1, || true) }.unwrap();
        assert!(pushed.purge && pushed.announce);
        assert!(matches!(remote.settle(start), Settled::Purging));
        assert!(remote.drain(start).is_none());
        remote.finish_purge();
        assert!(matches!(remote.settle(start), Settled::Empty));
    }

    #[test]
    fn a_drain_in_place_keeps_the_token() {
        let mut memory = [0_u64; 4];
        let start = memory.as_mut_ptr().cast::<u8>();
        let block = NonNull::new(start.cast::<Block>()).unwrap();
        let remote = list();
        // SAFETY: the block lies in `memory`; the drain gives it back in between.
        unsafe {
            assert!(remote.push(start, block, 2, || false).unwrap().announce);
            assert_eq!(remote.drain(start).unwrap().count, 1);
            assert!(!remote.push(start, block, 2, || false).unwrap().announce);
        }
        assert!(matches!(remote.settle(start), Settled::Frees(Some(_))));
        assert!(remote.claim() && !remote.claim());
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use crate::page::model::{Page, check, walk};
    use crate::page::shared_line::RemotePage;
    use crate::sync::AtomicU32;
    use std::sync::Arc;

    /// A page, and how many of its tokens are out and announced.
    struct World {
        page: Page,
        announced: AtomicU32,
    }

    // SAFETY: as for `page::model::World`.
    unsafe impl Send for World {}
    // SAFETY: as above.
    unsafe impl Sync for World {}

    impl World {
        fn remote(&self) -> &RemoteList {
            self.page.shared().remote()
        }

        fn push(&self, index: usize) -> bool {
            let (start, block) = (self.page.start().as_ptr(), self.page.block(index));
            // SAFETY: the block is pushed once and not used before it is drained.
            let pushed = unsafe { self.remote().push(start, block, CAPACITY, || false) }.unwrap();
            if pushed.announce {
                // In place of the news stack, with its orderings.
                self.announced.fetch_add(1, Ordering::Release);
            }
            pushed.filled
        }

        /// Two threads push a block each while this one runs `owner`; how many of them filled the page.
        fn run(self: &Arc<Self>, owner: impl FnOnce()) -> u32 {
            let pushers = [0, 1].map(|index| {
                let world = self.clone();
                loom::thread::spawn(move || world.push(index))
            });
            owner();
            pushers
                .into_iter()
                .map(|pusher| u32::from(pusher.join().unwrap()))
                .sum()
        }
    }

    const CAPACITY: u32 = crate::page::model::CAPACITY as u32;

    fn world() -> Arc<World> {
        Arc::new(World {
            page: Page::new(CAPACITY as usize),
            announced: AtomicU32::new(0),
        })
    }

    /// Every block exactly once.
    fn check_blocks(world: &World, mut found: Vec<NonNull<Block>>) {
        found.sort();
        assert_eq!(found, [world.page.block(0), world.page.block(1)]);
    }

    #[test]
    fn a_drain_in_place_loses_no_block_and_keeps_the_token() {
        check(4, || {
            let world = world();
            let start = world.page.start().as_ptr();
            let mut found = Vec::new();
            let filled = world.run(|| {
                if let Some(chain) = world.remote().drain(start) {
                    found.extend(walk(chain));
                }
            });
            // The page is full unless the drain came between the two pushes.
            assert_eq!(filled, u32::from(found.len() != 1));
            assert_eq!(world.announced.load(Ordering::Relaxed), 1);
            assert_eq!(world.remote().peek().state(), State::Queued);
            if let Settled::Frees(Some(chain)) = world.remote().settle(start) {
                found.extend(walk(chain));
            }
            check_blocks(&world, found);
        });
    }

    #[test]
    fn each_settling_is_announced_once() {
        check(4, || {
            let world = world();
            let start = world.page.start().as_ptr();
            let mut found = Vec::new();
            let mut settle = |announced: u32| {
                assert!(announced <= 1);
                if announced == 1 {
                    match world.remote().settle(start) {
                        Settled::Frees(Some(chain)) => found.extend(walk(chain)),
                        other => panic!("announced for nothing: {other:?}"),
                    }
                }
            };
            world.run(|| settle(world.announced.swap(0, Ordering::Acquire)));
            settle(world.announced.swap(0, Ordering::Acquire));
            assert!(world.remote().peek() == RemoteWord::IDLE);
            check_blocks(&world, found);
        });
    }

    /// A block that was drained and handed out again comes back to a page that others push to.
    #[test]
    fn blocks_go_round() {
        check(4, || {
            let world = world();
            let start = world.page.start().as_ptr();
            let mut again = None;
            world.run(|| {
                let Some(chain) = world.remote().drain(start) else {
                    return;
                };
                // SAFETY: the chain was just drained.
                unsafe { Block::link(chain.head, ptr::null_mut()) };
                if chain.count == 1 {
                    let theirs = world.clone();
                    let index = usize::from(chain.head == world.page.block(1));
                    again = Some(loom::thread::spawn(move || theirs.push(index)));
                }
            });
            if let Some(again) = again {
                again.join().unwrap();
                assert_eq!(world.announced.load(Ordering::Relaxed), 1);
                let Some(chain) = world.remote().drain(start) else {
                    panic!("nothing pushed");
                };
                check_blocks(&world, walk(chain));
            }
        });
    }
}
