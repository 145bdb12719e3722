//! Tests that can't run here.

/// Leaves a test out by name, with the reason; a failure where everything has to run (`MILLPOND_REQUIRE_ALL=1`).
pub fn skip(test: &str, reason: &str) {
    let line = format!("{test} is skipped: {reason}");
    assert!(
        std::env::var_os("MILLPOND_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{line}, but MILLPOND_REQUIRE_ALL=1"
    );
    eprintln!("{line}");
}
