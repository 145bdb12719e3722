//! The control words of a fiber: who owns it, and what happened while nobody could be told.
//!
//! | from | to | by | when |
//! |---|---|---|---|
//! | IDLE | ASSIGNED | the spawner | the record is complete and goes into a queue |
//! | ASSIGNED | OWNED | the worker that took it out of its queue | before it runs |
//! | OWNED | ASSIGNED | its worker | it yielded and goes into a queue again |
//! | OWNED | PARKED | its worker | it is off its stack and its event hasn't come |
//! | PARKED | OWNED | its worker | its permit came at the same moment |
//! | PARKED | ASSIGNED | whoever brings the event | exactly one caller, who puts it into a queue |
//! | OWNED | OWNED, SIGNALLED | whoever brings the signal | before the park, which it prevents |
//! | OWNED | DONE | its worker | its closure has returned |
//! | IDLE, ASSIGNED | DONE | who has it | it was run without being a fiber: a blocking call, half of a `join` |
//!
//! Two events can end a park: the permit, which anybody may give at any time (`unpark`), and the signal, which a claimed
//! wait brings exactly once. An event that comes while the fiber isn't parked for it stays, so a wake before the park is
//! never lost; and a fiber that waits for a signal isn't disturbed by permits, which have a word of their own.
//!
//! So the word of the states has few writers. Between the start of a wait and its signal there are two, the fiber's
//! worker and the one who claimed the wait, and they race only if they are different threads; at all other times there
//! is one. (A fiber doesn't yield or wait for anything else between registering a waiter and waiting with it.) Hence most
//! of the transitions are plain stores, and a signal between fibers of one worker costs no read-modify-write but the
//! park's.

use crate::atomics::{AtomicU8, Ordering, fence};

const IDLE: u8 = 0;
const ASSIGNED: u8 = 1;
const OWNED: u8 = 2;
const PARKED: u8 = 3;
const DONE: u8 = 4;
const STATE: u8 = 7;
/// Beside PARKED: the awaited event is the signal, not the permit.
const FOR_SIGNAL: u8 = 1 << 3;
/// Beside OWNED: the signal came.
const SIGNALLED: u8 = 1 << 4;

/// What a park waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Given by `unpark`, to whom it may concern; a second one changes nothing.
    Permit,
    /// Brought by whoever claimed the fiber's waiter; there is one for each claim.
    Signal,
}

/// Where a fiber stands, for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, in no queue.
    Idle,
    /// In one queue.
    Assigned,
    /// Run by a worker.
    Owned,
    /// Off its worker, in no queue.
    Parked,
    /// Finished.
    Done,
}

/// The words.
pub struct Control {
    word: AtomicU8,
    /// 1 while there is a permit.
    permit: AtomicU8,
}

impl Control {
    /// IDLE, without a permit.
    pub fn new() -> Self {
        Self {
            word: AtomicU8::new(IDLE),
            permit: AtomicU8::new(0),
        }
    }

    fn set(&self, from: u8, to: u8) {
        // Relaxed, as all plain stores here: whoever looks next has got the fiber through a queue, or is its claimer
        // and follows a waiter that was published later.
        debug_assert_eq!(self.word.load(Ordering::Relaxed), from);
        self.word.store(to, Ordering::Relaxed);
    }

    /// IDLE to ASSIGNED, by the only one who knows the record.
    pub fn assign(&self) {
        self.set(IDLE, ASSIGNED);
    }

    /// ASSIGNED to OWNED: of a fresh fiber, or after a yield.
    pub fn own(&self) {
        self.set(ASSIGNED, OWNED);
    }

    /// ASSIGNED to OWNED after a park; takes the event that ended it.
    pub fn own_woken(&self, event: Event) {
        self.set(ASSIGNED, OWNED);
        if event == Event::Permit {
            // Acquire: what the giver did before it is the fiber's to see.
            self.permit.swap(0, Ordering::Acquire);
        }
    }

