//! Programs that are given work, print a result, and end.

use super::run::shared;
use super::support::{fresh_folder, succeed};
use super::{MILLION, Program, Work};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;

/// A shell that runs a script.
pub fn sh(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell
}

fn nothing(_: &Path) {}

pub const PYTHON: Program = Program {
    name: "python",
    needs: &["python3"],
    version: || Command::new("python3"),
    does: "4 threads build graphs of dictionaries, `PYTHONMALLOC=malloc`",
    least: MILLION,
    work: Work::Command {
        prepare: nothing,
        command: || {
            let mut python = Command::new("python3");
            python
                .args(["-c", PYTHON_SCRIPT])
                .env("PYTHONMALLOC", "malloc");
            python
        },
    },
};

const PYTHON_SCRIPT: &str = r#"
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

pub const GIT: Program = Program {
    name: "git",
    needs: &["git", "sh", "cksum"],
    version: || Command::new("git"),
    does: "clones 800 commits, `fsck --full`, `repack -ad`, `log -p`, `log --stat -M`",
    least: MILLION,
    work: Work::Command {
        prepare: |_| repository(),
        command: || {
            sh(&format!(
                "set -e; git clone -q --no-local --bare {} copy; cd copy; git fsck --full --strict --no-progress
                git repack -adfq --window=20; git log -p | cksum; git log --stat -M | cksum; git rev-parse HEAD",
                shared("git_source").display()
            ))
        },
    },
};

/// Makes the repository that all runs clone, with the same history each time.
fn repository() {
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        let source = fresh_folder("git_source");
        let stream = source.with_extension("stream");
        write_history(&mut BufWriter::new(File::create(&stream).unwrap())).unwrap();
        succeed(
            Command::new("git")
                .args(["init", "-q", "--bare", "-b", "main"])
                .arg(&source),
        );
        succeed(
            Command::new("git")
                .args(["fast-import", "--quiet"])
                .current_dir(&source)
                .stdin(File::open(&stream).unwrap()),
        );
        fs::remove_file(&stream).unwrap();
    });
}

/// Commits in the form that `git fast-import` reads: each changes a third of the files.
fn write_history(to: &mut impl Write) -> std::io::Result<()> {
    for commit in 0..800 {
        let time = 1_767_225_600 + commit * 60;
        let message = format!("round {commit}\n");
        writeln!(to, "commit refs/heads/main")?;
        writeln!(to, "committer test <test@example.org> {time} +0000")?;
        writeln!(to, "data {}\n{message}", message.len())?;
        for file in (0..60).filter(|file| (file + commit) % 3 == 0) {
            let mut text = String::new();
            for line in 0..20 + file * 2 {
                let changed = if line % 11 == file % 11 { commit } else { 0 };
                text += &format!(
                    "{} line {line} of file {file}\n",
                    (line * 7 + changed) % 1000
                );
            }
            writeln!(to, "M 100644 inline folder{}/file{file}", file % 7)?;
            writeln!(to, "data {}\n{text}", text.len())?;
        }
    }
    to.flush()
}

pub const CPP_COMPILER: Program = Program {
    name: "c++",
    needs: &["c++", "cksum"],
    version: || Command::new("c++"),
    does: "compiles templates, `<regex>` and `<variant>`, `-O1`",
    least: MILLION,
    work: Work::Command {
        prepare: |folder| fs::write(folder.join("templates.cpp"), TEMPLATES).unwrap(),
        command: || sh("c++ -std=c++17 -O1 -c templates.cpp -o templates.o && cksum templates.o"),
    },
};

const TEMPLATES: &str = r#"
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

pub const PERL: Program = Program {
    name: "perl",
    needs: &["perl"],
    version: || Command::new("perl"),
    does: "lists, hashes, strings, a regular expression",
    least: MILLION,
    work: Work::Command {
        prepare: nothing,
        command: || {
            let mut command = Command::new("perl");
            command.args(["-e", PERL_SCRIPT]);
            command
        },
    },
};

const PERL_SCRIPT: &str = r#"
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

pub const SQLITE: Program = Program {
    name: "sqlite3",
    needs: &["sqlite3"],
    version: || Command::new("sqlite3"),
    does: "200,000 rows: insert, index, join, sort, delete, vacuum",
    least: MILLION,
    work: Work::Command {
        prepare: |folder| fs::write(folder.join("queries.sql"), QUERIES).unwrap(),
        command: || sh("sqlite3 data.db < queries.sql"),
    },
};

