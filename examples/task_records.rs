//! Task records for a runtime of one's own: a queue of tasks of any type between two threads.
//!
//! A task is a record: a header with its queue link and the functions that know its type, then the closure. The queue
//! takes pointers to headers, since a `PoolBox<dyn FnOnce()>` can't be made on stable Rust. The spawner makes the
//! records; the worker runs and frees them, and the spawner gets their memory back with its next refill: the pages
//! don't grow in number, however many tasks go by.
//!
//! `cargo run --release --example task_records`

use millpond::pool::{Pool, PoolBox};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// What the queue knows of a task. First in each record.
struct Header {
    /// Written by who pushes, read by who takes.
    next: *mut Header,
    /// Takes the closure out, frees the record, and runs it; or only drops both.
    finish: unsafe fn(NonNull<Header>, Ending),
}

#[derive(Clone, Copy)]
enum Ending {
    Run,
    Drop,
}

/// A record: whole cache lines, so that a worker that runs one task doesn't disturb a spawner that writes the next.
#[repr(C)]
struct Task<F> {
    header: Header,
    work: F,
}

impl<F: FnOnce() + Send + 'static> Task<F> {
    /// All closures of a type have the same pool; a pool is a name for a layout, and needs no static.
    const POOL: Pool<Self> = Pool::new();

    fn spawn(work: F) -> Erased {
        let header = Header {
            next: ptr::null_mut(),
            finish: Self::finish,
        };
        // The pointer to the record is one to its header, which is first.
        Erased(PoolBox::into_raw(Self::POOL.boxed(Self { header, work })).cast())
    }

    /// # Safety
    /// The header is that of a task of this type, which is given up.
    unsafe fn finish(header: NonNull<Header>, ending: Ending) {
        // SAFETY: the pointer is the one that `spawn` got from `into_raw`, and this is the only box made of it.
        let task = unsafe { PoolBox::from_raw(header.cast::<Self>()) };
        match ending {
            // Freed before it runs: the record is back with its spawner while the work goes on.
            Ending::Run => (PoolBox::into_inner(task).work)(),
            Ending::Drop => drop(task),
        }
    }
}

/// Owns a task whose type is forgotten.
struct Erased(NonNull<Header>);

// SAFETY: tasks are made of closures that are `Send`, and records are freed on any thread.
unsafe impl Send for Erased {}

impl Erased {
    fn run(self) {
        // SAFETY: the task is live, and owned.
        let finish = unsafe { self.0.as_ref().finish };
        let header = self.0;
        std::mem::forget(self);
        // SAFETY: the function is that of the task, which is given up.
        unsafe { finish(header, Ending::Run) }
    }
}

impl Drop for Erased {
    fn drop(&mut self) {
        // SAFETY: as in `run`; the task is dropped once.
        unsafe { (self.0.as_ref().finish)(self.0, Ending::Drop) }
    }
}

/// Tasks on their way: pushed one by one, taken all at once. Nobody pops a single one, so a record that is freed and
/// comes back as another task can't be mistaken (the ABA problem of such stacks).
#[derive(Default)]
struct Queue {
    newest: AtomicPtr<Header>,
}

impl Queue {
    fn push(&self, task: Erased) {
        let header = task.0.as_ptr();
        std::mem::forget(task);
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: the task is the queue's now, and nobody sees it before the exchange.
            unsafe { (*header).next = newest };
            // Release, for the Acquire in `take`: it sees the task and its link. Relaxed on failure: only compared.
            match self.newest.compare_exchange_weak(
                newest,
                header,
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// All tasks, oldest first.
    fn take(&self) -> Batch {
        // Acquire: pairs with the pushes; each of the others' is in the release sequence of the one it found.
        let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        let mut oldest = ptr::null_mut();
        while let Some(mut header) = NonNull::new(newest) {
            // SAFETY: the tasks taken are this thread's alone.
            newest = unsafe { std::mem::replace(&mut header.as_mut().next, oldest) };
            oldest = header.as_ptr();
        }
        Batch(oldest)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Tasks taken from a queue. Those not run are dropped.
struct Batch(*mut Header);

impl Iterator for Batch {
    type Item = Erased;

    fn next(&mut self) -> Option<Erased> {
        let header = NonNull::new(self.0)?;
        // SAFETY: the batch owns its tasks.
        self.0 = unsafe { header.as_ref().next };
        Some(Erased(header))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

/// Tasks that may wait at a time.
const WAITING: usize = 1000;
const TASKS: u64 = 1_000_000;

fn main() {
    let queue = Arc::new(Queue::default());
    let sum = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicUsize::new(0));
    let worker = {
        let (queue, done) = (queue.clone(), done.clone());
        thread::spawn(move || {
            let mut ran = 0;
            while ran < TASKS as usize {
                for task in queue.take() {
                    task.run();
                    ran += 1;
                }
                // Release, for the spawner's Acquire: it sees what the tasks did.
                done.store(ran, Ordering::Release);
                thread::yield_now();
            }
        })
    };
    for number in 0..TASKS {
        while number as usize - done.load(Ordering::Acquire) >= WAITING {
            thread::yield_now();
        }
        let sum = sum.clone();
        // Two types of task, of one and of five cache lines.
        if number % 2 == 0 {
            queue.push(Task::spawn(move || {
                sum.fetch_add(number, Ordering::Relaxed);
            }));
        } else {
            let input = [number; 32];
            queue.push(Task::spawn(move || {
                sum.fetch_add(input[31], Ordering::Relaxed);
            }));
        }
    }
    worker.join().unwrap();
    assert_eq!(sum.load(Ordering::Relaxed), TASKS * (TASKS - 1) / 2);
    let stats = millpond::stats();
    println!("{TASKS} tasks, at most {WAITING} at a time");
    println!("remote frees            {:>9}", stats.remote_frees);
    println!("pages taken             {:>9}", stats.fresh_pages);
    println!("refills by freed blocks {:>9}", stats.reused_pages);
    // One that is never run is dropped with the queue.
    queue.push(Task::spawn(|| println!("never")));
}
