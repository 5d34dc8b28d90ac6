//! From a plan to tasks that are ready to run: sources and sinks opened, guests instantiated, channels made.
//!
//! Nothing runs before everything has been opened, so a pipeline that cannot start has no effect.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::change::{Progress, TaskReport};
use super::cut::{Cut, RestoreError};
use super::dead_letter::{self, DeadLetters};
use super::exchange::{Edge, Inputs};
use super::marker::Marker;
use super::plan::{Chain as ChainPlan, Exchange, Node, NodeIndex, NodeKind, Plan, SlotId};
use super::resolve::{Components, Resolution, Resolved};
use super::shuffle::Shuffle;
use super::source_task::{self, Command, SourceTask};
use super::spec::{AggregateSpec, LimitsSpec, StepKind, StepSpec};
use super::task::{self, Chain, Link, Tail, TaskError, Versions};
use crate::clock::Clock;
use crate::format::Format;
use crate::limits;
use crate::metrics::NodeCounters;
use crate::operator::{
    AggregateCall, AggregateStep, GuestFold, GuestStep, Operator, OperatorError, OrderBy, ProcessSpec, ProcessStep,
    Select, Top, TopSpec, TopWindows, WindowAggregateSpec, join_operator,
};
use crate::partition::Partitioner;
use crate::record::{Element, Field, NO_EVENT_TIME, Schema};
use crate::sink::{self, SinkContext, SinkEpochs, SinkError};
use crate::source::{self, AskedTime, DriftGroup, SourceContext, SourceError};
use crate::wasm::{Guest, GuestError, GuestMetrics, GuestOptions};

/// How a pipeline is to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// what time it is
    pub clock: Clock,
    /// cut batches at random places with this seed
    pub shuffle_batches: Option<u64>,
    /// go on from here; steps that it does not name start empty
    pub restore: Option<Arc<Cut>>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { clock: Clock::system(), shuffle_batches: None, restore: None }
    }
}

/// Epochs that a run commits.
#[derive(Clone, Debug)]
pub struct Epochs {
    /// tells this process from all others that write to the same place
    pub attempt: String,
    /// the epoch that begins
    pub next: u64,
}

/// A checked pipeline could not be started. Nothing has been read or written.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// a source could not be opened
    #[error("source `{name}`: {source}")]
    Source {
        /// the source
        name: String,
        /// why
        #[source]
        source: SourceError,
    },
    /// a sink could not be opened
    #[error("sink `{name}`: {source}")]
    Sink {
        /// the sink
        name: String,
        /// why
        #[source]
        source: SinkError,
    },
    /// a guest could not be instantiated
    #[error("step `{step}`: {source}")]
    Guest {
        /// the step
        step: String,
        /// why
        #[source]
        source: GuestError,
    },
    /// an operator could not be made
    #[error("step `{step}`: {source}")]
    Operator {
        /// the step
        step: String,
        /// why
        #[source]
        source: OperatorError,
    },
    /// state does not fit the pipeline
    #[error("the state of step `{step}` cannot be restored: {source}")]
    Restore {
        /// the step
        step: String,
        /// why
        #[source]
        source: RestoreError,
    },
    /// a bug of the planner: reported, never a panic
    #[error("internal error: {0}; please report it")]
    Internal(String),
}

/// A task's work, to be spawned.
pub(crate) type TaskFuture = Pin<Box<dyn Future<Output = Result<(), TaskError>> + Send>>;

/// Counters and versions of a node's tasks, by subtask.
#[derive(Clone, Debug)]
pub(crate) struct NodeTasks {
    pub(crate) counters: Vec<Arc<NodeCounters>>,
    pub(crate) versions: Vec<Versions>,
    pub(crate) guests: Vec<Arc<GuestMetrics>>,
}

/// Everything that a run consists of, before it runs.
pub(crate) struct Built {
    pub(crate) tasks: Vec<TaskFuture>,
    pub(crate) dead_letters: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
    /// one for each source task
    pub(crate) commands: Vec<mpsc::Sender<Command>>,
    pub(crate) progress: Arc<Progress>,
    /// by node
    pub(crate) nodes: Vec<NodeTasks>,
}

