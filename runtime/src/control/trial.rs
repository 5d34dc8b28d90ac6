//! Candidates tried in production: beside the running version, for a share of its keys, or in its place and watched.
//!
//! ```text
//!   starting ─▶ running ─┬─ its time is over ─────────▶ ending ─▶ finished
//!                        ├─ promote ──────────────────▶ ending ─▶ promoted
//!                        ├─ rollback, budget, failure ▶ ending ─▶ rolled back
//!                        └─ the pipeline ends or fails ─────────▶ pipeline ended
//! ```
//!
//! A trial comes at a barrier and goes at one, as a swap does; `operator/trial.rs` is what stands in the tasks meanwhile. It
//! belongs to one life of the pipeline: no checkpoint knows of it, and the next life goes on with the running version.

mod budget;
mod migrating;
mod operators;
mod spec;
mod status;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use budget::{Breach, Budget, BudgetError};
pub use spec::{Mode, TrialRequest, TrialSpec, TrialSpecError};
pub use status::{ExampleStatus, SideStatus, TrialMode, TrialState, TrialStatus, TriedStepStatus};

use std::path::PathBuf;

use self::steps::TriedStep;
use super::run::{Life, Shared};
use super::swap::{Noted, Offers, SwapError};
use crate::clock::Stopwatch;
use crate::pipeline::change::Change;
use crate::pipeline::resolve::Components;
use crate::wasm::ExactVersion;

/// Between two looks at a trial.
const LOOK: Duration = Duration::from_millis(100);

/// Before it is tried again to end a trial that could not be ended.
const END_AGAIN: Duration = Duration::from_secs(5);
const END_AGAIN_MAX: Duration = Duration::from_secs(300);

/// How long the running version is timed before a watched swap that has a budget for cost; no longer than the watch.
const BASELINE: Duration = Duration::from_secs(2);

/// A trial, from its start to the end of the life that it belongs to.
#[derive(Debug)]
pub(super) struct Trial {
    spec: TrialSpec,
    steps: Vec<TriedStep>,
    /// what is tried
    offers: Offers,
    /// what runs in the same places
    before: Offers,
    progress: Mutex<TrialProgress>,
}

#[derive(Debug)]
struct TrialProgress {
    state: TrialState,
    /// since it is in place
    watch: Stopwatch,
    /// at its end
    took: Option<Duration>,
    breach: Option<Breach>,
    reason: Option<String>,
}

/// Why a trial ends.
#[derive(Debug)]
enum Ending {
    Finished,
    Promoted,
    RolledBack { breach: Option<Breach>, reason: Option<String> },
}

