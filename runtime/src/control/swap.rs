//! Putting other components into a running pipeline.
//!
//! Compile and judge first, with the stream untouched; instantiate a guest for every task; then one barrier carries them
//! through all sources, and every task changes between the same two rows. What cannot be done is refused before the
//! barrier starts, so a refused swap leaves the running version as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::judge::{Refusal, Verdict, judge, judge_process};
use super::kept;
use super::run::Life;
use super::sweeps::{Migrated, Sweeps};
use super::trial::TrialSpecError;
use super::versions::{Earlier, Version, Versions};
use crate::checkpoint::fail_point;
use crate::clock::Stopwatch;
use crate::error::near_match;
use crate::operator::Replacement;
use crate::pipeline::ballot::{Ballot, Chair};
use crate::pipeline::build::{StartError, instantiate_for};
use crate::pipeline::change::{Change, Successor};
use crate::pipeline::plan::{NodeKind, SlotId};
use crate::pipeline::resolve::{Components, Resolved};
use crate::pipeline::source_task::Command;
use crate::pipeline::spec::StepSpec;
use crate::pipeline::sweep::Sweep;
use crate::record::{Barrier, BarrierId, Field, Schema};
use crate::wasm::{CallError, DescribeError, GuestError, GuestMetrics, LoadError, OperatorKind};

/// A swap was refused, or could not be carried out. The running version is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// no such step
    #[error("pipeline has no step `{step}` with a component; there are {known}{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownStep {
        /// what was asked for
        step: String,
        /// what there is
        known: String,
        /// the closest
        near: Option<String>,
    },
    /// two components for one place
    #[error("step `{step}` is to become both {} and {}; name it once", first.display(), second.display())]
    Twice {
        /// as it was named
        step: String,
        /// the file named first
        first: PathBuf,
        /// the file named then
        second: PathBuf,
    },
    /// the file is not a component that can be used; the reason names the file
    #[error("{source}")]
    Load {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: Box<LoadError>,
    },
    /// the component refuses its configuration or fails to describe itself; the reason names the file
    #[error("{source}")]
    Describe {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: DescribeError,
    },
    /// the component does not fit
    #[error("{} does not fit step `{step}`: {source}", path.display())]
    Refused {
        /// the file
        path: PathBuf,
        /// the step
        step: String,
        /// the first difference
        #[source]
        source: Box<Refusal>,
    },
    /// no guest could be made of it
    #[error("{}: {source}", path.display())]
    Guest {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: GuestError,
    },
    /// an aggregate fails to make an empty accumulator
    #[error("{}: `create` fails: {source}", path.display())]
    Create {
        /// the file
        path: PathBuf,
        /// why
        #[source]
        source: Box<CallError>,
    },
    /// there is nothing to go back to
    #[error("nothing to roll back: {what} {} the first version of this run; a swap puts another in place", if *several { "run" } else { "runs" })]
    NoVersionBefore {
        /// what was named
        what: String,
        /// more than one step
        several: bool,
    },
    /// state cannot be migrated
    #[error("step `{step}` stays as it is: {reason} ({})", path.display())]
    Migration {
        /// the file
        path: PathBuf,
        /// the step
        step: String,
        /// which state, and why
        reason: String,
    },
    /// an operator could not be made of it
    #[error(transparent)]
    Start(StartError),
    /// the version to go back to cannot be had
    #[error("version {number} of step `{step}` cannot run: {reason}; `millstream swap` puts a file in place")]
    Version {
        /// the step
        step: String,
        /// its version
        number: u64,
        /// why
        reason: String,
    },
    /// a candidate is being tried
    #[error("a trial of {steps} goes on; end it with `promote` or `rollback` first")]
    TrialRuns {
        /// whose
        steps: String,
    },
    /// no candidate is being tried
    #[error("no trial goes on; `swap --shadow`, `--canary` and `--watch` begin one")]
    NoTrial,
    /// a trial cannot be asked for like this
    #[error(transparent)]
    TrialSpec(#[from] TrialSpecError),
    /// a candidate cannot be tried beside this step
    #[error("step `{step}` cannot try a candidate: {reason}")]
    CannotTry {
        /// the step
        step: String,
        /// why
        reason: String,
    },
    /// the pipeline has ended
    #[error("the pipeline has ended")]
    Ended,
}

