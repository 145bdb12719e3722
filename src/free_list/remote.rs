//! The remote free list of a page: one atomic word, `state | thinned | count | tail | head`.
//!
//! ```text
//!  bit 63..62   61        60..40    39..20          19..0
//!      state    thinned   count     tail offset     head offset      offsets in units of 8 bytes from the page's start
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
//!
//! Any thread may **take back** what is on the list, as if it had not been freed yet: the blocks are its own until it puts them
//! back, which is a push of all of them. Meanwhile it may give back system pages that they cover. The blocks that start in such
//! **holes** are on no list any more, but count; the word is marked as thinned, and the list's last block, which stays the
//! last until somebody takes the list, says in its second word where the holes are.

use super::{Block, Chain};
use crate::sync::{AtomicU64, Ordering};
use std::ptr::{self, NonNull};

const OFFSET_BITS: u32 = 20;
const OFFSET_MASK: u64 = (1 << OFFSET_BITS) - 1;
const COUNT_SHIFT: u32 = 2 * OFFSET_BITS;
const COUNT_BITS: u32 = 21;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const ONE: u64 = 1 << COUNT_SHIFT;
const THINNED: u64 = 1 << (COUNT_SHIFT + COUNT_BITS);
const STATE_SHIFT: u32 = COUNT_SHIFT + COUNT_BITS + 1;

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

    /// How many blocks are free: on the list, or in its holes.
    pub const fn count(self) -> u32 {
        (self.0 >> COUNT_SHIFT & COUNT_MASK) as u32
    }

    /// Whether the list has holes.
    pub const fn is_thinned(self) -> bool {
        self.0 & THINNED != 0
    }

    const fn head(self) -> u64 {
        self.0 & OFFSET_MASK
    }

    const fn tail(self) -> u64 {
        self.0 >> OFFSET_BITS & OFFSET_MASK
    }

    /// The word after one more push, of the block at this offset.
    const fn with(self, offset: u64) -> Self {
        if self.count() == 0 {
            Self::new(State::Queued, 1, offset, offset)
        } else {
            self.with_more(offset)
        }
    }

    /// How many blocks are free besides the list's first one; in another state than QUEUED, or where none is, more than a page
    /// can have.
    const fn others_if_queued(self) -> u32 {
        const QUEUED: u32 = (RemoteWord::of_state(State::Queued).0 >> COUNT_SHIFT) as u32;
        (((self.0 & !THINNED) >> COUNT_SHIFT) as u32).wrapping_sub(QUEUED + 1)
    }

    /// As [`RemoteWord::with`], where the list has blocks.
    const fn with_more(self, offset: u64) -> Self {
        Self((self.0 & !OFFSET_MASK | offset) + ONE)
    }

    /// The list, for whoever just took it off.
    fn drained(self, page_start: *mut u8) -> Option<Drained> {
        let block = |offset: u64| {
            let address = page_start.wrapping_add(offset as usize * 8).cast::<Block>();
            // SAFETY: pages lie above address 0, so no block of one is null.
            unsafe { NonNull::new_unchecked(address) }
        };
        if self.count() == 0 {
            return None;
        }
        let tail = block(self.tail());
        let holes = if self.is_thinned() {
            // SAFETY: whoever thinned the list wrote it, and the caller took the list off.
            unsafe { Block::holes(tail) }
        } else {
            0
        };
        Some(Drained {
            head: block(self.head()),
            tail,
            count: self.count(),
            holes,
        })
    }
}

/// What was on a list: of `count` blocks those that don't start in holes, linked, the last one to null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The first block.
    pub head: NonNull<Block>,
    /// The last block.
    pub tail: NonNull<Block>,
    /// How many blocks are free by it, those in holes too.
    pub count: u32,
    /// The page's system pages that are holes by it, one bit each.
    pub holes: u64,
}

impl Drained {
    /// A list of one block.
    ///
    /// # Safety
    /// The block is the caller's to link.
    #[inline]
    pub unsafe fn single(block: NonNull<Block>) -> Self {
        // SAFETY: passed on.
        unsafe { Block::link(block, ptr::null_mut()) };
        Self {
            head: block,
            tail: block,
            count: 1,
            holes: 0,
        }
    }

    /// The linked blocks, of which those that start in the holes are none: `sunk` of them.
    pub fn chain(self, sunk: u32) -> Chain {
        Chain {
            head: self.head,
            tail: self.tail,
            count: self.count - sunk,
        }
    }

