//! The thread's slot in the initial-exec model of thread-local storage: at a distance from the thread pointer that the
//! dynamic loader knows when it loads the library, so that an access is two instructions and calls nothing. Stable Rust
//! has no other way to ask for that than a symbol of our own.

use super::slot::Slot;
use super::{Heap, VACANT};
use std::arch::{asm, global_asm};

/// Bytes of the slot. All but the heap are zero in a new thread.
const BYTES: usize = 56;

static_assertions::const_assert_eq!(size_of::<Slot>(), BYTES);
static_assertions::const_assert_eq!(std::mem::offset_of!(Slot, heap), 0);

global_asm!(
    ".pushsection .tdata.millpond_slot,\"awT\",%progbits",
    ".balign 8",
    ".globl millpond_slot",
    ".hidden millpond_slot",
    ".type millpond_slot, %object",
    "millpond_slot:",
    ".quad {vacant}",
    ".zero {rest}",
    ".size millpond_slot, {bytes}",
    ".popsection",
    vacant = sym VACANT,
    rest = const BYTES - 8,
    bytes = const BYTES,
);

/// The slot of the calling thread.
pub struct InitialExec;

/// The slot of the calling thread.
pub static SLOT: InitialExec = InitialExec;

impl InitialExec {
    /// Calls `work` with the slot.
    #[inline(always)]
    pub fn with<T>(&self, work: impl FnOnce(&Slot) -> T) -> T {
        // SAFETY: a thread's slot lives as long as the thread, and is valid from the start: see its bytes above.
        work(unsafe { &*slot() })
    }

    /// The heap that the slot points to.
    #[inline(always)]
    pub fn heap(&self) -> &'static Heap {
        #[cfg(target_arch = "x86_64")]
        {
            let heap: *const Heap;
            // SAFETY: reads the slot's first word, a reference to a heap, which live for ever.
            unsafe {
                asm!(
                    "mov {heap}, qword ptr [rip + millpond_slot@GOTTPOFF]",
                    "mov {heap}, qword ptr fs:[{heap}]",
                    heap = out(reg) heap,
                    options(nostack, preserves_flags, readonly),
                );
                &*heap
            }
        }
        #[cfg(target_arch = "aarch64")]
        self.with(Slot::heap)
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn slot() -> *const Slot {
    let slot: *const Slot;
    // SAFETY: adds the symbol's distance to the thread pointer.
    unsafe {
        asm!(
            "mov {slot}, qword ptr fs:[0]",
            "add {slot}, qword ptr [rip + millpond_slot@GOTTPOFF]",
            slot = out(reg) slot,
            options(nostack, readonly),
        );
    }
    slot
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn slot() -> *const Slot {
    let slot: *const Slot;
    // SAFETY: as on x86-64.
    unsafe {
        asm!(
            "mrs {slot}, tpidr_el0",
            "adrp {distance}, :gottprel:millpond_slot",
            "ldr {distance}, [{distance}, :gottprel_lo12:millpond_slot]",
            "add {slot}, {slot}, {distance}",
            slot = out(reg) slot,
            distance = out(reg) _,
            options(nostack, preserves_flags, readonly),
        );
    }
    slot
}
