//! `millpond::pool` as its users see it: layout, drops, threads, panics, sizes of every kind, and a model.
//!
//! Here the program's allocator is the system's; `pool_global.rs` runs the same tests where it is Millpond.

use millpond::pool::{Pool, PoolBox, PoolError};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::fmt::{Debug, Display, Pointer};
use std::future::Future;
use std::hash::Hash;
use std::mem::MaybeUninit;
use std::panic::{AssertUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

const LINE: usize = 64;

/// A record of `N` bytes at a multiple of `align_of::<A>()`.
#[derive(Clone, Debug, PartialEq)]
#[repr(C)]
struct Sized<A, const N: usize> {
    align: [A; 0],
    bytes: [u8; N],
}

impl<A, const N: usize> Sized<A, N> {
    fn new(byte: u8) -> Self {
        Self {
            align: [],
            bytes: [byte; N],
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
#[repr(align(256))]
struct Align256;

#[derive(Clone, Debug, PartialEq)]
#[repr(align(8192))]
struct Align8192;

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counter() -> Arc<AtomicUsize> {
    Arc::new(AtomicUsize::new(0))
}

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::Relaxed)
}

/// Three hundred records of a type: where they lie, whether they keep what they hold, and whether they come back.
fn check_layout<A, const N: usize>() {
    type Of<A, const N: usize> = Pool<Sized<A, N>>;
    let pool = Of::<A, N>::new();
    let (size, align) = (Of::<A, N>::SIZE, Of::<A, N>::ALIGN);
    assert_eq!(align, align_of::<A>().max(LINE));
    assert_eq!(size, N.next_multiple_of(align));
    let mut lines = HashSet::new();
    let mut records: Vec<_> = (0..300)
        .map(|at| pool.boxed(Sized::new(at as u8)))
        .collect();
    for record in &records {
        let start = PoolBox::as_ptr(record).addr().get();
        assert_eq!(start % align, 0, "{N} bytes at a multiple of {align}");
        for line in start / LINE..(start + N).div_ceil(LINE) {
            assert!(lines.insert(line), "two records of {N} bytes share a line");
        }
    }
    for (at, record) in records.iter_mut().enumerate() {
        assert!(record.bytes.iter().all(|&byte| byte == at as u8));
        record.bytes.fill(0xEE);
    }
}

#[test]
fn records_have_cache_lines_of_their_own() {
    check_layout::<u8, 1>();
    check_layout::<u8, 63>();
    check_layout::<u64, 64>();
    check_layout::<u8, 65>();
    check_layout::<u64, 200>();
    check_layout::<u64, 513>();
    check_layout::<u64, 1024>();
    check_layout::<u64, 1088>();
    check_layout::<u8, 5000>();
    check_layout::<Align256, 1>();
    check_layout::<Align256, 256>();
    check_layout::<Align256, 700>();
    check_layout::<Align8192, 100>();
    check_layout::<u8, 100_000>();
}

#[test]
fn large_and_huge_records() {
    fn check<const N: usize>() {
        let pool = Pool::<Sized<u64, N>>::new();
        // SAFETY: the place is one value's, and zero is a value of every byte.
        let make = || unsafe { pool.boxed_with(|place| place.as_mut_ptr().write_bytes(0, 1)) };
        let mut record = make();
        let other = make();
        record.bytes[N - 1] = 1;
        assert_eq!((other.bytes[0], other.bytes[N - 1]), (0, 0));
        let record = thread::spawn(move || {
            drop(other);
            record
        });
        assert_eq!(record.join().unwrap().bytes[N - 1], 1);
    }
    check::<{ 128 << 10 }>();
    check::<{ (128 << 10) + 1 }>();
    check::<{ 3 << 20 }>();
    check::<{ 40 << 20 }>();
}

#[test]
fn alignments_beyond_a_class() {
    #[repr(align(262_144))]
    struct Aligned([u8; 100]);
    let pool = Pool::<Aligned>::new();
    // SAFETY: the place is one value's, and any byte is a value of every byte.
    let make = |at| unsafe { pool.boxed_with(|place| place.as_mut_ptr().write_bytes(at, 1)) };
    let records: Vec<PoolBox<Aligned>> = (0..4).map(make).collect();
    for (at, record) in records.iter().enumerate() {
        assert_eq!(PoolBox::as_ptr(record).addr().get() % 262_144, 0);
        assert_eq!(record.0, [at as u8; 100]);
    }
}

#[test]
fn a_record_freed_here_is_the_next_one() {
    let pool = Pool::<[u64; 30]>::new();
    let (_first, second) = (pool.boxed([1; 30]), pool.boxed([2; 30]));
    let address = PoolBox::as_ptr(&second);
    drop(second);
    if !millpond::PASSES_THROUGH {
        assert_eq!(PoolBox::as_ptr(&pool.boxed([3; 30])), address);
    }
}

#[test]
fn values_of_size_zero_take_no_memory() {
    thread_local!(static DROPS: Cell<u32> = const { Cell::new(0) });
    #[repr(align(256))]
    struct Nothing;
    impl Drop for Nothing {
        fn drop(&mut self) {
            DROPS.set(DROPS.get() + 1);
        }
    }
    let pool = Pool::<Nothing>::new();
    assert_eq!(Pool::<Nothing>::SIZE, 0);
    let (one, two) = (pool.boxed(Nothing), pool.boxed(Nothing));
    assert_eq!(PoolBox::as_ptr(&one).addr().get() % 256, 0);
    drop(one);
    assert_eq!(DROPS.get(), 1);
    let raw = PoolBox::into_raw(two);
    // SAFETY: the pointer is from `into_raw`.
    drop(PoolBox::into_inner(unsafe { PoolBox::from_raw(raw) }));
    assert_eq!(DROPS.get(), 2);
    // SAFETY: a value of size 0 has nothing to write.
    drop(unsafe { pool.boxed_with(|_| ()) });
    assert_eq!(DROPS.get(), 3);
}

#[test]
fn values_are_dropped_once() {
    let drops = counter();
    let pool = Pool::new();
    drop(pool.boxed(Counted(drops.clone())));
    assert_eq!(count(&drops), 1);
    drop(PoolBox::into_inner(pool.boxed(Counted(drops.clone()))));
    assert_eq!(count(&drops), 2);
    let raw = PoolBox::into_raw(pool.boxed(Counted(drops.clone())));
    assert_eq!(count(&drops), 2);
    // SAFETY: the pointer is from `into_raw`.
    drop(unsafe { PoolBox::from_raw(raw) });
    assert_eq!(count(&drops), 3);
    drop(pool.boxed_pin(Counted(drops.clone())));
    assert_eq!(count(&drops), 4);
    let written = PoolBox::write(pool.boxed_uninit(), Counted(drops.clone()));
    drop(pool.boxed_uninit());
    assert_eq!(count(&drops), 4);
    drop(written);
    assert_eq!(count(&drops), 5);
    let leaked = PoolBox::leak(pool.boxed(Counted(drops.clone())));
    assert_eq!(count(&drops), 5);
    // SAFETY: the pointer is that of the box that was leaked.
    drop(unsafe { PoolBox::from_raw(leaked.into()) });
    assert_eq!(count(&drops), 6);
    assert!(pool.try_boxed(Counted(drops.clone())).is_ok());
    assert_eq!(count(&drops), 7);
}

#[test]
fn records_are_freed_on_any_thread() {
    const THREADS: usize = 4;
    const EACH: usize = 5000;
    static TASKS: Pool<(usize, Counted)> = Pool::new();
    let drops = counter();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS)
        .map(|_| mpsc::channel::<PoolBox<(usize, Counted)>>())
        .unzip();
    thread::scope(|scope| {
        for (me, receiver) in receivers.into_iter().enumerate() {
            let (senders, drops) = (senders.clone(), &drops);
            scope.spawn(move || {
                for at in 0..EACH {
                    let to = (me + at) % THREADS;
                    let task = TASKS.boxed((at * THREADS + me, Counted(drops.clone())));
                    senders[to].send(task).unwrap();
                }
                drop(senders);
                for task in receiver {
                    assert_eq!((task.0 / THREADS + task.0) % THREADS, me);
                }
            });
        }
        drop(senders);
    });
    assert_eq!(count(&drops), THREADS * EACH);
}

/// Panics when dropped, after it has counted. Of a size that nothing else here has: the panic itself allocates, too.
struct Panics {
    _counted: Counted,
    _more: [u64; 50],
}

impl Panics {
    fn new(drops: &Arc<AtomicUsize>) -> Self {
        Self {
            _counted: Counted(drops.clone()),
            _more: [0; 50],
        }
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("dropped"));
    }
}