const QUERIES: &str = r#"
CREATE TABLE words(id INTEGER PRIMARY KEY, word TEXT, body TEXT, weight REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000)
INSERT INTO words SELECT i, 'word ' || (i * 7919 % 100003), substr(hex(i * 104729) || hex(i * 31), 1, i % 60),
    i % 97 / 7.0 FROM n;
CREATE INDEX by_word ON words(word);
SELECT count(DISTINCT word), sum(length(body)), round(avg(weight), 6) FROM words;
SELECT group_concat(word, ',') FROM (SELECT word FROM words ORDER BY body DESC, id LIMIT 50);
SELECT count(*) FROM words a JOIN words b ON a.word = b.word AND a.id < b.id;
SELECT sum(length(upper(replace(word, 'o', body)))) FROM words;
DELETE FROM words WHERE id % 3 = 0; VACUUM; PRAGMA integrity_check;
"#;

/// Text of a few million bytes, the same each time. Written line by line: what the test itself has resident is part of
/// the peak that the system reports of the programs it starts.
fn write_text(path: &Path, lines: usize) {
    let mut seed = 1_u64;
    let mut to = BufWriter::new(File::create(path).unwrap());
    for _ in 0..lines {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let number = seed >> 33;
        writeln!(to, "{number} {} some text {}", number % 977, number % 31).unwrap();
    }
    to.flush().unwrap();
}

/// A compressor takes a few large blocks for its windows and tables, and nothing per byte: no input makes it call
/// malloc a million times.
pub const XZ: Program = Program {
    name: "xz",
    needs: &["xz", "cksum"],
    version: || Command::new("xz"),
    does: "compresses 9 MB with 4 threads, decompresses; takes a few large blocks only",
    least: 10,
    work: Work::Command {
        prepare: |folder| write_text(&folder.join("text"), 300_000),
        command: || {
            sh("xz -2 -T4 --block-size=1MiB text && xz -dc text.xz | cksum && cksum text.xz")
        },
    },
};

/// Sort keeps lines and their places in one buffer, however many there are: no input makes it call malloc a million
/// times.
pub const SORT: Program = Program {
    name: "sort",
    needs: &["sort", "cksum"],
    version: || Command::new("sort"),
    does: "600,000 lines by two keys, `--parallel=4`; all lines lie in one buffer",
    least: 1,
    work: Work::Command {
        prepare: |folder| write_text(&folder.join("text"), 600_000),
        command: || sh("sort --parallel=4 -S 20M -k2,2n -k1,1 text | cksum"),
    },
};

pub const NODE: Program = Program {
    name: "node",
    needs: &["node"],
    version: || Command::new("node"),
    does: "buffers, MD5, deflate and inflate, JSON",
    least: MILLION,
    work: Work::Command {
        prepare: nothing,
        command: || {
            let mut command = Command::new("node");
            command.args(["-e", NODE_SCRIPT]);
            command
        },
    },
};

const NODE_SCRIPT: &str = r#"
const zlib = require('zlib'), crypto = require('crypto');
let sum = 0;
for (let round = 0; round < 60; round++) {
    const list = [];
    for (let i = 0; i < 2000; i++) list.push(Buffer.alloc(100 + i * 7 % 9000, i % 251));
    for (const buffer of list)
        sum = (sum + buffer[buffer.length - 1] + crypto.createHash('md5').update(buffer).digest()[0]) % 1e9;
    const packed = zlib.deflateSync(Buffer.concat(list));
    sum = (sum + zlib.inflateSync(packed).length) % 1e9;
    sum += JSON.parse(JSON.stringify(list.map((b, i) => ({ i, text: 'z'.repeat(i % 50) })))).length;
}
console.log(sum);
"#;

/// Java's objects live in a heap of its own, which it maps itself: malloc serves the virtual machine, its compilers,
/// and libraries in C such as the compressor.
pub const JAVA: Program = Program {
    name: "java",
    needs: &["java", "javac"],
    version: || Command::new("java"),
    does: "4 threads deflate, sort strings; its objects live in a heap of its own",
    least: 10_000,
    work: Work::Command {
        prepare: |folder| {
            fs::write(folder.join("Work.java"), JAVA_SOURCE).unwrap();
            succeed(Command::new("javac").arg("Work.java").current_dir(folder));
        },
        command: || {
            let mut command = Command::new("java");
            command.args(["-Xmx300m", "Work"]);
            command
        },
    },
};

const JAVA_SOURCE: &str = r#"
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
