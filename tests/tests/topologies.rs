//! Pipelines that branch and meet again, under everything that could make them lose rows or stand still: bounded channels
//! that are full, barriers that must align, inputs that end or fall silent before others, failures in one branch.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::control::{Running, Status, SwapError};
use millstream::operator::OnError;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::partition::PartitionSpec;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream_tests::run;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

type Row = Map<String, Value>;

/// Longer than any of these runs takes; a run that stands still ends here.
const TOO_LONG: Duration = Duration::from_secs(60);

fn guests() -> PathBuf {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    assert!(guests.join("interested.wasm").exists(), "no guests in {}: cargo xtask guests", guests.display());
    guests
}

fn customers(rows: u64) -> GeneratorSpec {
    GeneratorSpec {
        kind: GeneratorKind::Customers { keys: 50 },
        rows: Some(rows),
        rate: None,
        seed: 11,
        start_ms: -20_000,
        interval_ns: Some(100_000),
    }
}

/// What is done to a pipeline while it runs.
#[derive(Clone, Copy, PartialEq)]
enum Meanwhile {
    Nothing,
    /// components are replaced by themselves, again and again, several at once
    Swaps,
}

struct Outcome {
    rows: Vec<Row>,
    status: Result<Status, String>,
    swaps: usize,
}

/// Runs to the end. The sink's channel holds `room` batches, so a small one holds everything up.
fn run_to_end(
    spec: PipelineSpec,
    mut results: mpsc::Receiver<Batch>,
    meanwhile: Meanwhile,
    cuts: Option<u64>,
) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let steps: Vec<String> = spec.steps.iter().map(|step| step.name.value.clone()).collect();
    runtime.block_on(async move {
        let sandbox = run::sandbox().expect("a sandbox");
        let resolution = resolve(spec, &sandbox).expect("a plan");
        let components: Vec<(String, PathBuf)> = resolution
            .components
            .iter()
            .map(|(slot, resolved)| (slot.step.clone(), resolved.path.clone()))
            .filter(|(step, _)| steps.contains(step))
            .collect();
        let options = RunOptions { shuffle_batches: cuts, ..RunOptions::default() };
        let running = Running::start(resolution, sandbox, &options).await.expect("a start");
        let handle = running.handle();
        let swapper = tokio::spawn(async move {
            let mut swaps = 0;
            if meanwhile != Meanwhile::Swaps {
                return swaps;
            }
            loop {
                match handle.swap(&components).await {
                    Ok(_) => swaps += 1,
                    Err(SwapError::Ended) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            swaps
        });
        let reader = tokio::spawn(async move {
            let mut rows = Vec::new();
            while let Some(batch) = results.recv().await {
                rows.extend(run::rows(&batch));
            }
            rows
        });
        let waited = tokio::time::timeout(TOO_LONG, running.wait()).await.expect("the pipeline stands still");
        let status = waited.map_err(|error| error.to_string());
        let rows = tokio::time::timeout(TOO_LONG, reader).await.expect("the sink is never closed").expect("rows");
        let swaps = tokio::time::timeout(TOO_LONG, swapper).await.expect("a swap stands still").expect("swaps");
        Outcome { rows, status, swaps }
    })
}

/// source → two filters → union → map → window: a diamond, and a side exit from one of its branches.
fn diamond(parallelism: usize, room: usize, rows: u64) -> (PipelineSpec, mpsc::Receiver<Batch>) {
    let (sink, results) = ChannelSink::new(room);
    let window = Step::aggregate().key_by(["customer", "segment"]).tumbling(Duration::from_secs(2));
    let spec = Pipeline::new("diamond")
        .base(guests())
        .parallelism(parallelism)
        .source("visits", Source::generator(customers(rows)))
        .step("interested", Step::filter("interested.wasm").from("visits"))
        .step("large", Step::filter("min-amount.wasm").config("minimum", 100.0).from("visits"))
        .step("segments", Step::map("segment.wasm").from("interested").from("large").keep(["customer", "amount"]))
        .step("counts", window.count("n").sum("total", "amount").from("segments"))
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("counts"))
        .sink("aside", Sink::discard().from("interested"))
        .build()
        .expect("a pipeline");
    (spec, results)
}

