//! Checkpoints of a running pipeline: when they are taken, how they are written, and what a start goes on from.
//!
//! ```text
//!   every interval ─▶ barrier through all tasks ─▶ state files, manifest ─▶ sinks show the epoch ─▶ old ones go
//!                     (rows go on behind it)       (off the tasks; tried again until the store takes it)
//! ```
//!
//! One at a time. What a sink shows belongs to a checkpoint that is whole on the disk, so a process that dies at any moment
//! leaves either an epoch that never happened or one that the next start finishes.

mod chosen;
mod writing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chosen::{Chosen, commit_all, finish_newest, outputs};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use writing::AsOf;

use super::judge::Refusal;
use super::kept::{self, Runs};
use super::kinds;
use super::run::Life;
use super::swap::SwapError;
use super::transactions;
use super::versions::Versions;
use crate::checkpoint::{KeyError, Keys, Lease, Loaded, SlotVersions, Store, StoreError, fail_point};
use crate::clock::{Clock, Stopwatch};
use crate::objects::LocationError;
use crate::pipeline::build::Epochs;
use crate::pipeline::change::Change;
use crate::pipeline::cut::{Cut, TaskState};
use crate::pipeline::handover::Handover;
use crate::pipeline::resolve::Resolution;
use crate::pipeline::spec::{CheckpointSpec, KeySource, PipelineSpec};
use crate::record::BarrierId;
use crate::sink::{self, SinkError, Transactions};
use crate::wasm::Sandbox;

/// Where a run with checkpoints begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StartFrom {
    /// the newest checkpoint; the start of the input if there is none
    #[default]
    Latest,
    /// this savepoint
    Savepoint(String),
    /// the checkpoint of this epoch
    Checkpoint(u64),
    /// the start of the input, whatever there is
    Fresh,
}

/// A checkpointed pipeline cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// the store
    #[error(transparent)]
    Store(#[from] StoreError),
    /// `store` names no place
    #[error("the checkpoint store: {0}")]
    Location(#[from] LocationError),
    /// the keys that checkpoints are encrypted with
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// an output
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// rows would be lost or shown twice
    #[error("{reason}; bring back what is missing, or start anew beside the old output with --fresh")]
    Refused {
        /// why
        reason: String,
    },
    /// it cannot be told which epochs have happened
    #[error("it cannot be told which epochs have happened: {reason}")]
    Undecidable {
        /// why
        reason: String,
    },
    /// a component that was swapped in cannot run
    #[error(
        "checkpoint {epoch} goes on with version {number} of step `{step}`, which cannot run: {reason}; `--components declared` runs what the pipeline file names"
    )]
    Version {
        /// which checkpoint
        epoch: u64,
        /// the step
        step: String,
        /// its version
        number: u64,
        /// why
        reason: String,
    },
    /// state of a version whose successor does not know it
    #[error(
        "checkpoint {epoch} holds state that the component of step `{step}` does not take over: {refusal}; give the step the component back that it ran, or one that migrates, or start anew with --fresh{}",
        refusal.stub.as_ref().map(|stub| format!("\n\nit would migrate with\n\n{stub}")).unwrap_or_default()
    )]
    State {
        /// which checkpoint
        epoch: u64,
        /// the step
        step: String,
        /// the first difference
        refusal: Box<Refusal>,
    },
    /// a step that had state is of another kind
    #[error(
        "checkpoint {epoch} holds state of step `{step}` as {from}, and {to} cannot read it; make the step what it was, or start anew with --fresh (a running pipeline changes it with `apply --approve {step}`)"
    )]
    Kind {
        /// which checkpoint
        epoch: u64,
        /// the step
        step: String,
        /// what it was
        from: String,
        /// what it is
        to: String,
    },
    /// a step that had state is gone
    #[error(
        "checkpoint {epoch} holds state of step `{step}`, which the pipeline does not have; there are {known}; give the step its name back, or start anew with --fresh"
    )]
    StepGone {
        /// which checkpoint
        epoch: u64,
        /// the step
        step: String,
        /// the steps there are
        known: String,
    },
}

/// What a run has restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// the checkpoint's epoch
    pub epoch: u64,
    /// the savepoint's name, if it was one
    pub savepoint: Option<String>,
    /// when it was written, ms since 1970
    pub written_ms: i64,
    /// all input had been read already
    pub finished: bool,
    /// what is worth telling: checkpoints that could not be read, sources that begin anew
    pub notes: Vec<String>,
}

/// Checkpoints of a run, as its status tells them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckpointStatus {
    /// the last epoch that is committed
    pub epoch: Option<u64>,
    /// how many this run has made
    pub made: u64,
    /// bytes of the last one
    pub bytes: u64,
    /// from the barrier to the commit of the last one, ms
    pub took_ms: u64,
    /// why the current one cannot be finished; it is tried again
    pub failing: Option<String>,
    /// what the run began with
    pub restored: Option<Restored>,
}

