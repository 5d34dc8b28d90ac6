//! The facts of each part of a pipeline that differences are told by: a key, its value, and what a change of it takes.
//!
//! Values are compared as texts without places in a file, so that a line that was moved is no change. What is kept by a step
//! belongs to its key, window and functions: [`Effect::DropsState`] stands at exactly those facts.

use std::time::Duration;

use super::{Effect, Shape};
use crate::error::{Span, Spanned};
use crate::operator::OnError;
use crate::pipeline::partition::PartitionSpec;
use crate::pipeline::plan::NodeKind;
use crate::pipeline::spec::{AggregateSpec, PipelineSpec, SinkSpec, SourceSpec, StepKind, StepSpec, TopStepSpec};
use crate::sink::SinkKind;
use crate::source::{GeneratorSpec, KafkaSourceSpec, SourceKind, WatermarkSpec};
use crate::wasm::Setting;

/// One fact.
#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub(super) key: &'static str,
    /// for comparing
    pub(super) value: String,
    /// for people
    pub(super) shown: String,
    /// what another value takes
    pub(super) effect: Effect,
    pub(super) note: Option<&'static str>,
}

/// Facts in the making. What a text of the file says of a value is shown, if there is one.
struct Facts<'a> {
    text: &'a str,
    facts: Vec<Fact>,
}

impl<'a> Facts<'a> {
    fn of(spec: &'a PipelineSpec) -> Self {
        Self { text: &spec.text, facts: Vec::new() }
    }

    fn add(&mut self, key: &'static str, effect: Effect, value: impl Into<String>) {
        let value = value.into();
        self.facts.push(Fact { key, shown: value.clone(), value, effect, note: None });
    }

    /// A value that may not be written, and then is no fact.
    fn written<T: std::fmt::Debug>(&mut self, key: &'static str, effect: Effect, value: Option<&Spanned<T>>) {
        let Some(Spanned { value, span }) = value else { return };
        let value = format!("{value:?}");
        let written = self.text.get(span.start..span.end).map(str::trim).filter(|text| is_short(text));
        let shown = written.map_or_else(|| value.clone(), ToOwned::to_owned);
        self.facts.push(Fact { key, value, shown, effect, note: None });
    }

    fn debug(&mut self, key: &'static str, effect: Effect, value: &impl std::fmt::Debug) {
        self.add(key, effect, format!("{value:?}"));
    }

    /// What the file says of the last fact's value is shown in its place.
    fn as_written(&mut self, span: Span) {
        let written = self.text.get(span.start..span.end).map(str::trim).filter(|text| is_short(text));
        if let (Some(fact), Some(written)) = (self.facts.last_mut(), written) {
            written.clone_into(&mut fact.shown);
        }
    }

    fn note(&mut self, note: &'static str) {
        if let Some(fact) = self.facts.last_mut() {
            fact.note = Some(note);
        }
    }
}

fn is_short(text: &str) -> bool {
    !text.is_empty() && text.len() <= 80 && !text.contains('\n')
}

fn duration(value: Option<&Duration>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
}

fn on_error(value: OnError) -> &'static str {
    match value {
        OnError::DeadLetter => "dead_letter",
        OnError::Skip => "skip",
        OnError::Fail => "fail",
    }
}

fn optional(value: Option<&u64>) -> String {
    value.map_or_else(|| "none".to_owned(), ToString::to_string)
}

/// `64MiB`, as it is written in a pipeline.
fn bytes(bytes: usize) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let whole = units.iter().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

fn names(names: &[Spanned<String>]) -> String {
    names.iter().map(|name| name.value.as_str()).collect::<Vec<_>>().join(", ")
}

/// A setting as it is written.
pub(super) fn setting(setting: &Setting) -> String {
    match setting {
        Setting::Boolean(value) => value.to_string(),
        Setting::Int64(value) => value.to_string(),
        Setting::Float64(value) => value.to_string(),
        Setting::Text(value) => format!("{value:?}"),
        Setting::Secret(secret) => format!("secret {}", secret.variable()),
    }
}

pub(super) fn of_pipeline(spec: &PipelineSpec) -> Vec<Fact> {
    use Effect::{Rebuild, Restart};
    let mut facts = Facts::of(spec);
    facts.add("name", Restart, &spec.name.value);
    facts.note("another name is another pipeline: start it beside this one");
    facts.add("folder", Restart, spec.base.display().to_string());
    facts.note("paths of the pipeline are relative to its folder");
    if let Some(checkpoint) = &spec.checkpoint {
        facts.written("checkpoint.store", Restart, Some(&checkpoint.store));
        facts.note("checkpoints go on where they are: stop, copy them, start");
        facts.debug("checkpoint.encrypt", Restart, &checkpoint.encrypt);
        facts.written("checkpoint.transactional_id", Restart, checkpoint.transactional_id.as_ref());
        facts.written("checkpoint.transaction_timeout", Restart, Some(&checkpoint.transaction_timeout));
        facts.written("checkpoint.interval", Rebuild, Some(&checkpoint.interval));
        facts.written("checkpoint.retain", Rebuild, Some(&checkpoint.retain));
    }
    facts.written("restart", Rebuild, spec.restart.as_ref());
    if let Some(state) = &spec.state {
        facts.written("state.memory", Rebuild, Some(&state.memory_bytes));
        facts.written("state.spill", Rebuild, Some(&state.spill));
    }
    facts.debug("capsules", Rebuild, &spec.capsules);
    if let Some(kind) = &spec.dead_letter {
        facts.add("dead_letter", Rebuild, sink_kind(&kind.value));
    }
    facts.facts
}

