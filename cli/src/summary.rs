//! What a run has done, as a table for people.

use std::time::Duration;

use millstream::control::{NodeRole, Status};

use crate::console::Paint;
use crate::figures;

/// The role of a node as it stands in tables.
pub(crate) fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Source => "source",
        NodeRole::Step => "step",
        NodeRole::Sink => "sink",
    }
}

/// One line: time, rows, rates.
pub(crate) fn line(status: &Status, before: Option<&Status>) -> String {
    let read = status.total(NodeRole::Source, |counts| counts.rows_out);
    let written = status.total(NodeRole::Sink, |counts| counts.rows_in);
    let (read_before, since_ms) =
        before.map_or((0, 0), |before| (before.total(NodeRole::Source, |counts| counts.rows_out), before.elapsed_ms));
    let elapsed = Duration::from_millis(status.elapsed_ms);
    let during = Duration::from_millis(status.elapsed_ms.saturating_sub(since_ms));
    let now = figures::rate(read.saturating_sub(read_before), during);
    format!(
        "{} · {} · {} read ({now}) · {} written{}{}{}",
        status.pipeline,
        if status.elapsed_ms == 0 { "under 1 ms".to_owned() } else { figures::duration(elapsed) },
        figures::count(read),
        figures::count(written),
        lost(status),
        checkpoints(status),
        restarts(status)
    )
}

/// ` · checkpoint 7`, or why there is none; nothing for a pipeline without.
fn checkpoints(status: &Status) -> String {
    let Some(checkpoints) = &status.checkpoints else { return String::new() };
    match (&checkpoints.failing, checkpoints.epoch) {
        (Some(reason), _) => format!(" · no checkpoint: {reason}; trying again"),
        (None, Some(epoch)) => format!(" · checkpoint {epoch}"),
        (None, None) => String::new(),
    }
}

/// ` · 2 restarts`, with the reason while it is down, or nothing.
fn restarts(status: &Status) -> String {
    let restarts = &status.restarts;
    match (&restarts.reason, restarts.next_try_ms) {
        (Some(reason), Some(_)) => format!(" · down: {reason}; restart {} is due", figures::count(restarts.count)),
        _ if restarts.count == 1 => " · 1 restart".to_owned(),
        _ if restarts.count > 0 => format!(" · {} restarts", figures::count(restarts.count)),
        _ => String::new(),
    }
}

/// ` · 3 dead · 1 late`, or nothing.
fn lost(status: &Status) -> String {
    let total =
        |of: fn(&millstream::metrics::NodeCounts) -> u64| status.nodes.iter().map(|node| of(&node.counts)).sum();
    let parts: [(u64, &str); 3] =
        [(total(|c| c.dead_rows), "dead"), (total(|c| c.skipped_rows), "skipped"), (total(|c| c.late_rows), "late")];
    parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, name)| format!(" · {} {name}", figures::count(*number)))
        .collect()
}

/// The table at the end of a run.
pub(crate) fn table(status: &Status, paint: Paint) -> String {
    let elapsed = Duration::from_millis(status.elapsed_ms);
    let width = status.nodes.iter().map(|node| node.name.chars().count()).max().unwrap_or(0).max(4);
    let heading = format!(
        "{:<6}  {:<width$}  {:>13}  {:>13}  {:>9}  {:>7}  {:>7}",
        "", "name", "rows in", "rows out", "rows/s", "dead", "late"
    );
    let mut text = paint.dim(heading.trim_end());
    for node in &status.nodes {
        let counts = &node.counts;
        let dash = |shown: bool, number: u64| if shown { figures::count(number) } else { "-".to_owned() };
        let rows = if node.role == NodeRole::Source { counts.rows_out } else { counts.rows_in };
        text.push_str(&format!(
            "\n{:<6}  {:<width$}  {:>13}  {:>13}  {:>9}  {:>7}  {:>7}",
            role(node.role),
            node.name,
            dash(node.role != NodeRole::Source, counts.rows_in),
            dash(node.role != NodeRole::Sink, counts.rows_out),
            figures::rate(rows, elapsed),
            figures::count(counts.dead_rows + counts.skipped_rows),
            figures::count(counts.late_rows)
        ));
    }
    text.push('\n');
    text.push_str(&line(status, None));
    text
}
