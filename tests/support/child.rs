//! Scenarios that need a process of their own: the test binary runs itself again.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Names the scenario to the child. (Not `MILLPOND_...`: that would be an option.)
const SCENARIO: &str = "TEST_SCENARIO";

/// The scenario that this process was started for.
pub fn scenario() -> Option<String> {
    std::env::var(SCENARIO).ok()
}

/// How a child ended and what it said.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Ended {
    /// The lines of standard error that Millpond wrote.
    pub fn millpond_lines(&self) -> Vec<&str> {
        let ours = |line: &&str| line.starts_with("millpond: ");
        self.stderr.lines().filter(ours).collect()
    }

    /// Fails unless the child ended well.
    pub fn succeeded(&self) {
        assert!(self.status.success(), "the child failed: {self:#?}");
    }

    /// Fails unless the child was ended by `abort`, after exactly one line of Millpond's; returns that line.
    pub fn aborted(&self) -> &str {
        assert_eq!(
            self.status.signal(),
            Some(libc::SIGABRT),
            "not aborted: {self:#?}"
        );
        let lines = self.millpond_lines();
        assert_eq!(lines.len(), 1, "not one line: {self:#?}");
        lines[0]
    }
}

/// A command that runs `scenario` in the test function `entry` of this binary, which is marked as ignored.
pub fn command(entry: &str, scenario: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            entry,
            "--exact",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(SCENARIO, scenario);
    no_core_dump(&mut command);
    command
}

/// Children that are meant to abort leave no core file behind.
fn no_core_dump(command: &mut Command) {
    limit(command, libc::RLIMIT_CORE, 0);
}

/// Limits a resource of the child's.
pub fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, bytes: u64) {
    let limits = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: between fork and exec the closure makes one system call, which is async-signal-safe.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limits) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
}

/// Runs a command to its end, for a minute at most.
pub fn run(mut command: Command) -> Ended {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What the scenarios print fits a pipe: nobody has to read while they run.
    let child = wait(child, Duration::from_secs(60));
    let output = child.wait_with_output().unwrap();
    Ended {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn wait(mut child: Child, limit: Duration) -> Child {
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > limit {
            child.kill().unwrap();
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

/// Runs a scenario as it is.
pub fn run_scenario(entry: &str, scenario: &str) -> Ended {
    run(command(entry, scenario))
}
