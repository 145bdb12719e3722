//! Parallel loops against the loops that they stand for.

mod support;

use millpond_fiber::*;
use proptest::prelude::*;
use std::panic::{self, AssertUnwindSafe};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::{both_modes, watched};

fn runtimes() -> &'static [Runtime] {
    static RUNTIMES: OnceLock<Vec<Runtime>> = OnceLock::new();
    RUNTIMES.get_or_init(|| [1, 2, 64].into_iter().flat_map(both_modes).collect())
}

fn everywhere(test: impl Fn() + Sync) {
    watched(|| {
        for runtime in runtimes() {
            runtime.block_on(&test);
        }
        test();
    });
}

fn granularity() -> impl Strategy<Value = Granularity> {
    prop_oneof![
        Just(Granularity::Auto),
        (1..200usize).prop_map(Granularity::AtLeast),
        (1..200usize).prop_map(Granularity::Exactly),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn each_number_once(start in 0..1000usize, len in 0..5000usize, granularity in granularity()) {
        everywhere(|| {
            let seen: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            parallel_for_chunks(start..start + len, granularity, |part| {
                assert!(!part.is_empty());
                if let Granularity::Exactly(batch) = granularity {
                    assert_eq!((part.start - start) % batch, 0);
                    assert!(part.len() == batch || part.end == start + len);
                }
                for i in part {
                    seen[i - start].fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed) == 1));
        });
    }

    /// Concatenation is associative and not commutative.
    #[test]
    fn reductions_are_in_order(start in 0..1000usize, len in 0..3000usize, granularity in granularity()) {
        let range = start..start + len;
        let expected: String = range.clone().map(|i| format!("{i},")).collect();
        everywhere(|| {
            let op = |text: String, i: usize| text + &format!("{i},");
            let text = parallel_reduce(range.clone(), String::new, op, |a, b| a + &b);
            assert_eq!(text, expected);
            let text = parallel_reduce_chunks(
                range.clone(),
                granularity,
                String::new,
                |text, part| part.fold(text, op),
                |a, b| a + &b,
            );
            assert_eq!(text, expected);
        });
    }

    #[test]
    fn slices_are_written_once(len in 0..5000usize, skip in 0..40usize, granularity in granularity()) {
        everywhere(|| {
            let mut numbers = vec![0u32; len + skip];
            parallel_chunks_mut(&mut numbers[skip..], granularity, |first, chunk| {
                for (i, number) in chunk.iter_mut().enumerate() {
                    *number += (first + i + 1) as u32;
                }
            });
            assert!(numbers[..skip].iter().all(|&number| number == 0));
            assert!(numbers[skip..].iter().zip(1..).all(|(&a, b)| a == b));
            let sum = AtomicUsize::new(0);
            parallel_chunks(&numbers, granularity, |_, chunk| {
                sum.fetch_add(chunk.iter().sum::<u32>() as usize, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), len * (len + 1) / 2);
        });
    }
}

#[test]
fn empty_and_reversed_ranges() {
    #[expect(clippy::reversed_empty_ranges, reason = "what is tested")]
    everywhere(|| {
        parallel_for(5..5, |_| panic!("nothing to do"));
        parallel_for(5..3, |_| panic!("nothing to do"));
        parallel_for_chunks(7..7, 3, |_| panic!("nothing to do"));
        assert_eq!(parallel_reduce(0..0, || 9, |_, _| 1, |a, _| a), 9);
        parallel_chunks_mut(&mut [0u8; 0], Granularity::Auto, |_, _| {
            panic!("nothing to do")
        });
        parallel_chunks_mut(&mut [(); 100], 7, |_, chunk| assert!(chunk.len() <= 7));
        assert!(parallel_map(&[0; 0], |n: &i32| *n).is_empty());
    });
}

#[test]
fn batches_of_nothing_are_refused() {
    for batch in [Granularity::Exactly(0), Granularity::AtLeast(0)] {
        assert!(panic::catch_unwind(|| parallel_for_chunks(0..9, batch, |_| ())).is_err());
    }
}

#[test]
fn uneven_costs_and_waits() {
    everywhere(|| {
        let sum = AtomicUsize::new(0);
        parallel_for(0..300, |i| {
            if i % 100 == 0 {
                sleep(Duration::from_millis(2)).unwrap();
            } else if i % 10 == 0 {
                yield_now();
            } else if i % 7 == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
            sum.fetch_add(i, Ordering::Relaxed);
        });
        assert_eq!(sum.into_inner(), 299 * 150);
    });
}

#[test]
fn nested_loops() {
    everywhere(|| {
        let sum = AtomicUsize::new(0);
        parallel_for(0..50, |i| {
            parallel_for(0..100, |k| {
                sum.fetch_add(i * k, Ordering::Relaxed);
            });
            let inner = parallel_reduce(0..100, || 0, |sum, k| sum + k, |a, b| a + b);
            assert_eq!(inner, 4950);
        });
        assert_eq!(sum.into_inner(), 1225 * 4950);
    });
}

#[test]
fn two_items_run_at_once() {
    watched(|| {
        // As many items as there may be: each in a fiber of its own, if need be.
        runtimes()[2].block_on(|| {
            let barrier = sync::Barrier::new(2);
            parallel_for(0..2, |_| {
                barrier.wait();
            });
        });
    });
}

#[test]
fn panics_are_carried() {
    fn text<T>(work: impl FnOnce() -> T) -> &'static str {
        let result = panic::catch_unwind(AssertUnwindSafe(work));
        let payload = result.map(|_| ()).unwrap_err();
        *payload.downcast::<&str>().unwrap()
    }
    everywhere(|| {
        for at in [0, 1, 500, 999] {
            assert_eq!(
                text(|| parallel_for(0..1000, |i| assert!(i != at, "a body"))),
                "a body"
            );
        }
        let reduced = text(|| {
            parallel_reduce_chunks(
                0..1000,
                10,
                || 0,
                |sum, part| part.fold(sum, |sum, i| if i == 700 { panic!("an op") } else { sum }),
                |a, b| a + b,
            )
        });
        assert_eq!(reduced, "an op");
        assert_eq!(
            text(|| parallel_map(&[1, 2, 3], |_| -> u8 { panic!("a map") })),
            "a map"
        );
    });
    // With more than one worker there are parts to reduce.
    runtimes()[2].block_on(|| {
        let reduced =
            text(|| parallel_reduce(0..50, || 0, |sum, i| sum + i, |_, _| panic!("a reducer")));
        assert_eq!(reduced, "a reducer");
    });
}

#[test]
fn maps_keep_the_order() {
    everywhere(|| {
        let numbers: Vec<usize> = (0..3000).collect();
        let texts = parallel_map(&numbers, |n| n.to_string());
        assert!(
            texts
                .iter()
                .zip(0..)
                .all(|(text, n)| *text == format!("{n}"))
        );
    });
}

#[test]
fn loops_in_the_background() {
    everywhere(|| {
        static SUM: AtomicUsize = AtomicUsize::new(0);
        SUM.store(0, Ordering::Relaxed);
        let first = spawn_parallel_for(0..1000, |i| {
            SUM.fetch_add(i, Ordering::Relaxed);
        });
        let second = spawn_parallel_for_chunks(0..1000, 10, |part| {
            SUM.fetch_add(part.sum(), Ordering::Relaxed);
        });
        let text = spawn_parallel_reduce(
            0..500,
            String::new,
            |text, i| text + &format!("{i},"),
            |a, b| a + &b,
        );
        let counter = first.counter().clone();
        drop(first);
        counter.wait();
        second.counter().wait();
        assert!(second.is_finished() || second.join().is_ok());
        assert_eq!(SUM.load(Ordering::Relaxed), 999_000);
        let expected: String = (0..500).map(|i| format!("{i},")).collect();
        assert_eq!(text.join().unwrap(), expected);

        let panics = spawn_parallel_for(0..10, |_| panic!("in the background"));
        let counter = panics.counter().clone();
        assert!(panics.join().unwrap_err().is_panic());
        counter.wait();
    });
}
