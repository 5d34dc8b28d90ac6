//! A pipeline checked: schemas fixed, columns found, steps cut into chains. Pure: signatures come in as values.
//!
//! Order of work: source schemas (declared, or what operators read) → columns that anybody needs → forward through
//! the steps, checking each against what reaches it → chains.

mod chain;
mod join;
mod marks;
mod partition;
mod process;
mod source;
mod step;
mod top;

use std::collections::BTreeMap;
use std::time::Duration;

use super::columns;
use super::problems::{alternatives, code};
use super::spec::{PipelineSpec, SinkSpec, StepSpec};
use crate::error::{Diagnostic, PipelineError, Span, Spanned};
use crate::format::Format;
use crate::operator::{JoinColumns, JoinRule, OrderBy, TopWindows, partition_keys};
use crate::partition::SplitPoints;
use crate::record::{Kind, Schema};
use crate::sink::SinkKind;
use crate::wasm::{OperatorKind, Signature};

/// A component of a step: its number among the step's components, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// the step's name
    pub step: String,
    /// 0 for map, filter, flat_map and process; the position among the entries of `aggregate` otherwise
    pub slot: usize,
}

/// Signatures of all components of a pipeline.
pub type Signatures = BTreeMap<SlotId, Signature>;

/// Position of a node in [`Plan::nodes`].
pub type NodeIndex = usize;

/// A checked pipeline.
#[derive(Clone, Debug)]
pub struct Plan {
    /// as written
    pub spec: PipelineSpec,
    /// sources, steps and sinks; every node stands after its inputs
    pub nodes: Vec<Node>,
    /// nodes that one task runs one after the other; every chain stands after the chains it reads
    pub chains: Vec<Chain>,
}

/// A source, step or sink.
#[derive(Clone, Debug)]
pub struct Node {
    /// its name in the pipeline
    pub name: String,
    /// what it does
    pub kind: NodeKind,
    /// nodes it reads
    pub inputs: Vec<NodeIndex>,
    /// for each of `inputs` the number of the input it belongs to: 0 unless the node has two (see [`StepSpec::with`])
    pub ports: Vec<usize>,
    /// columns it puts out; for a sink those it takes in
    pub schema: Schema,
    /// number of tasks
    pub parallelism: usize,
    /// how rows of input 0 get to its tasks, where the pipeline says so
    pub partition: Option<Exchange>,
}

/// What a node does, with all columns found.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// index into `spec.sources`
    Source {
        /// position in the specification
        index: usize,
        /// all columns of a record
        full: Schema,
        /// position of the event time among the decoded columns
        event_time: Option<usize>,
        /// where its rows have watermarks from, if not from their times
        marks: Marks,
    },
    /// map, filter or flat_map
    Guest {
        /// position in the specification
        index: usize,
        /// which contract
        operator: OperatorKind,
        /// input columns that the guest reads, in its order
        inputs: Vec<usize>,
        /// input columns that are carried over, before those the guest produces
        keep: Vec<usize>,
    },
    /// the partitioner of a step, which stands behind it
    Route {
        /// position of the step in the specification
        index: usize,
        /// input columns that it reads, in its order
        inputs: Vec<usize>,
        /// tasks of the step
        targets: usize,
    },
    /// columns picked and renamed
    Select {
        /// position in the specification
        index: usize,
        /// input columns, in order
        columns: Vec<usize>,
    },
    /// keyed window
    Aggregate {
        /// position in the specification
        index: usize,
        /// key columns of the input
        keys: Vec<usize>,
        /// for each entry of `aggregate` the input columns that it reads
        inputs: Vec<Vec<usize>>,
    },
    /// a component with state and timers by key
    Process {
        /// position in the specification
        index: usize,
        /// for each of its inputs the key columns
        keys: Vec<Vec<usize>>,
        /// for each further output of the component the number of the step's output, where the pipeline names it
        sides: Vec<Option<usize>>,
    },
    /// top-N
    Top {
        /// position in the specification
        index: usize,
        /// key columns of the input
        keys: Vec<usize>,
        /// the window of a row
        windows: TopWindows,
        /// what rows are ordered by
        by: Vec<OrderBy>,
    },
    /// join or lookup
    Join {
        /// position in the specification
        index: usize,
        /// key columns of both inputs and what comes out
        columns: Box<JoinColumns>,
        /// which rows of equal keys meet
        rule: JoinRule,
    },
    /// another output of a step, read under its own name; no task runs it
    Side {
        /// the step
        of: NodeIndex,
        /// which of its outputs
        output: usize,
    },
    /// a sink
    Sink {
        /// position in the specification
        index: usize,
    },
}

