use millpond_fiber::*;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex};
fn main() {
    let n: u32 = std::env::args().nth(1).map_or(1000, |a| a.parse().unwrap());
    let rt = Runtime::builder().workers(1).build().unwrap();
    let t = std::time::Instant::now();
    rt.block_on(move || {
        let slot = Arc::new(Mutex::new(None));
        let turn = Arc::new(AtomicU32::new(0));
        let me = current().unwrap();
        let (t2, s2) = (turn.clone(), slot.clone());
        let h = spawn(move || {
            *s2.lock().unwrap() = current();
            for i in 0..n {
                while t2.load(Acquire) != 2 * i + 1 {
                    park();
                }
                t2.store(2 * i + 2, Release);
                me.unpark();
            }
        });
        while slot.lock().unwrap().is_none() {
            yield_now()
        }
        let other = slot.lock().unwrap().clone().unwrap();
        for i in 0..n {
            turn.store(2 * i + 1, Release);
            other.unpark();
            while turn.load(Acquire) != 2 * i + 2 {
                park();
            }
        }
        h.join().unwrap();
    });
    eprintln!("{:.1} ns", t.elapsed().as_nanos() as f64 / n as f64);
}
