//! A runner: a stack from Millpond's pool and the coroutine on it. It runs one task after the other, for as long as they
//! run to completion and the worker has fresh ones, without leaving its stack; when a task parks, the runner is the
//! task's until it ends.

use crate::control::Event;
use crate::prefetch;
use crate::task::Header;
use crate::worker;
use corosensei::stack::{Stack, StackPointer};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use millpond::stack::{StackError, StackHandle, StackPool, StackSize};
use std::cell::{Cell, UnsafeCell};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Why a coroutine goes back to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// Its task waits for an event.
    Park(Event),
    /// Its task lets others run.
    Yield,
    /// It has no task.
    Vacant,
}

/// A stack from the pool, as the coroutine wants it: asked at each switch, so its ends are at hand.
struct Pooled {
    base: StackPointer,
    limit: StackPointer,
    /// Goes back to the pool when this is dropped.
    _handle: StackHandle,
}

impl Pooled {
    fn new(handle: StackHandle) -> Self {
        Self {
            base: StackPointer::from(handle.top().addr()),
            limit: StackPointer::from(handle.slot().addr()),
            _handle: handle,
        }
    }
}

// SAFETY: a slot of the pool is readable and writable from its limit to its top, has its guard below the limit, and
// stays so as long as its handle lives. The trait's limit includes the guard.
unsafe impl Stack for Pooled {
    #[inline]
    fn base(&self) -> StackPointer {
        self.base
    }

    #[inline]
    fn limit(&self) -> StackPointer {
        self.limit
    }
}

/// The task to run next; null to end the coroutine.
type Input = *const Header;

/// A stack with its coroutine.
pub struct Runner {
    coroutine: UnsafeCell<Coroutine<Input, Suspend, (), Pooled>>,
    yielder: Cell<*const Yielder<Input, Suspend>>,
    /// About where its stack was left last.
    left_at: Cell<*const u8>,
    size: StackSize,
    /// The next vacant runner of the worker.
    pub below: Cell<*mut Runner>,
    /// For reports, which other threads make.
    pub seen: Seen,
}

/// What a fiber waits for, for reports.
pub type Label = &'static &'static str;

/// What a report tells of a runner's fiber.
#[derive(Default)]
pub struct Seen {
    /// Null while it runs, is queued or vacant.
    waits_on: AtomicPtr<&'static str>,
    name: Mutex<Option<Arc<str>>>,
    /// Where the runner stands in the roster.
    place: AtomicUsize,
}

impl Seen {
    /// The fiber begins or ends to wait.
    pub fn set_waits_on(&self, what: Option<Label>) {
        let what = what.map_or(ptr::null_mut(), |what| ptr::from_ref(what).cast_mut());
        self.waits_on.store(what, Ordering::Relaxed);
    }

    /// The runner has another fiber.
    pub fn set_name(&self, name: Option<Arc<str>>) {
        *self.name.lock().unwrap_or_else(|e| e.into_inner()) = name;
    }

    /// What the fiber waits for, if it does, and its name.
    pub fn waits(&self) -> Option<(&'static str, Option<Arc<str>>)> {
        let what = self.waits_on.load(Ordering::Relaxed);
        // SAFETY: set from a static reference.
        let what = unsafe { what.as_ref() }?;
        let name = self.name.lock().unwrap_or_else(|e| e.into_inner()).clone();
        Some((what, name))
    }
}

/// All runners of a runtime, for reports. Runners are made and ended rarely: they are used again and again.
#[derive(Default)]
pub struct Roster(Mutex<Vec<RosterEntry>>);

struct RosterEntry(NonNull<Runner>);
// SAFETY: only `Seen` is looked at, which is `Sync`, and an entry is removed before its runner goes.
unsafe impl Send for RosterEntry {}

impl Roster {
    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<RosterEntry>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a runner.
    pub fn add(&self, runner: NonNull<Runner>) {
        let mut entries = self.entries();
        // SAFETY: a new runner.
        unsafe { runner.as_ref() }
            .seen
            .place
            .store(entries.len(), Ordering::Relaxed);
        entries.push(RosterEntry(runner));
    }

