//! `run`: results, signals, and swaps while rows flow.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;

use support::visits::PRINTED;
use support::{Folder, From};

/// Standard input through a map to standard output.
const SHOUT: &str = r#"
name = "shout"
[source.lines]
stdin = {}
format = "text"
[step.upper]
from = "lines"
map = "upper.wasm"
[sink.out]
from = "upper"
print = {}
"#;

/// A pipeline that is to be run.
fn visits() -> Folder {
    support::visits::visits(20_000, "", PRINTED)
}

/// Visits by segment, from what was printed.
fn by_segment(stdout: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for line in stdout.lines() {
        let row: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        *counts.entry(row["segment"].as_str().unwrap().to_owned()).or_default() += row["visits"].as_u64().unwrap();
    }
    counts
}

/// Rows that a node took in or put out, from the last JSON line on stderr.
fn status(stderr: &str, node: &str, counter: &str) -> u64 {
    let line = stderr.lines().rfind(|line| line.contains("\"ended\"")).unwrap();
    let status: serde_json::Value = serde_json::from_str(line).unwrap();
    let nodes = status["nodes"].as_array().unwrap();
    nodes.iter().find(|found| found["name"] == node).unwrap()["counts"][counter].as_u64().unwrap()
}

#[test]
fn a_file_is_read_to_its_end_and_stdout_has_the_results_alone() {
    let folder = Folder::new();
    folder.write("p.toml", SHOUT.replace("stdin = {}", "file = { path = \"in.txt\" }")).write("in.txt", "one\ntwo\n");
    folder.install("uppercase.wasm", "upper.wasm");
    let output = folder.run(&["run", "p.toml"]).expect(0);
    assert_eq!(output.stdout, "{\"value\":\"ONE\"}\n{\"value\":\"TWO\"}\n");
    output.says(&["rows in", "upper", "2 read", "2 written"]);
}

#[test]
fn results_do_not_depend_on_how_batches_are_cut() {
    let folder = visits();
    let pipeline = std::fs::read_to_string(folder.path("p.toml")).unwrap();
    folder.write("p.toml", pipeline.replace("rate = 20000", "rows = 50000, interval = \"50us\""));
    let sorted = |arguments: &[&str]| {
        let mut lines: Vec<String> = folder.run(arguments).expect(0).stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let straight = sorted(&["run", "p.toml"]);
    assert!(straight.len() >= 6, "{straight:?}");
    assert_eq!(straight, sorted(&["run", "p.toml", "--shuffle-batches", "3"]));
    assert_eq!(straight, sorted(&["run", "p.toml", "--shuffle-batches", "4", "--parallelism", "3"]));
}

#[test]
fn the_first_ctrl_c_finishes_what_was_taken_in() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml", "--json"]);
    process.wait_for(From::Stdout, "segment");
    process.signal("INT");
    let output = process.finish().expect(0);
    let kept = status(&output.stderr, "interested", "rows_out");
    assert_eq!(by_segment(&output.stdout).values().sum::<u64>(), kept);
    assert_eq!(status(&output.stderr, "visits", "rows_out"), status(&output.stderr, "interested", "rows_in"));
}

#[test]
fn sigterm_finishes_too() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "segment");
    process.signal("TERM");
    process.finish().expect(0).says(&["stopping", "rows in"]);
}

#[test]
fn the_second_ctrl_c_aborts() {
    let folder = Folder::new();
    folder.write("p.toml", SHOUT).install("uppercase.wasm", "upper.wasm");
    // nobody reads what is printed, so the run cannot finish what it has taken in
    let mut command = folder.command(&["run", "p.toml"]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .stdin(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::Builder::new().spawn(move || {
        use std::io::Write;
        // ends with an error when the process is gone
        while stdin.write_all(&[b'x'; 65_535]).and_then(|()| stdin.write_all(b"\n")).is_ok() {}
    });
    let signal = || {
        let done = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
        assert!(done.success());
    };
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    signal();
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    writer.unwrap().join().unwrap();
}

#[test]
fn a_changed_component_is_swapped_in_and_every_row_meets_one_version() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml", "--watch", "--json"]);
    process.wait_for(From::Stdout, "small");
    folder.install("segment-finer.wasm", "segment.wasm");
    let swap: serde_json::Value = serde_json::from_str(&process.wait_for(From::Stderr, "swap")).unwrap();
    assert_eq!(swap["event"], "swap", "{swap}");
    assert_eq!(swap["swapped"][0]["step"], "segment");
    assert_ne!(swap["swapped"][0]["from"], swap["swapped"][0]["to"]);
    assert!(swap["pause_ns"].as_u64().unwrap() > 0);
    process.wait_for(From::Stdout, "medium");
    process.signal("INT");
    let output = process.finish().expect(0);
    let counts = by_segment(&output.stdout);
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["cart", "large", "medium", "small"]);
    assert_eq!(counts.values().sum::<u64>(), status(&output.stderr, "interested", "rows_out"));
}

