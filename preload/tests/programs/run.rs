//! Running a program on one allocator or another, and what is known of the run afterwards.

use super::support::{self, folder};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// What a program runs on.
#[derive(Clone, Copy, PartialEq)]
pub enum Allocator {
    /// What it always runs on: the C library's.
    Plain,
    /// Millpond, as a user preloads it.
    Millpond,
    /// Millpond, whose statistics are printed at the end of each process.
    Statistics,
    /// Millpond behind a library that counts the calls of malloc, calloc and realloc.
    Counted,
}

/// The library that counts calls.
fn counting() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| support::compile("count.c", "cc", &["-shared", "-fPIC", "-ldl"]))
}

impl Allocator {
    /// The name of its runs' folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Millpond => "millpond",
            Self::Statistics => "statistics",
            Self::Counted => "counted",
        }
    }

    /// The libraries to preload, in this order.
    pub fn libraries(self) -> Vec<&'static Path> {
        match self {
            Self::Plain => vec![],
            Self::Millpond | Self::Statistics => vec![support::library()],
            Self::Counted => vec![counting(), support::library()],
        }
    }

    /// Makes the command run on it. `libraries` are its own, or copies of them.
    pub fn serve(self, command: &mut Command, libraries: &[impl AsRef<Path>]) {
        if self == Self::Plain {
            return;
        }
        let paths: Vec<_> = libraries
            .iter()
            .map(|library| library.as_ref().display().to_string())
            .collect();
        command.env("LD_PRELOAD", paths.join(":"));
        if self == Self::Statistics {
            command.env("MILLPOND_STATS", "1");
        }
    }
}

/// A run that has ended well.
pub struct Run {
    /// What it printed, or the answers of a server.
    pub answer: Vec<u8>,
    /// Standard error of all its processes.
    pub errors: String,
    /// Processor time of the process and of those that it started and waited for.
    pub cpu: Duration,
    /// The most bytes that one of them had resident.
    pub peak: u64,
}

impl Run {
    /// The values of a counter that the run's processes printed when they ended.
    pub fn counters(&self, name: &str) -> Vec<u64> {
        let values = self
            .errors
            .lines()
            .filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
        values
            .filter_map(|value| {
                let number = value.split_whitespace().next()?;
                number.replace(',', "").parse().ok()
            })
            .collect()
    }

    /// A counter's largest value among the processes.
    pub fn most(&self, name: &str) -> u64 {
        self.counters(name).into_iter().max().unwrap_or(0)
    }

    /// A counter's sum over the processes.
    pub fn all(&self, name: &str) -> u64 {
        self.counters(name).into_iter().sum()
    }
}

/// A process whose output goes to files, ended when this is dropped, however the test ends.
pub struct Process {
    child: Child,
    running: bool,
    output: PathBuf,
}

impl Process {
    /// Starts a command, whose output goes beside `folder`.
    pub fn start(command: &mut Command, folder: &Path) -> Self {
        let output = folder.with_extension("output");
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output).unwrap())
            .stderr(File::create(output.with_extension("errors")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} doesn't start: {error}"));
        Self {
            child,
            running: true,
            output,
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which must be a success.
    pub fn finish(mut self) -> Run {
        let mut status = 0;
        // SAFETY: zeros are a valid value of this struct of numbers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: waits for our own child, once, and both places are writable.
        let waited =
            unsafe { libc::wait4(self.child.id() as libc::pid_t, &mut status, 0, &mut usage) };
        self.running = false;
        let errors = fs::read(self.output.with_extension("errors")).unwrap();
        let errors = String::from_utf8_lossy(&errors).into_owned();
        let answer = fs::read(&self.output).unwrap();
        assert!(
            waited == self.child.id() as libc::pid_t && status == 0,
            "ended with status {status:#x}:\n{}\n{errors}",
            String::from_utf8_lossy(&answer)
        );
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        Run {
            answer,
            errors,
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            peak: usage.ru_maxrss as u64 * 1024,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.running {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The path of a file or folder that all runs of a program share.
pub fn shared(name: &str) -> PathBuf {
    folder().join(name)
}

/// A number of `/proc/PROCESS/status`, which has it in KiB, in bytes.
pub fn status(process: &str, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() * 1024
}

/// The most bytes that the test itself has had resident.
pub fn peak_of_this_process() -> u64 {
    status("self", "VmHWM:")
}
