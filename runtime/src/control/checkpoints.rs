//! Checkpoints of a running pipeline: when they are taken, how they are written, and what a start goes on from.
//!
//! ```text
//!   every interval ─▶ barrier through all tasks ─▶ state files, manifest ─▶ sinks show the epoch ─▶ old ones go
//!                     (rows go on behind it)       (off the tasks; tried again until the store takes it)
//! ```
//!
//! One at a time. What a sink shows belongs to a checkpoint that is whole on the disk, so a process that dies at any moment
//! leaves either an epoch that never happened or one that the next start finishes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::judge::Refusal;
use super::kept::{self, Runs};
use super::kinds;
use super::run::Life;
use super::swap::SwapError;
use super::transactions::{self, Decided};
use super::versions::Versions;
use crate::checkpoint::{
    Action, Choice, Component, Draft, KeyError, Keys, Lease, Loaded, Manifest, PreparedEntry, SlotVersions,
    SourceEntry, StepEntry, Store, StoreError, TaskEntry, choose, fail_point, next_epoch,
};
use crate::clock::{Clock, Stopwatch};
use crate::objects::LocationError;
use crate::pipeline::build::Epochs;
use crate::pipeline::change::Change;
use crate::pipeline::cut::{Cut, TaskState};
use crate::pipeline::handover::Handover;
use crate::pipeline::resolve::{Components, Resolution};
use crate::pipeline::spec::{CheckpointSpec, KeySource, PipelineSpec};
use crate::record::BarrierId;
use crate::sink::{self, Prepared, SinkError, SinkKind, Transactions};
use crate::wasm::Sandbox;