/// What a source's rows say themselves about event time.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    /// position of the column with watermarks among the decoded columns
    pub column: Option<usize>,
    /// how the assigner is called
    pub assigner: Option<Assigner>,
}

/// A mapper that gives a source's rows their event time.
#[derive(Clone, Debug)]
pub struct Assigner {
    /// decoded columns that it reads, in its order
    pub inputs: Vec<usize>,
    /// its columns
    pub outputs: Schema,
    /// position of `event_time` among them
    pub event_time: usize,
    /// position of `watermark` among them
    pub watermark: Option<usize>,
}

impl NodeKind {
    /// For a node that holds state by key: the columns of its input `port` whose values decide which of its tasks gets a
    /// row. The columns of all its inputs are of the same kinds in the same order, so equal keys meet in one task.
    pub fn keys(&self, port: usize) -> Option<Vec<usize>> {
        match self {
            Self::Aggregate { keys, .. } => Some(keys.clone()),
            Self::Top { keys, windows, .. } => Some(partition_keys(keys, *windows)),
            Self::Process { keys, .. } => keys.get(port).cloned(),
            Self::Join { rule: JoinRule::Lookup, .. } => None,
            Self::Join { columns, .. } => columns.keys.get(port).cloned(),
            Self::Source { .. } | Self::Guest { .. } | Self::Route { .. } | Self::Select { .. } => None,
            Self::Side { .. } | Self::Sink { .. } => None,
        }
    }
}

impl NodeKind {
    /// Whether all rows of input `port` reach all tasks of the node.
    pub fn broadcasts(&self, port: usize) -> bool {
        port == 1 && matches!(self, Self::Join { rule: JoinRule::Lookup, .. })
    }
}

/// How rows get from one node to the tasks of the next.
#[derive(Clone, Debug, PartialEq)]
pub enum Exchange {
    /// task i to task i
    Forward,
    /// by key group of these columns
    Key(Vec<usize>),
    /// evenly
    Rebalance,
    /// all rows to all tasks
    Broadcast,
    /// to the task whose number a partitioner has put behind the columns
    Addressed,
    /// by the range that the value of this column lies in
    Range {
        /// its position
        column: usize,
        /// where ranges begin
        splits: SplitPoints,
    },
    /// by ranges that are cut from a sample of the column, again and again
    SampledRange {
        /// its position
        column: usize,
        /// of the column
        kind: Kind,
        /// kept by each sender
        values: usize,
        /// time from one cut to the next
        every: Duration,
    },
}

/// Nodes that one task runs.
#[derive(Clone, Debug)]
pub struct Chain {
    /// in order; the first may be a source, the last a sink
    pub nodes: Vec<NodeIndex>,
    /// tasks
    pub parallelism: usize,
    /// for each input of the first node: where from and how
    pub inputs: Vec<(NodeIndex, Exchange)>,
}

impl Plan {
    /// Position of the chain that puts out the rows of `node`.
    pub fn chain_feeding(&self, node: NodeIndex) -> Option<usize> {
        match self.nodes.get(node)?.kind {
            NodeKind::Side { of, .. } => self.chains.iter().position(|chain| chain.nodes.contains(&of)),
            _ => self.chains.iter().position(|chain| chain.nodes.last() == Some(&node)),
        }
    }

