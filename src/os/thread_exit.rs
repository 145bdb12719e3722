//! A function that runs when a thread ends, by a `pthread` key: after the destructors of the program's own
//! thread-local values, and without an allocation in the usual case.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

/// A function for the end of threads. Only in statics: the key is never given back.
pub struct ExitHook {
    /// The key plus 1; 0 until it is made.
    key: AtomicU32,
    run: unsafe extern "C" fn(*mut c_void),
}

impl ExitHook {
    /// The hook that runs `run`. Its argument means nothing.
    pub const fn new(run: unsafe extern "C" fn(*mut c_void)) -> Self {
        Self {
            key: AtomicU32::new(0),
            run,
        }
    }

    /// The key, made by whichever thread needs it first.
    fn key(&self) -> Option<libc::pthread_key_t> {
        // Relaxed: the key is a number, nothing is published through it.
        let known = self.key.load(Ordering::Relaxed);
        if known != 0 {
            return Some(known - 1);
        }
        let mut key = 0;
        // SAFETY: the pointer is valid, and the destructor is a function of the right type.
        if unsafe { libc::pthread_key_create(&mut key, Some(self.run)) } != 0 {
            return None;
        }
        match self
            .key
            .compare_exchange(0, key + 1, Ordering::Relaxed, Ordering::Relaxed)
        {
            Ok(_) => Some(key),
            Err(winner) => {
                // SAFETY: the key was made above and given to nobody.
                unsafe { libc::pthread_key_delete(key) };
                Some(winner - 1)
            }
        }
    }

    /// Has the function run when the calling thread ends; false where the process has used up its keys. May allocate by
    /// the C library's malloc: it keeps the values of high keys on its heap.
    pub fn arm(&'static self) -> bool {
        self.key().is_some_and(|key| {
            // Any value but null makes the destructor run.
            let value = ptr::from_ref(self).cast::<c_void>();
            // SAFETY: the key exists for ever.
            unsafe { libc::pthread_setspecific(key, value) == 0 }
        })
    }
}
