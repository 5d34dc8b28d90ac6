//! Pipelines whose shape changes while rows flow: other numbers of tasks, other configuration, sinks and branches that come and
//! go. What comes out is what comes out of a run without changes: nothing is lost, nothing comes twice.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::{Handle, Running, Status};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream_tests::{built, run};
use serde_json::{Map, Value};
use tokio::sync::mpsc::Receiver;

mod ends;
mod migrates;
mod refused;
mod rescale;
mod shape;

type Row = Map<String, Value>;

const PATIENCE: Duration = Duration::from_secs(60);

/// Rows of a paced run: about a second of them.
const ROWS: u64 = 60_000;

/// Rows with `key`, `amount` and `sequence`, 1 ms apart.
fn generator() -> Source {
    let kind = GeneratorKind::Sequence { keys: 20 };
    let (rows, rate) = (Some(ROWS), Some(ROWS));
    Source::generator(GeneratorSpec { kind, rows, rate, seed: 3, start_ms: 0, interval_ns: Some(1_000_000) })
}

fn path(guest: &str) -> String {
    built::guest(guest).unwrap().to_string_lossy().into_owned()
}

fn counts(window: Duration) -> Step {
    Step::aggregate().key_by(["key"]).tumbling(window).count("rows").sum("total", "amount")
}

fn channel() -> (Sink, Receiver<Batch>) {
    let (sink, rows) = ChannelSink::new(4);
    (Sink::of(SinkKind::Channel(sink)), rows)
}

async fn start(spec: PipelineSpec) -> Running {
    run::start(spec, &RunOptions::default()).await.unwrap()
}

/// Runs a pipeline without changes and sorts what it puts out.
async fn unchanged(pipeline: Pipeline, sink: Sink, rows: Receiver<Batch>) -> Vec<String> {
    let running = start(pipeline.sink("out", sink).build().unwrap()).await;
    let rows = run::collect(rows);
    running.wait().await.unwrap();
    sorted(&rows.await.unwrap())
}

fn sorted(rows: &[Row]) -> Vec<String> {
    let mut lines: Vec<String> = rows.iter().map(|row| Value::Object(row.clone()).to_string()).collect();
    lines.sort_unstable();
    lines
}

/// The lines of all visible files of a folder, sorted.
fn lines(folder: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with('.') && !name.ends_with(".pending") {
            lines.extend(std::fs::read_to_string(&path).unwrap().lines().map(ToOwned::to_owned));
        }
    }
    lines.sort_unstable();
    lines
}

/// Lines of a JSON file as a channel would show them.
fn as_rows(lines: &[String]) -> Vec<String> {
    let rows: Vec<Row> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    sorted(&rows)
}

/// Waits until the node has put out so many rows.
async fn passed(handle: &Handle, node: &str, rows: u64) {
    let watch = Stopwatch::start();
    while handle.status().node(node).map_or(0, |node| node.counts.rows_out) < rows {
        assert!(watch.elapsed() < PATIENCE, "{node} has not put out {rows} rows: {:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn tasks(status: &Status, node: &str) -> usize {
    status.node(node).unwrap().tasks
}