/// Opens and wires everything.
pub(crate) async fn build(
    resolution: &Resolution,
    options: &RunOptions,
    epochs: Option<&Epochs>,
) -> Result<Built, StartError> {
    let plan = &resolution.plan;
    let tasks: usize = plan.chains.iter().map(|chain| chain.parallelism).sum();
    // the writer of dead letters is a task like others: its output belongs to cuts too
    let writers = usize::from(plan.spec.dead_letter.is_some());
    let (progress, mut reports) = Progress::new(tasks + writers);
    let report = reports.split_off(tasks).pop();
    let (dead, writer) = open_dead_letters(plan, epochs, report, tasks).await?;
    let nodes = plan.nodes.iter().map(node_tasks).collect();
    let mut builder = Builder {
        plan,
        components: &resolution.components,
        options,
        epochs,
        dead,
        nodes,
        channels: Channels::new(plan),
        commands: Vec::new(),
        drift: drift_group(plan),
        drifting: 0,
    };
    let mut reports = reports.into_iter();
    let mut futures: Vec<TaskFuture> = Vec::with_capacity(tasks);
    for (index, chain) in plan.chains.iter().enumerate() {
        for subtask in 0..chain.parallelism {
            let report = reports.next().ok_or_else(|| StartError::Internal("too few reports".to_owned()))?;
            let number = futures.len();
            futures.push(builder.task(index, chain, subtask, (number, report)).await?);
        }
    }
    let Builder { nodes, commands, .. } = builder;
    Ok(Built { tasks: futures, dead_letters: Box::pin(writer), commands, progress, nodes })
}

fn node_tasks(node: &Node) -> NodeTasks {
    let slots = match &node.kind {
        NodeKind::Guest { .. } | NodeKind::Process { .. } => 1,
        NodeKind::Aggregate { inputs, .. } => inputs.len(),
        NodeKind::Source { marks, .. } => usize::from(marks.assigner.is_some()),
        NodeKind::Select { .. }
        | NodeKind::Join { .. }
        | NodeKind::Top { .. }
        | NodeKind::Side { .. }
        | NodeKind::Sink { .. } => 0,
    };
    // the nodes of a chain all have its parallelism: others are not joined
    let parallelism = node.parallelism;
    NodeTasks {
        counters: (0..parallelism).map(|_| Arc::new(NodeCounters::default())).collect(),
        versions: (0..parallelism).map(|_| Arc::new(Mutex::new(vec![None; slots]))).collect(),
        guests: (0..parallelism).map(|_| Arc::new(GuestMetrics::default())).collect(),
    }
}

async fn open_dead_letters(
    plan: &Plan,
    epochs: Option<&Epochs>,
    report: Option<TaskReport>,
    tasks: usize,
) -> Result<(DeadLetters, impl Future<Output = Result<(), String>> + Send + 'static), StartError> {
    let sink = match &plan.spec.dead_letter {
        None => None,
        Some(kind) => {
            let context = SinkContext {
                name: dead_letter::NAME.to_owned(),
                format: Format::Json,
                schema: dead_letter::schema(),
                base: plan.spec.base.clone(),
                subtask: 0,
                parallelism: 1,
                epochs: epochs.map(sink_epochs),
            };
            let failed = |source| StartError::Sink { name: "dead_letter".to_owned(), source };
            Some(sink::open(&kind.value, context).await.map_err(failed)?)
        }
    };
    Ok(dead_letter::open(sink, report, tasks, epochs.map(|epochs| epochs.next)))
}

fn sink_epochs(epochs: &Epochs) -> SinkEpochs {
    SinkEpochs { attempt: epochs.attempt.clone(), next: epochs.next }
}

/// Channels between chains: for each input of each chain, from each task to each task it can send to.
struct Channels {
    /// by (chain, input, reading subtask): ends waiting to be taken by readers
    receivers: Vec<Vec<Vec<Vec<mpsc::Receiver<Element>>>>>,
    /// by (chain, input, writing subtask)
    senders: Vec<Vec<Vec<Vec<mpsc::Sender<Element>>>>>,
}

