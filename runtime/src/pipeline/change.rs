//! What a barrier brings to the tasks, and how the one who sent it learns that all have taken it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::ballot::Ballot;
use super::cut::{Collected, Cut};
use super::handover::Handover;
use super::plan::SlotId;
use super::sweep::Sweep;
use crate::operator::{Migration, Operator, Replacement, TrialStep};
use crate::partition::SplitPoints;
use crate::record::BarrierId;
use crate::wasm::{ExactVersion, GuestMetrics};

/// Logic that changes at one cut. Guests are instantiated before the barrier starts, one for each task, so that nothing
/// can fail, and nothing slow happens, at the cut.
#[derive(Debug, Default)]
pub struct Change {
    slots: HashMap<SlotId, SlotChange>,
    /// trials that begin or end, by step and subtask; taken once, before components change
    trials: HashMap<String, Mutex<Vec<Option<TrialStep>>>>,
    /// where guests of candidates count, by step and subtask
    candidates: HashMap<String, Vec<Arc<GuestMetrics>>>,
    /// where tasks put what they remember at the cut, before anything changes
    snapshot: Option<Collected>,
    /// sinks prepare what they have written for this epoch
    epoch: Option<u64>,
    /// no task goes on behind it: where they leave what stays open
    last: Option<Arc<Handover>>,
    /// by step and subtask: operators that take the place of others, whose state they take over
    successors: Mutex<HashMap<(String, usize), Successor>>,
    /// by step and subtask: migrations that begin ahead of a cut
    sweeps: Mutex<HashMap<(String, usize), Arc<Sweep>>>,
    /// steps whose migrations end at this cut
    swept: BTreeSet<String>,
    /// rows of state that were migrated at the cut
    migrated: AtomicU64,
    /// what that has taken in all tasks, ns
    migrating_ns: AtomicU64,
    /// where tasks tell how many rows of state their steps have, by step: those of the task with most of them; none: not known
    counted: Option<Mutex<BTreeMap<String, Option<u64>>>>,
    /// where something can fail at the cut
    ballot: Option<Ballot>,
    /// ranges of rows behind the cut, by the number of the sampler they were drawn from
    ranges: BTreeMap<usize, SplitPoints>,
}

/// An operator that takes over the state of the one that runs.
pub struct Successor {
    /// empty
    pub operator: Box<dyn Operator>,
    /// what is to be done to the state before it can take it over
    pub migrations: Vec<Migration>,
    /// components by slot that are other ones than before
    pub versions: Vec<(usize, ExactVersion)>,
}

impl std::fmt::Debug for Successor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Successor").field("migrations", &self.migrations).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct SlotChange {
    version: ExactVersion,
    /// by subtask; taken once
    replacements: Mutex<Vec<Option<Replacement>>>,
}

impl Change {
    /// Asks every task for its state.
    #[must_use]
    pub fn with_snapshot() -> Self {
        Self { snapshot: Some(Collected::default()), ..Self::default() }
    }

    /// Asks every task for its state, and sinks to prepare the commit of `epoch`.
    #[must_use]
    pub fn with_checkpoint(epoch: u64) -> Self {
        Self { epoch: Some(epoch), ..Self::with_snapshot() }
    }

    /// Asks every task how many rows of state its steps have.
    #[must_use]
    pub fn with_count() -> Self {
        Self { counted: Some(Mutex::default()), ..Self::default() }
    }

    /// Whether tasks are to [count](Change::count) rows of state.
    pub fn counts(&self) -> bool {
        self.counted.is_some()
    }

    /// A task has so many rows of the state of `step`; none: it does not know.
    pub fn count(&self, step: &str, rows: Option<u64>) {
        let Some(counted) = &self.counted else { return };
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        let most = counted.entry(step.to_owned()).or_insert(Some(0));
        *most = most.zip(rows).map(|(most, rows)| most.max(rows));
    }

