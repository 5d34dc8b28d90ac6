//! Processes that are killed while candidates are tried: after the restart the running version runs alone, and each row was
//! handled once and counted once.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Folder, guest};

const ROWS: u64 = 24_000;

/// Rows that are tagged and counted by key, with the second version of the map and of the aggregate beside.
fn folder(parallelism: usize) -> Folder {
    let folder = Folder::new();
    folder.write(
        "pipeline.toml",
        format!(
            r#"
name = "numbers"
parallelism = {parallelism}
checkpoint = {{ store = "state", interval = "50ms" }}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS}, rate = 24_000 }}
[step.tag]
from = "numbers"
map = "tag.wasm"
keep = "all"
[step.sums]
from = "numbers"
key_by = ["key"]
aggregate = {{ rows = "count()", sums = "sums.wasm" }}
[sink.out]
from = "tag"
file = {{ path = "out/rows.json" }}
[sink.sums]
from = "sums"
file = {{ path = "sums/rows.json" }}
"#
        ),
    );
    for (name, first, old, new) in
        [("version-map.wasm", "tag", "version-000a", "version-000b"), ("version-sum.wasm", "sums", "sum-a", "sum-b")]
    {
        folder.install(name, &format!("{first}.wasm"));
        let (text, old, new) = (std::fs::read(guest(name)).unwrap(), old.as_bytes(), new.as_bytes());
        let mut second = text.clone();
        for at in 0..text.len().saturating_sub(old.len()) {
            if &text[at..at + old.len()] == old {
                second[at..at + new.len()].copy_from_slice(new);
            }
        }
        assert_ne!(text, second);
        folder.write(&format!("{first}-2.wasm"), second);
    }
    folder
}

fn status(folder: &Folder) -> Value {
    serde_json::from_str(&folder.run(&["status", "numbers", "--json"]).stdout).unwrap_or_default()
}

/// Runs until a good part has been read, begins a trial, and is killed so long after.
fn die_in_trial(folder: &Folder, how: &[&str], pause: Duration) -> Value {
    let process = folder.start(&["run", "pipeline.toml"]);
    let until = Instant::now() + support::SOON;
    let rows_in = |status: &Value| {
        let nodes = status["status"]["nodes"].as_array();
        let tag = nodes.and_then(|nodes| nodes.iter().find(|node| node["name"] == "tag"));
        tag.and_then(|tag| tag["counts"]["rows_in"].as_u64())
    };
    while rows_in(&status(folder)) <= Some(ROWS / 6) {
        assert!(Instant::now() < until, "no rows");
        std::thread::sleep(Duration::from_millis(10));
    }
    let offers = ["swap", "numbers", "tag=tag-2.wasm", "sums=sums-2.wasm", "--detach"];
    folder.run(&[&offers[..], how].concat()).expect(0);
    std::thread::sleep(pause);
    let trial = status(folder)["trial"].clone();
    process.signal("KILL");
    assert_eq!(process.finish().code, None);
    trial
}

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