impl SwapError {
    /// What would make a refused component fit: Rust, to be filled in.
    pub fn stub(&self) -> Option<&str> {
        match self {
            Self::Refused { source, .. } => source.stub.as_deref(),
            _ => None,
        }
    }

    /// Says which of `offers` it is of.
    fn with_path_of(self, offers: &Offers) -> Self {
        let Self::Migration { step, reason, .. } = self else { return self };
        let path = offers.iter().find(|(slot, _)| slot.step == step).map(|(_, offered)| offered.path.clone());
        Self::Migration { path: path.unwrap_or_default(), step, reason }
    }

    /// A stable name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownStep { .. } => "unknown_step",
            Self::Twice { .. } => "named_twice",
            Self::Load { .. } => "component",
            Self::Describe { .. } => "describe",
            Self::Refused { .. } => "does_not_fit",
            Self::Guest { .. } | Self::Create { .. } => "guest",
            Self::NoVersionBefore { .. } => "no_version_before",
            Self::Migration { .. } => "migration",
            Self::Start(_) => "start",
            Self::Version { .. } => "version",
            Self::TrialRuns { .. } => "trial_runs",
            Self::NoTrial => "no_trial",
            Self::TrialSpec(_) => "request",
            Self::CannotTry { .. } => "cannot_be_tried",
            Self::Ended => "ended",
        }
    }
}

/// A swap that took effect.
#[derive(Clone, Debug, Serialize)]
pub struct SwapReport {
    /// what changed
    pub swapped: Vec<Swapped>,
    /// longest time that a task stood still for the change, ns
    pub pause_ns: u64,
    /// from the request to the last task's change, compilation included, ms
    pub total_ms: f64,
    /// from the start of the barrier to the last task's change, ms
    pub barrier_ms: f64,
    /// state that was migrated; none where nothing had to be
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated: Option<Migrated>,
}

/// One component that changed.
#[derive(Clone, Debug, Serialize)]
pub struct Swapped {
    /// the step
    pub step: String,
    /// position among the step's components
    pub slot: usize,
    /// digest of what ran before
    pub from: String,
    /// number of its version
    pub from_version: u64,
    /// digest of what runs now
    pub to: String,
    /// number of its version; none before it has one
    pub to_version: Option<u64>,
    /// what the change means for what the step holds
    pub verdict: Verdict,
}

/// How a change is noted among the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// new versions
    Swapped,
    /// the versions before run again
    RolledBack,
}

/// What is to run where.
pub(super) type Offers = BTreeMap<SlotId, Resolved>;

impl Life {
    /// Replaces components at one cut. Each is named by its step, or `step.entry` where the step has several.
    ///
    /// A task that had ended already, because its sources had, changes no more. A component all of whose tasks had ended is
    /// not in the report; if that goes for all of them the answer is [`SwapError::Ended`].
    ///
    /// Goes on to its end in a task of its own when the future is dropped: a barrier that only some sources have sent would
    /// hold up the pipeline for ever.
    pub(super) async fn swap(&self, requests: &[(String, PathBuf)]) -> Result<SwapReport, SwapError> {
        let (handle, requests) = (self.clone(), requests.to_vec());
        let swap = async move {
            let watch = Stopwatch::start();
            let offers = handle.offers(&requests).await?;
            Ok(handle.carry_out(offers, watch, Change::default(), Noted::Swapped).await?.0)
        };
        tokio::spawn(swap).await.map_err(|_| SwapError::Ended)?
    }

    /// Puts other components in place, or the same under another configuration, all at one cut.
    pub(super) async fn exchange(&self, offers: Offers) -> Result<SwapReport, SwapError> {
        Ok(self.carry_out(offers, Stopwatch::start(), Change::default(), Noted::Swapped).await?.0)
    }