/// The store that a pipeline names, with its keys; nothing is written but a local folder.
pub fn open_store(spec: &PipelineSpec, checkpoint: &CheckpointSpec) -> Result<Store, CheckpointError> {
    let location = checkpoint.location(&spec.base)?;
    let keys = match &checkpoint.encrypt {
        None => None,
        Some(KeySource::File(path)) => Some(Keys::from_file(&spec.base.join(path))?),
        Some(KeySource::Variable(name)) => Some(Keys::from_variable(name)?),
    };
    Ok(Store::open(&location, &spec.name.value, keys)?)
}

/// Checkpoints of a run in the making.
#[derive(Debug)]
pub(super) struct Session {
    store: Store,
    /// held as long as the run
    lease: Lease,
    spec: CheckpointSpec,
    base: PathBuf,
    clock: Clock,
    pub(super) epochs: Epochs,
    pub(super) cut: Option<Arc<Cut>>,
    pub(super) status: Arc<Mutex<CheckpointStatus>>,
    /// set once a task has failed: nothing is tried again then
    pub(super) failed: Arc<watch::Sender<bool>>,
    /// which components the checkpoint that is gone on from knows
    known: Vec<SlotVersions>,
    /// what the state in it is
    noted: kinds::Noted,
    /// which components have run
    pub(super) versions: Option<Versions>,
    /// the first checkpoint is taken at once, not after an interval
    pub(super) at_once: bool,
}

impl Session {
    /// Takes the store, chooses what to go on from and finishes what an earlier process had begun to commit. State of steps
    /// that are `dropped` is not gone on from.
    pub(super) async fn open(
        spec: &PipelineSpec,
        checkpoint: &CheckpointSpec,
        from: &StartFrom,
        clock: Clock,
        dropped: &BTreeSet<String>,
    ) -> Result<Self, CheckpointError> {
        let store = open_store(spec, checkpoint)?;
        let attempt = attempt();
        let lease = store.lease(&format!("process {}, attempt {attempt}", std::process::id())).await?;
        let transactions = match transactions::of(spec, checkpoint) {
            Some(of_pipeline) => Some(Transactions::open(of_pipeline).await?),
            None => None,
        };
        let decided = match &transactions {
            Some(opened) => Some(transactions::decided(opened, &store, checkpoint.transaction_timeout.value).await?),
            None => None,
        };
        if *from != StartFrom::Latest {
            finish_newest(&store, spec, decided.as_ref(), *from == StartFrom::Fresh).await?;
        }
        let mut chosen = Chosen::new((spec, dropped), &store, from, decided.as_ref()).await?;
        if let Some((loaded, restored)) = &chosen.loaded
            && !loaded.committed
            && restored.savepoint.is_none()
        {
            commit_all(&loaded.manifest, spec).await?;
            fail_point("restored");
            store.mark_committed(loaded.manifest.epoch).await?;
        }
        if let Some(transactions) = &transactions {
            if !chosen.by_marker {
                chosen.begin(spec, &store, transactions, &attempt, clock.now_ms()).await?;
            }
            transactions.begin(chosen.next)?;
        }
        for source in spec.sources.iter().filter(|source| !crate::source::is_rewindable(&source.kind.value)) {
            let source = &source.name.value;
            tracing::warn!(
                source,
                "cannot be read again: rows that come after the last checkpoint are lost at a restart"
            );
        }
        let sinks = spec.sinks.iter().map(|sink| (&sink.name.value, &sink.kind.value));
        for (sink, _) in sinks.filter(|(_, kind)| !sink::is_exactly_once(kind)) {
            tracing::warn!(sink, "shows rows at once: those after the last checkpoint come again at a restart");
        }
        let mut noted = kinds::Noted::default();
        let (cut, restored, known) = match chosen.loaded {
            Some((mut loaded, restored)) => {
                let known = std::mem::take(&mut loaded.manifest.versions);
                noted = kinds::Noted::from(&loaded.manifest);
                let mut cut = Cut { kept_by: kept::states(&known), ..cut_of(loaded) };
                cut.steps.retain(|step, _| !dropped.contains(step));
                (Some(Arc::new(cut)), Some(restored), known)
            }
            None => (None, None, Vec::new()),
        };
        let status = CheckpointStatus { epoch: restored.as_ref().map(|r| r.epoch), restored, ..Default::default() };
        Ok(Self {
            store,
            lease,
            spec: checkpoint.clone(),
            base: spec.base.clone(),
            clock,
            epochs: Epochs { attempt, next: chosen.next, transactions },
            cut,
            status: Arc::new(Mutex::new(status)),
            failed: Arc::new(watch::Sender::new(false)),
            known,
            noted,
            versions: None,
            at_once: false,
        })
    }

    /// Removes what dead processes have left of epochs that never became whole. Only once the pipeline is sure to start:
    /// a start that is refused leaves everything as it was.
    pub(super) async fn tidy(&self, spec: &PipelineSpec) {
        let (spec, attempt) = (spec.clone(), self.epochs.attempt.clone());
        let tidied = tokio::task::spawn_blocking(move || {
            for (name, kind) in outputs(&spec) {
                if let Err(error) = sink::remove_stale(name, kind, &spec.base, &attempt) {
                    tracing::warn!(sink = name, %error, "cannot tidy up after an earlier process");
                }
            }
        });
        if let Err(error) = tidied.await {
            tracing::warn!(%error, "cannot tidy up after an earlier process");
        }
    }

