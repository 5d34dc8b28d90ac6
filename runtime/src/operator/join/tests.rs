//! Joins against brute-force models: random rows of both sides, some late, some without key, with and without restores.

mod model;
mod rules;

use std::time::Duration;

use super::*;
use crate::operator::Operator;
use crate::record::{Field, Kind, Schema, Watermark};
use crate::restoring::Event;
use crate::state::cells::{Cell, batch, rows};

/// `k: int64?, a: int64, until: timestamp_ms?`
fn left() -> Schema {
    let until = Field::new("until", Kind::TimestampMs).nullable();
    Schema::new([Field::new("k", Kind::Int64).nullable(), Field::new("a", Kind::Int64), until])
}

/// `k: int64?, b: text`
fn right() -> Schema {
    Schema::new([Field::new("k", Kind::Int64).nullable(), Field::new("b", Kind::Text)])
}

/// `k, a, b`, and the bounds of the window where there is one
fn columns(kind: JoinKind, windowed: bool) -> JoinColumns {
    let key = Field::new("k", Kind::Int64).nullable();
    let (a, b) = (Field::new("a", Kind::Int64).nullable(), Field::new("b", Kind::Text).nullable());
    let (mut fields, mut columns) =
        (vec![key, a, b], vec![JoinColumn::Key { left: 0, right: 0 }, JoinColumn::Left(1), JoinColumn::Right(1)]);
    if windowed {
        fields.extend(["window_start", "window_end"].map(|name| Field::new(name, Kind::TimestampMs)));
        columns.extend([JoinColumn::WindowStart, JoinColumn::WindowEnd]);
    }
    JoinColumns {
        inputs: [left(), right()],
        keys: [vec![0], vec![0]],
        kind,
        columns,
        output: Schema::new(fields),
        late: [None; 2],
    }
}

/// A row: key, a number that tells it from others, event time, and for the left side how long it may meet others.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Row {
    key: Option<i64>,
    id: i64,
    time: i64,
    until: Option<i64>,
}

fn row(key: i64, id: i64, time: i64) -> Row {
    Row { key: Some(key), id, time, until: None }
}

fn rows_of(side: usize, given: &[Row]) -> Event {
    let int = |value: Option<i64>| value.map_or(Cell::Null, Cell::Int);
    let cells: Vec<Vec<Cell>> = given
        .iter()
        .map(|row| match side {
            LEFT => vec![int(row.key), Cell::Int(row.id), row.until.map_or(Cell::Null, Cell::Time)],
            _ => vec![int(row.key), Cell::Text(row.id.to_string())],
        })
        .collect();
    let schema = if side == LEFT { left() } else { right() };
    let times = given.iter().map(|row| row.time).collect();
    Event::rows(side, Batch::new(batch(&schema, &cells), times).unwrap())
}

/// A result as text: `key a b [start end] @ time`, `-` for null.
fn text(row: &[Cell], time: i64) -> String {
    let cells: Vec<String> = row
        .iter()
        .map(|cell| match cell {
            Cell::Null => "-".to_owned(),
            Cell::Int(value) | Cell::Time(value) => value.to_string(),
            Cell::Text(value) => value.clone(),
            other => format!("{other:?}"),
        })
        .collect();
    format!("{} @ {time}", cells.join(" "))
}

/// What an operator puts out, sorted, and how many rows were late.
fn run(operator: &mut dyn Operator, script: &[Event]) -> (Vec<String>, u64) {
    let mut out = Output::default();
    let mut watermark = i64::MIN;
    for event in script {
        match event {
            Event::Rows(side, batch) => operator.on_input(*side, batch.clone(), &mut out).unwrap(),
            Event::Watermark(time) if *time > watermark => {
                watermark = *time;
                operator.on_watermark(Watermark(*time), &mut out).unwrap();
            }
            _ => {}
        }
    }
    let mut found = texts(&out);
    found.sort();
    (found, out.late_rows)
}

/// Results as texts.
fn texts(out: &Output) -> Vec<String> {
    let mut found = Vec::new();
    for part in &out.batches {
        found.extend(rows(part.columns().columns()).iter().zip(part.times()).map(|(row, time)| text(row, *time)));
    }
    found
}

fn tumbling(size_ms: u64) -> WindowSpec {
    WindowSpec::Tumbling { size: Duration::from_millis(size_ms), offset_ms: 0 }
}
