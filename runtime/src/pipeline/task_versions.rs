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

/// Which of a step's components, by slot, refused a row: that in `slot`, else the only one. None where there are several and none of
/// them did.
pub(super) fn refused_by(versions: &[(usize, ExactVersion)], slot: Option<usize>) -> Option<ExactVersion> {
    match (slot, versions) {
        (Some(slot), _) => versions.iter().find(|(of, _)| *of == slot).map(|(_, version)| *version),
        (None, [(_, only)]) => Some(*only),
        (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wasm::Digest;

    #[test]
    fn a_row_is_refused_by_the_component_that_says_so_or_by_the_only_one() {
        let version = |number| ExactVersion { number, digest: Digest::of(b"x") };
        let two = [(1, version(3)), (4, version(7))];
        assert_eq!(refused_by(&two, Some(4)), Some(version(7)));
        assert_eq!(refused_by(&two, Some(1)), Some(version(3)));
        assert_eq!(refused_by(&two, Some(0)), None, "a built-in aggregate");
        assert_eq!(refused_by(&two, None), None, "the host");
        assert_eq!(refused_by(&two[1..], None), Some(version(7)));
        assert_eq!(refused_by(&[], None), None);
    }

    #[test]
    fn each_slot_has_the_version_that_was_put_there_last() {
        let version = |number| ExactVersion { number, digest: Digest::of(b"x") };
        let versions = TaskVersions::new(2);
        versions.runs(1, version(1), NodeCounts::ZERO);
        versions.runs(0, version(4), NodeCounts::ZERO);
        versions.runs(1, version(2), NodeCounts::ZERO);
        let all: Vec<_> = versions.all().into_iter().map(|(slot, of)| (slot, of.version.number)).collect();
        assert_eq!(all, [(0, 4), (1, 2)]);
        versions.runs(2, version(9), NodeCounts::ZERO);
        assert_eq!(versions.all().len(), 2, "a slot that there is not");
    }
}
