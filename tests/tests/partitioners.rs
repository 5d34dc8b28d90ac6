//! Steps whose rows a component spreads over their tasks: what comes out does not depend on it, and rows that it cannot place
//! are handled as the step says.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream::control::{Running, Status, SwapError};
use millstream::format::Format;
use millstream::operator::OnError;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::partition::PartitionSpec;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::{ComponentSpec, PipelineSpec};
use millstream::record::Batch;
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream::wasm::Setting;
use millstream_tests::run;
use tokio::sync::mpsc;

/// Rows, status, and what became of the swaps.
type Ran = (Vec<serde_json::Map<String, serde_json::Value>>, Result<Status, String>, Vec<Result<(), String>>);

const TOO_LONG: Duration = Duration::from_secs(60);

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests")
}

fn custom(path: &str, config: &[(&str, i64)]) -> PartitionSpec {
    let config: BTreeMap<String, Setting> =
        config.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect();
    PartitionSpec::Custom(ComponentSpec { path: path.to_owned().into(), config: Arc::new(config) })
}

type Swap = (&'static str, &'static str);

/// Runs to the end, swapping meanwhile.
fn run_to_end(spec: PipelineSpec, mut results: mpsc::Receiver<Batch>, swap: Option<Swap>) -> Ran {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let sandbox = run::sandbox().expect("a sandbox");
        let resolution = resolve(spec, &sandbox).expect("a plan");
        let running = Running::start(resolution, sandbox, &RunOptions::default()).await.expect("a start");
        let handle = running.handle();
        let swapper = tokio::spawn(async move {
            let mut done = Vec::new();
            while let Some((step, component)) = swap {
                match handle.swap(&[(step.to_owned(), guests().join(component))]).await {
                    Err(SwapError::Ended) => break,
                    // refused before anybody looks whether the pipeline goes on
                    Err(_) if handle.status().ended => break,
                    result => done.push(result.map(drop).map_err(|error| error.to_string())),
                }
            }
            done
        });
        let reader = tokio::spawn(async move {
            let mut rows = Vec::new();
            while let Some(batch) = results.recv().await {
                rows.extend(run::rows(&batch));
            }
            rows
        });
        let status = tokio::time::timeout(TOO_LONG, running.wait()).await.expect("the pipeline stands still");
        let rows = reader.await.expect("rows");
        (rows, status.map_err(|error| error.to_string()), swapper.await.expect("swaps"))
    })
}

/// Rows of 20 keys, spread, then counted by key.
fn counted(partition: PartitionSpec, parallelism: usize) -> (PipelineSpec, mpsc::Receiver<Batch>) {
    let (sink, results) = ChannelSink::new(1_000);
    let rows = GeneratorSpec {
        kind: GeneratorKind::Sequence { keys: 20 },
        rows: Some(1_000_000),
        rate: None,
        seed: 3,
        start_ms: 0,
        interval_ns: Some(1_000_000),
    };
    let spec = Pipeline::new("counted")
        .base(guests())
        .source("rows", Source::generator(rows).parallelism(2))
        .step("spread", Step::select(["key", "amount"]).from("rows").parallelism(parallelism).partition(partition))
        .step(
            "counts",
            Step::aggregate()
                .from("spread")
                .parallelism(3)
                .key_by(["key"])
                .tumbling(Duration::from_secs(100))
                .count("n"),
        )
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("counts"))
        .build()
        .expect("a pipeline");
    (spec, results)
}

#[test]
fn state_behind_a_partitioner_stays_with_its_keys_while_the_partitioner_is_swapped() {
    let run = |partition, parallelism, swap| {
        let (spec, results) = counted(partition, parallelism);
        let (mut rows, status, swaps) = run_to_end(spec, results, swap);
        let status = status.expect("a run");
        rows.sort_by_key(|row| (row["key"].as_i64(), row["window_start"].as_i64()));
        (rows, status, swaps)
    };
    let (expected, ..) = run(PartitionSpec::Rebalance, 3, None);
    for parallelism in [1, 3, 4] {
        let swap = Some(("spread.partition", "hot-keys.wasm"));
        let (rows, status, swaps) = run(custom("hot-keys.wasm", &[("hot", 2)]), parallelism, swap);
        assert_eq!(rows, expected, "{parallelism}");
        assert!(!swaps.is_empty() && swaps.iter().all(Result::is_ok), "{swaps:?}");
        let spread = status.node("spread.partition").expect("the partitioner");
        assert_eq!((spread.tasks, spread.counts.rows_in, spread.counts.rows_out), (2, 1_000_000, 1_000_000));
        // a task that had ended before the swap still says what it ran
        let digests: BTreeSet<&String> = spread.components.iter().map(|component| &component.digest).collect();
        assert_eq!(digests.len(), 1);
    }
}

#[test]
fn a_component_that_is_no_partitioner_is_refused_and_the_old_one_goes_on() {
    let (spec, results) = counted(custom("hot-keys.wasm", &[("hot", 1)]), 3);
    let (rows, status, swaps) = run_to_end(spec, results, Some(("spread.partition", "even.wasm")));
    status.expect("a run");
    assert_eq!(rows.iter().filter_map(|row| row["n"].as_i64()).sum::<i64>(), 1_000_000);
    assert!(swaps.iter().all(|swap| swap.as_ref().is_err_and(|error| error.contains("partitioner"))), "{swaps:?}");
    let (spec, results) = counted(custom("hot-keys.wasm", &[("hot", 1)]), 3);
    // reads `value`, which these rows do not have
    let (_, status, swaps) = run_to_end(spec, results, Some(("spread.partition", "hostile-partition.wasm")));
    status.expect("a run");
    assert!(swaps.iter().all(|swap| swap.as_ref().is_err_and(|error| error.contains("`value`"))), "{swaps:?}");
}

