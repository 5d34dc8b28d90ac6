//! Checkpoints: what they cost while a pipeline runs, and how soon a start goes on from one.

use std::path::Path;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::{Handle, NodeRole, Running};
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::Sink;
use millstream::pipeline::spec::{CheckpointSpec, PipelineSpec};
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::Receiver;

use super::{Engine, pipelines, wall};
use crate::arguments::Arguments;
use crate::measure::{Clock, Failed, Group, Side};
use crate::{Measure, Wanted};

/// No checkpoint but the last.
const NEVER: Duration = Duration::from_secs(1 << 20);

/// How long latencies are taken.
const LATENCIES: Duration = Duration::from_secs(10);

/// Rows a second while latencies are taken.
const RATE: u64 = 20_000;

/// Throughput, recovery, latency.
pub(super) fn groups(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    throughput(engine, arguments, wanted, measure)?;
    let sizes: &[(&str, u64)] = if arguments.quick {
        &[("10 MB", 200_000)]
    } else {
        &[("10 MB", 200_000), ("100 MB", 2_000_000), ("1 GB", 20_000_000)]
    };
    recovery(engine, sizes, wanted, measure)?;
    let (size, keys) = sizes.last().copied().unwrap_or_default();
    latency(engine, size, keys, wanted, measure)
}

fn kept(mut spec: PipelineSpec, store: &Path, interval: Duration) -> PipelineSpec {
    let store = store.to_string_lossy().into_owned();
    spec.checkpoint = Some(CheckpointSpec { interval: interval.into(), ..CheckpointSpec::new(store) });
    spec
}

fn folder() -> Result<TempDir, Failed> {
    tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))
}

fn throughput(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    for (keys, said) in [(10_000, "10 thousand keys"), (1_000_000, "1 million keys")] {
        let name = format!("engine: checkpoints, 5 s tumbling count and sum, {said}");
        if !wanted(&name) {
            continue;
        }
        let rows = if arguments.quick { 5_000_000 } else { 150_000_000 };
        let interval = Duration::from_millis(if arguments.quick { 50 } else { 1_000 });
        let spec = pipelines::window(rows, keys, 2, false)?;
        let with = spec.clone();
        let sides = vec![
            engine.side("without", spec)?,
            Side::new(format!("every {interval:?}"), move || {
                let folder = folder()?;
                engine.run(engine.resolve(kept(with.clone(), folder.path(), interval))?)
            }),
        ];
        measure(wall(&name, sides))?;
    }
    Ok(())
}

/// A pipeline in a runtime of its own, with which all of it goes.
struct Life {
    runtime: Runtime,
    running: Running,
}

impl Life {
    fn start(engine: &Engine, spec: PipelineSpec) -> Result<Self, Failed> {
        let resolution = engine.resolve(spec)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start the runtime's threads: {error}"))?;
        let running = runtime.block_on(Running::start(resolution, engine.sandbox.clone(), &RunOptions::default()));
        Ok(Self { running: running.map_err(|error| error.to_string())?, runtime })
    }

    /// Returns once a sink has taken in more than `rows`; an error where the run ends before.
    fn wait_for(&self, rows: u64) -> Result<(), Failed> {
        let handle: Handle = self.running.handle();
        self.runtime.block_on(async {
            loop {
                let status = handle.status();
                if status.total(NodeRole::Sink, |counts| counts.rows_in) > rows {
                    return Ok(());
                }
                if status.ended {
                    return Err("the run has ended".to_owned());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    }

    /// Takes a last checkpoint; its bytes.
    fn stop(self) -> Result<u64, Failed> {
        let status = self.runtime.block_on(async {
            self.running.handle().stop().await;
            self.running.wait().await.map_err(|error| error.to_string())
        })?;
        Ok(status.checkpoints.map_or(0, |checkpoints| checkpoints.bytes))
    }
}

/// A checkpoint of nearly all of `keys` keys in `store`; its bytes.
fn fill(engine: &Engine, keys: u64, store: &Path) -> Result<u64, Failed> {
    let life = Life::start(engine, kept(pipelines::running(keys, None, Sink::discard())?, store, NEVER))?;
    life.wait_for(3 * keys)?;
    life.stop()
}

#[allow(clippy::cast_precision_loss)] // for people
fn megabytes(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

fn recovery(
    engine: &Engine,
    sizes: &[(&str, u64)],
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let name = "engine: checkpoints, from a start to its first new row";
    if !wanted(name) {
        return Ok(());
    }
    let mut sides = Vec::new();
    for (_, keys) in sizes {
        let (store, keys) = (folder()?, *keys);
        let bytes = fill(engine, keys, store.path())?;
        sides.push(Side::timed(megabytes(bytes), move || {
            let watch = Stopwatch::start();
            let spec = kept(pipelines::running(keys, None, Sink::discard())?, store.path(), NEVER);
            let life = Life::start(engine, spec)?;
            life.wait_for(0)?;
            Ok(watch.elapsed())
        }));
    }
    measure(Group { name: name.to_owned(), clock: Clock::Wall, unit: "start", sides })
}

fn latency(
    engine: &Engine,
    size: &str,
    keys: u64,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let name = format!("engine: checkpoints, 99th percentile of latencies at {RATE} rows/s, {size} of state");
    if !wanted(&name) {
        return Ok(());
    }
    let store = folder()?;
    fill(engine, keys, store.path())?;
    let store = store.path();
    let side = |said: &str, interval| {
        Side::timed(said, move || {
            let (sink, rows) = ChannelSink::new(64);
            let sink = Sink::of(SinkKind::Channel(sink));
            let life = Life::start(engine, kept(pipelines::running(keys, Some(RATE), sink)?, store, interval))?;
            life.runtime.block_on(latencies(rows))
        })
    };
    let sides = vec![side("without", NEVER), side("every second", Duration::from_secs(1))];
    measure(Group { name, clock: Clock::Wall, unit: "row", sides })
}

/// The 99th percentile of how long after the quickest row the rows of some seconds came, by when they were due.
async fn latencies(mut rows: Receiver<Batch>) -> Result<Duration, Failed> {
    let watch = Stopwatch::start();
    let mut behind_ms = Vec::new();
    while watch.elapsed() < LATENCIES {
        let Some(batch) = rows.recv().await else { return Err("the run has ended".to_owned()) };
        let now_ms = watch.elapsed().as_secs_f64() * 1e3;
        // rows are due by their numbers at the rate, and have event times 0.1 ms apart
        #[allow(clippy::cast_precision_loss)]
        let due = |time_ms: i64| time_ms as f64 * 10.0 * 1e3 / RATE as f64;
        behind_ms.extend(batch.times().iter().map(|time_ms| now_ms - due(*time_ms)));
    }
    behind_ms.sort_by(f64::total_cmp);
    let quickest = behind_ms.first().copied().unwrap_or_default();
    let at = behind_ms.len().saturating_mul(99) / 100;
    let p99_ms = behind_ms.get(at).copied().ok_or("no rows have come")? - quickest;
    Duration::try_from_secs_f64(p99_ms / 1e3).map_err(|error| error.to_string())
}
