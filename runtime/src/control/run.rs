//! A pipeline that runs: its tasks, its status, its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinSet;

use super::checkpoints::{CheckpointError, CheckpointStatus, Session, StartFrom};
use super::status::{ComponentVersion, NodeRole, NodeStatus, Status};
use super::swap::SwapError;
use super::versions::Versions;
use crate::clock::{Clock, Stopwatch};
use crate::metrics::NodeCounts;
use crate::pipeline::build::{self, NodeTasks, RunOptions, StartError};
use crate::pipeline::change::{Change, Progress};
use crate::pipeline::cut::{Collected, Cut};
use crate::pipeline::exchange::ExchangeError;
use crate::pipeline::plan::{Node, NodeKind};
use crate::pipeline::resolve::{Components, Resolution};
use crate::pipeline::source_task::Command;
use crate::pipeline::task::TaskError;
use crate::record::BarrierId;
use crate::sink::SinkError;
use crate::wasm::Sandbox;

/// A pipeline stopped before its input ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// a task cannot go on; the first one to fail is named
    #[error(transparent)]
    Task(#[from] TaskError),
    /// the dead-letter output cannot go on
    #[error("the dead-letter output failed: {0}")]
    DeadLetter(String),
    /// checkpoints cannot be taken any more
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// a bug of the host that was caught at the edge of a task
    #[error("a task panicked: {0}; please report it")]
    Panic(String),
    /// whoever reads standard output has gone away
    #[error("standard output is closed")]
    OutputClosed,
}

/// A pipeline could not be started. Nothing has been read; nothing has been written but what an earlier run had left to
/// be committed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// it cannot be opened
    #[error(transparent)]
    Start(#[from] StartError),
    /// it cannot go on from its checkpoints
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// A running pipeline. Dropping it aborts its tasks at once; [`Handle::stop`] and [`Running::wait`] end it cleanly.
#[derive(Debug)]
pub struct Running {
    tasks: JoinSet<Ended>,
    handle: Handle,
}

/// Access to a running pipeline from other tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) resolution: Resolution,
    pub(super) sandbox: Sandbox,
    /// what runs now; held for the length of a swap, so that swaps come one after the other
    pub(super) components: Mutex<Components>,
    /// what ran before
    pub(super) versions: std::sync::Mutex<Versions>,
    pub(super) clock: Clock,
    /// of the last change; 0: none yet
    pub(super) last_pause_ns: AtomicU64,
    /// sources take nothing in
    paused: AtomicBool,
    pub(super) commands: Vec<mpsc::Sender<Command>>,
    pub(super) progress: Arc<Progress>,
    pub(super) nodes: Vec<NodeTasks>,
    /// held while sources are told of a barrier: all of them hear of barriers in one order
    pub(super) barrier_turn: Mutex<()>,
    /// asks the one who takes checkpoints to take the last
    stop: Notify,
    checkpoints: Option<Arc<std::sync::Mutex<CheckpointStatus>>>,
    barriers: AtomicU64,
    started: Stopwatch,
}

#[derive(Debug)]
enum Ended {
    Task(Result<(), TaskError>),
    DeadLetters(Result<(), String>),
    /// `true`: all that matters is in the last checkpoint
    Checkpoints(Result<bool, CheckpointError>),
}

impl Running {
    /// Opens everything and starts all tasks.
    pub async fn start(resolution: Resolution, sandbox: Sandbox, options: &RunOptions) -> Result<Self, OpenError> {
        Self::start_from(resolution, sandbox, options, &StartFrom::Latest).await
    }

