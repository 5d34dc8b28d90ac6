//! A plan for people: every node with its columns, then the chains and how rows get from one to the next.

use std::time::Duration;

use millstream::format::Format;
use millstream::pipeline::join::{BoundSpec, JoinKey, JoinSpec, JoinTime};
use millstream::pipeline::plan::{Exchange, Node, NodeKind, Plan};
use millstream::pipeline::resolve::{Resolution, Resolved, partitioner_of};
use millstream::pipeline::spec::{AggregateSpec, PipelineSpec, SelectedColumn, StepKind};
use millstream::record::Schema;
use millstream::sink::SinkKind;
use millstream::source::{GeneratorKind, NexmarkStream, SourceKind};
use millstream::wasm::OperatorKind;
use millstream::window::{Emit, WindowSpec};

use crate::console::Paint;
use crate::figures;

/// The whole plan.
pub(super) fn plan(resolution: &Resolution, paint: Paint) -> String {
    let plan = &resolution.plan;
    let mut lines = vec![format!("pipeline {}", paint.bold(&plan.spec.name.value)), String::new()];
    let width = plan.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0);
    for node in &plan.nodes {
        let padded = format!("{:<width$}", node.name);
        lines.push(format!("{:<6}  {}  {}", role(node), paint.bold(padded), describe(plan, node)));
        lines.push(paint.dim(format!("{:8}{:width$}  {}", "", "", columns(node, &node.schema))));
    }
    let components = components(resolution, paint);
    if !components.is_empty() {
        lines.extend([String::new(), "components".to_owned()]);
        lines.extend(components);
    }
    lines.extend([String::new(), "chains (one task runs a chain; rows change tasks where an arrow is)".to_owned()]);
    lines.extend(chains(plan, paint));
    lines.join("\n")
}

fn role(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::Source { .. } => "source",
        NodeKind::Guest { .. } | NodeKind::Route { .. } | NodeKind::Select { .. } | NodeKind::Aggregate { .. } => {
            "step"
        }
        NodeKind::Process { .. } => "step",
        NodeKind::Top { .. } => "step",
        NodeKind::Join { .. } => "step",
        NodeKind::Side { .. } => "output",
        NodeKind::Sink { .. } => "sink",
    }
}

fn columns(node: &Node, schema: &Schema) -> String {
    let arrow = if matches!(node.kind, NodeKind::Sink { .. }) { "◀" } else { "▶" };
    if schema.fields().is_empty() { format!("{arrow} (no columns)") } else { format!("{arrow} {schema}") }
}

fn describe(plan: &Plan, node: &Node) -> String {
    let mut parts = vec![what(&plan.spec, node)];
    let from: Vec<&str> = node.inputs.iter().filter_map(|&input| Some(plan.nodes.get(input)?.name.as_str())).collect();
    if !from.is_empty() {
        parts.push(format!("from {}", from.join(", ")));
    }
    parts.push(figures::tasks(node.parallelism));
    parts.join(" · ")
}

/// What a node does, in the words of the pipeline file.
fn what(spec: &PipelineSpec, node: &Node) -> String {
    match &node.kind {
        NodeKind::Source { index, .. } => spec.sources.get(*index).map_or_else(String::new, |source| {
            let format = source.format.as_ref().map(|format| format!(" · {}", format_name(format.value)));
            format!("{}{}", source_name(&source.kind.value), format.unwrap_or_default())
        }),
        NodeKind::Guest { index, .. }
        | NodeKind::Select { index, .. }
        | NodeKind::Aggregate { index, .. }
        | NodeKind::Process { index, .. } => {
            spec.steps.get(*index).map_or_else(String::new, |step| step_name(&step.kind.value))
        }
        NodeKind::Top { index, .. } | NodeKind::Join { index, .. } => {
            spec.steps.get(*index).map_or_else(String::new, |step| step_name(&step.kind.value))
        }
        NodeKind::Route { index, .. } => spec
            .steps
            .get(*index)
            .and_then(partitioner_of)
            .map_or_else(String::new, |(_, component)| format!("partition by {}", component.path.value)),
        NodeKind::Side { .. } => "rows beside those of the step".to_owned(),
        NodeKind::Sink { index } => spec.sinks.get(*index).map_or_else(String::new, |sink| {
            let format = sink.format.as_ref().map_or(Format::Json, |format| format.value);
            match &sink.kind.value {
                SinkKind::Discard => "discard".to_owned(),
                kind => format!("{} · {}", sink_name(kind), format_name(format)),
            }
        }),
    }
}

