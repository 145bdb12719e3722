//! What a stack costs: from a cache, through the depot, on its first use, and by `mmap` with a protected page, which is
//! what a runtime without a pool does.

#[cfg(native)]
criterion::criterion_main!(stacks::benches);

#[cfg(not(native))]
fn main() {}

#[cfg(native)]
mod stacks {
    use criterion::{BatchSize, Criterion, criterion_group};
    use millpond::stack::{StackCache, StackHandle, StackPool, StackSize};
    use std::hint::black_box;
    use std::sync::mpsc;
    use std::thread;

    const DEFAULT: StackSize = StackSize::DEFAULT;

    /// Takes a stack, writes to its top as a fiber would, and gives it back.
    fn hot(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("stacks, hot");
        group.bench_function("thread's cache", |bencher| {
            bencher.iter(|| black_box(StackPool::global().take(DEFAULT).unwrap()).top())
        });
        group.bench_function("thread's cache, tagged", |bencher| {
            bencher.iter(|| {
                let mut stack = StackPool::global().take(DEFAULT).unwrap();
                stack.set_tag(black_box(1));
                black_box(stack).top()
            })
        });
        let mut cache = StackCache::new(StackPool::global());
        group.bench_function("worker's cache", |bencher| {
            bencher.iter(|| {
                let stack = black_box(cache.take(DEFAULT).unwrap());
                let top = stack.top();
                cache.put(stack);
                top
            })
        });
        let pool = StackPool::new();
        let mut cache = StackCache::new(&pool);
        group.bench_function("worker's cache, own pool", |bencher| {
            bencher.iter(|| {
                let stack = black_box(cache.take(DEFAULT).unwrap());
                let top = stack.top();
                cache.put(stack);
                top
            })
        });
        let pool = StackPool::new();
        group.bench_function("own pool without a cache", |bencher| {
            bencher.iter(|| black_box(pool.take(DEFAULT).unwrap()).top())
        });
        group.finish();
    }

    /// Takes more than the cache holds and gives them back: per 1,000 stacks, beside `live` others.
    fn depot(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("stacks, 1000 through the depot");
        for live in [0, 100_000] {
            let pool = StackPool::new();
            let mut cache = StackCache::new(&pool);
            let others: Vec<StackHandle> =
                (0..live).map(|_| cache.take(DEFAULT).unwrap()).collect();
            let mut held = Vec::with_capacity(1000);
            group.bench_function(format!("beside {live} live"), |bencher| {
                bencher.iter(|| {
                    for _ in 0..1000 {
                        held.push(cache.take(DEFAULT).unwrap());
                    }
                    for stack in held.drain(..) {
                        cache.put(stack);
                    }
                })
            });
            drop(others);
        }
        group.bench_function("taken here, dropped on another thread", |bencher| {
            let (send, receive) = mpsc::sync_channel::<Vec<StackHandle>>(2);
            let (back, empty) = mpsc::channel();
            let other = thread::spawn(move || {
                for mut stacks in receive {
                    stacks.clear();
                    let _ = back.send(stacks);
                }
            });
            for _ in 0..2 {
                send.send(Vec::with_capacity(1000)).unwrap();
            }
            bencher.iter(|| {
                let mut stacks = empty.recv().unwrap();
                stacks.extend((0..1000).map(|_| StackPool::global().take(DEFAULT).unwrap()));
                send.send(stacks).unwrap();
            });
            drop(send);
            other.join().unwrap();
        });
        group.finish();
    }

    /// 1,000 stacks that were never used before, and the same touched at the top.
    fn fresh(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("stacks, 1000 fresh");
        let takes = [
            ("installed guards", StackPool::new as fn() -> StackPool),
            ("protected guards", StackPool::with_protected_guards),
        ];
        for (name, new) in takes {
            for touch in [false, true] {
                let suffix = if touch { ", touched" } else { "" };
                group.bench_function(format!("{name}{suffix}"), |bencher| {
                    bencher.iter_batched(
                        new,
                        |pool| {
                            let take = |_| {
                                let stack = pool.take(DEFAULT).unwrap();
                                if touch {
                                    // SAFETY: the stack's highest byte.
                                    unsafe { stack.top().sub(1).write(1) };
                                }
                                stack
                            };
                            let stacks: Vec<StackHandle> = (0..1000).map(take).collect();
                            (stacks, pool)
                        },
                        BatchSize::PerIteration,
                    )
                });
            }
        }
        group.bench_function("mmap and mprotect", |bencher| {
            bencher.iter_batched(
                || (),
                |()| (0..1000).map(|_| Plain::new()).collect::<Vec<_>>(),
                BatchSize::PerIteration,
            )
        });
        group.bench_function("mmap and mprotect, unmapped again", |bencher| {
            bencher.iter(|| (0..1000).for_each(|_| drop(black_box(Plain::new()))))
        });
        group.finish();
    }

    /// A stack without a pool.
    struct Plain(*mut libc::c_void);

    impl Plain {
        fn new() -> Self {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind =
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
            // SAFETY: a new mapping, whose first page is made a guard.
            unsafe {
                let start = libc::mmap(std::ptr::null_mut(), DEFAULT.bytes(), access, kind, -1, 0);
                assert_ne!(start, libc::MAP_FAILED);
                assert_eq!(libc::mprotect(start, 4096, libc::PROT_NONE), 0);
                Self(start)
            }
        }
    }

    impl Drop for Plain {
        fn drop(&mut self) {
            // SAFETY: the mapping is ours and unused.
            unsafe { libc::munmap(self.0, DEFAULT.bytes()) };
        }
    }

    criterion_group! {
        name = benches;
        config = Criterion::default();
        targets = hot, depot, fresh
    }
}
