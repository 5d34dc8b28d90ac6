//! What a swap would mean, told before it is done: verdicts, what becomes of state, how long tasks would stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::judge::Verdict;
use super::run::Life;
use super::swap::{Offers, SwapError, Swapped};
use crate::limits::MIGRATED_ROW_NS;
use crate::pipeline::change::Change;
use crate::pipeline::plan::{NodeKind, SlotId};
use crate::pipeline::resolve::Components;

/// A probe that has not come through by then says nothing.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// What a swap would do.
#[derive(Clone, Debug, Serialize)]
pub struct SwapPlan {
    /// by component
    pub planned: Vec<PlannedComponent>,
    /// how long a task would stand still; none where nobody can tell
    pub expected_pause: Option<ExpectedPause>,
}

/// One component that would change.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedComponent {
    /// from which version to which, and whether it fits
    #[serde(flatten)]
    pub change: Swapped,
    /// state that stays as it is
    pub keeps: Vec<String>,
    /// state that the new version would turn into its own
    pub migrates: Vec<String>,
    /// state that would be lost
    pub drops: Vec<String>,
    /// when state would be migrated, where it would be
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationPlan>,
}

/// When state is migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationPlan {
    /// while tasks go on, but for what changes in the last milliseconds: the pause does not grow with the state
    Ahead,
    /// while tasks stand still: the pause grows with the state
    AtCut,
}

/// How long a task would stand still for a change. State that migrates ahead of the cut is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ExpectedPause {
    /// the task that it holds up longest, with what it would migrate at the cut, ns
    pub pause_ns: u64,
    /// where the figure is from, but for what would be migrated
    pub from: PauseFigure,
    /// what of it is for state that would be migrated at the cut; none where none would
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationPause>,
}

/// How long a task would stand still to migrate state: an estimate, rows times what one costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MigrationPause {
    /// rows of state in the task that has most of them, as counted now
    pub rows: u64,
    /// what each would cost, ns
    pub row_ns: f64,
    /// where that is from
    pub row_from: RowFigure,
    /// all of them, ns
    pub pause_ns: u64,
}

/// Where the cost of a migrated row is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFigure {
    /// measured when state was last migrated at a cut of this run
    LastMigration,
    /// [`MIGRATED_ROW_NS`]: of rows with a few numbers
    Stated,
}

/// Where an expected pause is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseFigure {
    /// the last change of this run
    LastChange,
    /// a barrier that changes nothing, sent for it
    Probe,
}

impl Life {
    /// What a swap would do. Compiles and judges; the stream sees at most a barrier that changes nothing.
    pub(super) async fn plan(&self, requests: &[(String, PathBuf)]) -> Result<SwapPlan, SwapError> {
        let offers = self.offers(requests).await?;
        let changes = self.judged(&offers).await?;
        let running = self.shared.components.lock().await.clone();
        let mut planned = Vec::with_capacity(changes.len());
        for change in changes {
            let migration = match change.verdict {
                Verdict::Migrate { .. } => Some(self.migration_of(&change.step, &offers).await?),
                _ => None,
            };
            planned.push(self.planned(change, migration, &running));
        }
        let at_cut = planned.iter().filter(|planned| planned.migration == Some(MigrationPlan::AtCut));
        let at_cut: BTreeSet<&str> = at_cut.map(|planned| planned.change.step.as_str()).collect();
        let expected_pause = self.expected_pause(&at_cut).await;
        Ok(SwapPlan { planned, expected_pause })
    }

    /// When the state of a step would be migrated.
    async fn migration_of(&self, step: &str, offers: &Offers) -> Result<MigrationPlan, SwapError> {
        let components = self.shared.components.lock().await.clone();
        let mut successors = self.successors(step, offers, &components, &BTreeMap::new())?;
        Ok(if self.migrates_ahead(step, &mut successors) { MigrationPlan::Ahead } else { MigrationPlan::AtCut })
    }

    fn planned(&self, change: Swapped, migration: Option<MigrationPlan>, running: &Components) -> PlannedComponent {
        let held = self.held(&SlotId { step: change.step.clone(), slot: change.slot }, running);
        let (mut keeps, mut migrates, drops) = (Vec::new(), Vec::new(), Vec::new());
        match change.verdict {
            Verdict::Identical | Verdict::Compatible => keeps = held,
            Verdict::Migrate { .. } => migrates = held,
            Verdict::Refused(_) => {}
        }
        PlannedComponent { change, keeps, migrates, drops, migration }
    }

