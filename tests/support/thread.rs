//! Threads made without the standard library, which allocates and frees on both sides of a new thread: with these,
//! every allocation on the thread is the test's own.

use std::ffi::c_void;
use std::ptr;

struct Job<F>(Option<F>);

extern "C" fn run<F: FnOnce() + Send>(job: *mut c_void) -> *mut c_void {
    // SAFETY: the pointer is to the job on the stack of `beside`, which waits for this thread.
    let job = unsafe { &mut *job.cast::<Job<F>>() };
    // A panic can't leave an `extern "C"` function: it is reported and ends the process.
    if let Some(work) = job.0.take() {
        work();
    }
    ptr::null_mut()
}

/// Runs `work` on a new thread and `meanwhile` on this one, and waits until the thread has ended, exit hooks
/// included.
pub fn beside<R>(work: impl FnOnce() + Send, meanwhile: impl FnOnce() -> R) -> R {
    fn start<F: FnOnce() + Send>(job: &mut Job<F>) -> libc::pthread_t {
        let mut id = 0;
        // SAFETY: the id is written before it is read, the entry function has the right type, and the job outlives
        // the thread, which is joined below.
        let failed = unsafe {
            libc::pthread_create(
                &mut id,
                ptr::null(),
                run::<F>,
                ptr::from_mut(job).cast::<c_void>(),
            )
        };
        assert_eq!(failed, 0, "no thread");
        id
    }
    struct Join(libc::pthread_t);
    impl Drop for Join {
        fn drop(&mut self) {
            if std::thread::panicking() {
                // The thread may be waiting for what will not come now. The panic is reported already.
                std::process::exit(101);
            }
            // SAFETY: the thread was started above and is joined once.
            unsafe { libc::pthread_join(self.0, ptr::null_mut()) };
        }
    }
    let mut job = Job(Some(work));
    // When `meanwhile` panics, the job must not go first, either.
    let _join = Join(start(&mut job));
    meanwhile()
}

/// Runs `work` on a new thread to its end, exit hooks included.
pub fn run_to_end(work: impl FnOnce() + Send) {
    beside(work, || ());
}
