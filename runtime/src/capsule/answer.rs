//! What a guest made of a call, as tables for people.

use std::sync::Arc;

use arrow_array::types::{Int64Type, UInt8Type, UInt32Type};
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};

use super::file::list;
use crate::wasm::{Answer, Expansion, Processed, Timer};

/// The columns and lists of an answer, by name.
pub fn answer_tables(answer: &Answer) -> Vec<(String, RecordBatch)> {
    match answer {
        Answer::Rows(rows) => vec![("output".to_owned(), rows.clone())],
        Answer::Mask(mask) => vec![("keep".to_owned(), flags("keep", mask))],
        Answer::Targets(targets) => vec![named(list::<UInt32Type>("targets", targets))],
        Answer::Expansion(Expansion { origin, output }) => {
            vec![named(list::<UInt32Type>("origin", origin)), ("output".to_owned(), output.clone())]
        }
        Answer::Processed(processed) => of_processor(processed),
    }
}

fn of_processor(processed: &Processed) -> Vec<(String, RecordBatch)> {
    let mut tables = vec![
        named(list::<UInt32Type>("origin", &processed.origin)),
        ("output".to_owned(), processed.output.clone()),
        ("present".to_owned(), flags("present", &processed.present)),
        ("state".to_owned(), processed.state.clone()),
    ];
    for side in &processed.sides {
        tables.push((format!("side output {}", side.side), side.rows.clone()));
    }
    for (name, timers) in [("timers deleted", &processed.deleted), ("timers set", &processed.set)] {
        if !timers.is_empty() {
            tables.push((name.to_owned(), timer_rows(timers)));
        }
    }
    tables
}

fn named((name, rows): (&'static str, RecordBatch)) -> (String, RecordBatch) {
    (name.to_owned(), rows)
}

fn timer_rows(timers: &[Timer]) -> RecordBatch {
    let groups: Vec<u32> = timers.iter().map(|timer| timer.group).collect();
    let times: Vec<i64> = timers.iter().map(|timer| timer.time_ms).collect();
    let clocks: Vec<u8> = timers.iter().map(|timer| timer.clock as u8).collect();
    let parts =
        [list::<UInt32Type>("key", &groups), list::<Int64Type>("time_ms", &times), list::<UInt8Type>("clock", &clocks)];
    let columns =
        parts.iter().filter_map(|(name, rows)| Some(((*name).to_owned(), Arc::clone(rows.columns().first()?))));
    RecordBatch::try_from_iter(columns).unwrap_or_else(|_| RecordBatch::new_empty(Arc::new(Schema::empty())))
}

fn flags(name: &str, flags: &BooleanArray) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new(name, DataType::Boolean, true)]));
    let column: ArrayRef = Arc::new(flags.clone());
    RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap_or_else(|_| RecordBatch::new_empty(schema))
}