    /// Puts back, at one cut, what the named steps ran before their present version; with none named, all that the last swap
    /// changed. Can be repeated, back to the version that the run began with (at most seven before the last).
    pub(super) async fn rollback(&self, steps: &[String]) -> Result<SwapReport, SwapError> {
        let (handle, steps) = (self.clone(), steps.to_vec());
        let rollback = async move {
            let watch = Stopwatch::start();
            let slots = steps.iter().map(|step| handle.slot(step)).collect::<Result<Vec<_>, _>>()?;
            let before = handle.versions().before(&slots);
            let offers = handle.ready(before).await?;
            let first = slots.iter().find(|slot| !offers.contains_key(slot));
            if offers.is_empty() || first.is_some() {
                let what = first.map_or_else(|| "all steps".to_owned(), |slot| format!("step `{}`", slot.step));
                return Err(SwapError::NoVersionBefore { what, several: first.is_none() });
            }
            Ok(handle.carry_out(offers, watch, Change::default(), Noted::RolledBack).await?.0)
        };
        tokio::spawn(rollback).await.map_err(|_| SwapError::Ended)?
    }

    /// What a swap would do, without doing it: everything is compiled and judged, the stream is not touched.
    pub(super) async fn plan_swap(&self, requests: &[(String, PathBuf)]) -> Result<Vec<Swapped>, SwapError> {
        self.judged(&self.offers(requests).await?).await
    }

    /// What these offers would mean.
    pub(super) async fn judged(&self, offers: &Offers) -> Result<Vec<Swapped>, SwapError> {
        let components = self.shared.components.lock().await;
        let mut planned = Vec::with_capacity(offers.len());
        for (slot, offered) in offers {
            let running = components.get(slot).ok_or_else(|| self.unknown(&slot.step))?;
            let (verdict, _) = self.replacements(slot, running, offered)?;
            let (from, to) = (running.component.digest().to_string(), offered.component.digest().to_string());
            let (step, slot, from_version) = (slot.step.clone(), slot.slot, running.number);
            planned.push(Swapped { step, slot, from, from_version, to, to_version: None, verdict });
        }
        Ok(planned)
    }

    /// What a row of state cost when some was last migrated at a cut, ns.
    pub(super) fn migrated_row_ns(&self) -> Option<f64> {
        Some(self.shared.migrated_row_ns.load(Ordering::Acquire)).filter(|bits| *bits > 0).map(f64::from_bits)
    }

    /// How long the last change that migrated nothing at its cut held up the task that it held up longest; none before the first.
    pub(super) fn last_pause_ns(&self) -> Option<u64> {
        Some(self.shared.last_pause_ns.load(Ordering::Acquire)).filter(|ns| *ns > 0)
    }

    /// The versions of each component that are known, oldest first, under the names that a swap takes.
    pub(super) fn history(&self) -> BTreeMap<String, Vec<Version>> {
        let slots = self.shared.resolution.components.keys();
        slots.map(|slot| (self.slot_name(slot), self.versions().of(slot))).collect()
    }

    pub(super) fn versions(&self) -> std::sync::MutexGuard<'_, Versions> {
        self.shared.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compiles and describes what is asked for, with the stream untouched and no lock held.
    pub(super) async fn offers(&self, requests: &[(String, PathBuf)]) -> Result<Offers, SwapError> {
        let mut offers = Offers::new();
        for (name, path) in requests {
            let slot = self.slot(name)?;
            if let Some(Resolved { path: first, .. }) = offers.get(&slot) {
                return Err(SwapError::Twice { step: name.clone(), first: first.clone(), second: path.clone() });
            }
            // what runs now: its configuration and limits may have been set since the life began
            let running = self.shared.components.lock().await.get(&slot).cloned();
            let running = running.ok_or_else(|| self.unknown(name))?;
            offers.insert(slot, self.offered(&running, path).await?);
        }
        Ok(offers)
    }

