//! The job that all of this is for: Kafka, a map in WebAssembly, keyed event-time windows, and another map put in its
//! place while records come in. Where there is no Java or Maven these tests are skipped, and fail where `CI=true`.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::Handle;
use millstream::format::Format;
use millstream::kafka::KafkaSecurity;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::{Field, Kind};
use millstream::sink::{ChannelSink, KafkaSinkSpec, SinkKind};
use millstream::source::{KafkaSourceSpec, KafkaStart, SourceKind};
use millstream_tests::broker::Broker;
use millstream_tests::{built, run};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Map, Value, json};

type Row = Map<String, Value>;

const RECORDS: u64 = 200_000;
const PARTITIONS: u64 = 3;
const WINDOW_MS: i64 = 5_000;

/// Not at the start of a window.
const START_MS: i64 = 1_700_000_001_234;

/// Records a second, where they come at a pace.
const RATE: u64 = 50_000;

const PATIENCE: Duration = Duration::from_secs(60);

const WORDS: [&str; 7] = ["alpha", "beta", "gamma", "delta", "straße", "été", ""];

/// The broker, or the end of the test.
macro_rules! broker_or_return {
    ($test:literal) => {
        match Broker::or_skip(concat!("seed_job::", $test)).unwrap() {
            Some(broker) => broker,
            None => return,
        }
    };
}

mod printed;

// ---- what is produced: all of a record follows from its number ----

fn word(record: u64) -> &'static str {
    // not in step with partitions
    WORDS[usize::try_from(record / PARTITIONS % WORDS.len() as u64).unwrap()]
}

fn amount(record: u64) -> i64 {
    i64::try_from(record % 1_000).unwrap() - 100
}

/// 0.2 ms apart: 200,000 records are 40 s, which is parts of nine windows.
fn time_ms(record: u64) -> i64 {
    START_MS + i64::try_from(record / 5).unwrap()
}

fn window_start(time_ms: i64) -> i64 {
    time_ms - time_ms.rem_euclid(WINDOW_MS)
}

/// Sends all records; at `rate` a second, where one is given.
fn produce(brokers: &str, topic: &str, rate: Option<u64>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("linger.ms", "5").set("queue.buffering.max.messages", "500000");
    let producer: BaseProducer = config.create().unwrap();
    let watch = Stopwatch::start();
    for record in 0..RECORDS {
        let partition = record % PARTITIONS;
        let value = json!({ "value": word(record), "amount": amount(record), "shard": partition, "number": record });
        let value = value.to_string();
        let sent = BaseRecord::<str, str>::to(topic).partition(i32::try_from(partition).unwrap());
        producer.send(sent.timestamp(time_ms(record)).payload(&value)).map_err(|(error, _)| error).unwrap();
        if record % 500 == 0 {
            producer.poll(Duration::ZERO);
            let due = rate.map(|rate| Duration::from_secs_f64(record as f64 / rate as f64));
            std::thread::sleep(due.unwrap_or_default().saturating_sub(watch.elapsed()));
        }
    }
    producer.flush(PATIENCE).unwrap();
}

/// What the windows must hold, by word and start: count and sum.
fn truth() -> BTreeMap<(String, i64), (i64, i64)> {
    let mut windows = BTreeMap::new();
    for record in 0..RECORDS {
        let window = windows.entry((word(record).to_uppercase(), window_start(time_ms(record)))).or_insert((0, 0));
        *window = (window.0 + 1, window.1 + amount(record));
    }
    windows
}

// ---- the pipeline ----

fn source(brokers: &str, topic: &str, bounded: bool) -> Source {
    let kind = SourceKind::Kafka(KafkaSourceSpec {
        brokers: brokers.to_owned(),
        topic: topic.to_owned(),
        start: KafkaStart::Earliest,
        bounded,
        security: KafkaSecurity::default(),
        discover: std::time::Duration::from_millis(300),
        properties: Vec::new(),
    });
    let fields = [("value", Kind::Text), ("amount", Kind::Int64), ("shard", Kind::Int64), ("number", Kind::Int64)];
    Source::of(kind).format(Format::Json).schema(fields.map(|(name, kind)| Field::new(name, kind)))
}

/// Kafka → upper case → windows, and the rows of the map beside them.
fn pipeline(source: Source, parallelism: usize, rows: SinkKind, windows: ChannelSink) -> PipelineSpec {
    Pipeline::new("seed-job")
        .parallelism(parallelism)
        .source("lines", source)
        .step("upper", Step::map(built::guest("uppercase").unwrap().to_string_lossy()).from("lines").keep_all())
        .step(
            "counts",
            Step::aggregate()
                .from("upper")
                .key_by(["value"])
                .tumbling(Duration::from_millis(WINDOW_MS.unsigned_abs()))
                .count("records")
                .sum("total", "amount"),
        )
        .sink("rows", Sink::of(rows).from("upper").format(Format::Json))
        .sink("windows", Sink::of(SinkKind::Channel(windows)).from("counts"))
        .build()
        .unwrap()
}

