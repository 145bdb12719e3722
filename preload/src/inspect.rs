//! glibc's functions that tune an allocator and tell about it. What has no counterpart here is accepted and does
//! nothing, or reads as zero.

use super::report;
use crate::stats::Stats;
use crate::thread_heap::collect;
use libc::{FILE, c_int, size_t};

fn stats() -> Stats {
    collect::stats()
}

/// Bytes of live blocks, and bytes of memory that is held beyond them.
fn used_and_free(stats: &Stats) -> (u64, u64) {
    (
        stats.live_bytes,
        stats.committed_bytes.saturating_sub(stats.live_bytes),
    )
}

/// Gives free memory back to the system: `mp_collect(true)`. What `pad` asks to be kept isn't. 1 if anything went back.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn malloc_trim(_pad: size_t) -> c_int {
    let before = stats().purged_bytes;
    collect::collect(true);
    c_int::from(stats().purged_bytes > before)
}

/// Accepted, without effect: glibc's parameters have no counterpart here. Millpond's own are options, see
/// `mp_option_set`. 1, as for success.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn mallopt(_parameter: c_int, _value: c_int) -> c_int {
    1
}

/// glibc's `struct mallinfo`: `int`s, which stop at 2 GiB.
#[repr(C)]
#[derive(Default)]
pub struct Mallinfo {
    arena: c_int,
    ordblks: c_int,
    smblks: c_int,
    hblks: c_int,
    hblkhd: c_int,
    usmblks: c_int,
    fsmblks: c_int,
    uordblks: c_int,
    fordblks: c_int,
    keepcost: c_int,
}

/// glibc's `struct mallinfo2`.
#[repr(C)]
#[derive(Default)]
pub struct Mallinfo2 {
    arena: size_t,
    ordblks: size_t,
    smblks: size_t,
    hblks: size_t,
    hblkhd: size_t,
    usmblks: size_t,
    fsmblks: size_t,
    uordblks: size_t,
    fordblks: size_t,
    keepcost: size_t,
}

/// `arena`: committed bytes; `uordblks`: bytes of live blocks, as [`Stats::live_bytes`] counts them: exact after
/// `mp_collect`, before that within a page per thread and class; `fordblks`: the difference; `keepcost`: bytes that
/// `malloc_trim` would give back at least. The other fields are 0.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn mallinfo2() -> Mallinfo2 {
    let stats = stats();
    let (used, free) = used_and_free(&stats);
    Mallinfo2 {
        arena: stats.committed_bytes as size_t,
        uordblks: used as size_t,
        fordblks: free as size_t,
        keepcost: stats.reserve_bytes as size_t,
        ..Mallinfo2::default()
    }
}

/// As `mallinfo2`, in `int`s: values that don't fit are the largest that does.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn mallinfo() -> Mallinfo {
    let all = mallinfo2();
    let short = |bytes: size_t| c_int::try_from(bytes).unwrap_or(c_int::MAX);
    Mallinfo {
        arena: short(all.arena),
        uordblks: short(all.uordblks),
        fordblks: short(all.fordblks),
        keepcost: short(all.keepcost),
        ..Mallinfo::default()
    }
}

/// Prints the statistics as text to standard error.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn malloc_stats() {
    report::print_stats(2);
}

/// Writes the statistics as XML to a stream: an element `malloc` with one `counter` each. `options` must be 0,
/// otherwise the result is EINVAL; -1 when the stream takes nothing.
///
/// # Safety
/// `stream` is a stream that is open for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn malloc_info(options: c_int, stream: *mut FILE) -> c_int {
    if options != 0 {
        return libc::EINVAL;
    }
    let mut text = report::Buffer::<4096>::new();
    text.text("<malloc version=\"millpond-1\">\n");
    for (name, value) in stats().entries() {
        text.text("  <counter name=\"")
            .text(name)
            .text("\" value=\"");
        text.number(value).text("\"/>\n");
    }
    text.text("</malloc>\n");
    let bytes = text.bytes();
    // SAFETY: the bytes are live, and the caller vouches for the stream.
    let written = unsafe { libc::fwrite(bytes.as_ptr().cast(), 1, bytes.len(), stream) };
    if written == bytes.len() { 0 } else { -1 }
}
