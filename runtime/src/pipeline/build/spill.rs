//! The scratch store of a run, shared out over the tasks that keep state.

use std::sync::Arc;

use super::{Builder, StartError};
use crate::pipeline::plan::{Node, NodeIndex, NodeKind, Plan};
use crate::spill::{Spill, SpillStore};

/// The part of `state.memory` that the store has for itself, for what it buffers and caches.
const STORE_SHARE: usize = 4;

/// A store, and what each task may hold in memory.
#[derive(Clone, Debug)]
pub(crate) struct SharedSpill {
    store: Arc<SpillStore>,
    memory_bytes: usize,
}

impl SharedSpill {
    /// None where the pipeline keeps all state in memory.
    pub(super) fn open(plan: &Plan) -> Result<Option<Self>, StartError> {
        let Some(state) = &plan.spec.state else { return Ok(None) };
        let tasks: usize = plan.nodes.iter().filter(|node| spills(node)).map(|node| node.parallelism).sum();
        if tasks == 0 {
            return Ok(None);
        }
        let memory_bytes = state.memory_bytes.value;
        let of_store = memory_bytes / STORE_SHARE;
        let root = plan.spec.base.join(&state.spill.value);
        let store = SpillStore::open(&root, &plan.spec.name.value, of_store)?;
        tracing::debug!(folder = %store.folder().display(), "state spills");
        Ok(Some(Self { store, memory_bytes: (memory_bytes - of_store) / tasks }))
    }
}

/// Whether it keeps state: all that keep some can spill it.
fn spills(node: &Node) -> bool {
    match node.kind {
        NodeKind::Aggregate { .. } | NodeKind::Process { .. } | NodeKind::Join { .. } | NodeKind::Top { .. } => true,
        NodeKind::Source { .. }
        | NodeKind::Guest { .. }
        | NodeKind::Route { .. }
        | NodeKind::Select { .. }
        | NodeKind::Side { .. }
        | NodeKind::Sink { .. } => false,
    }
}

impl Builder<'_> {
    /// The share of one task.
    pub(super) fn spill(&self, node: NodeIndex, subtask: usize) -> Option<Spill> {
        let shared = self.spill.as_ref()?;
        let counters = self.counters(node, subtask);
        Some(Spill { area: shared.store.area(), memory_bytes: shared.memory_bytes, counters })
    }
}