/// Between two tries after the store or a sink has failed.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

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
        choice: Runs,
    ) -> Result<Resolution, CheckpointError> {
        let Some(epoch) = self.restored_epoch() else { return Ok(resolution) };
        let from = kept::From { store: &self.store, epoch, known: &self.known };
        let mut gone_on = kept::go_on(resolution, sandbox, from, (choice, self.clock.now_ms())).await?;
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

    /// Makes a cut a checkpoint and its epoch visible. `finished`: the input has ended; `last`: no epoch follows.
    async fn keep(
        &mut self,
        handle: &Life,
        (cut, as_of): (Cut, AsOf),
        (finished, last): (bool, bool),
        watch: Stopwatch,
    ) -> Result<(), CheckpointError> {
        let epoch = self.epochs.next;
        let draft = self.draft(handle, as_of, cut, finished);
        let prepared = draft.manifest.prepared.clone();
        fail_point("cut");
        let bytes = self.decide(draft, last).await?;
        fail_point("before-commit");
        let mut action = Action::Write.next(prepared.len());
        while let Some(now) = action {
            self.act(now, epoch, &prepared).await?;
            action = now.next(prepared.len());
        }
        self.epochs.next = epoch.saturating_add(1);
        let took_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(|status| {
            status.epoch = Some(epoch);
            status.made += 1;
            (status.bytes, status.took_ms, status.failing) = (bytes, took_ms, None);
        });
        tracing::debug!(epoch, bytes, took_ms, "checkpoint");
        Ok(())
    }

    /// Makes the epoch happen: its checkpoint is whole and, where sinks write in transactions, its transaction committed.
    async fn decide(&self, draft: Draft, last: bool) -> Result<u64, CheckpointError> {
        let Some(transactions) = &self.epochs.transactions else { return self.write(draft).await };
        let epoch = draft.manifest.epoch;
        let sealed = transactions::seal(transactions, epoch, &self.epochs.attempt);
        let done = tokio::try_join!(self.write(draft), sealed);
        let done = match done {
            Ok((bytes, ())) => transactions::commit(transactions, epoch).await.map(|()| bytes),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // or readers would wait until the broker does it
            transactions.abort().await;
        } else if !last {
            transactions.begin(epoch.saturating_add(1))?;
        }
        done
    }

    fn draft(&self, handle: &Life, as_of: AsOf, cut: Cut, finished: bool) -> Draft {
        let mut kept = kinds::of(&handle.shared.resolution.plan, &as_of.components);
        let sources = cut.sources.into_iter().map(|(source, tasks)| {
            let positions = tasks.into_values().flatten().collect();
            SourceEntry { source, positions }
        });
        let mut steps = Vec::with_capacity(cut.steps.len());
        let mut states = BTreeMap::new();
        for (step, tasks) in cut.steps {
            let of_step = as_of.components.iter().filter(|(slot, _)| slot.step == step);
            let components = of_step
                .map(|(slot, resolved)| Component { slot: slot.slot, digest: resolved.component.digest().to_string() });
            let mut entry =
                StepEntry { components: components.collect(), kept: kept.remove(&step), step, tasks: Vec::with_capacity(tasks.len()) };
            entry.components.sort_by_key(|component| component.slot);
            for (subtask, task) in tasks {
                entry.tasks.push(TaskEntry { subtask, watermark_ms: task.watermark.0, state: Vec::new() });
                states.insert((entry.step.clone(), subtask), task.state);
            }
            steps.push(entry);
        }
        let prepared = cut.prepared.into_iter().flat_map(|(sink, all)| {
            all.into_iter().map(move |one| PreparedEntry { sink: sink.clone(), shown: one.shown, bytes: one.bytes })
        });
        let (versions, files) = as_of.versions.entries();
        let manifest = Manifest {
            pipeline: handle.name().to_owned(),
            epoch: self.epochs.next,
            attempt: self.epochs.attempt.clone(),
            written_ms: self.clock.now_ms(),
            finished,
            sources: sources.collect(),
            steps,
            prepared: prepared.collect(),
            transactional_id: self.epochs.transactions.as_ref().map(|of| of.transactional_id().to_owned()),
            versions,
            given_up: handle.given_up(),
        };
        Draft { manifest, states, components: files }
    }

    /// Tries until the store has it: nothing is dropped, the pipeline goes on, its rows wait to be shown.
    async fn write(&self, draft: Draft) -> Result<u64, CheckpointError> {
        let mut pause = RETRY_FIRST;
        loop {
            let written = match self.lease.check().await {
                Ok(()) => self.store.write(draft.clone()).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(bytes) => {
                    // frozen copies of large state take milliseconds to go
                    drop(tokio::task::spawn_blocking(move || drop(draft)));
                    return Ok(bytes);
                }
                Err(error) if error.is_passing() => self.wait(&mut pause, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What follows once the manifest is there.
    async fn act(&self, action: Action, epoch: u64, prepared: &[PreparedEntry]) -> Result<(), CheckpointError> {
        let tidied = match action {
            Action::Write => return Ok(()),
            Action::Show(part) => {
                let Some(entry) = prepared.get(part) else { return Ok(()) };
                self.show(entry).await?;
                fail_point("between-commits");
                return Ok(());
            }
            Action::Note => {
                fail_point("after-commit");
                self.store.mark_committed(epoch).await
            }
            Action::Tidy => self.store.retain(self.spec.retain.value, epoch).await,
        };
        if let Err(error) = tidied {
            // the next start shows it again, which changes nothing; the next checkpoint clears away
            tracing::warn!(epoch, %error, "cannot tidy up after a checkpoint");
        }
        Ok(())
    }

    async fn show(&self, entry: &PreparedEntry) -> Result<(), CheckpointError> {
        let prepared = Prepared { shown: entry.shown.clone(), bytes: entry.bytes.clone() };
        let mut pause = RETRY_FIRST;
        loop {
            match sink::commit(&entry.sink, &self.base, &prepared).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_passing() => self.wait(&mut pause, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits before the next try. Where a task has failed meanwhile there is none: the next start finishes the checkpoint.
    async fn wait(&self, pause: &mut Duration, error: impl Into<CheckpointError>) -> Result<(), CheckpointError> {
        let error = error.into();
        let reason = error.to_string();
        tracing::warn!(epoch = self.epochs.next, reason, "a checkpoint cannot be finished; trying again");
        self.tell(|status| status.failing = Some(reason));
        let mut failed = self.failed.subscribe();
        let over = tokio::time::timeout(*pause, failed.wait_for(|failed| *failed)).await.is_ok();
        *pause = (*pause * 2).min(RETRY_MAX);
        if over { Err(error) } else { Ok(()) }
    }

    fn tell(&self, change: impl FnOnce(&mut CheckpointStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What a start goes on from.
struct Chosen {
    loaded: Option<(Loaded, Restored)>,
    next: u64,
    /// a broker has decided for it
    by_marker: bool,
}

impl Chosen {
    async fn new(
        (spec, dropped): (&PipelineSpec, &BTreeSet<String>),
        store: &Store,
        from: &StartFrom,
        decided: Option<&Decided>,
    ) -> Result<Self, CheckpointError> {
        let shown = shown(spec).await?;
        let mut by_marker = false;
        let marked = decided.and_then(|decided| decided.marker.as_ref()).map(|marker| marker.epoch);
        let seen = marked.max(shown.as_ref().map(|(epoch, _)| *epoch));
        let next = next_epoch(store.newest_epoch().await?, seen);
        let mut notes = Vec::new();
        let (loaded, savepoint) = match from {
            StartFrom::Fresh => return Ok(Self { loaded: None, next, by_marker }),
            StartFrom::Savepoint(_) | StartFrom::Checkpoint(_) => {
                let (loaded, name) = match from {
                    StartFrom::Savepoint(name) => (store.load_savepoint(name).await?, Some(name.clone())),
                    StartFrom::Checkpoint(epoch) => (store.load(*epoch).await?, None),
                    StartFrom::Latest | StartFrom::Fresh => return Ok(Self { loaded: None, next, by_marker }),
                };
                let epoch = loaded.manifest.epoch;
                if loaded.manifest.transactional_id.is_some() && decided.is_some() && marked < Some(epoch) {
                    let reason =
                        format!("the transaction of epoch {epoch} was never committed: its rows would be missing");
                    return Err(CheckpointError::Refused { reason });
                }
                if let Some((shown, sink)) = shown.filter(|(shown, _)| *shown > epoch) {
                    notes.push(format!("sink `{sink}` shows rows up to epoch {shown}: those after {epoch} come again"));
                }
                (loaded, name)
            }
            StartFrom::Latest => {
                let shown = shown.as_ref().map(|(epoch, sink)| (*epoch, sink.as_str()));
                let named = match decided {
                    Some(decided) => transactions::chosen(store, decided, shown).await?,
                    None => None,
                };
                by_marker = named.is_some();
                if let Some(loaded) = named {
                    return Self::go_on((spec, dropped), (loaded, None), next, by_marker, notes);
                }
                let candidates = store.candidates().await?;
                match choose(&candidates.all, shown) {
                    Choice::Begin => return Ok(Self { loaded: None, next, by_marker }),
                    Choice::Refuse { reason } => return Err(CheckpointError::Refused { reason }),
                    Choice::GoOn { passed_over, .. } => {
                        let over = passed_over.iter();
                        notes.extend(over.map(|(over, why)| format!("checkpoint {over} is passed over: {why}")));
                        // the choice is the one that is whole
                        let Some(whole) = candidates.whole else {
                            return Ok(Self { loaded: None, next, by_marker });
                        };
                        (whole, None)
                    }
                }
            }
        };
        Self::go_on((spec, dropped), (loaded, savepoint), next, by_marker, notes)
    }

    fn go_on(
        (spec, dropped): (&PipelineSpec, &BTreeSet<String>),
        (loaded, savepoint): (Loaded, Option<String>),
        next: u64,
        by_marker: bool,
        mut notes: Vec<String>,
    ) -> Result<Self, CheckpointError> {
        let manifest = &loaded.manifest;
        known_steps(spec, &loaded, dropped)?;
        notes.extend(new_and_gone_sources(spec, manifest));
        let restored = Restored {
            epoch: manifest.epoch,
            savepoint,
            written_ms: manifest.written_ms,
            finished: manifest.finished,
            notes,
        };
        Ok(Self { loaded: Some((loaded, restored)), next, by_marker })
    }

    /// The first checkpoint under transactions, and its marker: from here on markers decide.
    async fn begin(
        &mut self,
        spec: &PipelineSpec,
        store: &Store,
        transactions: &Transactions,
        attempt: &str,
        now_ms: i64,
    ) -> Result<(), CheckpointError> {
        let from = self.loaded.as_ref().map(|(loaded, _)| loaded);
        // the first of all is epoch 0
        let first = self.next == 1 && matches!(store.load(0).await, Err(StoreError::Unknown { .. }));
        let epoch = if first { 0 } else { self.next };
        let draft = transactions::base(&spec.name.value, epoch, attempt, now_ms, from);
        store.write(draft).await?;
        fail_point("base-written");
        transactions.begin(epoch)?;
        transactions::seal(transactions, epoch, attempt).await?;
        transactions::commit(transactions, epoch).await?;
        store.mark_committed(epoch).await?;
        self.next = epoch.saturating_add(1);
        Ok(())
    }
}

/// The newest epoch that a sink shows, and which sink.
async fn shown(spec: &PipelineSpec) -> Result<Option<(u64, String)>, SinkError> {
    let mut newest: Option<(u64, String)> = None;
    for (name, kind) in outputs(spec) {
        let Some(epoch) = sink::last_committed(name, kind, &spec.base).await? else { continue };
        if newest.as_ref().is_none_or(|(newest, _)| epoch > *newest) {
            newest = Some((epoch, name.to_owned()));
        }
    }
    Ok(newest)
}

/// Sinks by name, dead letters last.
fn outputs(spec: &PipelineSpec) -> impl Iterator<Item = (&str, &SinkKind)> {
    let sinks = spec.sinks.iter().map(|sink| (sink.name.value.as_str(), &sink.kind.value));
    sinks.chain(spec.dead_letter.iter().map(|kind| ("dead_letter", &kind.value)))
}

async fn commit_all(manifest: &Manifest, spec: &PipelineSpec) -> Result<(), SinkError> {
    for entry in &manifest.prepared {
        let prepared = Prepared { shown: entry.shown.clone(), bytes: entry.bytes.clone() };
        sink::commit(&entry.sink, &spec.base, &prepared).await?;
    }
    Ok(())
}

/// Finishes the newest checkpoint if it is whole, for a start that does not go on from it: its epoch has happened, so its
/// rows are to be seen. Where they are gone a `fresh` start goes on without.
async fn finish_newest(
    store: &Store,
    spec: &PipelineSpec,
    decided: Option<&Decided>,
    fresh: bool,
) -> Result<(), CheckpointError> {
    let candidates = store.candidates().await?;
    // a damaged one in front of it is not the newest that is whole, but then nothing is known of what it had prepared
    let newest = candidates.whole.filter(|_| candidates.all.len() == 1);
    let marked = decided.and_then(|decided| decided.marker.as_ref()).map(|marker| marker.epoch);
    // where a broker decides, an epoch without its marker has not happened
    let happened = |of: &Manifest| of.transactional_id.is_none() || marked == Some(of.epoch);
    let newest = newest.filter(|loaded| !loaded.committed && happened(&loaded.manifest));
    let Some(loaded) = newest else { return Ok(()) };
    match commit_all(&loaded.manifest, spec).await {
        Ok(()) => {}
        Err(error @ SinkError::PartGone { .. }) if fresh => {
            tracing::warn!(epoch = loaded.manifest.epoch, %error, "the rows of the newest checkpoint are given up");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(store.mark_committed(loaded.manifest.epoch).await?)
}

/// State of a step that is gone would be lost silently.
fn known_steps(spec: &PipelineSpec, loaded: &Loaded, dropped: &BTreeSet<String>) -> Result<(), CheckpointError> {
    let known: Vec<&str> = spec.steps.iter().map(|step| step.name.value.as_str()).collect();
    let given_up = &loaded.manifest.given_up;
    let gone = loaded.manifest.state_files().find(|(step, ..)| !known.contains(step) && !dropped.contains(*step) && !given_up.iter().any(|gone| gone == step));
    match gone {
        None => Ok(()),
        Some((step, ..)) => Err(CheckpointError::StepGone {
            epoch: loaded.manifest.epoch,
            step: step.to_owned(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        }),
    }
}

fn new_and_gone_sources(spec: &PipelineSpec, manifest: &Manifest) -> Vec<String> {
    let mut notes = Vec::new();
    for source in spec.sources.iter().filter(|source| crate::source::is_rewindable(&source.kind.value)) {
        let name = &source.name.value;
        if !manifest.sources.iter().any(|entry| entry.source == *name) {
            notes.push(format!("source `{name}` is not in the checkpoint: it begins at its start"));
        }
    }
    for entry in &manifest.sources {
        if !spec.sources.iter().any(|source| source.name.value == entry.source) {
            notes.push(format!("source `{}` of the checkpoint is not in the pipeline any more", entry.source));
        }
    }
    notes
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

/// What ran at a cut.
#[derive(Debug)]
struct AsOf {
    components: Components,
    versions: Versions,
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
