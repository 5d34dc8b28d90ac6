//! Checkpoints and output in a real S3 server and a real HDFS: processes that are killed there and started again show every
//! row once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millstream::objects::{Location, Objects};
use millstream_tests::built;
use millstream_tests::hdfs::Hdfs;
use millstream_tests::minio::Minio;

const ROWS: usize = 24_000;

/// Places in the making of a checkpoint at which the process dies.
const FAIL_POINTS: [&str; 6] =
    ["state-written", "before-manifest", "after-manifest", "before-commit", "between-commits", "after-commit"];

/// One store, as `millstream` and this process reach it.
struct Place {
    url: String,
    variables: Vec<(&'static str, String)>,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(url: String, variables: Vec<(&'static str, String)>) -> Self {
        Self { url, variables, folder: tempfile::tempdir().unwrap() }
    }

    /// Numbered rows in three seconds, their running counts by key as state, a checkpoint every 50 ms, all in the store.
    fn write_pipeline(&self, encrypt: &str) {
        let url = &self.url;
        let pipeline = format!(
            r#"
name = "numbers"
checkpoint = {{ store = "{url}/state", interval = "50ms", retain = 3{encrypt} }}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS}, rate = 8_000, interval = "1ms", keys = 200 }}
watermark = {{ max_out_of_orderness = "50ms" }}
parallelism = 2
[step.sums]
from = "numbers"
key_by = ["key"]
window = {{ tumbling = "300ms" }}
aggregate = {{ rows = "count()" }}
[sink.out]
from = "numbers"
object = {{ url = "{url}/out/rows.json" }}
[sink.sums]
from = "sums"
object = {{ url = "{url}/sums/rows.json" }}
"#
        );
        std::fs::write(self.folder.path().join("pipeline.toml"), pipeline).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built::binary().unwrap());
        command.args(arguments).current_dir(self.folder.path()).envs(self.variables.iter().cloned());
        command.env("XDG_CACHE_HOME", self.folder.path().join("cache")).env_remove("MILLSTREAM_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&self) -> Child {
        self.command(&["run", "pipeline.toml"]).spawn().unwrap()
    }

    /// Runs to the end; what it said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        (output.status.code(), said)
    }

    #[track_caller]
    fn finish(&self) -> String {
        let (code, said) = self.run(&["run", "pipeline.toml"]);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Lines of all visible objects of a sink.
    fn lines(&self, sink: &str) -> Vec<String> {
        let location = Location::parse(&format!("{}/{sink}", self.url), Path::new("/")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let objects = Objects::open_with(&location, &self.variables).unwrap();
            let (_, names) = objects.list("").await.unwrap();
            let mut lines = Vec::new();
            for name in names.iter().filter(|name| !name.starts_with('.')) {
                let bytes = objects.get(name).await.unwrap().unwrap();
                lines.extend(String::from_utf8(bytes).unwrap().lines().map(str::to_owned));
            }
            lines
        })
    }

    /// Whether there is a whole one.
    fn has_checkpoint(&self) -> bool {
        let location = Location::parse(&format!("{}/state/numbers", self.url), Path::new("/")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let objects = Objects::open_with(&location, &self.variables).unwrap();
            let (epochs, _) = objects.list("").await.unwrap();
            for epoch in epochs {
                if objects.size(&format!("{epoch}/manifest")).await.unwrap().is_some() {
                    return true;
                }
            }
            false
        })
    }

    #[track_caller]
    fn assert_each_once(&self, what: &str) {
        let number = |line: &String| -> usize {
            let rest = line.split("\"sequence\":").nth(1).unwrap();
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        let mut numbers: Vec<usize> = self.lines("out").iter().map(number).collect();
        numbers.sort_unstable();
        let repeated = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!((numbers.len(), repeated), (ROWS, 0), "{what}: rows, repeated rows");
        assert_eq!(numbers.last(), Some(&(ROWS - 1)), "{what}");
        let counted = self.lines("sums").into_iter().map(|line| -> usize {
            let rest = line.split("\"rows\":").nth(1).unwrap();
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        });
        assert_eq!(counted.sum::<usize>(), ROWS, "{what}: rows that windows have counted");
    }
}

/// Dies at every place of a checkpoint, then gets through.
fn dies_at_every_place(place: &Place, encrypt: &str) {
    place.write_pipeline(encrypt);
    for point in FAIL_POINTS {
        let mut command = place.command(&["run", "pipeline.toml"]);
        command.env("MILLSTREAM_FAILPOINT", point);
        assert_eq!(command.status().unwrap().code(), None, "{point} was not reached");
    }
    let said = place.finish();
    assert!(said.contains("restored from checkpoint"), "{said}");
    place.assert_each_once("every place");
}

/// Is killed at random moments until it gets through.
fn is_killed(place: &Place, seed: u64) {
    place.write_pipeline("");
    let mut random = seed;
    for _ in 0..6 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut process = place.start();
        std::thread::sleep(Duration::from_millis(100 + (random >> 33) % 700));
        process.kill().unwrap();
        process.wait().unwrap();
    }
    place.finish();
    place.assert_each_once(&format!("seed {seed}"));
    let (code, said) = place.run(&["checkpoint", "verify", "pipeline.toml"]);
    assert_eq!(code, Some(0), "{said}");
}

