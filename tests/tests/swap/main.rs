//! Components replaced while rows flow. Each row is under exactly one version, all tasks change at the same cut, and
//! nothing is lost or doubled, whatever the shape of the pipeline.
//!
//! The guests `version-*` show in their results which version was at work; other versions of them are made by writing
//! over a text in their files.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::{Handle, Running, Status, SwapError, SwapReport};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream::{record, wasm};
use millstream_tests::{built, run};
use serde_json::{Map, Value};
use tokio::sync::mpsc::Receiver;

mod ahead;
mod canary;
mod cut;
mod endings;
mod hostile;
mod migrations;
mod processors;
mod proof;
mod refused;
mod topologies;
mod trial;
mod versions;

// components in text form, as the sandbox itself is tested with; it names what it needs by `crate::`
#[allow(dead_code)]
#[path = "../../../runtime/src/wasm/tests/template.rs"]
mod template;

type Row = Map<String, Value>;

const PATIENCE: Duration = Duration::from_secs(60);

/// Rows of a paced run: about a second of them.
const ROWS: u64 = 120_000;

const RATE: u64 = 120_000;

/// Rows with `key`, `amount` and `sequence`, 0.1 ms apart.
fn generator(rows: Option<u64>, rate: Option<u64>) -> Source {
    let kind = GeneratorKind::Sequence { keys: 20 };
    Source::generator(GeneratorSpec { kind, rows, rate, seed: 3, start_ms: 0, interval_ns: Some(100_000) })
}

fn map() -> Step {
    Step::map(path("version-map")).keep_all()
}

fn flat_map() -> Step {
    Step::flat_map(path("version-flat-map")).keep_all()
}

fn sums<'a>(key_by: impl IntoIterator<Item = &'a str>) -> Step {
    Step::aggregate()
        .key_by(key_by)
        .tumbling(Duration::from_secs(2))
        .count("rows")
        .component("sums", path("version-sum"))
}

/// Sums by a component whose columns say which version has counted, beside sums of the host's own.
fn summed(step: Step) -> Step {
    step.count("rows").sum("amounts", "amount").component("sums", path("migrate-sum-1")).from("numbers")
}

/// Rows of [`summed`] were counted once each, under whichever version.
fn assert_each_once(windows: &[Row], rows: u64) {
    for row in windows {
        assert_eq!(int(row, "rows_1") + int(row, "rows_2"), int(row, "rows"), "{row:?}");
        assert_eq!(int(row, "sum_1") + int(row, "sum_2"), int(row, "amounts"), "{row:?}");
    }
    assert_eq!(total(windows, "rows"), rows);
}

fn path(guest: &str) -> String {
    built::guest(guest).unwrap().to_string_lossy().into_owned()
}

/// The other version of each guest, in files of their own.
struct Second {
    folder: tempfile::TempDir,
}

impl Second {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn write(&self, guest: &str, old: &str, new: &str) -> PathBuf {
        built::version(guest, old, new, &self.folder.path().join(format!("{guest}-{new}.wasm"))).unwrap()
    }

    fn map(&self) -> PathBuf {
        self.write("version-map", "version-000a", "version-000b")
    }

    fn filter(&self) -> PathBuf {
        self.write("version-filter", "keep-even", "keep-odd-")
    }

    fn flat_map(&self) -> PathBuf {
        self.write("version-flat-map", "once-a-row", "twice-rows")
    }

    fn sums(&self) -> PathBuf {
        // not the names of columns, which end in `sum_a`
        self.write("version-sum", "sum-a", "sum-b")
    }
}

/// A pipeline that runs, and what it puts out.
struct Job {
    running: Running,
    rows: Receiver<Batch>,
    windows: Receiver<Batch>,
    dead: Receiver<Batch>,
}

