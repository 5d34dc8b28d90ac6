//! A capsule in full, for people.

use arrow_array::RecordBatch;
use millstream::capsule::{Capsule, ConfigFact, FreshFact};
use millstream::clock::utc_text as time;
use serde_json::{Map, Value};

use crate::command::state::as_json;
use crate::console::Stream;
use crate::figures;

/// Rows shown of a table.
const ROWS_SHOWN: usize = 20;

/// Characters shown of a value.
const VALUE_CHARACTERS: usize = 60;

/// When, where and why, on one line.
pub(super) fn line(capsule: &Capsule) -> String {
    let facts = &capsule.facts;
    let message = facts.failure.message();
    let reason: String = message.chars().take(2 * VALUE_CHARACTERS).collect();
    let rest = if reason.len() < message.len() { ".." } else { "" };
    format!("{}  {}  {}: {reason}{rest}", time(facts.at_ms), facts.step, facts.failure.word())
}

/// All of it.
pub(crate) fn text(capsule: &Capsule) -> String {
    let facts = &capsule.facts;
    let paint = Stream::Stdout.paint();
    let mut lines =
        vec![paint.bold(format!("{} of step {}, pipeline {}", facts.failure.word(), facts.step, facts.pipeline))];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<10} {value}"));
    line("reason", facts.failure.message());
    line("at", format!("{}, task {}", time(facts.at_ms), facts.task));
    if let Some(time_ms) = facts.event_time_ms {
        line("event time", time(time_ms));
    }
    let component = &facts.component;
    line("component", format!("{}, {} of {}", component.file, component.kind, component.contract));
    line("sha256", component.digest.clone());
    if let Some(number) = component.version {
        let tried = if component.candidate { ", tried beside the version that ran" } else { "" };
        line("version", format!("{number}{tried}"));
    }
    let config: Vec<String> = facts.config.iter().map(|(name, value)| format!("{name} = {}", config(value))).collect();
    line("config", if config.is_empty() { "none".to_owned() } else { config.join(", ") });
    let deadline_ms = facts.limits.deadline_ns / 1_000_000;
    line("limits", format!("{} of memory, {deadline_ms} ms", figures::size(facts.limits.memory_bytes)));
    line("clock", format!("{} ns, random numbers from {:016x}", facts.world.clock_ns, facts.world.random));
    line(
        "fresh",
        match &facts.fresh {
            FreshFact::Same => "a fresh instance fails in the same way".to_owned(),
            FreshFact::Other(other) => format!("of a fresh instance: {other}; the component remembers earlier calls"),
            FreshFact::Untried => "not tried on a fresh instance".to_owned(),
        },
    );
    if let Some(backtrace) = facts.failure.backtrace() {
        lines.extend(backtrace.lines().map(|line| format!("  {line}")));
    }
    let rows = match capsule.call.count() {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    lines.push(paint.bold(format!("{}, {rows}", capsule.call.function())));
    for (name, rows) in capsule.tables() {
        lines.push(table(name, &rows));
    }
    lines.join("\n")
}

fn config(value: &ConfigFact) -> String {
    match value {
        ConfigFact::Boolean(value) => value.to_string(),
        ConfigFact::Int64(value) => value.to_string(),
        ConfigFact::Float64(value) => value.clone(),
        ConfigFact::Text(value) => format!("{value:?}"),
        ConfigFact::Secret(variable) => format!("(secret {variable})"),
    }
}

/// Rows under the names of their columns.
pub(crate) fn table(name: &str, rows: &RecordBatch) -> String {
    let count = figures::count(rows.num_rows() as u64);
    let mut lines = vec![format!("  {} ({count})", Stream::Stdout.paint().bold(name))];
    let shown = rows.slice(0, rows.num_rows().min(ROWS_SHOWN));
    let cells = match as_json(&shown) {
        Ok(objects) => cells(&shown, &objects),
        Err(reason) => return format!("  {name}: {reason}"),
    };
    let columns = rows.num_columns();
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in cells.iter().filter(|row| !row.is_empty()) {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        lines.push(format!("    {}", padded.collect::<Vec<_>>().join("  ").trim_end()));
    }
    if rows.num_rows() > ROWS_SHOWN {
        lines.push(format!("    and {} more", figures::count((rows.num_rows() - ROWS_SHOWN) as u64)));
    }
    lines.join("\n")
}

/// The names, then a row a row.
fn cells(rows: &RecordBatch, objects: &[String]) -> Vec<Vec<String>> {
    let names: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
    let row = |object: &String| {
        let values: Map<String, Value> = serde_json::from_str(object).unwrap_or_default();
        names.iter().map(|name| cell(values.get(name))).collect()
    };
    let rows: Vec<Vec<String>> = objects.iter().map(row).collect();
    std::iter::once(names.clone()).chain(rows).collect()
}

fn cell(value: Option<&Value>) -> String {
    let text = value.unwrap_or(&Value::Null).to_string();
    if text.chars().count() <= VALUE_CHARACTERS {
        return text;
    }
    let start: String = text.chars().take(VALUE_CHARACTERS).collect();
    format!("{start}.. ({} characters)", text.chars().count())
}
