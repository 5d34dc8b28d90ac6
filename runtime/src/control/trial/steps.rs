//! The steps of a trial: what they are to do at its barriers, and what is known of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::super::judge::Verdict;
use super::super::run::Life;
use super::super::successors::of_step;
use super::super::swap::{Offers, SwapError};
use super::budget::Facts;
use super::operators::Operators;
use super::status::{Traps, TriedStepStatus, facts};
use super::{Mode, Trial, TrialSpec};
use crate::operator::{Operator, OtherState, Share, SharedFigures, SlotVersions, TaskFigures, TrialStep};
use crate::pipeline::change::Change;
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::{Components, Resolved};
use crate::wasm::{ExactVersion, Gate, GuestMetrics, Witness};

/// A step of a trial.
#[derive(Debug)]
pub(super) struct TriedStep {
    pub(super) name: String,
    pub(super) from: Vec<ExactVersion>,
    pub(super) to: Vec<ExactVersion>,
    /// the components that a candidate runs, by slot: those that are tried and those that stay
    versions: SlotVersions,
    /// the candidate keeps other state
    migrates: bool,
    /// by subtask
    figures: Vec<SharedFigures>,
    /// where the running version's guests count, by subtask
    running: Vec<Arc<GuestMetrics>>,
    /// the same of the candidate's; empty where it is in the place of the running version
    candidate: Vec<Arc<GuestMetrics>>,
    /// calls of the running version that had gone wrong before
    traps_before: Mutex<u64>,
    /// those at the start of the trial
    traps_first: u64,
    is_stateless: bool,
    /// which keys are the candidate's
    share: Option<Share>,
}

/// The part of the key groups that a canary of `percent` has, in percent.
pub(super) fn share_percent(percent: f64) -> f64 {
    Share::new(percent, Vec::new()).percent()
}

