//! From a plan to tasks that are ready to run: sources and sinks opened, guests instantiated, channels made.
//!
//! Nothing runs before everything has been opened, so a pipeline that cannot start has no effect.

mod candidate;
mod operators;
mod spill;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::capsules::{self, StepCapsules};
use super::change::{Progress, TaskReport};
use super::channels::Channels;
use super::cut::{Cut, RestoreError};
use super::dead_letter::{self, DeadLetters};
use super::enough::Enough;
use super::exchange::{Disconnected, Edge, ExchangeError, Inputs};
use super::handover::{Handed, Later};
use super::marker::Marker;
use super::plan::{Chain as ChainPlan, Exchange, Node, NodeIndex, NodeKind, Plan};
use super::ranges::{SampledRange, sampled_ranges};
use super::resolve::{Components, Resolution};
use super::shares::Shares;
use super::shuffle::Shuffle;
use super::source_task::{self, Command, SourceTask};
use super::task::{self, Chain, Tail, TaskError, Versions};
use super::task_versions::TaskVersions;
use crate::capsule::Folder;
use crate::clock::Clock;
use crate::format::Format;
use crate::metrics::NodeCounters;
use crate::operator::OperatorError;
use crate::partition::Partitioner;
use crate::record::NO_EVENT_TIME;
use crate::sink::{self, Sink, SinkContext, SinkEpochs, SinkError, SinkKind, Transactions};
use crate::source::{self, AskedTime, DriftGroup, SourceContext, SourceError, Trickle};
use crate::spill::SpillError;
use crate::wasm::{Gate, GuestError, GuestMetrics, Witness};

pub(crate) use candidate::operators_of;
pub(crate) use operators::instantiate_for;
pub(crate) use spill::{SharedSpill, TasksSpill};

/// How a pipeline is to run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// what time it is
    pub clock: Clock,
    /// cut batches at random places with this seed
    pub shuffle_batches: Option<u64>,
    /// files are read in small pieces with pauses between them, so that barriers come between their rows: for tests
    pub trickle: Option<Trickle>,
    /// go on from here; steps that it does not name start empty
    pub restore: Option<Arc<Cut>>,
    /// which components run where a checkpoint knows others than the pipeline file
    pub components: ComponentChoice,
    /// sources take nothing in until they are told to
    pub paused: bool,
    /// sources end behind the batch with which they have given so many rows together
    pub enough: Option<Enough>,
    /// folder for the capsules of pipelines that do not say where theirs go; none: these write none
    pub capsules: Option<PathBuf>,
}

/// Which components a start runs that goes on from a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ComponentChoice {
    /// those that ran as of the checkpoint, where the pipeline file names what it named then; else the file's
    #[default]
    Kept,
    /// those that the pipeline file names
    Declared,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            shuffle_batches: None,
            trickle: None,
            restore: None,
            components: ComponentChoice::Kept,
            paused: false,
            enough: None,
            capsules: None,
        }
    }
}

