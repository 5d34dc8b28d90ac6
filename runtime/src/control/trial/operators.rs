//! Operators of a candidate, or of the running version made anew: ready to be called, without state.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::run::Life;
use super::super::successors::of_step;
use super::super::swap::SwapError;
use crate::operator::Operator;
use crate::pipeline::build::{TasksSpill, operators_of};
use crate::pipeline::plan::{NodeKind, SlotId};
use crate::pipeline::resolve::{Components, Resolved};
use crate::wasm::GuestMetrics;

/// Operators of a step, by subtask.
pub(super) type Operators = Vec<Box<dyn Operator>>;

impl Life {
    /// Operators of `step` with the components that run, but for those in `versions`. Guests count in `metrics`.
    pub(super) fn operators(
        &self,
        step: &str,
        running: &Components,
        versions: &BTreeMap<SlotId, Resolved>,
        metrics: &[Arc<GuestMetrics>],
    ) -> Result<Operators, SwapError> {
        let refused = |reason: String| SwapError::CannotTry { step: step.to_owned(), reason };
        let shared = &self.shared;
        let mut components = of_step(step, running);
        components.extend(of_step(step, versions));
        let resolution = self.resolved_as(step, components)?;
        let spill = shared.spill.as_ref().and_then(TasksSpill::get);
        let operators = operators_of(&resolution, step, &shared.clock, spill.as_ref(), metrics);
        operators.map_err(|error| refused(error.to_string()))
    }

    /// Whether a step keeps nothing between two rows; none for what is no step that can be tried.
    pub(super) fn is_stateless(&self, step: &str) -> Option<bool> {
        let node = self.shared.resolution.plan.nodes.iter().find(|node| node.name == step)?;
        match node.kind {
            NodeKind::Guest { .. } => Some(true),
            NodeKind::Aggregate { .. } | NodeKind::Process { .. } => Some(false),
            NodeKind::Source { .. } | NodeKind::Route { .. } | NodeKind::Select { .. } | NodeKind::Top { .. } => None,
            NodeKind::Join { .. } | NodeKind::Side { .. } | NodeKind::Sink { .. } => None,
        }
    }

    /// For each input of a step the columns whose values say whose a row is in a canary: its keys, or for a step without
    /// state those named, or else all.
    pub(super) fn divided_by(&self, step: &str, by: &[String]) -> Result<Vec<Vec<usize>>, SwapError> {
        let refused = |reason: String| SwapError::CannotTry { step: step.to_owned(), reason };
        let plan = &self.shared.resolution.plan;
        let node = plan.nodes.iter().find(|node| node.name == step);
        let node = node.ok_or_else(|| refused("there is no such step".to_owned()))?;
        if self.is_stateless(step) == Some(false) {
            let keys: Vec<Vec<usize>> = (0..2).map_while(|port| node.kind.keys(port)).collect();
            if !by.is_empty() {
                return Err(refused("its keys say which rows are the canary's; leave `by` away".to_owned()));
            }
            if keys.iter().any(Vec::is_empty) {
                return Err(refused("it has no keys that could be divided; use shadow".to_owned()));
            }
            return Ok(if matches!(node.kind, NodeKind::Aggregate { .. }) {
                keys.into_iter().take(1).collect()
            } else {
                keys
            });
        }
        let input = node.inputs.first().and_then(|input| plan.nodes.get(*input)).map(|input| &input.schema);
        let schema = input.ok_or_else(|| refused("it has no input".to_owned()))?;
        if by.is_empty() {
            return Ok(vec![(0..schema.fields().len()).collect()]);
        }
        let column = |name: &String| {
            let known = || schema.fields().iter().map(|field| field.name.as_str()).collect::<Vec<_>>().join(", ");
            schema
                .index_of(name)
                .ok_or_else(|| refused(format!("no column `{name}` reaches it; there are {}", known())))
        };
        Ok(vec![by.iter().map(column).collect::<Result<_, _>>()?])
    }
}
