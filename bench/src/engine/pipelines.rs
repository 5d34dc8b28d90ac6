//! The pipelines that are measured.

use std::time::Duration;

use millstream::format::Format;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::pipeline::spec::{PipelineSpec, StateSpec};
use millstream::source::{GeneratorKind, GeneratorSpec};

use crate::guests;
use crate::measure::Failed;

/// Length of the windows.
const WINDOW: Duration = Duration::from_secs(5);

/// Length of windows that overlap.
const SLIDING: Duration = Duration::from_secs(10);

fn guest(name: &str) -> Result<String, Failed> {
    Ok(guests::path(name)?.to_string_lossy().into_owned())
}

fn built(pipeline: Pipeline) -> Result<PipelineSpec, Failed> {
    pipeline.build().map_err(|error| error.to_string())
}

/// A million rows for each second of event time.
fn generator(rows: u64, keys: u64) -> Source {
    Source::generator(GeneratorSpec {
        kind: GeneratorKind::Sequence { keys },
        rows: Some(rows),
        rate: None,
        seed: 1,
        start_ms: 0,
        interval_ns: Some(1_000),
    })
}

/// The generator alone.
pub(super) fn discard(rows: u64) -> Result<PipelineSpec, Failed> {
    let source = generator(rows, 10_000);
    built(Pipeline::new("discard").parallelism(1).source("in", source).sink("out", Sink::discard().from("in")))
}

/// A column of integers to one of floating point numbers.
pub(super) fn map(rows: u64) -> Result<PipelineSpec, Failed> {
    stateless(generator(rows, 10_000), Step::map(guest("bench-map")?))
}

/// One row of ten.
pub(super) fn filter(rows: u64) -> Result<PipelineSpec, Failed> {
    filtered(generator(rows, 10_000))
}

/// One row of ten by `amount`, of any source.
pub(super) fn filtered(source: Source) -> Result<PipelineSpec, Failed> {
    stateless(source, Step::filter(guest("bench-filter")?))
}

/// Lines of a log by their level, of any source.
pub(super) fn lines(source: Source) -> Result<PipelineSpec, Failed> {
    stateless(source.format(Format::Text), Step::filter(guest("bench-lines")?))
}

fn stateless(source: Source, step: Step) -> Result<PipelineSpec, Failed> {
    let pipeline = Pipeline::new("stateless").parallelism(1).source("in", source);
    built(pipeline.step("step", step.from("in")).sink("out", Sink::discard().from("step")))
}

/// Count and sum by key, of generated rows.
pub(super) fn window(rows: u64, keys: u64, parallelism: usize, wasm: bool) -> Result<PipelineSpec, Failed> {
    totals(generator(rows, keys), "key", parallelism, wasm)
}

/// The same with a million keys, which may take so much memory.
pub(super) fn bounded_window(rows: u64, memory_bytes: usize) -> Result<PipelineSpec, Failed> {
    let mut spec = window(rows, 1_000_000, 1, false)?;
    let spill = std::env::temp_dir().join("millstream-bench").to_string_lossy().into_owned();
    spec.state = Some(StateSpec { memory_bytes: memory_bytes.into(), spill: spill.into() });
    Ok(spec)
}

/// Count and sum of 10 s windows that start `every` so often, of generated rows with a thousand keys.
pub(super) fn sliding(rows: u64, every: Duration, wasm: bool) -> Result<PipelineSpec, Failed> {
    summed(generator(rows, 1_000), Step::aggregate().key_by(["key"]).sliding(SLIDING, every), 1, wasm)
}

/// Count and sum by a key column, of any source; as a component or built in.
pub(super) fn totals(source: Source, key: &str, parallelism: usize, wasm: bool) -> Result<PipelineSpec, Failed> {
    summed(source, Step::aggregate().key_by([key]).tumbling(WINDOW), parallelism, wasm)
}

fn summed(source: Source, windows: Step, parallelism: usize, wasm: bool) -> Result<PipelineSpec, Failed> {
    let step = windows.from("in");
    let step =
        if wasm { step.component("totals", guest("bench-totals")?) } else { step.count("count").sum("sum", "amount") };
    let pipeline = Pipeline::new("totals").parallelism(parallelism).source("in", source);
    built(pipeline.step("totals", step).sink("out", Sink::discard().from("totals")))
}

/// Count and sum of all rows so far of each key, in place of those before, of rows that come for ever; at most `rate` a second.
pub(super) fn running(keys: u64, rate: Option<u64>, sink: Sink) -> Result<PipelineSpec, Failed> {
    running_totals(keys, rate, sink, Step::aggregate().count("count").sum("sum", "amount").sum("last", "sequence"))
}

/// The same by component `name` of the guests.
pub(super) fn running_as(name: &str, keys: u64, rate: Option<u64>, sink: Sink) -> Result<PipelineSpec, Failed> {
    running_totals(keys, rate, sink, Step::aggregate().component("totals", guest(name)?))
}

fn running_totals(keys: u64, rate: Option<u64>, sink: Sink, step: Step) -> Result<PipelineSpec, Failed> {
    let source = Source::generator(GeneratorSpec {
        kind: GeneratorKind::Sequence { keys },
        rows: None,
        rate,
        seed: 1,
        start_ms: 0,
        interval_ns: Some(100_000),
    });
    // one source, so that a row's time says when it is due: two may stand at different places after a stop
    let source = source.parallelism(1);
    let pipeline = Pipeline::new("running").parallelism(2).source("in", source);
    let pipeline = pipeline.step("totals", step.key_by(["key"]).from("in"));
    built(pipeline.sink("out", sink.from("totals")))
}