#[test]
fn a_panic_in_drop_frees_the_record() {
    let drops = counter();
    let pool = Pool::new();
    let record = pool.boxed(Panics::new(&drops));
    let address = PoolBox::as_ptr(&record);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(record))).is_err());
    assert_eq!(count(&drops), 1);
    if !millpond::PASSES_THROUGH {
        let next = pool.boxed(Panics::new(&drops));
        let reused = PoolBox::as_ptr(&next);
        std::mem::forget(PoolBox::into_inner(next));
        assert_eq!(reused, address, "the record was leaked");
    }
}

#[test]
fn a_panic_in_init_frees_the_record_and_drops_nothing() {
    let drops = counter();
    let pool = Pool::new();
    // Of a size of its own, as above.
    let value = || (Counted(drops.clone()), [0_u64; 60]);
    let address = PoolBox::as_ptr(&pool.boxed(value())).addr();
    let panics = |place: &mut MaybeUninit<_>| {
        place.write(value());
        std::panic::resume_unwind(Box::new("half way"));
    };
    // SAFETY: `panics` doesn't return.
    let made = catch_unwind(AssertUnwindSafe(|| unsafe { pool.boxed_with(panics) }));
    assert!(made.is_err());
    assert_eq!(count(&drops), 1);
    if !millpond::PASSES_THROUGH {
        assert_eq!(PoolBox::as_ptr(&pool.boxed(value())).addr(), address);
    }
}