    /// Rows of the state of `step` in the task that has most of them, as far as all have told.
    pub fn counted(&self, step: &str) -> Option<u64> {
        self.counted.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).get(step).copied().flatten()
    }

    /// All tasks end behind it, and leave what stays open with `handover`.
    #[must_use]
    pub fn and_last(self, handover: Arc<Handover>) -> Self {
        Self { last: Some(handover), ..self }
    }

    /// Where tasks leave what stays open; none where they go on.
    pub fn last(&self) -> Option<&Arc<Handover>> {
        self.last.as_ref()
    }

    /// Lets senders that draw from sampler `sampler` cut ranges here.
    pub fn cut_ranges(&mut self, sampler: usize, splits: SplitPoints) {
        self.ranges.insert(sampler, splits);
    }

    /// Ranges from here on, of senders that draw from sampler `sampler`.
    pub fn ranges(&self, sampler: usize) -> Option<&SplitPoints> {
        self.ranges.get(&sampler)
    }

    /// The epoch that ends here.
    pub fn epoch(&self) -> Option<u64> {
        self.epoch
    }

    /// Where to put state, if it is wanted.
    pub fn snapshot(&self) -> Option<&Collected> {
        self.snapshot.as_ref()
    }

    /// Adds the guests of one component, by subtask.
    pub fn add(&mut self, slot: SlotId, version: ExactVersion, replacements: Vec<Replacement>) {
        let replacements = Mutex::new(replacements.into_iter().map(Some).collect());
        self.slots.insert(slot, SlotChange { version, replacements });
    }

    /// Adds operators that take over the state of `step`, by subtask. What else the change brings waits for them.
    pub fn add_successors(&mut self, step: &str, successors: Vec<Successor>) {
        let mut all = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(successors.into_iter().enumerate().map(|(subtask, one)| ((step.to_owned(), subtask), one)));
        drop(all);
        self.ballot.get_or_insert_default();
    }

    /// Begins to migrate the state of steps, by step and subtask.
    #[must_use]
    pub fn with_sweeps(sweeps: impl IntoIterator<Item = ((String, usize), Arc<Sweep>)>) -> Self {
        Self { sweeps: Mutex::new(sweeps.into_iter().collect()), ..Self::default() }
    }

    /// The migration that begins, for one task.
    pub fn take_sweep(&self, step: &str, subtask: usize) -> Option<Arc<Sweep>> {
        self.sweeps.lock().unwrap_or_else(PoisonError::into_inner).remove(&(step.to_owned(), subtask))
    }

    /// What was migrated ahead for `step` is taken over here, where all tasks can.
    pub fn end_sweep(&mut self, step: &str) {
        self.swept.insert(step.to_owned());
        self.ballot.get_or_insert_default();
    }

    /// Whether what was migrated ahead for `step` is taken over here.
    pub fn ends_sweep(&self, step: &str) -> bool {
        self.swept.contains(step)
    }

    /// A task has migrated rows of state while it stood still, for so long.
    pub fn count_migrated(&self, rows: u64, took: Duration) {
        self.migrated.fetch_add(rows, Ordering::AcqRel);
        self.migrating_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// What a row of state has cost that was [migrated](Change::migrated) at the cut, ns: reading, migrating and taking over. None:
    /// there was none.
    #[allow(clippy::cast_precision_loss)] // an estimate
    pub fn migrated_row_ns(&self) -> Option<f64> {
        let rows = Some(self.migrated()).filter(|rows| *rows > 0)?;
        Some(self.migrating_ns.load(Ordering::Acquire) as f64 / rows as f64)
    }

    /// Rows of state that tasks have migrated while they stood still, but for those of migrations that began ahead.
    pub fn migrated(&self) -> u64 {
        self.migrated.load(Ordering::Acquire)
    }

    /// Where tasks say whether they can change; none where nothing can fail.
    pub fn ballot(&self) -> Option<&Ballot> {
        self.ballot.as_ref()
    }

    /// The operator that takes over the state of `step`, for one task.
    pub fn take_successor(&self, step: &str, subtask: usize) -> Option<Successor> {
        self.successors.lock().unwrap_or_else(PoisonError::into_inner).remove(&(step.to_owned(), subtask))
    }

    /// Adds what becomes of a step's trial, by subtask.
    pub fn add_trial(&mut self, step: &str, tasks: Vec<TrialStep>) {
        self.trials.insert(step.to_owned(), Mutex::new(tasks.into_iter().map(Some).collect()));
    }

    /// Adds where the guests of a step's candidate count, by subtask.
    pub fn add_candidate(&mut self, step: &str, guests: Vec<Arc<GuestMetrics>>) {
        self.candidates.insert(step.to_owned(), guests);
    }

    /// Where the guests of a step's candidate count in one task, if one is tried beside what runs.
    pub fn candidate(&self, step: &str, subtask: usize) -> Option<Arc<GuestMetrics>> {
        self.candidates.get(step)?.get(subtask).map(Arc::clone)
    }

    /// Whether a trial begins or ends.
    pub fn has_trials(&self) -> bool {
        !self.trials.is_empty()
    }

    /// What becomes of the trial of `step` in one task.
    pub fn take_trial(&self, step: &str, subtask: usize) -> Option<TrialStep> {
        let mut tasks = self.trials.get(step)?.lock().ok()?;
        tasks.get_mut(subtask)?.take()
    }

    /// The components of `step` that change, for one task.
    pub fn take(&self, step: &str, subtask: usize) -> Vec<(usize, ExactVersion, Replacement)> {
        let mut taken = Vec::new();
        for (slot, change) in self.slots.iter().filter(|(slot, _)| slot.step == step) {
            let Ok(mut replacements) = change.replacements.lock() else { continue };
            if let Some(replacement) = replacements.get_mut(subtask).and_then(Option::take) {
                taken.push((slot.slot, change.version, replacement));
            }
        }
        taken
    }

    /// Whether a task's guest is still here: the task has not taken it.
    pub fn holds(&self, slot: &SlotId, subtask: usize) -> bool {
        if !self.slots.contains_key(slot) {
            let successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
            return successors.contains_key(&(slot.step.clone(), subtask));
        }
        let Some(Ok(replacements)) = self.slots.get(slot).map(|change| change.replacements.lock()) else {
            return false;
        };
        replacements.get(subtask).is_some_and(Option::is_some)
    }
}

