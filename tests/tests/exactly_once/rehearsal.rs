//! A candidate rehearsed over the real input of a pipeline in production, while it runs: no row of production is lost, doubled or
//! of the candidate, its transactions go on, and nobody's position in the topic is moved.

use std::process::{Command, Stdio};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

use super::*;
use crate::broker_or_return;

const PATIENCE: Duration = Duration::from_secs(30);

fn produce(broker: &str, topic: &str, rows: std::ops::Range<usize>) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    for row in rows {
        let value = format!(r#"{{"sequence":{row},"key":{},"amount":1}}"#, row % 20);
        producer.send(BaseRecord::<str, _>::to(topic).payload(&value)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// Consumer groups that the broker knows.
fn groups(broker: &str) -> Vec<String> {
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    let list = reader.fetch_group_list(None, PATIENCE).unwrap();
    let mut groups: Vec<String> = list.groups().iter().map(|group| group.name().to_owned()).collect();
    groups.sort();
    groups
}

fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let watch = millstream::clock::Stopwatch::start();
    while !is() {
        assert!(watch.elapsed() < PATIENCE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_over_the_topic_of_production_leaves_production_alone() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "rehearsed", "").await;
    let (address, input) = (broker.bootstrap(), broker.topic_name("rehearsed-in"));
    broker.create_topic(&input, 3).await.unwrap();
    let text = format!(
        r#"
name = "numbers"
checkpoint = {{ store = "state", interval = "40ms", transactional_id = "{id}" }}
[source.numbers]
kafka = {{ brokers = "{address}", topic = "{input}", start = "earliest" }}
format = "json"
schema = {{ sequence = "int64", key = "int64", amount = "int64" }}
[step.tag]
from = "numbers"
map = "tag.wasm"
keep = "all"
[sink.rows]
from = "tag"
kafka = {{ brokers = "{address}", topic = "{rows}" }}
"#,
        id = job.id,
        rows = job.rows
    );
    std::fs::write(job.path("pipeline.toml"), text).unwrap();
    millstream_tests::built::install("version-map", &job.path("tag.wasm")).unwrap();
    millstream_tests::built::version("version-map", "version-000a", "version-000b", &job.path("second.wasm")).unwrap();
    let process = job.start(&[]);
    produce(&address, &input, 0..ROWS / 2);
    let committed = || topics::read_committed(&address, &job.rows).len();
    wait_for("the first half", || committed() == ROWS / 2);

    let before = groups(&address);
    for (more, rows_at_least) in [(&["--from-checkpoint"][..], 0), (&[], ROWS as u64 / 2)] {
        let mut rehearse = Command::new(millstream_tests::built::binary().unwrap());
        rehearse.args(["rehearse", "pipeline.toml", "tag=second.wasm", "--json"]).args(more);
        rehearse.current_dir(job.path("")).env("XDG_CACHE_HOME", job.path("cache"));
        // production reads on meanwhile
        produce(&address, &input, if more.is_empty() { ROWS * 3 / 4..ROWS } else { ROWS / 2..ROWS * 3 / 4 });
        let ended = rehearse.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        let report: Value = serde_json::from_slice(&ended.stdout).unwrap_or_else(|_| panic!("{said}"));
        let (read, step) = (report["rows_read"].as_u64().unwrap(), &report["trial"]["steps"][0]);
        // behind the newest checkpoint there may be nothing yet
        assert_eq!(ended.status.code(), Some(i32::from(read > 0)), "every row differs: {said}");
        assert!(read >= rows_at_least && read <= ROWS as u64, "{read} rows");
        assert_eq!((step["compared"].as_u64(), step["differing"].as_u64()), (Some(read), Some(read)), "{report}");
        assert_eq!(groups(&address), before, "a group of its own, or of anybody");
    }

    // production has neither been shut out of its transactions nor lost its place
    wait_for("the second half", || committed() == ROWS);
    process.signal("TERM");
    process.finish().expect(0);
    job.assert_of_production(&address);
}

impl Job {
    /// Every row once, of the version that runs in production.
    fn assert_of_production(&self, address: &str) {
        let rows = topics::read_committed(address, &self.rows);
        let mut sequences: Vec<u64> = rows.iter().map(|row| row["sequence"].as_u64().unwrap()).collect();
        sequences.sort_unstable();
        assert!(sequences.into_iter().eq(0..ROWS as u64), "{} rows", rows.len());
        assert!(rows.iter().all(|row| row["version"] == "version-000a"), "a row of the candidate");
        assert_eq!(topics::open_partitions(address, &self.rows), Vec::<i32>::new());
    }
}