fn rows_read(handle: &Handle) -> u64 {
    handle.status().node("lines").unwrap().counts.rows_out
}

/// Waits until so many records have been read.
async fn read(handle: &Handle, records: u64) {
    let watch = Stopwatch::start();
    while rows_read(handle) < records {
        assert!(watch.elapsed() < PATIENCE, "{} of {records} records read", rows_read(handle));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn swap_to_tagged(handle: &Handle) {
    let report = handle.swap(&[("upper".to_owned(), built::guest("uppercase-tagged").unwrap())]).await.unwrap();
    let status = handle.status();
    let running = &status.node("upper").unwrap().components;
    assert_eq!(running.len(), 1, "all tasks run one version: {running:?}");
    assert_eq!(running[0].digest, report.swapped[0].to);
    assert_ne!(report.swapped[0].from, report.swapped[0].to);
}

// ---- what came out ----

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap()
}

fn int(row: &Row, column: &str) -> i64 {
    row[column].as_i64().unwrap()
}

/// Every record came out of the map once, and in each partition those before one offset are of the first version, those
/// from it on of the second. How many records the second version has seen, by partition.
fn check_rows(rows: &[Row]) -> [u64; PARTITIONS as usize] {
    let mut versions: Vec<Option<bool>> = vec![None; usize::try_from(RECORDS).unwrap()];
    for row in rows {
        let number = row["number"].as_u64().unwrap();
        let upper = word(number).to_uppercase();
        let tagged = match text(row, "value").strip_suffix('!') {
            Some(before) => (before == upper).then_some(true),
            None => (text(row, "value") == upper).then_some(false),
        };
        assert!(tagged.is_some(), "neither version makes this of `{}`: {row:?}", word(number));
        assert_eq!(int(row, "amount"), amount(number));
        let before = std::mem::replace(&mut versions[usize::try_from(number).unwrap()], tagged);
        assert_eq!(before, None, "record {number} came twice");
    }
    let missing = versions.iter().filter(|version| version.is_none()).count();
    assert_eq!(missing, 0, "records are missing");
    let mut second = [0; PARTITIONS as usize];
    for (partition, seen) in (0..).zip(&mut second) {
        // a partition's records have consecutive offsets in the order of their numbers
        let of_partition = versions.iter().skip(partition).step_by(usize::try_from(PARTITIONS).unwrap());
        let tagged: Vec<bool> = of_partition.map(|version| version.unwrap()).collect();
        let cut = tagged.iter().position(|tagged| *tagged).unwrap_or(tagged.len());
        let back = tagged[cut..].iter().position(|tagged| !*tagged);
        assert_eq!(back, None, "partition {partition}: offset {cut} is of the second version, one behind it is not");
        *seen = (tagged.len() - cut) as u64;
    }
    second
}

/// The windows hold what the rows say, and both versions together what was produced.
fn check_windows(windows: &[Row], rows: &[Row]) {
    let mut by_value = BTreeMap::new();
    for row in rows {
        let start = window_start(time_ms(row["number"].as_u64().unwrap()));
        let window: &mut (i64, i64) = by_value.entry((text(row, "value").to_owned(), start)).or_default();
        *window = (window.0 + 1, window.1 + int(row, "amount"));
    }
    let found = windows_of(windows);
    assert_eq!(found, by_value);
    check_against_truth(&found);
}

fn windows_of(windows: &[Row]) -> BTreeMap<(String, i64), (i64, i64)> {
    let mut found = BTreeMap::new();
    for row in windows {
        assert_eq!(int(row, "window_end") - int(row, "window_start"), WINDOW_MS);
        let key = (text(row, "value").to_owned(), int(row, "window_start"));
        let before = found.insert(key, (int(row, "records"), int(row, "total")));
        assert_eq!(before, None, "a window fired twice: {row:?}");
    }
    found
}

fn check_against_truth(windows: &BTreeMap<(String, i64), (i64, i64)>) {
    let mut without_tags = BTreeMap::new();
    for ((value, start), (records, total)) in windows {
        let value = value.strip_suffix('!').unwrap_or(value).to_owned();
        let window: &mut (i64, i64) = without_tags.entry((value, *start)).or_default();
        *window = (window.0 + records, window.1 + total);
    }
    assert_eq!(without_tags, truth());
}

/// Records come at a pace, the map is replaced in the middle, the job is stopped when all have been read.
async fn while_records_come(broker: &Broker, parallelism: usize) {
    let topic = broker.topic_name("seed-job");
    broker.create_topic(&topic, PARTITIONS as i32).await.unwrap();
    let ((rows_sink, rows), (windows_sink, windows)) = (ChannelSink::new(64), ChannelSink::new(64));
    let source = source(&broker.bootstrap(), &topic, false);
    let spec = pipeline(source, parallelism, SinkKind::Channel(rows_sink), windows_sink);
    let running = run::start(spec, &RunOptions::default()).await.unwrap();
    let (handle, rows, windows) = (running.handle(), run::collect(rows), run::collect(windows));
    let brokers = broker.bootstrap();
    let producing = tokio::task::spawn_blocking(move || produce(&brokers, &topic, Some(RATE)));
    read(&handle, RECORDS / 3).await;
    swap_to_tagged(&handle).await;
    assert!(rows_read(&handle) < RECORDS, "the swap was to come in the middle");
    producing.await.unwrap();
    read(&handle, RECORDS).await;
    handle.stop().await;
    drop(handle);
    let status = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    assert_eq!(status.node("lines").unwrap().counts.rows_out, RECORDS);
    assert_eq!(status.node("counts").unwrap().counts.late_rows, 0);
    let (rows, windows) = (rows.await.unwrap(), windows.await.unwrap());
    let second = check_rows(&rows);
    assert!(second.iter().all(|records| (1..RECORDS / PARTITIONS).contains(records)), "{second:?} after the swap");
    check_windows(&windows, &rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_is_replaced_at_one_offset_of_each_partition_while_records_come() {
    let broker = broker_or_return!("a_map_is_replaced_at_one_offset_of_each_partition_while_records_come");
    while_records_come(broker, 1).await;
    while_records_come(broker, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_job_ends_by_itself_with_all_windows() {
    let broker = broker_or_return!("a_bounded_job_ends_by_itself_with_all_windows");
    let topic = broker.topic_name("bounded-job");
    broker.create_topic(&topic, PARTITIONS as i32).await.unwrap();
    let (brokers, to) = (broker.bootstrap(), topic.clone());
    tokio::task::spawn_blocking(move || produce(&brokers, &to, None)).await.unwrap();
    for parallelism in [1, 3] {
        let ((rows_sink, mut rows), (windows_sink, windows)) = (ChannelSink::new(1), ChannelSink::new(64));
        let source = source(&broker.bootstrap(), &topic, true);
        let spec = pipeline(source, parallelism, SinkKind::Channel(rows_sink), windows_sink);
        // small pieces, so that the reader of rows holds the job back in its middle
        let options = RunOptions { shuffle_batches: Some(11), ..RunOptions::default() };
        let running = run::start(spec, &options).await.unwrap();
        let (handle, windows) = (running.handle(), run::collect(windows));
        let mut first = Vec::new();
        while first.len() < 10_000 {
            first.extend(run::rows(&rows.recv().await.unwrap()));
        }
        let swapping = tokio::spawn(async move { swap_to_tagged(&handle).await });
        // slowly, so that the end does not come before the swap has been compiled
        while !swapping.is_finished() {
            first.extend(run::rows(&rows.recv().await.unwrap()));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let rest = run::collect(rows);
        swapping.await.unwrap();
        tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
        first.extend(rest.await.unwrap());
        let second = check_rows(&first);
        assert!(second.iter().sum::<u64>() > 0, "the swap was to come before the end");
        check_windows(&windows.await.unwrap(), &first);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_kafka_to_kafka_nothing_is_lost_or_doubled() {
    let broker = broker_or_return!("from_kafka_to_kafka_nothing_is_lost_or_doubled");
    let (topic, out) = (broker.topic_name("kafka-in"), broker.topic_name("kafka-out"));
    broker.create_topic(&topic, PARTITIONS as i32).await.unwrap();
    broker.create_topic(&out, 4).await.unwrap();
    let (windows_sink, windows) = ChannelSink::new(64);
    let to = SinkKind::Kafka(KafkaSinkSpec {
        brokers: broker.bootstrap(),
        topic: out.clone(),
        key: Some("value".to_owned().into()),
        security: KafkaSecurity::default(),
        properties: Vec::new(),
    });
    let spec = pipeline(source(&broker.bootstrap(), &topic, false), 2, to, windows_sink);
    let running = run::start(spec, &RunOptions::default()).await.unwrap();
    let (handle, windows) = (running.handle(), run::collect(windows));
    let brokers = broker.bootstrap();
    let producing = tokio::task::spawn_blocking(move || produce(&brokers, &topic, Some(RATE)));
    read(&handle, RECORDS / 2).await;
    swap_to_tagged(&handle).await;
    producing.await.unwrap();
    read(&handle, RECORDS).await;
    handle.stop().await;
    drop(handle);
    tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    let rows = read_back(broker, &out).await;
    let second = check_rows(&rows);
    assert!(second.iter().all(|records| (1..RECORDS / PARTITIONS).contains(records)), "{second:?} after the swap");
    check_windows(&windows.await.unwrap(), &rows);
}

/// All rows of a topic, through a pipeline without steps.
async fn read_back(broker: &Broker, topic: &str) -> Vec<Row> {
    let (sink, rows) = ChannelSink::new(64);
    let spec = Pipeline::new("read-back")
        .source("lines", source(&broker.bootstrap(), topic, true))
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("lines"))
        .build()
        .unwrap();
    let rows = run::collect(rows);
    let running = run::start(spec, &RunOptions::default()).await.unwrap();
    tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    rows.await.unwrap()
}
