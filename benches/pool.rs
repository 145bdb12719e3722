//! Task records: made and dropped on one thread, in batches, and dropped on another thread; `Pool` beside `Box` with
//! the system's allocator.

use criterion::measurement::WallTime;
use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
};
use millpond::pool::{Pool, PoolBox};
use std::hint::black_box;
use std::ops::Deref;
use std::sync::mpsc;
use std::thread;

const BATCH: usize = 1000;

/// Three cache lines, of which the bench writes the first word.
type Task = [u64; 24];

static TASKS: Pool<Task> = Pool::new();

fn pooled(number: u64) -> PoolBox<Task> {
    TASKS.boxed([number; 24])
}

fn boxed(number: u64) -> Box<Task> {
    Box::new([number; 24])
}

/// One record at a time, dropped at once.
fn at_once(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool_at_once");
    group.throughput(Throughput::Elements(1));
    group.bench_function("pool", |bencher| {
        bencher.iter(|| black_box(pooled(black_box(1))))
    });
    group.bench_function("box", |bencher| {
        bencher.iter(|| black_box(boxed(black_box(1))))
    });
    group.finish();
}

fn batch_of<R>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, make: impl Fn(u64) -> R) {
    let mut records = Vec::with_capacity(BATCH);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            records.extend((0..BATCH as u64).map(&make));
            black_box(&mut records).clear();
        });
    });
}

/// A thousand records that live at the same time.
fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool_batches");
    group.throughput(Throughput::Elements(BATCH as u64));
    batch_of(&mut group, "pool", pooled);
    batch_of(&mut group, "box", boxed);
    group.finish();
}

/// What the pair costs when another thread drops: the time of a batch from the first record made to the last dropped,
/// with one hand-over for the batch.
fn handed_over<R>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, make: fn(u64) -> R)
where
    R: Deref<Target = Task> + Send + 'static,
{
    let (give, given) = mpsc::sync_channel::<Vec<R>>(1);
    let (done, is_done) = mpsc::sync_channel::<Vec<R>>(1);
    let dropper = thread::spawn(move || {
        for mut records in given {
            records.clear();
            done.send(records).unwrap();
        }
    });
    let mut records = Some(Vec::with_capacity(BATCH));
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || (),
            |()| {
                let mut batch = records.take().unwrap();
                batch.extend((0..BATCH as u64).map(make));
                give.send(batch).unwrap();
                records = Some(is_done.recv().unwrap());
            },
            BatchSize::PerIteration,
        );
    });
    drop(give);
    dropper.join().unwrap();
}

fn cross_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool_cross_thread");
    group.throughput(Throughput::Elements(BATCH as u64));
    handed_over(&mut group, "pool", pooled);
    handed_over(&mut group, "box", boxed);
    group.finish();
}

criterion_group!(benches, at_once, batches, cross_thread);
criterion_main!(benches);
