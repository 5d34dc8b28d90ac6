//! Keys, second input and time to live of a processor.

use std::time::Duration;

use super::{positive, unique_columns};
use crate::error::Spanned;
use crate::pipeline::problems::{Problems, code};
use crate::pipeline::spec::StepSpec;

pub(super) fn check(
    of: &str,
    step: &StepSpec,
    key_by: &[Spanned<String>],
    with_key_by: &[Spanned<String>],
    state_ttl: Option<Duration>,
    problems: &mut Problems,
) {
    let span = step.kind.span;
    if key_by.is_empty() {
        let message = format!("`key_by` of {of} is empty");
        problems.add(code::BAD_VALUE, span, message, "expected at least one column", "write `key_by = [\"user\"]`");
    }
    if !step.with.is_empty() && with_key_by.len() != key_by.len() {
        let message = format!("`with_key_by` of {of} names {} columns, `key_by` {}", with_key_by.len(), key_by.len());
        let span = with_key_by.first().map_or(span, |column| column.span);
        let help = "name as many, of the same kinds in the same order";
        problems.add(code::CONFLICT, span, message, "keys of the two inputs must be alike", help);
    }
    // `with_key_by` is a copy of `key_by` where it was not given
    let written = if with_key_by == key_by { &[][..] } else { with_key_by };
    for (key, columns) in [("key_by", key_by), ("with_key_by", written)] {
        let names = columns.iter().map(|column| (column.value.as_str(), column.span));
        unique_columns(&format!("`{key}` of {of}"), names, problems);
    }
    if let Some(state_ttl) = state_ttl {
        positive(&format!("`state_ttl` of {of}"), state_ttl, span, problems);
    }
}
