//! Migrations ahead of a swap's cut: begun at one barrier, looked after until little is left, and ended at another.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::run::Life;
use super::swap::SwapError;
use crate::clock::Stopwatch;
use crate::limits::{SWEEP_LONGEST, SWEEP_PATIENCE};
use crate::pipeline::change::Change;
use crate::pipeline::sweep::{Sweep, SweepProgress};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// What became of state that another version had kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// pieces of state that were migrated while tasks went on
    pub rounds: u64,
    /// rows of state in them; one that changed meanwhile as often as it was migrated
    pub rows_ahead: u64,
    /// rows of state that were migrated while their tasks stood still
    pub rows_at_cut: u64,
}

/// Migrations that go on. They end when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    /// by step and subtask
    all: Vec<((String, usize), Arc<Sweep>)>,
}

impl Sweeps {
    pub(super) fn add(&mut self, step: &str, subtask: usize, sweep: Sweep) {
        self.all.push(((step.to_owned(), subtask), Arc::new(sweep)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What they have done, beside the `others` rows that were migrated at the cut.
    pub(super) fn figures(&self, others: u64) -> Migrated {
        let mut figures = Migrated { rows_at_cut: others, ..Migrated::default() };
        for SweepProgress { rounds, rows_ahead, rows_at_cut, .. } in self.all.iter().map(|(_, sweep)| sweep.progress())
        {
            figures.rounds += rounds;
            figures.rows_ahead += rows_ahead;
            figures.rows_at_cut += rows_at_cut;
        }
        figures
    }

    /// The first that cannot be done, and why.
    fn failed(&self) -> Option<(String, String)> {
        self.all.iter().find_map(|((step, _), sweep)| Some((step.clone(), sweep.progress().failed?)))
    }

    fn all(&self, is: impl Fn(&SweepProgress) -> bool) -> bool {
        self.all.iter().map(|(_, sweep)| sweep.progress()).all(|progress| progress.is_gone || is(&progress))
    }
}

impl Drop for Sweeps {
    fn drop(&mut self) {
        self.all.iter().for_each(|(_, sweep)| sweep.end());
    }
}

impl Life {
    /// Migrates state while tasks go on, until no more is left than changes in a few milliseconds. An error is of the first
    /// step that cannot: which, and why; nothing has changed then.
    pub(super) async fn migrate_ahead(&self, sweeps: &Sweeps) -> Result<(), SwapError> {
        let cannot = |(step, reason)| SwapError::Migration { path: Default::default(), step, reason };
        for ((step, _), sweep) in &sweeps.all {
            sweep.spawn().map_err(|error| cannot((step.clone(), format!("no thread for it: {error}"))))?;
        }
        let begin = sweeps.all.iter().map(|(at, sweep)| (at.clone(), Arc::clone(sweep)));
        self.send(&Arc::new(Change::with_sweeps(begin))).await?;
        let (since_begin, mut since_all) = (Stopwatch::start(), None::<Stopwatch>);
        loop {
            if let Some(failed) = sweeps.failed() {
                return Err(cannot(failed));
            }
            if self.shared.progress.ended() || self.has_failed() {
                return Err(SwapError::Ended);
            }
            if sweeps.all(|progress| progress.caught_up) {
                return Ok(());
            }
            if since_all.is_none() && sweeps.all(|progress| progress.has_seen_all) {
                since_all = Some(Stopwatch::start());
            }
            let is_late = since_all.as_ref().is_some_and(|since| since.elapsed() > SWEEP_PATIENCE);
            if is_late || since_begin.elapsed() > SWEEP_LONGEST {
                // state changes, or comes, quicker than it is migrated, which does not get better
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
