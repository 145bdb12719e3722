//! Options: one table, set by `set_option` or by `MILLPOND_<NAME>` in the environment, which is read without
//! allocating when the first heap is made.

use std::fmt;

/// What values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionKind {
    /// `0` or `1`, also `false`, `true`, `off`, `on`, `no`, `yes`.
    Switch,
    /// A whole number from the first to the second, in the unit that the name ends with.
    Number(u64, u64),
}

/// One row of the table of options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The name for [`set_option`](crate::set_option); in the environment `MILLPOND_` and the name in capitals.
    pub name: &'static str,
    /// The values that it takes.
    pub kind: OptionKind,
    /// The value at the start.
    pub default: u64,
    /// What it does, in a sentence.
    pub help: &'static str,
    /// The value right now; switches are 0 or 1.
    pub value: u64,
}

/// Why an option was not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionError {
    /// No option has this name.
    Unknown,
    /// The value isn't one that a switch takes.
    NotASwitch,
    /// The value isn't a whole number from the first to the second.
    NotANumber(u64, u64),
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("no option has this name; millpond::options() lists them"),
            Self::NotASwitch => {
                f.write_str("the value must be one of 0, 1, false, true, off, on, no, yes")
            }
            Self::NotANumber(from, to) => {
                write!(f, "the value must be a whole number from {from} to {to}")
            }
        }
    }
}

impl std::error::Error for OptionError {}

#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    kind: OptionKind,
    default: u64,
    help: &'static str,
}

const PURGE_DELAY_MS: usize = 0;
const BACKGROUND_THREAD: usize = 1;
const HEAP_RESERVE_KIB: usize = 2;
const HUGE_PAGES: usize = 3;
const HUGE_PAGE_LIMIT_US: usize = 4;
const SINGLE_BLOCKS: usize = 5;
const PREFAULT: usize = 6;

const TABLE: [Row; 7] = [
    Row {
        name: "purge_delay_ms",
        kind: OptionKind::Number(0, 3_600_000),
        default: 500,
        help: "how long free memory within the reserve stays resident without being needed, in milliseconds",
    },
    Row {
        name: "background_thread",
        kind: OptionKind::Switch,
        default: 0,
        help: "run a thread that gives the reserve back to the system while the program is idle",
    },
    Row {
        name: "heap_reserve_kib",
        kind: OptionKind::Number(0, 1 << 20),
        default: 1024,
        help: "how much memory in empty pages each thread keeps for itself, in KiB",
    },
    Row {
        name: "huge_pages",
        kind: OptionKind::Switch,
        default: 1,
        help: "ask for huge pages where memory beyond the first 32 MiB is used densely",
    },
    Row {
        name: "huge_page_limit_us",
        kind: OptionKind::Number(0, 1_000_000),
        default: 1000,
        help: "how long the first touch of a huge page may take, in microseconds; the next regions do without where it took longer",
    },
    Row {
        name: "single_blocks",
        kind: OptionKind::Number(0, 60_000),
        default: 1000,
        help: "how many blocks of a size above 17 KiB a thread takes one by one within half a second before they get pages of many, which is faster and takes more memory",
    },
    Row {
        name: "prefault",
        kind: OptionKind::Switch,
        default: 1,
        help: "make the next 32 KiB resident in one call where a large heap grows (256 pages of one thread, 16 to 64 MiB)",
    },
];

fn parse(kind: OptionKind, value: &[u8]) -> Result<u64, OptionError> {
    match kind {
        OptionKind::Switch => match value {
            b"0" | b"false" | b"off" | b"no" => Ok(0),
            b"1" | b"true" | b"on" | b"yes" => Ok(1),
            _ => Err(OptionError::NotASwitch),
        },
        OptionKind::Number(from, to) => {
            let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            let number = value.iter().try_fold(0_u64, |number, digit| {
                number
                    .checked_mul(10)?
                    .checked_add(u64::from(digit.wrapping_sub(b'0')))
            });
            number
                .filter(|number| digits && (from..=to).contains(number))
                .ok_or(OptionError::NotANumber(from, to))
        }
    }
}

#[cfg(native)]
pub use native::*;

/// Without an allocator of ours, options are checked and change nothing.
#[cfg(not(native))]
mod pass_through {
    use super::*;

    /// See [`crate::set_option`].
    pub fn set_option(name: &str, value: &str) -> Result<(), OptionError> {
        let row = TABLE
            .iter()
            .find(|row| row.name == name)
            .ok_or(OptionError::Unknown)?;
        parse(row.kind, value.as_bytes()).map(|_| ())
    }

    /// See [`crate::options`].
    pub fn options() -> impl Iterator<Item = OptionInfo> {
        TABLE.iter().map(|row| OptionInfo {
            name: row.name,
            kind: row.kind,
            default: row.default,
            help: row.help,
            value: row.default,
        })
    }
}

#[cfg(not(native))]
pub use pass_through::*;

#[cfg(native)]
mod native {
    use super::*;
    use crate::abort::Line;
    use std::ffi::{CStr, c_char};
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

    static VALUES: [AtomicU64; TABLE.len()] = {
        let mut values = [const { AtomicU64::new(0) }; TABLE.len()];
        let mut i = 0;
        while i < values.len() {
            values[i] = AtomicU64::new(TABLE[i].default);
            i += 1;
        }
        values
    };

    // Relaxed throughout: each option is a number of its own, and nothing is published through it.

