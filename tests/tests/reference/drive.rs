//! Runs a pipeline over events, begun by one task and by more, and holds what comes out against what should.

use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;

use millstream::error::Span;
use millstream::pipeline;
use millstream::script::{Action, Line, Runner, RunnerOptions, Script};
use millstream::wasm::Sandbox;
use millstream_tests::run;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use serde_json::{Map, Value};
use tokio::runtime::Runtime;

use crate::events::{Event, Row, TASKS_MAX};

/// What should come out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// rows of each sink, as JSON objects, in any order
    pub(crate) sinks: Vec<(&'static str, Vec<Value>)>,
    pub(crate) late: u64,
    pub(crate) dead: u64,
}

/// A pipeline with what goes in and what should come out.
pub(crate) struct Question {
    /// as TOML, without the source's tables
    pub(crate) steps: String,
    /// columns of each source beside `at`, its event time, as in `id = "int64"`
    pub(crate) columns: Vec<&'static str>,
    /// the row as an object of these columns
    pub(crate) cells: fn(&Row) -> Value,
    pub(crate) events: Vec<Event>,
    /// puts rows into batches at random; without it each is a batch
    pub(crate) shuffle: Option<u64>,
    pub(crate) expected: Expected,
}

const SOURCES: [&str; 2] = ["a", "b"];

/// Draws cases and asks the engine; fails with the smallest case that it answers otherwise, and the seed.
pub(crate) fn holds<S: Strategy>(cases: u32, drawn: S, question: impl Fn(S::Value) -> Question)
where
    S::Value: Debug,
{
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("MILLSTREAM_REFERENCE_SEED").unwrap_or_else(|| RandomState::new().build_hasher().finish());
    let cases = number("MILLSTREAM_REFERENCE_CASES").map_or(cases, |cases| u32::try_from(cases).unwrap());
    let rng_seed = RngSeed::Fixed(seed);
    let config = ProptestConfig { cases, rng_seed, failure_persistence: None, ..ProptestConfig::default() };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sandbox = run::sandbox().unwrap();
    let result = TestRunner::new(config).run(&drawn, |case| answered(&question(case), &runtime, &sandbox));
    if let Err(error) = result {
        panic!("{error}\nagain with MILLSTREAM_REFERENCE_SEED={seed}");
    }
}

fn answered(question: &Question, runtime: &Runtime, sandbox: &Sandbox) -> Result<(), TestCaseError> {
    let text = pipeline_of(question);
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let spec = pipeline::parse(&text, Path::new("pipeline.toml"), &here).unwrap_or_else(|error| panic!("{error}"));
    let script = script_of(question);
    for tasks in 1..=TASKS_MAX {
        let options = RunnerOptions { parallelism: Some(tasks), shuffle_batches: question.shuffle };
        let runner = Runner::new(spec.clone(), sandbox.clone(), options).unwrap_or_else(|error| panic!("{error}"));
        let outcome = runtime.block_on(runner.run(&script)).unwrap_or_else(|error| panic!("{error}"));
        if let Some(failure) = outcome.failure {
            return Err(TestCaseError::fail(format!("begun by {tasks} tasks: {failure}\n{text}")));
        }
    }
    Ok(())
}

/// Nobody opens its sources and sinks.
fn pipeline_of(question: &Question) -> String {
    let mut text = "name = \"reference\"\n".to_owned();
    for (name, columns) in SOURCES.iter().zip(&question.columns) {
        text += &format!("[source.{name}]\ntcp = {{ listen = \"127.0.0.1:0\" }}\nformat = \"json\"\n");
        text += &format!("schema = {{ {columns}, at = \"timestamp_ms?\" }}\nevent_time = \"at\"\n");
    }
    text += &question.steps;
    for (sink, _) in &question.expected.sinks {
        text += &format!("[sink.{sink}_out]\nfrom = \"{sink}\"\nprint = {{}}\n");
    }
    text
}

fn script_of(question: &Question) -> Script {
    let source = |source: usize| Some(SOURCES[source].to_owned());
    let action = |event: &Event| match event {
        Event::Row(row) => {
            let mut cells = object((question.cells)(row));
            cells.insert("at".to_owned(), row.time.into());
            Action::Row { row: cells, time: row.time, source: source(row.source) }
        }
        Event::Watermark { source: number, time } => Action::Watermark { time: *time, source: source(*number) },
        Event::Restore { tasks } => Action::Restore { parallelism: Some(*tasks) },
    };
    let Expected { sinks, late, dead } = &question.expected;
    let expects = sinks.iter().map(|(sink, rows)| Action::Expect {
        rows: rows.iter().cloned().map(object).collect(),
        sink: Some(format!("{sink}_out")),
    });
    let counts = [Action::ExpectLate(*late), Action::ExpectDead(*dead)];
    let actions = question.events.iter().map(action).chain([Action::End]).chain(expects).chain(counts);
    let lines = (1..).zip(actions).map(|(number, action)| Line { number, span: Span::default(), action });
    Script { path: "script.jsonl".into(), text: "".into(), lines: lines.collect() }
}

fn object(value: Value) -> Map<String, Value> {
    let Value::Object(object) = value else { panic!("{value} is no object") };
    object
}
