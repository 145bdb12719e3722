//! From an address to its page's descriptor: the look-up alone (`usable_size`), for few and for many pages, in order
//! and at random, and what claiming and giving back a large block or a mapping of its own costs with it.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::ptr::NonNull;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("look_up");
    for pages in [1, 100, 10_000] {
        // 4 KiB blocks, 16 to a page; one of each page.
        let blocks: Vec<NonNull<u8>> = (0..pages * 16)
            // SAFETY: the size isn't 0.
            .map(|_| NonNull::new(unsafe { Millpond.alloc(layout(4096)) }).unwrap())
            .collect();
        let mut addresses: Vec<NonNull<u8>> = blocks.iter().copied().step_by(16).collect();
        group.throughput(Throughput::Elements(pages as u64));
        for order in ["in_order", "at_random"] {
            if order == "at_random" {
                let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
                for at in (1..addresses.len()).rev() {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    addresses.swap(at, seed as usize % (at + 1));
                }
            }
            group.bench_function(BenchmarkId::new(order, pages), |bencher| {
                bencher.iter(|| {
                    // SAFETY: the blocks are live.
                    let size = |&block| unsafe { millpond::usable_size(black_box(block)) };
                    addresses.iter().map(size).sum::<usize>()
                });
            });
        }
        for block in blocks {
            // SAFETY: each block is freed once with its layout.
            unsafe { Millpond.dealloc(block.as_ptr(), layout(4096)) };
        }
    }
    group.finish();
}

fn large_blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("large_blocks");
    for size in [200 << 10, 4 << 20, 40 << 20] {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                // SAFETY: the size isn't 0, and the block is freed once with its layout.
                unsafe {
                    let block = black_box(Millpond.alloc(layout(size)));
                    Millpond.dealloc(block, layout(size));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, look_up, large_blocks);
criterion_main!(benches);
