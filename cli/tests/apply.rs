//! `apply`, `rescale` and `set` against a pipeline in another process, and processes that die in the middle of a change.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use support::{Folder, From, json};

/// Orders of a customer by value; the smallest that counts is configured.
fn orders(minimum: f64, more: &str) -> String {
    format!(
        r#"
name = "orders"
[source.customers]
generator = {{ kind = "customers", rate = 20000, seed = 7 }}
[step.large]
from = "customers"
filter = {{ component = "min-amount.wasm", config = {{ minimum = {minimum:?} }} }}
[step.counts]
from = "large"
key_by = ["customer"]
window = {{ tumbling = "1s" }}
aggregate = {{ orders = "count()", smallest = "min(amount)" }}
[sink.out]
from = "counts"
print = {{}}
{more}
"#
    )
}

fn tasks(status: &Value, node: &str) -> u64 {
    let nodes = status["status"]["nodes"].as_array().unwrap();
    nodes.iter().find(|one| one["name"] == node).unwrap()["tasks"].as_u64().unwrap()
}

#[test]
fn a_file_is_applied_to_the_process_that_runs_it() {
    let folder = Folder::new();
    folder.install("min-amount.wasm", "min-amount.wasm").write("p.toml", orders(0.0, ""));
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "customer");
    assert_eq!(folder.run(&["apply", "p.toml"]).expect(0).stdout, "nothing is different\n");

    let copy = "[sink.copy]\nfrom = \"large\"\nfile = { path = \"copy.json\" }";
    folder.write("p.toml", orders(90.0, copy));
    let text = folder.run(&["apply", "p.toml", "--dry-run"]).expect(0).stdout;
    assert!(text.contains("config.minimum  0 → 90  swap") && text.contains("sink copy"), "{text}");
    assert!(text.contains("nothing has changed; tasks end at a barrier"), "{text}");
    assert_eq!(json(&folder, &["status", "orders", "--json"])["status"]["generation"], 0);
    let text = folder.run(&["apply", "p.toml"]).expect(0).stdout;
    assert!(text.contains("applied in") && text.contains("generation 1"), "{text}");
    process.wait_for(From::Stdout, "\"smallest\":9");

    let text = folder.run(&["rescale", "orders", "3"]).expect(0).stdout;
    assert!(text.contains("step counts") && text.contains("1 → 3") && text.contains("generation 2"), "{text}");
    let status = json(&folder, &["status", "orders", "--json"]);
    assert_eq!((tasks(&status, "counts"), tasks(&status, "out")), (3, 1));
    assert!(folder.run(&["status", "orders"]).expect(0).stdout.contains("generation 2"));
    let text = folder.run(&["set", "p.toml", "large.minimum=50"]).expect(0).stdout;
    assert!(text.contains("90 → 50") && text.contains("longest pause of a task"), "{text}");

    // what is refused changes nothing
    folder.write("p.toml", orders(50.0, copy).replace("tumbling = \"1s\"", "tumbling = \"2s\""));
    let text = folder.run(&["apply", "p.toml", "--dry-run"]).expect(2).stdout;
    assert!(text.contains("say `--approve counts`"), "{text}");
    folder.run(&["apply", "p.toml"]).expect(2).says(&[
        "state would be lost",
        "`--approve counts`",
        "nothing has changed",
    ]);
    folder.run(&["set", "orders", "large.maximum=1"]).expect(2).says(&["maximum"]);
    folder.write("p.toml", orders(50.0, copy).replace("seed = 7", "seed = 8"));
    folder.run(&["apply", "p.toml", "--dry-run"]).expect(2);
    folder.run(&["apply", "p.toml"]).expect(2).says(&["cannot change while the pipeline runs", "another name"]);
    folder.write("p.toml", orders(50.0, copy).replace("min-amount.wasm", "nowhere.wasm"));
    folder.run(&["apply", "p.toml"]).expect(2).says(&["nowhere.wasm", "p.toml:"]);
    assert_eq!(json(&folder, &["status", "orders", "--json"])["status"]["generation"], 2);

    folder.write("p.toml", orders(50.0, ""));
    let text = folder.run(&["apply", "p.toml", "--json"]).expect(0).stdout;
    let applied: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&applied["answer"], &applied["generation"]), (&Value::from("applied"), &Value::from(3)));
    assert!(folder.path("copy.json").is_file(), "a sink that is removed has shown its rows");
    folder.run(&["stop", "orders"]).expect(0);
    process.finish().expect(0);
}

const ROWS: usize = 24_000;

/// `ROWS` numbered rows in about a second, and a copy of them by way of a step, by so many tasks.
fn numbers(tasks: usize, more: &str) -> String {
    format!(
        r#"
name = "numbers"
checkpoint = {{ store = "state", interval = "50ms", retain = 3 }}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS}, rate = 24_000 }}
[step.sums]
from = "numbers"
parallelism = {tasks}
key_by = ["key"]
aggregate = {{ rows = "count()" }}
[sink.sums]
from = "sums"
file = {{ path = "sums/rows.json" }}
[sink.out]
from = "numbers"
file = {{ path = "out/rows.json" }}
{more}
"#
    )
}

