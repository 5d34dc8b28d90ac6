//! `status`, `swap`, `plan`, `rollback`, `pause`, `resume` and `stop` against a pipeline in another process.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use support::visits::PRINTED;
use support::{Folder, From, json};

/// A pipeline that is to be run.
fn visits() -> Folder {
    support::visits::visits(20_000, "", PRINTED)
}

fn rows_in(status: &Value, node: &str) -> u64 {
    let nodes = status["status"]["nodes"].as_array().unwrap();
    let found = nodes.iter().find(|one| one["name"] == node).unwrap();
    found["counts"]["rows_in"].as_u64().unwrap()
}

fn current(status: &Value, step: &str) -> u64 {
    let versions = status["versions"][step].as_array().unwrap();
    versions.iter().find(|version| version["current"] == true).unwrap()["number"].as_u64().unwrap()
}

#[test]
fn a_step_is_swapped_and_rolled_back_from_another_process() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "segment");
    let before = json(&folder, &["status", "visits", "--json"]);
    assert_eq!(current(&before, "segment"), 1);

    let plan = json(&folder, &["plan", "visits", "segment=finer.wasm", "--json"]);
    assert_eq!(plan["planned"][0]["verdict"], "identical");
    assert_eq!(current(&json(&folder, &["status", "p.toml", "--json"]), "segment"), 1, "a plan changes nothing");

    let swapped = json(&folder, &["swap", "visits", "segment=finer.wasm", "--json"]);
    let (from, to) = (&swapped["swapped"][0]["from"], &swapped["swapped"][0]["to"]);
    assert_eq!(from, &before["versions"]["segment"][0]["digest"]);
    assert_eq!(to, &plan["planned"][0]["to"]);
    let after = json(&folder, &["status", "visits", "--json"]);
    assert_eq!(current(&after, "segment"), 2);
    assert_eq!(after["status"]["nodes"][2]["components"][0]["digest"], *to);
    process.wait_for(From::Stdout, "medium");
    let text = folder.run(&["status", "visits"]).expect(0).stdout;
    let (_, history) = text.split_once("versions of segment\n").unwrap();
    let lines: Vec<&str> = history.lines().collect();
    assert_eq!(lines.len(), 2, "only what has changed has a history: {text}");
    assert!(lines[0].contains("v1 ") && lines[0].contains("segment.wasm  started with 2"), "{text}");
    assert!(lines[1].contains("v2 ") && lines[1].contains("finer.wasm  put in place 2"), "{text}");
    assert!(lines[1].ends_with(" UTC  runs") && !lines[0].ends_with("runs"), "{text}");

    let text = folder.run(&["rollback", "visits"]).expect(0).stdout;
    assert!(text.contains("rolled back segment"), "{text}");
    assert_eq!(current(&json(&folder, &["status", "visits", "--json"]), "segment"), 1);
    let nothing = ["nothing to roll back", "first version of this run", "; nothing has changed"];
    folder.run(&["rollback", "visits"]).expect(2).says(&nothing);
    folder.run(&["stop", "visits"]).expect(0);
    process.finish().expect(0);
    assert_eq!(folder.run(&["status"]).expect(0).stdout, "");
}

#[test]
fn what_does_not_fit_is_refused_and_the_running_version_goes_on() {
    let folder = visits();
    folder.install("uppercase.wasm", "uppercase.wasm");
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "segment");
    folder.run(&["swap", "visits", "segment=uppercase.wasm"]).expect(2).says(&[
        "does not fit step `segment`",
        "`millstream apply FILE`",
        "the running version goes on",
    ]);
    folder.run(&["swap", "visits", "segmen=finer.wasm"]).expect(2).says(&["did you mean `segment`?"]);
    folder.run(&["swap", "visits", "segment=nowhere.wasm"]).expect(2).says(&["nowhere.wasm"]);
    folder
        .run(&["swap", "visit", "segment=finer.wasm"])
        .expect(2)
        .says(&["no pipeline `visit`", "there run `visits`; did you mean `visits`?"]);
    let text = std::fs::read_to_string(folder.path("p.toml")).unwrap();
    folder.write("p.toml", format!("{text}\n[step.half"));
    assert_eq!(current(&json(&folder, &["status", "p.toml", "--json"]), "segment"), 1, "a file that is being edited");
    folder.write("p.toml", text.replace("name =", "nam ="));
    folder.run(&["status", "p.toml"]).expect(2).says(&["nam"]);
    folder.write("p.toml", text);
    folder.run(&["status", "visit.toml"]).expect(2).says(&["there is no file `visit.toml`", "there run `visits`"]);
    // two at once: one does not fit, so neither changes
    let both = ["swap", "visits", "segment=finer.wasm", "interested=uppercase.wasm"];
    folder.run(&both).expect(2);
    let status = json(&folder, &["status", "visits", "--json"]);
    assert_eq!((current(&status, "segment"), current(&status, "interested")), (1, 1));
    let output = folder.run(&["swap", "visits", "segment=uppercase.wasm", "--json"]).expect(2);
    let refused: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!((&refused["answer"], &refused["code"]), (&Value::from("refused"), &Value::from("does_not_fit")));
    folder.run(&["stop", "visits"]).expect(0);
    process.finish().expect(0);
}

