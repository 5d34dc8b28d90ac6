//! The scratch store of a run, shared out over the tasks that keep state.

use std::sync::{Arc, Weak};

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

/// The store of tasks that run, by who does not hold on to it: it goes with the last of them, so that a start that follows a failure
/// has the room that they had.
#[derive(Clone, Debug)]
pub(crate) struct TasksSpill {
    store: Weak<SpillStore>,
    memory_bytes: usize,
}

impl TasksSpill {
    /// None once the tasks that keep state have ended.
    pub(crate) fn get(&self) -> Option<SharedSpill> {
        Some(SharedSpill { store: self.store.upgrade()?, memory_bytes: self.memory_bytes })
    }
}

impl SharedSpill {
    /// To be kept beside the tasks.
    pub(super) fn of_tasks(&self) -> TasksSpill {
        TasksSpill { store: Arc::downgrade(&self.store), memory_bytes: self.memory_bytes }
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_goes_with_the_tasks_that_have_it() {
        let root = tempfile::tempdir().unwrap();
        let shared = SharedSpill { store: SpillStore::open(root.path(), "totals", 1 << 20).unwrap(), memory_bytes: 7 };
        let (of_tasks, folder) = (shared.of_tasks(), shared.store.folder().to_owned());
        let area = shared.store.area();
        drop(shared);
        assert!(of_tasks.get().is_some_and(|again| again.memory_bytes == 7));
        assert!(folder.is_dir());
        drop(area);
        assert!(of_tasks.get().is_none());
        assert!(!folder.exists());
    }
}
