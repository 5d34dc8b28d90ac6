//! Which versions of its components a step runs in one task, and what it had counted before each of them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::metrics::NodeCounts;
use crate::wasm::ExactVersion;

/// The versions of one step, or of a source's assigner, in one task. The task writes, whoever asks for the status reads.
#[derive(Debug, Default)]
pub struct TaskVersions {
    slots: Mutex<Vec<Option<TaskVersion>>>,
}

/// A version that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskVersion {
    /// which
    pub version: ExactVersion,
    /// what the step had counted in this task when it was put in place
    pub before: NodeCounts,
}

impl TaskVersions {
    /// Of a step with so many places for components, all of them empty.
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Mutex::new(vec![None; slots]) }
    }

    /// Takes note of what runs in a slot from here on.
    pub(super) fn runs(&self, slot: usize, version: ExactVersion, before: NodeCounts) {
        if let Some(slot) = self.slots().get_mut(slot) {
            *slot = Some(TaskVersion { version, before });
        }
    }

    /// The version of the only component; none where there are several, or none.
    pub(super) fn only(&self) -> Option<ExactVersion> {
        let slots = self.slots();
        let mut versions = slots.iter().flatten();
        versions.next().filter(|_| versions.next().is_none()).map(|only| only.version)
    }

    /// All, with their slots.
    pub fn all(&self) -> Vec<(usize, TaskVersion)> {
        let slots = self.slots();
        slots.iter().enumerate().filter_map(|(slot, version)| Some((slot, (*version)?))).collect()
    }

    fn slots(&self) -> MutexGuard<'_, Vec<Option<TaskVersion>>> {
        // each change is one assignment
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::Digest;

    #[test]
    fn of_several_components_none_is_the_only_one() {
        let version = |number| ExactVersion { number, digest: Digest::of(b"x") };
        let versions = TaskVersions::new(2);
        assert_eq!(versions.only(), None);
        versions.runs(1, version(1), NodeCounts::ZERO);
        assert_eq!(versions.only(), Some(version(1)));
        versions.runs(0, version(4), NodeCounts::ZERO);
        versions.runs(1, version(2), NodeCounts::ZERO);
        assert_eq!(versions.only(), None);
        let all: Vec<_> = versions.all().into_iter().map(|(slot, of)| (slot, of.version.number)).collect();
        assert_eq!(all, [(0, 4), (1, 2)]);
        versions.runs(2, version(9), NodeCounts::ZERO);
        assert_eq!(versions.all().len(), 2, "a slot that there is not");
    }
}
