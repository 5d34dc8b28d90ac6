//! Capsules: every call that fails in a pipeline is kept, as small as it can be, and fails again in the same way when it is
//! replayed; bounded, without secrets, named by dead letters.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod bounds;
mod kinds;
mod others;
mod secrets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::capsule::{self, Capsule, Replay};
use millstream::control::Status;
use millstream::format::Format;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::spec::CapsulesSpec;
use millstream::record::{Field, Kind};
use millstream::sink::{ChannelSink, SinkKind};
use millstream_tests::run;
use serde_json::{Map, Value};

type Row = Map<String, Value>;

fn guests() -> PathBuf {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    assert!(guests.join("hostile-map.wasm").exists(), "no hostile guests in {}: cargo xtask guests", guests.display());
    guests
}

/// A folder with rows, a JSON object a line, and the place for capsules.
struct Case {
    folder: tempfile::TempDir,
}

struct Outcome {
    dead: Vec<Row>,
    status: Result<Status, String>,
}

impl Case {
    fn new(rows: impl IntoIterator<Item = Value>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines: String = rows.into_iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(folder.path().join("rows.jsonl"), lines).unwrap();
        Self { folder }
    }

    fn capsules(&self) -> PathBuf {
        self.folder.path().join("capsules")
    }

    fn spec(&self) -> CapsulesSpec {
        CapsulesSpec { folder: Some(self.capsules().display().to_string().into()), ..CapsulesSpec::default() }
    }

    /// Runs the rows with the columns `schema` through `step`.
    fn run(&self, step: Step, schema: &[(&str, Kind)], parallelism: usize) -> Outcome {
        self.run_with(step, schema, parallelism, self.spec())
    }

    fn run_with(&self, step: Step, schema: &[(&str, Kind)], parallelism: usize, capsules: CapsulesSpec) -> Outcome {
        let (dead_sink, mut letters) = ChannelSink::new(100_000);
        let schema: Vec<Field> = schema.iter().map(|(name, kind)| Field::new(*name, *kind)).collect();
        let source = Source::file(self.folder.path().join("rows.jsonl").display().to_string());
        let step = step.deadline(Duration::from_millis(50)).memory_bytes(8 << 20);
        let time = schema[0].name.clone();
        let mut pipeline = Pipeline::new("capsules")
            .base(guests())
            .parallelism(parallelism)
            .capsules(capsules)
            .source("rows", source.format(Format::Json).schema(schema).event_time(time));
        let more = self.folder.path().join("more.jsonl");
        let mut step = step.from("rows");
        if more.exists() {
            // what a component of two inputs reads beside
            let columns = [("ts", Kind::TimestampMs), ("k", Kind::Text), ("more", Kind::Int64)];
            let schema: Vec<Field> = columns.map(|(name, kind)| Field::new(name, kind)).into();
            let source = Source::file(more.display().to_string()).format(Format::Json).schema(schema);
            pipeline = pipeline.source("more", source.event_time("ts"));
            step = step.with("more");
        }
        let spec = pipeline
            .step("hostile", step)
            .sink("out", Sink::of(SinkKind::Discard).from("hostile"))
            .dead_letter(SinkKind::Channel(dead_sink))
            .build()
            .expect("a pipeline");
        let status = run::run(spec, &RunOptions::default());
        let mut dead = Vec::new();
        while let Ok(batch) = letters.try_recv() {
            dead.extend(run::rows(&batch));
        }
        Outcome { dead, status }
    }

    /// All capsules that there are, the oldest first.
    fn kept(&self) -> Vec<Capsule> {
        let listed = capsule::list(&self.capsules()).unwrap();
        listed.iter().map(|listed| Capsule::from_bytes(&std::fs::read(&listed.path).unwrap()).unwrap()).collect()
    }
}

fn text<'a>(row: &'a Row, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

fn replayed(capsule: &Capsule) -> Replay {
    capsule::replay(capsule, &run::sandbox().unwrap(), None, &|_| None).unwrap()
}
