//! What the environment asks of the library: help, statistics, options.

mod support;

use std::process::{Command, Output};
use support::{preloaded, succeed};

fn errors(command: &mut Command) -> String {
    let Output { stderr, .. } = succeed(command);
    String::from_utf8(stderr).unwrap()
}

#[test]
fn help_lists_the_options() {
    let help = errors(
        preloaded("true")
            .env("MILLPOND_HELP", "1")
            .env("MILLPOND_PURGE_DELAY_MS", "250"),
    );
    for expected in [
        "MILLPOND_PURGE_DELAY_MS=250",
        "default 500",
        "MILLPOND_BACKGROUND_THREAD=0",
        "MILLPOND_STATS=1",
    ] {
        assert!(help.contains(expected), "{expected} is missing in\n{help}");
    }
}

#[test]
fn statistics_are_printed_at_the_end() {
    let text = errors(preloaded("ls").arg("/").env("MILLPOND_STATS", "1"));
    assert!(text.starts_with("millpond "), "{text}");
    let allocations = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("allocations "));
    let allocations: u64 = allocations
        .unwrap()
        .trim()
        .replace(',', "")
        .parse()
        .unwrap();
    assert!(allocations > 10, "{text}");
}

#[test]
fn silent_unless_asked() {
    assert_eq!(errors(&mut preloaded("true")), "");
    assert_eq!(errors(preloaded("true").env("MILLPOND_STATS", "0")), "");
}

#[test]
fn bad_options_get_one_line_each() {
    let text = errors(
        preloaded("true")
            .env("MILLPOND_PURGE_DELAY_MS", "soon")
            .env("MILLPOND_NO_SUCH", "1"),
    );
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(
        text.contains("MILLPOND_PURGE_DELAY_MS is ignored")
            && text.contains("MILLPOND_NO_SUCH is no option")
    );
}

#[test]
fn a_foreign_pointer_ends_the_process() {
    let program = support::compile("foreign.c", "cc", &["-Wno-free-nonheap-object"]);
    for what in ["stack", "static", "inside", "twice"] {
        let output = preloaded(&program).arg(what).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && errors.lines().count() == 1,
            "{what}: {errors}"
        );
        assert!(errors.starts_with("millpond: 0x"), "{what}: {errors}");
    }
}
