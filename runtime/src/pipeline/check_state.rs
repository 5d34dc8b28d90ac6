//! What must hold for state that spills.

use super::join::JoinTime;
use super::problems::{Problems, code, quote};
use super::spec::{PipelineSpec, StateSpec, StepKind, StepSpec};

/// Least memory for state: what one batch of keys takes.
const MEMORY_BYTES_MIN: usize = 1 << 10;

pub(super) fn check_state(spec: &PipelineSpec, state: &StateSpec, problems: &mut Problems) {
    if state.memory_bytes.value < MEMORY_BYTES_MIN {
        let message = format!("`state.memory` is {} bytes", state.memory_bytes.value);
        problems.add(code::BAD_VALUE, state.memory_bytes.span, message, "expected 1KiB or more", "write `256MiB`");
    }
    if state.spill.value.trim().is_empty() {
        let help = "name a folder on a local disk, as in `/var/tmp/millstream`";
        problems.add(code::BAD_VALUE, state.spill.span, "`state.spill` is empty", "expected a folder", help);
    }
    for step in &spec.steps {
        let Some(why_not) = why_not(step) else { continue };
        let message = format!("the state of step {} cannot spill in this version", quote(&step.name.value));
        let help = "remove `state = { .. }` from the pipeline, so that all state stays in memory";
        problems.add(code::NOT_AVAILABLE, step.kind.span, message, why_not, help);
    }
}

/// Whether the step keeps state that can spill.
pub(super) fn spills(step: &StepSpec) -> bool {
    match &step.kind.value {
        StepKind::Aggregate { .. } | StepKind::Process { .. } => true,
        StepKind::Join(_) => why_not(step).is_none(),
        _ => false,
    }
}

/// Why state of the step stays in memory; none where it has no state, or state that can spill.
fn why_not(step: &StepSpec) -> Option<&'static str> {
    match &step.kind.value {
        StepKind::Map(_) | StepKind::Filter(_) | StepKind::FlatMap(_) | StepKind::Select(_) => None,
        StepKind::Aggregate { .. } | StepKind::Process { .. } => None,
        StepKind::Top(_) => Some("the rows of a top-N are kept in memory"),
        StepKind::Join(join) => match &join.when {
            JoinTime::Window(window) if window.value.is_alike_for_all_keys() => {
                Some("the rows of a join in tumbling or sliding windows are kept in memory")
            }
            _ => None,
        },
    }
}