impl Trial {
    fn new(spec: TrialSpec, steps: Vec<TriedStep>, offers: Offers, before: Offers) -> Self {
        let progress = TrialProgress {
            state: TrialState::Starting,
            watch: Stopwatch::start(),
            took: None,
            breach: None,
            reason: None,
        };
        Self { spec, steps, offers, before, progress: Mutex::new(progress) }
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, TrialProgress> {
        // each change is one assignment after the other: nothing is ever half done
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> TrialState {
        self.progress().state
    }

    fn set(&self, state: TrialState) {
        let mut progress = self.progress();
        if state == TrialState::Running {
            progress.watch = Stopwatch::start();
        }
        if state.is_over() && progress.took.is_none() {
            progress.took = Some(progress.watch.elapsed());
        }
        progress.state = state;
    }

    /// One caller ends a running trial.
    fn begin_end(&self) -> bool {
        let mut progress = self.progress();
        let is_running = progress.state == TrialState::Running;
        if is_running {
            progress.state = TrialState::Ending;
            progress.took = Some(progress.watch.elapsed());
        }
        is_running
    }

    fn during(&self) -> Option<Duration> {
        match self.spec.mode {
            Mode::Shadow { during } => during,
            Mode::Canary { .. } => None,
            Mode::Watch { during } => Some(during),
        }
    }

    fn names(&self) -> String {
        self.steps.iter().map(|step| format!("`{}`", step.name)).collect::<Vec<_>>().join(", ")
    }

    /// One line for each step, with the versions that are compared.
    fn log(&self, what: &str) {
        let state = self.state();
        for step in &self.steps {
            let versions = |of: &[ExactVersion]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let (name, from, candidate) = (&step.name, versions(&step.from), versions(&step.to));
            tracing::info!(step = name, version = candidate, from, ?state, "{what}");
        }
    }

    fn status(&self) -> TrialStatus {
        let progress = self.progress();
        let elapsed = progress.took.unwrap_or_else(|| progress.watch.elapsed());
        let left = self.during().filter(|_| !progress.state.is_over()).map(|during| during.saturating_sub(elapsed));
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let (mode, share_percent) = match self.spec.mode {
            Mode::Shadow { .. } => (TrialMode::Shadow, None),
            Mode::Canary { percent } => (TrialMode::Canary, Some(steps::share_percent(percent))),
            Mode::Watch { .. } => (TrialMode::Watch, None),
        };
        TrialStatus {
            mode,
            share_percent,
            state: progress.state,
            reason: progress.reason.clone(),
            breach: progress.breach.clone(),
            elapsed_ms: ms(elapsed),
            remaining_ms: left.map(ms),
            rollback_on: self.spec.budgets.iter().map(ToString::to_string).collect(),
            steps: self.steps.iter().map(TriedStep::status).collect(),
        }
    }

    /// The first budget that is used up.
    fn breach(&self, is_over: bool) -> Option<Breach> {
        let judged = |step: &TriedStep| {
            let facts = step.facts();
            self.spec.budgets.iter().find_map(|budget| budget.breach(&facts, is_over))
        };
        self.steps.iter().find_map(judged)
    }

    /// What should happen to it now.
    fn due(&self) -> Option<Ending> {
        let is_over = self.during().is_some_and(|during| self.progress().watch.elapsed() >= during);
        if let Some(breach) = self.breach(is_over) {
            return Some(Ending::RolledBack { breach: Some(breach), reason: None });
        }
        if let Some(reason) = self.steps.iter().find_map(TriedStep::failed) {
            return Some(Ending::RolledBack { breach: None, reason: Some(reason) });
        }
        is_over.then_some(Ending::Finished)
    }
}

impl Life {
    /// Refuses what a trial is in the way of.
    pub(super) fn no_trial_runs(&self) -> Result<(), SwapError> {
        match self.trial() {
            Some(trial) if !trial.state().is_over() => Err(SwapError::TrialRuns { steps: trial.names() }),
            _ => Ok(()),
        }
    }

    /// Whether a canary of this step goes on, or is about to end.
    pub(super) fn is_divided(&self, step: &str) -> bool {
        let trial = self.trial().filter(|trial| !trial.state().is_over());
        trial.is_some_and(|trial| {
            matches!(trial.spec.mode, Mode::Canary { .. }) && trial.steps.iter().any(|tried| tried.name == step)
        })
    }

    fn trial(&self) -> Option<Arc<Trial>> {
        self.shared.trial.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls that went wrong while state was migrated for a watched swap are those of the running version.
    pub(super) fn count_trial_from_here(&self) {
        let starting = self.trial().filter(|trial| trial.state() == TrialState::Starting);
        starting.iter().flat_map(|trial| &trial.steps).for_each(TriedStep::count_from_here);
    }

    /// The trial that goes on, or went on last.
    pub(super) fn trial_status(&self) -> Option<TrialStatus> {
        let trial = self.trial()?;
        if self.shared.progress.ended() && !trial.state().is_over() {
            trial.set(TrialState::PipelineEnded);
        }
        Some(trial.status())
    }

    /// The budget that the last trial has used up by all that it has seen.
    pub(super) fn final_breach(&self) -> Option<Breach> {
        self.trial()?.breach(true)
    }

    /// Puts candidates in place to be tried. Goes on to its end when the future is dropped.
    pub(super) async fn try_out(
        &self,
        requests: &[(String, PathBuf)],
        spec: TrialSpec,
    ) -> Result<TrialStatus, SwapError> {
        self.no_trial_runs()?;
        let (life, offers) = (self.clone(), self.offers(requests).await?);
        let begin = async move {
            let trial = life.begin(offers, spec).await?;
            tokio::spawn(look_after(Arc::downgrade(&life.shared), Arc::clone(&trial)));
            Ok(trial.status())
        };
        tokio::spawn(begin).await.map_err(|_| SwapError::Ended)?
    }

    /// Makes the candidates of the trial that goes on the versions of their steps.
    pub(super) async fn promote(&self) -> Result<TrialStatus, SwapError> {
        self.end(Ending::Promoted).await
    }

    /// Ends the trial that goes on, with the versions of before.
    pub(super) async fn abandon_trial(&self) -> Result<TrialStatus, SwapError> {
        self.end(Ending::RolledBack { breach: None, reason: None }).await
    }

    async fn end(&self, ending: Ending) -> Result<TrialStatus, SwapError> {
        let trial = self.trial().ok_or(SwapError::NoTrial)?;
        let life = self.clone();
        let end = async move { life.end_trial(&trial, ending).await.map(|()| trial.status()) };
        tokio::spawn(end).await.map_err(|_| SwapError::Ended)?
    }

    async fn begin(&self, mut offers: Offers, spec: TrialSpec) -> Result<Arc<Trial>, SwapError> {
        let turn = self.shared.swap_turn.lock().await;
        let components = self.shared.components.lock().await;
        self.no_trial_runs()?;
        let mut verdicts = BTreeMap::new();
        for (slot, offered) in &offers {
            let running = components.get(slot).ok_or_else(|| self.unknown(&slot.step))?;
            // guests of a trial are made apart; what does not fit is refused here
            let (verdict, _) = self.replacements(slot, running, offered)?;
            verdicts.insert(slot.clone(), verdict);
        }
        self.can_migrate_in_trial(&spec, &offers, &components, &verdicts)?;
        let of_offers = components.iter().filter(|(slot, _)| offers.contains_key(slot));
        let before: Offers = of_offers.map(|(slot, resolved)| (slot.clone(), resolved.clone())).collect();
        self.versions().number(&mut offers);
        let made = self.tried_steps(&offers, &components, &verdicts, &spec).and_then(|steps| {
            let trial = Arc::new(Trial::new(spec, steps, offers.clone(), before));
            self.beginning(&trial, &components, &verdicts).map(|change| (trial, change))
        });
        let (trial, change) = made.inspect_err(|_| self.versions().give_back(&offers))?;
        *self.shared.trial.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&trial));
        let begun = match trial.spec.mode {
            Mode::Watch { during } => {
                drop(components);
                drop(turn);
                self.begin_watch(&trial, change, during).await
            }
            Mode::Shadow { .. } | Mode::Canary { .. } => self.put_beside(&trial, change, &components).await,
        };
        match &begun {
            Ok(()) => {
                trial.set(TrialState::Running);
                trial.log("a candidate is tried");
            }
            Err(SwapError::Ended) => trial.set(TrialState::PipelineEnded),
            Err(error) => {
                self.versions().give_back(&offers);
                trial.progress().reason = Some(format!("it could not begin: {error}"));
                trial.set(TrialState::RolledBack);
            }
        }
        begun.map(|()| trial)
    }

    /// Sends a trial to all tasks; where one of them could not begin it is taken back everywhere.
    async fn put_beside(&self, trial: &Trial, change: Change, components: &Components) -> Result<(), SwapError> {
        self.send(&Arc::new(change)).await?;
        if let Some((step, reason)) = trial.steps.iter().find_map(TriedStep::not_begun) {
            self.send(&Arc::new(self.ending(trial, components, false)?)).await?;
            return Err(SwapError::CannotTry { step, reason });
        }
        if trial.steps.iter().all(TriedStep::is_nowhere) {
            return Err(SwapError::Ended);
        }
        Ok(())
    }

    /// Times what runs, if its cost matters, then swaps.
    async fn begin_watch(&self, trial: &Trial, change: Change, during: Duration) -> Result<(), SwapError> {
        let with_swap = if trial.spec.budgets.iter().any(|budget| matches!(budget, Budget::P99(_))) {
            self.send(&Arc::new(change)).await?;
            tokio::time::sleep(BASELINE.min(during)).await;
            // says that the trial knows of this swap
            self.no_change(trial)
        } else {
            change
        };
        trial.steps.iter().for_each(TriedStep::count_from_here);
        let swapped = self.carry_out(trial.offers.clone(), Stopwatch::start(), with_swap, Noted::Swapped).await;
        if let Err(error) = swapped {
            self.send(&Arc::new(self.ending_without_state(trial))).await?;
            return Err(error);
        }
        Ok(())
    }

    /// Ends a trial at one cut; the one who comes first says how.
    async fn end_trial(&self, trial: &Trial, ending: Ending) -> Result<(), SwapError> {
        if !trial.begin_end() {
            return Err(SwapError::NoTrial);
        }
        let result = match (&ending, trial.spec.mode) {
            (Ending::Promoted, Mode::Shadow { .. } | Mode::Canary { .. }) => self.end_with(trial, &trial.offers).await,
            (Ending::RolledBack { .. }, Mode::Watch { .. }) => self.end_with(trial, &trial.before).await,
            _ => self.end_alone(trial).await,
        };
        let state = match (&result, &ending) {
            (Err(SwapError::Ended), _) => TrialState::PipelineEnded,
            // all tasks are as they were: it goes on
            (Err(_), _) => TrialState::Running,
            (Ok(()), Ending::Finished) => TrialState::Finished,
            (Ok(()), Ending::Promoted) => TrialState::Promoted,
            (Ok(()), Ending::RolledBack { .. }) => TrialState::RolledBack,
        };
        if let (Ok(()), Ending::RolledBack { breach, reason }) = (&result, ending) {
            let mut progress = trial.progress();
            (progress.breach, progress.reason) = (breach, reason);
        }
        let mut progress = trial.progress();
        if let Err(error) = &result {
            progress.reason = Some(format!("it cannot be ended: {error}"));
        }
        progress.state = state;
        if state == TrialState::Running {
            progress.took = None;
        }
        drop(progress);
        if state.is_over() {
            trial.log("a trial is over");
        }
        result
    }

    async fn end_alone(&self, trial: &Trial) -> Result<(), SwapError> {
        let components = self.shared.components.lock().await;
        self.send(&Arc::new(self.ending(trial, &components, false)?)).await?;
        if self.has_failed() { Err(SwapError::Ended) } else { Ok(()) }
    }

    /// Ends a trial and puts `offers` in the place of what runs, at the same cut.
    async fn end_with(&self, trial: &Trial, offers: &Offers) -> Result<(), SwapError> {
        let components = self.shared.components.lock().await.clone();
        let change = self.ending(trial, &components, true)?;
        let watched = matches!(trial.spec.mode, Mode::Watch { .. });
        let noted = if watched { Noted::RolledBack } else { Noted::Swapped };
        self.carry_out(offers.clone(), Stopwatch::start(), change, noted).await?;
        Ok(())
    }
}

/// Looks at a trial until it is over, and ends it where it is due.
async fn look_after(shared: Weak<Shared>, trial: Arc<Trial>) {
    let mut again = END_AGAIN;
    loop {
        tokio::time::sleep(LOOK).await;
        if trial.state().is_over() {
            return;
        }
        let Some(shared) = shared.upgrade() else { return };
        let life = Life { shared };
        if life.shared.progress.ended() || life.has_failed() {
            trial.set(TrialState::PipelineEnded);
            return;
        }
        if trial.state() != TrialState::Running {
            continue;
        }
        let Some(ending) = trial.due() else { continue };
        let names = trial.names();
        if let Ending::RolledBack { breach, reason } = &ending {
            let why = breach.as_ref().map(|breach| format!("{}: {}", breach.budget, breach.measured));
            let why = why.or_else(|| reason.clone()).unwrap_or_default();
            tracing::warn!(steps = names, why, "a candidate is taken back");
        }
        match life.end_trial(&trial, ending).await {
            Ok(()) | Err(SwapError::NoTrial | SwapError::Ended) => {}
            Err(error) => {
                tracing::warn!(steps = names, %error, "a trial cannot be ended; it is tried again, `promote` keeps the candidate");
                // each try may migrate all state
                tokio::time::sleep(again).await;
                again = (again * 2).min(END_AGAIN_MAX);
            }
        }
    }
}
