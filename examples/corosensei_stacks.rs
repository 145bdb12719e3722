//! Millpond's stacks under the crate `corosensei`, without a scheduler: a thousand coroutines, of which each counts to
//! three, one step at a time in turn.
//!
//! `cargo run --release --example corosensei_stacks`

#[cfg(native)]
fn main() -> Result<(), millpond::stack::StackError> {
    coroutines::run()
}

#[cfg(not(native))]
fn main() {
    println!("Millpond has no stacks on this platform");
}

#[cfg(native)]
mod coroutines {
    use corosensei::stack::{Stack, StackPointer};
    use corosensei::{Coroutine, CoroutineResult};
    use millpond::stack::{StackError, StackHandle, StackPool, StackSize};

    /// A pooled stack as corosensei wants it. Dropping it gives the stack back to the pool.
    struct PooledStack(StackHandle);

    impl PooledStack {
        fn take(size: StackSize) -> Result<Self, StackError> {
            StackPool::global().take(size).map(Self)
        }
    }

    // SAFETY: the handle holds the memory from `limit` up to `top` for as long as it lives, `top` is a multiple of 64,
    // and a guard lies below `limit`.
    unsafe impl Stack for PooledStack {
        fn base(&self) -> StackPointer {
            self.0.top().addr()
        }

        fn limit(&self) -> StackPointer {
            self.0.limit().addr()
        }
    }

    pub fn run() -> Result<(), StackError> {
        const COROUTINES: usize = 1000;
        for round in 1..=2 {
            let mut coroutines = Vec::with_capacity(COROUTINES);
            for number in 0..COROUTINES {
                let stack = PooledStack::take(StackSize::DEFAULT)?;
                coroutines.push(Coroutine::with_stack(stack, move |yielder, ()| {
                    for step in 1..=3 {
                        yielder.suspend(step);
                    }
                    number
                }));
            }
            let mut returned = 0;
            let mut steps = 0;
            while returned < COROUTINES {
                for coroutine in coroutines.iter_mut().filter(|coroutine| !coroutine.done()) {
                    match coroutine.resume(()) {
                        CoroutineResult::Yield(_) => steps += 1,
                        CoroutineResult::Return(_) => returned += 1,
                    }
                }
            }
            drop(coroutines);
            let stats = StackPool::global().stats();
            println!("round {round}: {steps} steps; {stats:?}");
            assert_eq!((steps, stats.live), (3 * COROUTINES, 0));
        }
        Ok(())
    }
}