impl Channels {
    fn new(plan: &Plan) -> Self {
        let mut channels = Self { receivers: Vec::new(), senders: Vec::new() };
        for chain in &plan.chains {
            let (mut chain_receivers, mut chain_senders) = (Vec::new(), Vec::new());
            for (from, exchange) in &chain.inputs {
                let writers = plan
                    .chain_feeding(*from)
                    .and_then(|index| plan.chains.get(index))
                    .map_or(0, |chain| chain.parallelism);
                let mut receivers: Vec<Vec<_>> = (0..chain.parallelism).map(|_| Vec::new()).collect();
                let mut senders: Vec<Vec<_>> = (0..writers).map(|_| Vec::new()).collect();
                for (writer, senders) in senders.iter_mut().enumerate() {
                    for (reader, receivers) in receivers.iter_mut().enumerate() {
                        if *exchange == Exchange::Forward && writer != reader {
                            continue;
                        }
                        let (sender, receiver) = mpsc::channel(limits::CHANNEL_BATCHES);
                        senders.push(sender);
                        receivers.push(receiver);
                    }
                }
                chain_receivers.push(receivers);
                chain_senders.push(senders);
            }
            channels.receivers.push(chain_receivers);
            channels.senders.push(chain_senders);
        }
        channels
    }

    /// Ends to read from, each with the number of the input it belongs to.
    fn take_receivers(&mut self, plan: &Plan, chain: usize, subtask: usize) -> Vec<(usize, mpsc::Receiver<Element>)> {
        let first = plan.chains.get(chain).and_then(|chain| plan.nodes.get(*chain.nodes.first()?));
        let ports = first.map(|node| node.ports.as_slice()).unwrap_or_default();
        let inputs = self.receivers.get_mut(chain).into_iter().flatten().zip(ports);
        let ends = inputs.filter_map(|(input, port)| Some((*port, std::mem::take(input.get_mut(subtask)?))));
        ends.flat_map(|(port, ends)| ends.into_iter().map(move |end| (port, end))).collect()
    }

    fn take_senders(&mut self, chain: usize, input: usize, subtask: usize) -> Vec<mpsc::Sender<Element>> {
        let input = self.senders.get_mut(chain).and_then(|inputs| inputs.get_mut(input));
        input.and_then(|input| input.get_mut(subtask)).map(std::mem::take).unwrap_or_default()
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    components: &'a Components,
    options: &'a RunOptions,
    epochs: Option<&'a Epochs>,
    dead: DeadLetters,
    nodes: Vec<NodeTasks>,
    channels: Channels,
    commands: Vec<mpsc::Sender<Command>>,
    /// the source tasks that stay together in event time
    drift: Arc<DriftGroup>,
    /// how many of them have been made
    drifting: usize,
}

/// Tasks of sources with `max_drift`.
fn drift_group(plan: &Plan) -> Arc<DriftGroup> {
    let together = |node: &&Node| match &node.kind {
        NodeKind::Source { index, .. } => {
            plan.spec.sources.get(*index).is_some_and(|source| source.watermark.max_drift.is_some())
        }
        _ => false,
    };
    DriftGroup::new(plan.nodes.iter().filter(together).map(|node| node.parallelism).sum())
}

impl Builder<'_> {
    async fn task(
        &mut self,
        index: usize,
        plan: &ChainPlan,
        subtask: usize,
        (number, report): (usize, TaskReport),
    ) -> Result<TaskFuture, StartError> {
        let mut links = Vec::new();
        let mut tail = None;
        let mut source = None;
        for &node in &plan.nodes {
            let planned = self.node(node)?;
            match &planned.kind {
                NodeKind::Source { .. } => source = Some(node),
                NodeKind::Guest { .. }
                | NodeKind::Select { .. }
                | NodeKind::Aggregate { .. }
                | NodeKind::Process { .. } => links.push(self.link(node, subtask)?),
                NodeKind::Top { .. } => links.push(self.link(node, subtask)?),
                NodeKind::Join { .. } => links.push(self.link(node, subtask)?),
                NodeKind::Side { .. } => {}
                NodeKind::Sink { index } => tail = Some(self.sink(node, *index, subtask, plan.parallelism).await?),
            }
        }
        let tail = match tail {
            Some(tail) => tail,
            None => {
                let last = *plan.nodes.last().ok_or_else(|| StartError::Internal("an empty chain".to_owned()))?;
                Tail::Edges(self.edges(last, subtask)?)
            }
        };
        let mut chain = Chain::new(subtask, links, tail, self.dead.of_task(number), report, self.options.clock.clone());
        chain.epoch = self.epochs.map(|epochs| epochs.next);
        if let Some(cut) = &self.options.restore {
            let step = |source: RestoreError| StartError::Restore { step: source.step.clone(), source };
            chain.restore(cut, plan.parallelism).map_err(step)?;
        }
        match source {
            Some(node) => self.source_task(node, subtask, plan.parallelism, chain).await,
            None => {
                let inputs = Inputs::new(self.channels.take_receivers(self.plan, index, subtask));
                Ok(Box::pin(task::run(inputs, chain)))
            }
        }
    }

