//! What an empty bin costs: carving a fresh page, taking local frees, draining remote ones, and opening empty pages.

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::thread;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

/// 64 KiB pages of each class; enough of them that a refill is a small part of many allocations.
const BYTES: usize = 4 << 20;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

struct Blocks(Vec<*mut u8>, Layout);

// SAFETY: the blocks belong to whoever has this value, and are freed on any thread.
unsafe impl Send for Blocks {}

impl Blocks {
    fn new(size: usize) -> Self {
        // SAFETY: the size isn't 0.
        let blocks = (0..BYTES / size).map(|_| unsafe { Millpond.alloc(layout(size)) });
        Self(blocks.collect(), layout(size))
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for &block in &self.0 {
            // SAFETY: each block is freed once with its layout.
            unsafe { Millpond.dealloc(block, self.1) };
        }
    }
}

const SIZES: [usize; 3] = [64, 1000, 32 * 1024];

fn fresh_pages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fresh_pages");
    for size in SIZES {
        group.throughput(Throughput::Elements((BYTES / size) as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            // Everything is given back before, so that each page is new; dropping isn't measured.
            let give_back = || millpond::collect(true);
            bencher.iter_batched(give_back, |()| Blocks::new(size), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn own_frees(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("own_frees");
    for size in SIZES {
        group.throughput(Throughput::Elements((BYTES / size) as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let free = || drop(Blocks::new(size));
            bencher.iter_batched(free, |()| Blocks::new(size), BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn remote_frees(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("remote_frees");
    for size in SIZES {
        group.throughput(Throughput::Elements((BYTES / size) as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            let free_there = || {
                let blocks = Blocks::new(size);
                thread::spawn(move || drop(blocks)).join().unwrap();
            };
            bencher.iter_batched(free_there, |()| Blocks::new(size), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, fresh_pages, own_frees, remote_frees);
criterion_main!(benches);
