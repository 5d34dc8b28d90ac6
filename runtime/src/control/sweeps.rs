//! Migrations ahead of a swap's cut: begun at one barrier, looked after until little is left, and ended at another.

mod patience;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use patience::{Next, Patience};

use super::run::Life;
use super::swap::SwapError;
use crate::clock::Stopwatch;
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

    /// Which step a migration is of, and why it cannot be done.
    fn failed(&self, number: usize) -> (String, String) {
        let failed = self.all.get(number).map(|((step, _), sweep)| (step.clone(), sweep.progress().failed));
        failed.map(|(step, reason)| (step, reason.unwrap_or_default())).unwrap_or_default()
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
        let (watch, mut patience) = (Stopwatch::start(), Patience::default());
        loop {
            let progress: Vec<SweepProgress> = sweeps.all.iter().map(|(_, sweep)| sweep.progress()).collect();
            let next = patience.next(watch.elapsed(), &progress);
            if let Next::GiveUp(failed) = next {
                return Err(cannot(sweeps.failed(failed)));
            }
            if self.shared.progress.ended() || self.has_failed() {
                return Err(SwapError::Ended);
            }
            if next == Next::Cut {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
