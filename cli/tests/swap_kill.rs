//! Processes that die in the middle of a swap: each row that is visible at the end was seen by one version, there is one cut
//! through all tasks, and no row is lost or doubled. After the restart all tasks run the same version.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::Folder;
use support::numbers::{ROWS, numbers, shown, status, two_versions, wait_for_rows};

/// Where the process dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// at a fail point
    At(&'static str),
    /// so long after the swap was done
    After(Duration),
}

fn folder(parallelism: usize) -> Folder {
    let steps = r#"
[step.tag]
from = "numbers"
map = "tag.wasm"
keep = "all"
[sink.out]
from = "tag"
file = { path = "out/rows.json" }
"#;
    let folder = numbers(parallelism, 20, steps);
    two_versions(&folder, "version-map.wasm", ("tag.wasm", "second.wasm"), ("version-000a", "version-000b"));
    folder
}

/// Runs until a good part has been read, swaps, and dies. Whether state had spilled.
fn die_in_swap(folder: &Folder, death: Death) -> bool {
    let mut command = folder.command(&["run", "pipeline.toml"]);
    if let Death::At(point) = death {
        command.env("MILLSTREAM_FAILPOINT", point);
    }
    let process = support::Process::start(command);
    wait_for_rows(folder, "tag");
    let spilled = spilled(folder, "tag");
    let swapped = folder.run(&["swap", "numbers", "tag=second.wasm"]);
    if let Death::After(pause) = death {
        assert_eq!(swapped.code, Some(0), "{}", swapped.stderr);
        std::thread::sleep(pause);
        process.signal("KILL");
    }
    assert_eq!(process.finish().code, None, "{death:?}: it was to die");
    spilled
}

/// Whether state of a step is in the scratch store.
fn spilled(folder: &Folder, step: &str) -> bool {
    let status = status(folder);
    let nodes = status["status"]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["name"] == step).unwrap();
    node["counts"]["spilled_bytes"].as_u64() > Some(0)
}

/// Rows by epoch: number and whether the second version saw it.
fn epochs(folder: &Folder) -> BTreeMap<u64, Vec<(u64, bool)>> {
    let mut epochs: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    for (epoch, row) in shown(folder, "out") {
        let second = row["version"] == "version-000b";
        assert!(second || row["version"] == "version-000a", "{row}");
        epochs.entry(epoch).or_default().push((row["sequence"].as_u64().unwrap(), second));
    }
    epochs
}

#[track_caller]
fn assert_one_cut(folder: &Folder, parallelism: u64, what: &str) {
    let epochs = epochs(folder);
    let mut all: Vec<(u64, bool)> = epochs.values().flatten().copied().collect();
    all.sort_unstable();
    assert!(all.iter().map(|(sequence, _)| *sequence).eq(0..ROWS), "{what}: {} rows, each once", all.len());
    // within a lane: the first version, then the second, then whichever runs after the restart
    for lane in 0..parallelism {
        let versions: Vec<bool> =
            all.iter().filter(|(sequence, _)| sequence % parallelism == lane).map(|(_, second)| *second).collect();
        assert!(!versions[0], "{what}: lane {lane} begins with the first version");
        let changes = versions.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes <= 2, "{what}: lane {lane} changes {changes} times");
    }
    // through all tasks: one epoch at most has rows of both versions, as the swap came within it; all others are of one
    let versions = |rows: &Vec<(u64, bool)>| rows.iter().map(|(_, second)| *second).collect::<BTreeSet<bool>>();
    let mut runs: Vec<BTreeSet<bool>> = epochs.values().map(versions).collect();
    runs.dedup();
    let (first, second, both) = (BTreeSet::from([false]), BTreeSet::from([true]), BTreeSet::from([false, true]));
    assert!(runs.iter().filter(|run| **run == both).count() <= 1, "{what}: {runs:?}");
    runs.retain(|run| *run != both);
    runs.dedup();
    let known = [vec![&first], vec![&first, &second], vec![&first, &second, &first]];
    assert!(known.contains(&runs.iter().collect()), "{what}: {runs:?}");
}

fn dies_and_goes_on(parallelism: usize, deaths: &[Death]) {
    for death in deaths {
        let folder = folder(parallelism);
        die_in_swap(&folder, *death);
        folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint"]);
        assert_one_cut(&folder, parallelism as u64, &format!("{death:?} with {parallelism} tasks"));
    }
}

#[test]
fn one_task_that_dies_in_a_swap_loses_and_doubles_nothing() {
    let deaths = [
        Death::At("swap-ready"),
        Death::At("swap-task"),
        Death::At("swap-passed"),
        Death::After(Duration::from_millis(150)),
    ];
    dies_and_goes_on(1, &deaths);
}

#[test]
fn three_tasks_that_die_in_a_swap_have_one_cut() {
    let deaths = [
        Death::At("swap-ready"),
        Death::At("swap-task:1"),
        Death::At("swap-task:2"),
        Death::At("swap-task:3"),
        Death::At("swap-passed"),
        Death::After(Duration::ZERO),
        Death::After(Duration::from_millis(150)),
    ];
    dies_and_goes_on(3, &deaths);
}

/// As [`folder`] with sums by key that another version can take over, most of which are in the scratch store or none.
fn sums(parallelism: usize, spills: bool) -> Folder {
    let steps = r#"
[step.tag]
from = "numbers"
key_by = "key"
aggregate = { rows = "count()", sums = "sums.wasm" }
[sink.out]
from = "tag"
file = { path = "out/rows.json" }
"#;
    let state = if spills { "[state]\nmemory = \"8KiB\"\nspill = \"scratch\"" } else { "" };
    let folder = numbers(parallelism, 500, &format!("{state}{steps}"));
    folder.install("migrate-sum-1.wasm", "sums.wasm");
    folder.install("migrate-sum-2.wasm", "second.wasm");
    folder
}

/// Results of each key as counted by either version, in the order of its rows.
fn assert_each_row_is_counted_once(folder: &Folder, dies_ahead: bool, what: &str) {
    let mut keys: BTreeMap<i64, BTreeMap<i64, (i64, i64)>> = BTreeMap::new();
    for (_, row) in shown(folder, "out") {
        let [key, rows, first, second] = ["key", "rows", "rows_1", "rows_2"].map(|name| row[name].as_i64().unwrap());
        assert!(keys.entry(key).or_default().insert(rows, (first, second)).is_none(), "{what}: twice: {row}");
        assert!(first + second == rows && !(dies_ahead && second > 0), "{what}: {row}");
    }
    assert_eq!(keys.values().map(BTreeMap::len).sum::<usize>() as u64, ROWS, "{what}");
    for (key, results) in keys {
        assert!(results.keys().copied().eq(1..=results.len() as i64), "{what}: key {key}");
        assert!(results.values().map(|(_, second)| second).is_sorted(), "{what}: key {key}");
    }
}

#[test]
fn a_process_that_dies_while_state_is_migrated_ahead_or_at_the_cut_counts_each_row_once() {
    for (parallelism, spills) in [(1, false), (3, false), (1, true), (3, true)] {
        for (point, ahead) in [
            // a piece of each task
            (if parallelism == 1 { "migration-piece" } else { "migration-piece:3" }, true),
            ("swap-ready", true),
            ("swap-task", false),
            ("swap-passed", false),
        ] {
            let what = format!("{point} with {parallelism} tasks, spills: {spills}");
            let folder = sums(parallelism, spills);
            assert_eq!(die_in_swap(&folder, Death::At(point)), spills, "{what}");
            folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint"]);
            assert_each_row_is_counted_once(&folder, ahead, &what);
        }
    }
}
