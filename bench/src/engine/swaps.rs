//! Swaps of a component that holds state, under load: how long a task stands still, and how much later rows come.

use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::{Handle, NodeRole, SwapReport};
use millstream::pipeline::builder::Sink;
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

use super::checkpoints::{Life, NEVER, fill_with, folder, kept};
use super::{Engine, pipelines};
use crate::arguments::Arguments;
use crate::guests;
use crate::measure::{Clock, Failed, Group, Side};
use crate::{Measure, Wanted};

/// Rows a second.
const RATE: u64 = 100_000;

/// From one swap to the next; rows that come within it are the swap's.
const PAUSE: Duration = Duration::from_millis(25);

/// Ten keys, and ten million.
pub(super) fn groups(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let (swaps, sizes): (usize, &[(&str, u64)]) = if arguments.quick {
        (20, &[("10 keys", 10), ("100 thousand keys", 100_000)])
    } else {
        (200, &[("10 keys", 10), ("10 million keys", 10_000_000)])
    };
    migrations(engine, arguments, wanted, measure)?;
    for (said, keys) in sizes {
        let name = format!("engine: {swaps} swaps at {RATE} rows/s, {said}");
        if wanted(&name) {
            let copies = folder()?;
            let files = [guests::path("bench-totals")?, same_logic(copies.path())?];
            let loaded = Rc::new(RefCell::new(Loaded::start(engine, *keys, swaps, "bench-totals", files)?));
            measure(Group { name, clock: Clock::Wall, unit: "swap", sides: sides(&loaded) })?;
            loaded.borrow_mut().nothing_is_lost()?;
        }
    }
    Ok(())
}

/// Swaps to a version that keeps other state, and back.
fn migrations(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let (swaps, sizes): (usize, &[(&str, u64)]) = if arguments.quick {
        (5, &[("10 thousand keys", 10_000), ("100 thousand keys", 100_000)])
    } else {
        (10, &[("10 thousand keys", 10_000), ("10 million keys", 10_000_000)])
    };
    for (said, keys) in sizes {
        let name = format!("engine: {swaps} migrations at {RATE} rows/s, {said}");
        if wanted(&name) {
            let files = [guests::path("migrate-sum-1")?, guests::path("migrate-sum-2")?];
            let loaded = Rc::new(RefCell::new(Loaded::start(engine, *keys, swaps, "migrate-sum-1", files)?));
            measure(Group { name, clock: Clock::Wall, unit: "migration", sides: sides(&loaded) })?;
            loaded.borrow_mut().nothing_is_lost()?;
        }
    }
    Ok(())
}

/// What a round measures, the first side does; the others tell other figures of the same round.
fn sides(loaded: &Rc<RefCell<Loaded>>) -> Vec<Side<'static>> {
    let mut sides = Vec::new();
    let first = Rc::clone(loaded);
    sides.push(Side::timed("no swap, latency p99", move || {
        let mut loaded = first.borrow_mut();
        loaded.round()?;
        loaded.seen.quiet.at(99)
    }));
    type Figure = fn(&Seen) -> Result<Duration, Failed>;
    let figures: [(&str, Figure); 8] = [
        ("swap, standstill p50", |seen| seen.swap.still.at(50)),
        ("swap, standstill p99", |seen| seen.swap.still.at(99)),
        ("swap, latency p50", |seen| seen.swap.latency.at(50)),
        ("swap, latency p99", |seen| seen.swap.latency.at(99)),
        ("rollback, standstill p50", |seen| seen.rollback.still.at(50)),
        ("rollback, standstill p99", |seen| seen.rollback.still.at(99)),
        ("rollback, latency p50", |seen| seen.rollback.latency.at(50)),
        ("rollback, latency p99", |seen| seen.rollback.latency.at(99)),
    ];
    for (name, figure) in figures {
        let loaded = Rc::clone(loaded);
        sides.push(Side::timed(name, move || figure(&loaded.borrow().seen)));
    }
    sides
}

/// Times, in the order in which they were taken.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    /// The percentile `percent`.
    fn at(&self, percent: usize) -> Result<Duration, Failed> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = sorted.len().saturating_mul(percent) / 100;
        let ms = sorted.get(at).or(sorted.last()).ok_or("nothing was measured")?;
        // what is quicker than the clock tells counts as a nanosecond
        Duration::try_from_secs_f64((ms / 1e3).max(1e-9)).map_err(|error| error.to_string())
    }
}

#[derive(Default)]
struct OfChanges {
    /// longest time that a task stood still
    still: Times,
    /// of the row that came latest within [`PAUSE`] of the change's beginning, behind the quickest row of the run
    latency: Times,
}

#[derive(Default)]
struct Seen {
    quiet: Times,
    swap: OfChanges,
    rollback: OfChanges,
}

/// How far behind their due times rows come, ms.
#[derive(Default)]
struct Behind {
    quickest: f64,
    slowest: f64,
}

/// A pipeline that runs, with a state of some size.
struct Loaded {
    life: Life,
    handle: Handle,
    files: [PathBuf; 2],
    turn: usize,
    swaps: usize,
    behind: Arc<Mutex<Behind>>,
    seen: Seen,
    _folder: TempDir,
}

