//! malloc, free and their kin.

use super::loader;
use crate::global_alloc;
use crate::os;
use crate::thread_heap::foreign::foreign;
use crate::thread_heap::{alloc, free};
use libc::{EINVAL, ENOMEM, c_int};
use std::ffi::c_void;
use std::ptr::{self, NonNull};

/// Larger requests fail: the difference of two pointers into a block must fit `ptrdiff_t`.
const MAX_REQUEST: usize = isize::MAX as usize;
/// What C promises of every block that is large enough: the alignment of `max_align_t`. Classes above 8 bytes are
/// multiples of it.
const C_ALIGN: usize = 16;

fn set_errno(error: c_int) {
    // SAFETY: the C library's pointer to the thread's errno.
    unsafe { *libc::__errno_location() = error };
}

/// Null sets ENOMEM.
fn checked(block: *mut u8) -> *mut c_void {
    if block.is_null() {
        set_errno(ENOMEM);
    }
    block.cast()
}

/// [`malloc`] where the bin's list is empty or the block large.
#[cold]
#[inline(never)]
pub fn allocate(size: usize) -> *mut c_void {
    if size > MAX_REQUEST {
        return checked(ptr::null_mut());
    }
    checked(alloc::allocate_any(size, alignment_of(size)))
}

/// Blocks of 8 bytes and less are aligned to 8.
fn alignment_of(size: usize) -> usize {
    if size > 8 { C_ALIGN } else { 8 }
}

/// `size` bytes at a multiple of `align`, a power of two.
pub fn allocate_aligned(size: usize, align: usize) -> *mut c_void {
    if size > MAX_REQUEST || align > MAX_REQUEST {
        return checked(ptr::null_mut());
    }
    checked(alloc::allocate_any(size, align.max(alignment_of(size))))
}

#[cold]
#[inline(never)]
fn allocate_zeroed(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) if bytes <= MAX_REQUEST => {
            checked(alloc::allocate_any_zeroed(bytes, alignment_of(bytes)))
        }
        _ => checked(ptr::null_mut()),
    }
}

/// [`free`] of an address that is no block of ours: null, a block of the dynamic loader's, or misuse.
#[cold]
#[inline(never)]
fn free_unknown(address: *mut u8) {
    if let Some(block) = NonNull::new(address)
        && !loader::owns(block)
    {
        foreign(block);
    }
}

/// # Safety
/// As for `realloc`.
#[cold]
#[inline(never)]
unsafe fn reallocate(block: *mut c_void, size: usize) -> *mut c_void {
    let Some(old) = NonNull::new(block.cast::<u8>()) else {
        return malloc(size);
    };
    if size > MAX_REQUEST {
        return checked(ptr::null_mut());
    }
    // SAFETY: passed on.
    let moved = match unsafe { global_alloc::resize_in_place(old, size, C_ALIGN) } {
        global_alloc::Resized::Done(block) => return block.as_ptr().cast(),
        global_alloc::Resized::Copy(usable) => {
            let new = alloc::allocate_any(size, alignment_of(size));
            if !new.is_null() {
                // SAFETY: both blocks have so many bytes, and are disjoint.
                unsafe { new.copy_from_nonoverlapping(old.as_ptr(), usable.min(size)) };
            }
            new
        }
        global_alloc::Resized::Foreign => match loader::size_of(old) {
            // The block stays where it is: there is nobody to give it back to.
            Some(readable) => {
                let new = alloc::allocate_any(size, alignment_of(size));
                if !new.is_null() {
                    // SAFETY: so many bytes behind the block's start are mapped.
                    unsafe { new.copy_from_nonoverlapping(old.as_ptr(), readable.min(size)) };
                }
                return checked(new);
            }
            None => foreign(old),
        },
    };
    if !moved.is_null() {
        // SAFETY: the caller gives the old block up, now that there is a new one.
        unsafe { free(block) };
    }
    checked(moved)
}

/// C's malloc: a block of `size` bytes at a multiple of 16 (8 for up to 8 bytes), unique also for 0. Null with ENOMEM
/// when the system refuses, or beyond `PTRDIFF_MAX`.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn malloc(size: usize) -> *mut c_void {
    match alloc::pop_unaligned(size) {
        Some(block) => block.cast::<c_void>().as_ptr(),
        None => allocate(size),
    }
}

/// C's free. Null is nothing to free; errno is kept.
///
/// # Safety
/// `block` is null or a live block of this library, which the caller gives up. What isn't ends the process with one line
/// on standard error where that is noticed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn free(block: *mut c_void) {
    // SAFETY: passed on. Errno is kept by the OS layer, the only one that could change it.
    unsafe { free::free_unsized(block.cast(), free_unknown) }
}

/// C's calloc: `count * size` zeroed bytes.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn calloc(count: usize, size: usize) -> *mut c_void {
    allocate_zeroed(count, size)
}

/// C's realloc. With null it is malloc; a size of 0 leaves a block that holds nothing. On failure the block is as it was.
///
/// # Safety
/// As for [`free`], where what is returned isn't null.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: passed on.
    unsafe { reallocate(block, size) }
}

