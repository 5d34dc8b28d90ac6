//! What must hold where a step says how rows get to its tasks. Columns are the planner's work.

use std::ops::RangeInclusive;

use super::partition::PartitionSpec;
use super::problems::{Problems, code};
use super::spec::{StepKind, StepSpec};

/// How many values a sending task may keep to cut ranges from.
const SAMPLE: RangeInclusive<usize> = 64..=65_536;

/// Where rows go by key already, nothing else may decide.
pub(super) fn check_partition(of: &str, step: &StepSpec, problems: &mut Problems) {
    let Some(partition) = &step.partition else { return };
    let keyed = match &step.kind.value {
        StepKind::Aggregate { .. } | StepKind::Top(_) | StepKind::Process { .. } => true,
        StepKind::Join(join) => !join.is_lookup(),
        StepKind::Map(_) | StepKind::Filter(_) | StepKind::FlatMap(_) | StepKind::Select(_) => false,
    };
    if keyed {
        let message = format!("`partition` has no meaning in {of}");
        let label = "rows go to the task that holds their key";
        let help = match &partition.value {
            PartitionSpec::Custom(_) => "remove `partition`; a map, filter or select before the step may have it",
            _ => "remove `partition`",
        };
        problems.add(code::CONFLICT, partition.span, message, label, help);
    }
    match &partition.value {
        PartitionSpec::Key(columns) if columns.is_empty() => {
            let message = format!("`key` in `partition` of {of} is empty");
            let help = "name the columns, like `key = [\"customer\"]`";
            problems.add(code::BAD_VALUE, partition.span, message, "expected at least one column", help);
        }
        PartitionSpec::Range { splits, .. } if !splits.value.ascend() || splits.value.ranges() < 2 => {
            let message = format!("`splits` of {of} do not ascend");
            let help = "write where ranges begin, each larger than the one before, like `[10, 100]`";
            problems.add(code::BAD_VALUE, splits.span, message, "expected at least one, ascending", help);
        }
        PartitionSpec::SampledRange { values, every, .. } => {
            if !SAMPLE.contains(&values.value) {
                let message = format!("`sample` of {of} is {}", values.value);
                let label = format!("expected {} to {} values", SAMPLE.start(), SAMPLE.end());
                let help = "each sending task keeps so many values to cut ranges from; 1000 is plenty for most";
                problems.add(code::BAD_VALUE, values.span, message, label, help);
            }
            if every.is_zero() {
                let message = format!("`every` of {of} is no time");
                let help = "write how long ranges stay, like `every = \"10s\"`";
                problems.add(code::BAD_VALUE, partition.span, message, "expected a time above 0", help);
            }
        }
        _ => {}
    }
}
