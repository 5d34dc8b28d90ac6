//! The engine as a library: built-in steps, parallelism, batch boundaries.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::{GeneratorKind, GeneratorSpec};
use millstream_tests::run;

const ROWS: u64 = 200_000;

fn generator(rows: u64) -> GeneratorSpec {
    GeneratorSpec {
        kind: GeneratorKind::Sequence { keys: 100 },
        rows: Some(rows),
        rate: None,
        seed: 7,
        start_ms: 0,
        interval_ns: Some(100_000),
    }
}

/// (key, window start) → (count, total)
type Windows = BTreeMap<(i64, i64), (i64, i64)>;

fn windows(parallelism: usize, shuffle_batches: Option<u64>) -> Windows {
    let (sink, mut results) = ChannelSink::new(1_000_000);
    let spec = Pipeline::new("windows")
        .parallelism(parallelism)
        .source("rows", Source::generator(generator(ROWS)).max_out_of_orderness(Duration::from_secs(60)))
        .step(
            "sums",
            Step::aggregate()
                .from("rows")
                .key_by(["key"])
                .tumbling(Duration::from_secs(5))
                .count("n")
                .sum("total", "amount"),
        )
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("sums"))
        .build()
        .expect("a pipeline");
    let status = run::run(spec, &RunOptions { shuffle_batches, ..RunOptions::default() }).expect("a run");
    assert_eq!(status.node("rows").expect("the source").counts.rows_out, ROWS);
    let mut found = Windows::new();
    while let Some(batch) = results.blocking_recv() {
        for row in run::rows(&batch) {
            let int = |name: &str| row[name].as_i64().expect("an integer");
            let before = found.insert((int("key"), int("window_start")), (int("n"), int("total")));
            assert_eq!(before, None, "a window came twice: {row:?}");
        }
    }
    found
}

#[test]
fn every_row_is_in_exactly_one_window() {
    let found = windows(1, None);
    assert_eq!(found.values().map(|(count, _)| count).sum::<i64>(), i64::try_from(ROWS).expect("fits"));
    // 200,000 rows 0.1 ms apart: 20 s, four windows of 5 s, 100 keys in each
    assert_eq!(found.len(), 400);
}

#[test]
fn parallelism_and_batch_boundaries_change_nothing() {
    let reference = windows(1, None);
    assert_eq!(windows(3, None), reference);
    assert_eq!(windows(1, Some(1)), reference);
    assert_eq!(windows(3, Some(2)), reference);
}