    /// OWNED to ASSIGNED: a yield.
    pub fn yield_now(&self) {
        self.set(OWNED, ASSIGNED);
    }

    /// Takes the event if it came: by the fiber itself.
    pub fn take(&self, event: Event) -> bool {
        match event {
            // Acquire: as in `own_woken`.
            Event::Permit => {
                self.permit.load(Ordering::Relaxed) != 0
                    && self.permit.swap(0, Ordering::Acquire) != 0
            }
            Event::Signal => {
                let came = self.word.load(Ordering::Acquire) == OWNED | SIGNALLED;
                if came {
                    self.set(OWNED | SIGNALLED, OWNED);
                }
                came
            }
        }
    }

    /// OWNED to PARKED, by the worker, once the fiber is off its stack; `false` if the event is there already, taken
    /// now, and the fiber must go on. After `true` the fiber may be running elsewhere, and its record gone.
    ///
    /// For a permit the caller keeps the record during the call.
    pub fn park(&self, event: Event) -> bool {
        match event {
            Event::Signal => {
                // Release: the next owner sees the fiber's stack and record as they are left here. Acquire: what the
                // claimer did is the fiber's to see.
                let parked = self.word.compare_exchange(
                    OWNED,
                    PARKED | FOR_SIGNAL,
                    Ordering::Release,
                    Ordering::Acquire,
                );
                if parked.is_err() {
                    self.set(OWNED | SIGNALLED, OWNED);
                }
                parked.is_ok()
            }
            Event::Permit => {
                debug_assert_eq!(self.word.load(Ordering::Relaxed), OWNED);
                // Release: as above.
                self.word.store(PARKED, Ordering::Release);
                // Pairs with the fence of `wake`: this thread sees the permit, or the giver sees PARKED.
                fence(Ordering::SeqCst);
                if self.permit.load(Ordering::Relaxed) == 0 {
                    return true;
                }
                let back =
                    self.word
                        .compare_exchange(PARKED, OWNED, Ordering::Relaxed, Ordering::Relaxed);
                if back.is_ok() {
                    // Acquire: as in `own_woken`.
                    self.permit.swap(0, Ordering::Acquire);
                }
                back.is_err()
            }
        }
    }