    /// Both lists in one.
    ///
    /// # Safety
    /// The caller owns both, which are of one page.
    unsafe fn join(self, other: Self) -> Self {
        // SAFETY: the tail is a block of a list that the caller owns.
        unsafe { Block::link(other.tail, self.head.as_ptr()) };
        Self {
            head: other.head,
            tail: self.tail,
            count: self.count + other.count,
            holes: self.holes | other.holes,
        }
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
    /// How many blocks are free now that nobody has taken off the list.
    pub count: u32,
}

/// What the lease holder found on a page that it popped from its news.
#[derive(Debug)]
pub enum Settled {
    /// The last freer is still discarding the contents; the token stays out. Look again later.
    Purging,
    /// The contents are discarded: no block is live or free, the page is as fresh from the system.
    Empty,
    /// The remote frees since the last drain, none if the page was drained in place meanwhile.
    Frees(Option<Drained>),
}

/// Why a push was refused: every block of the page is free already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubleFree;

/// A list that the caller took off a page.
pub struct Taken(RemoteWord);

impl Taken {
    /// Its blocks, and its holes: none for a list without blocks. With the start of the page, which is certain now.
    #[inline]
    pub fn blocks(self, page_start: *mut u8) -> Option<Drained> {
        self.0.drained(page_start)
    }
}

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
                seen.with(offset)
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
                        count: seen.count() + 1,
                    });
                }
                Err(now) => seen = RemoteWord(now),
            }
        }
    }

    /// As [`RemoteList::push`], in the usual case: the list has blocks already, and doesn't get all of them by this one; and if the word
    /// is what the caller thinks it is, from wherever it has it: equal words are equal states. The word after it.
    ///
    /// # Errors
    /// With nothing changed: the word where it is another, none where this is no usual case.
    ///
    /// # Safety
    /// As for [`RemoteList::push`]; after an error, the block is the caller's still.
    #[inline(always)]
    pub unsafe fn push_onto(
        &self,
        seen: RemoteWord,
        page_start: *mut u8,
        block: NonNull<Block>,
        capacity: u32,
    ) -> Result<RemoteWord, Option<RemoteWord>> {
        let offset = (block.as_ptr().addr() - page_start.addr()) as u64 / 8;
        if seen.others_if_queued() >= capacity.saturating_sub(2) {
            return Err(None);
        }
        let next = page_start.wrapping_add(seen.head() as usize * 8).cast();
        // SAFETY: as in `push`.
        unsafe { Block::link(block, next) };
        let new = seen.with_more(offset);
        // As in `push`.
        match self
            .0
            .compare_exchange_weak(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
        {
            Ok(_) => Ok(new),
            Err(now) => Err(Some(RemoteWord(now))),
        }
    }

    /// Puts back what the caller took by [`RemoteList::take_back`] and [`Taken::blocks`], with whatever was pushed meanwhile, in one step.
    /// Where all of the page is free by it, the caller is the one who discards the contents.
    ///
    /// # Safety
    /// The caller owns the blocks, which are of the page at `page_start` with its `capacity`, and gives them up. Blocks
    /// of a list with holes have 16 bytes or more.
    pub unsafe fn put_back(
        &self,
        page_start: *mut u8,
        blocks: Drained,
        capacity: u32,
    ) -> Result<Pushed, DoubleFree> {
        let offset = |block: NonNull<Block>| (block.as_ptr().addr() - page_start.addr()) as u64 / 8;
        let mut whole = blocks;
        // Relaxed, as in `push`.
        let mut seen = RemoteWord(self.0.load(Ordering::Relaxed));
        loop {
            let state = seen.state();
            if matches!(state, State::Purging | State::Empty) {
                return Err(DoubleFree);
            }
            if seen.count() > 0 {
                // Only the last block of a list says where its holes are: what was pushed comes in front of it.
                if let Some(more) = self.drain(page_start) {
                    // SAFETY: both lists are the caller's now.
                    whole = unsafe { whole.join(more) };
                }
                seen = RemoteWord(self.0.load(Ordering::Relaxed));
                continue;
            }
            if whole.count > capacity {
                return Err(DoubleFree);
            }
            let purge = whole.count == capacity;
            let new = if purge {
                RemoteWord::of_state(State::Purging)
            } else {
                let (tail, head) = (offset(whole.tail), offset(whole.head));
                let plain = RemoteWord::new(State::Queued, whole.count, tail, head);
                if whole.holes != 0 {
                    // SAFETY: the block is the caller's, and large enough.
                    unsafe { Block::set_holes(whole.tail, whole.holes) };
                    RemoteWord(plain.0 | THINNED)
                } else {
                    plain
                }
            };
            // As in `push`.
            match self
                .0
                .compare_exchange_weak(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => {
                    return Ok(Pushed {
                        announce: state == State::Idle,
                        purge,
                        count: whole.count,
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
    pub fn drain(&self, page_start: *mut u8) -> Option<Drained> {
        self.take_back(1)?.blocks(page_start)
    }

    /// Takes the list if it has so many blocks, without touching the token: they are the caller's then, and live as far as
    /// others can tell. By any thread, and of what may not be the page any more that the caller thinks it is; what it
    /// takes blocks of stays the page that it is.
    #[inline]
    pub fn take_back(&self, at_least: u32) -> Option<Taken> {
        // Relaxed: validated by the compare-and-swap.
        let mut seen = RemoteWord(self.0.load(Ordering::Relaxed));
        loop {
            if seen.count() < at_least.max(1) {
                return None;
            }
            let new = RemoteWord::of_state(State::Queued);
            // Acquire pairs with the Release of `push`: the links are followed next. Nothing is published: a later
            // pusher touches blocks that it was handed since, and earlier pushes stay visible through this swap.
            match self
                .0
                .compare_exchange_weak(seen.0, new.0, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Some(Taken(seen)),
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
                Ok(_) => return Settled::Frees(seen.drained(page_start)),
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
        fn fields_round_trip(count in 0_u32..1 << 21, tail in 0_u64..1 << 20, head in 0_u64..1 << 20) {
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
            assert_eq!(pushed.count, i as u32 + 1);
        }
        assert_eq!(announced, 1);
        // SAFETY: refused before the block is touched.
        let refused = unsafe { remote.push(start, block(0), 4, || false) };
        assert_eq!(refused, Err(DoubleFree));
        let Settled::Frees(Some(chain)) = remote.settle(start) else {
            panic!("nothing settled")
        };
        assert_eq!(
            (chain.head, chain.tail, chain.count, chain.holes),
            (block(3), block(0), 4, 0)
        );
        // SAFETY: the chain was just taken.
        let second = unsafe { Block::next(chain.head) };
        assert_eq!(second, block(2).as_ptr());
        assert_eq!(remote.peek().state(), State::Idle);
    }

    #[test]
    fn what_is_put_back_tells_of_its_holes_until_it_is_taken() {
        let mut memory = [0_u64; 10];
        let start = memory.as_mut_ptr().cast::<u8>();
        let block = |i: usize| NonNull::new(start.wrapping_add(i * 16).cast::<Block>()).unwrap();
        let remote = list();
        // SAFETY: the blocks lie in `memory`, and each is pushed while it is on no list.
        unsafe {
            for i in 0..3 {
                remote.push(start, block(i), 5, || false).unwrap();
            }
            assert!(remote.take_back(4).is_none());
            let taken = remote.take_back(3).unwrap().blocks(start).unwrap();
            assert_eq!((remote.peek().count(), taken.count), (0, 3));
            // Freed meanwhile: it comes in front.
            remote.push(start, block(3), 5, || false).unwrap();
            Block::link(block(2), ptr::null_mut());
            let left = Drained {
                head: block(2),
                tail: block(2),
                count: 3,
                holes: 0b11,
            };
            let pushed = remote.put_back(start, left, 5).unwrap();
            assert_eq!(
                (pushed.count, pushed.purge, pushed.announce),
                (4, false, false)
            );
            let Settled::Frees(Some(list)) = remote.settle(start) else {
                panic!("nothing settled")
            };
            assert_eq!((list.head, list.tail), (block(3), block(2)));
            assert_eq!((list.count, list.holes), (4, 0b11));
            // All of it: whoever puts it back discards it.
            let whole = Drained { count: 5, ..list };
            let pushed = remote.put_back(start, whole, 5).unwrap();
            assert!(pushed.purge && pushed.announce);
            assert_eq!(remote.peek().state(), State::Purging);
            let more = Drained { count: 1, ..list };
            assert_eq!(remote.put_back(start, more, 5), Err(DoubleFree));
        }
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
            pushed.count == CAPACITY
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

    /// A push onto a word that the pusher has from before, while the owner drains and the block comes back: where the word is the
    /// same again, the push stands, though it isn't the same list.
    #[test]
    fn a_push_onto_a_word_from_before() {
        check(4, || {
            let world = Arc::new(World {
                page: Page::new(3),
                announced: AtomicU32::new(0),
            });
            let start = world.page.start().as_ptr();
            assert!(!world.push(0));
            let seen = world.remote().peek();
            let pusher = {
                let world = world.clone();
                loom::thread::spawn(move || {
                    let (start, block) = (world.page.start().as_ptr(), world.page.block(1));
                    // SAFETY: as in `World::push`.
                    let pushed = unsafe { world.remote().push_onto(seen, start, block, 3) };
                    match pushed {
                        Ok(word) => assert_eq!(word.count(), 2),
                        Err(now) => {
                            assert!(now.is_some_and(|now| now != seen));
                            world.push(1);
                        }
                    }
                })
            };
            let mut found = Vec::new();
            if let Some(chain) = world.remote().drain(start) {
                found.extend(walk(chain));
            }
            if found == [world.page.block(0)] {
                found.clear();
                world.push(0);
            }
            pusher.join().unwrap();
            if let Some(chain) = world.remote().drain(start) {
                found.extend(walk(chain));
            }
            assert_eq!(world.announced.load(Ordering::Relaxed), 1);
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
