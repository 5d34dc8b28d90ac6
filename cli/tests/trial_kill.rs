//! Processes that are killed while candidates are tried: after the restart the running version runs alone, and each row was
//! handled once and counted once.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use support::Folder;
use support::numbers::{ROWS, numbers, shown, status, two_versions, wait_for_rows};

/// Rows that are tagged and counted by key, with the second version of the map and of the aggregate beside.
fn folder(parallelism: usize) -> Folder {
    let folder = numbers(parallelism, 20, STEPS);
    two_versions(&folder, "version-map.wasm", ("tag.wasm", "tag-2.wasm"), ("version-000a", "version-000b"));
    two_versions(&folder, "version-sum.wasm", ("sums.wasm", "sums-2.wasm"), ("sum-a", "sum-b"));
    folder
}

const STEPS: &str = r#"
[step.tag]
from = "numbers"
map = "tag.wasm"
keep = "all"
[step.sums]
from = "numbers"
key_by = ["key"]
aggregate = { rows = "count()", sums = "sums.wasm" }
[sink.out]
from = "tag"
file = { path = "out/rows.json" }
[sink.sums]
from = "sums"
file = { path = "sums/rows.json" }
"#;

/// Runs until a good part has been read, begins a trial, and is killed so long after.
fn die_in_trial(folder: &Folder, how: &[&str], pause: Duration) -> Value {
    let process = folder.start(&["run", "pipeline.toml"]);
    wait_for_rows(folder, "tag");
    let offers = ["swap", "numbers", "tag=tag-2.wasm", "sums=sums-2.wasm", "--detach"];
    folder.run(&[&offers[..], how].concat()).expect(0);
    std::thread::sleep(pause);
    let trial = status(folder)["trial"].clone();
    process.signal("KILL");
    assert_eq!(process.finish().code, None);
    trial
}

fn rows(folder: &Folder, name: &str) -> Vec<Value> {
    shown(folder, name).into_iter().map(|(_, row)| row).collect()
}

fn dies_and_goes_on_alone(how: &[&str]) {
    for (parallelism, pause_ms) in [(1, 0), (1, 200), (3, 0), (3, 200)] {
        let what = format!("{how:?} with {parallelism} tasks, killed after {pause_ms} ms");
        let folder = folder(parallelism);
        let trial = die_in_trial(&folder, how, Duration::from_millis(pause_ms));
        assert_eq!(trial["state"], "running", "{what}: {trial}");
        let mut process = folder.start(&["run", "pipeline.toml"]);
        process.wait_for(support::From::Stderr, "restored from checkpoint");
        let after = status(&folder);
        if after.is_object() {
            assert_eq!(after["trial"], Value::Null, "{what}");
            for node in after["status"]["nodes"].as_array().unwrap() {
                for version in node["components"].as_array().unwrap() {
                    assert_eq!(version["version"], 1, "{what}: {node}");
                }
            }
        }
        process.finish().expect(0);

        let mut seen: BTreeMap<u64, bool> = BTreeMap::new();
        for row in rows(&folder, "out") {
            let again = seen.insert(row["sequence"].as_u64().unwrap(), row["version"] == "version-000b");
            assert_eq!(again, None, "{what}: twice: {row}");
        }
        assert!(seen.keys().copied().eq(0..ROWS), "{what}: {} rows", seen.len());
        let second = seen.values().filter(|second| **second).count();
        if how[0] == "--shadow" {
            assert_eq!(second, 0, "{what}: a row of a shadow came out");
        }
        assert!(!seen[&(ROWS - 1)], "{what}: the candidate has come back");
        let mut counts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        let sums = rows(&folder, "sums");
        for row in &sums {
            let (key, count) = (row["key"].as_u64().unwrap(), row["rows"].as_u64().unwrap());
            assert!(counts.entry(key).or_default().insert(count), "{what}: counted twice: {row}");
        }
        assert_eq!(sums.len() as u64, ROWS, "{what}");
        for (key, counts) in counts {
            assert!(counts.iter().copied().eq(1..=counts.len() as u64), "{what}: key {key} has gaps");
        }
    }
}

#[test]
fn a_process_that_dies_in_a_canary_goes_on_with_the_running_version_alone() {
    dies_and_goes_on_alone(&["--canary", "50%"]);
}

#[test]
fn a_process_that_dies_in_a_shadow_trial_goes_on_without_it() {
    dies_and_goes_on_alone(&["--shadow", "1h"]);
}

/// The same with sums whose second version keeps other state: a checkpoint has all state as the running version keeps it.
#[test]
fn a_process_that_dies_in_a_canary_that_migrates_has_counted_each_row_in_the_running_version() {
    for parallelism in [1, 3] {
        let folder = folder(parallelism);
        folder.install("migrate-sum-1.wasm", "sums.wasm");
        folder.install("migrate-sum-2.wasm", "sums-2.wasm");
        let trial = die_in_trial(&folder, &["--canary", "50%"], Duration::from_millis(250));
        assert_eq!(trial["state"], "running", "{trial}");
        folder.start(&["run", "pipeline.toml"]).finish().expect(0).says(&["restored from checkpoint"]);
        let sums = rows(&folder, "sums");
        assert_eq!(sums.len() as u64, ROWS);
        let mut last: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut tried = 0;
        for row in &sums {
            let [key, count, first, second] =
                ["key", "rows", "rows_1", "rows_2"].map(|name| row[name].as_u64().unwrap());
            assert_eq!(first + second, count, "{row}");
            tried += u64::from(second > 0);
            let before = last.entry(key).or_default();
            *before = (*before).max((count, second));
        }
        assert!(tried > 0, "the canary has shown nothing before the process died");
        assert!(last.values().all(|(_, second)| *second == 0), "in the end all is the running version's: {last:?}");
        assert_eq!(last.values().map(|(count, _)| count).sum::<u64>(), ROWS);
    }
}
