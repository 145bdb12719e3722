//! First touches ahead of carving: which memory a growing heap makes resident before its blocks are handed out.

mod support;

use millpond::Millpond;
use support::block::Block;
use support::process::MIB;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

support::harness::each_alone! {
    a_large_heap_touches_ahead,
    a_small_heap_does_not,
    larger_blocks_are_left_alone,
    the_option_switches_it_off,
    what_was_touched_ahead_reads_as_zero,
}

/// What is made resident at a time.
const PIECE: usize = 32 << 10;
const SYSTEM_PAGE: usize = 4096;

/// How many system pages of the piece at `start` are resident.
fn resident_pages(start: usize) -> usize {
    let mut states = [0_u8; PIECE / SYSTEM_PAGE];
    let at = std::ptr::without_provenance_mut(start);
    // SAFETY: there is room for a byte for each system page; mincore looks at nothing else.
    let result = unsafe { libc::mincore(at, PIECE, states.as_mut_ptr()) };
    assert_eq!(result, 0, "mincore");
    states.iter().filter(|&&state| state & 1 == 1).count()
}

/// Fills memory up to `from_mib` with blocks of `size` bytes, and then of as many more again looks at the pieces that a
/// block is the first of, right when it is handed out: how many system pages of each were resident.
fn at_first_blocks(size: usize, from_mib: u64) -> Vec<usize> {
    let count = (from_mib * MIB / size as u64) as usize;
    let mut held = Vec::with_capacity(2 * count);
    held.extend((0..count).map(|_| Block::new(size)));
    let mut seen = Vec::with_capacity(count);
    for _ in 0..count {
        let block = Block::new(size);
        let start = block.start().addr().get();
        if start.is_multiple_of(PIECE) {
            seen.push(resident_pages(start));
        }
        held.push(block);
    }
    assert!(seen.len() > 50, "{} blocks start a piece", seen.len());
    seen
}

/// Whether the system knows how to do it, with pages as they are here.
fn is_known() -> bool {
    const MADV_POPULATE_WRITE: libc::c_int = 23;
    // SAFETY: no preconditions; a mapping that nothing else knows of.
    let known = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let map = libc::mmap(std::ptr::null_mut(), PIECE, access, flags, -1, 0);
        libc::sysconf(libc::_SC_PAGESIZE) == SYSTEM_PAGE as libc::c_long
            && libc::madvise(map, PIECE, MADV_POPULATE_WRITE) == 0
    };
    if !known {
        println!("this system doesn't populate memory on request: nothing to test");
    }
    known
}

/// They would make more resident, also where the system makes them without being asked.
fn without_huge_pages() {
    millpond::set_option("huge_pages", "0").unwrap();
    // SAFETY: no memory is passed. A system without huge pages refuses it, which is as good.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

fn a_large_heap_touches_ahead() {
    without_huge_pages();
    if is_known() {
        let seen = at_first_blocks(512, 80);
        assert!(seen.iter().all(|&pages| pages == PIECE / SYSTEM_PAGE));
    }
}

fn a_small_heap_does_not() {
    without_huge_pages();
    let seen = at_first_blocks(512, 24);
    assert!(seen.iter().all(|&pages| pages <= 2), "{seen:?}");
}

fn larger_blocks_are_left_alone() {
    without_huge_pages();
    // Of a class above 4 KiB with a stride that pieces begin at now and then.
    let seen = at_first_blocks(5000, 80);
    assert!(seen.iter().all(|&pages| pages <= 2), "{seen:?}");
}

fn the_option_switches_it_off() {
    without_huge_pages();
    millpond::set_option("prefault", "0").unwrap();
    let seen = at_first_blocks(512, 80);
    assert!(seen.iter().all(|&pages| pages <= 2), "{seen:?}");
}

fn what_was_touched_ahead_reads_as_zero() {
    let count = (160 * MIB / 512) as usize;
    let mut held: Vec<Vec<u8>> = Vec::with_capacity(count);
    held.extend((0..count).map(|_| vec![0; 512]));
    assert!(held.iter().flatten().all(|&byte| byte == 0));
    for bytes in &mut held {
        bytes.fill(0xa5);
    }
    // What was in use is old now, and what is carved behind it is not.
    held.truncate(count / 2);
    held.extend((0..count).map(|_| vec![0; 512]));
    assert!(held[count / 2..].iter().flatten().all(|&byte| byte == 0));
}
