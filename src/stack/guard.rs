//! Guards: marks in the page table where the kernel has them, protected pages otherwise.

use super::StackError;
use crate::os;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// How a pool guards its stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardKind {
    /// By `MADV_GUARD_INSTALL` (Linux 6.13 and later): a guard costs no map entry, so the number of stacks is bounded
    /// by memory only.
    Installed,
    /// By `mprotect`: each stack costs two of the map entries that `vm.max_map_count` limits (65,530 by default), so a
    /// process has about 32,000 stacks.
    Protected,
}

/// Map entries that protected guards leave to the rest of the program.
const LEFT_OVER: usize = 1024;
/// Those that a protected guard takes: itself, and the stack above it, which it cuts off.
const ENTRIES: usize = 2;

/// The guards by `mprotect` in this process, of all pools.
static PROTECTED: AtomicUsize = AtomicUsize::new(0);

/// What the kernel has.
pub fn kernels() -> GuardKind {
    const INSTALLED: u32 = 1;
    const PROTECTED: u32 = 2;
    // Relaxed: every thread finds the same answer.
    static KNOWN: AtomicU32 = AtomicU32::new(0);
    let mut known = KNOWN.load(Relaxed);
    if known == 0 {
        known = if os::installs_guards() {
            INSTALLED
        } else {
            PROTECTED
        };
        KNOWN.store(known, Relaxed);
    }
    if known == INSTALLED {
        GuardKind::Installed
    } else {
        GuardKind::Protected
    }
}

/// Makes the system page at `at` a guard, and says of which kind; the best that the system allows up to `kind`.
///
/// # Safety
/// The page lies in a live reservation, and nothing uses it.
pub unsafe fn install(at: NonNull<u8>, kind: GuardKind) -> Result<GuardKind, StackError> {
    let bytes = os::page_bytes();
    // Locked memory can't be marked; there the page is protected.
    // SAFETY: passed on.
    if kind == GuardKind::Installed && unsafe { os::install_guard(at, bytes) } {
        return Ok(GuardKind::Installed);
    }
    let before = PROTECTED.fetch_add(1, Relaxed);
    // SAFETY: passed on.
    if before < most_protected() && unsafe { os::fence(at, bytes) } {
        return Ok(GuardKind::Protected);
    }
    PROTECTED.fetch_sub(1, Relaxed);
    Err(StackError::MapLimit)
}

/// Makes system pages guards in one call, as far as that is possible; how many of them, from the first on, are guards now,
/// of the kind [`GuardKind::Installed`].
///
/// # Safety
/// As for [`install`].
pub unsafe fn install_together(pages: &[NonNull<u8>], kind: GuardKind) -> usize {
    if kind != GuardKind::Installed || pages.len() < 2 {
        return 0;
    }
    // SAFETY: passed on.
    unsafe { os::install_guards(pages) }
}

fn most_protected() -> usize {
    // Relaxed: every thread reads the same number, unless the administrator changes it.
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let most = MOST.load(Relaxed);
    if most != 0 {
        return most;
    }
    let most = os::most_mappings().saturating_sub(LEFT_OVER) / ENTRIES;
    MOST.store(most, Relaxed);
    most
}

/// Why the system refused a mapping, as far as it can be told.
pub fn refusal() -> StackError {
    if PROTECTED.load(Relaxed) + LEFT_OVER >= most_protected() {
        StackError::MapLimit
    } else {
        StackError::OutOfMemory
    }
}

/// So many protected guards are gone, with their span.
pub fn forget(guards: usize) {
    PROTECTED.fetch_sub(guards, Relaxed);
}
