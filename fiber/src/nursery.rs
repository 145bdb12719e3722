//! Structured concurrency: fibers that borrow from the frame that waits for them. (The name and the rule that children
//! don't outlive their block are Nathaniel J. Smith's, "Notes on structured concurrency", 2018; the lifetimes are those
//! of the standard library's scoped threads.)

use crate::Runtime;
use crate::join::JoinError;
use crate::runtime::{self, Shared};
use crate::tally::Tally;
use crate::task::{Header, Payload};
use crate::worker;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::{Mutex, MutexGuard};

/// Where children are spawned that may borrow what lives for `'scope`; [`nursery`] gives it to its closure.
pub struct Nursery<'scope, 'env: 'scope> {
    core: Core,
    // Invariant in both, as with the standard library's scoped threads: a shorter 'scope would let children borrow what
    // ends before the nursery does.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

/// What children point to, in the frame of the nursery's owner.
struct Core {
    tally: Tally,
    /// const after init; it outlives the nursery, which runs on it or has borrowed it.
    shared: *const Shared,
    /// The fiber that waits; null if that is a plain thread. const after init
    owner: *const Header,
    /// Children that the owner spawned. owner
    own: Cell<usize>,
    /// The first panic. any thread
    panic: Mutex<Option<Payload>>,
}

// SAFETY: `own` is touched by the owner only, which `spawn` compares; the runtime is shared by all its threads.
unsafe impl Sync for Core {}
// SAFETY: never moved while it has children.
unsafe impl Send for Core {}

impl Core {
    fn note(&self, payload: Payload) {
        self.first_panic().get_or_insert(payload);
    }

    fn first_panic(&self) -> MutexGuard<'_, Option<Payload>> {
        self.panic.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Counts a child that is about to be spawned.
    fn count(&self) {
        let own = !self.owner.is_null()
            && worker::current().is_some_and(|worker| ptr::eq(worker.running.get(), self.owner));
        if own {
            self.own.set(self.own.get() + 1);
        } else {
            self.tally.add();
        }
    }
}

/// A child: what it borrows is dropped before it is counted down, also when it never runs.
struct Child<F> {
    work: F,
    end: End,
}

/// Counts a child down.
struct End(*const Core);

// SAFETY: the core is `Sync`, and waits for the child.
unsafe impl Send for End {}

impl<F: FnOnce()> Child<F> {
    fn run(self) {
        let Self { work, end } = self;
        end.begin();
        // What a panic leaves half done is the business of whoever catches the nursery's own, which carries it on.
        if let Err(payload) = panic::catch_unwind(AssertUnwindSafe(work)) {
            // SAFETY: the frame stays until the child is counted down.
            unsafe { &*end.0 }.note(payload);
        }
        end.finish();
    }
}

impl End {
    fn tally(&self) -> *const Tally {
        // SAFETY: the frame stays until the child is counted down.
        unsafe { &raw const (*self.0).tally }
    }

    fn begin(&self) {
        let worker = worker::current().expect("fibers run on workers");
        worker.begin_child(self.tally());
    }

    fn finish(self) {
        let tally = self.tally();
        std::mem::forget(self);
        // It may have moved.
        let worker = worker::current().expect("fibers run on workers");
        // SAFETY: counted down once, and what it borrowed is gone.
        unsafe { worker.end_child(tally) };
    }
}

impl Drop for End {
    /// For a child that is dropped before it ran: its runtime is being shut down. Whoever relies on what it was to do
    /// must not go on as if it had been done.
    fn drop(&mut self) {
        // SAFETY: as in `finish`, which this replaces.
        unsafe {
            (*self.0).note(Box::new("the fiber was cancelled before it started"));
            Tally::finish(self.tally(), 1);
        }
    }
}

/// Calls `work` with a nursery, and returns when all fibers that were spawned there have ended, on the calling fiber's
/// runtime; on a plain thread, on the process's own ([`Runtime::global`]; [`Runtime::nursery`] for another).
///
/// Children may borrow what lives longer than the call, `&mut` included, and spawn siblings through `&Nursery`. The wait
/// isn't ended by a cancelled token, since what the children borrow must stay. A child costs one allocation, of its
/// record.
///
/// ```
/// let mut squares = [0; 8];
/// millpond_fiber::nursery(|n| {
///     for (i, square) in squares.iter_mut().enumerate() {
///         n.spawn(move || *square = i * i);
///     }
/// });
/// assert_eq!(squares[7], 49);
/// ```
///
/// # Panics
/// With the first panic of `work` and the children, when all have ended; and if the runtime was shut down so that a
/// child was dropped before it ran.
pub fn nursery<'env, F, T>(work: F) -> T
where
    F: for<'scope> FnOnce(&'scope Nursery<'scope, 'env>) -> T,
{
    nursery_on(runtime::current_shared(), work)
}

impl Runtime {
    /// As [`nursery`], with children on this runtime.
    pub fn nursery<'env, F, T>(&self, work: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Nursery<'scope, 'env>) -> T,
    {
        nursery_on(self.shared(), work)
    }
}

pub(crate) fn nursery_on<'env, F, T>(shared: &Shared, work: F) -> T
where
    F: for<'scope> FnOnce(&'scope Nursery<'scope, 'env>) -> T,
{
    let owner = worker::current_fiber().map_or(ptr::null(), |fiber| fiber.as_ptr().cast_const());
    let nursery = Nursery {
        core: Core {
            tally: Tally::new(),
            shared,
            owner,
            own: Cell::new(0),
            panic: Mutex::new(None),
        },
        scope: PhantomData,
        env: PhantomData,
    };
    // The panic goes on below, after the wait.
    let result = panic::catch_unwind(AssertUnwindSafe(|| work(&nursery)));
    let result = result.map_err(|payload| nursery.core.note(payload));
    nursery.core.tally.wait(nursery.core.own.get());
    let first = nursery.core.first_panic().take();
    match (result, first) {
        (Ok(value), None) => value,
        (_, Some(payload)) => JoinError::Panic(payload).resume(),
        (Err(()), None) => unreachable!("the panic was noted"),
    }
}

impl<'scope> Nursery<'scope, '_> {
    /// Starts a fiber that the nursery waits for. Any thread may call it, children too. A panic ends the fiber, and is
    /// what the nursery ends with.
    pub fn spawn<F>(&'scope self, work: F)
    where
        F: FnOnce() + Send + 'scope,
    {
        self.core.count();
        let child = Child {
            work,
            end: End(&self.core),
        };
        // SAFETY: what the closure borrows outlives `'scope`, which ends no sooner than the child is counted down; and
        // the runtime outlives the nursery.
        unsafe { runtime::spawn_child_on(&*self.core.shared, move || child.run()) };
    }
}

impl fmt::Debug for Nursery<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nursery").finish_non_exhaustive()
    }
}