    fn node(&self, node: NodeIndex) -> Result<&Node, StartError> {
        self.plan.nodes.get(node).ok_or_else(|| StartError::Internal(format!("no node {node}")))
    }

    fn counters(&self, node: NodeIndex, subtask: usize) -> Arc<NodeCounters> {
        let counters = self.nodes.get(node).and_then(|node| node.counters.get(subtask));
        counters.map(Arc::clone).unwrap_or_default()
    }

    async fn source_task(
        &mut self,
        node: NodeIndex,
        subtask: usize,
        parallelism: usize,
        chain: Chain,
    ) -> Result<TaskFuture, StartError> {
        let planned = self.node(node)?;
        let NodeKind::Source { index, full, event_time, marks } = &planned.kind else {
            return Err(StartError::Internal("not a source".to_owned()));
        };
        let spec = self.plan.spec.sources.get(*index).ok_or_else(|| StartError::Internal("no source".to_owned()))?;
        let context = SourceContext {
            name: spec.name.value.clone(),
            format: spec.format.as_ref().map(|format| format.value),
            schema: full.clone(),
            wanted: planned.schema.clone(),
            event_time: *event_time,
            subtask,
            parallelism,
            clock: self.options.clock.clone(),
            base: self.plan.spec.base.clone(),
            restore: self.options.restore.as_ref().and_then(|cut| cut.positions(&spec.name.value)).map(Arc::new),
        };
        let failed = |source| StartError::Source { name: spec.name.value.clone(), source };
        let source = source::open(&spec.kind.value, context).await.map_err(failed)?;
        let partitions = source.partitions();
        let watermarks = source::watermarks(&spec.kind.value, spec.watermark, &partitions);
        let guest = marks.assigner.as_ref().map(|_| self.assigner(node, &spec.name.value, subtask)).transpose()?;
        let marker = Marker::new(marks, &planned.schema, guest, spec.on_error);
        let mut watermarks = if marker.is_punctuated() { watermarks.punctuated() } else { watermarks };
        for (partition, position) in source.positions().into_iter().filter(|(_, position)| !position.ended) {
            if position.time_ms_max != NO_EVENT_TIME {
                watermarks.resume(partition, position.time_ms_max);
            }
        }
        let drift = spec.watermark.max_drift.map(|max_drift| {
            let task = self.drifting;
            self.drifting += 1;
            self.drift.member(task, max_drift)
        });
        let (sender, commands) = mpsc::channel(4);
        let task = SourceTask {
            name: spec.name.value.clone(),
            source,
            watermarks,
            on_error: spec.on_error,
            commands,
            clock: self.options.clock.clone(),
            counters: self.counters(node, subtask),
            shuffle: self.options.shuffle_batches.map(|seed| Shuffle::new(seed, subtask)),
            chain,
            asked: AskedTime::default(),
            drift,
            marker,
        };
        self.commands.push(sender);
        Ok(Box::pin(source_task::run(task)))
    }

