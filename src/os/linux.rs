//! The OS layer on Linux, for glibc and musl.

use crate::units::align_up;
use memmap2::{MmapMut, MmapOptions};
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `errno`, put back when this value is dropped: a successful `free` must not change it.
pub(super) struct SavedErrno(i32);

impl SavedErrno {
    pub(super) fn new() -> Self {
        // SAFETY: the location is valid in every thread.
        Self(unsafe { *libc::__errno_location() })
    }
}

impl Drop for SavedErrno {
    fn drop(&mut self) {
        // SAFETY: as in `new`.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// A mapping of our own. Dropping it unmaps from the raw base that the system returned, padding included.
#[derive(Debug)]
pub struct Reservation {
    mapping: MmapMut,
    base: NonNull<u8>,
    bytes: usize,
}

impl Reservation {
    /// The aligned start.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The bytes from there on that were asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All bytes that the mapping takes from the address space, padding included.
    pub fn mapped_bytes(&self) -> usize {
        self.mapping.len()
    }

    /// Says that the mapping will hold stacks: no huge pages, since a stack touches a few pages of many; and in core
    /// dumps, since a debugger needs them. Best effort. Padding included, so that it isn't a map entry of its own.
    #[cfg(not(preload))]
    pub fn advise_stacks(&self) {
        let _errno = SavedErrno::new();
        let start = self.mapping.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: advice about the mapping; a refusal changes nothing.
        unsafe {
            libc::madvise(start, self.mapping.len(), libc::MADV_NOHUGEPAGE);
            libc::madvise(start, self.mapping.len(), libc::MADV_DODUMP);
        }
    }

    /// Gives back what is resident outside the aligned part, where the system locks and populates new mappings. Best
    /// effort.
    pub fn release_padding(&self) {
        let _errno = SavedErrno::new();
        let raw = self.mapping.as_ptr().addr();
        let base = self.base.addr().get();
        let ends = [(raw, base), (base + self.bytes, raw + self.mapping.len())];
        for (from, to) in ends {
            if to > from {
                let from = std::ptr::with_exposed_provenance_mut::<c_void>(from);
                let bytes = to - from.addr();
                // SAFETY: the range is a part of the mapping that nothing uses.
                unsafe {
                    libc::munlock(from, bytes);
                    libc::madvise(from, bytes, libc::MADV_DONTNEED);
                }
            }
        }
    }
}

/// Maps `bytes` at a multiple of `align` (a power of two) by mapping `align` more than that.
pub fn reserve(bytes: usize, align: usize, name: &std::ffi::CStr) -> Option<Reservation> {
    let _errno = SavedErrno::new();
    // The system aligns mappings to its own page; a larger system page than 4 KiB still divides a slice.
    let padding = if align > 4096 { align } else { 0 };
    let total = bytes.checked_add(padding)?;
    if total > isize::MAX as usize {
        return None;
    }
    let mut mapping = MmapOptions::new()
        .len(total)
        .no_reserve_swap()
        .map_anon()
        .ok()?;
    let raw = NonNull::from(&mut mapping[..]).cast::<u8>();
    let base = align_up(raw.addr().get(), align)?;
    let base = raw.map_addr(|_| base.try_into().unwrap_or(raw.addr()));
    // SAFETY: the whole range is the mapping made above. Both calls are advice: their failure changes nothing.
    unsafe {
        libc::madvise(raw.as_ptr().cast::<c_void>(), total, libc::MADV_DONTDUMP);
        libc::prctl(
            libc::PR_SET_VMA,
            libc::PR_SET_VMA_ANON_NAME,
            raw.as_ptr(),
            total,
            name.as_ptr(),
        );
    }
    Some(Reservation {
        mapping,
        base,
        bytes,
    })
}

/// Makes the range inaccessible until it is committed. Best effort: where it fails, the range stays accessible.
///
/// # Safety
/// The range lies in a live [`Reservation`], on system page boundaries, and nothing uses it.
pub unsafe fn fence(start: NonNull<u8>, bytes: usize) -> bool {
    let _errno = SavedErrno::new();
    // SAFETY: the caller vouches for the range.
    unsafe { libc::mprotect(start.as_ptr().cast::<c_void>(), bytes, libc::PROT_NONE) == 0 }
}

/// Makes the range accessible; false where the system has no memory or no map entry left.
///
/// # Safety
/// The range lies in a live [`Reservation`], on system page boundaries.
pub unsafe fn commit(start: NonNull<u8>, bytes: usize) -> bool {
    let _errno = SavedErrno::new();
    // SAFETY: the caller vouches for the range; making it accessible disturbs no user of a part of it.
    unsafe {
        libc::mprotect(
            start.as_ptr().cast::<c_void>(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
        ) == 0
    }
}

/// Says whether the range is to have huge pages from now on. Those that it has stay. Advice: a refusal changes nothing.
///
/// # Safety
/// The range lies in a live [`Reservation`], on system page boundaries.
pub unsafe fn advise_huge(start: NonNull<u8>, bytes: usize, wanted: bool) {
    let _errno = SavedErrno::new();
    let advice = if wanted {
        libc::MADV_HUGEPAGE
    } else {
        libc::MADV_NOHUGEPAGE
    };
    // SAFETY: the caller vouches for the range.
    unsafe { libc::madvise(start.as_ptr().cast::<c_void>(), bytes, advice) };
}

/// `MADV_POPULATE_WRITE`, of Linux 5.14 and later. Not in every C library's headers.
pub(super) const MADV_POPULATE_WRITE: libc::c_int = 23;

/// Makes a range resident, as a first write to each of its system pages would, in one call; whether the system did.
/// Contents stay as they are.
///
/// # Safety
/// The range lies in a live [`Reservation`] and may be written to. (Off system page boundaries it is refused.)
pub unsafe fn prefault(start: NonNull<u8>, bytes: usize) -> bool {
    let _errno = SavedErrno::new();
    // SAFETY: the caller vouches for the range.
    unsafe { libc::madvise(start.as_ptr().cast::<c_void>(), bytes, MADV_POPULATE_WRITE) == 0 }
}

/// Gives the memory of a range back to the system; it reads as zero afterwards.
///
/// # Safety
/// The range lies in a live [`Reservation`], on system page boundaries, and its contents are of no use to anyone.
pub unsafe fn discard(start: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller vouches for the range.
    let given = unsafe { give_back(start, bytes) };
    if !given {
        // It is zeroed, so that the promise about reading holds.
        // SAFETY: the range is writable memory whose contents nobody needs.
        unsafe { start.write_bytes(0, bytes) };
    }
    given
}

/// As [`discard`], but where the system refuses (locked memory: EINVAL) nothing happens and the answer is false.
///
/// # Safety
/// As for [`discard`].
pub unsafe fn give_back(start: NonNull<u8>, bytes: usize) -> bool {
    let _errno = SavedErrno::new();
    let start = start.as_ptr().cast::<c_void>();
    // SAFETY: the caller vouches for the range.
    unsafe { libc::madvise(start, bytes, libc::MADV_DONTNEED) == 0 }
}

/// The system page in bytes.
pub fn page_size() -> usize {
    static BYTES: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: a number that is the same for whoever asks.
    let known = BYTES.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    // Not sysconf, whose table of jumps lies where most programs touch nothing of the C library.
    // SAFETY: getauxval has no preconditions.
    let bytes = match unsafe { libc::getauxval(libc::AT_PAGESZ) } {
        0 => 4096,
        bytes => bytes as usize,
    };
    BYTES.store(bytes, Ordering::Relaxed);
    bytes
}

/// What of a range is resident.
#[derive(Clone, Copy, Debug)]
pub struct Resident {
    /// So many bytes.
    pub bytes: usize,
    /// They end here, counted from the start of the range.
    pub end: usize,
}

/// What is resident of a range from its start on, up to the first chunk of 1,024 system pages without any or to `most`
/// bytes: so the cost is proportional to what is there, not to the range. `None` where the system doesn't say.
///
/// # Safety
/// The range lies in a live [`Reservation`], on system page boundaries.
pub unsafe fn resident(start: NonNull<u8>, bytes: usize, most: usize) -> Option<Resident> {
    const CHUNK: usize = 1024;
    let _errno = SavedErrno::new();
    let page = page_size();
    let mut states = [0_u8; CHUNK];
    let mut found = Resident { bytes: 0, end: 0 };
    for from in (0..bytes).step_by(CHUNK * page) {
        let length = (CHUNK * page).min(bytes - from);
        // SAFETY: the caller vouches for the range, and there is a byte for each of its pages.
        let asked = unsafe {
            let at = start.add(from).as_ptr().cast::<c_void>();
            libc::mincore(at, length, states.as_mut_ptr().cast())
        };
        if asked != 0 {
            return None;
        }
        let states = &states[..length.div_ceil(page)];
        let pages = states
            .iter()
            .map(|state| usize::from(state & 1))
            .sum::<usize>();
        let wanted = pages.min((most - found.bytes) / page);
        if wanted > 0 {
            let is_there = |index: &usize| states[*index] & 1 == 1;
            let last = if wanted < pages {
                (0..states.len()).filter(is_there).nth(wanted - 1)
            } else {
                (0..states.len()).rfind(is_there)
            };
            found.end = from + last.map_or(0, |index| index + 1) * page;
            found.bytes += wanted * page;
        }
        if pages == 0 || wanted < pages {
            break;
        }
    }
    Some(found)
}

/// Changes the length of a mapping of its own, moving it where it can't grow in place. The new mapping starts at a
/// multiple of `align`; the old one is gone on success and untouched on failure.
///
/// # Safety
/// Nothing refers to the old mapping's contents except through addresses that the caller adjusts.
pub unsafe fn remap(
    old: Reservation,
    bytes: usize,
    align: usize,
    name: &std::ffi::CStr,
) -> Result<Reservation, Reservation> {
    let _errno = SavedErrno::new();
    // The contents move onto an aligned reservation made for them: the kernel's own choice of a place is aligned to
    // its page only.
    let Some(target) = reserve(bytes, align, name) else {
        return Err(old);
    };
    // The kernel replaces the whole target by the old mapping in its new length, one map entry as before.
    // SAFETY: source and target are live mappings of ours of these lengths; the target's pages are unused. On success
    // the source range is unmapped by the kernel.
    let moved = unsafe {
        libc::mremap(
            old.base.as_ptr().cast::<c_void>(),
            old.bytes,
            bytes,
            libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
            target.base.as_ptr().cast::<c_void>(),
        )
    };
    if moved == libc::MAP_FAILED {
        // The kernel may have unmapped the target before it failed, and another thread may have mapped something
        // there: nobody may unmap it again. At worst address space is lost.
        std::mem::forget(target);
        return Err(old);
    }
    // What remains of the old mapping is its padding. The addresses in between are nobody's now and may be mapped by
    // another thread at any moment, so the handle must not unmap them.
    unmap_around(old);
    Ok(target)
}

/// Unmaps the padding of a mapping whose aligned part is no longer its own.
fn unmap_around(old: Reservation) {
    let raw = old.mapping.as_ptr().addr();
    let base = old.base.addr().get();
    let end = raw + old.mapping.len();
    let after = base + old.bytes;
    std::mem::forget(old.mapping);
    for (from, to) in [(raw, base), (after, end)] {
        if to > from {
            let start = std::ptr::with_exposed_provenance_mut(from);
            // SAFETY: this part of the forgotten mapping is still ours, and nothing uses it.
            unsafe { libc::munmap(start, to - from) };
        }
    }
}

/// Whether new mappings are locked and populated at once (`mlockall(MCL_FUTURE)`).
pub fn populates_mappings() -> bool {
    let _errno = SavedErrno::new();
    let Ok(probe) = MmapOptions::new().len(4096).map_anon() else {
        return false;
    };
    let mut resident = 0_u8;
    // SAFETY: the probe is one live page, and the vector has a byte for it.
    let asked = unsafe {
        libc::mincore(
            probe.as_ptr().cast_mut().cast::<c_void>(),
            probe.len(),
            &mut resident,
        )
    };
    asked == 0 && resident & 1 == 1
}

/// Milliseconds of a coarse monotonic clock (its step is a scheduler tick, 1 to 10 ms).
pub fn now_ms() -> u64 {
    let time = clock(libc::CLOCK_MONOTONIC_COARSE);
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// How much processor time of the calling thread something takes, in microseconds; faults included, other threads' turns not.
pub fn cpu_time_us(what: impl FnOnce()) -> u64 {
    let now = || {
        let time = clock(libc::CLOCK_THREAD_CPUTIME_ID);
        time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
    };
    let start = now();
    what();
    now().saturating_sub(start)
}

fn clock(id: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is valid; the clocks asked for exist on every supported kernel.
    unsafe { libc::clock_gettime(id, &mut time) };
    time
}
