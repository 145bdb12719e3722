//! The allocator of this build, and what larson-bench wants to ask it: version, options, statistics, collection.
//!
//! Exactly one arm is compiled. Where several features are on (`--all-features` in a lint run), the first wins.

use larson_runner::Hooks;

cfg_if::cfg_if! {
    if #[cfg(feature = "millpond")] {
        #[global_allocator]
        static GLOBAL: millpond::Millpond = millpond::Millpond;

        /// Millpond's hooks: the only allocator with options and statistics here.
        pub fn hooks() -> Hooks {
            Hooks {
                name: "millpond",
                version: env!("VERSION_MILLPOND").to_owned(),
                set_option: Some(|name, value| {
                    millpond::set_option(name, value).map_err(|error| error.to_string())
                }),
                collect: Some(|| millpond::collect(true)),
                stats: Some(|| millpond::stats().entries().collect()),
            }
        }
    } else if #[cfg(feature = "mimalloc")] {
        #[global_allocator]
        static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

        unsafe extern "C" {
            safe fn mi_version() -> core::ffi::c_int;
            safe fn mi_collect(force: bool);
        }

        /// mimalloc's hooks; the same crate holds versions 2 and 3.
        pub fn hooks() -> Hooks {
            let name = if cfg!(feature = "mimalloc2") { "mimalloc2" } else { "mimalloc" };
            let version = format!("{} (libmimalloc-sys {})", mimalloc_version(mi_version()), env!("VERSION_MIMALLOC"));
            Hooks { collect: Some(|| mi_collect(true)), ..Hooks::plain(name, version) }
        }

        /// mimalloc packs its version into one number: three digits up to 2.1, five digits (3.04.03) later.
        fn mimalloc_version(packed: core::ffi::c_int) -> String {
            if packed < 10_000 {
                format!("{}.{}.{}", packed / 100, packed / 10 % 10, packed % 10)
            } else {
                format!("{}.{}.{}", packed / 10_000, packed / 100 % 100, packed % 100)
            }
        }
    } else if #[cfg(feature = "jemalloc")] {
        #[global_allocator]
        static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

        /// jemalloc's hooks; collecting purges every arena.
        pub fn hooks() -> Hooks {
            let version = format!("{} (tikv-jemallocator {})", jemalloc_version(), env!("VERSION_JEMALLOC"));
            Hooks { collect: Some(purge_all_arenas), ..Hooks::plain("jemalloc", version) }
        }

        /// The version without the commit behind it.
        fn jemalloc_version() -> String {
            let mut text: *const core::ffi::c_char = core::ptr::null();
            let mut length = size_of_val(&text);
            // SAFETY: "version" yields one `const char *`, for which there is room and whose size is given.
            let status = unsafe {
                let out = (&raw mut text).cast();
                tikv_jemalloc_sys::mallctl(c"version".as_ptr(), out, &mut length, core::ptr::null_mut(), 0)
            };
            if status != 0 || text.is_null() {
                return "unknown".to_owned();
            }
            // SAFETY: jemalloc's version is a constant, zero-terminated string.
            let text = unsafe { core::ffi::CStr::from_ptr(text) }.to_string_lossy();
            text.split('-').next().unwrap_or_default().to_owned()
        }

        /// 4,096 is jemalloc's `MALLCTL_ARENAS_ALL`.
        fn purge_all_arenas() {
            let nothing = core::ptr::null_mut();
            // SAFETY: "arena.<i>.purge" neither reads nor writes through its arguments; all are null as it demands.
            unsafe {
                tikv_jemalloc_sys::mallctl(c"arena.4096.purge".as_ptr(), nothing, core::ptr::null_mut(), nothing, 0)
            };
        }
    } else if #[cfg(feature = "snmalloc")] {
        #[global_allocator]
        static GLOBAL: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

        /// snmalloc's hooks.
        pub fn hooks() -> Hooks {
            Hooks::plain("snmalloc", format!("{} (snmalloc-rs)", env!("VERSION_SNMALLOC")))
        }
    } else if #[cfg(feature = "tcmalloc")] {
        #[global_allocator]
        static GLOBAL: tcmalloc_better::TCMalloc = tcmalloc_better::TCMalloc;

        /// tcmalloc's hooks.
        pub fn hooks() -> Hooks {
            Hooks::plain("tcmalloc", format!("tcmalloc-better {}", env!("VERSION_TCMALLOC")))
        }
    } else if #[cfg(feature = "rpmalloc")] {
        #[global_allocator]
        static GLOBAL: rpmalloc::RpMalloc = rpmalloc::RpMalloc;

        /// rpmalloc's hooks.
        pub fn hooks() -> Hooks {
            let version = format!("crate {} (rpmalloc-sys {})", env!("VERSION_RPMALLOC"), env!("VERSION_RPMALLOC_SYS"));
            Hooks::plain("rpmalloc", version)
        }
    } else if #[cfg(feature = "rusty_alloc")] {
        #[global_allocator]
        static GLOBAL: rusty_alloc_api::RustyAlloc = rusty_alloc_api::RustyAlloc;

        /// rusty_alloc's hooks.
        pub fn hooks() -> Hooks {
            Hooks::plain("rusty_alloc", env!("VERSION_RUSTY_ALLOC").to_owned())
        }
    } else {
        /// The system allocator's hooks; it is what a program without `#[global_allocator]` gets.
        pub fn hooks() -> Hooks {
            Hooks { collect: larson_runner::system::trim(), ..Hooks::plain("system", larson_runner::system::version()) }
        }
    }
}