/// (customer, segment, window) → (rows, cents)
fn windows(rows: &[Row]) -> BTreeMap<(String, String, i64), (i64, i64)> {
    let mut windows = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().expect("text").to_owned();
        let key = (text("customer"), text("segment"), row["window_start"].as_i64().expect("a time"));
        #[allow(clippy::cast_possible_truncation)]
        let cents = (row["total"].as_f64().expect("a number") * 100.0).round() as i64;
        let before = windows.insert(key, (row["n"].as_i64().expect("a count"), cents));
        assert_eq!(before, None, "a window came twice: {row:?}");
    }
    windows
}

#[test]
fn branches_that_meet_again_lose_nothing_whatever_happens_meanwhile() {
    const ROWS: u64 = 4_000_000;
    let (spec, results) = diamond(1, 1_000, ROWS);
    let reference = run_to_end(spec, results, Meanwhile::Nothing, None);
    let status = reference.status.expect("a run");
    let united = |status: &Status| status.node("segments").expect("the map").counts.rows_in;
    let both = |status: &Status| {
        ["interested", "large"].iter().map(|name| status.node(name).expect("a branch").counts.rows_out).sum::<u64>()
    };
    assert_eq!(united(&status), both(&status));
    assert!(united(&status) > ROWS / 4, "{status:?}");
    let counted: i64 = windows(&reference.rows).values().map(|(n, _)| n).sum();
    assert_eq!(u64::try_from(counted), Ok(united(&status)));
    for (parallelism, room, meanwhile, cuts) in [
        (3, 1_000, Meanwhile::Nothing, None),
        (1, 1, Meanwhile::Swaps, None),
        (3, 1, Meanwhile::Swaps, None),
        (3, 1_000, Meanwhile::Swaps, Some(1)),
        (4, 1, Meanwhile::Swaps, Some(2)),
    ] {
        let (spec, results) = diamond(parallelism, room, ROWS);
        let outcome = run_to_end(spec, results, meanwhile, cuts);
        let status = outcome.status.expect("a run");
        assert_eq!(windows(&outcome.rows), windows(&reference.rows), "parallelism {parallelism}, room {room}");
        assert_eq!(united(&status), both(&status));
        assert_eq!(
            status.node("aside").expect("the sink").counts.rows_in,
            status.node("interested").expect("the filter").counts.rows_out
        );
        assert!(meanwhile == Meanwhile::Nothing || outcome.swaps > 0, "no swap came in between");
        assert_eq!(status.total(millstream::control::NodeRole::Step, |counts| counts.late_rows), 0);
    }
}

#[test]
fn diamonds_one_after_the_other_neither_stand_still_nor_take_for_ever_to_plan() {
    const DIAMONDS: usize = 24;
    let (sink, results) = ChannelSink::new(1);
    let mut pipeline = Pipeline::new("diamonds")
        .base(guests())
        .parallelism(2)
        // one row: each diamond doubles it
        .source("d0", Source::generator(customers(1)));
    for i in 0..DIAMONDS {
        let (left, right, next) = (format!("l{i}"), format!("r{i}"), format!("d{}", i + 1));
        // the branches of all but the first few end in a filter that nothing passes
        let minimum = if i < 8 { 0.0 } else { 1e12 };
        let large = |minimum: f64| Step::filter("min-amount.wasm").config("minimum", minimum);
        pipeline = pipeline
            .step(left.clone(), large(0.0).from(format!("d{i}")))
            .step(right.clone(), large(minimum).from(format!("d{i}")))
            .step(next, large(0.0).from(left).from(right));
    }
    let last = format!("d{DIAMONDS}");
    let spec = pipeline.sink("out", Sink::of(SinkKind::Channel(sink)).from(last)).build().expect("a pipeline");
    let outcome = run_to_end(spec, results, Meanwhile::Nothing, None);
    outcome.status.expect("a run");
    assert_eq!(outcome.rows.len(), 1 << 8);
}

