//! One life of a pipeline: its tasks from their start to their end, its status. Whoever supervises it starts the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::checkpoints::{CheckpointError, CheckpointStatus, Session};
use super::outcome::{Ended, Outcome};
use super::ranges;
use super::status::{ComponentVersion, NodeRole, NodeStatus, RestartStatus, Status};
use super::swap::SwapError;
use super::trial::Trial;
use super::versions::Versions;
use crate::checkpoint::Store;
use crate::clock::{Clock, Stopwatch};
use crate::metrics::NodeCounts;
use crate::pipeline::build::{self, NodeTasks, RunOptions, StartError, TasksSpill};
use crate::pipeline::change::{Change, Progress};
use crate::pipeline::cut::{Collected, Cut};
use crate::pipeline::duration::display_ns;
use crate::pipeline::handover::{Handed, Handover};
use crate::pipeline::plan::{Node, NodeKind};
use crate::pipeline::resolve::{Components, Resolution};
use crate::pipeline::source_task::Command;
use crate::pipeline::task::TaskError;
use crate::pipeline::task_versions::TaskVersion;
use crate::record::BarrierId;
use crate::sink::Transactions;
use crate::wasm::{ExactVersion, Sandbox};

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
    /// it failed, and could not be opened again
    #[error("it cannot be started again: {0}")]
    Reopen(#[source] OpenError),
    /// it failed again and again
    #[error("gave up: restarted {restarts} times within {}, and failed again: {source}; what is committed is kept, the next start goes on from there", within_text(*within))]
    GaveUp {
        /// how often it was restarted in that time
        restarts: usize,
        /// in which time
        within: Duration,
        /// the last failure
        #[source]
        source: Box<RunError>,
    },
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

/// The tasks of one life. Dropping it aborts them at once.
#[derive(Debug)]
pub(super) struct Tasks {
    tasks: JoinSet<Ended>,
    /// all but the one that takes checkpoints: what it has begun it finishes, also after a failure
    rows: Vec<AbortHandle>,
    life: Life,
    transactions: Option<Transactions>,
    outcome: Outcome,
}

/// How a life came to a good end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// its input has ended
    Input,
    /// all that matters is in the last checkpoint
    Checkpoint,
}

/// Access to one life from other tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) resolution: Resolution,
    pub(super) sandbox: Sandbox,
    /// what runs now; held from a swap's barrier to its end
    pub(super) components: Mutex<Components>,
    /// held for the length of a swap, so that swaps come one after the other
    pub(super) swap_turn: Mutex<()>,
    /// what ran before
    pub(super) versions: std::sync::Mutex<Versions>,
    /// where versions are that ran before this process
    pub(super) store: Option<Store>,
    pub(super) clock: Clock,
    /// the candidate that is tried, or was tried last
    pub(super) trial: std::sync::Mutex<Option<Arc<Trial>>>,
    /// of the last change that migrated nothing at its cut; 0: none yet
    pub(super) last_pause_ns: AtomicU64,
    /// what a row of state cost that was migrated at the cut of the last change that did: ns, as the bits of a float; 0: none did
    pub(super) migrated_row_ns: AtomicU64,
    /// sources take nothing in
    paused: AtomicBool,
    /// another life is to follow, without a failure: the last barrier is on its way
    changing: AtomicBool,
    /// steps whose state the life that follows does not go on with
    given_up: std::sync::Mutex<BTreeSet<String>>,
    /// where tasks leave what stays open behind the last barrier
    last: Arc<Handover>,
    pub(super) commands: Vec<mpsc::Sender<Command>>,
    pub(super) progress: Arc<Progress>,
    pub(super) nodes: Vec<NodeTasks>,
    /// where state goes that does not fit into memory
    pub(super) spill: Option<TasksSpill>,
    /// held while sources are told of a barrier: all of them hear of barriers in one order
    pub(super) barrier_turn: Mutex<()>,
    /// asks the one who takes checkpoints to take the last
    stop: Notify,
    checkpoints: Option<Arc<std::sync::Mutex<CheckpointStatus>>>,
    /// set once a task has failed: whoever takes checkpoints waits for nothing any more
    failed: Option<Arc<watch::Sender<bool>>>,
    barriers: AtomicU64,
    started: Stopwatch,
}

