//! Servers that are started, asked by their own clients, and ended.

use super::run::{Allocator, Process, Run, status};
use super::support::succeed;
use super::{Program, Work};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Waits until a server answers.
pub fn until(ready: impl Fn() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed().as_secs() < 30, "the server doesn't start");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub const REDIS: Program = Program {
    name: "redis",
    needs: &["redis-server", "redis-benchmark", "redis-cli"],
    version: || Command::new("redis-server"),
    does: "redis-benchmark: set, get, lpush, lrange, 60,000 each; flushall",
    least: 500_000,
    work: Work::Server(redis),
};

fn redis(folder: &Path, allocator: Allocator) -> Run {
    let socket = folder.join("socket");
    let mut command = Command::new("redis-server");
    command
        .args(["--port", "0", "--save", "", "--appendonly", "no"])
        .arg("--unixsocket")
        .arg(&socket)
        // What it logs has times in it.
        .args(["--logfile", "log"])
        .current_dir(folder);
    allocator.serve(&mut command, &allocator.libraries());
    let server = Process::start(&mut command, folder);
    let cli = |arguments: &[&str]| {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(&socket)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    until(|| cli(&["ping"]) == "PONG");
    succeed(
        Command::new("redis-benchmark")
            .arg("-s")
            .arg(&socket)
            .args(["-t", "set,get,lpush,lrange", "-r", "100000", "-d", "100"])
            .args(["-n", "60000", "-P", "16", "-q"]),
    );
    let value = "v".repeat(5000);
    let mut answers = vec![cli(&["set", "kept", &value]), cli(&["get", "kept"])];
    answers.push(cli(&["llen", "mylist"]));
    answers.push(cli(&["flushall", "sync"]));
    let left = status(&server.id().to_string(), "VmRSS:");
    if allocator == Allocator::Statistics {
        println!("redis: {left} bytes resident after FLUSHALL");
        assert!(left < 40 << 20, "{left} bytes are resident after FLUSHALL");
    }
    cli(&["shutdown", "nosave"]);
    let mut run = server.finish();
    run.answer = answers.join("\n").into_bytes();
    run
}

pub const POSTGRES: Program = Program {
    name: "postgres",
    needs: &["pg_ctlcluster", "setpriv"],
    version: || Command::new(postgres_programs().join("postgres")),
    does: "pgbench: 8 clients, 3,200 transactions; keeps pools of its own",
    least: 10_000,
    work: Work::Server(postgres),
};

/// The folder of the newest PostgreSQL's programs.
fn postgres_programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is there");
    let mut folders: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.sort();
    folders.pop().expect("PostgreSQL has an initdb")
}

fn postgres(beside: &Path, allocator: Allocator) -> Run {
    let programs = postgres_programs();
    // PostgreSQL refuses to run as root, and another user may not see the build's folders.
    let name = format!("millpond-{}-{}", allocator.name(), std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let copy = |library: &Path| {
        let copy = folder.join(library.file_name().unwrap());
        std::fs::copy(library, &copy).unwrap();
        copy
    };
    let libraries: Vec<PathBuf> = allocator.libraries().into_iter().map(copy).collect();
    let is_root = succeed(Command::new("id").arg("-u")).stdout == b"0\n";
    if is_root {
        succeed(
            Command::new("chown")
                .args(["-R", "65534:65534"])
                .arg(&folder),
        );
    }
    let command = |program: &str| {
        let program = programs.join(program);
        let mut command = Command::new(if is_root {
            "setpriv".as_ref()
        } else {
            program.as_os_str()
        });
        if is_root {
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(program);
        }
        command
            .current_dir(&folder)
            .env("LC_ALL", "C")
            .env("PGHOST", &folder)
            .env("PGDATABASE", "postgres")
            .env("PGUSER", "test");
        command
    };
    // The clients run on the same allocator.
    let client = |program: &str| {
        let mut client = command(program);
        allocator.serve(&mut client, &libraries);
        client
    };
    let data = folder.join("data");
    succeed(
        client("initdb")
            .args(["-U", "test", "-A", "trust", "--no-sync", "-D"])
            .arg(&data),
    );
    let mut server = command("postgres");
    server
        .arg("-D")
        .arg(&data)
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"])
        .arg(format!("unix_socket_directories={}", folder.display()));
    allocator.serve(&mut server, &libraries);
    let server = Process::start(&mut server, beside);
    until(|| client("pg_isready").output().unwrap().status.success());
    succeed(client("pgbench").args(["-i", "-q", "-s", "4"]));
    succeed(client("pgbench").args(["-c", "8", "-j", "2", "-t", "400"]));
    // Each transaction adds the same number to an account, a teller and a branch, and notes it in the history.
    let query = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history) AND \
                 (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches) AND \
                 (SELECT count(*) FROM pgbench_history) = 3200";
    let answer = succeed(client("psql").args(["-At", "-c", query])).stdout;
    assert_eq!(answer, b"t\n");
    // SIGINT: the fast shutdown, which waits for nobody.
    succeed(Command::new("kill").args(["-INT", &server.id().to_string()]));
    let mut run = server.finish();
    run.answer = answer;
    std::fs::remove_dir_all(&folder).unwrap();
    run
}
