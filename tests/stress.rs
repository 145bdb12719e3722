//! Seeded threads that allocate, resize and free blocks of all sizes, their own and each other's, with patterns.

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use std::thread;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

struct Block {
    address: usize,
    layout: Layout,
    mark: u8,
}

impl Block {
    fn new(random: &mut Random) -> Self {
        let size = match random.below(1000) {
            0..800 => random.below(1024),
            800..960 => random.below(40_000),
            960..996 => random.below(300_000),
            _ => random.below(3_000_000),
        } as usize;
        let align = 1
            << if random.below(8) == 0 {
                random.below(14)
            } else {
                random.below(5)
            };
        let layout = Layout::from_size_align(size, align).unwrap();
        let zeroed = random.below(4) == 0;
        // SAFETY: sizes of zero are allowed by Millpond.
        let address = unsafe {
            if zeroed {
                Millpond.alloc_zeroed(layout)
            } else {
                Millpond.alloc(layout)
            }
        }
        .addr();
        assert_ne!(address, 0);
        assert_eq!(address % align, 0);
        let block = Self {
            address,
            layout,
            mark: random.next() as u8,
        };
        if zeroed {
            assert!(
                block.bytes().iter().all(|&byte| byte == 0),
                "alloc_zeroed of {layout:?} is not zero"
            );
        }
        block.bytes().fill(block.mark);
        block
    }

    #[allow(clippy::mut_from_ref)]
    fn bytes(&self) -> &mut [u8] {
        // SAFETY: the block is live and this is its only user.
        unsafe {
            std::slice::from_raw_parts_mut(
                std::ptr::with_exposed_provenance_mut(self.address),
                self.layout.size(),
            )
        }
    }

    fn check(&self) {
        assert!(
            self.bytes().iter().all(|&byte| byte == self.mark),
            "a block of {:?} was overwritten",
            self.layout
        );
    }

    fn resize(mut self, random: &mut Random) -> Self {
        self.check();
        let size = random.below(2 * self.layout.size() as u64 + 64) as usize;
        let pointer = std::ptr::with_exposed_provenance_mut(self.address);
        // SAFETY: the block is live with this layout; size 0 is allowed by Millpond.
        let new = unsafe { Millpond.realloc(pointer, self.layout, size) };
        assert!(!new.is_null());
        let kept = self.layout.size().min(size);
        self.address = new.addr();
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        assert!(self.bytes()[..kept].iter().all(|&byte| byte == self.mark));
        self.bytes().fill(self.mark);
        self
    }

    fn free(self) {
        self.check();
        // SAFETY: the block is live with this layout.
        unsafe {
            Millpond.dealloc(
                std::ptr::with_exposed_provenance_mut(self.address),
                self.layout,
            )
        };
    }
}

#[test]
fn blocks_keep_their_contents() {
    const THREADS: u64 = 6;
    let shared: Vec<Mutex<Vec<Block>>> = (0..THREADS).map(|_| Mutex::new(Vec::new())).collect();
    let rounds = if cfg!(debug_assertions) { 20 } else { 60 };
    for round in 0..rounds {
        thread::scope(|scope| {
            for id in 0..THREADS {
                let shared = &shared;
                scope.spawn(move || {
                    let mut random = Random(0x9E37_79B9 + round * THREADS + id);
                    let mut own: Vec<Block> =
                        std::mem::take(&mut *shared[id as usize].lock().unwrap());
                    for _ in 0..1500 {
                        match random.below(10) {
                            0..5 => own.push(Block::new(&mut random)),
                            5..7 if !own.is_empty() => {
                                let at = random.below(own.len() as u64) as usize;
                                own.swap_remove(at).free();
                            }
                            7 if !own.is_empty() => {
                                let at = random.below(own.len() as u64) as usize;
                                let block = own.swap_remove(at).resize(&mut random);
                                own.push(block);
                            }
                            _ if !own.is_empty() => {
                                let at = random.below(own.len() as u64) as usize;
                                let to = random.below(THREADS) as usize;
                                let block = own.swap_remove(at);
                                shared[to].lock().unwrap().push(block);
                            }
                            _ => {}
                        }
                        if own.len() > 400 {
                            own.drain(..200).for_each(Block::free);
                        }
                    }
                    shared[(id as usize + 1) % THREADS as usize]
                        .lock()
                        .unwrap()
                        .append(&mut own);
                });
            }
        });
    }
    for blocks in &shared {
        blocks.lock().unwrap().drain(..).for_each(Block::free);
    }
    millpond::collect(true);
    let stats = millpond::stats();
    let drained =
        stats.drained_active + stats.drained_partial + stats.drained_full + stats.drained_abandoned;
    // The harness's own main thread sleeps on a heap of its own; what was freed into that can't be drained before it
    // wakes. tests/counters.rs asserts the exact sums without a harness.
    assert!(
        (drained..drained + 100).contains(&stats.remote_frees),
        "{stats:#?}"
    );
    assert!(stats.remote_frees > 0);
    assert_eq!((stats.misaligned_pages, stats.registry_misses), (0, 0));
    assert_eq!(stats.fresh_pages_with_news_pending, 0);
}