    /// The purge delay.
    #[inline]
    pub fn purge_delay_ms() -> u64 {
        VALUES[PURGE_DELAY_MS].load(Relaxed)
    }

    /// Whether the background thread is wanted.
    #[inline]
    pub fn background_thread() -> bool {
        VALUES[BACKGROUND_THREAD].load(Relaxed) == 1
    }

    /// How much each heap keeps in empty pages, in bytes.
    #[inline]
    pub fn heap_reserve_bytes() -> usize {
        VALUES[HEAP_RESERVE_KIB].load(Relaxed) as usize * 1024
    }

    /// Whether huge pages are to be asked for.
    #[inline]
    pub fn huge_pages() -> bool {
        VALUES[HUGE_PAGES].load(Relaxed) == 1
    }

    /// How long the first touch of a huge page may take.
    #[inline]
    pub fn huge_page_limit_us() -> u64 {
        VALUES[HUGE_PAGE_LIMIT_US].load(Relaxed)
    }

    /// How many blocks of a class a heap takes without a page.
    #[inline]
    pub fn single_blocks() -> u16 {
        VALUES[SINGLE_BLOCKS].load(Relaxed) as u16
    }

    /// Whether memory is to be made resident ahead of its use.
    #[inline]
    pub fn prefault() -> bool {
        VALUES[PREFAULT].load(Relaxed) == 1
    }

    fn row(name: &[u8]) -> Option<usize> {
        TABLE.iter().position(|row| row.name.as_bytes() == name)
    }

    fn set(name: &[u8], value: &[u8]) -> Result<(), OptionError> {
        let row = row(name).ok_or(OptionError::Unknown)?;
        VALUES[row].store(parse(TABLE[row].kind, value)?, Relaxed);
        Ok(())
    }

    /// See [`crate::set_option`].
    pub fn set_option(name: &str, value: &str) -> Result<(), OptionError> {
        set(name.as_bytes(), value.as_bytes())
    }

    /// See [`crate::options`].
    pub fn options() -> impl Iterator<Item = OptionInfo> {
        TABLE.iter().zip(&VALUES).map(|(row, value)| OptionInfo {
            name: row.name,
            kind: row.kind,
            default: row.default,
            help: row.help,
            value: value.load(Relaxed),
        })
    }

    unsafe extern "C" {
        static environ: *const *const c_char;
    }

    /// Reads `MILLPOND_*` from the environment, with one warning line for each that makes no sense. Once, before the
    /// first heap is used; again where that was before there was an environment.
    pub fn read_environment() {
        static DONE: AtomicBool = AtomicBool::new(false);
        // SAFETY: the C library's pointer to a null-terminated array of strings; it may be null before its start-up.
        let mut at = unsafe { environ };
        if at.is_null() || DONE.swap(true, Relaxed) {
            return;
        }
        loop {
            // SAFETY: `at` stays within the array, whose end is the null entry tested for next.
            let entry = unsafe { *at };
            if entry.is_null() {
                return;
            }
            // SAFETY: entries are C strings.
            let entry = unsafe { CStr::from_ptr(entry) }.to_bytes();
            if let Some(setting) = entry.strip_prefix(b"MILLPOND_") {
                apply(setting);
            }
            // SAFETY: the entry wasn't the last.
            at = unsafe { at.add(1) };
        }
    }

    /// Read by our own tests, and by the library for preloading; not options.
    const NOT_OURS: [&[u8]; 3] = [b"REQUIRE_ALL", b"HELP", b"STATS"];

    fn apply(setting: &[u8]) {
        let equals = setting
            .iter()
            .position(|&byte| byte == b'=')
            .unwrap_or(setting.len());
        let (name, value) = setting.split_at(equals);
        let value = value.get(1..).unwrap_or_default();
        if NOT_OURS.contains(&name) {
            return;
        }
        let mut lower = [0_u8; 32];
        let length = name.len().min(lower.len());
        lower[..length].copy_from_slice(&name[..length]);
        lower.make_ascii_lowercase();
        let line = || Line::new().text("MILLPOND_").bytes(name);
        match set(&lower[..length], value) {
            Ok(()) => {}
            Err(OptionError::Unknown) => line().text(" is no option; ignored").print(),
            Err(OptionError::NotASwitch) => line()
                .text(" is ignored: it takes 0, 1, false, true, off, on, no or yes, not ")
                .bytes(value)
                .print(),
            Err(OptionError::NotANumber(from, to)) => line()
                .text(" is ignored: it takes a number from ")
                .number(from)
                .text(" to ")
                .number(to)
                .text(", not ")
                .bytes(value)
                .print(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_and_numbers() {
        assert_eq!(parse(OptionKind::Switch, b"on"), Ok(1));
        assert_eq!(
            parse(OptionKind::Switch, b"ON"),
            Err(OptionError::NotASwitch)
        );
        let number = OptionKind::Number(1, 10);
        assert_eq!(parse(number, b"10"), Ok(10));
        for bad in [
            &b""[..],
            b"0",
            b"11",
            b"-1",
            b"1x",
            b"99999999999999999999999",
        ] {
            assert_eq!(parse(number, bad), Err(OptionError::NotANumber(1, 10)));
        }
    }

    #[test]
    fn the_table_holds_what_it_promises() {
        for row in TABLE {
            assert!(
                row.name.len() <= 32
                    && row
                        .name
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            let text = row.default.to_string();
            assert_eq!(parse(row.kind, text.as_bytes()), Ok(row.default));
        }
    }
}