/// `realloc` to `count * size` bytes; ENOMEM where that overflows.
///
/// # Safety
/// As for [`realloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn reallocarray(
    block: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: passed on.
        Some(bytes) => unsafe { reallocate(block, bytes) },
        None => checked(ptr::null_mut()),
    }
}

/// C11's aligned_alloc. EINVAL unless `align` is a power of two; `size` need not be a multiple of it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        set_errno(EINVAL);
        return ptr::null_mut();
    }
    allocate_aligned(size, align)
}

/// POSIX's posix_memalign. The error is returned, and errno kept.
///
/// # Safety
/// `result` points to writable memory for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn posix_memalign(
    result: *mut *mut c_void,
    align: usize,
    size: usize,
) -> c_int {
    if !align.is_power_of_two() || align < size_of::<*mut c_void>() {
        return EINVAL;
    }
    if size > MAX_REQUEST || align > MAX_REQUEST {
        return ENOMEM;
    }
    let block = alloc::allocate_any(size, align.max(alignment_of(size))).cast::<c_void>();
    if block.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller vouches for the place.
    unsafe { *result = block };
    0
}

/// The older aligned_alloc: an alignment that is no power of two is rounded up to one, as in glibc.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn memalign(align: usize, size: usize) -> *mut c_void {
    match align.max(1).checked_next_power_of_two() {
        Some(align) => allocate_aligned(size, align),
        None => {
            set_errno(EINVAL);
            ptr::null_mut()
        }
    }
}

/// A block at a multiple of the system's page size.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn valloc(size: usize) -> *mut c_void {
    allocate_aligned(size, os::page_size())
}

/// Whole system pages.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pvalloc(size: usize) -> *mut c_void {
    let page = os::page_size();
    match size.max(1).checked_next_multiple_of(page) {
        Some(size) => allocate_aligned(size, page),
        None => checked(ptr::null_mut()),
    }
}

/// The bytes that a block can hold; 0 for null.
///
/// # Safety
/// As for [`free`], but the block stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn malloc_usable_size(block: *mut c_void) -> usize {
    let Some(block) = NonNull::new(block.cast::<u8>()) else {
        return 0;
    };
    match global_alloc::size_of_block(block) {
        Some(bytes) => bytes,
        None if loader::owns(block) => 0,
        None => foreign(block),
    }
}

/// The older name of free.
///
/// # Safety
/// As for [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn cfree(block: *mut c_void) {
    // SAFETY: passed on.
    unsafe { free(block) }
}

/// C23's free of a block whose size the caller knows.
///
/// # Safety
/// As for [`free`]; `block` came from malloc, calloc or realloc with this size.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn free_sized(block: *mut c_void, _size: usize) {
    // SAFETY: passed on.
    unsafe { free(block) }
}

/// C23's free of a block whose size and alignment the caller knows.
///
/// # Safety
/// As for [`free`]; `block` came from aligned_alloc with this alignment and size.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn free_aligned_sized(
    block: *mut c_void,
    _align: usize,
    _size: usize,
) {
    // SAFETY: passed on.
    unsafe { free(block) }
}

/// glibc's names for its own functions, which some programs call.
#[cfg(target_env = "gnu")]
mod glibc {
    use super::*;

    /// See [`malloc`].
    #[unsafe(no_mangle)]
    pub extern "C-unwind" fn __libc_malloc(size: usize) -> *mut c_void {
        malloc(size)
    }

    /// See [`free`].
    ///
    /// # Safety
    /// As for [`free`].
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __libc_free(block: *mut c_void) {
        // SAFETY: passed on.
        unsafe { free(block) }
    }

    /// See [`cfree`].
    ///
    /// # Safety
    /// As for [`free`].
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __libc_cfree(block: *mut c_void) {
        // SAFETY: passed on.
        unsafe { free(block) }
    }

    /// See [`calloc`].
    #[unsafe(no_mangle)]
    pub extern "C-unwind" fn __libc_calloc(count: usize, size: usize) -> *mut c_void {
        allocate_zeroed(count, size)
    }

    /// See [`realloc`].
    ///
    /// # Safety
    /// As for [`realloc`].
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: passed on.
        unsafe { reallocate(block, size) }
    }

    /// See [`memalign`].
    #[unsafe(no_mangle)]
    pub extern "C-unwind" fn __libc_memalign(align: usize, size: usize) -> *mut c_void {
        memalign(align, size)
    }

    /// See [`valloc`].
    #[unsafe(no_mangle)]
    pub extern "C-unwind" fn __libc_valloc(size: usize) -> *mut c_void {
        valloc(size)
    }

    /// See [`pvalloc`].
    #[unsafe(no_mangle)]
    pub extern "C-unwind" fn __libc_pvalloc(size: usize) -> *mut c_void {
        pvalloc(size)
    }

    /// See [`posix_memalign`].
    ///
    /// # Safety
    /// As for [`posix_memalign`].
    #[unsafe(no_mangle)]
    pub unsafe extern "C-unwind" fn __posix_memalign(
        result: *mut *mut c_void,
        align: usize,
        size: usize,
    ) -> c_int {
        // SAFETY: passed on.
        unsafe { posix_memalign(result, align, size) }
    }
}
