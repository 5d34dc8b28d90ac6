//! Operators of one step beside those that run: for a candidate, or for the running version made anew.

use std::sync::Arc;

use super::{Builder, Channels, NodeTasks, RunOptions, SharedSpill, StartError, dead_letter, drift_group};
use crate::clock::Clock;
use crate::operator::Operator;
use crate::pipeline::resolve::Resolution;
use crate::wasm::GuestMetrics;

/// An operator of `step` for each of its tasks, as the pipeline starts with it, without state. Its guests count in `metrics`,
/// by subtask; state spills to the run's own store, with a share of memory of its own.
pub(crate) fn operators_of(
    resolution: &Resolution,
    step: &str,
    clock: &Clock,
    spill: Option<&SharedSpill>,
    metrics: &[Arc<GuestMetrics>],
) -> Result<Vec<Box<dyn Operator>>, StartError> {
    let plan = &resolution.plan;
    let at = plan.nodes.iter().position(|node| node.name == step);
    let at = at.ok_or_else(|| StartError::Internal(format!("no step `{step}`")))?;
    let options = RunOptions { clock: clock.clone(), ..RunOptions::default() };
    let (dead, _) = dead_letter::open(None, None, 0, None);
    let builder = Builder {
        plan,
        components: &resolution.components,
        options: &options,
        epochs: None,
        handed: None,
        dead,
        nodes: plan.nodes.iter().map(|node| super::node_tasks(node, None)).collect(),
        channels: Channels::new(plan),
        commands: Vec::new(),
        drift: drift_group(plan),
        drifting: 0,
        spill: spill.cloned(),
        shares: None,
        samplers: Vec::new(),
        capsules: None,
    };
    let node = builder.node(at)?;
    let counted = builder.nodes.get(at).ok_or_else(|| StartError::Internal("no counters".to_owned()))?;
    let tasks = NodeTasks { guests: metrics.to_vec(), ..counted.clone() };
    let made = tasks.versions.iter().enumerate();
    made.map(|(subtask, versions)| builder.operator(node, (at, subtask), versions, &tasks)).collect()
}
