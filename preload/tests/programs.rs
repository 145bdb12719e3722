//! Programs that know nothing of Millpond, run with it preloaded: what they print is compared with the plain run, the
//! statistics at exit must show that Millpond served them, and a count of the calls that they made a million and more.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use support::{fresh_folder, needs, preloaded, skip, succeed, there_is};

/// The statistics that each process printed when it ended.
fn counters(errors: &str, name: &str) -> Vec<u64> {
    let values = errors
        .lines()
        .filter_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '));
    values
        .filter_map(|value| {
            value
                .split_whitespace()
                .next()?
                .replace(',', "")
                .parse()
                .ok()
        })
        .collect()
}

/// The largest of a counter's values among all processes of a run.
fn most(output: &Output, name: &str) -> u64 {
    let errors = String::from_utf8_lossy(&output.stderr);
    counters(&errors, name).into_iter().max().unwrap_or(0)
}

/// The library that counts calls.
fn counting() -> &'static Path {
    static COMPILED: OnceLock<PathBuf> = OnceLock::new();
    COMPILED.get_or_init(|| support::compile("count.c", "cc", &["-shared", "-fPIC", "-ldl"]))
}

/// Runs a command plainly and preloaded, from a prepared folder of its own each time, and compares what they print.
fn same_output(
    test: &str,
    least: u64,
    prepare: impl Fn(&Path),
    command: impl Fn(&Path) -> Command,
) {
    let run = |name: &str, preload: Option<String>| {
        let folder = fresh_folder(&format!("{test}_{name}"));
        prepare(&folder);
        let mut command = command(&folder);
        command.current_dir(&folder).env("LC_ALL", "C");
        if let Some(preload) = preload {
            command
                .env("LD_PRELOAD", preload)
                .env("MILLPOND_STATS", "1");
        }
        succeed(&mut command)
    };
    let library = support::library().display().to_string();
    let plain = run("plain", None);
    let ours = run("millpond", Some(library.clone()));
    assert!(plain.stdout == ours.stdout, "{test}: the outputs differ");
    let counted = run(
        "counted",
        Some(format!("{}:{library}", counting().display())),
    );
    assert!(
        plain.stdout == counted.stdout,
        "{test}: the counted output differs"
    );
    let (handed_out, calls) = (most(&ours, "allocations"), most(&counted, "calls"));
    println!("{test}: {calls} calls; {handed_out} blocks handed out in refills");
    assert!(
        handed_out > 0 && calls >= least,
        "{test}: only {calls} calls"
    );
}

const MILLION: u64 = 1_000_000;