    /// Versions that ran before; those that no life of this process has run come from the checkpoint store.
    async fn ready(&self, before: Vec<(SlotId, Earlier)>) -> Result<Offers, SwapError> {
        let mut offers = Offers::new();
        for (slot, earlier) in before {
            let resolved = match earlier {
                Earlier::Ready(resolved) => *resolved,
                Earlier::Stored(version) => {
                    let gone = |reason| SwapError::Version { step: slot.step.clone(), number: version.number, reason };
                    let like = self.shared.components.lock().await.get(&slot).cloned();
                    let like = like.ok_or_else(|| self.unknown(&slot.step))?;
                    let store =
                        self.shared.store.as_ref().ok_or_else(|| gone("there is no checkpoint store".into()))?;
                    let loaded = kept::load(store, &self.shared.sandbox, &version, &like).await;
                    loaded.map_err(|error| gone(error.to_string()))?
                }
            };
            offers.insert(slot, resolved);
        }
        Ok(offers)
    }

    /// Judges all offers, makes their guests and changes them at one cut, with what else `change` brings. Answers also what
    /// has been taken, which is noted among the versions.
    pub(super) async fn carry_out(
        &self,
        mut offers: Offers,
        watch: Stopwatch,
        change: Change,
        noted: Noted,
    ) -> Result<(SwapReport, Offers), SwapError> {
        let _turn = self.shared.swap_turn.lock().await;
        let mut components = self.shared.components.lock().await;
        if !change.has_trials() {
            self.no_trial_runs()?;
        }
        // what was tried has run under its number
        let new: BTreeSet<SlotId> = offers.iter().filter(|(_, of)| of.number == 0).map(|(id, _)| id.clone()).collect();
        if noted == Noted::Swapped {
            self.versions().number(&mut offers);
        }
        let new: Offers =
            offers.iter().filter(|(id, _)| new.contains(id)).map(|(id, of)| (id.clone(), of.clone())).collect();
        let changed = self.change(change, &offers, &components);
        let (change, mut verdicts, sweeps) = changed.inspect_err(|_| self.versions().give_back(&new))?;
        if !sweeps.is_empty() {
            // checkpoints are taken meanwhile; nothing else changes what runs
            drop(components);
            let ahead = self.migrate_ahead(&sweeps).await;
            ahead.map_err(|error| error.with_path_of(&offers)).inspect_err(|_| self.versions().give_back(&new))?;
            components = self.shared.components.lock().await;
        }
        let barrier_watch = Stopwatch::start();
        let change = Arc::new(change);
        fail_point("swap-ready");
        let pause_ns = match change.ballot() {
            None => self.send(&change).await?.1,
            Some(ballot) => self.send_and_decide(&change, ballot).await?,
        };
        fail_point("swap-passed");
        let barrier_ms = milliseconds(barrier_watch.elapsed());
        if let Some((step, reason)) = change.ballot().and_then(Ballot::against) {
            self.versions().give_back(&new);
            return Err(SwapError::Migration { path: PathBuf::new(), step, reason }.with_path_of(&offers));
        }
        if self.has_failed() {
            // where it goes on after a failure is before the change
            return Err(SwapError::Ended);
        }
        match change.migrated_row_ns() {
            None => self.shared.last_pause_ns.store(pause_ns, Ordering::Release),
            Some(row_ns) => self.shared.migrated_row_ns.store(row_ns.to_bits(), Ordering::Release),
        }
        offers.retain(|slot, _| self.was_taken(&change, slot));
        if offers.is_empty() && !verdicts.is_empty() {
            return Err(SwapError::Ended);
        }
        let mut swapped = Vec::with_capacity(offers.len());
        for (slot, offered) in &offers {
            let to = offered.component.digest().to_string();
            let before = components.insert(slot.clone(), offered.clone());
            let (from, from_version) =
                before.map(|before| (before.component.digest().to_string(), before.number)).unwrap_or_default();
            let (verdict, to_version) = (verdicts.remove(slot).unwrap_or(Verdict::Identical), offered.number);
            let (step, slot) = (slot.step.clone(), slot.slot);
            swapped.push(Swapped { step, slot, from, from_version, to, to_version: Some(to_version), verdict });
        }
        // with the components still held: a checkpoint takes note of both
        match noted {
            Noted::Swapped => self.versions().swapped(&offers, self.shared.clock.now_ms()),
            Noted::RolledBack => self.versions().rolled_back(&offers),
        }
        for Swapped { step, slot, from, from_version, to, to_version, .. } in &swapped {
            let what = if noted == Noted::Swapped { "a component was swapped" } else { "a component was rolled back" };
            tracing::info!(step, slot, version = to_version, digest = to, from_version, from, "{what}");
        }
        let migrates = swapped.iter().any(|swapped| matches!(swapped.verdict, Verdict::Migrate { .. }));
        let migrated = migrates.then(|| sweeps.figures(change.migrated()));
        Ok((SwapReport { swapped, pause_ns, total_ms: milliseconds(watch.elapsed()), barrier_ms, migrated }, offers))
    }