impl Tasks {
    /// Opens everything and starts all tasks. `handed`: what an earlier life of this process has left open; `before`: the
    /// versions that it ran, for a pipeline without checkpoints.
    pub(super) async fn start(
        mut resolution: Resolution,
        sandbox: Sandbox,
        options: &RunOptions,
        mut session: Option<Session>,
        (handed, before): (Option<&Handed>, Option<Versions>),
    ) -> Result<Self, OpenError> {
        let versions = session.as_mut().and_then(|session| session.versions.take());
        let now_ms = options.clock.now_ms();
        let versions = versions.or_else(|| before.map(|before| before.reshaped(&resolution.components, now_ms)));
        let versions = versions.unwrap_or_else(|| Versions::new(&resolution.components, now_ms));
        versions.number_running(&mut resolution.components);
        // not held on to: what it has in memory is as much again as the state itself
        let restore = session.as_mut().and_then(|session| session.cut.take()).or_else(|| options.restore.clone());
        let options = RunOptions { restore, ..options.clone() };
        let epochs = session.as_ref().map(|session| &session.epochs);
        let built = build::build(&resolution, &options, epochs, handed).await?;
        drop(tokio::task::spawn_blocking(move || drop(options.restore)));
        if let Some(session) = &session {
            session.tidy(&resolution.plan.spec).await;
        }
        let transactions = epochs.and_then(|epochs| epochs.transactions.clone());
        let mut tasks = JoinSet::new();
        let mut rows = Vec::with_capacity(built.tasks.len() + 1);
        for task in built.tasks {
            rows.push(tasks.spawn(async { Ended::Task(task.await) }));
        }
        let dead_letters = built.dead_letters;
        rows.push(tasks.spawn(async { Ended::DeadLetters(dead_letters.await) }));
        let samplers = built.samplers;
        let shared = Shared {
            components: Mutex::new(resolution.components.clone()),
            swap_turn: Mutex::new(()),
            versions: std::sync::Mutex::new(versions),
            store: session.as_ref().map(Session::store),
            clock: options.clock.clone(),
            trial: std::sync::Mutex::new(None),
            last_pause_ns: AtomicU64::new(0),
            migrated_row_ns: AtomicU64::new(0),
            paused: AtomicBool::new(options.paused),
            changing: AtomicBool::new(false),
            given_up: std::sync::Mutex::default(),
            last: Arc::default(),
            resolution,
            sandbox,
            commands: built.commands,
            progress: built.progress,
            nodes: built.nodes,
            spill: built.spill,
            barrier_turn: Mutex::new(()),
            stop: Notify::new(),
            checkpoints: session.as_ref().map(|session| Arc::clone(&session.status)),
            failed: session.as_ref().map(|session| Arc::clone(&session.failed)),
            barriers: AtomicU64::new(0),
            started: Stopwatch::start(),
        };
        let life = Life { shared: Arc::new(shared) };
        if !samplers.is_empty() {
            let life = life.clone();
            rows.push(tasks.spawn(async {
                ranges::keep_even(life, samplers).await;
                Ended::Ranges
            }));
        }
        if let Some(session) = session {
            let life = life.clone();
            tasks.spawn(async { Ended::Checkpoints(session.run(life).await) });
        }
        Ok(Self { tasks, rows, life, transactions, outcome: Outcome::default() })
    }

    /// Access for other tasks: status, swap, stop.
    pub(super) fn life(&self) -> Life {
        self.life.clone()
    }

    /// Waits for the end of all tasks. A checkpoint in the making is finished, well or not, before. Can be dropped and called
    /// again.
    pub(super) async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if self.outcome.take(ended) {
                self.fail();
            }
        }
    }

    /// How it went, once [all tasks have ended](Tasks::ended).
    pub(super) async fn outcome(mut self) -> Result<Ending, RunError> {
        self.ended().await;
        let ending = if self.outcome.is_stopped() { Ending::Checkpoint } else { Ending::Input };
        let failure = self.outcome.failure();
        if let (Some(_), Some(transactions)) = (&failure, &self.transactions) {
            // readers of what others write to the same topics would wait for its end
            transactions.abort().await;
        }
        failure.map_or(Ok(ending), Err)
    }

    fn fail(&self) {
        self.rows.iter().for_each(AbortHandle::abort);
        if let Some(failed) = &self.life.shared.failed {
            failed.send_replace(true);
        }
    }
}

fn within_text(within: Duration) -> String {
    display_ns(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX))
}

impl Life {
    /// The pipeline's name.
    pub(super) fn name(&self) -> &str {
        &self.shared.resolution.plan.spec.name.value
    }

    /// Asks all sources to take nothing more in. What is in the pipeline is finished, windows fire, sinks commit.
    ///
    /// A pipeline with checkpoints takes a last one instead, and windows stay open: the next start goes on as if there had
    /// been no stop.
    pub(super) async fn stop(&self) {
        if self.shared.checkpoints.is_some() {
            self.shared.stop.notify_one();
            return;
        }
        for source in &self.shared.commands {
            // a source that has ended already is gone: nothing to stop
            let _ = source.send(Command::Stop).await;
        }
    }