    /// The other outputs of a step: number and node.
    pub fn sides_of(&self, node: NodeIndex) -> impl Iterator<Item = (usize, NodeIndex)> {
        self.nodes.iter().enumerate().filter_map(move |(index, side)| match side.kind {
            NodeKind::Side { of, output } if of == node => Some((output, index)),
            _ => None,
        })
    }
}

/// Checks `spec` against the components' signatures.
pub fn plan(spec: PipelineSpec, signatures: &Signatures) -> Result<Plan, PipelineError> {
    let planned = Planner::plan(&spec, signatures, View::Needed);
    if planned.diagnostics.is_empty() {
        let nodes = planned.nodes;
        let chains = chain::chains(&nodes);
        return Ok(Plan { nodes, chains, spec });
    }
    // Messages are to name the columns that there are, not only those that somebody needs.
    let unions = planned.diagnostics.iter().any(|diagnostic| diagnostic.code == code::UNION_MISMATCH);
    let mut diagnostics = Planner::plan(&spec, signatures, View::All { unions }).diagnostics;
    if diagnostics.is_empty() {
        diagnostics = planned.diagnostics;
    }
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.start);
    Err(PipelineError { path: spec.path.clone(), text: spec.text.clone(), diagnostics })
}

/// Which columns sources have while the pipeline is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    /// those that somebody needs
    Needed,
    /// all that they could have; `unions`: united streams must be alike in these
    All { unions: bool },
}

/// What came of checking a pipeline.
struct Planned {
    nodes: Vec<Node>,
    diagnostics: Vec<Diagnostic>,
}

struct Planner<'a> {
    spec: &'a PipelineSpec,
    signatures: &'a Signatures,
    view: View,
    diagnostics: Vec<Diagnostic>,
    nodes: Vec<Node>,
}

impl<'a> Planner<'a> {
    fn plan(spec: &'a PipelineSpec, signatures: &'a Signatures, view: View) -> Planned {
        let mut planner = Self { spec, signatures, view, diagnostics: Vec::new(), nodes: Vec::new() };
        planner.add_sources();
        planner.add_steps();
        planner.add_sinks();
        Planned { nodes: planner.nodes, diagnostics: planner.diagnostics }
    }

    fn report(&mut self, code: &'static str, span: Span, message: String, label: String, help: Option<String>) {
        self.diagnostics.push(Diagnostic { code, message, span, label, help });
    }

    fn parallelism(&self, own: Option<&Spanned<usize>>) -> usize {
        own.or(self.spec.parallelism.as_ref()).map_or(1, |given| given.value)
    }

    fn find(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.iter().position(|node| node.name == name)
    }

    fn add_sources(&mut self) {
        let spec = self.spec;
        let needed = columns::needed(spec, self.signatures);
        for (index, source) in spec.sources.iter().enumerate() {
            if let Some(node) = self.source(index, source, needed.get(source.name.value.as_str())) {
                self.nodes.push(node);
            }
        }
    }

