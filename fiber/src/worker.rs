//! A worker: a thread that runs fibers. The loop on the thread's own stack ([`Worker::work`]) resumes started fibers and
//! gives fresh tasks to runners; a runner fetches further fresh tasks itself ([`next_fresh`]).
//!
//! No reference to a worker, and nothing that lies in thread-local storage, is kept over a switch: [`current`] is asked
//! again each time, and is never inlined, since a compiler may otherwise keep the address of a thread-local variable over
//! a switch to another thread.

use crate::cancel::CancelToken;
use crate::control::Event;
use crate::inbox::Inbox;
use crate::ready::Ready;
use crate::runtime::{Migration, Shared, Victims};
use crate::stack::{Label, Runner, Suspend};
use crate::tally::Tally;
use crate::task::{self, FiberRef, Header};
use crate::timer::{Timer, Timers};
use crate::wait::Waiter;
use crossbeam_deque::{Steal, Stealer, Worker as Deque};
use crossbeam_utils::CachePadded;
use millpond::stack::{StackPool, StackSize};
use std::cell::{Cell, RefCell};
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// A record in a deque.
pub struct Queued(pub NonNull<Header>);
// SAFETY: a record in a queue is whoever's takes it out; its closure is `Send`, and a started fiber is only put where
// another worker may take it when the runtime was told that fibers may move.
unsafe impl Send for Queued {}

/// Every so many picks a worker looks at the global queue, the oldest task and the timers first.
const FAIRNESS: u32 = 61;
/// A fiber that was woken by the running one goes next this many times in a row at most.
const HAND_OFFS: u32 = 16;
/// Vacant runners that a worker keeps, with their stacks.
const VACANT_RUNNERS: usize = 64;
/// Wake-ups that one operation collects before it delivers them.
const BATCH: usize = 16;
/// How long a worker sleeps while the only work is lone tasks of workers that get on.
const DOZE: Duration = Duration::from_micros(50);
const DOZE_MAX: Duration = Duration::from_millis(1);
/// Few tasks, at most so many, are left to a worker that gets on with its work: fibers that will talk to each other start
/// on one worker that way. They are stolen if its count of picks has stood still for [`GRACE`], or if it has never been
/// seen without any for [`STARVED`].
pub const FEW: usize = 8;
const GRACE: Duration = Duration::from_micros(10);
const STARVED: Duration = Duration::from_micros(20);
/// A worker that has slept for so long puts its stacks in order.
const RESTED: Duration = Duration::from_millis(500);
/// Vacant runners that a worker keeps then.
const RESTED_RUNNERS: usize = 2;
/// How long a worker searches before it sleeps: at least, and at most, by how its last searches went.
const SEARCH_MIN: Duration = Duration::from_micros(5);
const SEARCH_MAX: Duration = Duration::from_micros(80);

/// What others may see of a worker: each part that somebody writes on cache lines of its own.
#[repr(C)]
pub struct Remote {
    /// Its fresh tasks (with migration: all that can run), for thieves.
    pub stealer: Stealer<Queued>,
    /// Its thread, to unpark.
    pub thread: OnceLock<Thread>,
    /// Its own fibers that others woke. Written by whoever wakes one.
    pub inbox: CachePadded<Inbox<Header>>,
    /// Its fibers' timers.
    pub timers: CachePadded<Timers>,
    /// Written by the worker alone, and read by thieves.
    pub counts: CachePadded<Counts>,
}

const LINES: usize = align_of::<CachePadded<u8>>();
static_assertions::const_assert!(LINES >= 64 && size_of::<Remote>().is_multiple_of(LINES));
static_assertions::const_assert!(offset_of!(Remote, inbox) >= LINES);
static_assertions::const_assert!(offset_of!(Remote, timers) >= offset_of!(Remote, inbox) + LINES);
static_assertions::const_assert!(offset_of!(Remote, counts) >= offset_of!(Remote, timers) + LINES);

