//! How a run ends that cannot go on. Every such end is loud: a sentence on standard error and a status of its own.

/// Status of a run whose arguments were wrong.
pub const STATUS_USAGE: u8 = 2;
/// Status of a run in which a block was corrupted or a sum did not add up.
pub const STATUS_CORRUPTED: u8 = 3;
/// Status of a run that the system cut short: no memory, no thread.
pub const STATUS_RESOURCES: u8 = 4;

/// Ends the process because the allocator broke its contract.
///
/// Leaves at once, whatever other threads do: after a corruption nothing that they compute can be trusted.
#[cold]
#[inline(never)]
pub fn corrupted(what: &str) -> ! {
    eprintln!("larson-runner: check failed: {what}");
    leave(STATUS_CORRUPTED)
}

/// Ends the process because the system refused something that the workload needs.
#[cold]
#[inline(never)]
pub fn out_of_resources(what: &str) -> ! {
    eprintln!("larson-runner: {what}");
    leave(STATUS_RESOURCES)
}

/// Ends the process on any panic, in any thread; otherwise the other threads would wait for it for ever.
pub fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        leave(101)
    }));
}

fn leave(status: u8) -> ! {
    // SAFETY: _exit has no precondition. It runs no destructors and no exit handlers, which is wanted: they could
    // walk into the very heap that was found broken.
    unsafe { libc::_exit(i32::from(status)) }
}
