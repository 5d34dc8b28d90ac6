//! Window-processors: functions of all rows of a window.

use std::fmt::Display;

use crate::contract::{Batch, Expansion, Failure, RowFailure, Signature, offset};
use crate::row::{ReadRow, Row};

/// All rows of a window and key.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowRows<R> {
    /// first time of the window, ms since 1970-01-01T00:00:00Z
    pub start: i64,
    /// first time after it
    pub end: i64,
    /// By event time, those of one time in the order in which they reached the step; there is at least one. The key's columns
    /// are read as any others.
    pub rows: Vec<R>,
    /// event time of each row, ms; the least `i64` where it has none
    pub times: Vec<i64>,
}

/// The data of a call in `wit/window-processor.wit`.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowCall {
    /// first time of each window, ms
    pub starts: Vec<i64>,
    /// first time after each window, ms
    pub ends: Vec<i64>,
    /// number of its window by row, never decreasing
    pub groups: Vec<u32>,
    /// event time by row, ms
    pub times: Vec<i64>,
    /// the rows
    pub input: Batch,
}

/// The signature of a window-processor. The function is only asked for its types.
pub fn signature<'b, I, R, O, E, C, F>(_: F) -> Signature
where
    I: ReadRow<'b>,
    R: IntoIterator<Item = O>,
    O: Row,
    C: 'b,
    F: Fn(WindowRows<I>, &'b C) -> Result<R, E>,
{
    Signature { inputs: I::fields(), outputs: O::fields(), state: None }
}

/// Calls the function for every window, also after windows that fail.
pub fn process<'b, I, R, O, E, C, F>(call: &'b WindowCall, instance: &'b C, f: F) -> Result<Expansion, Failure>
where
    I: ReadRow<'b>,
    R: IntoIterator<Item = O>,
    O: Row,
    E: Display,
    F: Fn(WindowRows<I>, &'b C) -> Result<R, E>,
{
    let count = call.input.rows as usize;
    if call.starts.len() != call.ends.len() || call.groups.len() != count || call.times.len() != count {
        return Err(Failure::Batch("windows, rows and times of the call are not as many".to_owned()));
    }
    let reader = I::open(&call.input).map_err(Failure::Batch)?;
    let (mut writer, mut origin) = (O::writer(0, 0), Vec::new());
    let mut failures = Vec::new();
    let mut first = 0;
    for (window, (&start, &end)) in call.starts.iter().zip(&call.ends).enumerate() {
        let number = offset(window);
        let rest = call.groups.get(first..).unwrap_or_default();
        let last = first + rest.iter().take_while(|group| **group == number).count();
        let rows: Result<Vec<I>, String> = (first..last).map(|row| I::read(&reader, row)).collect();
        let times = call.times.get(first..last).unwrap_or_default().to_vec();
        first = last;
        let made = rows
            .and_then(|rows| f(WindowRows { start, end, rows, times }, instance).map_err(|error| error.to_string()));
        match made {
            Ok(made) => {
                for row in made {
                    row.push(&mut writer);
                    origin.push(number);
                }
            }
            Err(reason) => failures.push(RowFailure { row: number, reason }),
        }
    }
    if first != count {
        return Err(Failure::Batch(format!("row {first} of {count} is of no window, or not in their order")));
    }
    if !failures.is_empty() {
        return Err(Failure::Rows(failures));
    }
    Ok(Expansion { output: Batch { rows: offset(origin.len()), columns: O::finish(writer) }, origin })
}
