//! Allocation and free in the thread's current page: at once, in batches of 1,000 freed last in first out and first in
//! first out, and zeroed. A byte count behind the name is the size asked for.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const SIZES: [usize; 4] = [16, 64, 1000, 8192];
const BATCH: usize = 1000;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

fn at_once(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("at_once");
    group.throughput(Throughput::Elements(1));
    for size in SIZES {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                let layout = black_box(layout(size));
                // SAFETY: the size isn't 0, and the block is freed once with its layout.
                unsafe { Millpond.dealloc(black_box(Millpond.alloc(layout)), layout) };
            });
        });
        group.bench_function(BenchmarkId::new("zeroed", size), |bencher| {
            bencher.iter(|| {
                let layout = black_box(layout(size));
                // SAFETY: as above.
                unsafe { Millpond.dealloc(black_box(Millpond.alloc_zeroed(layout)), layout) };
            });
        });
    }
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batches");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in SIZES {
        let mut blocks = vec![std::ptr::null_mut::<u8>(); BATCH];
        for newest_first in [true, false] {
            let name = if newest_first {
                "newest_first"
            } else {
                "oldest_first"
            };
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    let layout = black_box(layout(size));
                    for block in &mut blocks {
                        // SAFETY: the size isn't 0.
                        *block = unsafe { Millpond.alloc(layout) };
                    }
                    // SAFETY: each block is freed once with its layout.
                    let free = |&block: &*mut u8| unsafe { Millpond.dealloc(block, layout) };
                    match newest_first {
                        true => blocks.iter().rev().for_each(free),
                        false => blocks.iter().for_each(free),
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, at_once, batches);
criterion_main!(benches);
