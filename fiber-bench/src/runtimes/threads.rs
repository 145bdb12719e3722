//! A pooled thread for each task, with mutex and condvar for everything else.
//!
//! The pool starts a thread when a task finds no idle one, and keeps it. `workers` is not for it: the system schedules.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::blocking::{Blocking, Gate, Group};
use crate::fail::cannot_run;

/// Pooled threads.
pub struct Threads;

type Task = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Threads that wait for a task, or were just started for one. Every task in the queue has one of them.
    idle: usize,
    threads: usize,
}

/// A panic ends the process, so no lock is poisoned.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics")
}

fn pool() -> &'static Pool {
    static POOL: OnceLock<Pool> = OnceLock::new();
    POOL.get_or_init(Pool::default)
}

fn submit(task: Task) {
    let pool = pool();
    let mut state = lock(&pool.state);
    state.tasks.push_back(task);
    if state.idle >= state.tasks.len() {
        drop(state);
        pool.work.notify_one();
        return;
    }
    state.idle += 1;
    state.threads += 1;
    let threads = state.threads;
    drop(state);
    if let Err(error) = thread::Builder::new().spawn(serve) {
        cannot_run(&format!(
            "the system gives no more than {} threads: {error}",
            threads - 1
        ));
    }
}

fn serve() {
    let pool = pool();
    let mut state = lock(&pool.state);
    loop {
        state = pool
            .work
            .wait_while(state, |state| state.tasks.is_empty())
            .expect("nobody panics");
        while let Some(task) = state.tasks.pop_front() {
            state.idle -= 1;
            drop(state);
            task();
            state = lock(&pool.state);
            state.idle += 1;
        }
    }
}

/// A task's result.
pub struct Handle<T>(Arc<(Mutex<Option<T>>, Condvar)>);

impl Blocking for Threads {
    type Handle<T: Send + 'static> = Handle<T>;
    type Sender<T: Send + 'static> = Sender<T>;
    type Receiver<T: Send + 'static> = Receiver<T>;
    type SharedReceiver<T: Send + 'static> = Receiver<T>;
    type Group = Counted;
    type Gate = Door;
    type Waker = Thread;

    fn spawn<T, F>(task: F) -> Handle<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let result = Arc::new((Mutex::new(None), Condvar::new()));
        let place = result.clone();
        submit(Box::new(move || {
            let value = task();
            *lock(&place.0) = Some(value);
            place.1.notify_one();
        }));
        Handle(result)
    }

    fn join<T: Send + 'static>(handle: Handle<T>) -> T {
        let (place, done) = &*handle.0;
        let mut place = done
            .wait_while(lock(place), |place| place.is_none())
            .expect("nobody panics");
        place.take().expect("it was waited for")
    }

    fn detach<F: FnOnce() + Send + 'static>(task: F) {
        submit(Box::new(task));
    }

    fn yield_now() {
        thread::yield_now();
    }

    fn sleep(duration: Duration) {
        thread::sleep(duration);
    }

    fn nursery<F: Fn(usize) + Send + Copy + Sync + 'static>(count: usize, child: F) {
        let group = Arc::new(Counted::new());
        group.add(count);
        for index in 0..count {
            let group = group.clone();
            submit(Box::new(move || {
                child(index);
                group.done();
            }));
        }
        group.wait();
    }

    fn waker() -> Thread {
        thread::current()
    }

    fn park() {
        thread::park();
    }

    fn unpark(waker: Thread) {
        waker.unpark();
    }

    fn channel<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        channel(capacity)
    }

    fn send<T: Send + 'static>(sender: &Sender<T>, value: T) {
        sender.0.send(value);
    }

    fn recv<T: Send + 'static>(receiver: &mut Receiver<T>) -> Option<T> {
        receiver.0.recv()
    }

    fn shared_channel<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        channel(capacity)
    }

    fn recv_shared<T: Send + 'static>(receiver: &Receiver<T>) -> Option<T> {
        receiver.0.recv()
    }

    fn select_all(_: Receiver<u64>, _: Receiver<u64>) -> [(u64, u64); 2] {
        unreachable!("not in the catalog for threads")
    }
}

/// A channel of a mutex and condvars.
struct Channel<T> {
    state: Mutex<Messages<T>>,
    filled: Condvar,
    emptied: Condvar,
    /// At a rendezvous: a message was taken.
    met: Condvar,
    capacity: usize,
}

struct Messages<T> {
    queue: VecDeque<T>,
    /// Messages ever taken: a sender at a rendezvous waits until its own is.
    taken: u64,
    sent: u64,
    senders: usize,
}

/// Sends.
pub struct Sender<T>(Arc<Channel<T>>);

/// Receives.
pub struct Receiver<T>(Arc<Channel<T>>);

fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(Channel {
        state: Mutex::new(Messages {
            queue: VecDeque::new(),
            taken: 0,
            sent: 0,
            senders: 1,
        }),
        filled: Condvar::new(),
        emptied: Condvar::new(),
        met: Condvar::new(),
        capacity,
    });
    (Sender(channel.clone()), Receiver(channel))
}

impl<T> Channel<T> {
    fn send(&self, value: T) {
        let mut state = lock(&self.state);
        let room = self.capacity.max(1);
        state = self
            .emptied
            .wait_while(state, |state| state.queue.len() >= room)
            .expect("nobody panics");
        state.queue.push_back(value);
        state.sent += 1;
        let own = state.sent;
        self.filled.notify_one();
        if self.capacity == 0 {
            let taken = self.met.wait_while(state, |state| state.taken < own);
            drop(taken.expect("nobody panics"));
        }
    }

    fn recv(&self) -> Option<T> {
        let state = lock(&self.state);
        let waiting = |state: &mut Messages<T>| state.queue.is_empty() && state.senders > 0;
        let mut state = self
            .filled
            .wait_while(state, waiting)
            .expect("nobody panics");
        let value = state.queue.pop_front()?;
        state.taken += 1;
        drop(state);
        self.emptied.notify_one();
        if self.capacity == 0 {
            // The senders of this message and of those taken just before: one, as a rule.
            self.met.notify_all();
        }
        Some(value)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        lock(&self.0.state).senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.senders -= 1;
        if state.senders == 0 {
            self.0.filled.notify_all();
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A count with a condvar.
pub struct Counted {
    count: Mutex<usize>,
    zero: Condvar,
}

impl Group for Counted {
    fn new() -> Self {
        Self {
            count: Mutex::new(0),
            zero: Condvar::new(),
        }
    }

    fn add(&self, count: usize) {
        *lock(&self.count) += count;
    }

    fn done(&self) {
        let mut count = lock(&self.count);
        *count -= 1;
        if *count == 0 {
            self.zero.notify_all();
        }
    }

    fn wait(&self) {
        drop(
            self.zero
                .wait_while(lock(&self.count), |count| *count > 0)
                .expect("nobody panics"),
        );
    }
}

/// A flag with a condvar.
pub struct Door {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate for Door {
    fn new() -> Self {
        Self {
            open: Mutex::new(false),
            opened: Condvar::new(),
        }
    }

    fn wait(&self) {
        drop(
            self.opened
                .wait_while(lock(&self.open), |open| !*open)
                .expect("nobody panics"),
        );
    }

    fn open(&self) {
        *lock(&self.open) = true;
        self.opened.notify_all();
    }
}