    async fn sink(
        &self,
        node: NodeIndex,
        index: usize,
        subtask: usize,
        parallelism: usize,
    ) -> Result<Tail, StartError> {
        let spec = self.plan.spec.sinks.get(index).ok_or_else(|| StartError::Internal("no sink".to_owned()))?;
        let context = SinkContext {
            name: spec.name.value.clone(),
            format: spec.format.as_ref().map_or(Format::Json, |format| format.value),
            schema: self.node(node)?.schema.clone(),
            base: self.plan.spec.base.clone(),
            subtask,
            parallelism,
            epochs: self.epochs.map(sink_epochs),
        };
        let failed = |source| StartError::Sink { name: spec.name.value.clone(), source };
        let sink = sink::open(&spec.kind.value, context).await.map_err(failed)?;
        Ok(Tail::Sink { name: spec.name.value.clone(), sink: Some(sink), counters: self.counters(node, subtask) })
    }

    /// One edge for each chain that reads this node.
    fn edges(&mut self, last: NodeIndex, subtask: usize) -> Result<Vec<Edge>, StartError> {
        let mut edges = Vec::new();
        for (reader, chain) in self.plan.chains.iter().enumerate() {
            for (input, (from, exchange)) in chain.inputs.iter().enumerate() {
                if *from == last {
                    let senders = self.channels.take_senders(reader, input, subtask);
                    let partitioner = match exchange {
                        Exchange::Forward => Partitioner::rebalance(1),
                        Exchange::Rebalance => Partitioner::rebalance(chain.parallelism),
                        Exchange::Range { column, splits } => {
                            Partitioner::range(*column, splits.clone(), chain.parallelism)
                        }
                        Exchange::Broadcast => Partitioner::broadcast(chain.parallelism),
                        Exchange::Key(columns) => Partitioner::key(columns.clone(), chain.parallelism),
                    };
                    let partitioner = partitioner.map_err(|error| StartError::Internal(error.to_string()))?;
                    edges.push(Edge::new(senders, partitioner));
                }
            }
        }
        Ok(edges)
    }

    fn link(&mut self, node: NodeIndex, subtask: usize) -> Result<Link, StartError> {
        let mut sides = Vec::new();
        for (_, side) in self.plan.sides_of(node) {
            sides.push(self.edges(side, subtask)?);
        }
        let planned = self.node(node)?;
        let tasks = self.nodes.get(node).ok_or_else(|| StartError::Internal("no counters".to_owned()))?;
        let versions = tasks.versions.get(subtask).map(Arc::clone).unwrap_or_default();
        let operator = self.operator(planned, subtask, &versions, tasks)?;
        let (step, counters) = (planned.name.clone(), self.counters(node, subtask));
        Ok(Link { step, operator, counters, versions, sides })
    }

    fn operator(
        &self,
        node: &Node,
        subtask: usize,
        versions: &Versions,
        tasks: &NodeTasks,
    ) -> Result<Box<dyn Operator>, StartError> {
        let metrics = tasks.guests.get(subtask).map(Arc::clone).unwrap_or_default();
        match &node.kind {
            NodeKind::Guest { index, operator, inputs, keep } => {
                let spec = self.step(*index)?;
                let guest = self.guest(spec, 0, subtask, metrics, versions)?;
                let (inputs, keep) = (inputs.clone(), keep.clone());
                Ok(Box::new(GuestStep::new(guest, *operator, inputs, keep, node.schema.clone(), spec.on_error)))
            }
            NodeKind::Select { columns, .. } => Ok(Box::new(Select::new(columns.clone(), node.schema.clone()))),
            NodeKind::Aggregate { index, keys, inputs } => {
                let spec = self.step(*index)?;
                self.aggregate(spec, node, keys, inputs, subtask, &metrics, versions)
            }
            NodeKind::Process { index, keys, sides } => {
                let guest = self.guest(self.step(*index)?, 0, subtask, metrics, versions)?;
                self.process(self.step(*index)?, node, keys, sides, guest)
            }
            NodeKind::Top { index, keys, windows, by } => self.top(node, *index, keys, *windows, by),
            NodeKind::Join { columns, rule, .. } => {
                join_operator(columns, *rule).map_err(|source| StartError::Operator { step: node.name.clone(), source })
            }
            NodeKind::Source { .. } | NodeKind::Side { .. } | NodeKind::Sink { .. } => {
                Err(StartError::Internal(format!("`{}` is not an operator", node.name)))
            }
        }
    }

