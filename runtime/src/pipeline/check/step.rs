//! What must hold for a step by itself.

use super::{
    GUEST_MEMORY_BYTES_MAX, GUEST_MEMORY_BYTES_MIN, WINDOW_COLUMNS, inputs, not_empty, ns, parallelism, positive,
    process, unique_columns,
};
use crate::error::{Span, Spanned};
use crate::limits::COUNTED_WINDOWS_AT_ONCE;
use crate::pipeline::check_join::check_join;
use crate::pipeline::check_partition::check_partition;
use crate::pipeline::duration::display_ns;
use crate::pipeline::problems::{Problems, code, quote};
use crate::pipeline::spec::{AggregateSpec, Keep, LimitsSpec, StepKind, StepSpec, TopStepSpec};
use crate::window::{Firing, Trigger, WindowSpec};

pub(super) fn check_step(step: &StepSpec, problems: &mut Problems) {
    let of = format!("step {}", quote(&step.name.value));
    parallelism(&of, step.parallelism.as_ref(), problems);
    inputs(&of, &step.from, step.name.span, problems);
    limits(&of, &step.limits, step.kind.span, problems);
    match &step.kind.value {
        StepKind::Map(component) | StepKind::Filter(component) | StepKind::FlatMap(component) => {
            not_empty(&format!("the component of {of}"), &component.path.value, component.path.span, problems);
        }
        StepKind::Select(columns) => {
            if columns.is_empty() {
                let message = format!("`select` of {of} is empty");
                let help = "write `select = [\"value\"]`";
                problems.add(code::BAD_VALUE, step.kind.span, message, "expected at least one column", help);
            }
            let outputs = columns.iter().map(|column| (column.output.value.as_str(), column.output.span));
            unique_columns(&format!("the output of {of}"), outputs, problems);
        }
        StepKind::Aggregate { key_by, window, allowed_lateness, gap, trigger, firing, aggregates } => {
            if !allowed_lateness.is_zero() {
                positive(&format!("`allowed_lateness` of {of}"), *allowed_lateness, step.kind.span, problems);
                if window.value.is_counted() || matches!(window.value, WindowSpec::Global | WindowSpec::Rolling { .. })
                {
                    let message = format!("`allowed_lateness` has no meaning in {of}");
                    let label = "these windows do not fire by event time, so no row is late";
                    problems.add(code::CONFLICT, window.span, message, label, "remove `allowed_lateness`");
                }
            }
            check_window(&of, window, problems);
            if gap.is_some() != (window.value == WindowSpec::SessionByColumn) {
                let message = format!("the sessions of {of} and the column with their gap do not go together");
                let help = "call `session_by(\"gap_ms\")`";
                problems.add(code::CONFLICT, window.span, message, "expected both or neither", help);
            }
            let fires_again = trigger.is_some() || !allowed_lateness.is_zero();
            trigger.iter().for_each(|trigger| check_trigger(&of, window.value, trigger, problems));
            let fires_again = fires_again || firing.as_ref().is_some_and(|firing| firing.value == Firing::Accumulating);
            firing.iter().for_each(|firing| check_firing(&of, window.value, firing.span, fires_again, problems));
            check_rolling(&of, window.value, step, problems);
            let bounds: &[&str] = if window.value.has_bounds() { &WINDOW_COLUMNS } else { &[] };
            check_aggregate(&of, step.kind.span, key_by, bounds, aggregates, problems);
        }
        StepKind::Process { component, key_by, with_key_by, state_ttl } => {
            not_empty(&format!("the component of {of}"), &component.path.value, component.path.span, problems);
            process::check(&of, step, key_by, with_key_by, *state_ttl, problems);
        }
        StepKind::Top(top) => check_top(&of, step.kind.span, top, problems),
        StepKind::Join(join) => check_join(&of, step, join, problems),
    }
    check_keep(&of, step, problems);
    check_partition(&of, step, problems);
}

fn check_keep(of: &str, step: &StepSpec, problems: &mut Problems) {
    let Some(keep) = &step.keep else { return };
    let why_not = match &step.kind.value {
        StepKind::Map(_) | StepKind::FlatMap(_) => {
            if let Keep::Columns(columns) = &keep.value {
                let names = columns.iter().map(|column| (column.value.as_str(), column.span));
                unique_columns(&format!("`keep` of {of}"), names, problems);
            }
            return;
        }
        StepKind::Filter(_) => "a filter keeps all columns",
        StepKind::Select(_) => "`select` names all columns that are kept",
        StepKind::Top(_) => "a top-N step keeps all columns",
        StepKind::Join(_) => "a join puts out the columns of both sides, or those of `select`",
        StepKind::Aggregate { .. } => "an aggregate puts out its key columns, the window and its results",
        StepKind::Process { .. } => "a processor puts out the columns of its component",
    };
    let message = format!("`keep` has no meaning in {of}");
    problems.add(code::CONFLICT, keep.span, message, why_not, "remove `keep`; it belongs to map and flat_map");
}