#[test]
fn a_paused_pipeline_takes_nothing_in_and_loses_nothing() {
    let folder = Folder::new();
    let pipeline = r#"
name = "numbers"
[source.numbers]
generator = { kind = "sequence", rows = 40000, rate = 20000 }
[step.upper]
from = "numbers"
select = ["sequence"]
[sink.out]
from = "upper"
print = {}
"#;
    folder.write("p.toml", pipeline);
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "sequence");
    folder.run(&["pause", "numbers"]).expect(0);
    std::thread::sleep(Duration::from_millis(300));
    let first = json(&folder, &["status", "numbers", "--json"]);
    assert_eq!(first["status"]["paused"], true);
    std::thread::sleep(Duration::from_millis(400));
    let second = json(&folder, &["status", "numbers", "--json"]);
    assert_eq!(rows_in(&first, "out"), rows_in(&second, "out"));
    assert!(rows_in(&first, "out") < 40_000);
    folder.run(&["resume", "numbers"]).expect(0);
    let output = process.finish().expect(0);
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    for line in output.stdout.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        *seen.entry(row["sequence"].as_u64().unwrap()).or_default() += 1;
    }
    assert_eq!(seen.len(), 40_000);
    assert!(seen.values().all(|times| *times == 1));
}

#[test]
fn what_a_killed_process_left_behind_is_cleared_away() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "segment");
    let sockets = || std::fs::read_dir(folder.path("run")).unwrap().count();
    assert_eq!(sockets(), 1);
    process.signal("KILL");
    drop(process);
    assert_eq!(sockets(), 1);
    folder.run(&["status", "visits"]).expect(2).says(&["no pipeline runs here", "`millstream run FILE` starts one"]);
    assert_eq!(sockets(), 0);
}

#[test]
fn without_a_socket_nothing_can_be_asked() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml", "--no-control"]);
    process.wait_for(From::Stdout, "segment");
    folder.run(&["status", "visits"]).expect(2);
    process.signal("TERM");
    process.finish().expect(0);
}

#[test]
fn a_candidate_is_tried_in_shadow_and_the_report_shows_what_differs() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "segment");
    let text = folder.run(&["swap", "visits", "segment=finer.wasm", "--shadow", "700ms"]).expect(0).stdout;
    for part in ["shadow of segment: finished after", "running", "candidate", "rows compared", "differ (", "medium"] {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    let status = json(&folder, &["status", "visits", "--json"]);
    assert_eq!((current(&status, "segment"), &status["trial"]["state"]), (1, &Value::from("finished")));

    let over = folder.run(&["swap", "visits", "segment=finer.wasm", "--shadow", "1h", "--rollback-on", "diff>0.1%"]);
    let over = over.expect(3).stdout;
    assert!(over.contains("rolled back") && over.contains("diff>0.1%: "), "{over}");

    let started = ["swap", "visits", "segment=finer.wasm", "--canary", "25%", "--rollback-on", "traps>0", "--json"];
    let started = json(&folder, &started);
    assert_eq!((&started["answer"], &started["state"]), (&Value::from("trial"), &Value::from("running")));
    let status = folder.run(&["status", "visits"]).expect(0).stdout;
    assert!(status.contains("canary of 25.0% running") && status.contains("  segment: "), "{status}");
    folder.run(&["swap", "visits", "segment=finer.wasm"]).expect(2).says(&["a trial of `segment` goes on"]);
    // that of another step does not end it
    folder.run(&["rollback", "visits", "interested"]).expect(2).says(&["nothing to roll back: step `interested`"]);
    folder.run(&["rollback", "visits"]).expect(0);
    folder.run(&["promote", "visits"]).expect(2).says(&["no trial goes on"]);

    folder.run(&["swap", "visits", "segment=finer.wasm", "--shadow", "1h", "--detach"]).expect(0);
    folder.run(&["promote", "visits"]).expect(0);
    // the fourth candidate: those that were not promoted had numbers, too
    assert_eq!(current(&json(&folder, &["status", "visits", "--json"]), "segment"), 5);
    let back = folder.run(&["rollback", "visits"]).expect(0).stdout;
    assert!(back.contains("rolled back segment"), "{back}");

    let watched = ["swap", "visits", "segment=finer.wasm", "--watch", "500ms", "--rollback-on", "traps>0"];
    let watched = folder.run(&watched).expect(0).stdout;
    assert!(watched.contains("watch of segment: finished"), "{watched}");
    folder.run(&["stop", "visits"]).expect(0);
    process.finish().expect(0);
}

