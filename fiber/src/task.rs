//! Task records: one allocation from Millpond's pool holds the header, the closure and later its result.
//!
//! Completion is one word (`completion.rs`), and decides who frees the record. Handles to the fiber itself ([`FiberRef`])
//! are counted apart, and the count isn't touched as long as there are none.

use crate::atomics::{AtomicPtr, AtomicU32, Ordering};
use crate::completion::{Completion, Found};
use crate::control::{Control, Event};
use crate::runtime::Shared;
use crate::stack::Runner;
use crate::wait::Waiter;
use millpond::pool::{Pool, PoolBox};
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What a panic was called with.
pub type Payload = Box<dyn Any + Send + 'static>;

/// In the place of a worker: the task hasn't run yet.
const FRESH: u32 = u32::MAX;
/// As `FRESH`, for a nursery's child.
pub const FRESH_CHILD: u32 = u32::MAX - 1;

/// The part of a record that doesn't depend on its types.
#[repr(C)]
pub struct Header {
    /// The next record in the queue that this one stands in.
    pub next: AtomicPtr<Header>,
    /// Who owns the fiber.
    pub control: Control,
    /// One for the spawner and the worker together, one for each [`FiberRef`].
    refs: AtomicU32,
    /// Whether it is done, and who waits for that.
    pub completion: Completion,
    vtable: &'static VTable,
    /// The runtime.
    pub shared: Cell<*const Shared>,
    /// The stack that it runs on, from its first run to its end.
    pub runner: Cell<*mut Runner>,
    /// The worker it belongs to from its first run on; with migration, the one that ran it last.
    pub home: Cell<u32>,
    /// What it waits for while parked.
    pub awaits: Cell<Option<Event>>,
    /// It waits in the middle of a panic, which its thread counts: it must go on there.
    pub unwinds: Cell<bool>,
    /// What few fibers have.
    extra: Cell<*mut Extra>,
}

// One line, so that a small closure and its result share the next.
#[cfg(not(fiber_loom))]
static_assertions::const_assert_eq!(size_of::<Header>(), 64);

/// What few fibers have.
#[derive(Default)]
pub struct Extra {
    /// For reports.
    pub name: Option<Arc<str>>,
    /// Bytes of stack; 0 for the runtime's default.
    pub stack_bytes: usize,
    /// Fiber-local values.
    pub locals: crate::local::Map,
    /// Cancels the fiber's waits.
    pub token: Option<crate::cancel::CancelToken>,
}

struct VTable {
    /// Runs the closure and stores its result.
    run: unsafe fn(NonNull<Header>),
    /// Drops the closure of a task that never ran, and stores that as its result.
    cancel: unsafe fn(NonNull<Header>),
    /// Moves the outcome to an `Outcome<T>`.
    take: unsafe fn(NonNull<Header>, *mut ()),
    /// Drops the outcome.
    drop_outcome: unsafe fn(NonNull<Header>),
    /// Frees the record, whose closure or result is gone.
    free: unsafe fn(NonNull<Header>),
}

// SAFETY: cells are touched by the fiber's one owner at a time (the control word hands it on), and by the spawner before
// the record goes into a queue; the rest is atomic.
unsafe impl Sync for Header {}

/// What became of a task.
pub enum Outcome<T> {
    /// It returned.
    Value(T),
    /// It panicked.
    Panic(Payload),
    /// It was dropped before it ran.
    Cancelled,
}

union Stage<F, T> {
    closure: ManuallyDrop<F>,
    outcome: ManuallyDrop<Outcome<T>>,
}

#[repr(C)]
struct Task<F, T> {
    header: Header,
    stage: UnsafeCell<Stage<F, T>>,
}

struct Typed<F, T>(std::marker::PhantomData<(F, T)>);

impl<F: FnOnce() -> T, T> Typed<F, T> {
    const POOL: Pool<Task<F, T>> = Pool::new();

    const VTABLE: VTable = VTable {
        run: Self::run,
        cancel: Self::cancel,
        take: Self::take,
        drop_outcome: Self::drop_outcome,
        free: Self::free,
    };

    /// # Safety
    /// The caller owns the fiber, and the closure has not run.
    unsafe fn run(header: NonNull<Header>) {
        // SAFETY: the header is the first field of the record that it was made in.
        let stage = unsafe { &*header.cast::<Task<F, T>>().as_ref().stage.get() };
        // SAFETY: the closure is there, and is taken once.
        let closure = unsafe { ptr::read(&stage.closure) };
        let closure = ManuallyDrop::into_inner(closure);
        // What the closure leaves in a state that a panic broke is behind its own boundary: the result says `Panic`.
        let outcome = match panic::catch_unwind(AssertUnwindSafe(closure)) {
            Ok(value) => Outcome::Value(value),
            Err(payload) => Outcome::Panic(payload),
        };
        // SAFETY: as above.
        unsafe { Self::store(header, outcome) };
    }