pub(super) fn of_source(source: &SourceSpec, shape: &Shape<'_>) -> Vec<Fact> {
    use Effect::{DropsState, Rebuild, Restart};
    let mut facts = Facts::of(&shape.plan.spec);
    match &source.kind.value {
        SourceKind::Generator(spec) => {
            let GeneratorSpec { kind, rows, rate, seed, start_ms, interval_ns } = spec;
            facts.debug("generator", Restart, &(kind, seed, start_ms, interval_ns));
            facts.as_written(source.kind.span);
            facts.note("its positions mean other rows: give the source another name");
            facts.add("generator.rows", Rebuild, optional(rows.as_ref()));
            facts.add("generator.rate", Rebuild, optional(rate.as_ref()));
        }
        SourceKind::File { path, header } => {
            facts.debug("file", Restart, &(path, header));
            facts.as_written(source.kind.span);
            facts.note("its positions are in other files: give the source another name");
        }
        SourceKind::Kafka(spec) => {
            let KafkaSourceSpec { brokers, topic, start, bounded, discover, security, properties } = spec;
            facts.debug("kafka.topic", Restart, &(topic, bounded));
            facts.note("its positions are in another topic: give the source another name");
            facts.debug("kafka", Rebuild, &(brokers, start, discover, security, properties));
        }
        SourceKind::Stdin => facts.add("stdin", Restart, "{}"),
        SourceKind::Tcp { listen, framing, connections } => {
            facts.debug("tcp", DropsState, &(listen, framing, connections));
            facts.as_written(source.kind.span);
        }
        SourceKind::Channel(_) => facts.add("channel", Restart, "{}"),
    }
    facts.written("format", Rebuild, source.format.as_ref());
    if let Some(schema) = &source.schema {
        facts.add("schema", Rebuild, schema.value.to_string());
    }
    facts.written("event_time", Rebuild, source.event_time.as_ref());
    let WatermarkSpec { max_out_of_orderness, idle_after, max_drift } = &source.watermark;
    facts.debug("watermark.max_out_of_orderness", Rebuild, max_out_of_orderness);
    facts.add("watermark.idle_after", Rebuild, duration(idle_after.as_ref()));
    facts.add("watermark.max_drift", Rebuild, duration(max_drift.as_ref()));
    if source.assigner.is_some() {
        facts.add("watermark.assigner", Rebuild, "a component");
    }
    facts.written("watermark.column", Rebuild, source.watermark_column.as_ref());
    facts.add("on_error", Rebuild, on_error(source.on_error));
    facts.add("parallelism", Rebuild, parallelism(shape, &source.name.value));
    facts.facts
}

pub(super) fn of_sink(sink: &SinkSpec, shape: &Shape<'_>) -> Vec<Fact> {
    let mut facts = Facts::of(&shape.plan.spec);
    facts.add("from", Effect::Rebuild, names(&sink.from));
    facts.add("to", Effect::Rebuild, sink_kind(&sink.kind.value));
    facts.written("format", Effect::Rebuild, sink.format.as_ref());
    let tasks = shape.sink(&sink.name.value).map_or(0, |node| node.parallelism);
    facts.add("parallelism", Effect::Rebuild, tasks.to_string());
    facts.facts
}

fn sink_kind(kind: &SinkKind) -> String {
    match kind {
        SinkKind::Print => "print".to_owned(),
        SinkKind::Discard => "discard".to_owned(),
        SinkKind::File { path } => format!("file {path}"),
        SinkKind::Object(spec) => format!("object {spec:?}"),
        SinkKind::Kafka(spec) => format!("kafka {spec:?}"),
        SinkKind::Channel(_) => "channel".to_owned(),
        SinkKind::Documents(_) => "documents".to_owned(),
    }
}

/// The number of tasks that it has in the end.
fn parallelism(shape: &Shape<'_>, name: &str) -> String {
    shape.node(name).map_or(0, |node| node.parallelism).to_string()
}

