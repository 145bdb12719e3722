//! How far one side of a queue has come, whether the other side waits for it to go on, and if so, who does.
//!
//! All that is decided in one word: the side advances by a compare-and-swap that expects no flags, so it cannot miss
//! that the other waits; and the other can only say that it waits while the side hasn't advanced. Whoever sets or finds
//! a flag has the lock of the list, so that, with the lock free, the flag is set exactly while somebody is in the list.

use super::super::lock::SpinLock;
use super::super::wait_list::{Claimed, ClosedList, Node, WaitList};
use crate::atomics::{AtomicU64, Ordering};

/// The other side waits.
const WAITING: u64 = 1;
/// The side advances no more.
const CLOSED: u64 = 2;
const ONE: u64 = 4;

/// The word, and those who wait.
pub struct Gate {
    word: AtomicU64,
    waiting: SpinLock<WaitList>,
}

/// How far a side has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Steps since the start.
    pub count: u64,
    /// There will be no more.
    pub closed: bool,
}

impl Gate {
    /// At the start.
    pub fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            waiting: SpinLock::new(WaitList::new()),
        }
    }

    /// How far the side has come, with what it did up to there: for the other side.
    #[inline]
    pub fn progress(&self) -> Progress {
        // Acquire: pairs with `advance`.
        let word = self.word.load(Ordering::Acquire);
        Progress {
            count: word / ONE,
            closed: word & CLOSED != 0,
        }
    }

    /// The side takes its next step, after `count`. The one that waited for it, if one did, is to be signalled. `Err` if
    /// it was closed.
    #[inline]
    pub fn advance(&self, count: u64) -> Result<Option<Claimed>, Closed> {
        let (before, after) = (count * ONE, (count + 1) * ONE);
        // Release: the other side sees the slot as this one leaves it. Relaxed on failure: the slow path looks again.
        let swapped =
            self.word
                .compare_exchange(before, after, Ordering::Release, Ordering::Relaxed);
        match swapped {
            Ok(_) => Ok(None),
            Err(_) => self.advance_slowly(count),
        }
    }

    #[cold]
    fn advance_slowly(&self, count: u64) -> Result<Option<Claimed>, Closed> {
        let mut waiting = self.waiting.lock();
        let word = self.word.load(Ordering::Relaxed);
        debug_assert_eq!(word / ONE, count, "one thread at a time is on a side");
        if word & CLOSED != 0 {
            return Err(Closed);
        }
        let claimed = waiting.claim_first();
        let flag = if waiting.is_empty() { 0 } else { WAITING };
        // A plain store: flags change under the lock, and the count by this side alone. Release: as in `advance`.
        self.word.store((count + 1) * ONE | flag, Ordering::Release);
        Ok(claimed)
    }

    /// The lock of the list, for the other side.
    pub fn lock(&self) -> &SpinLock<WaitList> {
        &self.waiting
    }

    /// Lets the other side wait until this one goes on from `count`: `false` if it has, or never will.
    ///
    /// # Safety
    /// The caller holds the lock, whose list this is; the node is in no list, and stays where it is until it is out of
    /// this one.
    pub unsafe fn register(&self, waiting: &mut WaitList, node: &Node, count: u64) -> bool {
        let alone = count * ONE;
        let expected = if waiting.is_empty() {
            alone
        } else {
            alone | WAITING
        };
        // Relaxed: says nothing but that somebody is in the list, whose lock shows who.
        let swapped = self.word.compare_exchange(
            expected,
            alone | WAITING,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if swapped.is_ok() {
            // SAFETY: passed on.
            unsafe { waiting.push(node) };
        }
        swapped.is_ok()
    }

    /// Takes a node out, if it is still in.
    ///
    /// # Safety
    /// The caller holds the lock, whose list this is; the node is in no other list.
    pub unsafe fn withdraw(&self, waiting: &mut WaitList, node: &Node) {
        // SAFETY: passed on.
        unsafe { waiting.remove(node) };
        self.clear_flag(waiting);
    }

    fn clear_flag(&self, waiting: &WaitList) {
        if waiting.is_empty() {
            // Relaxed: as in `register`.
            self.word.fetch_and(!WAITING, Ordering::Relaxed);
        }
    }

    /// The side advances no more: those that wait for it, to be told; `None` if that was so already.
    pub fn close(&self) -> Option<ClosedList> {
        let mut waiting = self.waiting.lock();
        // Relaxed: whoever finds the flag needs nothing but the steps before it, which `progress` acquires: this write
        // goes on with their release sequence.
        let before = self.word.fetch_or(CLOSED, Ordering::Relaxed);
        (before & CLOSED == 0).then(|| self.dismiss(&mut waiting))
    }

    /// Those that wait, to be told that it is no use.
    pub fn dismiss_all(&self) -> ClosedList {
        self.dismiss(&mut self.waiting.lock())
    }

    fn dismiss(&self, waiting: &mut WaitList) -> ClosedList {
        let closed = waiting.close();
        self.clear_flag(waiting);
        closed
    }
}

/// The side was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;