    /// What is to be sent for these offers, and what they mean.
    fn change(
        &self,
        mut change: Change,
        offers: &Offers,
        running: &Components,
    ) -> Result<(Change, BTreeMap<SlotId, Verdict>, Sweeps), SwapError> {
        let (mut all, mut verdicts) = (Vec::with_capacity(offers.len()), BTreeMap::new());
        for (slot, offered) in offers {
            let before = running.get(slot).ok_or_else(|| self.unknown(&slot.step))?;
            let (verdict, replacements) = self.replacements(slot, before, offered)?;
            all.push((slot, offered, replacements));
            verdicts.insert(slot.clone(), verdict);
        }
        let migrates = |(slot, verdict): (&SlotId, &Verdict)| {
            matches!(verdict, Verdict::Migrate { .. }).then(|| slot.step.clone())
        };
        let migrating: BTreeSet<String> = verdicts.iter().filter_map(migrates).collect();
        let mut sweeps = Sweeps::default();
        let mut succeeded = BTreeSet::new();
        for step in migrating {
            let mut successors = self.successors(&step, offers, running, &verdicts)?;
            if !self.migrates_ahead(&step, &mut successors) {
                change.add_successors(&step, successors);
                succeeded.insert(step);
                continue;
            }
            for (subtask, Successor { migrations, .. }) in successors.into_iter().enumerate() {
                let failed = |reason| SwapError::Migration { path: PathBuf::new(), step: step.clone(), reason };
                let sweep = Sweep::new(migrations).map_err(|reason| failed(reason).with_path_of(offers))?;
                sweeps.add(&step, subtask, sweep);
            }
            change.end_sweep(&step);
        }
        for (slot, offered, replacements) in all.into_iter().filter(|(slot, ..)| !succeeded.contains(&slot.step)) {
            change.add(slot.clone(), offered.version(), replacements);
        }
        Ok((change, verdicts, sweeps))
    }

    /// As [`Life::send`] for a change that can fail at the cut: all tasks make ready, then all of them change, or none.
    async fn send_and_decide(&self, change: &Arc<Change>, ballot: &Ballot) -> Result<u64, SwapError> {
        let chair = Chair(ballot);
        let id = self.announce(change).await?;
        self.shared.progress.reached(id).await;
        ballot.decide(ballot.against().is_none() && !self.has_failed());
        drop(chair);
        Ok(self.shared.progress.passed(id).await)
    }

    /// Sends the change with a barrier from all sources and waits until all tasks have taken it.
    pub(super) async fn send(&self, change: &Arc<Change>) -> Result<(BarrierId, u64), SwapError> {
        let id = self.announce(change).await?;
        Ok((id, self.shared.progress.passed(id).await))
    }