    /// Removes a runner.
    pub fn remove(&self, runner: NonNull<Runner>) {
        let mut entries = self.entries();
        // SAFETY: the runner is still there.
        let place = unsafe { runner.as_ref() }
            .seen
            .place
            .load(Ordering::Relaxed);
        entries.swap_remove(place);
        if let Some(moved) = entries.get(place) {
            // SAFETY: as above.
            unsafe { moved.0.as_ref() }
                .seen
                .place
                .store(place, Ordering::Relaxed);
        }
    }

    /// Calls `visit` with what is seen of each.
    pub fn each(&self, mut visit: impl FnMut(&Seen)) {
        for entry in &*self.entries() {
            // SAFETY: removed before it goes, under the lock.
            visit(unsafe { &(*entry.0.as_ptr()).seen });
        }
    }
}

impl Runner {
    /// Takes a stack from the pool and puts a coroutine on it.
    pub fn new(size: StackSize) -> Result<NonNull<Runner>, StackError> {
        let stack = StackPool::global().take(size)?;
        let coroutine = Coroutine::with_stack(Pooled::new(stack), |yielder, task: Input| {
            run(yielder, task);
        });
        let runner = Box::new(Runner {
            coroutine: UnsafeCell::new(coroutine),
            yielder: Cell::new(ptr::null()),
            left_at: Cell::new(ptr::null()),
            size,
            below: Cell::new(ptr::null_mut()),
            seen: Seen::default(),
        });
        Ok(NonNull::from(Box::leak(runner)))
    }

    /// The size of its stack.
    pub fn size(&self) -> StackSize {
        self.size
    }

    /// Goes on with the coroutine until it suspends.
    ///
    /// # Safety
    /// The caller is the worker that owns the runner, on its own stack. A vacant runner is given a task, or null to end
    /// it; one whose task is suspended is given null.
    pub unsafe fn resume(this: NonNull<Self>, task: Input) -> Option<Suspend> {
        // SAFETY: the owner alone touches the coroutine.
        match unsafe { &mut *this.as_ref().coroutine.get() }.resume(task) {
            CoroutineResult::Yield(why) => Some(why),
            CoroutineResult::Return(()) => None,
        }
    }

    /// Asks for the lines of a runner that will be resumed soon.
    #[inline]
    pub fn prefetch(this: *const Self) {
        prefetch::line(this);
        prefetch::line(this.wrapping_byte_add(LINE));
    }

    /// Asks for the lines of its stack that it comes back to.
    #[inline]
    pub fn prefetch_stack(&self) {
        let near = self.left_at.get();
        prefetch::line(near.wrapping_sub(LINE));
        prefetch::line(near);
        prefetch::line(near.wrapping_add(LINE));
    }

    /// Leaves the stack that the caller runs on, and comes back when it is resumed.
    ///
    /// # Safety
    /// The caller runs on this runner.
    #[inline(always)]
    pub unsafe fn suspend(&self, why: Suspend) -> Input {
        let here = 0;
        self.left_at.set(&raw const here);
        // SAFETY: set when the coroutine began; it lies on its stack, which this call runs on.
        unsafe { (*self.yielder.get()).suspend(why) }
    }

    /// Ends a vacant runner; its stack goes back to the pool.
    ///
    /// # Safety
    /// The runner is vacant, and the caller has it alone.
    pub unsafe fn end(this: NonNull<Self>) {
        // SAFETY: passed on.
        let left = unsafe { Self::resume(this, ptr::null()) };
        debug_assert_eq!(left, None);
        // SAFETY: `new` leaked a box.
        drop(unsafe { Box::from_raw(this.as_ptr()) });
    }
}

/// What a runner's coroutine does all its life.
fn run(yielder: &Yielder<Input, Suspend>, first: Input) {
    worker::current_runner().yielder.set(yielder);
    let mut task = first;
    while let Some(next) = NonNull::new(task.cast_mut()) {
        worker::execute(next);
        task = match worker::next_fresh() {
            Some(fresh) => fresh.as_ptr(),
            None => yielder.suspend(Suspend::Vacant),
        };
    }
}
