//! glibc's functions that tell about the allocator, called by a program that compares the answers with what it holds.

mod support;

use std::process::Command;
use support::{compile, needs, preloaded, succeed};

/// Reads XML from its input and prints `name value` of each counter in it.
const PARSE: &str = "
import sys, xml.etree.ElementTree as tree
root = tree.fromstring(sys.stdin.read())
assert root.tag == 'malloc' and root.get('version')
[print(each.get('name'), each.get('value')) for each in root.findall('counter')]
";

/// The value behind a name at the start of a line.
fn value(lines: &str, name: &str) -> u64 {
    let value = lines
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
    let value = value.and_then(|value| value.split_whitespace().next());
    let value = value.unwrap_or_else(|| panic!("{name} is missing in\n{lines}"));
    value.replace(',', "").parse().unwrap()
}

fn parsed(xml: &str) -> String {
    use std::io::Write;
    use std::process::Stdio;
    let mut python = Command::new("python3")
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(xml.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success(), "no XML:\n{xml}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn answers_are_plausible() {
    if !needs("answers_are_plausible", &["cc", "python3"]) {
        return;
    }
    let program = compile("inspect.c", "cc", &[]);
    succeed(&mut Command::new(&program));
    for arguments in [&[][..], &["thread"]] {
        let output = succeed(preloaded(&program).args(arguments));
        let stdout = String::from_utf8(output.stdout).unwrap();
        let (xml, held) = stdout.trim_end().rsplit_once('\n').unwrap();
        let held: u64 = held.parse().unwrap();
        let counters = parsed(xml);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("millpond "), "{stderr}");
        // The same moment, told twice.
        for name in ["live_bytes", "committed_bytes", "fresh_pages", "arenas"] {
            assert_eq!(value(&counters, name), value(&stderr, name), "{name}");
        }
        let live = value(&counters, "live_bytes");
        assert!((held..held + held / 4).contains(&live), "{live} for {held}");
        assert!(value(&counters, "committed_bytes") >= live);
    }
}