#[test]
fn large_values_are_made_in_place() {
    // Larger than the stack of the thread that makes it.
    let made = thread::Builder::new().stack_size(128 << 10).spawn(|| {
        static IMAGES: Pool<[u32; 1 << 20]> = Pool::new();
        let fill = |place: &mut MaybeUninit<[u32; 1 << 20]>| {
            let first = place.as_mut_ptr().cast::<u32>();
            for at in 0..1 << 20 {
                // SAFETY: the element lies in the array.
                unsafe { first.add(at).write(at as u32) };
            }
        };
        // SAFETY: every element is written.
        unsafe { IMAGES.boxed_with(fill) }
    });
    let image = made.unwrap().join().unwrap();
    assert!(image.iter().enumerate().all(|(at, &x)| at as u32 == x));
}

#[test]
fn exhausted_memory_gives_the_value_back() {
    // More than any address space: no system grants it.
    type Absurd = Sized<u8, { 1 << 56 }>;
    let error = Pool::<Absurd>::new().try_boxed_uninit().unwrap_err();
    assert_eq!(error.to_string(), "no memory left for a record");
    assert_eq!(format!("{error:?}"), "PoolError(..)");
    fn is_error<E: Error + Send + Sync + 'static>(_: &E) {}
    is_error(&error);
    error.into_inner();
    let made: Result<PoolBox<_>, PoolError<_>> = Pool::new().try_boxed(5);
    assert_eq!(*made.unwrap(), 5);
}

#[test]
fn the_traits_of_a_box() {
    fn shared<T: Send + Sync + Unpin + UnwindSafe>() {}
    shared::<PoolBox<u8>>();
    shared::<Pool<*const u8>>();
    fn unpin<T: Unpin>() {}
    unpin::<PoolBox<std::marker::PhantomPinned>>();
    fn printed<T: Debug + Display + Pointer + Clone + Ord + Hash>() {}
    printed::<PoolBox<String>>();
    assert_eq!(size_of::<Option<PoolBox<[u8; 100]>>>(), size_of::<usize>());

    let pool = Pool::new();
    let mut text = pool.boxed(String::from("a"));
    text.push('b');
    let copy = text.clone();
    assert_eq!(text, copy);
    assert_ne!(PoolBox::as_ptr(&text), PoolBox::as_ptr(&copy));
    assert!(pool.boxed(String::from("b")) > text);
    assert_eq!(format!("{text} {text:?}"), "ab \"ab\"");
    let address = PoolBox::as_ptr(&text);
    assert_eq!(format!("{text:p}"), format!("{address:p}"));
    assert!(HashSet::from([text]).contains(&String::from("ab")));
    assert_eq!(
        format!("{:?}", Pool::<u8>::new()),
        "Pool { record: \"u8\", size: 64, align: 64 }"
    );
}