impl TriedStep {
    fn figures(&self) -> TaskFigures {
        let mut all = TaskFigures::default();
        for figures in &self.figures {
            all.add(&figures.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    fn traps(&self) -> Traps {
        let now = trapped(&self.running);
        let before = *self.traps_before.lock().unwrap_or_else(PoisonError::into_inner);
        if self.candidate.is_empty() {
            // the same guests' account before the swap and behind it
            let (running, candidate) = (before.saturating_sub(self.traps_first), now.saturating_sub(before));
            return Traps { running, candidate };
        }
        Traps { running: now.saturating_sub(before), candidate: trapped(&self.candidate) }
    }

    /// Calls that go wrong from now on are those of another version.
    pub(super) fn count_from_here(&self) {
        *self.traps_before.lock().unwrap_or_else(PoisonError::into_inner) = trapped(&self.running);
    }

    pub(super) fn status(&self) -> TriedStepStatus {
        TriedStepStatus::new(&self.name, (&self.from, &self.to), &self.figures(), self.traps())
    }

    pub(super) fn facts(&self) -> Facts {
        facts(&self.figures(), self.traps())
    }

    /// Why the candidate cannot go on, where it cannot.
    pub(super) fn failed(&self) -> Option<String> {
        self.figures().failed.map(|reason| format!("the candidate of `{}` cannot go on: {reason}", self.name))
    }

    /// Why a task could not begin.
    pub(super) fn not_begun(&self) -> Option<(String, String)> {
        let failed = self.figures.iter().find_map(|figures| {
            let figures = figures.lock().unwrap_or_else(PoisonError::into_inner);
            figures.failed.clone().filter(|_| !figures.began)
        });
        failed.map(|reason| (self.name.clone(), format!("the candidate does not take over its state: {reason}")))
    }

    /// Whether no task has begun: all had ended.
    pub(super) fn is_nowhere(&self) -> bool {
        !self.figures().began
    }
}

/// Calls that went wrong.
fn trapped(metrics: &[Arc<GuestMetrics>]) -> u64 {
    let of = |metrics: &Arc<GuestMetrics>| {
        let counts = metrics.counts();
        counts.traps + counts.deadlines + counts.memory_denials + counts.contract_breaches
    };
    metrics.iter().map(of).sum()
}

/// Where the guests of a candidate count in one task.
fn counting(gate: Option<&Arc<Gate>>) -> Arc<GuestMetrics> {
    let watched = |gate: &Arc<Gate>| GuestMetrics::watched(Witness::new(Arc::clone(gate)));
    Arc::new(gate.map_or_else(GuestMetrics::default, watched))
}

impl Life {
    /// The steps that `offers` are for.
    pub(super) fn tried_steps(
        &self,
        offers: &Offers,
        running: &Components,
        verdicts: &BTreeMap<SlotId, Verdict>,
        spec: &TrialSpec,
    ) -> Result<Vec<TriedStep>, SwapError> {
        let mut names: Vec<&String> = offers.keys().map(|slot| &slot.step).collect();
        names.dedup();
        names.into_iter().map(|name| self.tried_step(name, (offers, running), verdicts, spec)).collect()
    }

    fn tried_step(
        &self,
        name: &str,
        (offers, runs): (&Offers, &Components),
        verdicts: &BTreeMap<SlotId, Verdict>,
        spec: &TrialSpec,
    ) -> Result<TriedStep, SwapError> {
        let tried = |slot: &SlotId| slot.step == name && offers.contains_key(slot);
        let versions = |of: &Components| -> Vec<ExactVersion> {
            of.iter().filter(|(slot, _)| tried(slot)).map(|(_, resolved)| resolved.version()).collect()
        };
        let mut of_candidate = of_step(name, runs);
        of_candidate.extend(of_step(name, offers));
        let migrates = |slot: &SlotId| matches!(verdicts.get(slot), Some(Verdict::Migrate { .. }));
        let is_stateless = self.is_stateless(name).ok_or_else(|| SwapError::CannotTry {
            step: name.to_owned(),
            reason: "only map, filter, flat_map, aggregate and process have room for one; use a plain swap".to_owned(),
        })?;
        let share = match spec.mode {
            Mode::Canary { percent } => Some(Share::new(percent, self.divided_by(name, &spec.by)?)),
            Mode::Shadow { .. } | Mode::Watch { .. } => None,
        };
        let running = self.guest_metrics(name).to_vec();
        let apart = !matches!(spec.mode, Mode::Watch { .. });
        // candidates leave capsules where what runs does
        let is_watched = running.iter().any(|guests| guests.witness().is_some());
        let gate = is_watched.then(|| Arc::new(Gate::of_candidates(self.shared.clock.clone())));
        let traps = trapped(&running);
        Ok(TriedStep {
            name: name.to_owned(),
            from: versions(runs),
            to: versions(offers),
            versions: of_candidate.iter().map(|(id, resolved)| (id.slot, resolved.version())).collect(),
            migrates: offers.keys().any(|slot| tried(slot) && migrates(slot)),
            figures: running.iter().map(|_| SharedFigures::default()).collect(),
            candidate: running.iter().filter(|_| apart).map(|_| counting(gate.as_ref())).collect(),
            running,
            traps_before: Mutex::new(traps),
            traps_first: traps,
            is_stateless,
            share,
        })
    }

    /// What puts a trial in place.
    pub(super) fn beginning(
        &self,
        trial: &Trial,
        components: &Components,
        verdicts: &BTreeMap<SlotId, Verdict>,
    ) -> Result<Change, SwapError> {
        let mut change = Change::default();
        for step in &trial.steps {
            let figures = step.figures.iter().map(Arc::clone);
            let tasks = match (trial.spec.mode, &step.share) {
                (Mode::Watch { .. }, _) => figures.map(|figures| TrialStep::Watch { figures }).collect(),
                (_, share) => {
                    let candidates = self.operators(&step.name, components, &trial.offers, &step.candidate)?;
                    let anew = share.as_ref().map(|_| self.anew(step, components)).transpose()?;
                    let mut anew = anew.unwrap_or_default().into_iter();
                    let mut behind = self.behind(step, components)?.into_iter();
                    let of_task = |(subtask, (candidate, figures)): (usize, (Box<dyn Operator>, _))| {
                        let of_task = (step.name.as_str(), subtask);
                        let migrations =
                            self.migrations(candidate.as_ref(), of_task, &trial.offers, components, verdicts)?;
                        let Some(share) = share.clone() else {
                            return Ok(TrialStep::Shadow { candidate, migrations, figures });
                        };
                        let other = behind.next().map(|behind| OtherState { behind, migrations });
                        let (running, versions) = (anew.next().flatten(), Arc::clone(&step.versions));
                        Ok(TrialStep::Canary { running, candidate, other, share, versions, figures })
                    };
                    let tasks = candidates.into_iter().zip(figures).enumerate().map(of_task);
                    tasks.collect::<Result<_, SwapError>>()?
                }
            };
            change.add_trial(&step.name, tasks);
            change.add_candidate(&step.name, step.candidate.clone());
        }
        Ok(change)
    }

    /// What takes a trial away; the running version goes on, with all state. Where candidates take its place at the same cut, those
    /// that keep other state take over what each version has, so nothing is put together for the running one.
    pub(super) fn ending(
        &self,
        trial: &Trial,
        components: &Components,
        is_promoted: bool,
    ) -> Result<Change, SwapError> {
        let mut change = Change::default();
        for step in &trial.steps {
            let running = match step.share {
                Some(_) if !(is_promoted && step.migrates) => self.anew(step, components)?,
                _ => step.figures.iter().map(|_| None).collect(),
            };
            change.add_trial(&step.name, running.into_iter().map(|running| TrialStep::End { running }).collect());
        }
        Ok(change)
    }

    /// What takes a trial without state of its own away.
    pub(super) fn ending_without_state(&self, trial: &Trial) -> Change {
        let mut change = Change::default();
        for step in &trial.steps {
            let tasks = step.figures.iter().map(|_| TrialStep::End { running: None });
            change.add_trial(&step.name, tasks.collect());
        }
        change
    }

    /// A change that a trial knows of and that takes nothing away: its tasks have been dealt with.
    pub(super) fn no_change(&self, trial: &Trial) -> Change {
        let mut change = Change::default();
        trial.steps.iter().for_each(|step| change.add_trial(&step.name, Vec::new()));
        change
    }

    /// The running version made anew for each task, to go on unseen behind a canary that keeps other state; none for others.
    fn behind(&self, step: &TriedStep, components: &Components) -> Result<Operators, SwapError> {
        if step.share.is_none() || !step.migrates {
            return Ok(Vec::new());
        }
        // what nobody sees counts nowhere
        let uncounted: Vec<Arc<GuestMetrics>> = step.running.iter().map(|_| Arc::default()).collect();
        self.operators(&step.name, components, &BTreeMap::new(), &uncounted)
    }

    /// The running version made anew for each task, if it has state.
    fn anew(
        &self,
        step: &TriedStep,
        components: &Components,
    ) -> Result<Vec<Option<Box<dyn crate::operator::Operator>>>, SwapError> {
        if step.is_stateless {
            return Ok(step.figures.iter().map(|_| None).collect());
        }
        let unchanged: BTreeMap<SlotId, Resolved> = BTreeMap::new();
        Ok(self.operators(&step.name, components, &unchanged, &step.running)?.into_iter().map(Some).collect())
    }
}
