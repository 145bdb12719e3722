//! The part of the OS layer on Linux that is for stacks: guards, and what a range holds at its end.

use super::linux::{MADV_POPULATE_WRITE, SavedErrno};
use memmap2::MmapOptions;
use std::ffi::c_void;
use std::ptr::NonNull;

/// The bytes of a system page.
#[inline(always)]
pub fn page_bytes() -> usize {
    #[cfg(target_arch = "x86_64")]
    return 4096;
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
        static BYTES: AtomicUsize = AtomicUsize::new(0);
        match BYTES.load(Relaxed) {
            0 => {
                // SAFETY: sysconf has no preconditions.
                let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
                let bytes = usize::try_from(bytes).unwrap_or(4096);
                // Relaxed: every thread stores the same number.
                BYTES.store(bytes, Relaxed);
                bytes
            }
            bytes => bytes,
        }
    }
}

/// `MADV_GUARD_INSTALL`, of Linux 6.13 and later. Not in every C library's headers.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// Makes the range a guard, any access to which is a fault, without a map entry of its own: a mark in the page table
/// that stays until the range is unmapped, whatever is discarded. False where the system refuses.
///
/// # Safety
/// The range lies in a live [`Reservation`](super::Reservation), on system page boundaries, and nothing uses it.
pub unsafe fn install_guard(start: NonNull<u8>, bytes: usize) -> bool {
    let _errno = SavedErrno::new();
    // SAFETY: the caller vouches for the range.
    unsafe { libc::madvise(start.as_ptr().cast::<c_void>(), bytes, MADV_GUARD_INSTALL) == 0 }
}

/// As [`install_guard`], for a page at each of some addresses (at most [`MOST_PAGES`]) in one call; how many of them, from
/// the first on, are guards now.
///
/// # Safety
/// As for [`install_guard`].
pub unsafe fn install_guards(pages: &[NonNull<u8>]) -> usize {
    // SAFETY: passed on.
    unsafe { advise_pages(pages, MADV_GUARD_INSTALL) }
}

/// Makes the pages at some addresses (at most [`MOST_PAGES`]) resident, as a first write to each would, in one call; as
/// far as the system does it.
///
/// # Safety
/// The pages lie in live reservations that may be written to, on system page boundaries.
pub unsafe fn populate(pages: &[NonNull<u8>]) {
    // SAFETY: passed on; contents stay as they are.
    unsafe { advise_pages(pages, MADV_POPULATE_WRITE) };
}

/// How many pages one call takes.
pub const MOST_PAGES: usize = 64;

/// One advice for several pages, by `process_madvise` for the process itself (Linux 6.15 and later); how many of them
/// were advised, from the first on.
///
/// # Safety
/// The advice is sound for each page.
unsafe fn advise_pages(pages: &[NonNull<u8>], advice: libc::c_int) -> usize {
    /// Not in every C library's headers.
    const PIDFD_SELF_PROCESS: libc::c_int = -10_001;
    let _errno = SavedErrno::new();
    let bytes = page_bytes();
    let count = pages.len().min(MOST_PAGES);
    let mut ranges = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: bytes,
    }; MOST_PAGES];
    for (range, page) in ranges.iter_mut().zip(pages) {
        range.iov_base = page.as_ptr().cast::<c_void>();
    }
    // SAFETY: passed on; the ranges live during the call.
    let advised = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            PIDFD_SELF_PROCESS,
            ranges.as_ptr(),
            count,
            advice,
            0,
        )
    };
    usize::try_from(advised).unwrap_or(0) / bytes
}

/// Whether the kernel has guards that work. It is tried on a page of its own, since user-mode emulators accept any
/// advice and do nothing.
pub fn installs_guards() -> bool {
    let _errno = SavedErrno::new();
    let Ok(probe) = MmapOptions::new().len(page_bytes()).map_anon() else {
        return false;
    };
    let page = NonNull::from(&probe[..]).cast::<u8>();
    // SAFETY: the probe is a page of its own, and access(2) reads a path, which is empty unless the page is a guard: a
    // bad address is an error of the call, not a fault.
    unsafe {
        install_guard(page, probe.len())
            && libc::access(page.as_ptr().cast(), libc::F_OK) == -1
            && *libc::__errno_location() == libc::EFAULT
    }
}

/// How many map entries the kernel allows a process (`vm.max_map_count`), its default where that can't be read.
pub fn most_mappings() -> usize {
    const DEFAULT: usize = 65_530;
    let _errno = SavedErrno::new();
    let mut text = [0_u8; 20];
    // SAFETY: the path is a C string, the buffer has the length given, and the descriptor is closed once.
    let read = unsafe {
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        let file = libc::open(c"/proc/sys/vm/max_map_count".as_ptr(), flags);
        if file < 0 {
            return DEFAULT;
        }
        let read = libc::read(file, text.as_mut_ptr().cast::<c_void>(), text.len());
        libc::close(file);
        read
    };
    let text = text.get(..read.max(0) as usize).unwrap_or_default();
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.trim().parse().unwrap_or(DEFAULT)
}

/// How far down from its end a range is resident: the bytes from the lowest resident page, seen from the end down to
/// the first 256 system pages without any, to the end. `None` where the system doesn't say.
///
/// # Safety
/// The range lies in a live [`Reservation`](super::Reservation), on system page boundaries.
pub unsafe fn resident_depth(start: NonNull<u8>, bytes: usize) -> Option<usize> {
    const CHUNK: usize = 256;
    let _errno = SavedErrno::new();
    let page = page_bytes();
    let mut states = [0_u8; CHUNK];
    let (mut to, mut depth) = (bytes, 0);
    while to > 0 {
        let from = to.saturating_sub(CHUNK * page);
        let states = &mut states[..(to - from) / page];
        // SAFETY: the caller vouches for the range, and there is a byte for each of its pages.
        let asked = unsafe {
            let at = start.add(from).as_ptr().cast::<c_void>();
            libc::mincore(at, to - from, states.as_mut_ptr().cast())
        };
        if asked != 0 {
            return None;
        }
        match states.iter().position(|state| state & 1 == 1) {
            Some(lowest) => depth = bytes - from - lowest * page,
            None => break,
        }
        to = from;
    }
    Some(depth)
}
