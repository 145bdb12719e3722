//! Waiting, for fibers and plain threads alike. A waiter lies in the frame of whoever waits; queues, joins and timers
//! point to it. Whoever wants to end the wait claims the waiter first, and only the claimer may signal it, once. So the
//! frame is gone no sooner than the one signal has arrived, and nobody touches it after that.

use crate::atomics::{AtomicU32, AtomicUsize, Ordering};
use crate::control::Event;
use crate::stack::Label;
use crate::task::Header;
use crate::worker::{self, WakeBatch};
use std::cell::Cell;
use std::ptr::NonNull;
use std::time::Instant;

/// Not claimed.
const WAITING: usize = 0;
/// The time was over.
pub const TIMED_OUT: usize = 1;
/// The fiber's token was cancelled.
pub const CANCELLED: usize = 2;
/// What was waited for has come. Waits for several things count up from here.
pub const FIRED: usize = 3;

/// How a thread's word stands.
mod word {
    pub const EMPTY: u32 = 0;
    pub const SIGNALLED: u32 = 1;
    /// The thread sleeps on the word.
    pub const ASLEEP: u32 = 2;
}

/// Somebody who waits.
pub struct Waiter {
    state: AtomicUsize,
    /// The waiting fiber; none for a plain thread.
    fiber: Option<NonNull<Header>>,
    /// A plain thread's futex.
    word: AtomicU32,
    /// A thread tries this many times before it sleeps.
    spins: Cell<u32>,
    /// Nobody but [`Waiter::finish`] can end the wait.
    sole: Cell<bool>,
    /// What it waits for, for reports.
    label: Cell<Label>,
    /// Whom to wake in a model, where there is no futex.
    #[cfg(fiber_loom)]
    thread: loom::thread::Thread,
}

/// Spins of a plain thread before it blocks, where nothing better is known.
const SPINS: u32 = 200;

impl Waiter {
    /// For the calling fiber or thread, to wait once.
    pub fn new() -> Self {
        Self {
            state: AtomicUsize::new(WAITING),
            fiber: worker::current_fiber(),
            word: AtomicU32::new(word::EMPTY),
            spins: Cell::new(SPINS),
            sole: Cell::new(false),
            label: Cell::new(&"a wait"),
            #[cfg(fiber_loom)]
            thread: loom::thread::current(),
        }
    }

    /// Whether it waits on a fiber.
    pub fn is_fiber(&self) -> bool {
        self.fiber.is_some()
    }

    /// Says what it waits for, for reports.
    pub fn set_label(&self, label: Label) {
        self.label.set(label);
    }

    /// Promises that nobody but [`Waiter::finish`] will end the wait: it has no time limit and no token.
    pub fn set_sole(&self) {
        self.sole.set(true);
    }

    /// Sets how often a thread looks before it blocks.
    pub fn set_spins(&self, spins: u32) {
        self.spins.set(spins);
    }