#[test]
fn python() {
    if !needs("python", &["python3"]) {
        return;
    }
    const SCRIPT: &str = r#"
import threading, hashlib
results = [None] * 4
def build(number):
    total = hashlib.sha256()
    for round in range(6):
        graph = {}
        for i in range(30000):
            node = {"name": "node %d" % i, "edges": [str(j) for j in range(i % 7)], "text": "x" * (i % 900)}
            node["self"] = node
            graph[i] = node
        for i in range(0, 30000, 3):
            del graph[i]
        total.update(repr(sum(len(node["text"]) for node in graph.values())).encode())
    results[number] = total.hexdigest()
threads = [threading.Thread(target=build, args=(i,)) for i in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(results)
"#;
    same_output(
        "python",
        MILLION,
        |_| {},
        |_| {
            let mut python = Command::new("python3");
            python.args(["-c", SCRIPT]).env("PYTHONMALLOC", "malloc");
            python
        },
    );
}

#[test]
fn git() {
    if !needs("git", &["git", "sh"]) {
        return;
    }
    // Generated from scratch, so that both runs see the same history.
    const GENERATE: &str = r#"
set -e
git init -q source && cd source
git config user.name test && git config user.email test@example.org
export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z'
for round in $(seq 40); do
    mkdir -p "folder$((round % 7))"
    for file in $(seq 60); do seq "$round" $((round + file * 9)) > "folder$((round % 7))/file$file"; done
    git add -A && git commit -q -m "round $round"
done
"#;
    let source = fresh_folder("git_source");
    succeed(
        Command::new("sh")
            .args(["-c", GENERATE])
            .current_dir(&source),
    );
    same_output(
        "git",
        50_000,
        |_| {},
        |_| {
            let mut command = Command::new("sh");
            let script = format!(
                "git clone -q --no-local {}/source copy && cd copy && git fsck --full --strict --no-progress && \
             git repack -adfq --window=50 && git log --stat | cksum && git rev-parse HEAD",
                source.display()
            );
            command.args(["-c", &script]);
            command
        },
    );
}

#[test]
fn cpp_compiler() {
    if !needs("cpp_compiler", &["c++"]) {
        return;
    }
    const SOURCE: &str = r#"
#include <map>
#include <regex>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>
template <int N> struct Fibonacci { static constexpr long value = Fibonacci<N - 1>::value + Fibonacci<N - 2>::value; };
template <> struct Fibonacci<0> { static constexpr long value = 0; };
template <> struct Fibonacci<1> { static constexpr long value = 1; };
template <std::size_t... I> auto make(std::index_sequence<I...>) {
    return std::make_tuple(std::map<std::string, std::vector<std::pair<int, char[I + 1]>>>{}...);
}
template <int N> struct Deep : Deep<N - 1> { std::variant<int, std::string, Deep<N - 1> *> field; };
template <> struct Deep<0> {};
int main() {
    auto all = make(std::make_index_sequence<60>{});
    Deep<200> deep;
    std::regex expression("a(b|c)*d");
    return std::regex_match("abcbcd", expression) && std::get<0>(all).empty() ? (int)(Fibonacci<80>::value % 2) : 3;
}
"#;
    same_output(
        "cpp_compiler",
        MILLION,
        |folder| std::fs::write(folder.join("templates.cpp"), SOURCE).unwrap(),
        |_| {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                "c++ -std=c++17 -O1 -c templates.cpp -o templates.o && cksum templates.o",
            ]);
            command
        },
    );
}

#[test]
fn perl() {
    if !needs("perl", &["perl"]) {
        return;
    }
    const SCRIPT: &str = r#"
my $sum = 0;
for my $round (1 .. 8) {
    my (%tree, @list);
    for my $i (1 .. 60000) {
        push @list, { name => "item $i", text => "y" x ($i % 400), list => [1 .. $i % 5] };
        $tree{"key " . ($i * 7 % 10007)} .= chr(65 + $i % 26);
    }
    $sum += length(join ",", map { $_->{name} } grep { length($_->{text}) % 3 == 0 } @list);
    $sum += $_ for map { length } values %tree;
    my $text = join " ", sort keys %tree;
    $sum += () = $text =~ /key \d*7\d*/g;
}
print "$sum\n";
"#;
    same_output(
        "perl",
        MILLION,
        |_| {},
        |_| {
            let mut command = Command::new("perl");
            command.args(["-e", SCRIPT]);
            command
        },
    );
}

#[test]
fn sqlite() {
    if !needs("sqlite", &["sqlite3"]) {
        return;
    }
    const QUERIES: &str = r#"
CREATE TABLE words(id INTEGER PRIMARY KEY, word TEXT, body TEXT, weight REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
INSERT INTO words SELECT i, 'word ' || (i * 7919 % 100003), substr(hex(i * 104729) || hex(i * 31), 1, i % 60), i % 97 / 7.0 FROM n;
CREATE INDEX by_word ON words(word);
SELECT count(DISTINCT word), sum(length(body)), round(avg(weight), 6) FROM words;
SELECT group_concat(word, ',') FROM (SELECT word FROM words ORDER BY body DESC, id LIMIT 50);
SELECT count(*) FROM words a JOIN words b ON a.word = b.word AND a.id < b.id;
SELECT sum(length(upper(replace(word, 'o', body)))) FROM words;
DELETE FROM words WHERE id % 3 = 0; VACUUM; PRAGMA integrity_check;
"#;
    same_output(
        "sqlite",
        MILLION,
        |folder| std::fs::write(folder.join("queries.sql"), QUERIES).unwrap(),
        |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "sqlite3 data.db < queries.sql"]);
            command
        },
    );
}

/// Text of a few million bytes, the same each time.
fn text(lines: usize) -> String {
    let mut seed = 1_u64;
    let mut text = String::new();
    for _ in 0..lines {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = seed >> 33;
        text.push_str(&format!(
            "{number} {} some text {}\n",
            number % 977,
            number % 31
        ));
    }
    text
}