/// Epochs that a run commits.
#[derive(Clone, Debug)]
pub struct Epochs {
    /// tells this process from all others that write to the same place
    pub attempt: String,
    /// the epoch that begins
    pub next: u64,
    /// in which Kafka sinks write
    pub transactions: Option<Transactions>,
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
    /// the scratch store for state could not be made
    #[error(transparent)]
    Spill(#[from] SpillError),
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
    /// where state goes that does not fit into memory
    pub(crate) spill: Option<TasksSpill>,
    /// exchanges whose ranges are cut from samples
    pub(crate) samplers: Vec<SampledRange>,
}

/// Opens and wires everything but what is `handed` on by an earlier life in this process.
pub(crate) async fn build(
    resolution: &Resolution,
    options: &RunOptions,
    epochs: Option<&Epochs>,
    handed: Option<&Handed>,
) -> Result<Built, StartError> {
    let plan = &resolution.plan;
    let tasks: usize = plan.chains.iter().map(|chain| chain.parallelism).sum();
    // the writer of dead letters is a task like others: its output belongs to cuts too
    let writers = usize::from(plan.spec.dead_letter.is_some());
    let (progress, mut reports) = Progress::new(tasks + writers);
    let report = reports.split_off(tasks).pop();
    let (dead, writer) = open_dead_letters(plan, (epochs, handed), report, tasks).await?;
    let folder = capsules::folder(&plan.spec, options.capsules.as_deref());
    let gate = |_: &Arc<Folder>| Arc::new(Gate::new(options.clock.clone()));
    let nodes = plan.nodes.iter().map(|node| node_tasks(node, folder.as_ref().map(gate).as_ref())).collect();
    let mut builder = Builder {
        plan,
        components: &resolution.components,
        options,
        epochs,
        handed,
        dead,
        nodes,
        channels: Channels::new(plan),
        commands: Vec::new(),
        drift: drift_group(plan),
        drifting: 0,
        spill: SharedSpill::open(plan)?,
        shares: options.restore.as_ref().map(|cut| Arc::new(shares(plan, cut))),
        samplers: sampled_ranges(plan),
        capsules: folder,
    };
    let mut reports = reports.into_iter();
    let (mut made, mut chains) = (Vec::with_capacity(tasks), Vec::with_capacity(tasks));
    for (index, chain) in plan.chains.iter().enumerate() {
        for subtask in 0..chain.parallelism {
            let report = reports.next().ok_or_else(|| StartError::Internal("too few reports".to_owned()))?;
            let number = made.len();
            chains.push(builder.chain(chain, subtask, (number, report)).await?);
            made.push((index, chain, subtask));
        }
    }
    // they take over their state side by side; where one fails the others have ended too
    let chains = futures_util::future::join_all(chains).await;
    let mut futures: Vec<TaskFuture> = Vec::with_capacity(tasks);
    for ((index, plan, subtask), chain) in made.into_iter().zip(chains) {
        futures.push(builder.task(index, plan, subtask, chain?).await?);
    }
    let Builder { nodes, commands, spill, samplers, .. } = builder;
    let spill = spill.as_ref().map(SharedSpill::of_tasks);
    Ok(Built { tasks: futures, dead_letters: Box::pin(writer), commands, progress, nodes, spill, samplers })
}

/// `gate`: calls of its guests that fail are kept.
fn node_tasks(node: &Node, gate: Option<&Arc<Gate>>) -> NodeTasks {
    let slots = match &node.kind {
        NodeKind::Guest { .. } | NodeKind::Route { .. } | NodeKind::Process { .. } => 1,
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
        versions: (0..parallelism).map(|_| Arc::new(TaskVersions::new(slots))).collect(),
        guests: (0..parallelism).map(|_| Arc::new(gate.map_or_else(GuestMetrics::default, watched))).collect(),
    }
}

fn watched(gate: &Arc<Gate>) -> GuestMetrics {
    GuestMetrics::watched(Witness::new(Arc::clone(gate)))
}

async fn open_dead_letters(
    plan: &Plan,
    (epochs, handed): (Option<&Epochs>, Option<&Handed>),
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
            let failed = |source| StartError::Sink { name: dead_letter::NAME.to_owned(), source };
            match handed.and_then(|handed| handed.sink(dead_letter::NAME, 0)) {
                Some(later) => Some(later),
                None => Some(at_once(open_sink(&kind.value, context, handed).await.map_err(failed)?)),
            }
        }
    };
    Ok(dead_letter::open(sink, report, tasks, epochs.map(|epochs| epochs.next)))
}

async fn open_sink(kind: &SinkKind, context: SinkContext, handed: Option<&Handed>) -> Result<Box<dyn Sink>, SinkError> {
    match handed.filter(|_| context.epochs.is_none()) {
        // parts of different epochs never have one name
        None => sink::open(kind, context).await,
        Some(handed) => sink::open(&handed.apart(kind), context).await,
    }
}

/// What is open already.
fn at_once<T: Send + 'static>(open: T) -> Later<T> {
    Box::new(move || Some(open))
}

fn sink_epochs(epochs: &Epochs) -> SinkEpochs {
    SinkEpochs { attempt: epochs.attempt.clone(), next: epochs.next, transactions: epochs.transactions.clone() }
}

struct Builder<'a> {
    plan: &'a Plan,
    components: &'a Components,
    options: &'a RunOptions,
    epochs: Option<&'a Epochs>,
    handed: Option<&'a Handed>,
    dead: DeadLetters,
    nodes: Vec<NodeTasks>,
    channels: Channels,
    commands: Vec<mpsc::Sender<Command>>,
    /// the source tasks that stay together in event time
    drift: Arc<DriftGroup>,
    /// how many of them have been made
    drifting: usize,
    /// where state goes that does not fit into memory
    spill: Option<SharedSpill>,
    /// what tasks go on with
    shares: Option<Arc<Shares>>,
    /// whose ranges are cut from samples
    samplers: Vec<SampledRange>,
    /// where calls that fail are kept
    capsules: Option<Arc<Folder>>,
}