/// Begins a shadow of an hour in a process that waits for its end.
fn waits(folder: &Folder) -> support::Process {
    let mut waits = folder.start(&["swap", "visits", "segment=finer.wasm", "--shadow", "1h"]);
    waits.wait_for(From::Stderr, "`millstream rollback visits` ends it");
    waits
}

#[test]
fn who_waits_for_a_trial_is_told_by_the_exit_code_that_it_came_to_nothing() {
    let folder = visits();
    let mut process = folder.start(&["run", "p.toml"]);
    process.wait_for(From::Stdout, "segment");
    let taken_back = waits(&folder);
    folder.run(&["rollback", "visits"]).expect(0);
    assert!(taken_back.finish().expect(3).stdout.contains("rolled back"));
    let promoted = waits(&folder);
    folder.run(&["promote", "visits"]).expect(0);
    assert!(promoted.finish().expect(0).stdout.contains("promoted"));
    let lost = waits(&folder);
    process.signal("KILL");
    drop(process);
    lost.finish().expect(1).says(&["the trial has ended without a result", "`millstream status visits`"]);
}

#[test]
fn pipelines_with_long_names_that_begin_alike_are_told_apart() {
    let folder = Folder::new();
    let names = ["one", "two"].map(|end| format!("{}-{end}", "a".repeat(50)));
    let processes = names.each_ref().map(|name| {
        let text = format!(
            "name = \"{name}\"\n[source.n]\ngenerator = {{ kind = \"sequence\", rate = 100 }}\n[sink.out]\nfrom = \
             \"n\"\nprint = {{}}\n"
        );
        folder.write(&format!("{name}.toml"), text);
        let mut process = folder.start(&["run", &format!("{name}.toml")]);
        process.wait_for(From::Stdout, "sequence");
        process
    });
    for name in &names {
        for target in [name.clone(), format!("{name}.toml")] {
            assert_eq!(json(&folder, &["status", &target, "--json"])["status"]["pipeline"], **name);
        }
    }
    names.iter().for_each(|name| drop(folder.run(&["stop", name]).expect(0)));
    processes.into_iter().for_each(|process| drop(process.finish().expect(0)));
}

#[test]
fn a_trial_that_cannot_be_is_refused_before_anything_is_asked() {
    let folder = visits();
    for (arguments, why) in [
        (&["--rollback-on", "traps>0"][..], "expected one of shadow, canary and watch, got none of them"),
        (&["--shadow", "30"], "`30` has no unit"),
        (&["--canary", "110%"], "expected a share above 0% and below 100%"),
        (&["--canary", "10%", "--rollback-on", "diff>1%"], "no row of a canary goes to both versions"),
        (&["--shadow", "1s", "--rollback-on", "errors>1"], "`errors>1` is no budget; there are `traps>0`"),
        (&["--shadow", "1s", "--by", "user"], "`by` says which rows are a canary's"),
        (&["--shadow", "1s", "--canary", "10%"], "cannot be used with"),
        (&["--detach"], "begin one with --shadow 30s"),
    ] {
        let command: Vec<&str> = ["swap", "visits", "segment=finer.wasm"].iter().chain(arguments).copied().collect();
        folder.run(&command).expect(2).says(&[why]);
    }
}
