//! The calling thread's cache of the global pool's stacks. None of these functions is inlined: a fiber may go on on
//! another thread between two calls, and no thread-local address may be remembered across that.

use super::StackError;
use super::cache::{Node, VACANT};
use super::depot::GLOBAL;
use super::directory;
use super::handle::Packed;
use crate::os::thread_exit::ExitHook;
use std::cell::Cell;
use std::ffi::c_void;

thread_local! {
    /// The thread's cache, or the vacant one. Without a destructor, so that it can be used at any time.
    static NODE: Cell<&'static Node> = const { Cell::new(&VACANT) };
    static EXITED: Cell<bool> = const { Cell::new(false) };
}

static EXIT: ExitHook = ExitHook::new(on_thread_exit);

unsafe extern "C" fn on_thread_exit(_: *mut c_void) {
    // What is given back after this goes to the depot, one by one.
    EXITED.set(true);
    NODE.replace(&VACANT).release(&GLOBAL);
}

/// A stack of the global pool.
#[inline(never)]
pub fn take(class: usize) -> Result<Packed, StackError> {
    match NODE.get().pop(class) {
        // `give_back` clears the tags of what it puts in.
        Some(packed) => Ok(packed),
        None => refill(class),
    }
}

#[cold]
#[inline(never)]
fn refill(class: usize) -> Result<Packed, StackError> {
    node().refill(&GLOBAL, class)
}

/// Gives a stack back to its pool, whichever that is.
#[inline(never)]
pub fn give_back(packed: Packed) {
    let special = packed.is_of_own_pool() || packed.is_tagged();
    if special || !NODE.get().push(packed) {
        give_back_slowly(packed);
    }
}

#[cold]
#[inline(never)]
fn give_back_slowly(packed: Packed) {
    let packed = packed.untagged();
    if packed.is_of_own_pool() {
        let Some(span) = directory::span_of(packed.base()) else {
            crate::abort::misuse(packed.base(), "a stack was given back that is no pool's");
        };
        return span.core().give(packed.class(), &[packed.bits()]);
    }
    let node = node();
    if !node.push(packed) {
        node.spill(&GLOBAL, packed);
    }
}

/// The thread's cache, made if it has none and isn't ending.
fn node() -> &'static Node {
    let node = NODE.get();
    if !node.is_vacant() || EXITED.get() {
        return node;
    }
    if !EXIT.arm() {
        // Nobody would tell of the thread's end: it does without.
        return node;
    }
    let node = Node::claim(&GLOBAL);
    NODE.set(node);
    node
}

/// Gives what the calling thread has cached to the depot.
#[inline(never)]
pub fn flush() {
    NODE.get().flush(&GLOBAL);
}