/// What the tasks of `plan` go on with.
fn shares(plan: &Plan, cut: &Cut) -> Shares {
    let tasks = |step: &str| plan.nodes.iter().find(|node| node.name == step).map_or(1, |node| node.parallelism);
    Shares::new(cut, tasks)
}

/// The chain once it has taken over its share of the state, which begins at once, off the runtime's threads.
fn restored(mut chain: Chain, from: Option<Arc<Shares>>) -> impl Future<Output = Result<Chain, StartError>> + use<> {
    let failed = |source: RestoreError| StartError::Restore { step: source.step.clone(), source };
    let chain = match from {
        Some(shares) if !chain.links.is_empty() => Err(tokio::task::spawn_blocking(move || {
            chain.restore(&shares).map_err(failed)?;
            Ok(chain)
        })),
        _ => Ok(chain),
    };
    async {
        match chain {
            Ok(chain) => Ok(chain),
            Err(at_work) => at_work.await.map_err(|error| StartError::Internal(error.to_string()))?,
        }
    }
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
    /// A task's operators and where their results go; the answer is there once they have taken over their state.
    async fn chain(
        &mut self,
        plan: &ChainPlan,
        subtask: usize,
        (number, report): (usize, TaskReport),
    ) -> Result<impl Future<Output = Result<Chain, StartError>> + use<>, StartError> {
        let mut links = Vec::new();
        let mut tail = None;
        for &node in &plan.nodes {
            let planned = self.node(node)?;
            match &planned.kind {
                NodeKind::Source { .. } => {}
                NodeKind::Guest { .. }
                | NodeKind::Route { .. }
                | NodeKind::Select { .. }
                | NodeKind::Aggregate { .. }
                | NodeKind::Process { .. } => links.push(self.link(node, subtask)?),
                NodeKind::Top { .. } => links.push(self.link(node, subtask)?),
                NodeKind::Join { .. } => links.push(self.link(node, subtask)?),
                NodeKind::Side { .. } => {}
                NodeKind::Sink { index } => tail = Some(self.sink(node, *index, subtask, plan.parallelism).await?),
            }
        }
        let (tail, handed) = match tail {
            Some(tail) => tail,
            None => {
                let last = *plan.nodes.last().ok_or_else(|| StartError::Internal("an empty chain".to_owned()))?;
                (Tail::Edges(self.edges(last, subtask)?), None)
            }
        };
        let mut chain = Chain::new(subtask, links, tail, self.dead.of_task(number), report, self.options.clock.clone());
        chain.handed = handed;
        chain.epoch = self.epochs.map(|epochs| epochs.next);
        Ok(restored(chain, self.shares.clone()))
    }

    async fn task(
        &mut self,
        index: usize,
        plan: &ChainPlan,
        subtask: usize,
        chain: Chain,
    ) -> Result<TaskFuture, StartError> {
        for &node in &plan.nodes {
            if matches!(self.node(node)?.kind, NodeKind::Source { .. }) {
                return self.source_task(node, subtask, plan.parallelism, chain).await;
            }
        }
        let inputs = Inputs::new(self.channels.take_receivers(self.plan, index, subtask));
        Ok(Box::pin(task::run(inputs, chain)))
    }

    fn node(&self, node: NodeIndex) -> Result<&Node, StartError> {
        self.plan.nodes.get(node).ok_or_else(|| StartError::Internal(format!("no node {node}")))
    }

    /// Where the calls of a node's guests go that fail.
    fn capsules(&self, node: NodeIndex, subtask: usize) -> Option<StepCapsules> {
        let guests = self.nodes.get(node).and_then(|node| node.guests.get(subtask))?;
        let folder = Arc::clone(self.capsules.as_ref()?);
        let spec = &self.plan.spec;
        Some(StepCapsules {
            folder,
            pipeline: spec.name.value.clone(),
            pipeline_file: capsules::file_of(spec),
            guests: Arc::clone(guests),
            candidate: None,
        })
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
            trickle: self.options.trickle,
            base: self.plan.spec.base.clone(),
            restore: self.options.restore.as_ref().and_then(|cut| cut.positions(&spec.name.value)).map(Arc::new),
        };
        let failed = |source| StartError::Source { name: spec.name.value.clone(), source };
        let handed = self.handed.and_then(|handed| handed.source(&spec.name.value, subtask));
        let ((partitions, positions), open) = match handed {
            Some(handed) => handed,
            None => {
                let source = source::open(&spec.kind.value, context).await.map_err(failed)?;
                ((source.partitions(), source.positions()), at_once(source))
            }
        };
        let watermarks = source::watermarks(&spec.kind.value, spec.watermark, &partitions);
        let guest = marks.assigner.as_ref().map(|_| self.assigner(node, &spec.name.value, subtask)).transpose()?;
        let marker = Marker::new(marks, &planned.schema, guest, spec.on_error);
        let mut watermarks = if marker.is_punctuated() { watermarks.punctuated() } else { watermarks };
        for (partition, position) in positions.into_iter().filter(|(_, position)| !position.ended) {
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
        let (name, on_error, clock) = (spec.name.value.clone(), spec.on_error, self.options.clock.clone());
        let counters = self.counters(node, subtask);
        let shuffle = self.options.shuffle_batches.map(|seed| Shuffle::new(seed, subtask));
        let (paused, capsules) = (self.options.paused, self.capsules(node, subtask));
        let enough = self.options.enough.clone();
        let task = move |source| SourceTask {
            name,
            source,
            watermarks,
            on_error,
            commands,
            clock,
            counters,
            shuffle,
            chain,
            asked: AskedTime::default(),
            drift,
            marker,
            capsules,
            paused,
            enough,
        };
        self.commands.push(sender);
        Ok(Box::pin(async move {
            // one that is handed on has been seen when this was made, and only this task takes it
            let source = open().ok_or(ExchangeError::from(Disconnected))?;
            source_task::run(task(source)).await
        }))
    }

    async fn sink(
        &self,
        node: NodeIndex,
        index: usize,
        subtask: usize,
        parallelism: usize,
    ) -> Result<(Tail, Option<Later<Box<dyn Sink>>>), StartError> {
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
        let handed = self.handed.and_then(|handed| handed.sink(&spec.name.value, subtask));
        let sink = match handed {
            Some(_) => None,
            None => Some(open_sink(&spec.kind.value, context, self.handed).await.map_err(failed)?),
        };
        Ok((Tail::Sink { name: spec.name.value.clone(), sink, counters: self.counters(node, subtask) }, handed))
    }

    /// One edge for each chain that reads this node.
    fn edges(&mut self, last: NodeIndex, subtask: usize) -> Result<Vec<Edge>, StartError> {
        let mut edges = Vec::new();
        for (reader, chain) in self.plan.chains.iter().enumerate() {
            for (input, (from, exchange)) in chain.inputs.iter().enumerate() {
                if *from == last {
                    let senders = self.channels.take_senders(reader, input, subtask);
                    let mut sampler = None;
                    let partitioner = match exchange {
                        Exchange::Forward => Partitioner::rebalance(1),
                        Exchange::Rebalance => Partitioner::rebalance(chain.parallelism),
                        Exchange::Range { column, splits } => {
                            Partitioner::range(*column, splits.clone(), chain.parallelism)
                        }
                        Exchange::SampledRange { column, .. } => {
                            let number =
                                self.samplers.iter().position(|one| (one.reader, one.input) == (reader, input));
                            sampler = number.and_then(|number| Some((number, self.samplers.get(number)?)));
                            let missing = || StartError::Internal("a sample without a sampler".to_owned());
                            let (_, sampler) = sampler.ok_or_else(missing)?;
                            Partitioner::sampled(*column, sampler.sampler.sender(), chain.parallelism)
                        }
                        Exchange::Addressed => Partitioner::addressed(chain.parallelism),
                        Exchange::Broadcast => Partitioner::broadcast(chain.parallelism),
                        Exchange::Key(columns) => Partitioner::key(columns.clone(), chain.parallelism),
                    };
                    let partitioner = partitioner.map_err(|error| StartError::Internal(error.to_string()))?;
                    edges.push(Edge::new(senders, partitioner).following(sampler.map(|(number, _)| number)));
                }
            }
        }
        Ok(edges)
    }
}