/// The rows in the visible files of a folder.
fn rows(folder: &Folder, name: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.path(name)).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_name().to_string_lossy().starts_with('.') {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            found.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        }
    }
    found
}

fn number(row: &Value, field: &str) -> usize {
    usize::try_from(row[field].as_u64().unwrap()).unwrap()
}

/// The numbers of rows that are visible, sorted.
fn numbers_in(folder: &Folder, name: &str) -> Vec<usize> {
    let mut numbers: Vec<usize> = rows(folder, name).iter().map(|row| number(row, "sequence")).collect();
    numbers.sort_unstable();
    numbers
}

/// Dies at `point` in the middle of a change, and is started with `then`: every row is seen once, every sum counted on.
fn dies_at(point: &str, then: &str) {
    let folder = Folder::new();
    let copy = "[sink.copy]\nfrom = \"numbers\"\nfile = { path = \"copy/rows.json\" }";
    folder.write("old.toml", numbers(1, "")).write("new.toml", numbers(3, copy));
    let mut command = folder.command(&["run", "old.toml"]);
    command.env("MILLSTREAM_FAILPOINT", point);
    let process = support::Process::start(command);
    // rows are on their way, checkpoints too
    while !folder.path("out").is_dir() || numbers_in(&folder, "out").len() < ROWS / 8 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let applied = folder.run(&["apply", "new.toml"]);
    assert_ne!(applied.code, Some(0), "{point}: it was to die");
    drop(process);
    folder.run(&["run", then]).expect(0);
    assert!(numbers_in(&folder, "out").into_iter().eq(0..ROWS), "{point}, {then}");
    let mut sums: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for row in rows(&folder, "sums") {
        sums.entry(number(&row, "key")).or_default().push(number(&row, "rows"));
    }
    assert_eq!(sums.values().map(Vec::len).sum::<usize>(), ROWS, "{point}, {then}");
    for (key, mut counted) in sums {
        counted.sort_unstable();
        assert!(counted.iter().copied().eq(1..=counted.len()), "{point}, {then}: key {key}");
    }
    if then == "new.toml" {
        let copied = numbers_in(&folder, "copy");
        let (first, last) = (copied[0], copied[copied.len() - 1]);
        assert!(copied.into_iter().eq(first..=last) && last + 1 == ROWS, "{point}: {first}..={last}");
    }
}

#[test]
fn a_process_that_dies_in_the_middle_of_a_change_goes_on_with_either_file() {
    for point in ["change-cut", "change-opened"] {
        for then in ["old.toml", "new.toml"] {
            dies_at(point, then);
        }
    }
}

/// Dies at `point` in the middle of a change from `old` that gives up the sums of `sums`, and is started with `then`. The rows
/// of the sums by key, in order.
fn dies_giving_up(point: &str, new: &str, then: &str) -> BTreeMap<usize, Vec<usize>> {
    let folder = Folder::new();
    folder.write("old.toml", numbers(1, "")).write("new.toml", new);
    let mut command = folder.command(&["run", "old.toml"]);
    command.env("MILLSTREAM_FAILPOINT", point);
    let process = support::Process::start(command);
    while !folder.path("out").is_dir() || numbers_in(&folder, "out").len() < ROWS / 8 {
        std::thread::sleep(Duration::from_millis(5));
    }
    folder.run(&["apply", "new.toml"]).expect(2).says(&["state would be lost", "--approve sums"]);
    let applied = folder.run(&["apply", "new.toml", "--approve", "sums"]);
    assert_ne!(applied.code, Some(0), "{point}: it was to die");
    drop(process);
    folder.run(&["run", then]).expect(0);
    assert!(numbers_in(&folder, "out").into_iter().eq(0..ROWS), "{point}, {then}");
    let mut sums: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for row in rows(&folder, "sums") {
        sums.entry(number(&row, "key")).or_default().push(number(&row, "rows"));
    }
    sums.values_mut().for_each(|counts| counts.sort_unstable());
    sums
}

#[test]
fn a_process_that_dies_while_state_is_given_up_goes_on_with_either_file() {
    let gone = numbers(1, "");
    let (from, to) = (gone.find("[step.sums]").unwrap(), gone.find("[sink.out]").unwrap());
    let gone = gone.replace(&gone[from..to], "");
    // the same name, other state
    let other = numbers(1, "").replace("aggregate = { rows =", "aggregate = { most = \"max(amount)\", rows =");
    for point in ["change-cut", "change-opened"] {
        for new in [&gone, &other] {
            let sums = dies_giving_up(point, new, "old.toml");
            for counted in sums.values() {
                assert!(counted.iter().copied().eq(1..=counted.len()), "{point}: the old file has the sums still");
            }
            assert_eq!(sums.values().map(Vec::len).sum::<usize>(), ROWS, "{point}");
        }
        dies_giving_up(point, &gone, "new.toml");
        let sums = dies_giving_up(point, &other, "new.toml");
        assert!(sums.values().all(|counts| counts[0] == 1 && counts[1] == 1), "{point}: counted anew: {sums:?}");
        assert_eq!(sums.values().map(Vec::len).sum::<usize>(), ROWS, "{point}");
    }
}
