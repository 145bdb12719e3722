//! What the library exports, and how the exports begin.

mod support;

use std::collections::BTreeSet;
use std::process::Command;
use support::{library, skip, succeed, there_is};

/// The documented symbols: README.md and include/millpond.h name them.
const C: &str =
    "malloc free calloc realloc reallocarray aligned_alloc posix_memalign memalign valloc pvalloc
    malloc_usable_size cfree free_sized free_aligned_sized
    malloc_trim mallopt mallinfo mallinfo2 malloc_stats malloc_info
    mp_usable_size mp_collect mp_stats_text mp_stats_json mp_option_get mp_option_set";
const GLIBC: &str = "__libc_malloc __libc_free __libc_cfree __libc_calloc __libc_realloc __libc_memalign __libc_valloc
    __libc_pvalloc __posix_memalign";
const CPP: &str =
    "_Znwm _Znam _ZnwmRKSt9nothrow_t _ZnamRKSt9nothrow_t _ZnwmSt11align_val_t _ZnamSt11align_val_t
    _ZnwmSt11align_val_tRKSt9nothrow_t _ZnamSt11align_val_tRKSt9nothrow_t
    _ZdlPv _ZdaPv _ZdlPvm _ZdaPvm _ZdlPvRKSt9nothrow_t _ZdaPvRKSt9nothrow_t
    _ZdlPvSt11align_val_t _ZdaPvSt11align_val_t _ZdlPvmSt11align_val_t _ZdaPvmSt11align_val_t
    _ZdlPvSt11align_val_tRKSt9nothrow_t _ZdaPvSt11align_val_tRKSt9nothrow_t";

#[test]
fn exactly_the_documented_symbols() {
    if !there_is("nm") {
        return skip("exactly_the_documented_symbols", "there is no nm");
    }
    let listed = succeed(
        Command::new("nm")
            .args(["-D", "--defined-only"])
            .arg(library()),
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    let found: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    let mut documented: BTreeSet<&str> = [C, CPP]
        .iter()
        .flat_map(|names| names.split_whitespace())
        .collect();
    if cfg!(target_env = "gnu") {
        documented.extend(GLIBC.split_whitespace());
    }
    let missing: Vec<_> = documented.difference(&found).collect();
    let undocumented: Vec<_> = found.difference(&documented).collect();
    assert!(
        missing.is_empty() && undocumented.is_empty(),
        "missing: {missing:?}, undocumented: {undocumented:?}"
    );
}

/// A function's instructions, as objdump prints them. By its address: names of the same code stand for each other.
fn disassembled(function: &str) -> Vec<String> {
    let symbols = succeed(
        Command::new("nm")
            .args(["-S", "--defined-only"])
            .arg(library()),
    );
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let symbol = symbols
        .lines()
        .find(|line| line.ends_with(&format!(" T {function}")))
        .unwrap();
    let number =
        |at| usize::from_str_radix(symbol.split_whitespace().nth(at).unwrap(), 16).unwrap();
    let (start, length) = (number(0), number(1));
    let output = succeed(
        Command::new("objdump")
            .args(["-d", "--no-show-raw-insn"])
            .arg(format!("--start-address={start}"))
            .arg(format!("--stop-address={}", start + length))
            .arg(library()),
    );
    let output = String::from_utf8(output.stdout).unwrap();
    output
        .lines()
        .filter(|line| line.contains(":\t"))
        .map(str::to_owned)
        .collect()
}

/// The fast paths call nothing, not even `__tls_get_addr`: they read the slot at its distance from the thread pointer,
/// and leave by a jump where there is more to do.
#[test]
fn fast_paths_call_nothing() {
    if !there_is("objdump") {
        return skip("fast_paths_call_nothing", "there is no objdump");
    }
    for function in ["malloc", "free"] {
        let code = disassembled(function);
        assert!(code.len() > 8, "{function}: {code:#?}");
        assert!(
            !code.iter().any(|line| line.contains("call")
                || line.contains("push ")
                || line.contains("\tbl\t")),
            "{function}: {code:#?}"
        );
        let thread_pointer = if cfg!(target_arch = "x86_64") {
            "%fs:"
        } else {
            "tpidr_el0"
        };
        let reads = code
            .iter()
            .filter(|line| line.contains(thread_pointer))
            .count();
        assert_eq!(reads, 1, "{function}: {code:#?}");
    }
}

/// No export, and nothing that stands right behind one, finds its thread-local slot by a call.
#[test]
fn nothing_exported_asks_for_thread_local_addresses() {
    if !there_is("objdump") {
        return skip(
            "nothing_exported_asks_for_thread_local_addresses",
            "there is no objdump",
        );
    }
    for function in C.split_whitespace().chain(CPP.split_whitespace()) {
        let code = disassembled(function);
        assert!(!code.is_empty(), "{function} has no code");
        assert!(
            !code.iter().any(|line| line.contains("__tls_get_addr")),
            "{function}: {code:#?}"
        );
    }
}
