//! Sources and sinks that stay open through a change, and those that had ended before it.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use millstream::control::ApplyError;
use millstream::format::Format;
use millstream::record::{Field, Kind};
use millstream::source::{Framing, SourceKind};

use super::*;

/// An address that was free a moment ago.
fn address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn tcp(listen: &str) -> Source {
    let kind = SourceKind::Tcp { listen: listen.to_owned(), framing: Framing::Lines, connections: Some(1) };
    let schema = [Field::new("number", Kind::Int64), Field::new("name", Kind::Text)];
    Source::of(kind).format(Format::Json).schema(schema.to_vec()).parallelism(1)
}

fn send(connection: &mut TcpStream, numbers: std::ops::Range<u64>) {
    let line = |number| format!("{{\"number\": {number}, \"name\": \"n{}\"}}\n", number % 7);
    let text: String = numbers.map(line).collect();
    connection.write_all(text.as_bytes()).unwrap();
    connection.write_all(b"{\"number\": \"no number\"}\n").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_stays_open_and_nothing_on_its_way_is_lost() {
    let listen = address();
    let (sink, rows) = channel();
    let (dead_sink, dead) = ChannelSink::new(4);
    let pipeline = || {
        Pipeline::new("connected")
            .source("lines", tcp(&listen))
            .step("numbers", Step::select(["number"]).from("lines"))
            .sink("out", sink.clone().from("numbers"))
            .dead_letter(SinkKind::Channel(dead_sink.clone()))
    };
    let running = start(pipeline().build().unwrap()).await;
    let (handle, rows, dead) = (running.handle(), run::collect(rows), run::collect(dead));
    let mut connection = TcpStream::connect(&listen).unwrap();
    for turn in 0..4 {
        // more than the change leaves time to read
        send(&mut connection, turn * 5_000..(turn + 1) * 5_000);
        handle.rescale(1 + usize::try_from(turn).unwrap() % 3, &["numbers".to_owned()]).await.unwrap();
    }
    // another column is wanted of the source, which has to be opened anew for it
    let more = pipeline().step("names", Step::select(["name"]).from("lines"));
    let more = more.sink("other", sink.clone().from("names")).build().unwrap();
    let error = handle.apply(more, &[]).await.unwrap_err();
    let ApplyError::Unapproved { names, .. } = &error else { panic!("{error}") };
    assert_eq!(names, &["lines"]);
    assert!(error.to_string().contains("cannot be read again"), "{error}");
    send(&mut connection, 20_000..20_001);
    drop((connection, handle, sink, dead_sink));
    let status = running.wait().await.unwrap();
    assert_eq!(status.generation, 3, "the fourth change was none");
    let mut numbers: Vec<u64> = rows.await.unwrap().iter().map(|row| row["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..20_001), "{} rows", numbers.len());
    assert_eq!(dead.await.unwrap().len(), 5, "dead letters too");
}

/// A source that has ended long before the change, with a file and windows of its own, beside one that goes on.
async fn ended_before(checkpoints: bool) {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let kind = GeneratorKind::Sequence { keys: 5 };
    let (rows, interval_ns) = (Some(1_000), Some(1_000_000));
    let few = Source::generator(GeneratorSpec { kind, rows, rate: None, seed: 9, start_ms: 0, interval_ns });
    let (sink, seen) = channel();
    let mut pipeline = Pipeline::new("ended")
        .source("few", few)
        .source("numbers", generator())
        .step("few_sums", counts(Duration::from_secs(1)).from("few"))
        .step("sums", counts(Duration::from_secs(7)).from("numbers").from("few"))
        .sink("few_out", Sink::file(text("few/rows.json")).from("few_sums"))
        .sink("out", sink.from("sums"));
    if checkpoints {
        pipeline = pipeline.checkpoint(text("state"), Duration::from_millis(20));
    }
    let running = start(pipeline.build().unwrap()).await;
    let (handle, seen) = (running.handle(), run::collect(seen));
    passed(&handle, "numbers", ROWS / 4).await;
    passed(&handle, "few_out", 5).await;
    handle.rescale(3, &[]).await.unwrap();
    passed(&handle, "numbers", ROWS / 2).await;
    handle.rescale(2, &[]).await.unwrap();
    drop(handle);
    running.wait().await.unwrap();
    let count = |rows: &[String]| -> u64 {
        rows.iter().map(|row| serde_json::from_str::<Row>(row).unwrap()["rows"].as_u64().unwrap()).sum()
    };
    assert_eq!(count(&lines(&folder.path().join("few"))), 1_000);
    assert_eq!(count(&sorted(&seen.await.unwrap())), ROWS + 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_ended_before_a_change_does_not_come_again() {
    ended_before(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_ended_before_a_change_does_not_come_again_with_checkpoints() {
    ended_before(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_pipeline_is_paused_after_a_change_too() {
    let (sink, rows) = channel();
    let running = start(
        Pipeline::new("paused").source("numbers", generator()).sink("out", sink.from("numbers")).build().unwrap(),
    )
    .await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    passed(&handle, "numbers", ROWS / 8).await;
    handle.pause().await;
    handle.rescale(2, &[]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = handle.status();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = handle.status();
    assert!(before.paused && after.paused);
    let out = |status: &Status| status.node("numbers").unwrap().counts.rows_out;
    assert_eq!(out(&before), out(&after));
    handle.resume().await;
    drop(handle);
    running.wait().await.unwrap();
    assert_eq!(rows.await.unwrap().len() as u64, ROWS);
}
