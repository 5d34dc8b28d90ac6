//! A lookup in several tasks: each of them must know every rule, and goes by the latest when a row comes.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use millstream::control::Handle;
use millstream::pipeline;
use millstream::pipeline::build::RunOptions;
use millstream::sink::{ChannelSink, SinkKind};
use millstream_tests::run;

const RULES: u64 = 200;
const TASKS: usize = 3;

/// Longer than any of this takes.
const TOO_LONG: Duration = Duration::from_secs(60);

/// Waits until the lookup has taken in so many rows.
async fn taken_in(handle: &Handle, rows: u64) {
    let reached = async {
        while handle.status().node("priced").expect("the lookup").counts.rows_in < rows {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(TOO_LONG, reached).await.unwrap_or_else(|_| panic!("not {rows} rows: {:?}", handle.status()));
}

fn send(port: u16, lines: String) {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    connection.write_all(lines.as_bytes()).expect("lines");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_task_of_a_lookup_knows_every_rule() {
    let (sink, results) = ChannelSink::new(1_000);
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let rules_port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let text = format!(
        r#"
name = "lookup"
parallelism = {TASKS}
[source.rules]
tcp = {{ listen = "127.0.0.1:{rules_port}", connections = 2 }}
format = "json"
schema = {{ item = "int64", price = "int64" }}
parallelism = 1
[source.orders]
tcp = {{ listen = "127.0.0.1:{port}", connections = 1 }}
format = "json"
schema = {{ order = "int64", item = "int64" }}
parallelism = 1
[step.priced]
from = "orders"
lookup = {{ with = "rules", on = ["item"] }}
[sink.out]
from = "priced"
print = {{}}
"#
    );
    let mut spec = pipeline::parse(&text, Path::new("lookup.toml"), Path::new(".")).expect("a pipeline");
    spec.sinks[0].kind.value = SinkKind::Channel(sink);
    let running = run::start(spec, &RunOptions::default()).await.expect("a start");
    let handle = running.handle();
    let rows = run::collect(results);
    let all = RULES * TASKS as u64;
    for (round, factor) in [(1, 5), (2, 7)] {
        // the second price of an item takes the place of the first
        send(rules_port, (0..RULES).map(|i| format!("{{\"item\":{i},\"price\":{}}}\n", i * factor)).collect());
        taken_in(&handle, round * all).await;
    }
    // every third item has no rule
    send(port, (0..RULES * 3 / 2).map(|i| format!("{{\"order\":{i},\"item\":{i}}}\n")).collect());
    tokio::time::timeout(TOO_LONG, running.wait()).await.expect("the pipeline stands still").expect("an end");
    drop(handle);
    let mut found: Vec<(i64, i64)> = rows
        .await
        .expect("rows")
        .iter()
        .map(|row| (row["order"].as_i64().expect("an order"), row["price"].as_i64().expect("a price")))
        .collect();
    found.sort_unstable();
    let expected: Vec<(i64, i64)> = (0..i64::try_from(RULES).expect("few")).map(|i| (i, i * 7)).collect();
    assert_eq!(found, expected);
}