fn step_name(kind: &StepKind) -> String {
    match kind {
        StepKind::Map(component) => format!("map {}", component.path.value),
        StepKind::Filter(component) => format!("filter {}", component.path.value),
        StepKind::FlatMap(component) => format!("flat_map {}", component.path.value),
        StepKind::Select(columns) => {
            let columns = columns.iter().map(|SelectedColumn { output, column }| match output.value == column.value {
                true => output.value.clone(),
                false => format!("{} = {}", output.value, column.value),
            });
            format!("select {}", columns.collect::<Vec<_>>().join(", "))
        }
        StepKind::Process { component, key_by, .. } => {
            let keys: Vec<&str> = key_by.iter().map(|key| key.value.as_str()).collect();
            format!("process {} by {}", component.path.value, keys.join(", "))
        }
        StepKind::Top(top) => {
            let by = top.by.iter().map(|by| format!("{}{}", by.column.value, if by.descending { "" } else { " asc" }));
            let window = top.window.as_ref().map(|window| format!("{} · ", window_name(&window.value)));
            let keys: Vec<&str> = top.key_by.iter().map(|key| key.value.as_str()).collect();
            let keys = if keys.is_empty() { String::new() } else { format!(" for each {}", keys.join(", ")) };
            let by: Vec<String> = by.collect();
            format!("{}top {} by {}{keys}", window.unwrap_or_default(), top.rows.value, by.join(", "))
        }
        StepKind::Join(join) => join_name(join),
        StepKind::Aggregate { key_by, window, aggregates, .. } => {
            let keys: Vec<&str> = key_by.iter().map(|key| key.value.as_str()).collect();
            let entries: Vec<String> = aggregates.iter().map(aggregate_name).collect();
            let by = if keys.is_empty() { String::new() } else { format!(" by {}", keys.join(", ")) };
            format!("{}{by} · {}", window_name(&window.value), entries.join(", "))
        }
    }
}

/// `left join on seller = id · tumbling 10 s`
fn join_name(join: &JoinSpec) -> String {
    let pair = |key: &JoinKey| match key.left.value == key.right.value {
        true => key.left.value.clone(),
        false => format!("{} = {}", key.left.value, key.right.value),
    };
    let on: Vec<String> = join.on.iter().map(pair).collect();
    let bound = |end: &BoundSpec| match end {
        BoundSpec::Offset(ms) => {
            let length = figures::duration(Duration::from_millis(ms.unsigned_abs()));
            if *ms < 0 { format!("-{length}") } else { length }
        }
        BoundSpec::Column(name) => name.clone(),
    };
    let (word, when) = match &join.when {
        JoinTime::Window(window) => ("join", window_name(&window.value)),
        JoinTime::Between { lower, upper, .. } => {
            ("join", format!("between {} and {}", bound(&lower.value), bound(&upper.value)))
        }
        JoinTime::Always { state_ttl: None } => ("join", "all rows".to_owned()),
        JoinTime::Always { state_ttl: Some(ttl) } => ("join", format!("rows within {}", figures::duration(*ttl))),
        JoinTime::Latest => ("lookup", "the latest row".to_owned()),
    };
    format!("{} {word} on {} · {when}", join.kind.value.name(), on.join(", "))
}

fn aggregate_name(aggregate: &AggregateSpec) -> String {
    match aggregate {
        AggregateSpec::BuiltIn { output, function, column } => {
            let column = column.as_ref().map_or("", |column| column.value.as_str());
            format!("{} = {}({column})", output.value, function.value.name())
        }
        AggregateSpec::Component { output, component } => format!("{} = {}", output.value, component.path.value),
        AggregateSpec::Rows { component } => format!("all rows to {}", component.path.value),
    }
}

fn window_name(window: &WindowSpec) -> String {
    match window {
        WindowSpec::Tumbling { size, .. } => format!("tumbling {}", figures::duration(*size)),
        WindowSpec::Sliding { size, every, .. } => {
            format!("sliding {} every {}", figures::duration(*size), figures::duration(*every))
        }
        WindowSpec::Session { gap } => format!("sessions, gap {}", figures::duration(*gap)),
        WindowSpec::Count { rows } => format!("every {} rows", figures::count(*rows)),
        WindowSpec::SlidingCount { rows, every } => {
            format!("last {} rows every {}", figures::count(*rows), figures::count(*every))
        }
        WindowSpec::SessionByColumn => "sessions, gap by column".to_owned(),
        WindowSpec::Global => "all rows".to_owned(),
        WindowSpec::Rolling { emit: Emit::Changes } => "every change".to_owned(),
        WindowSpec::Rolling { emit: Emit::Latest } => "latest".to_owned(),
    }
}