/// A compressor makes few allocations, large ones.
#[test]
fn xz_with_threads() {
    if !needs("xz_with_threads", &["xz"]) {
        return;
    }
    same_output(
        "xz_with_threads",
        10,
        |folder| std::fs::write(folder.join("text"), text(300_000)).unwrap(),
        |_| {
            let mut command = Command::new("sh");
            command.args([
                "-c",
                "xz -2 -T4 --block-size=1MiB text && xz -dc text.xz | cksum && cksum text.xz",
            ]);
            command
        },
    );
}

#[test]
fn parallel_sort() {
    if !needs("parallel_sort", &["sort"]) {
        return;
    }
    same_output(
        "parallel_sort",
        1,
        |folder| std::fs::write(folder.join("text"), text(600_000)).unwrap(),
        |_| {
            let mut command = Command::new("sh");
            command.args(["-c", "sort --parallel=4 -S 20M -k2,2n -k1,1 text | cksum"]);
            command
        },
    );
}

#[test]
fn node() {
    if !needs("node", &["node"]) {
        return;
    }
    const SCRIPT: &str = r#"
const zlib = require('zlib'), crypto = require('crypto');
let sum = 0;
for (let round = 0; round < 60; round++) {
    const list = [];
    for (let i = 0; i < 2000; i++) list.push(Buffer.alloc(100 + i * 7 % 9000, i % 251));
    for (const buffer of list) sum = (sum + buffer[buffer.length - 1] + crypto.createHash('md5').update(buffer).digest()[0]) % 1e9;
    const packed = zlib.deflateSync(Buffer.concat(list));
    sum = (sum + zlib.inflateSync(packed).length) % 1e9;
    sum += JSON.parse(JSON.stringify(list.map((b, i) => ({ i, text: 'z'.repeat(i % 50) })))).length;
}
console.log(sum);
"#;
    same_output(
        "node",
        MILLION,
        |_| {},
        |_| {
            let mut command = Command::new("node");
            command.args(["-e", SCRIPT]);
            command
        },
    );
}

#[test]
fn java() {
    if !needs("java", &["java", "javac"]) {
        return;
    }
    const SOURCE: &str = r#"
import java.util.*;
import java.util.zip.*;
public class Work {
    public static void main(String[] arguments) throws Exception {
        Thread[] threads = new Thread[4];
        long[] sums = new long[4];
        for (int t = 0; t < 4; t++) {
            final int number = t;
            threads[t] = new Thread(() -> {
                for (int round = 0; round < 300; round++) {
                    // Compressors live outside the garbage-collected heap.
                    Deflater deflater = new Deflater();
                    byte[] input = new byte[20000], output = new byte[30000];
                    Arrays.fill(input, (byte) (round + number));
                    deflater.setInput(input);
                    deflater.finish();
                    sums[number] += deflater.deflate(output);
                    deflater.end();
                    List<String> list = new ArrayList<>();
                    for (int i = 0; i < 3000; i++) list.add("item " + i * round);
                    Collections.sort(list);
                    sums[number] += list.get(17).hashCode();
                }
            });
            threads[t].start();
        }
        for (Thread thread : threads) thread.join();
        System.out.println(Arrays.toString(sums));
    }
}
"#;
    same_output(
        "java",
        10_000,
        |folder| {
            std::fs::write(folder.join("Work.java"), SOURCE).unwrap();
            succeed(Command::new("javac").arg("Work.java").current_dir(folder));
        },
        |_| {
            let mut command = Command::new("java");
            command.args(["-Xmx300m", "Work"]);
            command
        },
    );
}

