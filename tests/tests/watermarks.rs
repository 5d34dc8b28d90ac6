//! Watermark assigners in pipelines: what is refused, and that they are replaced as any component is; sources that stay
//! together in event time.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use millstream::format::Format;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source};
use millstream::pipeline::resolve::resolve;
use millstream::record::{Batch, Field, Kind};
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::{Framing, GeneratorKind, GeneratorSpec, SourceKind};
use millstream_tests::{built, run};

/// A run that stands still ends here.
const TOO_LONG: Duration = Duration::from_secs(60);

fn guest(name: &str) -> String {
    built::guest(name).expect("cargo xtask guests").to_string_lossy().into_owned()
}

fn reports(source: Source) -> Source {
    source.format(Format::Json).schema([
        Field::new("seconds", Kind::Int64).nullable(),
        Field::new("complete", Kind::Boolean).nullable(),
        Field::new("value", Kind::Text),
    ])
}

fn refused(source: Source) -> String {
    let built = Pipeline::new("p").source("reports", source).sink("out", Sink::discard().from("reports")).build();
    let sandbox = run::sandbox().expect("a sandbox");
    built.and_then(|spec| resolve(spec, &sandbox)).expect_err("it is refused").to_string()
}

#[test]
fn a_component_that_is_no_assigner_is_refused_with_what_one_is() {
    let source = || reports(Source::file("reports.jsonl"));
    let error = refused(source().watermark_assigner(guest("uppercase")));
    assert!(error.contains("watermark assigner of source `reports` puts out other columns than times"), "{error}");
    assert!(error.contains("expected `event_time` and at most `watermark`, found value: text"), "{error}");
    let error = refused(source().watermark_assigner(guest("even")));
    assert!(error.contains("source `reports` uses") && error.contains("expected a mapper"), "{error}");
    let error = refused(source().watermark_assigner("no-such.wasm"));
    assert!(error.contains("no-such.wasm"), "{error}");
    let bounded = source().watermark_assigner(guest("machine-times")).max_out_of_orderness(Duration::from_secs(1));
    let error = refused(bounded);
    assert!(error.contains("puts out watermarks, and the source has `max_out_of_orderness`"), "{error}");
    let other = Source::file("reports.jsonl").format(Format::Json).schema([Field::new("seconds", Kind::Text)]);
    let error = refused(other.watermark_assigner(guest("machine-times")));
    assert!(error.contains("reads `seconds` as int64") && error.contains("has no column `complete`"), "{error}");
}

#[test]
fn a_watermark_column_must_be_a_time_that_is_there() {
    let error = refused(reports(Source::stdin()).watermark_column("value"));
    assert!(error.contains("watermark `value` of source `reports` is not a time"), "{error}");
    let error = refused(reports(Source::stdin()).watermark_column("secs"));
    assert!(error.contains("has no column `secs`"), "{error}");
}

#[test]
fn an_assigner_says_which_columns_a_source_without_a_schema_has() {
    let source = Source::file("reports.jsonl").format(Format::Json).watermark_assigner(guest("machine-times"));
    let built = Pipeline::new("p").source("reports", source).sink("out", Sink::discard().from("reports")).build();
    let resolution = resolve(built.expect("a pipeline"), &run::sandbox().expect("a sandbox")).expect("it resolves");
    assert_eq!(resolution.plan.nodes[0].schema.to_string(), "seconds: int64?, complete: boolean?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assigner_is_replaced_while_its_source_runs() {
    let wire = SourceKind::Tcp { listen: "127.0.0.1:0".into(), framing: Framing::Lines, connections: None };
    let spec = Pipeline::new("p")
        .source("reports", reports(Source::of(wire)).watermark_assigner(guest("machine-times")))
        .sink("out", Sink::discard().from("reports"))
        .build()
        .expect("a pipeline");
    let running = run::start(spec, &RunOptions::default()).await.expect("it starts");
    let handle = running.handle();
    let status = handle.status();
    assert_eq!(status.nodes[0].components.len(), 1, "{status:?}");
    let swap = |name: &str| vec![("reports".to_owned(), guest(name).into())];
    let report = handle.swap(&swap("machine-times")).await.expect("the same fits");
    assert_eq!(report.swapped[0].step, "reports");
    let error = handle.swap(&swap("uppercase")).await.expect_err("another does not").to_string();
    assert!(error.contains("does not fit"), "{error}");
    handle.stop().await;
    running.wait().await.expect("it ends");
}

fn sequence(rows: u64, rate: Option<u64>, interval_ns: u64) -> Source {
    let kind = GeneratorKind::Sequence { keys: 3 };
    let spec = GeneratorSpec { kind, rows: Some(rows), rate, seed: 1, start_ms: 0, interval_ns: Some(interval_ns) };
    Source::generator(spec).max_drift(Duration::from_secs(1))
}

fn latest_ms(batch: &Batch) -> i64 {
    let at = batch.columns().column_by_name("at").expect("the column");
    at.as_primitive::<TimestampMillisecondType>().values().iter().copied().max().unwrap_or_default()
}

/// A second of event time takes the slow source 20 ms, the fast one next to nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_source_waits_for_a_slow_one_until_that_has_ended() {
    const SLOW_ROWS: u64 = 300;
    let (slow_sink, mut slow) = ChannelSink::new(1);
    let (fast_sink, mut fast) = ChannelSink::new(1);
    let spec = Pipeline::new("p")
        .source("slow", sequence(SLOW_ROWS, Some(500), 100_000_000))
        .source("fast", sequence(3_000_000, None, 20_000).parallelism(2))
        .sink("slow-out", Sink::of(SinkKind::Channel(slow_sink)).from("slow"))
        .sink("fast-out", Sink::of(SinkKind::Channel(fast_sink)).from("fast"))
        .build()
        .expect("a pipeline");
    let running = run::start(spec, &RunOptions::default()).await.expect("it starts");
    let (mut slow_ms, mut slow_rows, mut fast_rows, mut furthest_ahead_ms) = (0, 0, 0, 0);
    let reading = async {
        while slow_rows < SLOW_ROWS || fast_rows < 3_000_000 {
            tokio::select! {
                biased;
                Some(batch) = slow.recv() => {
                    slow_ms = latest_ms(&batch);
                    slow_rows += batch.rows() as u64;
                }
                Some(batch) = fast.recv() => {
                    fast_rows += batch.rows() as u64;
                    if slow_rows < SLOW_ROWS {
                        furthest_ahead_ms = furthest_ahead_ms.max(latest_ms(&batch) - slow_ms);
                    }
                }
            }
        }
    };
    tokio::time::timeout(TOO_LONG, reading).await.expect("nobody waits for ever");
    running.wait().await.expect("it ends");
    // the drift, two batches of 8,192 rows of 20 us from two tasks, and what the slow one is ahead of its sink
    assert!(furthest_ahead_ms < 1_000 + 2 * 330 + 2_500, "{furthest_ahead_ms} ms ahead");
    assert!(slow_ms > 29_000 && furthest_ahead_ms > 0);
}