/// Starts a pipeline with sinks for the rows of `rows_from` and the windows of `windows_from`.
async fn start(pipeline: Pipeline, rows_from: &[&str], windows_from: &[&str]) -> Job {
    let mut pipeline = pipeline;
    let mut outputs = Vec::new();
    for (name, from) in [("rows-out", rows_from), ("windows-out", windows_from)] {
        let (sink, results) = ChannelSink::new(4);
        outputs.push(results);
        if !from.is_empty() {
            let sink = from.iter().fold(Sink::of(SinkKind::Channel(sink)), |sink, from| sink.from(*from));
            pipeline = pipeline.sink(name, sink);
        }
    }
    let (sink, dead) = ChannelSink::new(4);
    let spec = pipeline.dead_letter(SinkKind::Channel(sink)).build().unwrap();
    let running = run::start(spec, &RunOptions::default()).await.unwrap();
    let (windows, rows) = (outputs.pop().unwrap(), outputs.pop().unwrap());
    Job { running, rows, windows, dead }
}

/// What a job has put out, to its end.
struct Outcome {
    status: Status,
    rows: Vec<Row>,
    windows: Vec<Row>,
    dead: Vec<Row>,
}

impl Job {
    fn handle(&self) -> Handle {
        self.running.handle()
    }

    /// Takes all that is put out while `during` has its turn, until the job has ended.
    async fn finish<T>(self, during: impl Future<Output = T>) -> (Outcome, T) {
        let Job { running, rows, windows, dead } = self;
        let (rows, windows, dead) = (run::collect(rows), run::collect(windows), run::collect(dead));
        let result = tokio::time::timeout(PATIENCE, during).await.unwrap();
        let status = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
        let (rows, windows, dead) = (rows.await.unwrap(), windows.await.unwrap(), dead.await.unwrap());
        (Outcome { status, rows, windows, dead }, result)
    }
}

async fn swap(handle: &Handle, requests: &[(&str, &PathBuf)]) -> Result<SwapReport, SwapError> {
    let requests: Vec<_> = requests.iter().map(|(step, path)| ((*step).to_owned(), (*path).clone())).collect();
    handle.swap(&requests).await
}

/// Waits until the node has taken in or made so many rows.
async fn passed(handle: &Handle, node: &str, rows: u64) {
    let watch = Stopwatch::start();
    while handle.status().node(node).unwrap().counts.rows_out < rows {
        assert!(watch.elapsed() < PATIENCE, "{node} has not put out {rows} rows");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn int(row: &Row, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{row:?} has no integer {column}"))
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{row:?} has no text {column}"))
}

fn total(rows: &[Row], column: &str) -> u64 {
    u64::try_from(rows.iter().map(|row| int(row, column)).sum::<i64>()).unwrap()
}

/// Digests of the step's components in all tasks.
fn digests(status: &Status, step: &str) -> Vec<String> {
    status.node(step).unwrap().components.iter().map(|version| version.digest.clone()).collect()
}

/// Whether row by row was seen by the second version, in the order of each of the generator's `tasks`, where every row
/// came `times(second version)` times.
fn second_by_task(rows: &[Row], all: u64, tasks: u64, times: impl Fn(bool) -> u64) -> Vec<Vec<bool>> {
    let mut seen: BTreeMap<i64, (bool, u64)> = BTreeMap::new();
    for row in rows {
        let second = text(row, "version") == "version-000b";
        let (before, count) = seen.entry(int(row, "sequence")).or_insert((second, 0));
        assert_eq!(*before, second, "under both versions: {row:?}");
        *count += 1;
    }
    assert_eq!(seen.len() as u64, all, "rows are missing");
    for (sequence, (second, count)) in &seen {
        assert_eq!(*count, times(*second), "row {sequence} came {count} times, second version: {second}");
    }
    let of_task = |task| seen.iter().filter(move |(sequence, _)| sequence.unsigned_abs() % tasks == task);
    (0..tasks).map(|task| of_task(task).map(|(_, (second, _))| *second).collect()).collect()
}

/// There is one cut in each task, with rows on both sides of it.
fn assert_one_cut(by_task: &[Vec<bool>]) {
    for (task, second) in by_task.iter().enumerate() {
        let cut = second.iter().position(|second| *second).unwrap_or_else(|| panic!("task {task} never changed"));
        assert!(cut > 0, "task {task} has changed before its first row");
        assert_eq!(second[cut..].iter().position(|second| !*second), None, "task {task} changed back after row {cut}");
    }
}