    /// As [`Running::start`]; where a pipeline with checkpoints begins is said.
    pub async fn start_from(
        resolution: Resolution,
        sandbox: Sandbox,
        options: &RunOptions,
        start_from: &StartFrom,
    ) -> Result<Self, OpenError> {
        let spec = &resolution.plan.spec;
        let session = match &spec.checkpoint {
            // a cut that is handed in is an experiment with a pipeline, not its life
            Some(checkpoint) if options.restore.is_none() => {
                Some(Session::open(spec, checkpoint, start_from, options.clock.clone()).await?)
            }
            _ => None,
        };
        let restore = session.as_ref().and_then(|session| session.cut.clone()).or_else(|| options.restore.clone());
        let options = RunOptions { restore, ..options.clone() };
        let epochs = session.as_ref().map(|session| &session.epochs);
        let built = build::build(&resolution, &options, epochs).await?;
        let mut tasks = JoinSet::new();
        for task in built.tasks {
            tasks.spawn(async { Ended::Task(task.await) });
        }
        let dead_letters = built.dead_letters;
        tasks.spawn(async { Ended::DeadLetters(dead_letters.await) });
        let shared = Shared {
            components: Mutex::new(resolution.components.clone()),
            versions: std::sync::Mutex::new(Versions::new(&resolution.components, options.clock.now_ms())),
            clock: options.clock.clone(),
            last_pause_ns: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            resolution,
            sandbox,
            commands: built.commands,
            progress: built.progress,
            nodes: built.nodes,
            barrier_turn: Mutex::new(()),
            stop: Notify::new(),
            checkpoints: session.as_ref().map(|session| Arc::clone(&session.status)),
            barriers: AtomicU64::new(0),
            started: Stopwatch::start(),
        };
        let handle = Handle { shared: Arc::new(shared) };
        if let Some(session) = session {
            let handle = handle.clone();
            tasks.spawn(async { Ended::Checkpoints(session.run(handle).await) });
        }
        Ok(Self { tasks, handle })
    }

    /// Access for other tasks: status, swap, stop.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the end of all tasks and says how it went.
    pub async fn wait(mut self) -> Result<Status, RunError> {
        let mut failure: Option<RunError> = None;
        while let Some(ended) = self.tasks.join_next().await {
            let error = match ended {
                Ok(Ended::Task(Ok(())) | Ended::DeadLetters(Ok(()))) => continue,
                Ok(Ended::Checkpoints(Ok(false))) => continue,
                Ok(Ended::Checkpoints(Ok(true))) => {
                    self.tasks.abort_all();
                    continue;
                }
                Ok(Ended::Checkpoints(Err(error))) => RunError::Checkpoint(error),
                Ok(Ended::Task(Err(TaskError::Sink { source: SinkError::Closed { .. }, .. }))) => {
                    RunError::OutputClosed
                }
                Ok(Ended::Task(Err(error))) => RunError::Task(error),
                Ok(Ended::DeadLetters(Err(error))) => RunError::DeadLetter(error),
                Err(error) if error.is_cancelled() => continue,
                Err(error) => RunError::Panic(error.to_string()),
            };
            // A task that fails takes its neighbours' channels with it; the cause is the one worth telling.
            if failure.as_ref().is_none_or(is_consequence) {
                let cause = !is_consequence(&error);
                failure = Some(error);
                if cause {
                    self.tasks.abort_all();
                }
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(self.handle.status()),
        }
    }
}

fn is_consequence(error: &RunError) -> bool {
    matches!(error, RunError::Task(TaskError::Exchange(ExchangeError::Disconnected(_)) | TaskError::DeadLetter(_)))
}

impl Handle {
    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.shared.resolution.plan.spec.name.value
    }

    /// The pipeline as it was checked.
    pub fn resolution(&self) -> &Resolution {
        &self.shared.resolution
    }

    /// Asks all sources to take nothing more in. What is in the pipeline is finished, windows fire, sinks commit.
    ///
    /// A pipeline with checkpoints takes a last one instead, and windows stay open: the next start goes on as if there had
    /// been no stop.
    pub async fn stop(&self) {
        if self.shared.checkpoints.is_some() {
            self.shared.stop.notify_one();
            return;
        }
        for source in &self.shared.commands {
            // a source that has ended already is gone: nothing to stop
            let _ = source.send(Command::Stop).await;
        }
    }

    /// Asks all sources to take nothing in until [`Handle::resume`]: what is in the pipeline goes on to the sinks, and
    /// checkpoints and swaps still happen. Whoever sends to the pipeline waits, or keeps what it has.
    pub async fn pause(&self) {
        self.shared.paused.store(true, Ordering::Release);
        self.tell_sources(|| Command::Pause).await;
    }

