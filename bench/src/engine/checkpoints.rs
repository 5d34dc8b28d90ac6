//! Checkpoints: what they cost while a pipeline runs, and how soon a start goes on from one.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
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
use crate::{Measure, Wanted, report};

/// No checkpoint but the last.
pub(super) const NEVER: Duration = Duration::from_secs(1 << 20);

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

pub(super) fn kept(mut spec: PipelineSpec, store: &Path, interval: Duration) -> PipelineSpec {
    let store = store.to_string_lossy().into_owned();
    spec.checkpoint = Some(CheckpointSpec { interval: interval.into(), ..CheckpointSpec::new(store) });
    spec
}

pub(super) fn folder() -> Result<TempDir, Failed> {
    tempfile::tempdir().map_err(|error| format!("cannot make a folder: {error}"))
}

fn throughput(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    // some ten seconds each, so that the checkpoint that every run ends with is one of many
    let groups = [(10_000, 1_000_000_000, "10 thousand keys"), (1_000_000, 400_000_000, "1 million keys")];
    for (keys, rows, said) in groups {
        let name = format!("engine: checkpoints, 5 s tumbling count and sum, {said}");
        if !wanted(&name) {
            continue;
        }
        let rows = if arguments.quick { 5_000_000 } else { rows };
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
pub(super) struct Life {
    runtime: Runtime,
    running: Running,
}

impl Life {
    pub(super) fn start(engine: &Engine, spec: PipelineSpec) -> Result<Self, Failed> {
        let resolution = engine.resolve(spec)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot start the runtime's threads: {error}"))?;
        let running = runtime.block_on(Running::start(resolution, engine.sandbox.clone(), &RunOptions::default()));
        Ok(Self { running: running.map_err(|error| error.to_string())?, runtime })
    }

    pub(super) fn handle(&self) -> Handle {
        self.running.handle()
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(future);
    }

    /// Returns once a sink has taken in more than `rows`; an error where the run ends before.
    pub(super) fn wait_for(&self, rows: u64) -> Result<(), Failed> {
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
    fill_with(engine, keys, store, pipelines::running(keys, None, Sink::discard())?)
}

/// The same by a pipeline of one's own.
pub(super) fn fill_with(engine: &Engine, keys: u64, store: &Path, spec: PipelineSpec) -> Result<u64, Failed> {
    let life = Life::start(engine, kept(spec, store, NEVER))?;
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
        let (store, keys) = (Rc::new(folder()?), *keys);
        let bytes = fill(engine, keys, store.path())?;
        // written by two tasks
        for (tasks, said) in [(2, String::new()), (3, ", by three tasks".to_owned())] {
            let store = Rc::clone(&store);
            sides.push(Side::timed(megabytes(bytes) + &said, move || {
                let watch = Stopwatch::start();
                let mut spec = kept(pipelines::running(keys, None, Sink::discard())?, store.path(), NEVER);
                spec.parallelism = Some(tasks.into());
                let life = Life::start(engine, spec)?;
                life.wait_for(0)?;
                Ok(watch.elapsed())
            }));
        }
    }
    measure(Group { name: name.to_owned(), clock: Clock::Wall, unit: "start", sides })
}

/// What a run of some seconds has shown.
#[derive(Default)]
struct Seen {
    /// how long after the quickest row the others came, by when they were due, ms
    behind_ms: Vec<f64>,
    /// from the barrier to the commit of each checkpoint, ms
    took_ms: Vec<u64>,
    bytes: u64,
}

impl Seen {
    fn percentile(&self, percent: usize) -> Result<Duration, Failed> {
        let at = self.behind_ms.len().saturating_mul(percent) / 100;
        let ms = self.behind_ms.get(at).or(self.behind_ms.last()).ok_or("no rows have come")?;
        Duration::try_from_secs_f64((ms / 1e3).max(1e-9)).map_err(|error| error.to_string())
    }

    /// What one checkpoint took, the mean; where none was finished, at least that long.
    fn checkpoint(&self) -> Result<Duration, Failed> {
        let count = u64::try_from(self.took_ms.len()).map_err(|error| error.to_string())?;
        let total: u64 = self.took_ms.iter().sum();
        Ok(total.checked_div(count).map_or(LATENCIES, Duration::from_millis))
    }

    /// What share of the time checkpoints were under way that were finished, and what they wrote.
    fn said(&self) -> String {
        let busy_ms: u64 = self.took_ms.iter().sum();
        let percent = u128::from(busy_ms) * 100 / LATENCIES.as_millis().max(1);
        let late = self.percentile(99).unwrap_or_default();
        let count = self.took_ms.len();
        format!("{count} checkpoints, {percent} % of the time, {}, p99 {late:.1?}", megabytes(self.bytes))
    }
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
    let run = |interval| -> Result<Seen, Failed> {
        let (sink, rows) = ChannelSink::new(64);
        let sink = Sink::of(SinkKind::Channel(sink));
        let life = Life::start(engine, kept(pipelines::running(keys, Some(RATE), sink)?, store, interval))?;
        let taken = Arc::default();
        life.spawn(checkpoints(life.handle(), Arc::clone(&taken)));
        let behind_ms = life.runtime.block_on(latencies(rows))?;
        let (took_ms, bytes) = std::mem::take(&mut *taken.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Seen { behind_ms, took_ms, bytes })
    };
    let seen = RefCell::new(Seen::default());
    let sides = vec![
        Side::timed("without", || run(NEVER)?.percentile(99)),
        Side::timed("every second", || {
            *seen.borrow_mut() = run(Duration::from_secs(1))?;
            report::note(&seen.borrow().said());
            seen.borrow().percentile(99)
        }),
        // other figures of the same run
        Side::timed("every second, p50", || seen.borrow().percentile(50)),
        Side::timed("every second, latest", || seen.borrow().percentile(100)),
        Side::timed("one checkpoint", || seen.borrow().checkpoint()),
    ];
    measure(Group { name, clock: Clock::Wall, unit: "row", sides })
}

/// Adds what the status tells of each checkpoint.
async fn checkpoints(handle: Handle, taken: Arc<Mutex<(Vec<u64>, u64)>>) {
    let mut made = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let Some(status) = handle.status().checkpoints else { return };
        if status.made > made {
            made = status.made;
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.0.push(status.took_ms);
            taken.1 += status.bytes;
        }
    }
}

/// How long after the quickest row the rows of some seconds came, by when they were due, ascending, ms.
async fn latencies(mut rows: Receiver<Batch>) -> Result<Vec<f64>, Failed> {
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
    behind_ms.iter_mut().for_each(|ms| *ms -= quickest);
    Ok(behind_ms)
}