    /// What a component's step remembers for it.
    fn held(&self, slot: &SlotId, running: &Components) -> Vec<String> {
        let resolution = &self.shared.resolution;
        let Some(node) = resolution.plan.nodes.iter().find(|node| node.name == slot.step) else { return Vec::new() };
        let state = running.get(slot).and_then(|resolved| resolved.signature.state.as_ref());
        let fields = state.map(|state| state.fields.fields().iter().map(ToString::to_string).collect::<Vec<_>>());
        let mut held: Vec<String> = match &node.kind {
            NodeKind::Aggregate { .. } => vec!["open windows and when they fire".to_owned()],
            NodeKind::Process { .. } => vec!["timers".to_owned()],
            NodeKind::Source { .. } | NodeKind::Guest { .. } | NodeKind::Route { .. } | NodeKind::Select { .. } => {
                Vec::new()
            }
            NodeKind::Top { .. } | NodeKind::Join { .. } | NodeKind::Side { .. } | NodeKind::Sink { .. } => Vec::new(),
        };
        held.extend(fields.unwrap_or_default());
        held
    }

    /// The last change says most; before the first a barrier that changes nothing. It counts the state that steps would
    /// migrate at the cut.
    async fn expected_pause(&self, at_cut: &BTreeSet<&str>) -> Option<ExpectedPause> {
        let last = self.last_pause_ns().map(|pause_ns| (pause_ns, PauseFigure::LastChange));
        if let (Some((pause_ns, from)), true) = (last, at_cut.is_empty()) {
            return Some(ExpectedPause { pause_ns, from, migration: None });
        }
        let (life, probe) = (self.clone(), Arc::new(Change::with_count()));
        let change = Arc::clone(&probe);
        // goes on to its end: half a barrier would hold up the pipeline
        let sent = tokio::spawn(async move { life.send(&change).await });
        let sent = tokio::time::timeout(PROBE_PATIENCE, sent).await.ok()?.ok()?.ok()?;
        let (pause_ns, from) = last.unwrap_or((sent.1, PauseFigure::Probe));
        if at_cut.is_empty() {
            return Some(ExpectedPause { pause_ns, from, migration: None });
        }
        // steps of one task come one after the other
        let rows = at_cut.iter().map(|step| probe.counted(step)).sum::<Option<u64>>()?;
        let migration = migration_pause(rows, self.migrated_row_ns());
        Some(ExpectedPause { pause_ns: pause_ns.saturating_add(migration.pause_ns), from, migration: Some(migration) })
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an estimate, not negative
fn migration_pause(rows: u64, measured_row_ns: Option<f64>) -> MigrationPause {
    let (row_ns, row_from) = match measured_row_ns {
        Some(row_ns) => (row_ns, RowFigure::LastMigration),
        None => (MIGRATED_ROW_NS, RowFigure::Stated),
    };
    MigrationPause { rows, row_ns, row_from, pause_ns: (rows as f64 * row_ns) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_at_the_cut_is_expected_to_take_what_a_row_took_last_or_what_is_stated() {
        let stated = migration_pause(3_000, None);
        assert_eq!((stated.pause_ns, stated.row_from), ((3_000.0 * MIGRATED_ROW_NS) as u64, RowFigure::Stated));
        let measured = migration_pause(3_000, Some(250.0));
        assert_eq!((measured.pause_ns, measured.row_from), (750_000, RowFigure::LastMigration));
        assert_eq!((measured.rows, measured.row_ns), (3_000, 250.0));
        assert_eq!(migration_pause(0, Some(250.0)).pause_ns, 0);
    }

    #[test]
    fn of_a_step_the_task_with_most_rows_counts_and_one_that_does_not_know_leaves_all_unknown() {
        let probe = Change::with_count();
        [("a", Some(7)), ("a", Some(9)), ("a", Some(8)), ("b", Some(1)), ("b", None), ("b", Some(2))]
            .into_iter()
            .for_each(|(step, rows)| probe.count(step, rows));
        assert_eq!((probe.counted("a"), probe.counted("b"), probe.counted("c")), (Some(9), None, None));
    }
}