pub(super) fn source_name(kind: &SourceKind) -> String {
    match kind {
        SourceKind::Generator(generator) => {
            let keys = |keys| format!(", {} keys", figures::count(keys));
            let (name, keys) = match generator.kind {
                GeneratorKind::Sequence { keys: different } => ("sequence", keys(different)),
                GeneratorKind::Customers { keys: different } => ("customers", keys(different)),
                GeneratorKind::Nexmark(NexmarkStream::Person) => ("nexmark_person", String::new()),
                GeneratorKind::Nexmark(NexmarkStream::Auction) => ("nexmark_auction", String::new()),
                GeneratorKind::Nexmark(NexmarkStream::Bid) => ("nexmark_bid", String::new()),
            };
            let rows =
                generator.rows.map_or_else(|| "endless".to_owned(), |rows| format!("{} rows", figures::count(rows)));
            format!("generator {name}{keys}, {rows}")
        }
        SourceKind::File { path, .. } => format!("file {path}"),
        SourceKind::Stdin => "stdin".to_owned(),
        SourceKind::Channel(_) => "channel".to_owned(),
        SourceKind::Tcp { listen, .. } => format!("tcp {listen}"),
        SourceKind::Kafka(kafka) => format!("kafka {} at {}", kafka.topic, kafka.brokers),
    }
}

pub(super) fn sink_name(kind: &SinkKind) -> String {
    match kind {
        SinkKind::Print => "print".to_owned(),
        SinkKind::Discard => "discard".to_owned(),
        SinkKind::File { path } => format!("file {path}"),
        SinkKind::Object(object) => format!("object {}", object.url),
        SinkKind::Kafka(kafka) => format!("kafka {} at {}", kafka.topic, kafka.brokers),
        SinkKind::Channel(_) => "channel".to_owned(),
        SinkKind::Documents(_) => "documents".to_owned(),
    }
}

pub(super) fn format_name(format: Format) -> String {
    format!("{format:?}").to_lowercase()
}

/// One line for each component: file, digest, what it reads.
fn components(resolution: &Resolution, paint: Paint) -> Vec<String> {
    let line = |(slot, resolved): (&millstream::pipeline::plan::SlotId, &Resolved)| {
        let signature = &resolved.signature;
        let reads = if signature.inputs.fields().is_empty() { "nothing".into() } else { signature.inputs.to_string() };
        let does = match resolved.kind {
            OperatorKind::Filter => format!("reads {reads}"),
            _ => format!("reads {reads} · makes {}", signature.outputs),
        };
        let state = signature.state.as_ref().map(|state| format!(" · state v{} {}", state.version, state.fields));
        format!(
            "  {}  {}  {}  {does}{}",
            paint.bold(&slot.step),
            resolved.path.display(),
            paint.cyan(resolved.component.digest().short()),
            state.unwrap_or_default()
        )
    };
    resolution.components.iter().map(line).collect()
}

fn chains(plan: &Plan, paint: Paint) -> Vec<String> {
    let name = |index: &usize| plan.nodes.get(*index).map_or("?", |node| node.name.as_str());
    plan.chains
        .iter()
        .map(|chain| {
            let nodes: Vec<&str> = chain.nodes.iter().map(name).collect();
            let inputs: Vec<String> = chain
                .inputs
                .iter()
                .map(|(from, exchange)| format!("{} ─{}─▶ ", name(from), exchange_name(plan, *from, exchange)))
                .collect();
            let tasks = paint.dim(format!("({})", figures::tasks(chain.parallelism)));
            format!("  {}[{}] {tasks}", inputs.join("+ "), paint.bold(nodes.join(" · ")))
        })
        .collect()
}

fn exchange_name(plan: &Plan, from: usize, exchange: &Exchange) -> String {
    match exchange {
        Exchange::Forward => "forward".to_owned(),
        Exchange::Rebalance => "rebalance".to_owned(),
        Exchange::Range { column, splits } => {
            let fields = plan.nodes.get(from).map(|node| node.schema.fields()).unwrap_or_default();
            let name = fields.get(*column).map_or("", |field| field.name.as_str());
            format!("{} ranges of {name}", splits.ranges())
        }
        Exchange::SampledRange { column, .. } => {
            let fields = plan.nodes.get(from).map(|node| node.schema.fields()).unwrap_or_default();
            let name = fields.get(*column).map_or("", |field| field.name.as_str());
            format!("even ranges of {name}")
        }
        Exchange::Addressed => "as its partitioner says".to_owned(),
        Exchange::Broadcast => "broadcast".to_owned(),
        Exchange::Key(columns) => {
            let fields = plan.nodes.get(from).map(|node| node.schema.fields()).unwrap_or_default();
            let names: Vec<&str> =
                columns.iter().filter_map(|&column| fields.get(column)).map(|field| field.name.as_str()).collect();
            format!("key {}", names.join(", "))
        }
    }
}