pub(super) fn of_step(step: &StepSpec, shape: &Shape<'_>) -> Vec<Fact> {
    use Effect::{DropsState, Rebuild, Swap};
    let name = &step.name.value;
    let mut facts = Facts::of(&shape.plan.spec);
    let kind = if shape.is_stateful(name) { DropsState } else { Rebuild };
    facts.add("kind", kind, kind_of(&step.kind.value));
    facts.add("from", Rebuild, names(&step.from));
    facts.add("with", Rebuild, names(&step.with));
    facts.add("outputs", Rebuild, names(&step.side_outputs));
    facts.add("parallelism", Rebuild, parallelism(shape, name));
    facts.written("keep", Rebuild, step.keep.as_ref());
    facts.add("on_error", Rebuild, on_error(step.on_error));
    facts.add("limits.memory", Swap, bytes(step.limits.memory_bytes));
    facts.debug("limits.deadline", Swap, &step.limits.deadline);
    match step.partition.as_ref().map(|partition| &partition.value) {
        Some(PartitionSpec::Custom(_)) => facts.add("partition", Rebuild, "a component"),
        _ => facts.written("partition", Rebuild, step.partition.as_ref()),
    }
    of_kind(&step.kind.value, &mut facts);
    if let Some(columns) = kept_columns(name, shape) {
        facts.add("columns of its state", DropsState, columns);
    }
    facts.facts
}

fn kind_of(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::Map(_) => "map",
        StepKind::Filter(_) => "filter",
        StepKind::FlatMap(_) => "flat_map",
        StepKind::Select(_) => "select",
        StepKind::Aggregate { .. } => "aggregate",
        StepKind::Process { .. } => "process",
        StepKind::Top(_) => "top",
        StepKind::Join(_) => "join",
    }
}

fn of_kind(kind: &StepKind, facts: &mut Facts<'_>) {
    use Effect::{DropsState, Rebuild};
    match kind {
        StepKind::Map(_) | StepKind::Filter(_) | StepKind::FlatMap(_) => {}
        StepKind::Select(columns) => {
            let column = |column: &crate::pipeline::spec::SelectedColumn| {
                format!("{} = {}", column.output.value, column.column.value)
            };
            facts.add("select", Rebuild, columns.iter().map(column).collect::<Vec<_>>().join(", "));
        }
        StepKind::Aggregate { key_by, window, allowed_lateness, gap, trigger, firing, aggregates } => {
            facts.add("key_by", DropsState, names(key_by));
            facts.written("window", DropsState, Some(window));
            facts.debug("allowed_lateness", Rebuild, allowed_lateness);
            facts.written("gap", DropsState, gap.as_ref());
            facts.written("trigger", DropsState, trigger.as_ref());
            facts.written("firing", DropsState, firing.as_ref());
            facts.add("aggregate", DropsState, aggregates.iter().map(entry).collect::<Vec<_>>().join(", "));
        }
        StepKind::Process { key_by, with_key_by, state_ttl, component: _ } => {
            facts.add("key_by", DropsState, names(key_by));
            facts.add("with_key_by", DropsState, names(with_key_by));
            facts.debug("state_ttl", DropsState, state_ttl);
        }
        StepKind::Top(TopStepSpec { key_by, window, rows, by, ties, rank }) => {
            facts.add("key_by", DropsState, names(key_by));
            facts.written("window", DropsState, window.as_ref());
            facts.written("n", DropsState, Some(rows));
            facts.debug("by", DropsState, by);
            facts.debug("ties", DropsState, ties);
            facts.written("rank", Rebuild, Some(rank));
        }
        StepKind::Join(join) => {
            facts.debug("on", DropsState, &join.on);
            facts.written("join.kind", DropsState, Some(&join.kind));
            facts.debug("join.when", DropsState, &join.when);
            facts.debug("prefix", Rebuild, &join.prefix);
            facts.debug("select", Rebuild, &join.select);
        }
    }
}

/// An entry of `aggregate`; which component it is stands elsewhere.
fn entry(entry: &AggregateSpec) -> String {
    match entry {
        AggregateSpec::BuiltIn { output, function, column } => {
            let column = column.as_ref().map_or("", |column| &column.value);
            format!("{} = {}({column})", output.value, function.value.name())
        }
        AggregateSpec::Component { output, .. } => format!("{} = a component", output.value),
        AggregateSpec::Rows { .. } => "window_process".to_owned(),
    }
}

/// Names and kinds of the columns whose values are in a step's state; none for a step without.
fn kept_columns(name: &str, shape: &Shape<'_>) -> Option<String> {
    let node = shape.node(name)?;
    let input = shape.input(name)?;
    let columns = |of: &[usize]| -> String {
        let fields = of.iter().filter_map(|column| input.fields().get(*column));
        fields.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    Some(match &node.kind {
        NodeKind::Aggregate { keys, inputs, .. } => {
            let read = inputs.iter().enumerate().map(|(slot, read)| {
                // what a component reads is its own affair, as long as its accumulator stays
                let id = crate::pipeline::plan::SlotId { step: name.to_owned(), slot };
                if shape.components.contains_key(&id) { String::new() } else { columns(read) }
            });
            format!("{}; {}", columns(keys), read.collect::<Vec<_>>().join("; "))
        }
        NodeKind::Process { keys, .. } => columns(keys.first()?),
        // whole rows are kept
        NodeKind::Top { .. } => input.to_string(),
        NodeKind::Join { columns, .. } => {
            let [left, right] = &columns.inputs;
            format!("{left}; {right}")
        }
        _ => return None,
    })
}
