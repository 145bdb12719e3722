//! Where the shared library ends what can't go on: in place of std's own ends, which print backtraces, allocate for it,
//! and bring an unwinder. The build script of this package has the linker put these symbols there. In the archive, and in
//! debug builds, they are of no use to anyone.

use crate::abort::Line;
use crate::os;
use core::panic::PanicInfo;
use libc::{c_int, c_long};
use std::arch::global_asm;

/// `std`'s `rust_begin_unwind`: the place of a broken invariant of ours, without the message, which would have to be
/// formatted.
fn panicked(info: &PanicInfo<'_>) -> ! {
    let line = Line::new().text("internal error");
    match info.location() {
        Some(at) => line
            .text(" at ")
            .text(at.file())
            .text(":")
            .number(u64::from(at.line()))
            .abort(),
        None => line.abort(),
    }
}

/// `std`'s `__rust_alloc_error_handler`: the library allocates nothing through std, save for errors that can't happen.
fn out_of_memory(_size: usize, _align: usize) -> ! {
    Line::new()
        .text("internal error: out of memory in std")
        .abort()
}

/// Every function of the unwinder that std calls. Foreign exceptions and the end of a cancelled thread pass through
/// frames of ours that have nothing to clean up and so never ask the unwinder anything.
fn unwound() -> ! {
    Line::new().text("internal error: unwinding").abort()
}

/// `sysconf`, which only memmap2 calls, and only for the size of a system page. The C library's has a table of jumps that
/// lies where most programs touch nothing: 64 KiB of every process.
extern "C" fn system_page(name: c_int) -> c_long {
    if name == libc::_SC_PAGESIZE {
        os::page_size() as c_long
    } else {
        -1
    }
}

/// Symbols that the linker sees and the library doesn't export, which Rust has no attribute for. Same signatures, same
/// calling convention: a jump will do.
macro_rules! hidden {
    ($($symbol:literal => $function:path),*) => {$(
        #[cfg(target_arch = "x86_64")]
        hidden!("jmp", $symbol, $function);
        #[cfg(target_arch = "aarch64")]
        hidden!("b", $symbol, $function);
    )*};
    ($jump:literal, $symbol:literal, $function:path) => {
        global_asm!(
            concat!(".pushsection .text.unlikely.", $symbol, ",\"ax\",%progbits"),
            concat!(".globl ", $symbol),
            concat!(".hidden ", $symbol),
            concat!(".type ", $symbol, ", %function"),
            concat!($symbol, ":"),
            concat!($jump, " {function}"),
            concat!(".size ", $symbol, ", . - ", $symbol),
            ".popsection",
            function = sym $function,
        );
    };
}

hidden! {
    "millpond_panicked" => panicked,
    "millpond_out_of_memory" => out_of_memory,
    "millpond_unwound" => unwound,
    "millpond_sysconf" => system_page
}
