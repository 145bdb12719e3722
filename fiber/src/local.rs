//! Fiber-local values: dropped when their fiber ends, and for plain threads, when the thread ends.

use crate::worker;
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The values of a fiber, by the address of their key.
pub type Map = HashMap<(usize, TypeId), Rc<dyn Any>>;

thread_local! {
    /// The values of a plain thread.
    static OF_THREAD: RefCell<Map> = RefCell::new(Map::new());
}

/// A key to a value that each fiber (and each plain thread) has for itself, made when it is first asked for.
///
/// Unlike a `thread_local!`, it isn't shared by the fibers that run on one thread, and stays with a fiber that moves.
///
/// ```
/// use millpond_fiber::FiberLocal;
/// use std::cell::Cell;
///
/// static CALLS: FiberLocal<Cell<u32>> = FiberLocal::new(|| Cell::new(0));
///
/// let runtime = millpond_fiber::Runtime::new()?;
/// runtime.block_on(|| {
///     CALLS.with(|calls| calls.set(calls.get() + 1));
///     let other = millpond_fiber::spawn(|| CALLS.with(|calls| calls.get()));
///     assert_eq!(other.join().unwrap(), 0);
///     assert_eq!(CALLS.with(|calls| calls.get()), 1);
/// });
/// # Ok::<(), millpond_fiber::BuildError>(())
/// ```
pub struct FiberLocal<T: 'static> {
    make: fn() -> T,
    // So that no two keys share an address.
    _place: u8,
}

impl<T: 'static> FiberLocal<T> {
    /// A key, for a `static`.
    pub const fn new(make: fn() -> T) -> Self {
        Self { make, _place: 0 }
    }

    /// Calls `work` with the calling fiber's value. `work` may suspend.
    ///
    /// # Panics
    /// For a plain thread that is being torn down.
    pub fn with<R>(&'static self, work: impl FnOnce(&T) -> R) -> R {
        let key = (std::ptr::from_ref(self).addr(), TypeId::of::<T>());
        let found = with_map(|map| map.get(&key).cloned());
        let value = found.unwrap_or_else(|| {
            // Outside the map: `make` may use other fiber-locals.
            let value: Rc<dyn Any> = Rc::new((self.make)());
            with_map(|map| map.insert(key, value.clone()));
            value
        });
        // The reference is to the value, and counted, so it stays over a suspension, and over the map's growth.
        work(value.downcast_ref().expect("the key holds the type"))
    }
}

/// The map isn't borrowed over anything that can suspend.
fn with_map<R>(work: impl FnOnce(&mut Map) -> R) -> R {
    match worker::current_fiber() {
        // SAFETY: the calling fiber owns its record.
        Some(fiber) => work(&mut unsafe { fiber.as_ref().make_extra() }.locals),
        None => OF_THREAD.with_borrow_mut(work),
    }
}
