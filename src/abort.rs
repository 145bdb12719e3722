//! How the allocator ends a process: one plain line on standard error, then `abort`.
//!
//! Nothing here allocates, formats through `std` or unwinds: the line is put together on the stack and written with
//! one `write(2)`.

use std::ffi::c_void;

/// A line of text on the stack. What doesn't fit is cut.
pub struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Line {
    /// A line that starts with the product's name.
    pub const fn new() -> Self {
        Self {
            bytes: [0; 256],
            len: 0,
        }
        .text("millpond: ")
    }

    /// Appends text.
    pub const fn text(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        let mut i = 0;
        // One byte is kept for the line's end.
        while i < text.len() && self.len < self.bytes.len() - 1 {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    /// Appends bytes that may not be UTF-8, control characters shown as `?`.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        for &byte in bytes {
            if self.len == self.bytes.len() - 1 {
                break;
            }
            self.bytes[self.len] = if byte.is_ascii_control() { b'?' } else { byte };
            self.len += 1;
        }
        self
    }

    /// Appends an address in hexadecimal.
    pub fn address(self, address: usize) -> Self {
        let mut digits = [0_u8; 16];
        let mut at = digits.len();
        let mut rest = address;
        loop {
            at -= 1;
            digits[at] = b"0123456789abcdef"[rest & 15];
            rest >>= 4;
            if rest == 0 {
                break;
            }
        }
        self.text("0x").bytes(&digits[at..])
    }

    /// Appends a decimal number.
    pub fn number(self, mut number: u64) -> Self {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes(&digits[at..])
    }

    /// Writes the line to standard error, best effort: there is nobody to tell when that fails.
    pub fn print(mut self) {
        self.bytes[self.len] = b'\n';
        // SAFETY: the pointer and the length describe the initialised front of a live array.
        unsafe { libc::write(2, self.bytes.as_ptr().cast::<c_void>(), self.len + 1) };
    }

    /// Writes the line and aborts the process.
    #[cold]
    pub fn abort(self) -> ! {
        self.print();
        // SAFETY: abort has no preconditions. `std::process::abort` would do, but may run hooks in the future.
        unsafe { libc::abort() }
    }
}

/// Misuse by the program: one line naming the block and what happened, then `abort`.
#[cold]
#[inline(never)]
pub fn misuse(address: usize, what: &str) -> ! {
    Line::new().address(address).text(": ").text(what).abort()
}

/// A broken invariant of our own: never the program's fault unless it wrote out of bounds.
#[cold]
#[inline(never)]
#[cfg_attr(not(debug_assertions), allow(dead_code))]
pub fn broken(address: usize, what: &str) -> ! {
    Line::new()
        .text("internal error at ")
        .address(address)
        .text(": ")
        .text(what)
        .abort()
}