    /// Claims the waiter with a reason of [`TIMED_OUT`] or more: `true` for one caller, who must signal it.
    pub fn claim(&self, reason: usize) -> bool {
        // AcqRel: the claimer may write into the waiter's frame, and the waiter sees that by the signal.
        self.state
            .compare_exchange(WAITING, reason, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// As [`Waiter::claim`], for the only one who can: the wait has no time limit and no token, and others who know the
    /// waiter are kept out by a lock.
    pub fn claim_alone(&self, reason: usize) {
        debug_assert!(!self.is_claimed());
        // Relaxed: the signal publishes it.
        self.state.store(reason, Ordering::Relaxed);
    }

    /// Whether somebody has claimed it.
    pub fn is_claimed(&self) -> bool {
        self.state.load(Ordering::Relaxed) != WAITING
    }

    /// Ends the wait.
    ///
    /// # Safety
    /// The caller has claimed the waiter, and touches it no more.
    pub unsafe fn signal(this: *const Self) {
        // SAFETY: the frame stays until the signal has arrived.
        let waiter = unsafe { &*this };
        match waiter.fiber {
            // SAFETY: a fiber that waits isn't finished.
            Some(fiber) => unsafe { worker::wake(fiber, Event::Signal) },
            None => {
                #[cfg(not(fiber_loom))]
                let word = std::ptr::from_ref(&waiter.word);
                #[cfg(fiber_loom)]
                let word = waiter.thread.clone();
                // Release: the thread sees what was done before.
                if waiter.word.swap(word::SIGNALLED, Ordering::Release) == word::ASLEEP {
                    // The frame may be gone: the system looks at the address, not at what lies there.
                    futex::wake(word);
                }
            }
        }
    }

    /// As [`Waiter::signal`]; a fiber goes on when the batch is delivered.
    ///
    /// # Safety
    /// As for [`Waiter::signal`].
    pub unsafe fn signal_in(this: *const Self, batch: &mut WakeBatch) {
        // SAFETY: passed on.
        unsafe {
            match (*this).fiber {
                Some(fiber) => worker::wake_in(batch, fiber, Event::Signal),
                None => Self::signal(this),
            }
        }
    }

    /// Claims and signals a waiter that nobody else can claim: the end of a task for its joiner. With a time limit or a
    /// token somebody else could, and may have been first; then the waiter takes itself out and sees that it is too late
    /// (`Completion::unregister`), so the signal comes all the same.
    ///
    /// # Safety
    /// The waiter waits for this signal.
    pub unsafe fn finish(this: *const Self) {
        // SAFETY: passed on.
        unsafe {
            if (*this).sole.get() {
                (*this).claim_alone(FIRED);
                Self::signal(this);
            } else if (*this).claim(FIRED) {
                Self::signal(this);
            } else {
                Self::hand_over(this);
            }
        }
    }

    /// Tells a waiter that was claimed by another that this caller is done with it.
    unsafe fn hand_over(this: *const Self) {
        // SAFETY: the waiter stays until it sees this.
        unsafe { &*this }.state.fetch_or(LEFT, Ordering::Release);
    }

    /// Waits until `finish` is done with a waiter that another had claimed.
    pub fn await_finish(&self) {
        let backoff = Backoff::new();
        while self.state.load(Ordering::Acquire) & LEFT == 0 {
            backoff.snooze();
        }
    }

    /// Blocks until it is signalled; the reason of the claim.
    pub fn wait(&self) -> usize {
        match self.fiber {
            Some(_) => worker::park(Event::Signal, self.label.get()),
            None => {
                let signalled = self.block(None);
                debug_assert!(signalled);
            }
        }
        self.reason()
    }

    /// As [`Waiter::wait`], until a time at most: then the reason is [`TIMED_OUT`], and nobody holds the waiter any
    /// more but the queue that it stands in.
    pub fn wait_until(&self, deadline: Option<Instant>) -> usize {
        let Some(deadline) = deadline else {
            return self.wait();
        };
        if self.fiber.is_some() {
            let timer = worker::start_timer(deadline, self);
            worker::park(Event::Signal, self.label.get());
            timer.stop();
            return self.reason();
        }
        if !self.block(Some(deadline)) && !self.claim(TIMED_OUT) {
            // Claimed by another at the last moment: its signal is due.
            self.block(None);
        }
        self.reason()
    }

    /// As [`Waiter::wait_until`], and until the fiber's token is cancelled: then the reason is [`CANCELLED`].
    pub fn wait_interruptibly(&self, deadline: Option<Instant>) -> usize {
        let Some(token) = worker::current_token() else {
            return self.wait_until(deadline);
        };
        if !token.enter(self) {
            // If another has claimed it, its signal is due.
            return if self.claim(CANCELLED) {
                CANCELLED
            } else {
                self.wait()
            };
        }
        let reason = self.wait_until(deadline);
        token.leave(self);
        reason
    }

    fn reason(&self) -> usize {
        // Relaxed: the signal has published it.
        self.state.load(Ordering::Relaxed) & !LEFT
    }

    /// A plain thread's wait: `false` when the time is over.
    fn block(&self, deadline: Option<Instant>) -> bool {
        if !cfg!(fiber_loom) {
            for _ in 0..self.spins.get() {
                if self.word.load(Ordering::Acquire) == word::SIGNALLED {
                    return true;
                }
                std::hint::spin_loop();
            }
        }
        loop {
            let sleeps = self.word.compare_exchange(
                word::EMPTY,
                word::ASLEEP,
                Ordering::Relaxed,
                Ordering::Acquire,
            );
            if sleeps == Err(word::SIGNALLED) {
                return true;
            }
            if !futex::wait(&self.word, word::ASLEEP, deadline) {
                // A signal that comes from now on finds ASLEEP and wakes nobody, which does no harm.
                return self.word.load(Ordering::Acquire) == word::SIGNALLED;
            }
        }
    }
}

/// Added to the reason when [`Waiter::finish`] came too late and is done.
const LEFT: usize = 1 << (usize::BITS - 1);

#[cfg(not(fiber_loom))]
use crossbeam_utils::Backoff;

/// What the models have in its place.
#[cfg(fiber_loom)]
struct Backoff;

#[cfg(fiber_loom)]
impl Backoff {
    fn new() -> Self {
        Self
    }

    fn snooze(&self) {
        loom::thread::yield_now();
    }
}

/// What the models have in its place.
#[cfg(fiber_loom)]
mod futex {
    use crate::atomics::AtomicU32;
    use std::time::Instant;

    pub fn wait(_: &AtomicU32, _: u32, _: Option<Instant>) -> bool {
        loom::thread::park();
        true
    }

    pub fn wake(thread: loom::thread::Thread) {
        thread.unpark();
    }
}

/// The system's wait on an address.
#[cfg(not(fiber_loom))]
mod futex {
    use std::ptr;
    use std::sync::atomic::AtomicU32;
    use std::time::Instant;

    /// Sleeps while the word has the value; `false` when the time is over. May return early.
    pub fn wait(word: &AtomicU32, value: u32, deadline: Option<Instant>) -> bool {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        let timeout = left.map(|left| libc::timespec {
            tv_sec: left.as_secs().min(i64::MAX as u64 / 2) as libc::time_t,
            tv_nsec: left.subsec_nanos() as libc::c_long,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the word lives during the call, and the timeout with it.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                value,
                timeout,
            )
        };
        true
    }

    /// Wakes whoever sleeps on the address.
    pub fn wake(word: *const AtomicU32) {
        // SAFETY: the call takes any address; nothing is read there.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word,
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            )
        };
    }
}
