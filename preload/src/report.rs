//! Options and statistics as text, put together on the stack: nothing here allocates.

use crate::config::{self, OptionKind};
use crate::thread_heap::collect;
use libc::c_int;

/// Text of at most `N` bytes; what doesn't fit is cut, and counted.
pub struct Buffer<const N: usize> {
    bytes: [u8; N],
    /// The length that the text would have with room for all of it.
    wanted: usize,
}

impl<const N: usize> Buffer<N> {
    /// No text.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            wanted: 0,
        }
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.wanted.min(N)]
    }

    /// Appends text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        let from = self.wanted.min(N);
        let room = text.len().min(N - from);
        self.bytes[from..from + room].copy_from_slice(&text.as_bytes()[..room]);
        self.wanted += text.len();
        self
    }

    /// Appends a decimal number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.digits(number, 1)
    }

    /// Appends a decimal number, with zeros before it up to so many digits.
    fn digits(&mut self, mut number: u64, least: usize) -> &mut Self {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while number > 0 || digits.len() - at < least {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.text(str::from_utf8(&digits[at..]).unwrap_or_default())
    }

    /// Appends a number with a comma between each three digits.
    fn grouped(&mut self, number: u64) -> &mut Self {
        if number < 1000 {
            return self.number(number);
        }
        self.grouped(number / 1000).text(",");
        self.digits(number % 1000, 3)
    }

    /// Appends bytes in the unit that suits them.
    fn size(&mut self, bytes: u64) -> &mut Self {
        const UNITS: [&str; 4] = [" KiB", " MiB", " GiB", " TiB"];
        let mut unit = 0;
        let mut tenths = bytes.saturating_mul(10) / 1024;
        while tenths >= 10_240 && unit + 1 < UNITS.len() {
            tenths /= 1024;
            unit += 1;
        }
        self.number(tenths / 10).text(".");
        self.number(tenths % 10).text(UNITS[unit])
    }

    /// Fills a line up to a column.
    fn column(&mut self, from: usize, column: usize) -> &mut Self {
        while self.wanted - from < column {
            self.text(" ");
        }
        self
    }

    /// Writes the text to a file descriptor, best effort.
    pub fn print(&self, to: c_int) {
        let mut rest = self.bytes();
        while !rest.is_empty() {
            // SAFETY: the bytes are live.
            let written = unsafe { libc::write(to, rest.as_ptr().cast(), rest.len()) };
            match usize::try_from(written) {
                Ok(written) if written > 0 => rest = &rest[written.min(rest.len())..],
                _ => return,
            }
        }
    }
}

/// Prints all options with their values, defaults and ranges to standard error. Not inlined: its text would
/// take room on the stack of whoever doesn't ask for it.
#[cold]
#[inline(never)]
pub fn print_help() {
    let mut text = Buffer::<4096>::new();
    text.text("millpond ").text(env!("CARGO_PKG_VERSION"));
    text.text(": options, each an environment variable\n\n");
    for option in config::options() {
        let from = text.wanted;
        text.text("  MILLPOND_");
        for &byte in option.name.as_bytes() {
            let upper = [byte.to_ascii_uppercase()];
            text.text(str::from_utf8(&upper).unwrap_or_default());
        }
        text.text("=").number(option.value).column(from, 36);
        text.text("default ").number(option.default);
        match option.kind {
            OptionKind::Switch => text.text(", 0 or 1"),
            OptionKind::Number(least, most) => {
                text.text(", ").number(least).text(" to ").number(most)
            }
        };
        text.text("\n      ").text(option.help).text("\n");
    }
    text.text("\n  MILLPOND_STATS=1                  print statistics when the process ends");
    text.text("\n  MILLPOND_HELP=1                   print this\n");
    text.print(2);
}

/// Prints the statistics as text to a file descriptor: what a person wants to know first, then every counter.
pub fn print_stats(to: c_int) {
    let stats = collect::stats();
    let mut text = Buffer::<8192>::new();
    text.text("millpond ")
        .text(env!("CARGO_PKG_VERSION"))
        .text(": ");
    text.size(stats.live_bytes).text(" live in ");
    text.size(stats.committed_bytes)
        .text(" committed; handed out in refills ");
    text.grouped(stats.allocations)
        .text(" blocks, freed by other threads ");
    text.grouped(stats.remote_frees).text("\n");
    for (name, value) in stats.entries() {
        let from = text.wanted;
        text.text("  ").text(name).column(from, 34).grouped(value);
        if name.ends_with("_bytes") {
            text.column(from, 56).size(value);
        }
        text.text("\n");
    }
    text.print(to);
}

/// The statistics as lines of `name value`.
pub fn stats_text<const N: usize>(text: &mut Buffer<N>) {
    for (name, value) in collect::stats().entries() {
        text.text(name).text(" ").number(value).text("\n");
    }
}

/// The statistics as one JSON object.
pub fn stats_json<const N: usize>(text: &mut Buffer<N>) {
    text.text("{");
    for (index, (name, value)) in collect::stats().entries().enumerate() {
        text.text(if index > 0 { ",\"" } else { "\"" });
        text.text(name).text("\":").number(value);
    }
    text.text("}");
}