impl Loaded {
    fn start(engine: &Engine, keys: u64, swaps: usize, component: &str, files: [PathBuf; 2]) -> Result<Self, Failed> {
        let store = folder()?;
        fill_with(engine, keys, store.path(), pipelines::running_as(component, keys, None, Sink::discard())?)?;
        let (sink, rows) = ChannelSink::new(64);
        let sink = Sink::of(SinkKind::Channel(sink));
        let spec = kept(pipelines::running_as(component, keys, Some(RATE), sink)?, store.path(), NEVER);
        let life = Life::start(engine, spec)?;
        let behind = Arc::new(Mutex::new(Behind { quickest: f64::INFINITY, slowest: 0.0 }));
        life.spawn(watch(rows, Arc::clone(&behind)));
        let handle = life.handle();
        life.wait_for(RATE)?;
        Ok(Self { life, handle, files, turn: 0, swaps, behind, seen: Seen::default(), _folder: store })
    }

    fn round(&mut self) -> Result<(), Failed> {
        let mut seen = Seen::default();
        for _ in 0..self.swaps {
            self.during(&mut seen.quiet, |_| Ok(()))?;
            self.turn += 1;
            let wanted = [("totals".to_owned(), self.files[self.turn % 2].clone())];
            let report = self.during(&mut seen.swap.latency, |loaded| {
                loaded.life.block_on(loaded.handle.swap(&wanted)).map_err(|error| error.to_string())
            })?;
            seen.swap.still.0.push(still_ms(&report));
            let report = self.during(&mut seen.rollback.latency, |loaded| {
                loaded.life.block_on(loaded.handle.rollback(&[])).map_err(|error| error.to_string())
            })?;
            seen.rollback.still.0.push(still_ms(&report));
            // so that the next swap is to the other file
            self.turn += 1;
            self.during(&mut Times::default(), |_| Ok(()))?;
        }
        self.seen = seen;
        Ok(())
    }

    /// Does it, waits until its time is over, and takes how much later than the quickest the slowest row came.
    fn during<T>(&self, latency: &mut Times, act: impl Fn(&Self) -> Result<T, Failed>) -> Result<T, Failed> {
        let locked = || self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let watch = Stopwatch::start();
        locked().slowest = f64::NEG_INFINITY;
        let done = act(self)?;
        let rest = PAUSE.saturating_sub(watch.elapsed());
        self.life.block_on(async { tokio::time::sleep(rest).await });
        let behind = locked();
        if behind.slowest.is_finite() {
            latency.0.push(behind.slowest - behind.quickest);
        } else {
            // no row came in all that time
            latency.0.push(watch.elapsed().as_secs_f64() * 1e3);
        }
        Ok(done)
    }

    /// Every row that the source put out has been counted once, under one version or the other.
    fn nothing_is_lost(&mut self) -> Result<(), Failed> {
        let cut = self.life.block_on(self.handle.snapshot()).map_err(|error| error.to_string())?;
        let read: u64 = cut.positions("in").iter().flat_map(|all| all.iter()).map(|position| position.next).sum();
        let mut counted = 0_u64;
        for task in cut.steps.get("totals").into_iter().flat_map(|tasks| tasks.values()) {
            let state = task.state.clone().made().map_err(|error| error.to_string())?;
            for batch in state.tables.iter().flat_map(|table| &table.rows) {
                counted += counts_of(batch)?;
            }
        }
        let dead = self.handle.status().total(NodeRole::Step, |counts| counts.dead_rows + counts.skipped_rows);
        if counted == read && dead == 0 {
            Ok(())
        } else {
            Err(format!("{read} rows were read, {counted} counted, {dead} were dead"))
        }
    }
}

fn still_ms(report: &SwapReport) -> f64 {
    Duration::from_nanos(report.pause_ns).as_secs_f64() * 1e3
}

fn counts_of(batch: &arrow_array::RecordBatch) -> Result<u64, Failed> {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    let schema = batch.schema();
    // what components have counted, not what the host has
    let counts = |name: &str| ["count", "rows", "old_rows"].iter().any(|count| name.ends_with(&format!(".{count}")));
    let columns = schema.fields().iter().zip(batch.columns()).filter(|(field, _)| counts(field.name()));
    let counts: Vec<_> = columns.filter_map(|(_, column)| column.as_primitive_opt::<Int64Type>()).collect();
    if counts.is_empty() {
        return Err(format!("state without a count: {schema}"));
    }
    Ok(counts.iter().flat_map(|column| column.values()).map(|count| count.unsigned_abs()).sum())
}

/// Takes in what comes; rows are due by their event times, 0.1 ms apart, at the rate.
async fn watch(mut rows: Receiver<Batch>, behind: Arc<Mutex<Behind>>) {
    let watch = Stopwatch::start();
    while let Some(batch) = rows.recv().await {
        let now_ms = watch.elapsed().as_secs_f64() * 1e3;
        #[allow(clippy::cast_precision_loss)]
        let due = |time_ms: &i64| *time_ms as f64 * 10.0 * 1e3 / RATE as f64;
        let mut behind = behind.lock().unwrap_or_else(PoisonError::into_inner);
        for row_ms in batch.times().iter().map(|time_ms| now_ms - due(time_ms)) {
            behind.quickest = behind.quickest.min(row_ms);
            behind.slowest = behind.slowest.max(row_ms);
        }
    }
}

/// The component with a section that nobody reads: another digest.
fn same_logic(folder: &Path) -> Result<PathBuf, Failed> {
    const SECTION: &[u8] = b"\x00\x06\x05again";
    let to = folder.join("bench-totals-again.wasm");
    let copy = || -> std::io::Result<()> {
        let from = guests::path("bench-totals").map_err(std::io::Error::other)?;
        let mut file = std::fs::File::create(&to)?;
        file.write_all(&std::fs::read(from)?)?;
        file.write_all(SECTION)
    };
    copy().map_err(|error| format!("cannot write {}: {error}", to.display()))?;
    Ok(to)
}
