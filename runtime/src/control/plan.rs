//! What a swap would mean, told before it is done: verdicts, what becomes of state, how long tasks would stand still.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::judge::Verdict;
use super::run::Life;
use super::swap::{Offers, SwapError, Swapped};
use crate::pipeline::change::Change;
use crate::pipeline::plan::{NodeKind, SlotId};

/// A probe that has not come through by then says nothing.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// What a swap would do.
#[derive(Clone, Debug, Serialize)]
pub struct SwapPlan {
    /// by component
    pub planned: Vec<PlannedComponent>,
    /// how long a task would stand still; none where nobody can tell, as where state is migrated at the cut
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

/// How long a task would stand still for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExpectedPause {
    /// the task that it holds up longest, ns
    pub pause_ns: u64,
    /// where the figure is from
    pub from: PauseFigure,
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
        let mut planned = Vec::with_capacity(changes.len());
        for change in changes {
            let migration = match change.verdict {
                Verdict::Migrate { .. } => Some(self.migration_of(&change.step, &offers).await?),
                _ => None,
            };
            planned.push(self.planned(change, migration));
        }
        // how many rows of state there are is not known without a look at all of them
        let at_cut = planned.iter().any(|planned| planned.migration == Some(MigrationPlan::AtCut));
        Ok(SwapPlan { planned, expected_pause: if at_cut { None } else { self.expected_pause().await } })
    }

    /// When the state of a step would be migrated.
    async fn migration_of(&self, step: &str, offers: &Offers) -> Result<MigrationPlan, SwapError> {
        let components = self.shared.components.lock().await.clone();
        let mut successors = self.successors(step, offers, &components, &BTreeMap::new())?;
        let ahead = successors.iter_mut().all(|successor| successor.operator.sweeping().is_some());
        Ok(if ahead { MigrationPlan::Ahead } else { MigrationPlan::AtCut })
    }

    fn planned(&self, change: Swapped, migration: Option<MigrationPlan>) -> PlannedComponent {
        let held = self.held(&SlotId { step: change.step.clone(), slot: change.slot });
        let (mut keeps, mut migrates, drops) = (Vec::new(), Vec::new(), Vec::new());
        match change.verdict {
            Verdict::Identical | Verdict::Compatible => keeps = held,
            Verdict::Migrate { .. } => migrates = held,
            Verdict::Refused(_) => {}
        }
        PlannedComponent { change, keeps, migrates, drops, migration }
    }

    /// What a component's step remembers for it.
    fn held(&self, slot: &SlotId) -> Vec<String> {
        let resolution = &self.shared.resolution;
        let Some(node) = resolution.plan.nodes.iter().find(|node| node.name == slot.step) else { return Vec::new() };
        let state = resolution.components.get(slot).and_then(|resolved| resolved.signature.state.as_ref());
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

    /// The last change says most; before the first a barrier that changes nothing.
    async fn expected_pause(&self) -> Option<ExpectedPause> {
        if let Some(pause_ns) = self.last_pause_ns() {
            return Some(ExpectedPause { pause_ns, from: PauseFigure::LastChange });
        }
        let life = self.clone();
        // goes on to its end: half a barrier would hold up the pipeline
        let probe = tokio::spawn(async move { life.send(&Arc::new(Change::default())).await });
        let sent = tokio::time::timeout(PROBE_PATIENCE, probe).await.ok()?.ok()?.ok()?;
        Some(ExpectedPause { pause_ns: sent.1, from: PauseFigure::Probe })
    }
}
