//! How a trial comes into a task and leaves it, at a barrier.

use std::fmt;

use super::split::internal;
use super::{Canary, Shadow, Share, SharedFigures, Watched, note, union};
use crate::operator::trial::compare::Comparison;
use crate::operator::{Migration, Operator, OperatorError, Output, SlotVersions};
use crate::record::{Batch, Watermark};
use crate::state::Snapshot;

/// What becomes of a step in one task at a barrier. All that can fail has been done before, but for taking over state.
pub enum TrialStep {
    /// a candidate, made and without state, is to see what the running version sees
    Shadow {
        /// of the same step
        candidate: Box<dyn Operator>,
        /// what is to be done to state before it can take it over
        migrations: Vec<Migration>,
        /// where the task tells what it sees
        figures: SharedFigures,
    },
    /// a candidate is to have a share of the keys
    Canary {
        /// the running version, made anew and without state, which goes on with the other keys; none: there is no state
        running: Option<Box<dyn Operator>>,
        /// of the same step
        candidate: Box<dyn Operator>,
        /// where the candidate keeps other state
        other: Option<OtherState>,
        /// which keys
        share: Share,
        /// of the candidate's components by slot, for dead rows
        versions: SlotVersions,
        /// where the task tells what it sees
        figures: SharedFigures,
    },
    /// the running version is to be timed, and what takes its place
    Watch {
        /// where the task tells what it sees
        figures: SharedFigures,
    },
    /// the running version goes on alone
    End {
        /// the running version, made anew and without state, for the state of both after a canary; none: there is no state
        running: Option<Box<dyn Operator>>,
    },
}

/// What a canary needs whose candidate keeps other state than the running version.
pub struct OtherState {
    /// The running version made anew once more, without state: it goes on with the candidate's keys, unseen, so that they can be
    /// the running version's again at any barrier.
    pub behind: Box<dyn Operator>,
    /// what is to be done to state before the candidate can take it over
    pub migrations: Vec<Migration>,
}

/// The versions of a trial.
pub struct Apart {
    /// the running version
    pub running: Box<dyn Operator>,
    /// who has the state of a canary's keys, as the running version keeps it
    pub canary: Option<Box<dyn Operator>>,
}

impl TrialStep {
    /// What takes the place of `operator`, which has seen all before the barrier, up to `watermark`. Where a candidate cannot
    /// take over state there is no trial: its figures say why, and `operator` goes on.
    pub fn apply(self, operator: Box<dyn Operator>, watermark: Watermark) -> Result<Box<dyn Operator>, OperatorError> {
        match self {
            Self::Shadow { candidate, migrations, figures } => {
                shadow(operator, (candidate, migrations), figures, watermark)
            }
            Self::Canary { running, candidate, other, share, versions, figures } => {
                let canary = Canary {
                    running: Box::new(Gone),
                    candidate,
                    behind: None,
                    is_off: false,
                    is_stateless: running.is_none(),
                    goes_on: [false; 2],
                    share,
                    versions,
                    figures,
                };
                divided(operator, (running, other), canary, watermark)
            }
            Self::Watch { figures } => {
                note(&figures, |figures| figures.began = true);
                Ok(Box::new(Watched { operator, is_swapped: false, figures }))
            }
            Self::End { running } => ended(operator, running, watermark),
        }
    }
}

fn shadow(
    mut running: Box<dyn Operator>,
    (mut candidate, migrations): (Box<dyn Operator>, Vec<Migration>),
    figures: SharedFigures,
    watermark: Watermark,
) -> Result<Box<dyn Operator>, OperatorError> {
    let state = made(running.snapshot()?)?;
    let migrated = migrations.into_iter().try_fold(state, |state, mut migration| migration.run(state));
    let restored = migrated.map_err(|error| error.to_string());
    let restored = restored.and_then(|state| candidate.restore(&state, watermark).map_err(|error| error.to_string()));
    if let Err(reason) = restored {
        note(&figures, |figures| figures.failed = Some(reason));
        return Ok(running);
    }
    note(&figures, |figures| figures.began = true);
    let (comparison, scratch) = (Comparison::default(), Output::default());
    let candidate = Some(candidate);
    Ok(Box::new(Shadow { running, candidate, goes_on: [false; 2], comparison, scratch, figures }))
}

fn divided(
    mut operator: Box<dyn Operator>,
    (running, other): (Option<Box<dyn Operator>>, Option<OtherState>),
    mut canary: Canary,
    watermark: Watermark,
) -> Result<Box<dyn Operator>, OperatorError> {
    if let Some(mut running) = running {
        let (kept, given) = canary.share.divide(&made(operator.snapshot()?)?)?;
        let restored = running.restore(&kept, watermark).map_err(|error| error.to_string());
        let restored = restored.and_then(|()| canary.take_up(given, other, watermark));
        if let Err(reason) = restored {
            note(&canary.figures, |figures| figures.failed = Some(reason));
            return Ok(operator);
        }
        operator = running;
    }
    canary.running = operator;
    note(&canary.figures, |figures| figures.began = true);
    Ok(Box::new(canary))
}

impl Canary {
    /// The candidate takes over the state of its keys. The error is for people.
    fn take_up(&mut self, given: Snapshot, other: Option<OtherState>, watermark: Watermark) -> Result<(), String> {
        let mut state = given;
        if let Some(OtherState { mut behind, migrations }) = other {
            behind.restore(&state, watermark).map_err(|error| error.to_string())?;
            self.behind = Some(behind);
            for mut migration in migrations {
                state = migration.run(state).map_err(|error| error.to_string())?;
            }
        }
        self.candidate.restore(&state, watermark).map_err(|error| error.to_string())
    }
}

fn ended(
    mut operator: Box<dyn Operator>,
    fresh: Option<Box<dyn Operator>>,
    watermark: Watermark,
) -> Result<Box<dyn Operator>, OperatorError> {
    // there is none in this task
    let Some(Apart { mut running, canary }) = operator.take_apart() else { return Ok(operator) };
    let (Some(mut candidate), Some(mut fresh)) = (canary, fresh) else { return Ok(running) };
    let state = made(union(running.snapshot()?, candidate.snapshot()?))?;
    fresh.restore(&state, watermark)?;
    Ok(fresh)
}

/// With all rows that a restore reads.
fn made(state: Snapshot) -> Result<Snapshot, OperatorError> {
    state.made().map_err(|error| internal(&error))
}

impl fmt::Debug for TrialStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shadow { .. } => "Shadow",
            Self::Canary { .. } => "Canary",
            Self::Watch { .. } => "Watch",
            Self::End { .. } => "End",
        })
    }
}

/// A trial is not restored: no checkpoint knows of one.
pub(super) fn no_restore() -> OperatorError {
    OperatorError::Internal { reason: "state for a trial".to_owned() }
}

/// In the place of an operator that is elsewhere.
pub(super) struct Gone;

impl Operator for Gone {
    fn on_batch(&mut self, _batch: Batch, _out: &mut Output) -> Result<(), OperatorError> {
        Err(OperatorError::Internal { reason: "rows for a version that has been taken away".to_owned() })
    }
}

/// Puts what `step` makes of it in the place of `operator`.
pub(crate) fn put_in_place(
    operator: &mut Box<dyn Operator>,
    step: TrialStep,
    watermark: Watermark,
) -> Result<(), OperatorError> {
    let before = std::mem::replace(operator, Box::new(Gone));
    *operator = step.apply(before, watermark)?;
    Ok(())
}
