//! A fiber that uses its stack up: the fault in the guard ends the process with a sentence instead of a bare SIGSEGV.
//!
//! The handler runs on the thread's alternate stack, calls nothing that allocates or locks, and passes every other fault
//! on to whoever handled it before (Rust's own handler for threads' stacks, or the default).

use crate::worker;
use millpond::stack::stack_lookup;
use std::cell::UnsafeCell;
use std::fmt::{self, Write};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;

/// The handlers that were there before, by signal.
struct Previous(UnsafeCell<MaybeUninit<[libc::sigaction; 2]>>);
// SAFETY: written once, before the handler that reads it is installed.
unsafe impl Sync for Previous {}

static PREVIOUS: Previous = Previous(UnsafeCell::new(MaybeUninit::uninit()));
static INSTALLED: Once = Once::new();
/// A guard gives SIGSEGV on Linux and SIGBUS elsewhere.
const SIGNALS: [libc::c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];
/// Bytes of the alternate stack of a worker that has none.
const ALTERNATE_BYTES: usize = 64 << 10;

/// Installs the handler; once in a process.
pub fn install() {
    INSTALLED.call_once(|| {
        // SAFETY: plain structures of the C library, filled by it or here; the handler is a function of the right form.
        unsafe {
            let mut previous: [libc::sigaction; 2] = std::mem::zeroed();
            for (signal, previous) in SIGNALS.iter().zip(&mut previous) {
                libc::sigaction(*signal, ptr::null(), previous);
            }
            (*PREVIOUS.0.get()).write(previous);
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&mut action.sa_mask);
            for signal in SIGNALS {
                libc::sigaction(signal, &action, ptr::null_mut());
            }
        }
    });
}

/// The alternate stack of a worker's thread.
pub struct AlternateStack(*mut libc::c_void);

impl AlternateStack {
    /// Gives the calling thread an alternate stack unless it has one; threads that Rust's library started have.
    pub fn ensure() -> io::Result<Self> {
        // SAFETY: the calls read and write the structures that they are given, and the mapping is this function's own.
        unsafe {
            let mut now: libc::stack_t = std::mem::zeroed();
            libc::sigaltstack(ptr::null(), &mut now);
            if now.ss_flags & libc::SS_DISABLE == 0 {
                return Ok(Self(ptr::null_mut()));
            }
            let memory = libc::mmap(
                ptr::null_mut(),
                ALTERNATE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if memory == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let stack = libc::stack_t {
                ss_sp: memory,
                ss_flags: 0,
                ss_size: ALTERNATE_BYTES,
            };
            libc::sigaltstack(&stack, ptr::null_mut());
            Ok(Self(memory))
        }
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        let none = libc::stack_t {
            ss_sp: ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        };
        // SAFETY: the stack was this thread's, which isn't on it now.
        unsafe {
            libc::sigaltstack(&none, ptr::null_mut());
            libc::munmap(self.0, ALTERNATE_BYTES);
        }
    }
}

/// A line on the handler's stack.
struct Line {
    bytes: [u8; 320],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let length = text.len().min(room.len());
        room[..length].copy_from_slice(&text.as_bytes()[..length]);
        self.length += length;
        Ok(())
    }
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the system passes a valid structure, with an address for these signals.
    let address = unsafe { (*info).si_addr() }.addr();
    if let Some(stack) = stack_lookup(address)
        && stack.in_guard()
    {
        report(stack.size());
    }
    pass_on(signal, info, context);
}

fn report(bytes: usize) -> ! {
    let mut line = Line {
        bytes: [0; 320],
        length: 0,
    };
    let _ = line.write_str("millpond-fiber: stack overflow in fiber ");
    let fiber = worker::current_fiber();
    // SAFETY: the fiber faulted on this thread, which owns it and is stopped here.
    let name = fiber.and_then(|fiber| unsafe { (*fiber.as_ptr()).extra() }?.name.as_deref());
    let _ = match (name, fiber) {
        (Some(name), _) => write!(line, "`{name}`"),
        (None, Some(fiber)) => write!(line, "{:#x} (without a name)", fiber.addr()),
        (None, None) => line.write_str("(unknown)"),
    };
    let _ = writeln!(
        line,
        ": its stack of {} KiB is used up. Give it a larger one: Builder::stack_size, or RuntimeBuilder::stack_size \
         for all.",
        bytes >> 10
    );
    // SAFETY: writes the line's own bytes; both calls may be made in a handler.
    unsafe {
        libc::write(2, line.bytes.as_ptr().cast(), line.length);
        libc::abort();
    }
}

/// Does what would have happened without this handler.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let index = SIGNALS.iter().position(|&ours| ours == signal);
    // SAFETY: written before the handler was installed.
    let previous = unsafe { &(*PREVIOUS.0.get()).assume_init_ref()[index.unwrap_or(0)] };
    match previous.sa_sigaction {
        libc::SIG_DFL | libc::SIG_IGN => {
            // The fault happens again when this returns, with the action that was there before.
            // SAFETY: the structure is what the system gave.
            unsafe { libc::sigaction(signal, previous, ptr::null_mut()) };
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: installed with SA_SIGINFO, so it has this form.
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: installed without SA_SIGINFO, so it has this form.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}