    /// # Safety
    /// The caller owns the record, whose stage is empty.
    unsafe fn store(header: NonNull<Header>, outcome: Outcome<T>) {
        // SAFETY: the owner alone touches the stage before completion.
        let stage = unsafe { &mut *header.cast::<Task<F, T>>().as_ref().stage.get() };
        stage.outcome = ManuallyDrop::new(outcome);
    }

    /// # Safety
    /// As for `run`.
    unsafe fn cancel(header: NonNull<Header>) {
        // SAFETY: as in `run`.
        let stage = unsafe { &mut *header.cast::<Task<F, T>>().as_ref().stage.get() };
        // A destructor that panics must not stop the worker.
        let dropped = panic::catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the closure is there, and never used again.
            unsafe { ManuallyDrop::drop(&mut stage.closure) }
        }));
        let outcome = match dropped {
            Ok(()) => Outcome::Cancelled,
            Err(payload) => Outcome::Panic(payload),
        };
        // SAFETY: passed on.
        unsafe { Self::store(header, outcome) };
    }

    /// # Safety
    /// The task is done, its outcome was not taken, and `into` is room for an `Outcome<T>`.
    unsafe fn take(header: NonNull<Header>, into: *mut ()) {
        // SAFETY: as in `run`.
        let stage = unsafe { &*header.cast::<Task<F, T>>().as_ref().stage.get() };
        // SAFETY: the outcome is there, and is taken once.
        unsafe {
            into.cast::<Outcome<T>>()
                .write(ManuallyDrop::into_inner(ptr::read(&stage.outcome)))
        };
    }

    /// # Safety
    /// The task is done, and its outcome was not taken.
    unsafe fn drop_outcome(header: NonNull<Header>) {
        // SAFETY: as in `run`.
        let stage = unsafe { &mut *header.cast::<Task<F, T>>().as_ref().stage.get() };
        // A result whose destructor panics has nobody to tell; the record is freed all the same.
        // SAFETY: the outcome is there, and never used again.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| unsafe {
            ManuallyDrop::drop(&mut stage.outcome)
        }));
    }

    /// # Safety
    /// Nobody uses the record any more.
    unsafe fn free(header: NonNull<Header>) {
        // SAFETY: `new` made it so; its stage is a union, which drops nothing.
        drop(unsafe { PoolBox::from_raw(header.cast::<Task<F, T>>()) });
    }
}

/// Makes a record: the one allocation of a spawn.
pub fn new<F: FnOnce() -> T, T>(
    closure: F,
    shared: *const Shared,
    detached: bool,
    extra: Option<Box<Extra>>,
) -> NonNull<Header> {
    let task = Task {
        header: Header {
            next: AtomicPtr::new(ptr::null_mut()),
            control: Control::new(),
            refs: AtomicU32::new(1),
            completion: Completion::new(detached),
            vtable: const { &Typed::<F, T>::VTABLE },
            shared: Cell::new(shared),
            runner: Cell::new(ptr::null_mut()),
            home: Cell::new(FRESH),
            awaits: Cell::new(None),
            unwinds: Cell::new(false),
            extra: Cell::new(extra.map_or(ptr::null_mut(), Box::into_raw)),
        },
        stage: UnsafeCell::new(Stage {
            closure: ManuallyDrop::new(closure),
        }),
    };
    PoolBox::into_raw(Typed::<F, T>::POOL.boxed(task)).cast()
}

impl Header {
    /// Whether the task has begun to run, in a fiber of its own.
    ///
    /// The caller owns the task: nobody else may begin it meanwhile.
    pub fn has_begun(&self) -> bool {
        !self.runner.get().is_null()
    }

    /// Runs the task on the caller's stack, up to the stored outcome.
    ///
    /// # Safety
    /// The caller owns the fiber, and it has not run.
    pub unsafe fn run(this: NonNull<Self>) {
        // SAFETY: passed on.
        unsafe { (this.as_ref().vtable.run)(this) }
    }

    /// Drops the closure of a task that will not run; its outcome is `Cancelled`.
    ///
    /// # Safety
    /// As for [`Header::run`].
    pub unsafe fn cancel(this: NonNull<Self>) {
        // SAFETY: passed on.
        unsafe { (this.as_ref().vtable.cancel)(this) }
    }