#[test]
fn a_source_that_ends_does_not_make_rows_of_a_silent_one_late() {
    let (sink, results) = ChannelSink::new(1_000);
    let sequence = |rows, rate, start_ms| GeneratorSpec {
        kind: GeneratorKind::Sequence { keys: 3 },
        rows: Some(rows),
        rate: Some(rate),
        seed: 1,
        start_ms,
        interval_ns: Some(1_000_000),
    };
    let spec = Pipeline::new("silent")
        .parallelism(2)
        .source("short", Source::generator(sequence(150, 1_000, 0)))
        // a row each quarter of a second: idle in between, as when the other source ends
        .source("silent", Source::generator(sequence(5, 4, 1_000_000)).idle_after(Duration::from_millis(20)))
        .step(
            "counts",
            Step::aggregate().from("short").from("silent").key_by(["key"]).tumbling(Duration::from_secs(1)).count("n"),
        )
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("counts"))
        .build()
        .expect("a pipeline");
    let outcome = run_to_end(spec, results, Meanwhile::Nothing, None);
    let status = outcome.status.expect("a run");
    assert_eq!(status.node("counts").expect("the window").counts.late_rows, 0);
    assert_eq!(outcome.rows.iter().filter_map(|row| row["n"].as_i64()).sum::<i64>(), 155);
}

#[test]
fn a_failure_in_one_branch_ends_the_run_with_its_cause() {
    for parallelism in [1, 3] {
        let (sink, results) = ChannelSink::new(1);
        let failing = Step::map("enrich.wasm").config("target", "EUR").on_error(OnError::Fail);
        let folder = tempfile::tempdir().expect("a folder");
        let lines: String = (0..20_000)
            .map(|i| format!("{{\"price\":{i},\"currency\":\"{}\"}}\n", if i == 15_000 { "XXX" } else { "EUR" }))
            .collect();
        std::fs::write(folder.path().join("bids.jsonl"), lines).expect("a file");
        let source = Source::file(folder.path().join("bids.jsonl").display().to_string());
        let spec = Pipeline::new("failing")
            .base(guests())
            .parallelism(parallelism)
            .source("bids", source.format(millstream::format::Format::Json))
            .step("euro", failing.keep_all().from("bids"))
            .step("again", Step::map("enrich.wasm").config("target", "EUR").keep_all().from("bids"))
            .sink("out", Sink::of(SinkKind::Channel(sink)).from("euro").from("again"))
            .build()
            .expect("a pipeline");
        let outcome = run_to_end(spec, results, Meanwhile::Swaps, None);
        let error = outcome.status.expect_err("a failure");
        assert!(error.contains("step `euro`") && error.contains("no rate for currency \"XXX\""), "{error}");
    }
}

#[test]
fn rows_that_are_broadcast_reach_every_task_once() {
    const ROWS: u64 = 50_000;
    let counted = |partition: Option<PartitionSpec>, cuts| {
        let (sink, results) = ChannelSink::new(1_000);
        let mut all = Step::filter("min-amount.wasm").config("minimum", -1e12).from("visits");
        if let Some(partition) = partition {
            all = all.partition(partition);
        }
        let counts = Step::aggregate().key_by(["customer"]).tumbling(Duration::from_secs(1_000)).count("n").from("all");
        let spec = Pipeline::new("broadcast")
            .base(guests())
            .parallelism(3)
            .source("visits", Source::generator(customers(ROWS)))
            .step("all", all)
            .step("counts", counts)
            .sink("out", Sink::of(SinkKind::Channel(sink)).from("counts"))
            .build()
            .expect("a pipeline");
        let outcome = run_to_end(spec, results, Meanwhile::Swaps, cuts);
        outcome.status.expect("a run");
        let count =
            |row: &Row| (row["customer"].to_string(), row["window_start"].as_i64(), row["n"].as_i64().expect("n"));
        let mut counts: Vec<_> = outcome.rows.iter().map(count).collect();
        counts.sort();
        counts
    };
    let once = counted(None, None);
    assert_eq!(once.iter().map(|(.., n)| n).sum::<i64>(), 50_000);
    for cuts in [None, Some(3)] {
        let thrice: Vec<_> = once.iter().map(|(key, start, n)| (key.clone(), *start, n * 3)).collect();
        assert_eq!(counted(Some(PartitionSpec::Broadcast), cuts), thrice);
        assert_eq!(counted(Some(PartitionSpec::Row), cuts), once);
        assert_eq!(counted(Some(PartitionSpec::Rebalance), cuts), once);
    }
}