#[test]
fn of_several_components_of_a_step_only_that_which_has_changed_is_swapped() {
    let folder = Folder::new();
    let pipeline = r#"
name = "numbers"
[source.numbers]
generator = { kind = "sequence", rate = 20000, interval = "1ms" }
[step.sums]
from = "numbers"
key_by = ["key"]
window = { tumbling = "1s" }
aggregate = { a = "a.wasm", b = "b.wasm" }
[sink.out]
from = "sums"
print = {}
"#;
    folder.write("p.toml", pipeline).install("version-sum.wasm", "a.wasm").install("migrate-sum-1.wasm", "b.wasm");
    let mut process = folder.start(&["run", "p.toml", "--watch"]);
    process.wait_for(From::Stdout, "key");
    let current = |name: &str| {
        let status = support::json(&folder, &["status", "numbers", "--json"]);
        status["versions"][name].as_array().unwrap().len()
    };
    // the same bytes once more, and another build of the other
    folder.install("version-sum.wasm", "a.wasm");
    let mut other = std::fs::read(folder.path("b.wasm")).unwrap();
    // a custom section that is called `note`
    other.extend([0, 5, 4]);
    other.extend(b"note");
    folder.write("b.wasm", other);
    process.wait_for(From::Stderr, "swapped sums");
    assert_eq!((current("sums.a"), current("sums.b")), (1, 2));
    process.signal("INT");
    process.finish().expect(0);
}

#[test]
fn what_is_watched_follows_the_pipeline_that_is_applied() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml", "--watch"]);
    process.wait_for(From::Stdout, "small");
    let text = std::fs::read_to_string(folder.path("p.toml")).unwrap();
    assert!(text.contains("\"segment.wasm\""), "{text}");
    folder.install("segment.wasm", "other.wasm");
    folder.write("p.toml", text.replace("\"segment.wasm\"", "\"other.wasm\""));
    assert_eq!(folder.run(&["apply", "p.toml"]).expect(0).stdout, "nothing is different\n");
    // the file of before is nobody's any more
    folder.install("uppercase.wasm", "segment.wasm");
    folder.install("segment-finer.wasm", "other.wasm");
    process.wait_for(From::Stderr, "swapped segment");
    process.wait_for(From::Stdout, "medium");
    process.signal("INT");
    let output = process.finish().expect(0);
    assert!(!output.stderr.contains("not swapped"), "{}", output.stderr);
}

#[test]
fn a_file_that_is_no_use_leaves_the_running_version_alone() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml", "--watch"]);
    process.wait_for(From::Stdout, "small");
    folder.write("segment.wasm", "half a fi");
    process.wait_for(From::Stderr, "is not WebAssembly");
    // another kind of operator
    folder.install("interested.wasm", "segment.wasm");
    process.wait_for(From::Stderr, "the running version goes on");
    // another result
    folder.install("uppercase.wasm", "segment.wasm");
    process.wait_for(From::Stderr, "output `segment`: running segment: text");
    process.wait_for(From::Stdout, "small");
    folder.install("segment-finer.wasm", "segment.wasm");
    process.wait_for(From::Stderr, "swapped segment");
    process.wait_for(From::Stdout, "medium");
    process.signal("INT");
    process.finish().expect(0);
}

#[test]
fn a_reader_that_has_enough_ends_the_run_quietly() {
    let folder = visits();
    let mut command = folder.command(&["run", "p.toml"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    {
        use std::io::BufRead;
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        reader.read_line(&mut line).unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(line.contains("segment") && !stderr.contains("error"), "{stderr}");
}

#[test]
fn status_is_told_at_the_interval_that_was_asked_for() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml", "--status-interval", "100ms"]);
    process.wait_for(From::Stderr, "visits · ");
    let second = process.wait_for(From::Stderr, "visits · ");
    assert!(second.contains(" read (") && second.contains(" written"), "{second}");
    process.signal("INT");
    process.finish().expect(0);
}
