//! `process = ".."` and the keys that belong to it.

use super::item::{Item, Table};
use super::keys;
use super::source::optional;
use super::step::{StepConfig, read_component};
use crate::error::Spanned;
use crate::pipeline::problems::{Problems, code};
use crate::pipeline::spec::StepKind;

/// Keys that only `process` has a use for.
const OWN: [&str; 4] = ["with", "with_key_by", "state_ttl", "side_outputs"];

/// Keys of windows.
const OF_WINDOWS: [&str; 3] = ["window", "allowed_lateness", "late"];

/// The second input and the names of further outputs, where the step is a processor; `None` if they are wrong.
pub(super) fn read_names(table: &mut Table, problems: &mut Problems) -> [Option<Vec<Spanned<String>>>; 2] {
    let operation = keys::OPERATIONS.into_iter().find(|key| table.has(key));
    if operation.is_some_and(|operation| operation != "process") {
        return [Some(Vec::new()), Some(Vec::new())]; // refused beside the operation
    }
    let with_key_by = table.has("with_key_by").then(|| table.has("with"));
    let mut names = |key| optional(table.take(key), |item| item.texts(problems)).map(Option::unwrap_or_default);
    let read = [names("with"), names("side_outputs")];
    if with_key_by == Some(false)
        && let Some(item) = table.take("with_key_by")
    {
        let message = format!("{} has `with_key_by` and no `with`", table.what);
        let help = "add `with = \"<source or step>\"`, or remove `with_key_by`";
        problems.add(code::CONFLICT, item.key, message, "there is no second input", help);
    }
    read
}

/// These keys beside an operation that has no use for them.
pub(super) fn refuse_beside(table: &mut Table, operation: &str, problems: &mut Problems) {
    for key in OWN {
        if let Some(item) = table.take(key) {
            let message = format!("`{key}` has no meaning in {} with `{operation}`", table.what);
            problems.add(code::CONFLICT, item.key, message, "belongs to `process`", format!("remove `{key}`"));
        }
    }
}

/// The rest of a processor.
pub(super) fn read(
    table: &mut Table,
    item: Item,
    config: Option<StepConfig>,
    problems: &mut Problems,
) -> Option<StepKind> {
    for key in OF_WINDOWS {
        if let Some(item) = table.take(key) {
            let message = format!("`{key}` has no meaning in {} with `process`", table.what);
            let help = "a processor sets timers where it waits; `window_process` is handed all rows of a window";
            problems.add(code::CONFLICT, item.key, message, "belongs to `aggregate`", help);
        }
    }
    let key_by = table.required("key_by", problems).and_then(|item| item.texts(problems));
    let with_key_by = optional(table.take("with_key_by"), |item| item.texts(problems));
    let state_ttl = optional(table.take("state_ttl"), |item| item.positive_duration(problems));
    let component = read_component(item, config?, problems);
    let key_by = key_by?;
    let with_key_by = with_key_by?.unwrap_or_else(|| key_by.clone());
    Some(StepKind::Process { component: component?, key_by, with_key_by, state_ttl: state_ttl? })
}