/// Ends a server when the test is over, however it ends.
struct Server(std::process::Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace()
        .next()
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

#[test]
fn redis() {
    if !needs("redis", &["redis-server", "redis-benchmark", "redis-cli"]) {
        return;
    }
    let folder = fresh_folder("redis");
    let socket = folder.join("socket");
    let errors = std::fs::File::create(folder.join("errors")).unwrap();
    let server = preloaded("redis-server")
        .args([
            "--port",
            "0",
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
        ])
        .arg(&socket)
        .current_dir(&folder)
        .env("MILLPOND_STATS", "1")
        .stdout(std::process::Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut server = Server(server);
    let cli = |arguments: &[&str]| {
        let output = Command::new("redis-cli")
            .arg("-s")
            .arg(&socket)
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let begun = std::time::Instant::now();
    while cli(&["ping"]) != "PONG" {
        assert!(begun.elapsed().as_secs() < 20, "the server doesn't start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    succeed(
        Command::new("redis-benchmark")
            .arg("-s")
            .arg(&socket)
            .args([
                "-t",
                "set,get,lpush,lrange",
                "-r",
                "100000",
                "-d",
                "100",
                "-n",
                "60000",
                "-P",
                "16",
                "-q",
            ]),
    );
    let value = "v".repeat(5000);
    assert_eq!(cli(&["set", "kept", &value]), "OK");
    assert_eq!(cli(&["get", "kept"]), value);
    assert_eq!(cli(&["flushall", "sync"]), "OK");
    let left = resident_bytes(server.0.id());
    cli(&["shutdown", "nosave"]);
    assert!(server.0.wait().unwrap().success());
    let errors = std::fs::read_to_string(folder.join("errors")).unwrap();
    let made = counters(&errors, "allocations")
        .into_iter()
        .max()
        .unwrap_or(0);
    println!("redis: {made} allocations, {left} bytes resident after FLUSHALL");
    assert!(made >= MILLION / 4, "{errors}");
    assert!(left < 40 << 20, "{left} bytes are resident after FLUSHALL");
}

/// The folder of the newest PostgreSQL's programs.
fn postgres_programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut folders: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    folders.retain(|folder| folder.join("initdb").exists());
    folders.sort();
    folders.pop()
}

#[test]
fn postgres() {
    let Some(programs) = postgres_programs().filter(|_| there_is("setpriv")) else {
        return skip(
            "postgres",
            "there is no PostgreSQL in /usr/lib/postgresql, or no setpriv",
        );
    };
    // PostgreSQL refuses to run as root, and another user may not see the build's folders.
    let folder = std::env::temp_dir().join(format!("millpond-postgres-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let library = folder.join("libmillpond.so");
    std::fs::copy(support::library(), &library).unwrap();
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
        let mut command = if is_root {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        command
            .current_dir(&folder)
            .env("LD_PRELOAD", &library)
            .env("LC_ALL", "C")
            .env("PGHOST", &folder);
        command.env("PGDATABASE", "postgres").env("PGUSER", "test");
        command
    };
    let data = folder.join("data");
    succeed(
        command("initdb")
            .args(["-U", "test", "-A", "trust", "--no-sync", "-D"])
            .arg(&data),
    );
    let errors = std::fs::File::create(folder.join("errors")).unwrap();
    let server = command("postgres")
        .arg("-D")
        .arg(&data)
        .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c"])
        .arg(format!("unix_socket_directories={}", folder.display()))
        .env("MILLPOND_STATS", "1")
        .stdout(std::process::Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut server = Server(server);
    let begun = std::time::Instant::now();
    while !command("pg_isready").arg("-q").status().unwrap().success() {
        assert!(begun.elapsed().as_secs() < 30, "the server doesn't start");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    succeed(command("pgbench").args(["-i", "-q", "-s", "4"]));
    succeed(command("pgbench").args(["-c", "8", "-j", "2", "-t", "400"]));
    // Each transaction adds the same number to an account, a teller and a branch, and notes it in the history.
    let query = "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history) AND \
                 (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(bbalance) FROM pgbench_branches) AND \
                 (SELECT count(*) FROM pgbench_history) = 3200";
    let answer = succeed(command("psql").args(["-At", "-c", query]));
    assert_eq!(answer.stdout, b"t\n");
    // SIGINT: the fast shutdown, which waits for nobody.
    succeed(Command::new("kill").args(["-INT", &server.0.id().to_string()]));
    assert!(server.0.wait().unwrap().success());
    let errors = std::fs::read_to_string(folder.join("errors")).unwrap();
    let made: u64 = counters(&errors, "allocations").into_iter().sum();
    println!("postgres: {made} allocations in all its processes");
    assert!(made >= 10_000, "{errors}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn preloaded_commands_start() {
    // What a shell script starts, one after the other: each a process with the library loaded anew.
    let output = succeed(
        preloaded("sh").args(["-c", "for i in $(seq 100); do expr $i + 1; done | tail -1"]),
    );
    assert_eq!(output.stdout, b"101\n");
}
