//! Running: the loop on a worker's own stack, and the runners that it switches to.

use super::calling::CURRENT;
use super::sleep::DOZE;
use super::{Worker, count, current, current_runner};
use crate::control::Event;
use crate::stack::{Runner, Suspend};
use crate::task::{FiberRef, Header};
use millpond::stack::StackSize;
use std::ptr::{self, NonNull};

/// Vacant runners that a worker keeps, with their stacks.
const VACANT_RUNNERS: usize = 64;

/// Parks a fiber that is off its stack: [`Control::park`](crate::control::Control::park).
fn park_off_stack(fiber: NonNull<Header>, event: Event) -> bool {
    // SAFETY: the fiber can't end before it has parked.
    let header = unsafe { fiber.as_ref() };
    if event == Event::Signal {
        return header.control.park(event);
    }
    // Whoever gives the permit may let it run to its end on another worker at once.
    let kept = FiberRef::new(header);
    kept.header().control.park(event)
}

/// Runs a fresh task on the caller's stack, to its end.
pub fn execute(task: NonNull<Header>) {
    let worker = current().expect("runners run on workers");
    // SAFETY: a task in no queue is the worker's that took it.
    let header = unsafe { task.as_ref() };
    header.control.own();
    header.home.set(worker.index as u32);
    header.runner.set(worker.runner.get());
    worker.running.set(task.as_ptr());
    // SAFETY: the worker owns the fiber.
    let name = unsafe { header.extra() }.and_then(|extra| extra.name.clone());
    let named = name.is_some();
    if named {
        current_runner().seen.set_name(name);
    }
    if worker.shared().cancels_queued() {
        // SAFETY: the worker owns the fiber, and it hasn't run.
        unsafe { Header::cancel(task) };
    } else {
        // SAFETY: as above.
        unsafe { Header::run(task) };
    }
    // SAFETY: as above, and its outcome is stored.
    unsafe { Header::complete(task) };
    // It may have moved.
    let worker = current().expect("runners run on workers");
    worker.running.set(ptr::null());
    count(&worker.remote().counts.completed);
    if named {
        current_runner().seen.set_name(None);
    }
}

/// Counts a task that was run on another fiber's stack.
pub fn count_inline() {
    let worker = current().expect("fibers run on workers");
    count(&worker.remote().counts.completed);
}

/// For a runner whose task has ended: the next one, if that is fresh and wants a stack like the runner's. Another one
/// is left for the worker's loop.
pub fn next_fresh() -> Option<NonNull<Header>> {
    let worker = current().expect("runners run on workers");
    let next = worker.pick()?;
    // SAFETY: what was picked is the worker's.
    let header = unsafe { next.as_ref() };
    // SAFETY: the worker's runner is running.
    let size = unsafe { &*worker.runner.get() }.size();
    if !header.has_begun() && worker.stack_size(header) == size {
        return Some(next);
    }
    worker.fetched.set(next.as_ptr());
    None
}

impl Worker {
    /// Runs fibers until the runtime ends.
    pub fn work(&self) {
        CURRENT.with(|current| current.set(self));
        self.await_work();
        // Not `next`: it may have been woken as a searcher, and that ends where searches end.
        let mut next = self.look_for_work();
        while let Some(task) = next {
            self.resume(task);
            next = self.next();
        }
        while let Some(runner) = NonNull::new(self.vacant.get()) {
            // SAFETY: a vacant runner of this worker.
            self.vacant.set(unsafe { runner.as_ref() }.below.get());
            self.end_runner(runner);
        }
        CURRENT.with(|current| current.set(ptr::null()));
    }

    /// The next fiber to run; `None` when the runtime ends.
    fn next(&self) -> Option<NonNull<Header>> {
        let fetched = NonNull::new(self.fetched.replace(ptr::null_mut()));
        fetched
            .or_else(|| self.pick())
            .or_else(|| self.look_for_work())
    }

