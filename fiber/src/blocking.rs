//! Threads for calls that block: they would keep a worker, and all its fibers, from going on.
//!
//! A call is a task like any other, run to its end by a thread of the pool instead of a worker; so it has the same record,
//! and its joiner the same handle. The pool starts a thread when a call comes and none is free, up to a limit; more calls
//! than that wait in a queue. A thread that was idle for some time ends.

use crate::join::JoinHandle;
use crate::runtime::{self, Runtime, Shared};
use crate::task::{self, Header};
use std::cell::Cell;
use std::collections::VecDeque;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Threads of a pool at most, where nothing else was said.
pub const DEFAULT_THREADS: usize = 64;
/// A thread that was idle for so long ends.
const IDLE: Duration = Duration::from_secs(10);

/// A call in the queue.
struct Call(NonNull<Header>);
// SAFETY: a record in a queue is whoever's takes it out; its closure is `Send`.
unsafe impl Send for Call {}

impl Call {
    fn run(self) {
        // SAFETY: taken out of the queue, so the caller's alone; it hasn't run, and isn't used afterwards.
        unsafe {
            Header::run(self.0);
            Header::complete(self.0);
        }
    }

    fn cancel(self) {
        // SAFETY: as above.
        unsafe {
            Header::cancel(self.0);
            Header::complete(self.0);
        }
    }
}

/// A runtime's threads for blocking calls.
pub struct BlockingPool(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// A call has come, or the end.
    work: Condvar,
    /// The last thread has ended.
    empty: Condvar,
    most: usize,
    name: String,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Call>,
    threads: usize,
    /// Threads that wait for a call, those included that one has just been left for.
    idle: usize,
    cancels: bool,
    over: bool,
}

thread_local! {
    /// The pool that the thread belongs to.
    static POOL: Cell<*const Inner> = const { Cell::new(ptr::null()) };
}

impl BlockingPool {
    /// Without threads yet.
    pub fn new(most: usize, runtime: &str) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            work: Condvar::new(),
            empty: Condvar::new(),
            most,
            name: format!("{runtime}-blocking"),
        }))
    }

    fn submit(&self, call: Call) {
        let mut state = self.0.state();
        if state.cancels {
            drop(state);
            return call.cancel();
        }
        state.queue.push_back(call);
        if state.idle >= state.queue.len() {
            drop(state);
            self.0.work.notify_one();
        } else if state.threads < self.0.most {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
    }

    fn start_thread(&self) {
        let inner = self.0.clone();
        let thread = thread::Builder::new().name(self.0.name.clone());
        if thread.spawn(move || inner.serve()).is_ok() {
            return;
        }
        let mut state = self.0.state();
        state.threads -= 1;
        // The system gives no thread. If there are others, the call waits for one of them; if not, the caller does it.
        if state.threads == 0
            && let Some(call) = state.queue.pop_front()
        {
            drop(state);
            call.run();
        }
    }

    /// Drops the calls that haven't begun, and all that still come.
    pub fn cancel(&self) {
        let mut state = self.0.state();
        state.cancels = true;
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        queue.into_iter().for_each(Call::cancel);
    }

    /// Ends the threads when the queue is empty, and waits for that; unless the caller is one of them.
    pub fn end(&self) {
        let mut state = self.0.state();
        state.over = true;
        self.0.work.notify_all();
        if ptr::eq(POOL.get(), Arc::as_ptr(&self.0)) {
            return;
        }
        while state.threads != 0 {
            state = self.0.empty.wait(state).unwrap_or_else(|e| e.into_inner());
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A thread's life.
    fn serve(&self) {
        POOL.set(self);
        let mut state = self.state();
        loop {
            if let Some(call) = state.queue.pop_front() {
                drop(state);
                call.run();
                state = self.state();
                continue;
            }
            if state.over {
                break;
            }
            state.idle += 1;
            let (back, timeout) = self
                .work
                .wait_timeout(state, IDLE)
                .unwrap_or_else(|e| e.into_inner());
            state = back;
            state.idle -= 1;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        state.threads -= 1;
        if state.threads == 0 {
            self.empty.notify_all();
        }
    }
}

/// Runs a closure that blocks (a system call, a lock of the system, a long computation) on a thread of the calling
/// fiber's runtime that is there for it, so that the worker's other fibers go on. On a plain thread, on a thread of the
/// process's own runtime.
///
/// The runtime has 64 such threads at most ([`crate::RuntimeBuilder::blocking_threads`]); calls that find none free wait
/// in an unbounded queue, first in, first out. In the closure the caller is a plain thread: its waits block, and what it
/// spawns goes to the process's own runtime. Dropping the handle lets the closure go on; a runtime that ends waits for
/// it.
///
/// ```
/// let runtime = millpond_fiber::Runtime::new()?;
/// let name = runtime.block_on(|| {
///     let reader = millpond_fiber::spawn_blocking(|| std::fs::read_to_string("/proc/self/comm"));
///     reader.join().unwrap()
/// });
/// assert!(name.is_ok());
/// # Ok::<(), millpond_fiber::BuildError>(())
/// ```
pub fn spawn_blocking<F, T>(closure: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    spawn_blocking_on(runtime::current_shared(), closure)
}

impl Runtime {
    /// As [`spawn_blocking`], on a thread of this runtime.
    pub fn spawn_blocking<F, T>(&self, closure: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn_blocking_on(self.shared(), closure)
    }
}

fn spawn_blocking_on<F, T>(shared: &Shared, closure: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let task = task::new(closure, shared, false, None);
    // SAFETY: a new record with a result of this type.
    let handle = unsafe { JoinHandle::new(task) };
    shared.blocking.submit(Call(task));
    handle
}
