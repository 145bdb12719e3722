//! Blocks over 32 MiB in a loop: allocate, write to some of it, free. Beside the system's allocator, which maps and
//! unmaps each time.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout, System};

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const MIB: usize = 1 << 20;
const PAGE: usize = 4096;

/// Allocates a block, writes a byte to each of its first `pages`, and frees it.
fn use_block(allocator: &impl GlobalAlloc, size: usize, pages: usize) {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // SAFETY: the size isn't 0; the pages lie in the block, which is freed once with its layout.
    unsafe {
        let block = allocator.alloc(layout);
        assert!(!block.is_null());
        for page in 0..pages.min(size / PAGE) {
            block.add(page * PAGE).write_volatile(1);
        }
        allocator.dealloc(block, layout);
    }
}

fn loops(criterion: &mut Criterion, name: &str, allocator: &impl GlobalAlloc) {
    let mut group = criterion.benchmark_group(name);
    for (touched, pages) in [("one_page", 1), ("4_mib", 1024), ("every_page", usize::MAX)] {
        for size in [40, 100] {
            group.bench_function(BenchmarkId::new(touched, size), |bencher| {
                bencher.iter(|| use_block(allocator, size * MIB, pages));
            });
        }
    }
    group.bench_function("every_page/40_to_100", |bencher| {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        bencher.iter(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            use_block(allocator, (40 + seed as usize % 61) * MIB, usize::MAX);
        });
    });
    group.finish();
}

fn all(criterion: &mut Criterion) {
    loops(criterion, "millpond", &Millpond);
    loops(criterion, "system", &System);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(1));
    targets = all
}
criterion_main!(benches);
