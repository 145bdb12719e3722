//! Pooled stacks.

#![cfg(all(target_os = "linux", not(miri)))]

use millpond::stack::{StackCache, StackError, StackHandle, StackPool, StackSize, stack_lookup};

#[test]
fn slots_are_aligned_and_usable() {
    let pool = StackPool::new();
    for bytes in [1, 64 << 10, 100_000, 256 << 10, 1 << 20, 5 << 20, 64 << 20] {
        let size = StackSize::custom(bytes).unwrap();
        let stacks: Vec<StackHandle> = (0..5).map(|_| pool.take(size).unwrap()).collect();
        for stack in &stacks {
            assert!(stack.size() >= bytes && stack.size().is_power_of_two());
            assert!(stack.slot().addr().get().is_multiple_of(stack.size()));
            assert!(stack.top().addr().get().is_multiple_of(64));
            let usable = stack.top().addr().get() - stack.limit().addr().get();
            // SAFETY: both bytes are the stack's.
            unsafe {
                stack.limit().write(1);
                stack.limit().add(usable - 1).write(2);
            }
        }
        let live = pool.stats().live;
        assert_eq!(live, 5);
    }
    assert_eq!(pool.stats().live, 0);
}
