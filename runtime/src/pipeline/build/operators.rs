//! Operators of a chain, with the guests that they call.

use std::sync::Arc;

use super::{Builder, NodeTasks, StartError};
use crate::metrics::NodeCounts;
use crate::operator::{
    AggregateCall, AggregateStep, GuestFold, GuestStep, Migration, Operator, OrderBy, ProcessSpec, ProcessStep,
    RouteStep, Select, Top, TopSpec, TopWindows, WindowAggregateSpec, WindowProcess, join_operator,
};
use crate::pipeline::plan::{Node, NodeIndex, NodeKind, SlotId};
use crate::pipeline::resolve::Resolved;
use crate::pipeline::spec::{AggregateSpec, StepKind, StepSpec};
use crate::pipeline::task::{Link, Versions};
use crate::record::{Field, Schema};
use crate::spill::Spill;
use crate::wasm::{Guest, GuestError, GuestMetrics, GuestOptions, Takeover};

impl Builder<'_> {
    pub(super) fn link(&mut self, node: NodeIndex, subtask: usize) -> Result<Link, StartError> {
        let mut sides = Vec::new();
        for (_, side) in self.plan.sides_of(node) {
            sides.push(self.edges(side, subtask)?);
        }
        let planned = self.node(node)?;
        let tasks = self.nodes.get(node).ok_or_else(|| StartError::Internal("no counters".to_owned()))?;
        let versions = tasks.versions.get(subtask).map(Arc::clone).unwrap_or_default();
        let operator = self.operator(planned, (node, subtask), &versions, tasks)?;
        let (step, counters) = (planned.name.clone(), self.counters(node, subtask));
        let capsules = self.capsules(node, subtask);
        let migrations = self.migrations(planned, subtask, operator.as_ref())?;
        Ok(Link { step, operator, counters, versions, sides, capsules, migrations, sweep: None })
    }

    pub(super) fn operator(
        &self,
        node: &Node,
        (index_of_node, subtask): (NodeIndex, usize),
        versions: &Versions,
        tasks: &NodeTasks,
    ) -> Result<Box<dyn Operator>, StartError> {
        let metrics = tasks.guests.get(subtask).map(Arc::clone).unwrap_or_default();
        match &node.kind {
            NodeKind::Guest { index, operator, inputs, keep } => {
                let spec = self.step(*index)?;
                let guest = self.guest(spec, 0, subtask, metrics, versions)?;
                let (inputs, keep) = (inputs.clone(), keep.clone());
                Ok(Box::new(GuestStep::new(guest, *operator, inputs, keep, node.schema.clone(), spec.on_error)))
            }
            NodeKind::Route { index, inputs, targets } => {
                let spec = self.step(*index)?;
                let guest = self.guest_at(&node.name, 0, subtask, metrics, versions)?;
                let targets = u32::try_from(*targets).unwrap_or(u32::MAX);
                Ok(Box::new(RouteStep::new(guest, inputs.clone(), targets, spec.on_error)))
            }
            NodeKind::Select { columns, .. } => Ok(Box::new(Select::new(columns.clone(), node.schema.clone()))),
            NodeKind::Aggregate { index, keys, inputs } => {
                let spec = self.step(*index)?;
                let spill = self.spill(index_of_node, subtask);
                self.aggregate(spec, node, keys, inputs, subtask, &metrics, versions, spill)
            }
            NodeKind::Process { index, keys, sides } => {
                let guest = self.guest(self.step(*index)?, 0, subtask, metrics, versions)?;
                let spill = self.spill(index_of_node, subtask);
                self.process(self.step(*index)?, node, keys, sides, guest, spill)
            }
            NodeKind::Top { index, keys, windows, by } => {
                let failed = |source| StartError::Operator { step: node.name.clone(), source };
                let top = self.top(node, *index, keys, *windows, by)?;
                Ok(Box::new(top.with_spill(self.spill(index_of_node, subtask)).map_err(failed)?))
            }
            NodeKind::Join { columns, rule, .. } => {
                let spill = self.spill(index_of_node, subtask);
                let failed = |source| StartError::Operator { step: node.name.clone(), source };
                join_operator(columns, *rule, spill).map_err(failed)
            }
            NodeKind::Source { .. } | NodeKind::Side { .. } | NodeKind::Sink { .. } => {
                Err(StartError::Internal(format!("`{}` is not an operator", node.name)))
            }
        }
    }

    /// What becomes of the state in a cut that other components of the step have left there.
    fn migrations(&self, node: &Node, subtask: usize, operator: &dyn Operator) -> Result<Vec<Migration>, StartError> {
        let mut migrations = Vec::new();
        let kept_by = self.options.restore.iter().flat_map(|cut| &cut.kept_by);
        for (id, from) in kept_by.filter(|(id, _)| id.step == node.name) {
            let (Some(resolved), Some(kept)) = (self.components.get(id), operator.kept_columns(id.slot)) else {
                continue;
            };
            if resolved.signature.takeover(from) != Takeover::Migrate {
                continue; // its own, or refused already
            }
            // what a migration costs is not what the step costs
            let guest = instantiate_for(resolved, &node.name, subtask, Arc::default())
                .map_err(|source| StartError::Guest { step: node.name.clone(), source })?;
            migrations.push(Migration { slot: id.slot, kept, from: from.clone(), guest });
        }
        Ok(migrations)
    }

    fn top(
        &self,
        node: &Node,
        index: usize,
        keys: &[usize],
        windows: TopWindows,
        by: &[OrderBy],
    ) -> Result<Top, StartError> {
        let step = self.step(index)?;
        let StepKind::Top(top) = &step.kind.value else {
            return Err(StartError::Internal(format!("`{}` is not a top-N", node.name)));
        };
        let input = node.inputs.first().and_then(|&input| self.plan.nodes.get(input));
        let input = input.ok_or_else(|| StartError::Internal("a top-N without input".to_owned()))?.schema.clone();
        let spec = TopSpec {
            input,
            keys: keys.to_vec(),
            windows,
            rows: top.rows.value,
            by: by.to_vec(),
            ties: top.ties,
            output: node.schema.clone(),
            late: !step.side_outputs.is_empty(),
            on_error: step.on_error,
        };
        let failed = |source| StartError::Operator { step: node.name.clone(), source };
        Top::new(spec).map_err(failed)
    }

    fn step(&self, index: usize) -> Result<&StepSpec, StartError> {
        self.plan.spec.steps.get(index).ok_or_else(|| StartError::Internal(format!("no step {index}")))
    }

    fn guest(
        &self,
        step: &StepSpec,
        slot: usize,
        subtask: usize,
        metrics: Arc<GuestMetrics>,
        versions: &Versions,
    ) -> Result<Guest, StartError> {
        self.guest_at(&step.name.value, slot, subtask, metrics, versions)
    }

    /// A guest of the node `name`.
    fn guest_at(
        &self,
        name: &str,
        slot: usize,
        subtask: usize,
        metrics: Arc<GuestMetrics>,
        versions: &Versions,
    ) -> Result<Guest, StartError> {
        let id = SlotId { step: name.to_owned(), slot };
        let resolved =
            self.components.get(&id).ok_or_else(|| StartError::Internal(format!("no component for {id:?}")))?;
        versions.runs(slot, resolved.version(), NodeCounts::ZERO);
        instantiate_for(resolved, name, subtask, metrics)
            .map_err(|source| StartError::Guest { step: name.to_owned(), source })
    }

    /// A source's watermark assigner, and where its version is told.
    pub(super) fn assigner(
        &self,
        node: NodeIndex,
        source: &str,
        subtask: usize,
    ) -> Result<(Guest, Versions), StartError> {
        let id = SlotId { step: source.to_owned(), slot: 0 };
        let resolved =
            self.components.get(&id).ok_or_else(|| StartError::Internal(format!("no component for {id:?}")))?;
        let tasks = self.nodes.get(node);
        let versions = tasks.and_then(|tasks| tasks.versions.get(subtask)).map(Arc::clone).unwrap_or_default();
        let metrics = tasks.and_then(|tasks| tasks.guests.get(subtask)).map(Arc::clone).unwrap_or_default();
        versions.runs(0, resolved.version(), NodeCounts::ZERO);
        let guest = instantiate_for(resolved, source, subtask, metrics)
            .map_err(|source| StartError::Guest { step: id.step, source })?;
        Ok((guest, versions))
    }

    fn process(
        &self,
        step: &StepSpec,
        node: &Node,
        keys: &[Vec<usize>],
        sides: &[Option<usize>],
        guest: Guest,
        spill: Option<Spill>,
    ) -> Result<Box<dyn Operator>, StartError> {
        let StepKind::Process { state_ttl, .. } = &step.kind.value else {
            return Err(StartError::Internal(format!("`{}` is not a processor", node.name)));
        };
        let input = |port: usize| {
            let at = node.ports.iter().position(|of| *of == port)?;
            Some(self.plan.nodes.get(*node.inputs.get(at)?)?.schema.clone())
        };
        let inputs: Option<Vec<Schema>> = (0..keys.len()).map(input).collect();
        let spec = ProcessSpec {
            inputs: inputs.ok_or_else(|| StartError::Internal("a processor without input".to_owned()))?,
            keys: keys.to_vec(),
            sides: sides.to_vec(),
            state_ttl: *state_ttl,
            on_error: step.on_error,
            clock: self.options.clock.clone(),
            spill,
        };
        let failed = |source| StartError::Operator { step: node.name.clone(), source };
        Ok(Box::new(ProcessStep::new(guest, spec).map_err(failed)?))
    }

    #[allow(clippy::too_many_arguments)]
    fn aggregate(
        &self,
        step: &StepSpec,
        node: &Node,
        keys: &[usize],
        inputs: &[Vec<usize>],
        subtask: usize,
        metrics: &Arc<GuestMetrics>,
        versions: &Versions,
        spill: Option<Spill>,
    ) -> Result<Box<dyn Operator>, StartError> {
        let StepKind::Aggregate { window, allowed_lateness, gap, trigger, firing, aggregates, .. } = &step.kind.value
        else {
            return Err(StartError::Internal(format!("`{}` is not an aggregate", node.name)));
        };
        let failed = |source| StartError::Operator { step: node.name.clone(), source };
        let input = node
            .inputs
            .first()
            .and_then(|&input| self.plan.nodes.get(input))
            .map(|input| input.schema.clone())
            .ok_or_else(|| StartError::Internal("an aggregate without input".to_owned()))?;
        let (mut calls, mut outputs, mut whole) = (Vec::new(), Vec::new(), None);
        for (slot, aggregate) in aggregates.iter().enumerate() {
            let read = inputs.get(slot).cloned().unwrap_or_default();
            match aggregate {
                AggregateSpec::BuiltIn { output, function, .. } => {
                    let (output, column) = (output.value.clone(), read.first().copied());
                    calls.push(AggregateCall::BuiltIn { output, function: function.value, column });
                    outputs.push(None);
                }
                AggregateSpec::Component { output, .. } => {
                    let guest = self.guest(step, slot, subtask, Arc::clone(metrics), versions)?;
                    let schema = named_outputs(&guest.signature().outputs, &output.value);
                    let fold = GuestFold::new(guest, read, schema.clone(), step.on_error).map_err(failed)?;
                    calls.push(AggregateCall::Fold(Box::new(fold)));
                    outputs.push(Some(schema));
                }
                AggregateSpec::Rows { .. } => {
                    let guest = self.guest(step, slot, subtask, Arc::clone(metrics), versions)?;
                    whole = Some((guest, read));
                }
            }
        }
        let spec = WindowAggregateSpec {
            keys: keys.to_vec(),
            window: window.value,
            allowed_lateness: *allowed_lateness,
            late: !step.side_outputs.is_empty(),
            gap: gap.as_ref().and_then(|gap| input.index_of(&gap.value)),
            trigger: trigger.as_ref().map(|trigger| trigger.value).unwrap_or_default(),
            firing: firing.as_ref().map(|firing| firing.value).unwrap_or_default(),
            clock: self.options.clock.clone(),
            input,
            aggregates: calls,
            spill,
        };
        if let Some((guest, reads)) = whole {
            let output = node.schema.clone();
            return Ok(Box::new(WindowProcess::new(spec, guest, reads, output, step.on_error).map_err(failed)?));
        }
        Ok(Box::new(AggregateStep::new(spec, step.on_error, outputs).map_err(failed)?))
    }
}

/// The guest's columns under the names that the pipeline gives: a single one takes the name of its entry.
fn named_outputs(outputs: &Schema, entry: &str) -> Schema {
    match outputs.fields() {
        [only] => Schema::new([Field { name: entry.to_owned(), ..only.clone() }]),
        _ => outputs.clone(),
    }
}

/// A guest of `resolved` for one task of the step or source `name`.
pub(crate) fn instantiate_for(
    resolved: &Resolved,
    name: &str,
    subtask: usize,
    counters: Arc<GuestMetrics>,
) -> Result<Guest, GuestError> {
    let options = GuestOptions {
        settings: resolved.settings.clone(),
        memory_bytes: resolved.limits.memory_bytes,
        deadline: resolved.limits.deadline,
        step: name.to_owned(),
        task: u32::try_from(subtask).unwrap_or(u32::MAX),
        version: resolved.number,
        counters,
        world: None,
    };
    resolved.component.guest(resolved.kind, options)
}
