//! Misuse ends the process with one line on standard error and `abort`, wherever it is noticed; malformed options get
//! one line each and change nothing.
//!
//! Not noticed, and so not tested: a second free of a block whose page still has live blocks (it is on a list, or was
//! handed out again), and pointers into the middle of blocks of up to 128 KiB.

mod support;

use millpond::Millpond;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::{Barrier, Mutex};
use support::block::{Block, blocks};
use support::child;
use support::thread::beside;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const FOREIGN: &str =
    "freeing a pointer that Millpond did not allocate, or whose block is freed already";
const INTERIOR: &str =
    "freeing a pointer into the middle of a block; free takes the pointer that alloc returned";
const DOUBLE_FREE: &str =
    "this block is freed twice, or was never allocated; look for a second free of it";

const CORRUPTED: &str = "this address is on the free list of its page where it can't be: a block was freed twice, or something \
    wrote to it after it was freed";

/// What a child that should have been ended says.
const SURVIVED: &str = "nothing was noticed";

type Scenario = (&'static str, fn());

/// What the child processes do.
const SCENARIOS: &[Scenario] = &[
    ("free_of_a_stack_address", || {
        let mut place = [0_u64; 16];
        free(place.as_mut_ptr().cast(), 128, 8);
    }),
    ("free_of_a_static", || {
        static PLACE: [u64; 16] = [0; 16];
        free(PLACE.as_ptr().cast_mut().cast(), 128, 8);
    }),
    ("free_of_a_small_block_of_the_system", || {
        free_system_block(64)
    }),
    ("free_of_a_4_kib_block_of_the_system", || {
        free_system_block(4096)
    }),
    ("free_of_a_mapped_block_of_the_system", || {
        free_system_block(1 << 20)
    }),
    ("free_of_a_recycled_class_of_the_system", || {
        // This thread has credit for the class: its frees take another way.
        let own = blocks(2000, 50);
        own.into_iter().for_each(Block::free);
        free_system_block(2000);
    }),
    ("free_of_address_16", || free(address(0x10), 8, 8)),
    ("free_of_a_large_block_at_address_16", || {
        free(address(0x10), 1 << 20, 8)
    }),
    ("free_above_47_bits", || {
        free(address(0x9000_0000_0000), 64, 8)
    }),
    ("free_of_a_kernel_address", || {
        free(address(0xFFFF_8000_0000_0000), 64, 8)
    }),
    ("usable_size_of_a_stack_address", || {
        let place = 0_u64;
        let start = NonNull::from(&place).cast();
        tell(start);
        // SAFETY: none: this is the misuse.
        unsafe { millpond::usable_size(start) };
    }),
    ("realloc_of_a_stack_address", || {
        let mut place = [0_u64; 16];
        let start = NonNull::from(&mut place).cast::<u8>();
        tell(start);
        // SAFETY: none: this is the misuse.
        unsafe { Millpond.realloc(start.as_ptr(), Layout::new::<[u64; 16]>(), 4000) };
    }),
    ("interior_of_a_large_block", || {
        free_inside(1 << 20, 3 * 65536 + 128)
    }),
    ("interior_of_a_large_block_first_slice", || {
        free_inside(1 << 20, 16)
    }),
    ("interior_of_a_huge_block", || {
        free_inside(100 << 20, 5 << 20)
    }),
    ("interior_of_a_huge_block_far_in", || {
        free_inside(100 << 20, 80 << 20)
    }),
    ("double_free_of_a_large_block", || free_twice(1 << 20)),
    ("double_free_of_a_huge_block", || free_twice(100 << 20)),
    ("free_into_a_cached_mapping", || {
        let block = Block::new(100 << 20);
        let inside = block.start().as_ptr().wrapping_add(5 << 20);
        block.free();
        free(inside, 100 << 20, 8);
    }),
    ("double_free_in_a_free_page", || {
        // More than two pages of the class, of which the second is wholly free then, and kept.
        let mut all = blocks(128, 1600);
        let again = all[800].start();
        all.drain(..1200).for_each(Block::free);
        free(again.as_ptr(), 128, 8);
    }),
    ("double_free_in_a_released_page", || {
        millpond::set_option("heap_reserve_kib", "0").unwrap();
        let mut all = blocks(128, 1600);
        let again = all[800].start();
        all.drain(..1200).for_each(Block::free);
        free(again.as_ptr(), 128, 8);
    }),
    ("double_free_in_a_page_freed_remotely", || {
        double_free_remotely(1024, 0)
    }),
    ("double_free_in_a_page_discarded_remotely", || {
        // 32 MiB: beyond the reserve, the last freer of each page discards it.
        double_free_remotely(262_144, 262_144 - 800);
    }),
    ("double_free_found_on_a_list", || double_free_of_some(false)),
    ("write_after_free_found_on_a_list", || {
        double_free_of_some(true)
    }),
    ("options", || {
        for option in millpond::options() {
            println!("\noption {}={}", option.name, option.value);
        }
    }),
];

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn scenario() {
    let Some(name) = child::scenario() else {
        return;
    };
    let (_, run) = SCENARIOS.iter().find(|(known, _)| *known == name).unwrap();
    run();
    println!("{SURVIVED}");
}

fn address(address: usize) -> *mut u8 {
    std::ptr::without_provenance_mut(address)
}

/// Tells the parent which address the line has to name.
fn tell(start: NonNull<u8>) {
    println!("address {:#x}", start.addr());
}

fn free(start: *mut u8, size: usize, align: usize) {
    tell(NonNull::new(start).unwrap());
    // SAFETY: none: this is the misuse.
    unsafe { Millpond.dealloc(start, Layout::from_size_align(size, align).unwrap()) };
}

fn free_system_block(size: usize) {
    let layout = Layout::from_size_align(size, 8).unwrap();
    // SAFETY: the size isn't 0.
    free(unsafe { System.alloc(layout) }, size, 8);
}

fn free_inside(size: usize, offset: usize) {
    let block = Block::new(size);
    free(block.start().as_ptr().wrapping_add(offset), size, 8);
}

fn free_twice(size: usize) {
    let block = Block::new(size);
    let start = block.start().as_ptr();
    block.free();
    free(start, size, 8);
}

/// Another thread allocates `count` blocks of 128 bytes and sleeps; this one frees them all, and the one at `again`
/// once more.
fn double_free_remotely(count: usize, again: usize) {
    let all = Mutex::new(Vec::with_capacity(count));
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    let owner = || {
        all.lock()
            .unwrap()
            .extend((0..count).map(|_| Block::new(128)));
        ready.wait();
        done.wait();
    };
    beside(owner, || {
        ready.wait();
        let mut all = all.lock().unwrap();
        let start = all[again].start().as_ptr();
        all.drain(..).for_each(Block::free);
        free(start, 128, 8);
        done.wait();
    });
}

/// Another thread frees half of this one's blocks, and one of them once more or writes to it; then this one allocates.
fn double_free_of_some(write: bool) {
    let mut all = blocks(1000, 60);
    let theirs: Vec<Block> = all.drain(..40).collect();
    let again = theirs[20].start().as_ptr().addr();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            theirs.into_iter().for_each(Block::free);
            let start = std::ptr::with_exposed_provenance_mut::<u8>(again);
            if write {
                // Where the link is: what is told is where it leads.
                tell(NonNull::new(start.wrapping_add(3)).unwrap());
                // SAFETY: none: the test is about what happens.
                unsafe { start.cast::<usize>().write(again + 3) };
            } else {
                free(start, 1000, 8);
            }
        });
    });
    blocks(1000, 40);
}

