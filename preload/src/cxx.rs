//! C++'s operator new and delete, all forms, under their mangled names (Itanium ABI, `size_t` is `unsigned long`).
//!
//! A failed `new` calls the new-handler until there is memory or there is no handler, and then throws
//! `std::bad_alloc`. Both come from the program's C++ library, which is looked up when that happens: this library needs
//! none. The throwing entry points are `extern "C-unwind"`, so that the exception passes through.

use super::malloc::{allocate_aligned, free, malloc};
use crate::abort::Line;
use std::ffi::{CStr, c_void};
use std::mem::transmute;

type NewHandler = unsafe extern "C-unwind" fn();
type GetNewHandler = unsafe extern "C" fn() -> Option<NewHandler>;
type ThrowBadAlloc = unsafe extern "C-unwind" fn() -> !;
/// `operator new` of one form; the arguments that it doesn't have it doesn't look at.
type AnyNew = unsafe extern "C-unwind" fn(usize, *const c_void, *const c_void) -> *mut c_void;

fn symbol(scope: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a null byte.
    let found = unsafe { libc::dlsym(scope, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

/// `operator new` that found no memory at first.
#[cold]
#[inline(never)]
fn new_handled(mut attempt: impl FnMut() -> *mut c_void) -> *mut c_void {
    loop {
        let block = attempt();
        if !block.is_null() {
            return block;
        }
        let handler = symbol(libc::RTLD_DEFAULT, c"_ZSt15get_new_handlerv").and_then(|get| {
            // SAFETY: std::get_new_handler has this type.
            unsafe { transmute::<*mut c_void, GetNewHandler>(get)() }
        });
        match handler {
            // SAFETY: the program's handler: it may free memory, throw, or end the process.
            Some(handler) => unsafe { handler() },
            None => throw_bad_alloc(),
        }
    }
}

fn throw_bad_alloc() -> ! {
    match symbol(libc::RTLD_DEFAULT, c"_ZSt17__throw_bad_allocv") {
        // SAFETY: std::__throw_bad_alloc of libstdc++ and libc++ has this type.
        Some(throw) => unsafe { transmute::<*mut c_void, ThrowBadAlloc>(throw)() },
        None => Line::new()
            .text("operator new has no memory, and the program no C++ library to throw with")
            .abort(),
    }
}

/// A nothrow `new` that found no memory: the C++ library's own, which calls the throwing form (ours) and catches what
/// that or the new-handler throws. Without such a library there is no handler either.
#[cold]
#[inline(never)]
fn new_nothrow(
    name: &CStr,
    size: usize,
    second: *const c_void,
    third: *const c_void,
) -> *mut c_void {
    match symbol(libc::RTLD_NEXT, name) {
        // SAFETY: the same operator of the C++ library, with the arguments of this call.
        Some(next) => unsafe { transmute::<*mut c_void, AnyNew>(next)(size, second, third) },
        None => std::ptr::null_mut(),
    }
}

macro_rules! new {
    ($($name:ident)*) => {$(
        /// `operator new(size_t)` or `operator new[](size_t)`.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $name(size: usize) -> *mut c_void {
            let block = malloc(size);
            if block.is_null() { new_handled(|| malloc(size)) } else { block }
        }
    )*};
}
new! { _Znwm _Znam }

macro_rules! new_aligned {
    ($($name:ident)*) => {$(
        /// `operator new` with `std::align_val_t`.
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $name(size: usize, align: usize) -> *mut c_void {
            let block = allocate_aligned(size, align);
            if block.is_null() { new_handled(|| allocate_aligned(size, align)) } else { block }
        }
    )*};
}
new_aligned! { _ZnwmSt11align_val_t _ZnamSt11align_val_t }

macro_rules! new_nothrow {
    ($($name:ident)*) => {$(
        /// `operator new` with `std::nothrow_t`: null where it would throw.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub extern "C-unwind" fn $name(size: usize, nothrow: *const c_void) -> *mut c_void {
            let block = malloc(size);
            if !block.is_null() {
                return block;
            }
            const NAME: &str = concat!(stringify!($name), "\0");
            let name = CStr::from_bytes_with_nul(NAME.as_bytes()).unwrap_or_default();
            new_nothrow(name, size, nothrow, std::ptr::null())
        }
    )*};
}
new_nothrow! { _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t }

macro_rules! new_aligned_nothrow {
    ($($name:ident)*) => {$(
        /// `operator new` with `std::align_val_t` and `std::nothrow_t`.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub extern "C-unwind" fn $name(
            size: usize,
            align: usize,
            nothrow: *const c_void,
        ) -> *mut c_void {
            let block = allocate_aligned(size, align);
            if !block.is_null() {
                return block;
            }
            const NAME: &str = concat!(stringify!($name), "\0");
            let name = CStr::from_bytes_with_nul(NAME.as_bytes()).unwrap_or_default();
            new_nothrow(name, size, std::ptr::without_provenance(align), nothrow)
        }
    )*};
}
new_aligned_nothrow! {
    _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t
}

macro_rules! delete {
    ($($name:ident($($argument:ident: $type:ty),*))*) => {$(
        /// `operator delete` of one form: what it is told beside the block isn't needed.
        ///
        /// # Safety
        /// As for `free`.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub unsafe extern "C-unwind" fn $name(block: *mut c_void $(, $argument: $type)*) {
            // SAFETY: passed on.
            unsafe { free(block) }
        }
    )*};
}
delete! {
    _ZdlPv() _ZdaPv()
    _ZdlPvm(_size: usize) _ZdaPvm(_size: usize)
    _ZdlPvRKSt9nothrow_t(_nothrow: *const c_void) _ZdaPvRKSt9nothrow_t(_nothrow: *const c_void)
    _ZdlPvSt11align_val_t(_align: usize) _ZdaPvSt11align_val_t(_align: usize)
    _ZdlPvmSt11align_val_t(_size: usize, _align: usize)
    _ZdaPvmSt11align_val_t(_size: usize, _align: usize)
    _ZdlPvSt11align_val_tRKSt9nothrow_t(_align: usize, _nothrow: *const c_void)
    _ZdaPvSt11align_val_tRKSt9nothrow_t(_align: usize, _nothrow: *const c_void)
}