fn check_aggregate(
    of: &str,
    span: Span,
    key_by: &[Spanned<String>],
    bounds: &[&'static str],
    aggregates: &[AggregateSpec],
    problems: &mut Problems,
) {
    if aggregates.is_empty() {
        let message = format!("`aggregate` of {of} is empty");
        let help = "write `aggregate = { count = \"count()\" }`";
        problems.add(code::BAD_VALUE, span, message, "expected at least one result", help);
    }
    let keys = key_by.iter().map(|column| (column.value.as_str(), column.span));
    let window = bounds.iter().map(|column| (*column, span));
    let results = aggregates.iter().filter_map(|aggregate| match aggregate {
        AggregateSpec::BuiltIn { output, .. } | AggregateSpec::Component { output, .. } => {
            Some((output.value.as_str(), output.span))
        }
        AggregateSpec::Rows { .. } => None,
    });
    unique_columns(&format!("the output of {of}"), keys.chain(window).chain(results), problems);
    for aggregate in aggregates {
        if let AggregateSpec::Rows { component } = aggregate {
            not_empty(&format!("the component of {of}"), &component.path.value, component.path.span, problems);
            if bounds.is_empty() || aggregates.len() > 1 {
                let message = format!("{of} takes all rows of a window and has none, or has other results beside");
                let help = "give it a window, and aggregate in a step of its own";
                problems.add(code::CONFLICT, component.path.span, message, "needs a window, and nothing beside", help);
            }
        }
        if let AggregateSpec::Component { output, component } = aggregate {
            let what = format!("the component of {} in {of}", quote(&output.value));
            not_empty(&what, &component.path.value, component.path.span, problems);
        }
    }
}

/// Without windows no row is late.
fn check_rolling(of: &str, window: WindowSpec, step: &StepSpec, problems: &mut Problems) {
    if let (WindowSpec::Rolling { .. }, Some(late)) = (window, step.side_outputs.first()) {
        let message = format!("`late` has no meaning in {of}");
        problems.add(code::CONFLICT, late.span, message, "there is no `window`, so no row is late", "remove `late`");
    }
}

fn check_top(of: &str, span: Span, top: &TopStepSpec, problems: &mut Problems) {
    if top.rows.value == 0 {
        let message = format!("`n` of `top` in {of} is 0");
        problems.add(code::BAD_VALUE, top.rows.span, message, "expected 1 or more", "write `n = 3`");
    }
    if top.by.is_empty() {
        let message = format!("`by` of `top` in {of} is empty");
        problems.add(code::BAD_VALUE, span, message, "expected at least one column", "write `by = \"count\"`");
    }
    unique_columns(&format!("`key_by` of {of}"), top.key_by.iter().map(|key| (key.value.as_str(), key.span)), problems);
    let by = top.by.iter().map(|by| (by.column.value.as_str(), by.column.span));
    unique_columns(&format!("`by` of {of}"), by, problems);
    not_empty(&format!("`rank` of {of}"), &top.rank.value, top.rank.span, problems);
    if let Some(window) = &top.window {
        check_window(of, window, problems);
        if !window.value.is_alike_for_all_keys() {
            let message = format!("the window of {of} lies differently for every key");
            let label = "expected `tumbling` or `sliding`";
            let help =
                "aggregate by session, count or globally in a step before, and read its results without `window`";
            problems.add(code::CONFLICT, window.span, message, label, help);
        }
    }
}

pub(in crate::pipeline) fn check_window(of: &str, window: &Spanned<WindowSpec>, problems: &mut Problems) {
    let (every, offset_ms, repeat) = match window.value {
        WindowSpec::Tumbling { size, offset_ms } => {
            if !positive(&format!("`tumbling` of {of}"), size, window.span, problems) {
                return;
            }
            (size, offset_ms, "the window")
        }
        WindowSpec::Sliding { size, every, offset_ms } => {
            let right = positive(&format!("`sliding` of {of}"), size, window.span, problems);
            if !positive(&format!("`every` of {of}"), every, window.span, problems) || !right {
                return;
            }
            if every > size {
                problems.add(
                    code::BAD_DURATION,
                    window.span,
                    format!("windows of {of} would have gaps between them"),
                    format!("`every` is longer than the window, {}", display_ns(ns(size))),
                    "rows in the gaps would be in no window: make `every` shorter, or filter those rows out before",
                );
                return;
            }
            (every, offset_ms, "`every`")
        }
        WindowSpec::Session { gap } => {
            positive(&format!("`session` of {of}"), gap, window.span, problems);
            return;
        }
        WindowSpec::Count { rows } => {
            if rows == 0 {
                let message = format!("`count` of {of} is 0");
                problems.add(code::BAD_VALUE, window.span, message, "expected 1 or more", "write `count = 100`");
            }
            return;
        }
        WindowSpec::SlidingCount { rows, every } => {
            check_sliding_count(of, rows, every, window.span, problems);
            return;
        }
        WindowSpec::Global | WindowSpec::SessionByColumn | WindowSpec::Rolling { .. } => return,
    };
    if u128::from(offset_ms.unsigned_abs()) >= every.as_millis() {
        problems.add(
            code::BAD_DURATION,
            window.span,
            format!("`offset` of {of} is not smaller than {repeat}"),
            format!("expected less than {}", display_ns(ns(every))),
            "windows repeat, so a larger offset means the same as its remainder",
        );
    }
}

fn check_sliding_count(of: &str, rows: u64, every: u64, span: Span, problems: &mut Problems) {
    if rows == 0 || every == 0 {
        let message = format!("`{}` of {of} is 0", if rows == 0 { "count" } else { "every" });
        problems.add(code::BAD_VALUE, span, message, "expected 1 or more", "write `count = 100, every = 10`");
    } else if every > rows {
        let message = format!("windows of {of} would have gaps between them");
        let label = format!("`every` is more than the {rows} rows of a window");
        let help = "rows in the gaps would be in no window: make `every` smaller, or filter those rows out before";
        problems.add(code::BAD_VALUE, span, message, label, help);
    } else if rows.div_ceil(every) > COUNTED_WINDOWS_AT_ONCE {
        let message = format!("a row of {of} would be in {} windows at once", rows.div_ceil(every));
        let label = format!("expected at most {COUNTED_WINDOWS_AT_ONCE}");
        let help = format!("write `every = {}` or more", rows.div_ceil(COUNTED_WINDOWS_AT_ONCE));
        problems.add(code::BAD_VALUE, span, message, label, help);
    }
}

fn check_trigger(of: &str, window: WindowSpec, trigger: &Spanned<Trigger>, problems: &mut Problems) {
    if window.is_counted() {
        let message = format!("`trigger` has no meaning in {of}");
        let label = "windows of so many rows fire when they have them";
        let help = "remove `trigger`, or write `window = { global = true }` to fire whenever so many rows have come";
        problems.add(code::CONFLICT, trigger.span, message, label, help);
        return;
    }
    match trigger.value {
        Trigger::Count { rows: 0, .. } => {
            let message = format!("`count` of the trigger of {of} is 0");
            problems.add(code::BAD_VALUE, trigger.span, message, "expected 1 or more", "write `count = 4`");
        }
        Trigger::Every { interval } => {
            positive(&format!("`every` of the trigger of {of}"), interval, trigger.span, problems);
        }
        Trigger::ProcessingTime { interval } => {
            positive(&format!("`processing_time` of the trigger of {of}"), interval, trigger.span, problems);
        }
        Trigger::End | Trigger::Count { .. } => {}
    }
}

/// What becomes of rows after a firing matters where a window may fire again.
fn check_firing(of: &str, window: WindowSpec, span: Span, fires_again: bool, problems: &mut Problems) {
    if fires_again && !window.is_counted() {
        return;
    }
    let message = format!("`firing` has no meaning in {of}");
    let help = "remove `firing`, or add `trigger = { every = \"1s\" }` or `allowed_lateness`";
    problems.add(code::CONFLICT, span, message, "every window fires once", help);
}

fn limits(of: &str, limits: &LimitsSpec, span: Span, problems: &mut Problems) {
    positive(&format!("`deadline` of {of}"), limits.deadline, span, problems);
    if !(GUEST_MEMORY_BYTES_MIN..=GUEST_MEMORY_BYTES_MAX).contains(&limits.memory_bytes) {
        let message = format!("`memory` of {of} is {} bytes", limits.memory_bytes);
        problems.add(code::BAD_SIZE, span, message, "expected 64KiB to 4GiB", "write `memory = \"64MiB\"`");
    }
}