#[test]
fn a_pinned_record_is_a_future() {
    struct Twice(u32, std::marker::PhantomPinned);
    impl Future for Twice {
        type Output = u32;
        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<u32> {
            // SAFETY: the value isn't moved.
            let this = unsafe { self.get_unchecked_mut() };
            this.0 += 1;
            context.waker().wake_by_ref();
            if this.0 < 2 {
                return Poll::Pending;
            }
            Poll::Ready(this.0)
        }
    }
    let mut future = pin!(Pool::new().boxed_pin(Twice(0, std::marker::PhantomPinned)));
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    assert_eq!(future.as_mut().poll(&mut context), Poll::Ready(2));
}

#[test]
fn records_live_through_thread_exit() {
    // Made, and freed, by destructors of thread-local values.
    struct Leaves(Option<PoolBox<Counted>>, mpsc::Sender<PoolBox<Counted>>);
    impl Drop for Leaves {
        fn drop(&mut self) {
            let old = self.0.take().unwrap();
            self.1
                .send(Pool::new().boxed(Counted(old.0.clone())))
                .unwrap();
        }
    }
    thread_local!(static LEAVES: Cell<Option<Leaves>> = const { Cell::new(None) });
    let drops = counter();
    let (sender, receiver) = mpsc::channel();
    for _ in 0..50 {
        let (sender, drops) = (sender.clone(), drops.clone());
        let thread = thread::spawn(move || {
            LEAVES.set(Some(Leaves(
                Some(Pool::new().boxed(Counted(drops))),
                sender,
            )));
        });
        thread.join().unwrap();
    }
    drop(sender);
    assert_eq!(count(&drops), 50);
    assert_eq!(receiver.into_iter().count(), 50);
    assert_eq!(count(&drops), 100);
}

/// What a step of the model does.
#[derive(Clone, Debug)]
enum Step {
    Make(u64),
    Drop(usize),
    DropElsewhere(usize),
    Write(usize, u64),
    Raw(usize),
    Take(usize),
    Clone(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<usize>();
    prop_oneof![
        4 => any::<u64>().prop_map(Step::Make),
        2 => at.prop_map(Step::Drop),
        1 => at.prop_map(Step::DropElsewhere),
        2 => (at, any::<u64>()).prop_map(|(at, value)| Step::Write(at, value)),
        1 => at.prop_map(Step::Raw),
        1 => at.prop_map(Step::Take),
        1 => at.prop_map(Step::Clone),
    ]
}

/// Runs the steps on records of `WORDS` words, beside a map from addresses to what should be there.
fn against_a_model<const WORDS: usize>(steps: &[Step]) {
    let pool = Pool::<[u64; WORDS]>::new();
    let mut records: Vec<PoolBox<[u64; WORDS]>> = Vec::new();
    let mut model = BTreeMap::new();
    for step in steps {
        let pick = |at: &usize| (!records.is_empty()).then(|| at % records.len());
        let key = |record: &PoolBox<[u64; WORDS]>| PoolBox::as_ptr(record).addr();
        let made = match step {
            Step::Make(value) => Some(pool.boxed([*value; WORDS])),
            Step::Clone(at) => pick(at).map(|at| records[at].clone()),
            Step::Write(at, value) => {
                if let Some(at) = pick(at) {
                    records[at].fill(*value);
                    model.insert(key(&records[at]), *value);
                }
                None
            }
            Step::Raw(at) => pick(at).map(|at| {
                let record = records.swap_remove(at);
                model.remove(&key(&record));
                // SAFETY: the pointer is from `into_raw`.
                unsafe { PoolBox::from_raw(PoolBox::into_raw(record)) }
            }),
            Step::Drop(at) | Step::DropElsewhere(at) | Step::Take(at) => {
                if let Some(at) = pick(at) {
                    let record = records.swap_remove(at);
                    let value = model.remove(&key(&record)).unwrap();
                    assert_eq!(*record, [value; WORDS]);
                    match step {
                        Step::Drop(_) => drop(record),
                        Step::Take(_) => assert_eq!(PoolBox::into_inner(record), [value; WORDS]),
                        _ => thread::spawn(move || drop(record)).join().unwrap(),
                    }
                }
                None
            }
        };
        if let Some(record) = made {
            let there = model.insert(key(&record), record[0]);
            assert_eq!(there, None, "the record is another's");
            records.push(record);
        }
    }
    for record in &records {
        assert_eq!(**record, [model[&PoolBox::as_ptr(record).addr()]; WORDS]);
    }
    assert_eq!(records.len(), model.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pools_follow_the_model(steps in prop::collection::vec(step(), 1..300)) {
        against_a_model::<1>(&steps);
        against_a_model::<24>(&steps);
        against_a_model::<200>(&steps);
    }
}
