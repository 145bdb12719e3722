//! Prefetching. A hint, which never faults, whatever the address.

/// Asks for the line of an address, to be written: what another core has of it is given up right away, not when it is written.
#[inline(always)]
pub fn prefetch_for_write(address: *const u8) {
    #[cfg(all(native, target_arch = "x86_64"))]
    // SAFETY: a hint; a processor that doesn't know it does nothing.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(native, target_arch = "aarch64"))]
    // SAFETY: a hint.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(native))]
    let _ = address;
}
