//! A pipeline in a folder of its own, run by real processes.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use millstream::clock::{Clock, Stopwatch};
use millstream_tests::broker::Broker;
use millstream_tests::built;

use super::topics;

/// Rows of the input.
pub const ROWS: usize = 6_000;

const PATIENCE: Duration = Duration::from_secs(60);

/// A pipeline `numbers`: [`ROWS`] rows to one topic, running counts of them by key to another.
pub struct Job {
    folder: tempfile::TempDir,
    broker: String,
    pub rows: String,
    pub counts: String,
    pub id: String,
}

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// none: killed
    pub code: Option<i32>,
    pub stderr: String,
}

impl Ended {
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        self
    }

    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in:\n{}", self.stderr);
        }
        self
    }

    /// The checkpoint that it went on from.
    pub fn restored(&self) -> Option<u64> {
        let rest = self.stderr.split("restored from checkpoint ").nth(1)?;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    }
}

impl Job {
    /// With topics of its own; `checkpoint` are further keys of that table.
    pub async fn new(broker: &Broker, about: &str, checkpoint: &str) -> Self {
        let (rows, counts) =
            (broker.topic_name(&format!("{about}-rows")), broker.topic_name(&format!("{about}-counts")));
        broker.create_topic(&rows, 3).await.unwrap();
        broker.create_topic(&counts, 2).await.unwrap();
        let id = broker.topic_name(about);
        let folder = tempfile::tempdir().unwrap();
        let job = Self { folder, broker: broker.bootstrap(), rows, counts, id };
        let start = Clock::system().now_ms();
        let source = format!("kind = \"sequence\", rows = {ROWS}, rate = 12_000, keys = 20, start = {start}");
        job.write(checkpoint, &format!("generator = {{ {source} }}"));
        job
    }

    /// Writes the pipeline with another source.
    pub fn write(&self, checkpoint: &str, source: &str) {
        let Self { broker, rows, counts, id, .. } = self;
        let text = format!(
            r#"
name = "numbers"
checkpoint = {{ store = "state", interval = "40ms", transactional_id = "{id}", {checkpoint} }}
[source.numbers]
{source}
[step.counts]
from = "numbers"
key_by = ["key"]
aggregate = {{ seen = "count()", total = "sum(sequence)" }}
[sink.rows]
from = "numbers"
kafka = {{ brokers = "{broker}", topic = "{rows}" }}
[sink.counts]
from = "counts"
kafka = {{ brokers = "{broker}", topic = "{counts}", key = "key" }}
"#
        );
        std::fs::write(self.path("pipeline.toml"), text).unwrap();
    }

    /// Adds tables to the pipeline.
    pub fn append(&self, tables: &str) {
        let path = self.path("pipeline.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text + tables).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built::binary().unwrap());
        command.args(["run", "pipeline.toml"]).args(arguments).current_dir(self.folder.path());
        command.env_remove("MILLSTREAM_LOG").env("XDG_CACHE_HOME", self.path("cache"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, arguments: &[&str]) -> Process {
        Process(Some(self.command(arguments).spawn().unwrap()))
    }

    /// Runs it until it ends or dies at the fail point.
    pub fn run_to(&self, point: &str, arguments: &[&str]) -> Ended {
        let mut command = self.command(arguments);
        command.env("MILLSTREAM_FAILPOINT", point);
        Process(Some(command.spawn().unwrap())).finish()
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).finish()
    }

    /// Every row once in both topics, and nothing that nobody has decided.
    #[track_caller]
    pub fn assert_once(&self, what: &str) {
        // first: readers see an epoch a moment after its process was told so
        for topic in [&self.rows, &self.counts, &format!("{}-epochs", self.id)] {
            assert_eq!(topics::open_partitions(&self.broker, topic), Vec::<i32>::new(), "{what}: open in {topic}");
        }
        let rows = topics::read_committed(&self.broker, &self.rows);
        let mut sequences: Vec<u64> = rows.iter().map(|row| row["sequence"].as_u64().unwrap()).collect();
        sequences.sort_unstable();
        let missing: Vec<u64> = (0..ROWS as u64).filter(|row| sequences.binary_search(row).is_err()).collect();
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            panic!("{what}: {} rows are missing, from {first} to {last}", missing.len());
        }
        let repeated = sequences.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!((sequences.len(), repeated), (ROWS, 0), "{what}: rows, repeated rows");
        assert_eq!(sequences.last(), Some(&(ROWS as u64 - 1)), "{what}");
        let counts = topics::read_committed(&self.broker, &self.counts);
        let mut seen: Vec<(u64, u64)> =
            counts.iter().map(|row| (row["key"].as_u64().unwrap(), row["seen"].as_u64().unwrap())).collect();
        seen.sort_unstable();
        assert_eq!(seen.len(), ROWS, "{what}: running counts");
        let mut expected = 1;
        for (at, (key, count)) in seen.iter().enumerate() {
            if at > 0 && seen[at - 1].0 != *key {
                expected = 1;
            }
            assert_eq!(*count, expected, "{what}: count of key {key}");
            expected += 1;
        }
        let total: u64 = counts.iter().map(|row| row["total"].as_u64().unwrap()).fold(0, u64::max);
        assert!(total > 0, "{what}");
    }
}

/// A process that is killed when it is dropped.
pub struct Process(Option<Child>);

impl Process {
    pub fn signal(&self, name: &str) {
        let id = self.0.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub fn finish(mut self) -> Ended {
        let mut child = self.0.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        // read beside, so that it never waits for its output to be taken
        let reader = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = std::io::Read::read_to_end(&mut stderr, &mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let watch = Stopwatch::start();
        let code = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status.code();
            }
            if watch.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                panic!("did not end within {PATIENCE:?}; it said:\n{}", reader.join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Ended { code, stderr: reader.join().unwrap() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