/// How far each task of a run has come.
#[derive(Debug)]
pub struct Progress {
    tasks: Vec<TaskProgress>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct TaskProgress {
    barrier: AtomicU64,
    /// as `barrier`, where the change still waits for all tasks
    reached: AtomicU64,
    /// time the task stood still for the last barrier's change, ns
    pause_ns: AtomicU64,
    ended: AtomicBool,
    /// what it left behind, if it ended because its input did
    left: Mutex<Option<Cut>>,
}

/// One task's handle on [`Progress`]. Dropping it says that the task has ended, however it ended.
#[derive(Debug)]
pub struct TaskReport {
    progress: Arc<Progress>,
    task: usize,
}

impl Progress {
    /// Progress of `tasks` tasks, and a handle for each.
    pub fn new(tasks: usize) -> (Arc<Self>, Vec<TaskReport>) {
        let states = (0..tasks).map(|_| TaskProgress::default()).collect();
        let progress = Arc::new(Self { tasks: states, changed: Notify::new() });
        let reports = (0..tasks).map(|task| TaskReport { progress: Arc::clone(&progress), task }).collect();
        (progress, reports)
    }

    /// Waits until every task has passed the barrier or ended. The longest pause of a task, in ns.
    pub async fn passed(&self, barrier: BarrierId) -> u64 {
        loop {
            let changed = self.changed.notified();
            let mut all = true;
            let mut pause_ns = 0;
            for task in &self.tasks {
                let at = task.barrier.load(Ordering::Acquire);
                all &= at >= barrier.0 || task.ended.load(Ordering::Acquire);
                if at == barrier.0 {
                    pause_ns = pause_ns.max(task.pause_ns.load(Ordering::Acquire));
                }
            }
            if all {
                return pause_ns;
            }
            changed.await;
        }
    }