/// The first process stands still, a second one takes over and finishes; the first wakes up and changes nothing.
fn is_taken_over(place: &Place) {
    place.write_pipeline("");
    let mut first = place.command(&["run", "pipeline.toml"]).stderr(Stdio::piped()).spawn().unwrap();
    // not before it owns the store: else it would be the second to start
    let until = Instant::now() + Duration::from_secs(60);
    while !place.has_checkpoint() {
        assert!(Instant::now() < until, "no checkpoint");
        std::thread::sleep(Duration::from_millis(20));
    }
    let signal = |name: &str| Command::new("kill").args([name, &first.id().to_string()]).status().unwrap();
    assert!(signal("-STOP").success());
    place.finish();
    place.assert_each_once("taken over");
    assert!(signal("-CONT").success());
    let until = Instant::now() + Duration::from_secs(60);
    while first.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it did not stop");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = first.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("shut out"), "{said}");
    place.assert_each_once("woken up");
}

fn s3(test: &str) -> Option<Place> {
    let server = Minio::or_skip(test).unwrap()?;
    Some(Place::new(server.url("numbers"), server.variables()))
}

fn hdfs(test: &str) -> Option<Place> {
    let server = Hdfs::or_skip(test).unwrap()?;
    Some(Place::new(server.url("numbers"), server.variables()))
}

#[test]
fn dying_at_any_place_of_a_checkpoint_in_s3_loses_and_repeats_nothing() {
    if let Some(place) = s3("object_stores::dying_at_any_place_of_a_checkpoint_in_s3_loses_and_repeats_nothing") {
        let (code, key) = place.run(&["checkpoint", "key"]);
        assert_eq!(code, Some(0), "{key}");
        std::fs::write(place.folder.path().join("key"), key).unwrap();
        dies_at_every_place(&place, ", encrypt = { key_file = \"key\" }");
    }
}

#[test]
fn dying_at_random_moments_with_checkpoints_and_output_in_s3_loses_and_repeats_nothing() {
    let test = "object_stores::dying_at_random_moments_with_checkpoints_and_output_in_s3_loses_and_repeats_nothing";
    for seed in 0..2 {
        let Some(place) = s3(test) else { return };
        is_killed(&place, seed);
    }
}

#[test]
fn a_process_that_s3_has_forgotten_wakes_up_and_changes_nothing() {
    if let Some(place) = s3("object_stores::a_process_that_s3_has_forgotten_wakes_up_and_changes_nothing") {
        is_taken_over(&place);
    }
}

/// An object of more than S3 copies at once, here 6 MiB in place of 5 GiB.
#[test]
fn an_object_that_s3_does_not_copy_at_once_is_committed_part_by_part() {
    const MOST: u64 = 6 << 20;
    let Some(place) = s3("object_stores::an_object_that_s3_does_not_copy_at_once_is_committed_part_by_part") else {
        return;
    };
    let location = Location::parse(&format!("{}/large", place.url), Path::new("/")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let objects = Objects::open_with(&location, &place.variables).unwrap().copying_at_most(MOST);
        for bytes in [MOST, MOST + 1, 20_000_003] {
            let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
            objects.put(".rows.pending", content.clone()).await.unwrap();
            objects.put("rows", b"of an earlier try".to_vec()).await.unwrap();
            objects.move_to(".rows.pending", "rows", bytes).await.unwrap();
            assert!(objects.get("rows").await.unwrap().unwrap() == content, "{bytes} bytes");
            assert_eq!(objects.size(".rows.pending").await.unwrap(), None);
            // once more, as after a kill: nothing changes
            objects.move_to(".rows.pending", "rows", bytes).await.unwrap_err();
            assert_eq!(objects.size("rows").await.unwrap(), Some(bytes));
        }
    });
}

#[test]
fn dying_at_any_place_of_a_checkpoint_in_hdfs_loses_and_repeats_nothing() {
    if let Some(place) = hdfs("object_stores::dying_at_any_place_of_a_checkpoint_in_hdfs_loses_and_repeats_nothing") {
        dies_at_every_place(&place, "");
    }
}

#[test]
fn dying_at_random_moments_with_checkpoints_and_output_in_hdfs_loses_and_repeats_nothing() {
    let test = "object_stores::dying_at_random_moments_with_checkpoints_and_output_in_hdfs_loses_and_repeats_nothing";
    for seed in 0..2 {
        let Some(place) = hdfs(test) else { return };
        is_killed(&place, seed);
    }
}

#[test]
fn a_process_that_hdfs_has_forgotten_wakes_up_and_changes_nothing() {
    if let Some(place) = hdfs("object_stores::a_process_that_hdfs_has_forgotten_wakes_up_and_changes_nothing") {
        is_taken_over(&place);
    }
}
