//! Where components run: steps and their slots by the names that people give, and the columns that reach them.

use super::SwapError;
use crate::control::run::Life;
use crate::error::near_match;
use crate::pipeline::plan::{NodeKind, SlotId};
use crate::pipeline::spec::StepSpec;
use crate::record::{Field, Schema};

impl Life {
    /// The specification of a step and its position in the plan.
    fn step(&self, name: &str) -> Option<(&StepSpec, usize)> {
        let plan = &self.shared.resolution.plan;
        let index = plan.nodes.iter().position(|node| node.name == name)?;
        match plan.nodes.get(index)?.kind {
            NodeKind::Guest { index: step, .. }
            | NodeKind::Route { index: step, .. }
            | NodeKind::Aggregate { index: step, .. }
            | NodeKind::Process { index: step, .. } => Some((plan.spec.steps.get(step)?, index)),
            NodeKind::Source { .. } | NodeKind::Select { .. } | NodeKind::Side { .. } | NodeKind::Sink { .. } => None,
            NodeKind::Top { .. } => None,
            NodeKind::Join { .. } => None,
        }
    }

    /// The position in the plan of a step, or of a source with a watermark assigner.
    pub(in crate::control) fn place(&self, name: &str) -> Option<usize> {
        let of_step = self.step(name).map(|(_, index)| index);
        of_step.or_else(|| self.shared.resolution.plan.nodes.iter().position(|node| node.name == name))
    }

    /// Columns that reach a step, or that a source's watermark assigner can read.
    pub(in crate::control) fn input_schema(&self, step: &str) -> Option<Schema> {
        let plan = &self.shared.resolution.plan;
        let node = plan.nodes.iter().find(|node| node.name == step)?;
        if matches!(node.kind, NodeKind::Source { .. }) {
            return Some(node.schema.clone());
        }
        Some(plan.nodes.get(*node.inputs.first()?)?.schema.clone())
    }

    /// Columns that reach a step as its second input, and those of its keys under the names of the first.
    pub(super) fn second_and_keys(&self, step: &str) -> (Option<Schema>, Schema) {
        let plan = &self.shared.resolution.plan;
        let Some(node) = plan.nodes.iter().find(|node| node.name == step) else { return (None, Schema::new([])) };
        let input = |port: usize| {
            let at = node.ports.iter().position(|of| *of == port)?;
            Some(plan.nodes.get(*node.inputs.get(at)?)?.schema.clone())
        };
        let fields = |port: usize| -> Vec<Field> {
            let keys = node.kind.keys(port).unwrap_or_default();
            input(port).map_or_else(Vec::new, |schema| {
                keys.iter().filter_map(|key| schema.fields().get(*key).cloned()).collect()
            })
        };
        let mut keys = fields(0);
        for (key, other) in keys.iter_mut().zip(fields(1)) {
            key.nullable |= other.nullable;
        }
        (input(1), Schema::new(keys))
    }

    pub(super) fn slot(&self, name: &str) -> Result<SlotId, SwapError> {
        let slots = || self.shared.resolution.components.keys();
        let of_step: Vec<&SlotId> = slots().filter(|slot| slot.step == name).collect();
        if let [only] = of_step.as_slice() {
            return Ok((*only).clone());
        }
        slots().find(|slot| self.slot_name(slot) == name).cloned().ok_or_else(|| self.unknown(name))
    }

    /// `step`, or `step.entry` where the step has several components.
    pub(super) fn slot_name(&self, slot: &SlotId) -> String {
        let several = self.shared.resolution.components.keys().filter(|other| other.step == slot.step).count() > 1;
        let entry = self.step(&slot.step).and_then(|(step, _)| step.kind.value.aggregate_name(slot.slot));
        match entry.filter(|_| several) {
            Some(entry) => format!("{}.{entry}", slot.step),
            None => slot.step.clone(),
        }
    }

    pub(in crate::control) fn unknown(&self, name: &str) -> SwapError {
        let known: Vec<String> = self.shared.resolution.components.keys().map(|slot| self.slot_name(slot)).collect();
        let near = near_match(name, known.iter().map(String::as_str)).map(ToOwned::to_owned);
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        SwapError::UnknownStep { step: name.to_owned(), known, near }
    }
}
