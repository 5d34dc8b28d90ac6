//! What a running pipeline says of itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::checkpoints::CheckpointStatus;
use crate::metrics::NodeCounts;
use crate::wasm::GuestMetrics;

/// A pipeline at one moment. Counts of different nodes are read one after the other, not at one cut; after a failure they
/// begin anew, after a change of shape they go on.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// the pipeline's name
    pub pipeline: String,
    /// how long it has run, ms
    pub elapsed_ms: u64,
    /// whether all tasks have ended
    pub ended: bool,
    /// whether sources have been told to take nothing in
    pub paused: bool,
    /// how often its shape has been changed since the process began: 0 as it was started
    pub generation: u64,
    /// how often the pipeline has failed and was started again
    pub restarts: RestartStatus,
    /// the pipeline's checkpoints, if it has any
    pub checkpoints: Option<CheckpointStatus>,
    /// in the order of the plan: sources, steps, sinks
    pub nodes: Vec<NodeStatus>,
}

/// Failures of a run that goes on by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestartStatus {
    /// how often it was started again, or was tried to be
    pub count: u64,
    /// why it failed last
    pub reason: Option<String>,
    /// set while it is down: when the next start is due, ms since 1970
    pub next_try_ms: Option<i64>,
    /// how long it waits, or waited last, ms
    pub pause_ms: u64,
}

impl Status {
    /// The node `name`.
    pub fn node(&self, name: &str) -> Option<&NodeStatus> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Sum of a count over all nodes of a role.
    pub fn total(&self, role: NodeRole, of: impl Fn(&NodeCounts) -> u64) -> u64 {
        self.nodes.iter().filter(|node| node.role == role).map(|node| of(&node.counts)).sum()
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// where rows come from
    Source,
    /// what is done to them
    Step,
    /// where they go
    Sink,
}

/// One source, step or sink, all tasks together.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// its name in the pipeline
    pub name: String,
    /// what it is
    pub role: NodeRole,
    /// tasks
    pub tasks: usize,
    /// counts of all tasks
    pub counts: NodeCounts,
    /// the versions it runs, by slot; during a swap tasks may differ for an instant
    pub components: Vec<ComponentVersion>,
    /// counters and gauges that its guests set, added up over tasks (gauges: the last task's)
    pub guest_metrics: BTreeMap<String, f64>,
}

/// A component as it runs.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct ComponentVersion {
    /// position among the step's components
    pub slot: usize,
    /// number of the version in this place
    pub version: u64,
    /// SHA-256 of the file, hexadecimal
    pub digest: String,
    /// the tasks of the node that run it
    pub tasks: Vec<usize>,
    /// what these tasks have counted since it runs in them
    pub counts: NodeCounts,
}

/// Counters and gauges of a node's tasks as one map.
pub(super) fn guest_metrics<'a>(tasks: impl Iterator<Item = &'a GuestMetrics>) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for task in tasks {
        let counts = task.counts();
        for (name, value) in counts.counters {
            #[allow(clippy::cast_precision_loss)] // shown to people
            let value = value as f64;
            *all.entry(name).or_insert(0.0) += value;
        }
        all.extend(counts.gauges);
    }
    all
}