    /// Marks the task as done, wakes its joiner, and frees the record if nobody is interested in it.
    ///
    /// # Safety
    /// The caller owns the fiber, its outcome is stored, and it doesn't touch the record afterwards.
    pub unsafe fn complete(this: NonNull<Self>) {
        // SAFETY: the record lives at least until its completion.
        let header = unsafe { this.as_ref() };
        // Destructors of fiber-local values may make others.
        while let Some(extra) = NonNull::new(header.extra.replace(ptr::null_mut())) {
            // SAFETY: the owner alone has the extra; it was boxed. A destructor that panics must not stop the worker.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| unsafe {
                drop(Box::from_raw(extra.as_ptr()));
            }));
        }
        header.control.finish();
        match header.completion.complete() {
            Found::Handle => {}
            Found::Nobody => {
                // SAFETY: no handle is left that could take the outcome.
                unsafe {
                    (header.vtable.drop_outcome)(this);
                    Self::release(this);
                }
            }
            // SAFETY: the joiner waits until it is signalled.
            Found::Waiter(waiter) => unsafe { Waiter::finish(waiter) },
        }
    }

    /// Moves the outcome out and frees the record.
    ///
    /// # Safety
    /// The task is done with a result of type `T`, and the caller's is the handle that may take it.
    pub unsafe fn take<T>(this: NonNull<Self>) -> Outcome<T> {
        let mut outcome = std::mem::MaybeUninit::<Outcome<T>>::uninit();
        // SAFETY: passed on; `take` writes the whole outcome.
        unsafe {
            (this.as_ref().vtable.take)(this, outcome.as_mut_ptr().cast());
            Self::release(this);
            outcome.assume_init()
        }
    }

    /// Gives the right to the outcome up.
    ///
    /// # Safety
    /// The caller's is the handle that may take it.
    pub unsafe fn detach(this: NonNull<Self>) {
        // SAFETY: the handle kept the record alive.
        let header = unsafe { this.as_ref() };
        if !header.completion.detach() {
            // SAFETY: the task is done, and nobody else can take the outcome.
            unsafe {
                (header.vtable.drop_outcome)(this);
                Self::release(this);
            }
        }
    }

    /// One more reference to the record.
    pub fn retain(&self) {
        // Relaxed: the caller has one.
        self.refs.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives a reference up.
    ///
    /// # Safety
    /// The caller has one, and its outcome is gone if it is the last.
    pub unsafe fn release(this: NonNull<Self>) {
        // SAFETY: the caller's reference keeps the record alive.
        let header = unsafe { this.as_ref() };
        // With a single reference left, nobody can make another one. Acquire: what the others did with the record
        // came before. Release, below: what this one did comes before the free.
        if header.refs.load(Ordering::Acquire) == 1
            || header.refs.fetch_sub(1, Ordering::AcqRel) == 1
        {
            // SAFETY: this was the last reference.
            unsafe { (header.vtable.free)(this) };
        }
    }

    /// What few fibers have, if this one does.
    ///
    /// # Safety
    /// The caller owns the fiber, and the reference isn't kept over anything that makes or drops the extra.
    pub unsafe fn extra(&self) -> Option<&Extra> {
        // SAFETY: passed on.
        unsafe { self.extra.get().as_ref() }
    }

    /// As [`Header::extra`], to be changed; made if it isn't there.
    ///
    /// # Safety
    /// As for [`Header::extra`].
    #[expect(
        clippy::mut_from_ref,
        reason = "the owner of the fiber is the only one who asks"
    )]
    pub unsafe fn make_extra(&self) -> &mut Extra {
        if self.extra.get().is_null() {
            self.extra.set(Box::into_raw(Box::default()));
        }
        // SAFETY: not null; passed on.
        unsafe { &mut *self.extra.get() }
    }
}

/// A counted reference to a fiber's record, for `unpark`.
pub struct FiberRef(NonNull<Header>);

// SAFETY: what it leads to is used through the control word and the count only.
unsafe impl Send for FiberRef {}
// SAFETY: as above.
unsafe impl Sync for FiberRef {}

impl FiberRef {
    /// A reference to a record that lives.
    pub fn new(header: &Header) -> Self {
        header.retain();
        Self(NonNull::from(header))
    }

    /// The record.
    pub fn header(&self) -> &Header {
        // SAFETY: counted.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for FiberRef {
    fn clone(&self) -> Self {
        Self::new(self.header())
    }
}

impl Drop for FiberRef {
    fn drop(&mut self) {
        // SAFETY: this reference is counted. If it is the last, the worker and the spawner have released theirs, with
        // the outcome gone.
        unsafe { Header::release(self.0) };
    }
}
