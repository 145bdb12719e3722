//! What can be asked of the C library's own allocator.

cfg_if::cfg_if! {
    if #[cfg(all(target_os = "linux", target_env = "gnu"))] {
        /// The C library's name and version.
        pub fn version() -> String {
            // SAFETY: gnu_get_libc_version returns a pointer to a constant, zero-terminated string.
            let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
            format!("glibc {}", version.to_string_lossy())
        }

        /// A function that gives unused memory back to the system, where there is one.
        pub fn trim() -> Option<fn()> {
            Some(|| {
                // SAFETY: malloc_trim may be called at any time from any thread.
                unsafe { libc::malloc_trim(0) };
            })
        }
    } else {
        /// The C library's name.
        pub fn version() -> String {
            if cfg!(target_env = "musl") { "musl".to_owned() } else { std::env::consts::OS.to_owned() }
        }

        /// A function that gives unused memory back to the system, where there is one.
        pub fn trim() -> Option<fn()> {
            None
        }
    }
}
