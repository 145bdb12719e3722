//! The functions of `include/millpond.h`, for programs that link the library.

use super::report::{self, Buffer};
use crate::config::{self, OptionError};
use crate::thread_heap::collect;
use libc::{EINVAL, ENOENT, c_char, c_int};
use std::ffi::{CStr, c_void};

/// As `malloc_usable_size`.
///
/// # Safety
/// `block` is null or a live block of this library.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mp_usable_size(block: *mut c_void) -> usize {
    // SAFETY: passed on.
    unsafe { super::malloc::malloc_usable_size(block) }
}

/// Gives back to the system what is free: see [`crate::collect`].
#[unsafe(no_mangle)]
pub extern "C-unwind" fn mp_collect(force: bool) {
    collect::collect(force);
}

/// Copies text with a null byte behind it into a buffer, as `snprintf` does: what doesn't fit is cut. The length of
/// all of it.
///
/// # Safety
/// `into` is null or has `size` writable bytes.
unsafe fn copy<const N: usize>(text: &Buffer<N>, into: *mut c_char, size: usize) -> usize {
    let bytes = text.bytes();
    if !into.is_null() && size > 0 {
        let length = bytes.len().min(size - 1);
        // SAFETY: the caller vouches for `size` bytes, and the text is ours.
        unsafe {
            into.copy_from_nonoverlapping(bytes.as_ptr().cast(), length);
            into.add(length).write(0);
        }
    }
    bytes.len()
}

/// The statistics as lines of `name value`.
///
/// # Safety
/// `into` is null or has `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mp_stats_text(into: *mut c_char, size: usize) -> usize {
    let mut text = Buffer::<8192>::new();
    report::stats_text(&mut text);
    // SAFETY: passed on.
    unsafe { copy(&text, into, size) }
}

/// The statistics as one JSON object.
///
/// # Safety
/// `into` is null or has `size` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mp_stats_json(into: *mut c_char, size: usize) -> usize {
    let mut text = Buffer::<8192>::new();
    report::stats_json(&mut text);
    // SAFETY: passed on.
    unsafe { copy(&text, into, size) }
}

/// The text of a C string, if there is one and it is UTF-8, as all option names and values are.
///
/// # Safety
/// `text` is null or a C string.
unsafe fn utf8<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: passed on.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// Reads an option; 0, or ENOENT where there is none of that name.
///
/// # Safety
/// `name` is null or a C string, `value` null or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mp_option_get(name: *const c_char, value: *mut u64) -> c_int {
    // SAFETY: passed on.
    let name = unsafe { utf8(name) };
    let Some(option) = config::options().find(|option| Some(option.name) == name) else {
        return ENOENT;
    };
    // SAFETY: the caller vouches for it unless it is null.
    if let Some(value) = unsafe { value.as_mut() } {
        *value = option.value;
    }
    0
}

/// Sets an option; 0, ENOENT where there is none of that name, or EINVAL where it doesn't take the value.
///
/// # Safety
/// `name` and `value` are null or C strings.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn mp_option_set(name: *const c_char, value: *const c_char) -> c_int {
    // SAFETY: passed on.
    let (name, value) = unsafe { (utf8(name), utf8(value)) };
    match config::set_option(name.unwrap_or_default(), value.unwrap_or_default()) {
        Ok(()) => 0,
        Err(OptionError::Unknown) => ENOENT,
        Err(_) => EINVAL,
    }
}