    /// Sends the change with a barrier from all sources.
    pub(super) async fn announce(&self, change: &Arc<Change>) -> Result<BarrierId, SwapError> {
        let turn = self.shared.barrier_turn.lock().await;
        if self.shared.progress.ended() {
            return Err(SwapError::Ended);
        }
        let id = self.next_barrier();
        let mut reached = false;
        for source in &self.shared.commands {
            let barrier = Barrier { id, change: Arc::<Change>::clone(change) };
            // a source that has ended already counts as past every barrier
            reached |= source.send(Command::Barrier(barrier)).await.is_ok();
        }
        if !reached {
            return Err(SwapError::Ended);
        }
        drop(turn);
        Ok(id)
    }

    /// Whether any task has put in place what the change brought for `slot`. A source that ends with the barrier still in
    /// front of it leaves the guests of the tasks behind it where they are.
    fn was_taken(&self, change: &Change, slot: &SlotId) -> bool {
        let tasks = self.place(&slot.step).and_then(|index| self.shared.nodes.get(index));
        (0..tasks.map_or(0, |node| node.guests.len())).any(|subtask| !change.holds(slot, subtask))
    }

    /// Compiles and describes the file, off the threads that run the pipeline.
    async fn offered(&self, running: &Resolved, path: &Path) -> Result<Resolved, SwapError> {
        let (sandbox, kind, settings) = (self.shared.sandbox.clone(), running.kind, running.settings.clone());
        let limits = running.limits;
        let path = path.to_owned();
        let load = move || {
            let component = sandbox
                .load(&path)
                .map_err(|source| SwapError::Load { path: path.clone(), source: Box::new(source) })?;
            let signature = component
                .describe(kind, &settings)
                .map_err(|source| SwapError::Describe { path: path.clone(), source })?;
            Ok(Resolved { component, kind, signature, settings, path, limits, number: 0 })
        };
        tokio::task::spawn_blocking(load).await.map_err(|_| SwapError::Ended)?
    }

    pub(super) fn replacements(
        &self,
        slot: &SlotId,
        running: &Resolved,
        offered: &Resolved,
    ) -> Result<(Verdict, Vec<Replacement>), SwapError> {
        let available = self.input_schema(&slot.step).ok_or_else(|| self.unknown(&slot.step))?;
        let refused = |source| {
            let (path, step, source) = (offered.path.clone(), slot.step.clone(), Box::new(source));
            SwapError::Refused { path, step, source }
        };
        let verdict = match judge(&running.signature, &offered.signature, &available) {
            Verdict::Refused(source) => return Err(refused(source)),
            verdict => verdict,
        };
        let (second, keys) = self.second_and_keys(&slot.step);
        judge_process(&running.signature, &offered.signature, second.as_ref(), &keys).map_err(refused)?;
        Ok((verdict, self.guests(slot, offered, self.guest_metrics(&slot.step))?))
    }

    /// Where the guests of a step count, by subtask.
    pub(super) fn guest_metrics(&self, step: &str) -> &[Arc<GuestMetrics>] {
        let node = self.place(step).and_then(|index| self.shared.nodes.get(index));
        node.map(|node| node.guests.as_slice()).unwrap_or_default()
    }

    /// A guest for each task of a step; they count in `tasks`.
    pub(super) fn guests(
        &self,
        slot: &SlotId,
        offered: &Resolved,
        tasks: &[Arc<GuestMetrics>],
    ) -> Result<Vec<Replacement>, SwapError> {
        let available = self.input_schema(&slot.step).ok_or_else(|| self.unknown(&slot.step))?;
        let fields = offered.signature.inputs.fields();
        let inputs: Vec<usize> = fields.iter().filter_map(|field| available.index_of(&field.name)).collect();
        let mut replacements = Vec::with_capacity(tasks.len());
        for (subtask, metrics) in tasks.iter().enumerate() {
            let mut guest = instantiate_for(offered, &slot.step, subtask, Arc::clone(metrics))
                .map_err(|source| SwapError::Guest { path: offered.path.clone(), source })?;
            if offered.kind == OperatorKind::Aggregator {
                // the window asks for the empty accumulator at the cut, where it must not fail any more
                let path = offered.path.clone();
                guest.create().map_err(|source| SwapError::Create { path, source: Box::new(source) })?;
            }
            replacements.push(Replacement { guest, inputs: inputs.clone() });
        }
        Ok(replacements)
    }