/// A worker's counters. Only it writes them, with a load and a store.
#[derive(Default)]
pub struct Counts {
    /// Picks: stands still while one fiber runs.
    pub picks: AtomicU64,
    /// Fibers spawned on it.
    pub spawned: AtomicU64,
    /// Fibers completed on it.
    pub completed: AtomicU64,
    /// Tasks that it stole.
    pub stolen: AtomicU64,
    /// Times it slept.
    pub sleeps: AtomicU64,
    /// Switches to a suspended or fresh fiber.
    pub switches: AtomicU64,
    /// Fibers of its that parked.
    pub parks: AtomicU64,
}

/// Adds one to a counter that only the caller writes.
pub fn count(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

/// What a thief has seen of another worker.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// Its count of picks, and since when it has been the same.
    picks: u64,
    still_since: Option<Instant>,
    /// Since when it has had tasks at every look.
    waiting_since: Option<Instant>,
}

/// A worker, as its own thread sees it.
pub struct Worker {
    pub shared: NonNull<Shared>,
    remote: NonNull<Remote>,
    pub index: usize,
    deque: Deque<Queued>,
    /// Started fibers that can go on.
    ready: Ready,
    /// A fiber that the running one woke, to go next.
    hand_off: Cell<*mut Header>,
    hand_offs: Cell<u32>,
    /// A task that a runner fetched and can't run itself.
    fetched: Cell<*mut Header>,
    /// The running fiber.
    pub running: Cell<*const Header>,
    runner: Cell<*mut Runner>,
    vacant: Cell<*mut Runner>,
    vacant_count: Cell<usize>,
    picks: Cell<u32>,
    random: Cell<u64>,
    /// Counts as a searcher, by its own doing or its waker's.
    searching: Cell<bool>,
    /// What was seen of each other worker.
    seen: RefCell<Vec<Seen>>,
    search: Cell<Duration>,
    doze: Cell<Duration>,
    /// Has put its stacks in order since it last had work.
    rested: Cell<bool>,
    /// All that can run, where a seed chooses among them.
    runnable: RefCell<Vec<NonNull<Header>>>,
    /// The nursery of the children that have ended last, not counted down yet; and how many they are.
    ended: Cell<*const Tally>,
    ends: Cell<usize>,
}

thread_local! {
    static CURRENT: Cell<*const Worker> = const { Cell::new(ptr::null()) };
}

/// The worker that the calling thread is.
#[inline(never)]
pub fn current<'a>() -> Option<&'a Worker> {
    let worker = CURRENT.with(Cell::get);
    // Not to be merged with another call: the next one may be made on another thread.
    // SAFETY: does nothing, but the compiler can't know.
    unsafe { std::arch::asm!("", options(nostack, preserves_flags)) };
    // SAFETY: a worker lives as long as its thread runs fibers, and the pointer is cleared before it goes. Callers keep
    // the reference no longer than to their next switch.
    unsafe { worker.as_ref() }
}

/// The calling fiber.
pub fn current_fiber() -> Option<NonNull<Header>> {
    NonNull::new(current()?.running.get().cast_mut())
}

/// The token of the calling fiber.
pub fn current_token() -> Option<CancelToken> {
    let fiber = current_fiber()?;
    // SAFETY: the calling fiber owns its record.
    unsafe { fiber.as_ref().extra() }?.token.clone()
}

/// Whether the calling fiber has a token.
pub fn has_token() -> bool {
    current_fiber().is_some_and(|fiber| {
        // SAFETY: the calling fiber owns its record.
        unsafe { fiber.as_ref().extra() }.is_some_and(|extra| extra.token.is_some())
    })
}

/// The runner that the caller runs on.
pub fn current_runner<'a>() -> &'a Runner {
    let worker = current().expect("runners run on workers");
    // SAFETY: set while a runner runs.
    unsafe { &*worker.runner.get() }
}

/// Leaves the running fiber's stack, which is the runner's.
#[inline(never)]
fn suspend(runner: &Runner, why: Suspend) {
    // SAFETY: the caller runs on it.
    unsafe { runner.suspend(why) };
}