/// Runs a scenario that must end with this message about the address that it told.
#[track_caller]
fn ends_with(name: &str, message: &str) {
    let ended = child::run_scenario("scenario", name);
    let told = ended
        .stdout
        .lines()
        .find_map(|line| line.split_once("address "))
        .unwrap_or_else(|| {
            panic!("{name} told no address: {ended:#?}");
        });
    assert_eq!(
        ended.aborted(),
        format!("millpond: {}: {message}", told.1),
        "{name}"
    );
    assert!(!ended.stdout.contains(SURVIVED));
}

macro_rules! misuse {
    ($($name:ident => $message:ident,)*) => {
        $(#[test]
        fn $name() {
            ends_with(stringify!($name), $message);
        })*

        /// Every scenario has a test.
        #[test]
        fn no_scenario_is_left_out() {
            let tested = [$(stringify!($name),)* "options"];
            for (name, _) in SCENARIOS {
                assert!(tested.contains(name), "{name} has no test");
            }
        }
    };
}

misuse! {
    free_of_a_stack_address => FOREIGN,
    free_of_a_static => FOREIGN,
    free_of_a_small_block_of_the_system => FOREIGN,
    free_of_a_4_kib_block_of_the_system => FOREIGN,
    free_of_a_mapped_block_of_the_system => FOREIGN,
    free_of_a_recycled_class_of_the_system => FOREIGN,
    free_of_address_16 => FOREIGN,
    free_of_a_large_block_at_address_16 => FOREIGN,
    free_above_47_bits => FOREIGN,
    free_of_a_kernel_address => FOREIGN,
    usable_size_of_a_stack_address => FOREIGN,
    realloc_of_a_stack_address => FOREIGN,
    interior_of_a_large_block => INTERIOR,
    interior_of_a_large_block_first_slice => INTERIOR,
    interior_of_a_huge_block => INTERIOR,
    // The search for the block's start ends 32 MiB below.
    interior_of_a_huge_block_far_in => FOREIGN,
    double_free_of_a_large_block => FOREIGN,
    double_free_of_a_huge_block => FOREIGN,
    free_into_a_cached_mapping => FOREIGN,
    double_free_in_a_free_page => DOUBLE_FREE,
    double_free_in_a_released_page => FOREIGN,
    double_free_in_a_page_freed_remotely => DOUBLE_FREE,
    double_free_in_a_page_discarded_remotely => DOUBLE_FREE,
    double_free_found_on_a_list => CORRUPTED,
    write_after_free_found_on_a_list => CORRUPTED,
}