    /// The pipeline with the components that are to run, and takes note of their versions.
    pub(super) async fn go_on(
        &mut self,
        resolution: Resolution,
        sandbox: &Sandbox,
        (choice, before): (Runs, Option<&Versions>),
    ) -> Result<Resolution, CheckpointError> {
        let Some(epoch) = self.restored_epoch() else { return Ok(resolution) };
        let from = kept::From { store: &self.store, epoch, known: &self.known };
        let mut gone_on = kept::go_on(resolution, sandbox, from, (choice, before), self.clock.now_ms()).await?;
        if let Some(cut) = &mut self.cut {
            let Resolution { plan, components } = &gone_on.resolution;
            let settled = self.noted.settle(epoch, &kinds::of(plan, components), plan, Arc::make_mut(cut))?;
            kept::check_states(epoch, cut, components)?;
            gone_on.notes.extend(settled);
        }
        self.versions = Some(gone_on.versions);
        self.tell(|status| {
            status.restored.iter_mut().for_each(|restored| restored.notes.extend_from_slice(&gone_on.notes))
        });
        Ok(gone_on.resolution)
    }

    /// Where versions lie that a rollback may need.
    pub(super) fn store(&self) -> Store {
        self.store.clone()
    }

    /// The epoch that is gone on from.
    pub(super) fn restored_epoch(&self) -> Option<u64> {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.restored.as_ref().map(|restored| restored.epoch)
    }

    /// Takes checkpoints until the run has ended or is to stop. `true`: it is to stop, and the last checkpoint holds all.
    pub(super) async fn run(mut self, handle: Life) -> Result<bool, CheckpointError> {
        let every = self.spec.interval.value;
        let first = if self.at_once { Duration::ZERO } else { every };
        let mut ticks = interval_at(Instant::now() + first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let stopping = tokio::select! {
                biased;
                () = handle.all_ended() => {
                    // whoever failed tells why
                    let cut = handle.shared.progress.left_before(BarrierId(u64::MAX), true);
                    let Some(cut) = cut else { return Ok(false) };
                    let cut = (cut, handle.as_of().await);
                    self.keep(&handle, cut, (true, true), Stopwatch::start()).await?;
                    return Ok(false);
                }
                () = handle.stop_asked() => true,
                _ = ticks.tick() => false,
            };
            let watch = Stopwatch::start();
            let last = handle.last().filter(|_| stopping).cloned();
            match handle.cut(self.epochs.next, last).await {
                Ok(Some(cut)) => self.keep(&handle, cut, (false, stopping), watch).await?,
                Ok(None) => return Ok(false),
                // the input has ended: so will the tasks
                Err(_) => {
                    handle.all_ended().await;
                    continue;
                }
            }
            if stopping {
                return Ok(true);
            }
        }
    }

    fn tell(&self, change: impl FnOnce(&mut CheckpointStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a pipeline goes on from: the state of its steps and where its sources stood.
pub fn cut_of(loaded: Loaded) -> Cut {
    let mut cut = Cut::default();
    for entry in loaded.manifest.sources {
        // which task had read a partition does not matter any more
        cut.sources.insert(entry.source, BTreeMap::from([(0, entry.positions)]));
    }
    let mut states = loaded.states;
    for entry in loaded.manifest.steps {
        let tasks = cut.steps.entry(entry.step.clone()).or_default();
        for task in entry.tasks {
            let state = states.remove(&(entry.step.clone(), task.subtask)).unwrap_or_default();
            tasks.insert(task.subtask, TaskState { watermark: task.watermark(), state });
        }
    }
    cut
}

/// Tells this process's files from those of all others: random, from the standard library's hash seeds.
fn attempt() -> String {
    use std::hash::{BuildHasher, Hasher};
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{random:016x}")
}

impl Life {
    /// The cut at which epoch `epoch` ends, and what ran there; where it is the `last` of this life all tasks end behind it.
    /// None where a task has failed.
    async fn cut(&self, epoch: u64, last: Option<Arc<Handover>>) -> Result<Option<(Cut, AsOf)>, SwapError> {
        // no swap comes between: whatever changes later is behind this barrier
        let components = self.shared.components.lock().await;
        let as_of = AsOf { components: components.clone(), versions: self.versions().clone() };
        let change = Change::with_checkpoint(epoch);
        let change = Arc::new(match last {
            Some(last) => change.and_last(last),
            None => change,
        });
        let id = self.announce(&change).await?;
        drop(components);
        Ok(self.gather(&change, id).await.map(|cut| (cut, as_of)))
    }

    async fn as_of(&self) -> AsOf {
        let components = self.shared.components.lock().await;
        AsOf { components: components.clone(), versions: self.versions().clone() }
    }
}