/// Waits for an event of the calling fiber, and takes it. `what` is for reports.
pub fn park(event: Event, what: Label) {
    let worker = current().expect("only fibers park");
    // SAFETY: null or the calling fiber's record.
    let fiber = unsafe { worker.running.get().as_ref() }.expect("only fibers park");
    if fiber.control.take(event) {
        return;
    }
    // The runner goes with its fiber, wherever that goes on.
    // SAFETY: set while a runner runs.
    let runner = unsafe { &*worker.runner.get() };
    runner.seen.set_waits_on(Some(what));
    suspend(runner, Suspend::Park(event));
    runner.seen.set_waits_on(None);
}

/// Lets other fibers of the worker run; a plain thread yields to the system.
pub fn yield_now() {
    match current_fiber() {
        Some(_) => suspend(current_runner(), Suspend::Yield),
        None => std::thread::yield_now(),
    }
}

/// Brings an event to a fiber.
///
/// # Safety
/// The fiber isn't finished, or the caller holds a reference to its record.
pub unsafe fn wake(fiber: NonNull<Header>, event: Event) {
    // SAFETY: passed on.
    let header = unsafe { fiber.as_ref() };
    if !header.control.wake(event, is_at_home(header)) {
        return;
    }
    // The fiber is ASSIGNED now: nobody else queues it, and it can't end before.
    // SAFETY: the runtime lives as long as it has fibers.
    let shared = unsafe { &*header.shared.get() };
    match current() {
        Some(worker) if ptr::eq(worker.shared.as_ptr(), shared) => worker.queue_woken(fiber),
        _ => shared.queue_from_outside(fiber),
    }
}

/// Whether the calling thread is the only one that runs the fiber.
fn is_at_home(header: &Header) -> bool {
    current().is_some_and(|worker| {
        // The home of a pinned fiber is set before it first runs, and so before it first waits.
        ptr::eq(worker.shared.as_ptr(), header.shared.get())
            && worker.shared().config.migration == Migration::Pinned
            && header.home.get() as usize == worker.index
    })
}

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