/// Runs the child with these variables; its lines on standard error, and its options as it printed them.
fn with_environment(variables: &[(&str, &str)]) -> (Vec<String>, String) {
    let mut command = child::command("scenario", "options");
    command.envs(variables.iter().copied());
    let ended = child::run(command);
    ended.succeeded();
    let lines = ended
        .millpond_lines()
        .iter()
        .map(|line| line.to_string())
        .collect();
    let options = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("option "));
    (lines, options.collect::<Vec<_>>().join("\n"))
}

#[test]
fn malformed_options_get_one_line_each() {
    let long = "MILLPOND_PURGE_DELAY_MS_AND_A_GOOD_DEAL_MORE_THAN_THAT";
    let cases = [
        (
            "MILLPOND_NO_SUCH",
            "1",
            "MILLPOND_NO_SUCH is no option; ignored",
        ),
        ("MILLPOND_", "1", "MILLPOND_ is no option; ignored"),
        (
            long,
            "1",
            "MILLPOND_PURGE_DELAY_MS_AND_A_GOOD_DEAL_MORE_THAN_THAT is no option; ignored",
        ),
        (
            "MILLPOND_PURGE_DELAY_MS",
            "soon",
            "MILLPOND_PURGE_DELAY_MS is ignored: it takes a number from 0 to 3600000, not soon",
        ),
        (
            "MILLPOND_PURGE_DELAY_MS",
            "",
            "MILLPOND_PURGE_DELAY_MS is ignored: it takes a number from 0 to 3600000, not ",
        ),
        (
            "MILLPOND_PURGE_DELAY_MS",
            "3600001",
            "MILLPOND_PURGE_DELAY_MS is ignored: it takes a number from 0 to 3600000, not 3600001",
        ),
        (
            "MILLPOND_BACKGROUND_THREAD",
            "may\tbe\n",
            "MILLPOND_BACKGROUND_THREAD is ignored: it takes 0, 1, false, true, off, on, no or yes, not may?be?",
        ),
    ];
    let (_, defaults) = with_environment(&[]);
    assert!(defaults.contains("option purge_delay_ms="));
    for (name, value, message) in cases {
        let (lines, options) = with_environment(&[(name, value)]);
        assert_eq!(lines, [format!("millpond: {message}")]);
        assert_eq!(options, defaults, "{name}={value} changed an option");
    }
    let (lines, _) = with_environment(&[("MILLPOND_A", "1"), ("MILLPOND_B", "2")]);
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn well_formed_options_are_taken_quietly() {
    let (lines, options) = with_environment(&[
        ("MILLPOND_PURGE_DELAY_MS", "250"),
        ("MILLPOND_HEAP_RESERVE_KIB", "0"),
        ("MILLPOND_BACKGROUND_THREAD", "on"),
        ("MILLPOND_REQUIRE_ALL", "1"),
        ("MILLPOND", "not ours"),
    ]);
    assert_eq!(lines, [""; 0]);
    for wanted in [
        "option purge_delay_ms=250",
        "option heap_reserve_kib=0",
        "option background_thread=1",
    ] {
        assert!(
            options.lines().any(|line| line == wanted),
            "{wanted} is not in {options}"
        );
    }
}