    /// Asks all sources to take nothing in until [`Life::resume`]: what is in the pipeline goes on to the sinks, and
    /// checkpoints and swaps still happen. Whoever sends to the pipeline waits, or keeps what it has.
    pub(super) async fn pause(&self) {
        self.shared.paused.store(true, Ordering::Release);
        self.tell_sources(|| Command::Pause).await;
    }

    /// Goes on after [`Life::pause`].
    pub(super) async fn resume(&self) {
        self.shared.paused.store(false, Ordering::Release);
        self.tell_sources(|| Command::Resume).await;
    }

    /// Whether sources have been told to take nothing in.
    pub(super) fn is_paused(&self) -> bool {
        self.shared.paused.load(Ordering::Acquire)
    }

    async fn tell_sources(&self, command: impl Fn() -> Command) {
        // two that come at once must not reach sources in different orders
        let _turn = self.shared.barrier_turn.lock().await;
        for source in &self.shared.commands {
            // a source that has ended already is gone
            let _ = source.send(command()).await;
        }
    }

    /// Steps whose state the life that follows does not go on with.
    pub(super) fn given_up(&self) -> Vec<String> {
        self.shared.given_up.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Ends the life at a barrier for another that follows, with a checkpoint where there are any. What it holds there, where it
    /// has none; `Err` where its input has ended before.
    pub(super) async fn end_for_another(&self, given_up: &BTreeSet<String>) -> Result<Option<Cut>, SwapError> {
        self.shared.given_up.lock().unwrap_or_else(PoisonError::into_inner).extend(given_up.iter().cloned());
        self.shared.changing.store(true, Ordering::Release);
        if self.shared.checkpoints.is_some() {
            // whoever takes checkpoints takes the last one
            self.shared.stop.notify_one();
            return Ok(None);
        }
        self.collect(Change::with_snapshot().and_last(Arc::clone(&self.shared.last))).await
    }

    /// Where tasks leave what stays open, if the next barrier that ends an epoch is the last.
    pub(super) fn last(&self) -> Option<&Arc<Handover>> {
        self.shared.changing.load(Ordering::Acquire).then_some(&self.shared.last)
    }

    /// What tasks have left behind their last barrier.
    pub(super) fn handover(&self) -> Arc<Handover> {
        Arc::clone(&self.shared.last)
    }

    /// A number for the next barrier.
    pub(super) fn next_barrier(&self) -> BarrierId {
        BarrierId(self.shared.barriers.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// What all steps hold at one cut, and where sources stand, taken while the pipeline goes on. Steps of tasks that
    /// have ended have none where there are no checkpoints. [`SwapError::Ended`] also where a task failed meanwhile.
    pub(super) async fn snapshot(&self) -> Result<Cut, SwapError> {
        self.collect(Change::with_snapshot()).await?.ok_or(SwapError::Ended)
    }

    /// Sends `change` with a barrier and gathers what tasks put there; none where one of them failed.
    pub(super) async fn collect(&self, change: Change) -> Result<Option<Cut>, SwapError> {
        let change = Arc::new(change);
        let id = self.announce(&change).await?;
        Ok(self.gather(&change, id).await)
    }

    /// What tasks put there at a barrier that has been sent; none where one of them failed.
    pub(super) async fn gather(&self, change: &Change, id: BarrierId) -> Option<Cut> {
        self.shared.progress.passed(id).await;
        let ended = self.shared.progress.left_before(id, change.epoch().is_some())?;
        let mut cut = change.snapshot().map(Collected::take).unwrap_or_default();
        cut.add_ended(ended);
        Some(cut)
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Whether a task has ended by a failure.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.progress.any_failed()
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
    pub(super) fn status(&self) -> Status {
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
                components: versions_of(tasks),
                guest_metrics: super::status::guest_metrics(tasks.guests.iter().map(AsRef::as_ref)),
            }
        });
        Status {
            pipeline: self.name().to_owned(),
            restarts: RestartStatus::default(),
            generation: 0,
            elapsed_ms: u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            ended: self.shared.progress.ended() && self.last().is_none(),
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

/// Versions that run in any task of a node, by slot and number.
fn versions_of(node: &NodeTasks) -> Vec<ComponentVersion> {
    let mut found: BTreeMap<(usize, ExactVersion), ComponentVersion> = BTreeMap::new();
    for (task, (versions, counters)) in node.versions.iter().zip(&node.counters).enumerate() {
        for (slot, TaskVersion { version, before }) in versions.all() {
            let of = found.entry((slot, version)).or_insert_with(|| ComponentVersion {
                slot,
                version: version.number,
                digest: version.digest.to_string(),
                tasks: Vec::new(),
                counts: NodeCounts::ZERO,
            });
            of.tasks.push(task);
            of.counts = of.counts.plus(counters.read().since(before));
        }
    }
    found.into_values().collect()
}