    /// Waits until every task has reached the barrier, whether it has passed it or not, or ended.
    pub async fn reached(&self, barrier: BarrierId) {
        loop {
            let changed = self.changed.notified();
            let is_there = |task: &TaskProgress| {
                task.reached.load(Ordering::Acquire).max(task.barrier.load(Ordering::Acquire)) >= barrier.0
                    || task.ended.load(Ordering::Acquire)
            };
            if self.tasks.iter().all(is_there) {
                return;
            }
            changed.await;
        }
    }

    /// Whether any task has ended.
    pub fn any_ended(&self) -> bool {
        self.tasks.iter().any(|task| task.ended.load(Ordering::Acquire))
    }

    /// Whether any task has ended though its input had not.
    pub fn any_failed(&self) -> bool {
        let failed = |task: &TaskProgress| {
            task.ended.load(Ordering::Acquire) && task.left.lock().unwrap_or_else(PoisonError::into_inner).is_none()
        };
        self.tasks.iter().any(failed)
    }

    /// What tasks left behind that ended without passing the barrier: their part of the cut. `None` where one of them
    /// failed, so that there is no cut. What sinks prepared is given out once, to who commits it (`for_commit`).
    pub fn left_before(&self, barrier: BarrierId, for_commit: bool) -> Option<Cut> {
        let mut all = Cut::default();
        for task in self.tasks.iter().filter(|task| task.barrier.load(Ordering::Acquire) < barrier.0) {
            let mut left = task.left.lock().unwrap_or_else(PoisonError::into_inner);
            let left = left.as_mut()?;
            let prepared = if for_commit { std::mem::take(&mut left.prepared) } else { BTreeMap::new() };
            all.add_ended(Cut { sources: left.sources.clone(), steps: left.steps.clone(), prepared, ..Cut::default() });
        }
        Some(all)
    }

    /// Returns once all tasks have ended.
    pub async fn all_ended(&self) {
        loop {
            let changed = self.changed.notified();
            if self.ended() {
                return;
            }
            changed.await;
        }
    }

    /// Whether all tasks have ended.
    pub fn ended(&self) -> bool {
        self.tasks.iter().all(|task| task.ended.load(Ordering::Acquire))
    }
}

impl TaskReport {
    /// This task has reached the barrier, and waits for what becomes of its change.
    pub fn reached(&self, barrier: BarrierId) {
        if let Some(task) = self.progress.tasks.get(self.task) {
            task.reached.store(barrier.0, Ordering::Release);
        }
        self.progress.changed.notify_waiters();
    }

    /// This task has passed the barrier; its change held it up for `pause_ns`.
    pub fn passed(&self, barrier: BarrierId, pause_ns: u64) {
        if let Some(task) = self.progress.tasks.get(self.task) {
            task.pause_ns.store(pause_ns, Ordering::Release);
            task.barrier.store(barrier.0, Ordering::Release);
        }
        self.progress.changed.notify_waiters();
    }
}

impl TaskReport {
    /// The input of this task has ended; `left` is what a later cut needs to know of it.
    pub fn finished(&self, left: Cut) {
        if let Some(task) = self.progress.tasks.get(self.task) {
            *task.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(left);
        }
    }
}

impl Drop for TaskReport {
    fn drop(&mut self) {
        if let Some(task) = self.progress.tasks.get(self.task) {
            task.ended.store(true, Ordering::Release);
        }
        self.progress.changed.notify_waiters();
    }
}
