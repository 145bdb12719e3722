//! Records on a fiber that moves between threads, in a program that is optimised as a whole: no thread-local address
//! lives across a switch.

mod support;

use std::process::Command;

#[test]
fn records_on_a_fiber_that_moves_between_threads() {
    let ended = support::child::run(Command::new(support::program::build_fat("migration")));
    ended.succeeded();
    println!("{}", ended.stdout);
}