    /// Goes on after [`Handle::pause`].
    pub async fn resume(&self) {
        self.shared.paused.store(false, Ordering::Release);
        self.tell_sources(|| Command::Resume).await;
    }

    async fn tell_sources(&self, command: impl Fn() -> Command) {
        // two that come at once must not reach sources in different orders
        let _turn = self.shared.barrier_turn.lock().await;
        for source in &self.shared.commands {
            // a source that has ended already is gone
            let _ = source.send(command()).await;
        }
    }

    /// A number for the next barrier.
    pub(super) fn next_barrier(&self) -> BarrierId {
        BarrierId(self.shared.barriers.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// What all steps hold at one cut, and where sources stand, taken while the pipeline goes on. Steps of tasks that
    /// have ended have none. [`SwapError::Ended`] also where a task failed meanwhile.
    pub async fn snapshot(&self) -> Result<Cut, SwapError> {
        self.collect(Change::with_snapshot()).await?.ok_or(SwapError::Ended)
    }

    /// Sends `change` with a barrier and gathers what tasks put there; none where one of them failed.
    pub(super) async fn collect(&self, change: Change) -> Result<Option<Cut>, SwapError> {
        let change = Arc::new(change);
        let (id, _) = self.send(&change).await?;
        let Some(ended) = self.shared.progress.left_before(id, change.epoch().is_some()) else { return Ok(None) };
        let mut cut = change.snapshot().map(Collected::take).unwrap_or_default();
        cut.add_ended(ended);
        Ok(Some(cut))
    }

    /// Returns once all tasks have ended.
    pub(super) async fn all_ended(&self) {
        self.shared.progress.all_ended().await;
    }

    /// Returns once the run is to stop.
    pub(super) async fn stop_asked(&self) {
        self.shared.stop.notified().await;
    }

    /// What has been done so far.
    pub fn status(&self) -> Status {
        let plan = &self.shared.resolution.plan;
        let run = |(node, _): &(&Node, &NodeTasks)| !matches!(node.kind, NodeKind::Side { .. });
        let nodes = plan.nodes.iter().zip(&self.shared.nodes).filter(run).map(|(node, tasks)| {
            let counts = tasks.counters.iter().map(|task| task.read()).fold(NodeCounts::ZERO, NodeCounts::plus);
            let role = match node.kind {
                NodeKind::Source { .. } => NodeRole::Source,
                NodeKind::Guest { .. }
                | NodeKind::Route { .. }
                | NodeKind::Select { .. }
                | NodeKind::Aggregate { .. }
                | NodeKind::Process { .. }
                | NodeKind::Side { .. } => NodeRole::Step,
                NodeKind::Top { .. } => NodeRole::Step,
                NodeKind::Join { .. } => NodeRole::Step,
                NodeKind::Sink { .. } => NodeRole::Sink,
            };
            NodeStatus {
                name: node.name.clone(),
                role,
                tasks: tasks.counters.len(),
                counts,
                components: components(tasks),
                guest_metrics: super::status::guest_metrics(tasks.guests.iter().map(AsRef::as_ref)),
            }
        });
        Status {
            pipeline: self.name().to_owned(),
            elapsed_ms: u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ended: self.shared.progress.ended(),
            paused: self.shared.paused.load(Ordering::Acquire),
            checkpoints: self
                .shared
                .checkpoints
                .as_ref()
                .map(|checkpoints| checkpoints.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()),
            nodes: nodes.collect(),
        }
    }
}

/// Versions that run in any task of a node.
fn components(tasks: &NodeTasks) -> Vec<ComponentVersion> {
    let mut found: Vec<ComponentVersion> = Vec::new();
    for versions in &tasks.versions {
        let Ok(versions) = versions.lock() else { continue };
        for (slot, digest) in versions.iter().enumerate() {
            let version = digest.as_ref().map(|digest| ComponentVersion { slot, digest: digest.to_string() });
            found.extend(version.filter(|version| !found.contains(version)));
        }
    }
    found.sort_by_key(|version| version.slot);
    found
}