fn hostile(values: &[&str], on_error: OnError) -> (Vec<String>, Vec<String>, Result<Status, String>) {
    let folder = tempfile::tempdir().expect("a folder");
    let lines: String = values.iter().map(|value| format!("{{\"value\":\"{value}\"}}\n")).collect();
    std::fs::write(folder.path().join("rows.jsonl"), lines).expect("a file");
    let ((sink, results), (dead_sink, mut dead)) = (ChannelSink::new(1_000), ChannelSink::new(1_000));
    let source = Source::file(folder.path().join("rows.jsonl").display().to_string()).format(Format::Json);
    let select =
        Step::select(["value"]).from("rows").partition(custom("hostile-partition.wasm", &[])).on_error(on_error);
    let spec = Pipeline::new("hostile")
        .base(guests())
        .parallelism(3)
        .source("rows", source)
        .step("spread", select.deadline(Duration::from_millis(50)))
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("spread"))
        .dead_letter(SinkKind::Channel(dead_sink))
        .build()
        .expect("a pipeline");
    let (rows, status, _) = run_to_end(spec, results, None);
    let mut rows: Vec<String> = rows.iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect();
    rows.sort();
    let mut reasons = Vec::new();
    while let Ok(batch) = dead.try_recv() {
        let found = run::rows(&batch).into_iter();
        reasons
            .extend(found.map(|row| format!("{} {}", row["node"].as_str().unwrap(), row["reason"].as_str().unwrap())));
    }
    reasons.sort();
    (rows, reasons, status)
}

#[test]
fn rows_that_a_partitioner_cannot_place_are_dead_and_the_others_pass() {
    let mut values = vec!["1"; 500];
    values[17] = "3";
    values[100] = "boom";
    values[101] = "refuse";
    values[400] = "loop";
    values[499] = "4294967295";
    let (rows, reasons, status) = hostile(&values, OnError::DeadLetter);
    assert_eq!(rows.len(), 495);
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    for reason in
        ["routed to task 3, expected 0 to 2", "went boom on purpose", "does not want", "deadline", "4294967295"]
    {
        assert!(reasons.iter().any(|found| found.contains(reason)), "{reason}: {reasons:?}");
    }
    assert!(reasons.iter().all(|reason| reason.starts_with("spread.partition ")), "{reasons:?}");
    assert_eq!(status.expect("a run").node("spread.partition").expect("the node").counts.dead_rows, 5);
    let (rows, reasons, status) = hostile(&values, OnError::Skip);
    assert_eq!((rows.len(), reasons.len()), (495, 0));
    assert_eq!(status.expect("a run").node("spread.partition").expect("the node").counts.skipped_rows, 5);
}

#[test]
fn a_row_that_cannot_be_placed_stops_the_pipeline_that_says_so() {
    let (_, _, status) = hostile(&["1", "0", "9"], OnError::Fail);
    let error = status.expect_err("a failure");
    assert!(error.contains("step `spread.partition`") && error.contains("routed to task 9"), "{error}");
}

/// What each task of the last step wrote, in files of their own.
fn amounts_by_task(folder: &Path) -> Vec<Vec<(i64, i64)>> {
    let read = |task: usize| {
        let text = std::fs::read_to_string(folder.join(format!("rows-{task}.json"))).expect("a task's file");
        let row = |line: &str| {
            let row: serde_json::Value = serde_json::from_str(line).expect("a row");
            (row["sequence"].as_i64().expect("a number"), row["amount"].as_i64().expect("an amount"))
        };
        text.lines().map(row).collect()
    };
    (0..4).map(read).collect()
}

#[test]
fn ranges_cut_from_a_sample_give_tasks_even_shares_in_the_order_of_the_values() {
    const ROWS: u64 = 100_000;
    let folder = tempfile::tempdir().expect("a folder");
    let rows = GeneratorSpec {
        kind: GeneratorKind::Sequence { keys: 20 },
        rows: Some(ROWS),
        rate: Some(ROWS),
        seed: 3,
        start_ms: 0,
        interval_ns: Some(1_000_000),
    };
    let partition = PartitionSpec::SampledRange {
        column: "amount".to_owned().into(),
        values: 500.into(),
        every: Duration::from_millis(100),
    };
    let spec = Pipeline::new("even")
        .base(folder.path().to_owned())
        .parallelism(4)
        .source("rows", Source::generator(rows).parallelism(2))
        .step("spread", Step::select(["sequence", "amount"]).from("rows").partition(partition))
        .sink("out", Sink::of(SinkKind::File { path: "rows.json".to_owned() }).from("spread").parallelism(4))
        .build()
        .expect("a pipeline");
    let (_, nothing) = mpsc::channel(1);
    run_to_end(spec, nothing, None).1.expect("a run");
    let tasks = amounts_by_task(folder.path());
    let mut sequences: Vec<i64> = tasks.iter().flatten().map(|(sequence, _)| *sequence).collect();
    sequences.sort_unstable();
    assert!(sequences.iter().copied().eq(0..ROWS.cast_signed()), "each row once: {} rows", sequences.len());
    let shares: Vec<usize> = tasks.iter().map(Vec::len).collect();
    assert!(shares.iter().all(|share| (15_000..40_000).contains(share)), "{shares:?}");
    // of the last quarter, which went by ranges that hardly moved
    let late = |task: &Vec<(i64, i64)>| {
        let mut amounts: Vec<i64> = task.iter().filter(|row| row.0 > 75_000).map(|row| row.1).collect();
        amounts.sort_unstable();
        (amounts[amounts.len() / 20], amounts[amounts.len() * 19 / 20])
    };
    let ranges: Vec<(i64, i64)> = tasks.iter().map(late).collect();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0 + 5), "not in order: {ranges:?}");
}