    /// Brings an event. `true`: the fiber was parked for it and is ASSIGNED now; the caller must put it into a queue.
    ///
    /// `at_home`: the caller's thread is the one that parks the fiber and runs it next, so the two don't race.
    #[must_use]
    pub fn wake(&self, event: Event, at_home: bool) -> bool {
        match event {
            Event::Permit => {
                // Release: what was done before the wake is the fiber's to see.
                self.permit.swap(1, Ordering::Release);
                fence(Ordering::SeqCst);
                // Acquire: the stack and record that the fiber left.
                self.word
                    .compare_exchange(PARKED, ASSIGNED, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            }
            Event::Signal if at_home => {
                let parked = self.word.load(Ordering::Relaxed) == PARKED | FOR_SIGNAL;
                if parked {
                    self.set(PARKED | FOR_SIGNAL, ASSIGNED);
                } else {
                    self.set(OWNED, OWNED | SIGNALLED);
                }
                parked
            }
            Event::Signal => {
                // Release and acquire: as above.
                let early = self.word.compare_exchange(
                    OWNED,
                    OWNED | SIGNALLED,
                    Ordering::Release,
                    Ordering::Acquire,
                );
                if early.is_err() {
                    // It has parked meanwhile, and nobody but this caller may end that.
                    self.set(PARKED | FOR_SIGNAL, ASSIGNED);
                }
                early.is_err()
            }
        }
    }

    /// OWNED to DONE. (From IDLE or ASSIGNED for a task that was run where it was, without being a fiber: a blocking call,
    /// or the other half of a `join`.)
    pub fn finish(&self) {
        debug_assert!(self.word.load(Ordering::Relaxed) <= OWNED);
        self.word.store(DONE, Ordering::Relaxed);
    }

    /// Where the fiber stands; anything else may be true a moment later.
    pub fn state(&self) -> State {
        match self.word.load(Ordering::Relaxed) & STATE {
            IDLE => State::Idle,
            ASSIGNED => State::Assigned,
            OWNED => State::Owned,
            PARKED => State::Parked,
            _ => State::Done,
        }
    }
}

#[cfg(all(fiber_loom, test))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    struct Fiber {
        control: Control,
        /// How often it stands in a queue.
        queued: AtomicUsize,
        /// The stack: who touches it must be alone.
        stack: loom::cell::UnsafeCell<u32>,
    }

    fn fiber() -> Arc<Fiber> {
        let fiber = Fiber {
            control: Control::new(),
            queued: AtomicUsize::new(0),
            stack: loom::cell::UnsafeCell::new(0),
        };
        fiber.control.assign();
        fiber.control.own();
        Arc::new(fiber)
    }

    impl Fiber {
        fn wake(&self, event: Event) {
            if self.control.wake(event, false) {
                assert_eq!(
                    self.queued.fetch_add(1, Ordering::AcqRel),
                    0,
                    "queued twice"
                );
            }
        }

        /// The worker's side of one wait for the event: it ends, whatever the wakers do.
        fn wait(&self, event: Event) {
            if self.control.take(event) {
                return;
            }
            self.stack.with_mut(|stack| unsafe { *stack += 1 });
            if self.control.park(event) {
                while self.queued.load(Ordering::Acquire) == 0 {
                    thread::yield_now();
                }
                self.queued.fetch_sub(1, Ordering::AcqRel);
                self.control.own_woken(event);
            }
            self.stack.with_mut(|stack| unsafe { *stack += 1 });
        }
    }

    /// A wake before, during or after the park is never lost.
    #[test]
    fn no_wake_is_lost() {
        loom::model(|| {
            let fiber = fiber();
            let waker = fiber.clone();
            let thread = thread::spawn(move || waker.wake(Event::Signal));
            fiber.wait(Event::Signal);
            thread.join().unwrap();
            assert_eq!(fiber.queued.load(Ordering::Relaxed), 0);
        });
    }

    /// Permits and a signal from three sides: the fiber is queued at most once at a time, and a permit doesn't end a
    /// wait for the signal.
    #[test]
    fn queued_at_most_once() {
        let mut bounded = loom::model::Builder::new();
        // Three threads with as many switches as they like take minutes.
        bounded.preemption_bound = Some(3);
        bounded.check(|| {
            let fiber = fiber();
            let (a, b) = (fiber.clone(), fiber.clone());
            let first = thread::spawn(move || a.wake(Event::Permit));
            let second = thread::spawn(move || b.wake(Event::Signal));
            fiber.wait(Event::Signal);
            fiber.wait(Event::Permit);
            first.join().unwrap();
            second.join().unwrap();
            assert_eq!(fiber.queued.load(Ordering::Relaxed), 0);
        });
    }

    /// Another worker runs the fiber after its wake: it has the stack alone.
    #[test]
    fn one_owner_of_a_stack() {
        for event in [Event::Permit, Event::Signal] {
            loom::model(move || one_owner(event));
        }
    }

    fn one_owner(event: Event) {
        let fiber = fiber();
        let other = fiber.clone();
        let thread = thread::spawn(move || {
            if other.control.wake(event, false) {
                other.control.own_woken(event);
                other.stack.with_mut(|stack| unsafe { *stack += 1 });
                other.control.finish();
                return true;
            }
            false
        });
        fiber.stack.with_mut(|stack| unsafe { *stack += 1 });
        if !fiber.control.park(event) {
            fiber.stack.with_mut(|stack| unsafe { *stack += 1 });
            fiber.control.finish();
        }
        thread.join().unwrap();
        assert_eq!(fiber.control.state(), State::Done);
    }
}
