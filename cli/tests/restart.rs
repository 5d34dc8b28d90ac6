//! Pipelines that fail and are started again in their process: what is visible at the end is the image of the input.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod support;

use std::path::Path;
use std::process::Stdio;

use support::{Folder, From};

const ROWS: usize = 12_000;

/// `ROWS` numbered rows in about half a second, a checkpoint every 20 ms.
fn generated(folder: &Folder, restart: &str) {
    folder.write(
        "pipeline.toml",
        format!(
            r#"
name = "numbers"
checkpoint = {{ store = "state", interval = "20ms" }}
{restart}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS}, rate = 24_000 }}
parallelism = 2
[step.counts]
from = "numbers"
key_by = ["key"]
aggregate = {{ rows = "count()", last = "max(sequence)" }}
[sink.out]
from = "counts"
file = {{ path = "out/rows.json" }}
"#
        ),
    );
}

const QUICK: &str = r#"restart = { attempts = 100, first = "20ms", max = "50ms" }"#;

fn field(line: &str, name: &str) -> usize {
    let rest = line.split(&format!("\"{name}\":")).nth(1).unwrap();
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

/// Running counts of each key are complete, and every row of the input is there once.
#[track_caller]
fn assert_each_once(folder: &Path, what: &str) {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            lines.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    let mut counts: Vec<(usize, usize)> = lines.iter().map(|line| (field(line, "key"), field(line, "rows"))).collect();
    counts.sort_unstable();
    let in_order =
        counts.windows(2).all(|pair| if pair[0].0 == pair[1].0 { pair[1].1 == pair[0].1 + 1 } else { pair[1].1 == 1 });
    assert!(in_order && counts.len() == ROWS, "{what}: {} rows, counts in order: {in_order}", counts.len());
}

#[test]
fn a_pipeline_whose_task_panics_goes_on_from_its_last_checkpoint() {
    for point in
        ["cut:3", "before-manifest:2", "after-manifest:4", "before-commit:2", "between-commits:3", "after-commit:2"]
    {
        let folder = Folder::new();
        generated(&folder, QUICK);
        let mut command = folder.command(&["run", "pipeline.toml", "--json"]);
        command.env("MILLSTREAM_FAILPOINT", format!("panic@{point}")).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{point}: {said}");
        for part in
            ["\"event\":\"failed\",\"count\":1", "panicked", "\"event\":\"restarted\"", "\"event\":\"restored\""]
        {
            assert!(said.contains(part), "{point}: `{part}` is missing in\n{said}");
        }
        assert_each_once(&folder.path("out"), point);
    }
}

#[test]
fn the_status_says_why_it_is_down_and_that_it_was() {
    let folder = Folder::new();
    generated(&folder, r#"restart = { first = "3s", max = "3s" }"#);
    let text = std::fs::read_to_string(folder.path("pipeline.toml")).unwrap();
    folder.write("pipeline.toml", text.replace(&format!("rows = {ROWS}, rate = 24_000"), "rate = 1000"));
    let mut command = folder.command(&["run", "pipeline.toml"]);
    command.env("MILLSTREAM_FAILPOINT", "panic@cut:3");
    let mut process = support::Process::start(command);
    process.wait_for(From::Stderr, "restart 1 in");
    let down = folder.run(&["status", "numbers"]).expect(0).stdout;
    assert!(down.contains(" · down: ") && down.contains("panicked") && down.contains("restart 1 is due"), "{down}");
    process.wait_for(From::Stderr, "restored from");
    let up = folder.run(&["status", "numbers"]).expect(0).stdout;
    assert!(up.contains(" · restarted once, last because: ") && up.contains("panicked"), "{up}");
    process.signal("TERM");
    process.finish().expect(0);
}

#[test]
fn an_output_that_is_away_for_a_while_is_waited_for() {
    let folder = Folder::new();
    generated(&folder, QUICK);
    let mut process = folder.start(&["run", "pipeline.toml", "--json", "--status-interval", "10ms"]);
    process.wait_for(From::Stderr, "\"made\":3");
    let (out, away) = (folder.path("out"), folder.path("away"));
    std::fs::rename(&out, &away).unwrap();
    std::fs::write(&out, "in the way").unwrap();
    // long enough for several tries of the sink and of the checkpoint
    std::thread::sleep(std::time::Duration::from_millis(500));
    std::fs::remove_file(&out).unwrap();
    std::fs::rename(&away, &out).unwrap();
    let output = process.finish().expect(0);
    assert!(!output.stderr.contains("\"event\":\"failed\""), "{}", output.stderr);
    assert_each_once(&folder.path("out"), "an output that was away");
}

#[test]
fn a_failure_that_comes_again_and_again_ends_the_run_and_what_is_committed_stays() {
    let folder = Folder::new();
    generated(&folder, r#"restart = { attempts = 2, first = "10ms", max = "10ms" }"#);
    let mut command = folder.command(&["run", "pipeline.toml", "--status-interval", "10ms"]);
    command.env("MILLSTREAM_FAILPOINT", "panic@cut:4+");
    let process = support::Process::start(command);
    let parts = ["failed: ", "restart 1 in", "restart 2 in", "gave up: restarted 2 times within 10m", "panicked"];
    process.finish().expect(1).says(&parts);
    folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint"]);
    assert_each_once(&folder.path("out"), "after giving up");
}

#[test]
fn with_restarts_off_and_for_failures_that_would_come_again_the_run_ends_at_once() {
    let folder = Folder::new();
    generated(&folder, r#"restart = "off""#);
    let mut command = folder.command(&["run", "pipeline.toml"]);
    let output = command.env("MILLSTREAM_FAILPOINT", "panic@cut:2").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("panicked") && !said.contains("restart"), "{said}");

    let folder = Folder::new();
    folder.write("in.json", "{\"sequence\":1}\nnot json\n");
    let source = "[source.numbers]\nfile = { path = \"in.json\" }\nformat = \"json\"\nschema = { sequence = \"int64\" }\non_error = \"fail\"";
    let sink = "[sink.out]\nfrom = \"numbers\"\nfile = { path = \"out/rows.json\" }";
    folder.write(
        "pipeline.toml",
        format!("name = \"numbers\"\ncheckpoint = {{ store = \"state\" }}\n{source}\n{sink}\n"),
    );
    let output = folder.run(&["run", "pipeline.toml"]).expect(1).says(&["cannot be decoded"]);
    assert!(!output.stderr.contains("restart"), "{}", output.stderr);
}

#[test]
fn a_stop_during_a_pause_ends_the_run() {
    let folder = Folder::new();
    generated(&folder, r#"restart = { first = "1m" }"#);
    let mut command = folder.command(&["run", "pipeline.toml", "--json"]);
    command.env("MILLSTREAM_FAILPOINT", "panic@cut:2");
    let mut process = support::Process::start(command);
    process.wait_for(From::Stderr, "\"event\":\"failed\"");
    process.signal("TERM");
    process.finish().expect(0);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_each_once(&folder.path("out"), "stopped while down");
}

/// `version-map.wasm`, and the same under another name for what it calls itself in `other.wasm`.
fn versions(folder: &Folder) {
    let (name, other) = (b"version-000a", b"version-000b");
    let mut bytes = std::fs::read(support::guest("version-map.wasm")).unwrap();
    folder.write("version-map.wasm", &bytes);
    let places: Vec<usize> =
        bytes.windows(name.len()).enumerate().filter(|(_, part)| part == name).map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + other.len()].copy_from_slice(other);
    }
    folder.write("other.wasm", &bytes);
}

fn digest_of_mapped(folder: &Folder) -> serde_json::Value {
    let status: serde_json::Value =
        serde_json::from_str(&folder.run(&["status", "numbers", "--json"]).expect(0).stdout).unwrap();
    let versions = status["versions"]["mapped"].as_array().unwrap();
    versions.iter().find(|version| version["current"] == true).unwrap()["digest"].clone()
}

#[test]
fn a_component_that_was_swapped_in_stays_in_when_the_pipeline_is_started_again() {
    let folder = Folder::new();
    versions(&folder);
    generated(&folder, r#"restart = { first = "2s" }"#);
    let pipeline = std::fs::read_to_string(folder.path("pipeline.toml")).unwrap();
    let (rows, aggregate) = (
        format!("rows = {ROWS}, rate = 24_000"),
        "key_by = [\"key\"]\naggregate = { rows = \"count()\", last = \"max(sequence)\" }",
    );
    let pipeline =
        pipeline.replace(&rows, "rate = 24_000").replace(aggregate, "map = \"version-map.wasm\"\nkeep = \"all\"");
    // of several lanes each stops at a row of its own
    folder.write("pipeline.toml", pipeline.replace("counts", "mapped").replace("parallelism = 2", "parallelism = 1"));
    let mut command = folder.command(&["run", "pipeline.toml", "--json", "--status-interval", "10ms"]);
    command.env("MILLSTREAM_FAILPOINT", "panic@cut:120");
    let mut process = support::Process::start(command);
    process.wait_for(From::Stderr, "\"made\":3");
    let first = digest_of_mapped(&folder);
    folder.run(&["swap", "numbers", "mapped=other.wasm"]).expect(0);
    let swapped = digest_of_mapped(&folder);
    assert_ne!(first, swapped);

    process.wait_for(From::Stderr, "\"event\":\"failed\"");
    // waits until there is something to swap
    let report = folder.run(&["swap", "numbers", "mapped=version-map.wasm", "--json"]).expect(0);
    let report: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(report["swapped"][0]["from"], swapped, "the version of the checkpoint runs after the restart");
    assert_eq!(digest_of_mapped(&folder), first);
    folder.run(&["stop", "numbers"]).expect(0);
    process.finish().expect(0);

    let mut found: Vec<(usize, bool)> = Vec::new();
    for part in std::fs::read_dir(folder.path("out")).unwrap() {
        for line in std::fs::read_to_string(part.unwrap().path()).unwrap().lines() {
            found.push((field(line, "sequence"), line.contains("version-000b")));
        }
    }
    found.sort_unstable();
    assert!(found.iter().enumerate().all(|(at, (sequence, _))| at == *sequence), "each row once: {} rows", found.len());
    let by_other = found.iter().filter(|(_, other)| *other).count();
    assert!(by_other > 0 && by_other < found.len(), "{by_other} of {} rows under the other version", found.len());
}
