//! Operators that take the place of others and take over their state, for a swap between versions that keep other state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::judge::Verdict;
use super::run::Life;
use super::swap::{Offers, SwapError};
use crate::operator::{Migration, Operator};
use crate::pipeline::build::{TasksSpill, instantiate_for, operators_of};
use crate::pipeline::change::Successor;
use crate::pipeline::plan::{NodeKind, SlotId};
use crate::pipeline::resolve::{Components, Resolution};

impl Life {
    /// One for each task of `step`, with all its components as they are to be: those that are offered and those that stay.
    pub(super) fn successors(
        &self,
        step: &str,
        offers: &Offers,
        running: &Components,
        verdicts: &BTreeMap<SlotId, Verdict>,
    ) -> Result<Vec<Successor>, SwapError> {
        let unknown = || self.unknown(step);
        let offered = of_step(step, offers);
        let mut components = of_step(step, running);
        components.extend(offered.clone());
        let index = self.place(step).ok_or_else(unknown)?;
        let shared = &self.shared;
        let metrics = &shared.nodes.get(index).ok_or_else(unknown)?.guests;
        let resolution = self.resolved_as(step, components)?;
        let spill = shared.spill.as_ref().and_then(TasksSpill::get);
        let operators = operators_of(&resolution, step, &shared.clock, spill.as_ref(), metrics);
        let operators = operators.map_err(SwapError::Start)?;
        let mut successors = Vec::with_capacity(operators.len());
        for (subtask, operator) in operators.into_iter().enumerate() {
            let migrations = self.migrations(operator.as_ref(), (step, subtask), &offered, running, verdicts)?;
            let versions = offered.iter().map(|(id, of)| (id.slot, of.version())).collect();
            successors.push(Successor { operator, migrations, versions });
        }
        Ok(successors)
    }

    /// Whether `step` hands its state over to these ahead of the cut: each of its tasks can, so that their pause does not grow with
    /// the state. What the versions of a canary have is put together where all stands still.
    pub(super) fn migrates_ahead(&self, step: &str, successors: &mut [Successor]) -> bool {
        let can = successors.iter_mut().all(|successor| successor.operator.sweeping().is_some());
        can && !self.is_divided(step)
    }

    /// What is to be done to the state of a task of `step` before `operator` can take it over.
    pub(super) fn migrations(
        &self,
        operator: &dyn Operator,
        (step, subtask): (&str, usize),
        offers: &Offers,
        running: &Components,
        verdicts: &BTreeMap<SlotId, Verdict>,
    ) -> Result<Vec<Migration>, SwapError> {
        let mut migrations = Vec::new();
        for (id, resolved) in offers.iter().filter(|(id, _)| id.step == step) {
            let before = running.get(id).and_then(|before| before.signature.state.clone());
            let (Some(Verdict::Migrate { .. }), Some(from)) = (verdicts.get(id), before) else { continue };
            let Some(kept) = operator.kept_columns(id.slot) else { continue };
            // what a migration costs is not what the step costs
            let guest = instantiate_for(resolved, step, subtask, Arc::default())
                .map_err(|source| SwapError::Guest { path: resolved.path.clone(), source })?;
            migrations.push(Migration { slot: id.slot, kept, from, guest });
        }
        Ok(migrations)
    }

    /// The plan with these components of `step`, which may read other columns than those it began with.
    pub(super) fn resolved_as(&self, step: &str, components: Components) -> Result<Resolution, SwapError> {
        let unknown = || self.unknown(step);
        let index = self.place(step).ok_or_else(unknown)?;
        let available = self.input_schema(step).ok_or_else(unknown)?;
        let mut plan = self.shared.resolution.plan.clone();
        let node = plan.nodes.get_mut(index).ok_or_else(unknown)?;
        for (id, resolved) in &components {
            let fields = resolved.signature.inputs.fields();
            let read: Vec<usize> = fields.iter().filter_map(|field| available.index_of(&field.name)).collect();
            match &mut node.kind {
                NodeKind::Aggregate { inputs, .. } => {
                    inputs.get_mut(id.slot).into_iter().for_each(|slot| slot.clone_from(&read));
                }
                NodeKind::Guest { inputs, .. } | NodeKind::Route { inputs, .. } => *inputs = read,
                _ => {}
            }
        }
        Ok(Resolution { plan, components })
    }
}

/// Those of one step.
pub(super) fn of_step(step: &str, components: &Components) -> Components {
    components.iter().filter(|(id, _)| id.step == step).map(|(id, of)| (id.clone(), of.clone())).collect()
}
