//! The control word of a fiber: who owns it, and what happened while nobody could be told.
//!
//! | from | to | by | when |
//! |---|---|---|---|
//! | IDLE | ASSIGNED | the spawner | the record is complete and goes into a queue |
//! | ASSIGNED | OWNED | the worker that took it out of its queue | before it runs |
//! | OWNED | ASSIGNED | its worker | it yielded and goes into a queue again |
//! | OWNED | PARKED | its worker | it is off its stack and its event hasn't come |
//! | PARKED | ASSIGNED | whoever brings the event | exactly one caller, who puts it into a queue |
//! | OWNED | DONE | its worker | its closure has returned |
//!
//! Two events can end a park: the permit, which anybody may give at any time (`unpark`), and the signal, which a claimed
//! wait brings exactly once. An event that comes while the fiber isn't parked for it stays in the word as a bit, so a
//! wake before the park is never lost; and a fiber that waits for a signal isn't disturbed by permits.

use crate::atomics::{AtomicU32, Ordering};

const IDLE: u32 = 0;
const ASSIGNED: u32 = 1;
const OWNED: u32 = 2;
const PARKED: u32 = 3;
const DONE: u32 = 4;
const STATE: u32 = 7;
/// Beside PARKED: the awaited event is the signal, not the permit.
const FOR_SIGNAL: u32 = 1 << 5;

/// What a park waits for. The values are the bits of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Event {
    /// Given by `unpark`, to whom it may concern; a second one changes nothing.
    Permit = 1 << 3,
    /// Brought by whoever claimed the fiber's waiter; there is one for each claim.
    Signal = 1 << 4,
}

impl Event {
    fn parked(self) -> u32 {
        match self {
            Event::Permit => PARKED,
            Event::Signal => PARKED | FOR_SIGNAL,
        }
    }
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

/// The word.
pub struct Control(AtomicU32);

impl Control {
    /// IDLE.
    pub fn new() -> Self {
        Self(AtomicU32::new(IDLE))
    }

    /// IDLE to ASSIGNED, by the only one who knows the record.
    pub fn assign(&self) {
        // Relaxed: the queue that the record goes into publishes it.
        self.0.store(ASSIGNED, Ordering::Relaxed);
    }

    /// ASSIGNED to OWNED for a fiber that never ran: nobody has a handle to it yet that could set an event.
    pub fn own_fresh(&self) {
        debug_assert_eq!(self.0.load(Ordering::Relaxed), ASSIGNED);
        self.0.store(OWNED, Ordering::Relaxed);
    }

    /// ASSIGNED to OWNED after a yield.
    pub fn own_yielded(&self) {
        let before = self.0.fetch_add(OWNED - ASSIGNED, Ordering::Relaxed);
        debug_assert_eq!(before & STATE, ASSIGNED);
    }

    /// ASSIGNED to OWNED after a park; takes the event that ended it.
    pub fn own_woken(&self, event: Event) {
        // Acquire: what the waker did before it is the fiber's to see.
        let before = self
            .0
            .fetch_sub(ASSIGNED + event as u32 - OWNED, Ordering::Acquire);
        debug_assert!(before & STATE == ASSIGNED && before & event as u32 != 0);
    }

    /// Takes the event if it came: by the fiber itself.
    pub fn take(&self, event: Event) -> bool {
        if self.0.load(Ordering::Relaxed) & event as u32 == 0 {
            return false;
        }
        // Acquire: as in `own_woken`.
        self.0.fetch_and(!(event as u32), Ordering::Acquire);
        true
    }

    /// OWNED to PARKED, by the worker, once the fiber is off its stack; `false` if the event is there already, and the
    /// fiber must go on.
    pub fn park(&self, event: Event) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(word & STATE, OWNED);
            if word & event as u32 != 0 {
                return false;
            }
            let parked = word & !STATE | event.parked();
            // Release: the next owner sees the fiber's stack and record as they are left here.
            match self
                .0
                .compare_exchange_weak(word, parked, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// OWNED to ASSIGNED: a yield.
    pub fn yield_now(&self) {
        let before = self.0.fetch_sub(OWNED - ASSIGNED, Ordering::Release);
        debug_assert_eq!(before & STATE, OWNED);
    }

    /// Brings an event. `true`: the fiber was parked for it and is ASSIGNED now; the caller must put it into a queue.
    #[must_use]
    pub fn wake(&self, event: Event) -> bool {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let waits = word & (STATE | FOR_SIGNAL) == event.parked();
            let next = if waits {
                word & !(STATE | FOR_SIGNAL) | ASSIGNED | event as u32
            } else {
                word | event as u32
            };
            // Release: what was done before the wake is the fiber's to see; acquire: the stack and record that it left.
            match self
                .0
                .compare_exchange_weak(word, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return waits,
                Err(now) => word = now,
            }
        }
    }

    /// OWNED to DONE.
    pub fn finish(&self) {
        self.0.store(DONE, Ordering::Release);
    }

    /// Where the fiber stands; anything else may be true a moment later.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Relaxed) & STATE {
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
        fiber.control.own_fresh();
        Arc::new(fiber)
    }

    impl Fiber {
        fn wake(&self, event: Event) {
            if self.control.wake(event) {
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
                self.stack.with_mut(|stack| unsafe { *stack += 1 });
            } else {
                assert!(self.control.take(event));
            }
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
        loom::model(|| {
            let fiber = fiber();
            let other = fiber.clone();
            let thread = thread::spawn(move || {
                if other.control.wake(Event::Permit) {
                    other.control.own_woken(Event::Permit);
                    other.stack.with_mut(|stack| unsafe { *stack += 1 });
                    other.control.finish();
                    return true;
                }
                false
            });
            fiber.stack.with_mut(|stack| unsafe { *stack += 1 });
            if !fiber.control.park(Event::Permit) {
                assert!(fiber.control.take(Event::Permit));
                fiber.stack.with_mut(|stack| unsafe { *stack += 1 });
                fiber.control.finish();
            }
            thread.join().unwrap();
            assert_eq!(fiber.control.state(), State::Done);
        });
    }
}