    fn top(
        &self,
        node: &Node,
        index: usize,
        keys: &[usize],
        windows: TopWindows,
        by: &[OrderBy],
    ) -> Result<Box<dyn Operator>, StartError> {
        let step = self.step(index)?;
        let StepKind::Top(top) = &step.kind.value else {
            return Err(StartError::Internal(format!("`{}` is not a top-N", node.name)));
        };
        let input = node.inputs.first().and_then(|&input| self.plan.nodes.get(input));
        let input = input.ok_or_else(|| StartError::Internal("a top-N without input".to_owned()))?.schema.clone();
        let spec = TopSpec {
            input,
            keys: keys.to_vec(),
            windows,
            rows: top.rows.value,
            by: by.to_vec(),
            ties: top.ties,
            output: node.schema.clone(),
            late: !step.side_outputs.is_empty(),
            on_error: step.on_error,
        };
        let failed = |source| StartError::Operator { step: node.name.clone(), source };
        Ok(Box::new(Top::new(spec).map_err(failed)?))
    }

    fn step(&self, index: usize) -> Result<&StepSpec, StartError> {
        self.plan.spec.steps.get(index).ok_or_else(|| StartError::Internal(format!("no step {index}")))
    }

    fn guest(
        &self,
        step: &StepSpec,
        slot: usize,
        subtask: usize,
        metrics: Arc<GuestMetrics>,
        versions: &Versions,
    ) -> Result<Guest, StartError> {
        let id = SlotId { step: step.name.value.clone(), slot };
        let resolved =
            self.components.get(&id).ok_or_else(|| StartError::Internal(format!("no component for {id:?}")))?;
        if let Some(version) = versions.lock().ok().as_mut().and_then(|versions| versions.get_mut(slot)) {
            *version = Some(*resolved.component.digest());
        }
        instantiate(resolved, step, subtask, metrics)
            .map_err(|source| StartError::Guest { step: step.name.value.clone(), source })
    }

    /// A source's watermark assigner, and where its version is told.
    fn assigner(&self, node: NodeIndex, source: &str, subtask: usize) -> Result<(Guest, Versions), StartError> {
        let id = SlotId { step: source.to_owned(), slot: 0 };
        let resolved =
            self.components.get(&id).ok_or_else(|| StartError::Internal(format!("no component for {id:?}")))?;
        let tasks = self.nodes.get(node);
        let versions = tasks.and_then(|tasks| tasks.versions.get(subtask)).map(Arc::clone).unwrap_or_default();
        let metrics = tasks.and_then(|tasks| tasks.guests.get(subtask)).map(Arc::clone).unwrap_or_default();
        if let Some(version) = versions.lock().ok().as_mut().and_then(|versions| versions.first_mut()) {
            *version = Some(*resolved.component.digest());
        }
        let guest = instantiate_for(resolved, source, LimitsSpec::default(), subtask, metrics)
            .map_err(|source| StartError::Guest { step: id.step, source })?;
        Ok((guest, versions))
    }

    fn process(
        &self,
        step: &StepSpec,
        node: &Node,
        keys: &[Vec<usize>],
        sides: &[Option<usize>],
        guest: Guest,
    ) -> Result<Box<dyn Operator>, StartError> {
        let StepKind::Process { state_ttl, .. } = &step.kind.value else {
            return Err(StartError::Internal(format!("`{}` is not a processor", node.name)));
        };
        let input = |port: usize| {
            let at = node.ports.iter().position(|of| *of == port)?;
            Some(self.plan.nodes.get(*node.inputs.get(at)?)?.schema.clone())
        };
        let inputs: Option<Vec<Schema>> = (0..keys.len()).map(input).collect();
        let spec = ProcessSpec {
            inputs: inputs.ok_or_else(|| StartError::Internal("a processor without input".to_owned()))?,
            keys: keys.to_vec(),
            sides: sides.to_vec(),
            state_ttl: *state_ttl,
            on_error: step.on_error,
            clock: self.options.clock.clone(),
        };
        let failed = |source| StartError::Operator { step: node.name.clone(), source };
        Ok(Box::new(ProcessStep::new(guest, spec).map_err(failed)?))
    }

