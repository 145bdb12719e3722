//! Two copies of the crate in one process, this test binary's and one in a shared library, don't disturb each other:
//! each has its own heaps, arenas and exit hook, and takes the other's blocks for what they are, foreign.

mod support;

use millpond::Millpond;
use std::alloc::Layout;
use std::ffi::{CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::thread;
use support::block::Block;
use support::child;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const FOREIGN: &str =
    "freeing a pointer that Millpond did not allocate, or whose block is freed already";

/// The functions of the copy in the library; see `tests/programs/src/second_copy.rs`.
#[derive(Clone, Copy)]
struct Second {
    alloc: unsafe extern "C" fn(usize, usize) -> *mut u8,
    free: unsafe extern "C" fn(*mut u8, usize, usize),
    usable_size: unsafe extern "C" fn(NonNull<u8>) -> usize,
    live_bytes: extern "C" fn() -> u64,
    remote_frees: extern "C" fn(&mut u64) -> u64,
    works: extern "C" fn(u64) -> u64,
}

/// Where a child finds the library that its parent built.
const LIBRARY: &str = "TEST_SECOND_COPY";

fn library() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = || match std::env::var_os(LIBRARY) {
        Some(path) => PathBuf::from(path),
        None => support::program::build("second_copy", "debug"),
    };
    BUILT.get_or_init(built).clone()
}

fn load(path: &Path) -> Second {
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: the name is a C string; the library's initialisers are Rust's own.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null(), "{} doesn't load", path.display());
    let symbol = |name: &std::ffi::CStr| -> *mut c_void {
        // SAFETY: the handle is live and the name is a C string.
        let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
        assert!(!found.is_null(), "{name:?} is missing");
        found
    };
    // SAFETY: each type is that of the exported function; the library is never unloaded.
    unsafe {
        Second {
            alloc: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(usize, usize) -> *mut u8>(
                symbol(c"second_alloc"),
            ),
            free: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut u8, usize, usize)>(
                symbol(c"second_free"),
            ),
            usable_size: std::mem::transmute::<
                *mut c_void,
                unsafe extern "C" fn(NonNull<u8>) -> usize,
            >(symbol(c"second_usable_size")),
            live_bytes: std::mem::transmute::<*mut c_void, extern "C" fn() -> u64>(symbol(
                c"second_live_bytes",
            )),
            remote_frees: std::mem::transmute::<*mut c_void, extern "C" fn(&mut u64) -> u64>(
                symbol(c"second_remote_frees"),
            ),
            works: std::mem::transmute::<*mut c_void, extern "C" fn(u64) -> u64>(symbol(
                c"second_works",
            )),
        }
    }
}

fn second() -> Second {
    static LOADED: OnceLock<Second> = OnceLock::new();
    *LOADED.get_or_init(|| load(&library()))
}

/// A block of the second copy's.
struct Theirs(NonNull<u8>, usize);

// SAFETY: a block is memory of whoever has this value; the second copy frees it on any thread.
unsafe impl Send for Theirs {}

impl Theirs {
    fn new(size: usize) -> Self {
        // SAFETY: the alignment is a power of two and the sizes are small.
        let start = NonNull::new(unsafe { (second().alloc)(size, 8) }).unwrap();
        // SAFETY: the block is live and has `size` bytes.
        unsafe { start.as_ptr().write_bytes(0xEE, size) };
        // SAFETY: the block is a live one of that copy's.
        assert!(unsafe { (second().usable_size)(start) } >= size);
        Self(start, size)
    }

    fn free(self) {
        // SAFETY: the block is live and has `self.1` bytes, all written by `new`.
        let bytes = unsafe { std::slice::from_raw_parts(self.0.as_ptr(), self.1) };
        assert!(
            bytes.iter().all(|&byte| byte == 0xEE),
            "a block of the second copy was overwritten"
        );
        // SAFETY: the block is live, allocated with this size and alignment.
        unsafe { (second().free)(self.0.as_ptr(), self.1, 8) };
    }
}

const SIZES: [usize; 7] = [8, 40, 300, 3000, 20_000, 200_000, 34 << 20];

#[test]
fn both_copies_work_side_by_side() {
    let second = second();
    let before = (second.live_bytes)();
    thread::scope(|scope| {
        for id in 0..3 {
            scope.spawn(move || {
                for round in 0..15 {
                    let mut ours = Vec::new();
                    let mut theirs = Vec::new();
                    for number in 0..200 {
                        let size = SIZES[(number + round + id) % 6];
                        ours.push(Block::new(size));
                        theirs.push(Theirs::new(size));
                        if number % 3 == 0 {
                            theirs.swap_remove(number / 3).free();
                            ours.swap_remove(number / 3).free();
                        }
                    }
                    // Some are freed by another thread, of which both copies keep a heap.
                    let rest = (ours.split_off(60), theirs.split_off(60));
                    thread::spawn(move || {
                        rest.0.into_iter().for_each(Block::free);
                        rest.1.into_iter().for_each(Theirs::free);
                    })
                    .join()
                    .unwrap();
                    theirs.into_iter().for_each(Theirs::free);
                    ours.into_iter().for_each(Block::free);
                    assert_eq!((second.works)(100), 4950);
                }
            });
        }
    });
    for size in SIZES {
        Theirs::new(size).free();
        Block::new(size).free();
    }
    assert_eq!(
        (second.live_bytes)(),
        before,
        "all of its threads have ended"
    );
    let mut drained = 0;
    let freed = (second.remote_frees)(&mut drained);
    assert!(freed > 0);
    assert_eq!(freed, drained);
}

const SCENARIOS: [&str; 6] = [
    "ours_to_them_small",
    "ours_to_them_large",
    "ours_to_them_huge",
    "theirs_to_us_small",
    "theirs_to_us_large",
    "theirs_to_us_huge",
];

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn scenario() {
    let Some(name) = child::scenario() else {
        return;
    };
    let size = match name.rsplit_once('_').unwrap().1 {
        "small" => 100,
        "large" => 300_000,
        _ => 40 << 20,
    };
    // Both copies have pages of the class.
    let (ours, theirs) = (Block::new(size), Theirs::new(size));
    if name.starts_with("ours") {
        println!("\naddress {:#x}", ours.start().addr());
        // SAFETY: none: this is the misuse.
        unsafe { (second().free)(ours.start().as_ptr(), size, 8) };
    } else {
        println!("\naddress {:#x}", theirs.0.addr());
        // SAFETY: none: this is the misuse.
        unsafe {
            std::alloc::GlobalAlloc::dealloc(
                &Millpond,
                theirs.0.as_ptr(),
                Layout::from_size_align(size, 8).unwrap(),
            )
        };
    }
    println!("nothing was noticed");
}

#[test]
fn a_block_of_the_other_copy_is_foreign() {
    for name in SCENARIOS {
        let mut command = child::command("scenario", name);
        command.env(LIBRARY, library());
        let ended = child::run(command);
        let told = ended
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("address "))
            .unwrap();
        assert_eq!(
            ended.aborted(),
            format!("millpond: {told}: {FOREIGN}"),
            "{name}"
        );
    }
}