    /// Finds a column or says what there is.
    fn column(&mut self, place: &str, name: &Spanned<String>, schema: &Schema) -> Option<usize> {
        if let Some(index) = schema.index_of(&name.value) {
            return Some(index);
        }
        let message = format!("{place} has no column `{}`", name.value);
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name.as_str()).collect();
        let help = if names.is_empty() {
            "there are no columns".to_owned()
        } else {
            alternatives("columns", &name.value, &names)
        };
        self.report(code::MISSING_COLUMN, name.span, message, "no such column".to_owned(), Some(help));
        None
    }

    fn add_steps(&mut self) {
        let spec = self.spec;
        // Steps may stand in any order in the file; the structure check has already refused cycles.
        let mut waiting: Vec<usize> = (0..spec.steps.len()).collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain(|&index| {
                let step = &spec.steps[index];
                let inputs = step.inputs().map(|(_, from)| self.find(&from.value)).collect::<Option<Vec<_>>>();
                let Some(inputs) = inputs else { return true };
                if let Some(node) = self.step(index, step, inputs) {
                    self.nodes.push(node);
                    self.add_sides(step);
                }
                false
            });
            if waiting.len() == before {
                return; // an input was refused, and that has been said
            }
        }
    }

    /// The other outputs of the step that was added last.
    fn add_sides(&mut self, step: &StepSpec) {
        let of = self.nodes.len() - 1;
        for (output, name) in step.side_outputs.iter().enumerate() {
            let Some(schema) = self.side_schema(of, step, output) else { continue };
            let Some(parallelism) = self.nodes.get(of).map(|node| node.parallelism) else { continue };
            let (name, kind) = (name.value.clone(), NodeKind::Side { of, output });
            self.nodes.push(Node {
                name,
                kind,
                inputs: vec![of],
                ports: vec![0],
                schema,
                parallelism,
                partition: None,
            });
        }
    }

    /// The one schema of all inputs.
    fn united(&mut self, name: &Spanned<String>, from: &[Spanned<String>], inputs: &[NodeIndex]) -> Option<Schema> {
        let schema = self.nodes.get(*inputs.first()?)?.schema.clone();
        for (with, &input) in from.iter().zip(inputs).skip(1) {
            let other = self.nodes.get(input)?.schema.clone();
            if other != schema && self.view != (View::All { unions: false }) {
                let first = from.first().map_or("", |first| first.value.as_str());
                let message =
                    format!("`{}` unites `{first}` and `{}`, which have different columns", name.value, with.value);
                let label = format!("expected {schema} as in `{first}`, found {other}");
                let help = format!(
                    "{}; give all inputs the same columns in the same order, by `schema` or a map",
                    differences(&schema, &other)
                );
                self.report(code::UNION_MISMATCH, with.span, message, label, Some(help));
                return None;
            }
        }
        Some(schema)
    }

    fn add_sinks(&mut self) {
        let spec = self.spec;
        for (index, sink) in spec.sinks.iter().enumerate() {
            if let Some(node) = self.sink(index, sink) {
                self.nodes.push(node);
            }
        }
    }

    fn sink(&mut self, index: usize, sink: &SinkSpec) -> Option<Node> {
        let inputs = sink.from.iter().map(|from| self.find(&from.value)).collect::<Option<Vec<_>>>()?;
        let schema = self.united(&sink.name, &sink.from, &inputs)?;
        if let Some(format) = &sink.format
            && matches!(format.value, Format::Text | Format::Raw)
            && schema.fields().len() != 1
        {
            let name = format.value.name();
            let message = format!("sink `{}` writes {name}, which is one value a record", sink.name.value);
            let label = format!("expected one column, found {schema}");
            let help = "write json, msgpack or csv, or reduce the columns by a map".to_owned();
            self.report(code::CONFLICT, format.span, message, label, Some(help));
        }
        if let SinkKind::Kafka(kafka) = &sink.kind.value
            && let Some(key) = &kafka.key
        {
            self.column(&format!("the input of sink `{}`", sink.name.value), key, &schema)?;
        }
        // One task unless asked otherwise: a file or stdout has one writer.
        let parallelism = sink.parallelism.as_ref().map_or(1, |given| given.value);
        let (name, kind, ports) = (sink.name.value.clone(), NodeKind::Sink { index }, vec![0; inputs.len()]);
        Some(Node { name, kind, inputs, ports, schema, parallelism, partition: None })
    }
}

/// How the columns of two streams differ, in few words.
fn differences(one: &Schema, other: &Schema) -> String {
    let lacks = |of: &Schema, than: &Schema| -> Vec<String> {
        let missing = than.fields().iter().filter(|field| of.index_of(&field.name).is_none());
        missing.map(|field| format!("`{}`", field.name)).collect()
    };
    let (missing, more) = (lacks(other, one), lacks(one, other));
    match (missing.as_slice(), more.as_slice()) {
        ([], []) => "kinds or order differ".to_owned(),
        ([], more) => format!("it has {} too", more.join(", ")),
        (missing, []) => format!("it lacks {}", missing.join(", ")),
        (missing, more) => format!("it lacks {} and has {} too", missing.join(", "), more.join(", ")),
    }
}
