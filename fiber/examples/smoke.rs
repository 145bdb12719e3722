use millpond_fiber::*;
use std::time::Instant;
fn main() {
    let workers = std::env::var("WORKERS").map_or(2, |w| w.parse().unwrap());
    let b = Runtime::builder().workers(workers);
    let b = if std::env::var("FREE").is_ok() {
        unsafe { b.migrate_started_fibers() }
    } else {
        b
    };
    let rt = b.build().unwrap();
    let n = 1_000_000u64;
    for round in 0..3 {
        let t = Instant::now();
        let s: u64 = rt.block_on(move || {
            let mut s = 0;
            for i in 0..n {
                s += spawn(move || i).join().unwrap();
            }
            s
        });
        assert_eq!(s, n * (n - 1) / 2);
        println!(
            "{round} spawn_sequential {:.1} ns",
            t.elapsed().as_nanos() as f64 / n as f64
        );
        let t = Instant::now();
        let s: u64 = rt.block_on(move || {
            let mut s = 0;
            for _ in 0..1000 {
                let h: Vec<_> = (0..1000u64).map(|i| spawn(move || i)).collect();
                for h in h {
                    s += h.join().unwrap();
                }
            }
            s
        });
        assert_eq!(s, 1000 * 999 * 500);
        println!(
            "{round} spawn batches {:.1} ns",
            t.elapsed().as_nanos() as f64 / n as f64
        );
        let t = Instant::now();
        rt.block_on(move || {
            let h: Vec<_> = (0..200)
                .map(|_| {
                    spawn(|| {
                        for _ in 0..5000 {
                            yield_now()
                        }
                    })
                })
                .collect();
            for h in h {
                h.join().unwrap();
            }
        });
        println!(
            "{round} yield {:.1} ns",
            t.elapsed().as_nanos() as f64 / n as f64
        );
        fn sky(num: u64, size: u64) -> u64 {
            if size == 1 {
                return num;
            }
            let s = size / 10;
            let h: [_; 10] = std::array::from_fn(|i| spawn(move || sky(num + i as u64 * s, s)));
            h.into_iter().map(|h| h.join().unwrap()).sum()
        }
        let t = Instant::now();
        let s = rt.block_on(|| sky(0, 1_000_000));
        assert_eq!(s, 499999500000);
        println!(
            "{round} skynet {:.1} ns/leaf",
            t.elapsed().as_nanos() as f64 / n as f64
        );
        fn fib(n: u32) -> u32 {
            if n < 2 {
                return n;
            }
            let h = spawn(move || fib(n - 1));
            let b = fib(n - 2);
            h.join().unwrap() + b
        }
        let t = Instant::now();
        assert_eq!(rt.block_on(|| fib(25)), 75025);
        println!(
            "{round} fib25 {:.1} ns/call",
            t.elapsed().as_nanos() as f64 / 242785.0
        );
        let t = Instant::now();
        rt.block_on(|| {
            let (tx, rx) = std::sync::mpsc::channel();
            let turn = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
            let me = current().unwrap();
            let t2 = turn.clone();
            let h = spawn(move || {
                tx.send(current().unwrap()).unwrap();
                for i in 0..500000 {
                    while t2.load(std::sync::atomic::Ordering::Acquire) != 2 * i + 1 {
                        park();
                    }
                    t2.store(2 * i + 2, std::sync::atomic::Ordering::Release);
                    me.unpark();
                }
            });
            let other = loop {
                match rx.try_recv() {
                    Ok(o) => break o,
                    Err(_) => yield_now(),
                }
            };
            for i in 0..500000 {
                turn.store(2 * i + 1, std::sync::atomic::Ordering::Release);
                other.unpark();
                while turn.load(std::sync::atomic::Ordering::Acquire) != 2 * i + 2 {
                    park();
                }
            }
            h.join().unwrap();
        });
        println!(
            "{round} park/unpark {:.1} ns",
            t.elapsed().as_nanos() as f64 / 500000.0
        );
    }
    println!("{:?}", rt.metrics());
}
