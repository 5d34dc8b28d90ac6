//! A plan for machines.

use millstream::pipeline::plan::{Exchange, NodeKind, Plan};
use millstream::pipeline::resolve::Resolution;
use millstream::record::Field;
use serde::Serialize;

use super::table;
use crate::report;

#[derive(Serialize)]
struct PlanJson<'a> {
    pipeline: &'a str,
    nodes: Vec<NodeJson<'a>>,
    chains: Vec<ChainJson<'a>>,
    components: Vec<ComponentJson<'a>>,
}

#[derive(Serialize)]
struct NodeJson<'a> {
    name: &'a str,
    /// source, step or sink
    role: &'static str,
    /// what a source or sink is, in words; absent for steps
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    inputs: Vec<&'a str>,
    columns: &'a [Field],
    tasks: usize,
}

#[derive(Serialize)]
struct ChainJson<'a> {
    nodes: Vec<&'a str>,
    tasks: usize,
    inputs: Vec<ExchangeJson<'a>>,
}

#[derive(Serialize)]
struct ExchangeJson<'a> {
    from: &'a str,
    /// forward, rebalance or key
    exchange: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    key: Vec<&'a str>,
}

#[derive(Serialize)]
struct ComponentJson<'a> {
    step: &'a str,
    slot: usize,
    kind: String,
    path: String,
    sha256: String,
    inputs: &'a [Field],
    outputs: &'a [Field],
    state_version: Option<u32>,
}

/// The plan as one JSON object, indented.
pub(super) fn plan(resolution: &Resolution) -> String {
    let plan = &resolution.plan;
    let components = resolution.components.iter().map(|(slot, resolved)| ComponentJson {
        step: &slot.step,
        slot: slot.slot,
        kind: resolved.kind.to_string(),
        path: resolved.path.display().to_string(),
        sha256: resolved.component.digest().to_string(),
        inputs: resolved.signature.inputs.fields(),
        outputs: resolved.signature.outputs.fields(),
        state_version: resolved.signature.state.as_ref().map(|state| state.version),
    });
    let json = PlanJson {
        pipeline: &plan.spec.name.value,
        nodes: nodes(plan),
        chains: chains(plan),
        components: components.collect(),
    };
    serde_json::to_string_pretty(&json).unwrap_or_else(|_| report::json_line(&json))
}

fn nodes(plan: &Plan) -> Vec<NodeJson<'_>> {
    let node = |node: &'_ millstream::pipeline::plan::Node| match &node.kind {
        NodeKind::Source { index, .. } => {
            ("source", plan.spec.sources.get(*index).map(|source| table::source_name(&source.kind.value)))
        }
        NodeKind::Guest { .. } | NodeKind::Route { .. } | NodeKind::Select { .. } | NodeKind::Aggregate { .. } => {
            ("step", None)
        }
        NodeKind::Process { .. } => ("step", None),
        NodeKind::Top { .. } => ("step", None),
        NodeKind::Join { .. } => ("step", None),
        NodeKind::Side { .. } => ("output", None),
        NodeKind::Sink { index } => {
            ("sink", plan.spec.sinks.get(*index).map(|sink| table::sink_name(&sink.kind.value)))
        }
    };
    plan.nodes
        .iter()
        .map(|planned| {
            let (role, place) = node(planned);
            NodeJson {
                name: &planned.name,
                role,
                place,
                inputs: planned.inputs.iter().map(|&input| name(plan, input)).collect(),
                columns: planned.schema.fields(),
                tasks: planned.parallelism,
            }
        })
        .collect()
}

fn chains(plan: &Plan) -> Vec<ChainJson<'_>> {
    let exchange = |(from, exchange): &(usize, Exchange)| {
        let fields = plan.nodes.get(*from).map(|node| node.schema.fields()).unwrap_or_default();
        let (word, key) = match exchange {
            Exchange::Forward => ("forward", Vec::new()),
            Exchange::Range { column, .. } | Exchange::SampledRange { column, .. } => {
                ("range", fields.get(*column).map(|field| field.name.as_str()).into_iter().collect())
            }
            Exchange::Addressed => ("custom", Vec::new()),
            Exchange::Broadcast => ("broadcast", Vec::new()),
            Exchange::Rebalance => ("rebalance", Vec::new()),
            Exchange::Key(columns) => {
                ("key", columns.iter().filter_map(|&column| Some(fields.get(column)?.name.as_str())).collect())
            }
        };
        ExchangeJson { from: name(plan, *from), exchange: word, key }
    };
    plan.chains
        .iter()
        .map(|chain| ChainJson {
            nodes: chain.nodes.iter().map(|&node| name(plan, node)).collect(),
            tasks: chain.parallelism,
            inputs: chain.inputs.iter().map(exchange).collect(),
        })
        .collect()
}

fn name(plan: &Plan, index: usize) -> &str {
    plan.nodes.get(index).map_or("", |node| node.name.as_str())
}
