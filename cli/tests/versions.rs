//! Versions of components outlive the process: stopped, killed, started again, with another file, gone back from.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use serde_json::Value;
use support::{Folder, From, Process, json};

/// Visits without end, mapped to segments: `segment` knows `large` and `small`, `segment-finer` also `medium`.
const VISITS: &str = r#"
name = "visits"
parallelism = 2
checkpoint = { store = "state", interval = "20ms", retain = 2 }
[source.visits]
generator = { kind = "customers", rate = 2000, seed = 7 }
[step.segment]
from = "visits"
map = "segment.wasm"
[sink.out]
from = "segment"
file = { path = "out/rows.json" }
"#;

fn visits() -> Folder {
    let folder = Folder::new();
    folder.write("p.toml", VISITS).install("segment.wasm", "segment.wasm").install("segment-finer.wasm", "finer.wasm");
    folder
}

fn start(folder: &Folder, more: &[&str]) -> Process {
    let mut arguments = vec!["run", "p.toml"];
    arguments.extend(more);
    let mut process = folder.start(&arguments);
    wait_for_socket(folder, &mut process);
    checkpoints(folder);
    process
}

/// A pipeline that has started answers.
fn wait_for_socket(folder: &Folder, process: &mut Process) {
    let until = std::time::Instant::now() + support::SOON;
    while folder.run(&["status", "visits"]).code != Some(0) {
        assert!(std::time::Instant::now() < until && process.is_running(), "it does not run");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Waits until a checkpoint has been made that began after this call.
fn checkpoints(folder: &Folder) {
    let made = || json(folder, &["status", "visits", "--json"])["status"]["checkpoints"]["made"].as_u64().unwrap();
    let before = made();
    while made() < before + 2 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// Numbers and digests of the versions of `segment`, the one that runs first, which is asked of its tasks as well.
fn versions(folder: &Folder) -> (u64, Vec<(u64, String)>) {
    let status = json(folder, &["status", "visits", "--json"]);
    let versions = status["versions"]["segment"].as_array().unwrap();
    let of = |version: &Value| (version["number"].as_u64().unwrap(), version["digest"].as_str().unwrap().to_owned());
    let current = of(versions.iter().find(|version| version["current"] == true).unwrap());
    let nodes = status["status"]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|node| node["name"] == "segment").unwrap();
    let components = node["components"].as_array().unwrap();
    assert_eq!(components.len(), 1, "{components:?}");
    assert_eq!(components[0]["digest"], current.1.as_str());
    (current.0, versions.iter().map(of).collect())
}

/// By SIGKILL.
fn kill(process: Process) {
    drop(process);
}

#[test]
fn what_was_swapped_in_runs_after_a_kill_and_can_be_rolled_back() {
    let folder = visits();
    let process = start(&folder, &[]);
    let (_, first) = versions(&folder);
    json(&folder, &["swap", "visits", "segment=finer.wasm", "--json"]);
    let swapped = versions(&folder);
    assert_eq!((swapped.0, swapped.1.len()), (2, 2));
    checkpoints(&folder);
    kill(process);
    // what was swapped in need not be where it was
    std::fs::remove_file(folder.path("finer.wasm")).unwrap();
    let shown = folder.run(&["checkpoint", "show", "p.toml"]).expect(0).stdout;
    assert!(shown.contains("runs v2") && shown.contains("kept v1") && shown.contains("finer.wasm"), "{shown}");
    folder.run(&["checkpoint", "verify", "p.toml"]).expect(0);

    let mut process = folder.start(&["run", "p.toml", "--json"]);
    let restored = process.wait_for(From::Stderr, "\"event\":\"restored\"");
    assert!(restored.contains("step `segment` runs version 2") && restored.contains("--components declared"));
    wait_for_socket(&folder, &mut process);
    assert_eq!(versions(&folder), swapped);
    folder.run(&["rollback", "visits"]).expect(0);
    assert_eq!(versions(&folder).0, 1);
    checkpoints(&folder);
    kill(process);

    // a swap that is undone is undone after a restart as well, and its number is not given again
    let process = start(&folder, &[]);
    assert_eq!(versions(&folder), (1, swapped.1));
    folder.install("segment-finer.wasm", "finer.wasm");
    json(&folder, &["swap", "visits", "segment=finer.wasm", "--json"]);
    let (number, all) = versions(&folder);
    assert_eq!((number, all[0].clone(), all.len()), (3, first[0].clone(), 2));
    process.signal("TERM");
    process.finish().expect(0);
    let process = start(&folder, &[]);
    assert_eq!(versions(&folder).0, 3);
    kill(process);
}

#[test]
fn a_file_that_has_changed_since_wins_and_so_does_who_asks_for_it() {
    let folder = visits();
    let process = start(&folder, &[]);
    let (_, first) = versions(&folder);
    json(&folder, &["swap", "visits", "segment=finer.wasm", "--json"]);
    checkpoints(&folder);
    kill(process);

    let process = start(&folder, &["--components", "declared"]);
    let (number, all) = versions(&folder);
    assert_eq!((number, &all[2].1, all.len()), (3, &first[0].1, 3));
    folder.run(&["rollback", "visits", "segment"]).expect(0);
    assert_eq!(versions(&folder).0, 2);
    checkpoints(&folder);
    kill(process);

    // another build in the place of the first, which is nowhere else any more
    let mut other = std::fs::read(folder.path("segment.wasm")).unwrap();
    // a custom section that is called `note`
    other.extend([0, 5, 4]);
    other.extend(b"note");
    folder.write("segment.wasm", other);
    let process = start(&folder, &[]);
    let (number, all) = versions(&folder);
    assert_eq!(number, 4, "{all:?}");
    folder.run(&["rollback", "visits", "segment"]).expect(0);
    folder.run(&["rollback", "visits", "segment"]).expect(0);
    assert_eq!(versions(&folder).0, 1);
    kill(process);
}

#[test]
fn a_version_that_is_lost_stops_the_start_and_names_the_way_on() {
    let folder = visits();
    let process = start(&folder, &[]);
    json(&folder, &["swap", "visits", "segment=finer.wasm", "--json"]);
    checkpoints(&folder);
    let (_, all) = versions(&folder);
    kill(process);
    let file = folder.path(&format!("state/visits/components/{}.wasm", all[1].1));
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[1..]).unwrap();
    let said =
        ["version 2 of step `segment`", "is damaged", "`--components declared` runs what the pipeline file names"];
    folder.run(&["run", "p.toml"]).expect(1).says(&said);
    let verified = folder.run(&["checkpoint", "verify", "p.toml"]).expect(3).stdout;
    assert!(verified.contains("is damaged"), "{verified}");
    std::fs::remove_file(&file).unwrap();
    folder.run(&["run", "p.toml"]).expect(1).says(&["version 2 of step `segment`", "is missing"]);
    let process = start(&folder, &["--components", "declared"]);
    assert_eq!(versions(&folder).0, 3);
    let refused = folder.run(&["rollback", "visits", "segment"]).expect(2);
    refused.says(&["version 2 of step `segment`", "is missing", "nothing has changed"]);
    assert_eq!(versions(&folder).0, 3);
    kill(process);
}

#[test]
fn what_was_swapped_in_stays_over_a_rescale_and_a_kill_and_can_be_rolled_back() {
    let folder = visits();
    let process = start(&folder, &[]);
    json(&folder, &["swap", "visits", "segment=finer.wasm", "--json"]);
    let swapped = versions(&folder);
    folder.run(&["rescale", "visits", "3"]).expect(0);
    assert_eq!(versions(&folder), swapped);
    checkpoints(&folder);
    kill(process);

    // no file was read for the rescale: what the file names has not changed
    let process = start(&folder, &[]);
    assert_eq!(versions(&folder), swapped);
    folder.run(&["rollback", "visits"]).expect(0);
    assert_eq!(versions(&folder).0, 1);
    kill(process);
}
