//! A worker: a thread that runs fibers. The loop on the thread's own stack ([`Worker::work`]) resumes started fibers and
//! gives fresh tasks to runners; a runner fetches further fresh tasks itself ([`next_fresh`]).
//!
//! No reference to a worker, and nothing that lies in thread-local storage, is kept over a switch: [`current`] is asked
//! again each time, and is never inlined, since a compiler may otherwise keep the address of a thread-local variable over
//! a switch to another thread.

mod calling;
mod children;
mod keep;
mod pick;
mod remote;
mod run;
mod sleep;
mod steal;
mod wake;
mod watch;

pub use calling::{
    current, current_fiber, current_runner, current_token, has_token, park, start_timer, yield_now,
};
pub use remote::{Counts, Remote, count};
pub use run::{count_inline, execute, next_fresh};
pub use sleep::Work;
pub use wake::{WakeBatch, wake, wake_in};

use crate::ready::Ready;
use crate::runtime::Shared;
use crate::stack::Runner;
use crate::tally::Tally;
use crate::task::Header;
use crossbeam_deque::Worker as Deque;
use sleep::DOZE;
use std::cell::{Cell, RefCell};
use std::ptr::{self, NonNull};
use std::time::{Duration, Instant};
use steal::{SEARCH_MIN, Seen};

/// A record in a deque.
pub struct Queued(pub NonNull<Header>);
// SAFETY: a record in a queue is whoever's takes it out; its closure is `Send`, and a started fiber is only put where
// another worker may take it when the runtime was told that fibers may move.
unsafe impl Send for Queued {}

/// Few tasks, at most so many, are left to a worker that gets on with its work: fibers that will talk to each other start
/// on one worker that way. Thieves see to it that they don't wait for long.
pub const FEW: usize = 8;

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
    /// Has the watch, and looked last when.
    watching: Cell<bool>,
    watched: Cell<Option<Instant>>,
    /// Leaves to others what isn't its own.
    aloof: Cell<bool>,
    /// Has put its stacks in order since it last had work.
    rested: Cell<bool>,
    /// All that can run, where a seed chooses among them.
    runnable: RefCell<Vec<NonNull<Header>>>,
    /// The nursery of the children that have ended last, not counted down yet; and how many they are.
    ended: Cell<*const Tally>,
    ends: Cell<usize>,
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
            watching: Cell::new(false),
            watched: Cell::new(None),
            aloof: Cell::new(false),
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

    /// Puts a new task where this worker and thieves find it.
    pub fn queue_fresh(&self, task: NonNull<Header>) {
        // SAFETY: the spawner's until it is queued.
        unsafe { task.as_ref() }.control.assign();
        count(&self.remote().counts.spawned);
        self.deque.push(Queued(task));
        self.shared().wake_one(self.deque.len() <= FEW);
    }

    /// Takes a task out of its queue again, if it is the latest of this worker's that nobody has taken, and hasn't begun:
    /// with migration, one that began elsewhere and waited may be woken into this queue.
    pub fn take_back(&self, task: NonNull<Header>) -> bool {
        let Some(latest) = self.deque.pop() else {
            return false;
        };
        // SAFETY: what was taken out of a queue is the worker's.
        if latest.0 == task && !unsafe { task.as_ref() }.has_begun() {
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
}