    #[allow(clippy::too_many_arguments)]
    fn aggregate(
        &self,
        step: &StepSpec,
        node: &Node,
        keys: &[usize],
        inputs: &[Vec<usize>],
        subtask: usize,
        metrics: &Arc<GuestMetrics>,
        versions: &Versions,
    ) -> Result<Box<dyn Operator>, StartError> {
        let StepKind::Aggregate { window, allowed_lateness, gap, trigger, firing, aggregates, .. } = &step.kind.value
        else {
            return Err(StartError::Internal(format!("`{}` is not an aggregate", node.name)));
        };
        let failed = |source| StartError::Operator { step: node.name.clone(), source };
        let input = node
            .inputs
            .first()
            .and_then(|&input| self.plan.nodes.get(input))
            .map(|input| input.schema.clone())
            .ok_or_else(|| StartError::Internal("an aggregate without input".to_owned()))?;
        let (mut calls, mut outputs) = (Vec::new(), Vec::new());
        for (slot, aggregate) in aggregates.iter().enumerate() {
            let read = inputs.get(slot).cloned().unwrap_or_default();
            match aggregate {
                AggregateSpec::BuiltIn { output, function, .. } => {
                    let (output, column) = (output.value.clone(), read.first().copied());
                    calls.push(AggregateCall::BuiltIn { output, function: function.value, column });
                    outputs.push(None);
                }
                AggregateSpec::Component { output, .. } => {
                    let guest = self.guest(step, slot, subtask, Arc::clone(metrics), versions)?;
                    let schema = named_outputs(&guest.signature().outputs, &output.value);
                    let fold = GuestFold::new(guest, read, schema.clone(), step.on_error).map_err(failed)?;
                    calls.push(AggregateCall::Fold(Box::new(fold)));
                    outputs.push(Some(schema));
                }
            }
        }
        let spec = WindowAggregateSpec {
            keys: keys.to_vec(),
            window: window.value,
            allowed_lateness: *allowed_lateness,
            late: !step.side_outputs.is_empty(),
            gap: gap.as_ref().and_then(|gap| input.index_of(&gap.value)),
            trigger: trigger.as_ref().map(|trigger| trigger.value).unwrap_or_default(),
            firing: firing.as_ref().map(|firing| firing.value).unwrap_or_default(),
            clock: self.options.clock.clone(),
            input,
            aggregates: calls,
        };
        Ok(Box::new(AggregateStep::new(spec, step.on_error, outputs).map_err(failed)?))
    }
}

/// The guest's columns under the names that the pipeline gives: a single one takes the name of its entry.
pub(crate) fn named_outputs(outputs: &Schema, entry: &str) -> Schema {
    match outputs.fields() {
        [only] => Schema::new([Field { name: entry.to_owned(), ..only.clone() }]),
        _ => outputs.clone(),
    }
}

/// A guest of `resolved` for one task of `step`.
pub(crate) fn instantiate(
    resolved: &Resolved,
    step: &StepSpec,
    subtask: usize,
    counters: Arc<GuestMetrics>,
) -> Result<Guest, GuestError> {
    instantiate_for(resolved, &step.name.value, step.limits, subtask, counters)
}

/// A guest of `resolved` for one task of the step or source `name`.
pub(crate) fn instantiate_for(
    resolved: &Resolved,
    name: &str,
    limits: LimitsSpec,
    subtask: usize,
    counters: Arc<GuestMetrics>,
) -> Result<Guest, GuestError> {
    let options = GuestOptions {
        settings: resolved.settings.clone(),
        memory_bytes: limits.memory_bytes,
        deadline: limits.deadline,
        step: name.to_owned(),
        task: u32::try_from(subtask).unwrap_or(u32::MAX),
        counters,
    };
    resolved.component.guest(resolved.kind, options)
}
