//! Spawning: a task's record is made and queued.

use super::{BuildError, Runtime, Shared};
use crate::task::{self, Extra, Header};
use crate::worker;
use crate::{CancelToken, JoinHandle};
use millpond::stack::StackSize;
use std::ptr::{self, NonNull};

/// Starts a fiber on a runtime: on the calling worker if it is one of the runtime's, otherwise on whichever is free.
///
/// # Safety
/// What the closure borrows outlives the fiber, and its result what the handle does.
pub(crate) unsafe fn spawn_on<F, T>(
    shared: &Shared,
    closure: F,
    extra: Option<Box<Extra>>,
) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    let task = task::new(closure, shared, false, extra);
    // SAFETY: a new record with a result of this type.
    let handle = unsafe { JoinHandle::new(task) };
    queue(shared, task);
    handle
}

/// As [`spawn_on`], without a handle: the result is dropped.
///
/// # Safety
/// As for [`spawn_on`].
pub(crate) unsafe fn spawn_detached_on<F>(shared: &Shared, closure: F)
where
    F: FnOnce() + Send,
{
    queue(shared, task::new(closure, shared, true, None));
}

/// As [`spawn_detached_on`], for a nursery's child.
///
/// # Safety
/// As for [`spawn_on`].
pub(crate) unsafe fn spawn_child_on<F>(shared: &Shared, closure: F)
where
    F: FnOnce() + Send,
{
    let task = task::new(closure, shared, true, None);
    // SAFETY: nobody else knows the record yet.
    unsafe { task.as_ref() }.home.set(task::FRESH_CHILD);
    queue(shared, task);
}

fn queue(shared: &Shared, task: NonNull<Header>) {
    match worker::current() {
        Some(worker) if ptr::eq(worker.shared.as_ptr(), shared) => worker.queue_fresh(task),
        _ => shared.queue_fresh(task),
    }
}

/// The runtime that the calling fiber runs on, or the process's own.
pub(crate) fn current_shared<'a>() -> &'a Shared {
    match worker::current() {
        // SAFETY: the runtime outlives its workers; callers use it at once.
        Some(worker) => unsafe { &*worker.shared.as_ptr() },
        None => Runtime::global().shared(),
    }
}

/// Settings of a fiber.
///
/// ```
/// let fiber = millpond_fiber::Builder::new().name("deep").stack_size(1 << 20).spawn(|| 1 + 1)?;
/// assert_eq!(fiber.join().unwrap(), 2);
/// # Ok::<(), millpond_fiber::BuildError>(())
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    extra: Extra,
    /// Where it starts, if not just anywhere.
    worker: Option<usize>,
}

impl Builder {
    /// As the runtime's settings say.
    pub fn new() -> Self {
        Self::default()
    }

    /// A name for reports.
    pub fn name(mut self, name: &str) -> Self {
        self.extra.name = Some(name.into());
        self
    }

    /// Bytes of stack, the guard included: rounded up to a power of two.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.extra.stack_bytes = bytes;
        self
    }

    /// The token that cancels the fiber's waits.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.extra.token = Some(token.clone());
        self
    }

    /// The worker that starts the fiber, from 0 on; where fibers are pinned, it stays there. For work that belongs beside
    /// something: a core's own data (with [`crate::RuntimeBuilder::pin_to_cores`]), a library that wants one thread.
    ///
    /// ```
    /// use millpond_fiber::{Builder, Runtime};
    ///
    /// let runtime = Runtime::builder().workers(2).name("w").build()?;
    /// let name = || std::thread::current().name().map(str::to_owned);
    /// let second = Builder::new().worker(1).spawn_on(&runtime, name)?;
    /// assert_eq!(second.join().unwrap().as_deref(), Some("w-1"));
    /// # Ok::<(), millpond_fiber::BuildError>(())
    /// ```
    pub fn worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Starts a fiber on the calling fiber's runtime, or on the process's own; see [`crate::spawn`].
    ///
    /// # Errors
    /// If there is no stack of the size, or no such worker.
    pub fn spawn<F, T>(self, closure: F) -> Result<JoinHandle<T>, BuildError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_in(current_shared(), closure)
    }

    /// Starts a fiber on a runtime.
    ///
    /// # Errors
    /// As for [`Builder::spawn`].
    pub fn spawn_on<F, T>(self, runtime: &Runtime, closure: F) -> Result<JoinHandle<T>, BuildError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_in(runtime.shared(), closure)
    }

    fn spawn_in<F, T>(self, shared: &Shared, closure: F) -> Result<JoinHandle<T>, BuildError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        if self.extra.stack_bytes != 0 {
            StackSize::custom(self.extra.stack_bytes).map_err(BuildError::Stack)?;
        }
        let workers = shared.workers.len();
        if let Some(worker) = self.worker.filter(|&worker| worker >= workers) {
            return Err(BuildError::NoSuchWorker { worker, workers });
        }
        let extra = Some(Box::new(self.extra));
        let task = task::new(closure, shared, false, extra);
        // SAFETY: a new record with a result of this type; the closure and its result own what they use.
        let handle = unsafe { JoinHandle::new(task) };
        match self.worker {
            Some(worker) => shared.queue_fresh_at(task, worker),
            None => queue(shared, task),
        }
        Ok(handle)
    }
}
