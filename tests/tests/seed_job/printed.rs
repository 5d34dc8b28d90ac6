//! The same job as its users have it: `millstream run`, results on standard output, the component's file replaced.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::*;

const PIPELINE: &str = r#"
name = "seed-job"
parallelism = 2

[source.lines]
kafka = { brokers = "BROKERS", topic = "TOPIC" }
format = "json"
schema = { value = "text", amount = "int64" }

[step.upper]
from = "lines"
map = "upper.wasm"
keep = ["amount"]

[step.counts]
from = "upper"
key_by = ["value"]
window = { tumbling = "5s" }
aggregate = { records = "count()", total = "sum(amount)" }

[sink.out]
from = "counts"
print = {}
"#;

/// A running process, killed if the test ends before it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> Killed {
    let mut command = Command::new(built::binary().unwrap());
    command.args(["run", "pipeline.toml", "--watch", "--json", "--status-interval", "50ms"]).current_dir(folder);
    command.env_remove("MILLSTREAM_LOG").env("XDG_CACHE_HOME", folder.join("cache"));
    Killed(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// What the JSON lines on standard error have said so far.
struct Told<R> {
    lines: std::io::Lines<BufReader<R>>,
    all: String,
}

impl<R: std::io::Read> Told<R> {
    /// Reads on until a line says what is wanted.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) {
        let watch = Stopwatch::start();
        loop {
            let line = self.lines.next().unwrap_or_else(|| panic!("ended too soon:\n{}", self.all)).unwrap();
            self.all.push_str(&line);
            self.all.push('\n');
            if serde_json::from_str(&line).is_ok_and(|line| wanted(&line)) {
                return;
            }
            assert!(watch.elapsed() < PATIENCE, "not said in time:\n{}", self.all);
        }
    }
}

/// Rows that the source has put out, by a status line.
fn rows_read(line: &Value) -> u64 {
    let nodes = line["nodes"].as_array().or_else(|| line["status"]["nodes"].as_array());
    let lines = nodes.and_then(|nodes| nodes.iter().find(|node| node["name"] == "lines"));
    lines.and_then(|lines| lines["counts"]["rows_out"].as_u64()).unwrap_or(0)
}

#[test]
fn the_binary_prints_every_record_once_though_its_map_is_replaced() {
    let broker = broker_or_return!("the_binary_prints_every_record_once_though_its_map_is_replaced");
    let topic = broker.topic_name("printed-job");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(broker.create_topic(&topic, PARTITIONS as i32)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("upper.wasm");
    built::install("uppercase", &component).unwrap();
    let text = PIPELINE.replace("BROKERS", &broker.bootstrap()).replace("TOPIC", &topic);
    std::fs::write(folder.path().join("pipeline.toml"), text).unwrap();

    let mut process = start(folder.path());
    let stdout = process.0.stdout.take().unwrap();
    let printed = std::thread::Builder::new().name("printed".to_owned());
    let printed = printed.spawn(move || std::io::read_to_string(stdout).unwrap()).unwrap();
    let mut told = Told { lines: BufReader::new(process.0.stderr.take().unwrap()).lines(), all: String::new() };
    let brokers = broker.bootstrap();
    let producing = std::thread::Builder::new().name("producing".to_owned());
    let producing = producing.spawn(move || produce(&brokers, &topic, Some(RATE))).unwrap();
    told.until(|line| rows_read(line) > RECORDS / 4);
    built::install("uppercase-tagged", &component).unwrap();
    told.until(|line| line["event"] == "swap");
    producing.join().unwrap();
    told.until(|line| rows_read(line) == RECORDS);
    let id = process.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    told.until(|line| line["event"] == "ended");
    assert_eq!(process.0.wait().unwrap().code(), Some(0), "{}", told.all);

    let printed = printed.join().unwrap();
    let rows: Vec<Row> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let windows = windows_of(&rows);
    let tagged = |of: bool| windows.iter().filter(|((value, _), _)| value.ends_with('!') == of).count();
    assert!(tagged(false) > 0 && tagged(true) > 0, "both versions have put out windows: {windows:?}");
    check_against_truth(&windows);
}
