//! Blocks freed by another thread than the one that allocated them: what the freeing side pays per block, with an
//! owner that lives and one that has ended. The blocks are made outside the measured time.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::mpsc;
use std::thread;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const BATCH: usize = 10_000;

struct Blocks(Vec<*mut u8>, Layout);

// SAFETY: the blocks belong to whoever has this value, and are freed on any thread.
unsafe impl Send for Blocks {}

impl Blocks {
    fn new(size: usize) -> Self {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size isn't 0.
        let blocks = (0..BATCH).map(|_| unsafe { Millpond.alloc(layout) });
        Self(blocks.collect(), layout)
    }

    fn free(self) {
        for block in self.0 {
            // SAFETY: each block is freed once with its layout.
            unsafe { Millpond.dealloc(block, self.1) };
        }
    }
}

fn living_owner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("living_owner");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in [64, 1000] {
        // The owner makes a batch whenever it is asked for one, out of what came back from the batch before.
        let (ask, asked) = mpsc::sync_channel::<()>(1);
        let (give, given) = mpsc::sync_channel(1);
        let owner = thread::spawn(move || {
            while asked.recv().is_ok() {
                give.send(Blocks::new(size)).unwrap();
            }
        });
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let next = || {
                ask.send(()).unwrap();
                given.recv().unwrap()
            };
            bencher.iter_batched(next, Blocks::free, BatchSize::PerIteration);
        });
        drop(ask);
        owner.join().unwrap();
    }
    group.finish();
}

fn ended_owner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ended_owner");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in [64, 1000] {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let next = || thread::spawn(move || Blocks::new(size)).join().unwrap();
            bencher.iter_batched(next, Blocks::free, BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, living_owner, ended_owner);
criterion_main!(benches);