    /// Searches, and sleeps, until there is work; `None` when the runtime ends.
    #[cold]
    fn look_for_work(&self) -> Option<NonNull<Header>> {
        loop {
            self.aloof.set(self.is_aloof());
            if let Some(task) = self.search() {
                self.aloof.set(false);
                self.end_watch();
                self.doze.set(DOZE);
                self.rested.set(false);
                self.end_search(true);
                return Some(task);
            }
            self.end_search(false);
            if self.shared().is_over() {
                return None;
            }
            self.sleep();
        }
    }

    /// Switches to a fiber, and does what it wants when it comes back.
    fn resume(&self, task: NonNull<Header>) {
        // SAFETY: what was picked is the worker's.
        let header = unsafe { task.as_ref() };
        count(&self.remote().counts.switches);
        let started = NonNull::new(header.runner.get());
        let (runner, input) = match started {
            Some(runner) => {
                match header.awaits.take() {
                    Some(event) => header.control.own_woken(event),
                    None => header.control.own(),
                }
                header.home.set(self.index as u32);
                self.running.set(task.as_ptr());
                (runner, ptr::null())
            }
            None => (
                self.take_runner(self.stack_size(header)),
                task.as_ptr().cast_const(),
            ),
        };
        let mut input = input;
        loop {
            self.runner.set(runner.as_ptr());
            // SAFETY: the runner is the task's, or vacant and this worker's.
            let why = unsafe { Runner::resume(runner, input) };
            input = ptr::null();
            // Not `task`: a runner may have run others since.
            let fiber = NonNull::new(self.running.replace(ptr::null()).cast_mut());
            match why.expect("a runner ends only when it is told to") {
                Suspend::Vacant => self.keep_runner(runner),
                Suspend::Yield => {
                    let fiber = fiber.expect("a fiber yielded");
                    // SAFETY: it ran here until now.
                    unsafe { fiber.as_ref() }.control.yield_now();
                    self.queue_yielded(fiber);
                }
                Suspend::Park(event) => {
                    let fiber = fiber.expect("a fiber parked");
                    // SAFETY: it ran here until now.
                    let header = unsafe { fiber.as_ref() };
                    header.awaits.set(Some(event));
                    if !park_off_stack(fiber, event) {
                        // The event came while it went off its stack.
                        header.awaits.set(None);
                        self.running.set(fiber.as_ptr());
                        continue;
                    }
                    count(&self.remote().counts.parks);
                }
            }
            return;
        }
    }

    fn stack_size(&self, task: &Header) -> StackSize {
        // SAFETY: the worker owns the task.
        match unsafe { task.extra() } {
            Some(extra) if extra.stack_bytes != 0 => {
                StackSize::custom(extra.stack_bytes).expect("checked when it was built")
            }
            _ => self.shared().config.stack,
        }
    }

    fn take_runner(&self, size: StackSize) -> NonNull<Runner> {
        let mut place = &self.vacant;
        // Few sizes are in use at a time, so the first is nearly always the right one.
        while let Some(runner) = NonNull::new(place.get()) {
            // SAFETY: vacant runners of this worker.
            let found = unsafe { &*runner.as_ptr() };
            if found.size() == size {
                place.set(found.below.get());
                self.vacant_count.set(self.vacant_count.get() - 1);
                return runner;
            }
            place = &found.below;
        }
        let runner = Runner::new(size).unwrap_or_else(|error| self.shared().out_of_stacks(&error));
        self.shared().roster.add(runner);
        runner
    }

    /// Ends a vacant runner.
    pub(super) fn end_runner(&self, runner: NonNull<Runner>) {
        self.shared().roster.remove(runner);
        // SAFETY: vacant, and this worker's.
        unsafe { Runner::end(runner) };
    }

    fn keep_runner(&self, runner: NonNull<Runner>) {
        if self.vacant_count.get() >= VACANT_RUNNERS {
            self.end_runner(runner);
            return;
        }
        // SAFETY: as above.
        unsafe { runner.as_ref() }
            .below
            .set(self.vacant.replace(runner.as_ptr()));
        self.vacant_count.set(self.vacant_count.get() + 1);
    }
}