    /// The specification of a step and its position in the plan.
    fn step(&self, name: &str) -> Option<(&StepSpec, usize)> {
        let plan = &self.shared.resolution.plan;
        let index = plan.nodes.iter().position(|node| node.name == name)?;
        match plan.nodes.get(index)?.kind {
            NodeKind::Guest { index: step, .. }
            | NodeKind::Route { index: step, .. }
            | NodeKind::Aggregate { index: step, .. }
            | NodeKind::Process { index: step, .. } => Some((plan.spec.steps.get(step)?, index)),
            NodeKind::Source { .. } | NodeKind::Select { .. } | NodeKind::Side { .. } | NodeKind::Sink { .. } => None,
            NodeKind::Top { .. } => None,
            NodeKind::Join { .. } => None,
        }
    }

    /// The position in the plan of a step, or of a source with a watermark assigner.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let of_step = self.step(name).map(|(_, index)| index);
        of_step.or_else(|| self.shared.resolution.plan.nodes.iter().position(|node| node.name == name))
    }

    /// Columns that reach a step, or that a source's watermark assigner can read.
    pub(super) fn input_schema(&self, step: &str) -> Option<Schema> {
        let plan = &self.shared.resolution.plan;
        let node = plan.nodes.iter().find(|node| node.name == step)?;
        if matches!(node.kind, NodeKind::Source { .. }) {
            return Some(node.schema.clone());
        }
        Some(plan.nodes.get(*node.inputs.first()?)?.schema.clone())
    }

    /// Columns that reach a step as its second input, and those of its keys under the names of the first.
    fn second_and_keys(&self, step: &str) -> (Option<Schema>, Schema) {
        let plan = &self.shared.resolution.plan;
        let Some(node) = plan.nodes.iter().find(|node| node.name == step) else { return (None, Schema::new([])) };
        let input = |port: usize| {
            let at = node.ports.iter().position(|of| *of == port)?;
            Some(plan.nodes.get(*node.inputs.get(at)?)?.schema.clone())
        };
        let fields = |port: usize| -> Vec<Field> {
            let keys = node.kind.keys(port).unwrap_or_default();
            input(port).map_or_else(Vec::new, |schema| {
                keys.iter().filter_map(|key| schema.fields().get(*key).cloned()).collect()
            })
        };
        let mut keys = fields(0);
        for (key, other) in keys.iter_mut().zip(fields(1)) {
            key.nullable |= other.nullable;
        }
        (input(1), Schema::new(keys))
    }

    fn slot(&self, name: &str) -> Result<SlotId, SwapError> {
        let slots = || self.shared.resolution.components.keys();
        let of_step: Vec<&SlotId> = slots().filter(|slot| slot.step == name).collect();
        if let [only] = of_step.as_slice() {
            return Ok((*only).clone());
        }
        slots().find(|slot| self.slot_name(slot) == name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// `step`, or `step.entry` where the step has several components.
    fn slot_name(&self, slot: &SlotId) -> String {
        let several = self.shared.resolution.components.keys().filter(|other| other.step == slot.step).count() > 1;
        let entry = self.step(&slot.step).and_then(|(step, _)| step.kind.value.aggregate_name(slot.slot));
        match entry.filter(|_| several) {
            Some(entry) => format!("{}.{entry}", slot.step),
            None => slot.step.clone(),
        }
    }

    pub(super) fn unknown(&self, name: &str) -> SwapError {
        let known: Vec<String> = self.shared.resolution.components.keys().map(|slot| self.slot_name(slot)).collect();
        let near = near_match(name, known.iter().map(String::as_str)).map(ToOwned::to_owned);
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        SwapError::UnknownStep { step: name.to_owned(), known, near }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