/// Starts a timer for the calling fiber's waiter.
pub fn start_timer<'a>(deadline: Instant, waiter: &Waiter) -> Timer<'a> {
    let worker = current().expect("fibers run on workers");
    worker.remote().timers.start(deadline, waiter)
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

/// Whether it is a nursery's child that hasn't run yet.
fn is_fresh_child(task: NonNull<Header>) -> bool {
    // SAFETY: what was picked is the worker's.
    unsafe { task.as_ref() }.home.get() == task::FRESH_CHILD
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
    if header.runner.get().is_null() && worker.stack_size(header) == size {
        return Some(next);
    }
    worker.fetched.set(next.as_ptr());
    None
}

impl Worker {
    /// A worker that has run nothing yet.
    pub fn new(shared: NonNull<Shared>, index: usize, deque: Deque<Queued>, seed: u64) -> Self {
        // SAFETY: the runtime outlives its workers.
        let workers = unsafe { &shared.as_ref().workers };
        let remote = NonNull::from(&workers[index]);
        let workers = workers.len();
        Self {
            shared,
            remote,
            index,
            deque,
            ready: Ready::new(),
            hand_off: Cell::new(ptr::null_mut()),
            hand_offs: Cell::new(0),
            fetched: Cell::new(ptr::null_mut()),
            running: Cell::new(ptr::null()),
            runner: Cell::new(ptr::null_mut()),
            vacant: Cell::new(ptr::null_mut()),
            vacant_count: Cell::new(0),
            picks: Cell::new(0),
            random: Cell::new(seed | 1),
            searching: Cell::new(false),
            seen: RefCell::new(vec![Seen::default(); workers]),
            search: Cell::new(SEARCH_MIN),
            doze: Cell::new(DOZE),
            rested: Cell::new(true),
            runnable: RefCell::default(),
            ended: Cell::new(ptr::null()),
            ends: Cell::new(0),
        }
    }

    /// The runtime.
    pub fn shared(&self) -> &Shared {
        // SAFETY: it outlives its workers.
        unsafe { self.shared.as_ref() }
    }

    /// What others see of this worker.
    pub fn remote(&self) -> &Remote {
        // SAFETY: a part of the runtime, which outlives its workers.
        unsafe { self.remote.as_ref() }
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

    /// Runs fibers until the runtime ends.
    pub fn work(&self) {
        CURRENT.with(|current| current.set(self));
        while let Some(task) = self.next() {
            self.resume(task);
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
        if let Some(task) = NonNull::new(self.fetched.replace(ptr::null_mut())) {
            return Some(task);
        }
        loop {
            if let Some(task) = self.pick().or_else(|| self.search()) {
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
    fn end_runner(&self, runner: NonNull<Runner>) {
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

    /// Puts a new task where this worker and thieves find it.
    pub fn queue_fresh(&self, task: NonNull<Header>) {
        // SAFETY: the spawner's until it is queued.
        unsafe { task.as_ref() }.control.assign();
        count(&self.remote().counts.spawned);
        self.deque.push(Queued(task));
        self.shared().wake_one(self.deque.len() <= FEW);
    }

    /// Takes a fresh task out of its queue again, if it is the latest of this worker's that nobody has taken.
    pub fn take_back(&self, task: NonNull<Header>) -> bool {
        let Some(latest) = self.deque.pop() else {
            return false;
        };
        if latest.0 == task {
            return true;
        }
        self.deque.push(latest);
        // A thief may have looked meanwhile, and gone to sleep.
        self.shared().wake_one(false);
        false
    }

    /// Whether thieves find nothing here.
    pub fn has_no_spare(&self) -> bool {
        self.deque.is_empty()
    }

    fn queue_yielded(&self, fiber: NonNull<Header>) {
        // Also where fibers may move: the deque's end is what this worker takes from first.
        self.ready.push(fiber);
    }

    /// Queues a fiber that the running one woke.
    fn queue_woken(&self, fiber: NonNull<Header>) {
        // SAFETY: ASSIGNED by the caller, so it is the caller's until it is queued.
        let home = unsafe { fiber.as_ref() }.home.get() as usize;
        if home != self.index && self.shared().config.migration == Migration::Pinned {
            return self.shared().post(home, fiber, fiber);
        }
        if self.hand_off.get().is_null() {
            self.hand_off.set(fiber.as_ptr());
        } else if self.shared().config.migration == Migration::Free {
            self.deque.push(Queued(fiber));
            self.shared().wake_one(false);
        } else {
            self.ready.push(fiber);
        }
    }

    /// Takes what others left for this worker.
    fn empty_inbox(&self) {
        let inbox = &self.remote().inbox;
        if !inbox.is_empty() {
            // Turned round: a list of what came first at its front.
            let mut list: *mut Header = ptr::null_mut();
            inbox.take(|fiber| {
                // SAFETY: taken, so this worker's.
                unsafe { fiber.as_ref() }
                    .next
                    .store(list, Ordering::Relaxed);
                list = fiber.as_ptr();
            });
            while let Some(fiber) = NonNull::new(list) {
                // SAFETY: as above.
                list = unsafe { fiber.as_ref() }.next.load(Ordering::Relaxed);
                self.ready.push(fiber);
            }
        }
    }

    /// Any of those that can run, chosen by the seed.
    #[cold]
    fn pick_seeded(&self) -> Option<NonNull<Header>> {
        let mut runnable = self.runnable.borrow_mut();
        self.remote().timers.fire();
        self.empty_inbox();
        runnable.extend(NonNull::new(self.hand_off.replace(ptr::null_mut())));
        runnable.extend(std::iter::from_fn(|| self.ready.pop()));
        runnable.extend(std::iter::from_fn(|| self.deque.pop().map(|task| task.0)));
        runnable.extend(std::iter::from_fn(|| self.shared().global.pop()));
        if runnable.is_empty() {
            return None;
        }
        let chosen = self.next_random() as usize % runnable.len();
        // The others stay in their order, so that a run depends on nothing but the seed.
        Some(runnable.remove(chosen))
    }

    /// The next fiber from this worker's own queues and the global one.
    fn pick(&self) -> Option<NonNull<Header>> {
        let next = self.choose();
        if self.ended.get().is_null() || next.is_some_and(is_fresh_child) {
            return next;
        }
        self.report_ends();
        // Whoever waited for the last of them may be next.
        next.or_else(|| self.choose())
    }

    /// A child of a nursery begins; ends of another nursery's children must not wait for it.
    pub fn begin_child(&self, tally: *const Tally) {
        if !ptr::eq(self.ended.get(), tally) {
            self.report_ends();
        }
    }

    /// A child of a nursery has ended. Several ends are counted together, in one write to the line that all workers
    /// share: as long as this worker runs children of that nursery only, since it waits for them anyway.
    ///
    /// # Safety
    /// As for [`Tally::finish`].
    pub unsafe fn end_child(&self, tally: *const Tally) {
        if !ptr::eq(self.ended.get(), tally) {
            self.report_ends();
            self.ended.set(tally);
        }
        self.ends.set(self.ends.get() + 1);
    }

    /// Counts the ended children down.
    fn report_ends(&self) {
        let tally = self.ended.replace(ptr::null());
        let ends = self.ends.take();
        if !tally.is_null() {
            // SAFETY: these children have ended and were not counted down, so the nursery's frame is there.
            unsafe { Tally::finish(tally, ends) };
        }
    }

    fn choose(&self) -> Option<NonNull<Header>> {
        if self.shared().config.seed.is_some() {
            return self.pick_seeded();
        }
        let picks = self.picks.get().wrapping_add(1);
        self.picks.set(picks);
        count(&self.remote().counts.picks);
        self.remote().timers.fire_if_due(picks.is_multiple_of(8));
        if picks.is_multiple_of(FAIRNESS)
            && let Some(task) = self.pick_fairly()
        {
            return Some(task);
        }
        if let Some(fiber) = NonNull::new(self.hand_off.replace(ptr::null_mut())) {
            if self.hand_offs.get() < HAND_OFFS {
                self.hand_offs.set(self.hand_offs.get() + 1);
                return Some(fiber);
            }
            self.ready.push(fiber);
        }
        self.hand_offs.set(0);
        self.empty_inbox();
        // Started and fresh ones in turn, so that neither starves, and new ones start before a thief comes for them.
        if picks.is_multiple_of(2)
            && let Some(fiber) = self.ready.pop()
        {
            return Some(fiber);
        }
        if let Some(Queued(task)) = self.deque.pop() {
            return Some(task);
        }
        if let Some(fiber) = self.ready.pop() {
            return Some(fiber);
        }
        self.shared().global.pop()
    }

    /// What waits longest: a global task, or the oldest task of the deque.
    #[cold]
    fn pick_fairly(&self) -> Option<NonNull<Header>> {
        if let Some(task) = self.shared().global.pop() {
            return Some(task);
        }
        match self.remote().stealer.steal() {
            Steal::Success(Queued(task)) => Some(task),
            _ => None,
        }
    }

    /// Looks for work elsewhere, for a while.
    fn search(&self) -> Option<NonNull<Header>> {
        let shared = self.shared();
        if shared.workers.len() == 1 {
            self.remote().timers.fire();
            return self.pick();
        }
        if !self.searching.get() && shared.idle.searchers() >= shared.most_searchers {
            // More would take time from those that work.
            self.remote().timers.fire();
            return self.pick().or_else(|| self.steal());
        }
        if !self.searching.replace(true) {
            shared.idle.start_search();
        }
        let found = self.search_until(Instant::now() + self.search.get());
        // A search that pays is worth more patience the next time.
        let search = self.search.get();
        self.search.set(if found.is_some() {
            (search * 2).min(SEARCH_MAX)
        } else {
            (search / 2).max(SEARCH_MIN)
        });
        found
    }

    /// Ends a search. The last of the searchers, if it found something, wakes another worker: there may be more.
    fn end_search(&self, found: bool) {
        if self.searching.replace(false) && self.shared().idle.end_search() && found {
            self.shared().wake_one(false);
        }
    }

    fn search_until(&self, end: Instant) -> Option<NonNull<Header>> {
        let mut pause = 1;
        loop {
            self.remote().timers.fire();
            if let Some(task) = self.pick() {
                return Some(task);
            }
            if let Some(task) = self.steal() {
                return Some(task);
            }
            if Instant::now() >= end || self.shared().is_over() {
                return None;
            }
            for _ in 0..pause {
                std::hint::spin_loop();
            }
            pause = (pause * 2).min(64);
        }
    }

    fn next_random(&self) -> u64 {
        // Xorshift, Marsaglia 2003.
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        x
    }

    /// Takes a fresh task from another worker.
    fn steal(&self) -> Option<NonNull<Header>> {
        let shared = self.shared();
        let workers = shared.workers.len();
        let start = match shared.config.victims {
            Victims::Random => self.next_random() as usize % workers,
            Victims::Neighbours => self.index + 1,
            Victims::None => return None,
        };
        (start..start + workers)
            .map(|index| index % workers)
            .filter(|&index| index != self.index)
            .find_map(|index| self.steal_from(index))
    }

    fn steal_from(&self, index: usize) -> Option<NonNull<Header>> {
        let victim = &self.shared().workers[index];
        let waiting = victim.stealer.len();
        if waiting <= FEW && !self.must_be_helped(index, waiting) {
            return None;
        }
        loop {
            match victim
                .stealer
                .steal_batch_with_limit_and_pop(&self.deque, waiting.div_ceil(2).min(32))
            {
                Steal::Success(Queued(task)) => {
                    count(&self.remote().counts.stolen);
                    return Some(task);
                }
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    /// Whether a worker with few tasks waiting doesn't get to them.
    fn must_be_helped(&self, index: usize, waiting: usize) -> bool {
        let seen = &mut self.seen.borrow_mut()[index];
        if waiting == 0 {
            seen.waiting_since = None;
            return false;
        }
        let counts = &self.shared().workers[index].counts;
        let picks = counts.picks.load(Ordering::Relaxed);
        let now = Instant::now();
        if seen.picks != picks {
            seen.picks = picks;
            seen.still_since = None;
        }
        let still_since = *seen.still_since.get_or_insert(now);
        let waiting_since = *seen.waiting_since.get_or_insert(now);
        now - still_since >= GRACE || now - waiting_since >= STARVED
    }

    /// Gives up what a worker without work doesn't need: most of its vacant runners, and, if all workers sleep, what the
    /// pool of stacks keeps.
    #[cold]
    fn rest(&self) {
        self.rested.set(true);
        while self.vacant_count.get() > RESTED_RUNNERS
            && let Some(runner) = NonNull::new(self.vacant.get())
        {
            // SAFETY: a vacant runner of this worker.
            self.vacant.set(unsafe { runner.as_ref() }.below.get());
            self.vacant_count.set(self.vacant_count.get() - 1);
            self.end_runner(runner);
        }
        if self.shared().idle.sleepers() + 1 >= self.shared().workers.len() {
            StackPool::global().trim();
        }
    }

    /// Sleeps until somebody has work, or a timer is due.
    fn sleep(&self) {
        let shared = self.shared();
        shared.idle.announce(self.index);
        let mut work = shared.work_for(self.index);
        if work == Work::Few && !shared.idle.has_dozer() {
            // Left to workers that get on; but they may stop to. One worker looks after that.
            if !shared.idle.withdraw(self.index) {
                self.searching.set(shared.idle.take_grant(self.index));
                return;
            }
            shared.idle.announce_doze(self.index);
            work = shared.work_for(self.index);
        }
        let mut limit = match work {
            Work::Some => {
                shared.idle.withdraw(self.index);
                self.searching.set(shared.idle.take_grant(self.index));
                return;
            }
            // Whatever they were, they are gone: nothing to wait for but a wake, yet this is only a doze.
            Work::Few | Work::None if shared.idle.is_dozing(self.index) => {
                let doze = self.doze.get();
                self.doze.set((doze * 2).min(DOZE_MAX));
                Some(doze)
            }
            Work::Few | Work::None if self.rested.get() => None,
            Work::Few | Work::None => Some(RESTED),
        };
        if work == Work::None && self.shared().config.reports_deadlocks {
            self.shared().report_deadlock();
        }
        count(&self.remote().counts.sleeps);
        if let Some(left) = self.remote().timers.time_left() {
            limit = Some(limit.map_or(left, |limit| limit.min(left)));
        }
        let end = limit.map(|limit| Instant::now() + limit);
        while shared.idle.is_asleep(self.index) {
            let Some(end) = end else {
                std::thread::park();
                continue;
            };
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if shared.idle.withdraw(self.index) && limit == Some(RESTED) {
                    self.rest();
                }
                break;
            }
            std::thread::park_timeout(left);
        }
        self.searching.set(shared.idle.take_grant(self.index));
    }
}

/// What there is to do for a worker that found nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    None,
    /// Few fresh tasks, of workers that will get to them.
    Few,
    /// Something.
    Some,
}

/// Fibers that one operation wakes, delivered together: one push for up to [`BATCH`] fibers of a worker. Nothing that can
/// suspend runs between the wakes and the delivery, which dropping the batch does at the latest.
pub struct WakeBatch {
    fibers: [Option<NonNull<Header>>; BATCH],
    count: usize,
}

impl WakeBatch {
    /// Empty.
    pub fn new() -> Self {
        Self {
            fibers: [None; BATCH],
            count: 0,
        }
    }

    /// Adds a fiber that the caller has just made ASSIGNED.
    fn add(&mut self, fiber: NonNull<Header>) {
        self.fibers[self.count] = Some(fiber);
        self.count += 1;
        if self.count == BATCH {
            self.deliver();
        }
    }

    /// Delivers what was collected.
    pub fn deliver(&mut self) {
        let fibers = &mut self.fibers[..std::mem::take(&mut self.count)];
        for first in 0..fibers.len() {
            let Some(fiber) = fibers[first].take() else {
                continue;
            };
            // SAFETY: all in the batch are the caller's to queue, and their runtimes live as long as they do.
            let header = unsafe { fiber.as_ref() };
            // SAFETY: as above.
            let shared = unsafe { &*header.shared.get() };
            let worker = current().filter(|worker| ptr::eq(worker.shared.as_ptr(), shared));
            let home = header.home.get();
            if shared.config.migration == Migration::Free
                || worker.is_some_and(|worker| worker.index == home as usize)
            {
                match worker {
                    Some(worker) => worker.queue_woken(fiber),
                    None => shared.queue_from_outside(fiber),
                }
                continue;
            }
            // A chain of all that go to the same worker, youngest first: an inbox is turned round when it is taken.
            let mut top = fiber;
            for other in &mut fibers[first + 1..] {
                let same = other.is_some_and(|other| {
                    // SAFETY: as above.
                    let other = unsafe { other.as_ref() };
                    ptr::eq(other.shared.get(), shared) && other.home.get() == home
                });
                if same && let Some(other) = other.take() {
                    // SAFETY: as above.
                    unsafe { other.as_ref() }
                        .next
                        .store(top.as_ptr(), Ordering::Relaxed);
                    top = other;
                }
            }
            shared.post(home as usize, top, fiber);
        }
    }
}

impl Drop for WakeBatch {
    fn drop(&mut self) {
        self.deliver();
    }
}

/// As [`wake`], delivered with the batch.
///
/// # Safety
/// As for [`wake`].
pub unsafe fn wake_in(batch: &mut WakeBatch, fiber: NonNull<Header>, event: Event) {
    // SAFETY: passed on.
    let header = unsafe { fiber.as_ref() };
    if header.control.wake(event, is_at_home(header)) {
        batch.add(fiber);
    }
}
