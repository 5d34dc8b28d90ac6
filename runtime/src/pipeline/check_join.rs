//! What must hold for every join, whether read from a file or built. Columns are the planner's work.

use super::check::{check_window, not_empty, positive, unique_columns};
use super::join::{BoundSpec, JoinSpec, JoinTime};
use super::problems::{Problems, code};
use super::spec::StepSpec;
use crate::operator::JoinKind;
use crate::window::WindowSpec;

/// Checks the join of a step.
pub(super) fn check_join(of: &str, step: &StepSpec, join: &JoinSpec, problems: &mut Problems) {
    let span = step.kind.span;
    if step.with.is_empty() {
        let message = format!("`with` of {of} names nothing");
        problems.add(
            code::MISSING_KEY,
            span,
            message,
            "expected `with`",
            "name a source or step: `with = \"persons\"`",
        );
    }
    if join.on.is_empty() {
        let help = "write `on = [\"seller = id\"]`: the column of `from` and the column of `with`";
        problems.add(code::BAD_VALUE, span, format!("`on` of {of} is empty"), "expected at least one pair", help);
    }
    for key in &join.on {
        not_empty(&format!("a column name in `on` of {of}"), &key.left.value, key.left.span, problems);
        not_empty(&format!("a column name in `on` of {of}"), &key.right.value, key.right.span, problems);
    }
    if let Some(prefix) = &join.prefix {
        not_empty(&format!("`prefix` of {of}"), &prefix.value, prefix.span, problems);
    }
    if let Some(select) = &join.select {
        let names = select.iter().map(|name| (name.value.as_str(), name.span));
        unique_columns(&format!("`select` of {of}"), names, problems);
        if select.is_empty() {
            let help = "name the columns that are to come out, or remove `select`";
            problems.add(code::BAD_VALUE, span, format!("`select` of {of} is empty"), "expected at least one", help);
        }
    }
    check_kind(of, join, problems);
    check_late(of, step, join, problems);
    check_when(of, step, join, problems);
}

/// A row without partner comes out when it is certain that none comes; where that never is, or never matters, it cannot.
fn check_kind(of: &str, join: &JoinSpec, problems: &mut Problems) {
    let (allowed, why, help) = match &join.when {
        JoinTime::Window(_) | JoinTime::Between { .. } => return,
        JoinTime::Always { .. } => (
            &[JoinKind::Inner][..],
            "a partner may always come yet, and what was put out cannot be taken back",
            "add a `window` beside `join`, or `between` to it, or write `kind = \"inner\"`",
        ),
        JoinTime::Latest => (
            &[JoinKind::Inner, JoinKind::Left][..],
            "rows of `with` are looked up; they never come out by themselves",
            "write `kind = \"inner\"` or `kind = \"left\"`",
        ),
    };
    let kind = join.kind.value;
    if !allowed.contains(&kind) {
        let message = format!("{of} cannot be a {} join", kind.name());
        problems.add(code::CONFLICT, join.kind.span, message, why, help);
    }
}

/// Where event time does not matter no row is late.
fn check_late(of: &str, step: &StepSpec, join: &JoinSpec, problems: &mut Problems) {
    if !matches!(join.when, JoinTime::Latest | JoinTime::Always { state_ttl: None }) {
        return;
    }
    for (late, key) in join.late.iter().zip(["late", "late_with"]) {
        let Some(output) = late.and_then(|output| step.side_outputs.get(output)) else { continue };
        let message = format!("`{key}` has no meaning in {of}");
        let label = "its rows meet whatever their times, so none is late";
        problems.add(code::CONFLICT, output.span, message, label, format!("remove `{key}`"));
    }
}

fn check_when(of: &str, step: &StepSpec, join: &JoinSpec, problems: &mut Problems) {
    match &join.when {
        JoinTime::Window(window) => {
            if window.value.is_counted() || window.value == WindowSpec::Global {
                let message = format!("the window of {of} does not end by event time");
                let label = "a join has tumbling, sliding or session windows";
                let help = "remove `window` to join all rows of a key";
                problems.add(code::CONFLICT, window.span, message, label, help);
                return;
            }
            if window.value == WindowSpec::SessionByColumn {
                let message = format!("the sessions of {of} have a gap by column");
                let label = "rows of both sides would each say another gap";
                problems.add(code::CONFLICT, window.span, message, label, "write `session = \"10s\"`");
                return;
            }
            check_window(of, window, problems);
        }
        JoinTime::Between { lower, upper, exclusive } => {
            let (BoundSpec::Offset(from), BoundSpec::Offset(to)) = (&lower.value, &upper.value) else { return };
            let first = from.saturating_add(i64::from(exclusive.lower()));
            if first > to.saturating_sub(i64::from(exclusive.upper())) {
                let message = format!("no time lies in `between` of {of}");
                let label = "the earliest is not before the latest";
                let help = "write the earliest first, like `between = [\"-10m\", \"10m\"]`";
                problems.add(code::BAD_DURATION, lower.span, message, label, help);
            }
        }
        JoinTime::Always { state_ttl: Some(ttl) } => {
            positive(&format!("`state_ttl` of {of}"), *ttl, step.kind.span, problems);
        }
        JoinTime::Always { state_ttl: None } | JoinTime::Latest => {}
    }
}
