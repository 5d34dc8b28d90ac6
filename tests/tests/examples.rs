//! Every pipeline of `examples/` is accepted as it stands, and does what its comments say.

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::pipeline;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::PipelineSpec;
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::SourceKind;
use millstream_tests::{built, run};
use serde_json::{Map, Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(built::repository().join("examples")).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|name| name == "toml")).collect();
    files.sort();
    files
}

fn example(name: &str) -> PipelineSpec {
    let file = built::repository().join("examples").join(name).join("pipeline.toml");
    pipeline::read(&file).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs an example whose only sink prints; what it would print.
fn run(mut spec: PipelineSpec) -> Vec<Map<String, Value>> {
    let (sink, mut results) = ChannelSink::new(1_000);
    spec.sinks[0].kind.value = SinkKind::Channel(sink);
    run::run(spec, &RunOptions::default()).unwrap();
    let mut rows = Vec::new();
    while let Some(batch) = results.blocking_recv() {
        rows.extend(run::rows(&batch));
    }
    rows
}

#[test]
fn every_example_fits_the_components_that_it_names() {
    let sandbox = run::sandbox().unwrap();
    let files = files();
    assert!(files.len() >= 12, "{files:?}");
    for file in files {
        let spec = pipeline::read(&file).unwrap_or_else(|error| panic!("{error}"));
        resolve(spec, &sandbox).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Each query puts something out, and as much at any parallelism.
#[test]
fn nexmark_queries_give_the_same_number_of_rows_at_any_parallelism() {
    let queries = files().into_iter().filter(|file| file.parent().is_some_and(|folder| folder.ends_with("nexmark")));
    for file in queries {
        let rows = |parallelism: usize| {
            let mut spec = pipeline::read(&file).unwrap_or_else(|error| panic!("{error}"));
            spec.parallelism = Some(parallelism.into());
            for source in &mut spec.sources {
                let SourceKind::Generator(generator) = &mut source.kind.value else { continue };
                generator.rows = generator.rows.map(|rows| rows / 20);
            }
            let (sink, results) = ChannelSink::new(10_000);
            spec.sinks[0].kind.value = SinkKind::Channel(sink);
            run::run(spec, &RunOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            drained(results)
        };
        let (one, three) = (rows(1), rows(3));
        assert!(one > 0 && one == three, "{}: {one} and {three} rows", file.display());
    }
}

fn drained(mut results: tokio::sync::mpsc::Receiver<millstream::record::Batch>) -> usize {
    let mut rows = 0;
    while let Some(batch) = results.blocking_recv() {
        rows += batch.rows();
    }
    rows
}

#[test]
fn the_file_example_prints_five_lines() {
    let mut rows = run(example("file"));
    rows.sort_by_key(|row| (row["window_start"].as_i64(), row["customer"].to_string()));
    let noon = 1_772_366_400_000_i64;
    let row = |minute: i64, customer: &str, orders: i64, total: f64, largest: f64| {
        let (start, end) = (noon + minute * 60_000, noon + (minute + 1) * 60_000);
        json!({ "customer": customer, "window_start": start, "window_end": end,
                "orders": orders, "total": total, "largest": largest })
    };
    let expected = [
        row(0, "ada", 2, 14.0, 10.0),
        row(0, "bob", 2, 16.0, 15.0),
        row(1, "ada", 1, 125.0, 125.0),
        row(1, "cyd", 1, 2.0, 2.0),
        row(2, "bob", 1, 2.0, 2.0),
    ];
    assert_eq!(rows.into_iter().map(Value::Object).collect::<Vec<_>>(), expected);
}

#[test]
fn the_tcp_example_counts_what_its_comment_sends() {
    let mut spec = example("tcp");
    let SourceKind::Tcp { listen, .. } = &mut spec.sources[0].kind.value else { panic!("no TCP source") };
    *listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let address = listen.clone();
    let sending = std::thread::Builder::new().name("sending".to_owned()).spawn(move || {
        let watch = Stopwatch::start();
        let mut connection = loop {
            match TcpStream::connect(&address) {
                Ok(connection) => break connection,
                Err(error) => assert!(watch.elapsed() < PATIENCE, "{address}: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        connection.write_all(b"to be or\nnot to be\n").unwrap();
    });
    let mut times: BTreeMap<String, i64> = BTreeMap::new();
    for row in run(spec) {
        *times.entry(row["word"].as_str().unwrap().to_owned()).or_default() += row["times"].as_i64().unwrap();
    }
    sending.unwrap().join().unwrap();
    let wanted = [("be", 2), ("not", 1), ("or", 1), ("to", 2)].map(|(word, count)| (word.to_owned(), count));
    assert_eq!(times, BTreeMap::from(wanted));
}
