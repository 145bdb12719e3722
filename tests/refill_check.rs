//! The debug check of the refill order sees it when a step is left out: with draining of current pages or of
//! pages with news switched off, a producer with a consumer ends the process, and so it does when a page is not
//! announced to its owner; with all steps on it doesn't.
#![cfg(debug_assertions)]

mod support;

use millpond::Millpond;
use millpond::testing::{RefillStep, lose_next_news, skip_refill_step};
use std::sync::{Barrier, Mutex};
use support::block::Block;
use support::child;
use support::thread::beside;

#[global_allocator]
static GLOBAL: Millpond = Millpond;

const MESSAGE: &str = "a fresh page is taken although this page has undrained remote frees";
const LOST: &str = "this page's remote frees were never announced";

/// A producer and a consumer, which frees some of each batch, so that pages are left full, partly used and empty.
fn load(size: usize) {
    const ROUNDS: usize = 60;
    let held: Mutex<Vec<Block>> = Mutex::new(Vec::with_capacity(1 << 16));
    let turn = Barrier::new(2);
    let batch = 600_000 / size;
    let producer = || {
        for _ in 0..ROUNDS {
            held.lock()
                .unwrap()
                .extend((0..batch).map(|_| Block::new(size)));
            turn.wait();
            turn.wait();
        }
    };
    beside(producer, || {
        for round in 0..ROUNDS {
            turn.wait();
            let mut held = held.lock().unwrap();
            // Oldest, newest and spread ones in turn; nine of ten, so that it doesn't grow for long.
            let count = held.len() * 9 / 10;
            match round % 3 {
                0 => held.drain(..count).for_each(Block::free),
                1 => held.drain(batch / 10..).for_each(Block::free),
                _ => (0..count).for_each(|at| {
                    let place = at * 7 % held.len();
                    held.swap_remove(place).free();
                }),
            }
            drop(held);
            turn.wait();
        }
    });
    held.into_inner().unwrap().into_iter().for_each(Block::free);
}

#[test]
#[ignore = "run by the other tests, in a process of its own"]
fn scenario() {
    let Some(step) = child::scenario() else {
        return;
    };
    match step.as_str() {
        "all on" => {}
        "lost" => lose_next_news(),
        "no drain" => skip_refill_step(RefillStep::ActiveDrain),
        "no news" => skip_refill_step(RefillStep::News),
        step => panic!("{step}?"),
    }
    // Pages for the large ones, too.
    millpond::set_option("single_blocks", "0").unwrap();
    for size in [64, 700, 5000, 100_000] {
        load(size);
    }
}

#[test]
fn all_steps_on() {
    child::run_scenario("scenario", "all on").succeeded();
}

#[test]
fn pages_that_are_not_drained_are_seen() {
    let ended = child::run_scenario("scenario", "no drain");
    assert!(ended.aborted().ends_with(MESSAGE), "{ended:#?}");
}

#[test]
fn news_that_is_not_settled_is_seen() {
    let ended = child::run_scenario("scenario", "no news");
    assert!(ended.aborted().ends_with(MESSAGE), "{ended:#?}");
}

#[test]
fn a_lost_page_is_seen() {
    let ended = child::run_scenario("scenario", "lost");
    assert!(ended.aborted().ends_with(LOST), "{ended:#?}");
}
