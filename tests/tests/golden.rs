//! Golden pipelines: every folder of `tests/golden` is a case.
//!
//! A case has a `pipeline.toml`, its input, and for each sink `expected-<sink>.jsonl`: the rows in any order. Rows that
//! are to be refused stand in `expected-dead.jsonl` as `{"node": .., "reason": <part of it>}`. Each case is run at
//! parallelism 1 and 3 and with batches cut at random places: what comes out must not depend on any of it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millstream::error::Spanned;
use millstream::pipeline;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::check::check_structure;
use millstream::pipeline::spec::{PipelineSpec, StateSpec, StepKind};
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use millstream_tests::run;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

type Row = Map<String, Value>;

/// Parallelism and seed of the cuts, for each run of a case.
const VARIANTS: [(usize, Option<u64>); 5] = [(1, None), (3, None), (1, Some(1)), (3, Some(2)), (2, Some(3))];

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let entries = std::fs::read_dir(&folder).expect("tests/golden");
    let mut cases: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.join("pipeline.toml").exists())
        .collect();
    cases.sort();
    cases
}

fn expected(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display())))
        .collect()
}

fn drained(results: &mut mpsc::Receiver<Batch>) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Ok(batch) = results.try_recv() {
        rows.extend(run::rows(&batch));
    }
    rows
}

/// Rows as sorted lines, for comparison and for people.
fn sorted(rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect();
    lines.sort();
    lines
}

fn compare(case: &str, sink: &str, found: &[Row], wanted: &[Row]) -> Result<(), String> {
    let (found, wanted) = (sorted(found), sorted(wanted));
    if found == wanted {
        return Ok(());
    }
    let missing: Vec<_> = wanted.iter().filter(|line| !found.contains(line)).take(5).cloned().collect();
    let extra: Vec<_> = found.iter().filter(|line| !wanted.contains(line)).take(5).cloned().collect();
    Err(format!(
        "{case}, sink {sink}: {} rows, expected {}\n  missing: {}\n  not expected: {}",
        found.len(),
        wanted.len(),
        missing.join("\n           "),
        extra.join("\n                ")
    ))
}

/// Runs a case once; what is wrong with it, if anything.
fn run_case(folder: &Path, parallelism: usize, shuffle_batches: Option<u64>) -> Result<(), String> {
    let spec = pipeline::read(&folder.join("pipeline.toml")).map_err(|error| error.to_string())?;
    run_spec(folder, spec, parallelism, shuffle_batches)
}

fn run_spec(
    folder: &Path,
    mut spec: PipelineSpec,
    parallelism: usize,
    shuffle_batches: Option<u64>,
) -> Result<(), String> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let bound = spec.state.as_ref().map(|state| state.memory_bytes.value);
    let case = format!("{name} at parallelism {parallelism}, cuts {shuffle_batches:?}, memory {bound:?}");
    spec.parallelism = Some(Spanned::from(parallelism));
    let mut outputs = BTreeMap::new();
    for sink in &mut spec.sinks {
        let (channel, results) = ChannelSink::new(100_000);
        sink.kind.value = SinkKind::Channel(channel);
        outputs.insert(sink.name.value.clone(), results);
    }
    let (dead, mut letters) = ChannelSink::new(100_000);
    spec.dead_letter = Some(Spanned::from(SinkKind::Channel(dead)));
    run::run(spec, &RunOptions { shuffle_batches, ..RunOptions::default() })
        .map_err(|error| format!("{case}: {error}"))?;
    for (sink, results) in &mut outputs {
        compare(&case, sink, &drained(results), &expected(&folder.join(format!("expected-{sink}.jsonl"))))?;
    }
    let dead = drained(&mut letters);
    let path = folder.join("expected-dead.jsonl");
    let wanted = if path.exists() { expected(&path) } else { Vec::new() };
    compare_dead(&case, dead, wanted)
}

/// Each expected letter is found once: same node, and its reason holds the expected words.
fn compare_dead(case: &str, mut dead: Vec<Row>, wanted: Vec<Row>) -> Result<(), String> {
    for letter in &wanted {
        let reason = letter["reason"].as_str().unwrap_or_default();
        let at = dead.iter().position(|found| {
            found["node"] == letter["node"] && found["reason"].as_str().unwrap_or_default().contains(reason)
        });
        match at {
            Some(at) => drop(dead.remove(at)),
            None => return Err(format!("{case}: no dead letter like {letter:?}; left are {dead:?}")),
        }
    }
    if dead.is_empty() { Ok(()) } else { Err(format!("{case}: dead letters that nobody expects: {dead:?}")) }
}

#[test]
fn there_are_at_least_ten_golden_pipelines() {
    assert!(cases().len() >= 10, "found {:?}", cases());
}

#[test]
fn golden_pipelines_give_the_same_rows_however_they_are_run() {
    let mut wrong = Vec::new();
    for folder in cases() {
        for (parallelism, cuts) in VARIANTS {
            wrong.extend(run_case(&folder, parallelism, cuts).err());
        }
    }
    assert!(wrong.is_empty(), "{} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// A kilobyte: whatever a batch leaves goes to the scratch store at once.
#[test]
fn golden_pipelines_give_the_same_rows_when_their_state_spills() {
    let scratch = tempfile::tempdir().expect("a folder");
    let state =
        StateSpec { memory_bytes: (1 << 10).into(), spill: scratch.path().to_string_lossy().into_owned().into() };
    let (mut wrong, mut spilled) = (Vec::new(), 0);
    for folder in cases() {
        let mut spec = pipeline::read(&folder.join("pipeline.toml")).expect("a pipeline");
        spec.state = Some(state.clone());
        let spills = |kind: &StepKind| {
            use StepKind::{Aggregate, Join, Process, Top};
            matches!(kind, Aggregate { .. } | Process { .. } | Join(_) | Top(_))
        };
        let keeps_state = spec.steps.iter().any(|step| spills(&step.kind.value));
        if !keeps_state || !check_structure(&spec).is_empty() {
            continue;
        }
        spilled += 1;
        for (parallelism, cuts) in [(1, None), (3, Some(7))] {
            wrong.extend(run_spec(&folder, spec.clone(), parallelism, cuts).err());
        }
    }
    assert!(wrong.is_empty(), "{} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(spilled >= 16, "only {spilled} golden pipelines have state that spills");
}
