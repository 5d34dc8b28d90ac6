//! Rows of single values, for tests that compare columns with a model.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};

use crate::record::{Kind, Schema};

/// A value of any kind.
#[derive(Clone, Debug, PartialEq, PartialOrd)]
pub(crate) enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    Time(i64),
}

/// A column of the kind.
pub(crate) fn array<'a>(kind: Kind, cells: impl Iterator<Item = &'a Cell>) -> ArrayRef {
    match kind {
        Kind::Boolean => {
            let values = cells.map(|cell| if let Cell::Bool(value) = cell { Some(*value) } else { None });
            Arc::new(values.collect::<BooleanArray>())
        }
        Kind::Int64 => {
            let values = cells.map(|cell| if let Cell::Int(value) = cell { Some(*value) } else { None });
            Arc::new(values.collect::<Int64Array>())
        }
        Kind::Float64 => {
            let values = cells.map(|cell| if let Cell::Float(value) = cell { Some(*value) } else { None });
            Arc::new(values.collect::<Float64Array>())
        }
        Kind::Text => {
            let values = cells.map(|cell| if let Cell::Text(value) = cell { Some(value) } else { None });
            Arc::new(values.collect::<StringArray>())
        }
        Kind::Binary => {
            let values = cells.map(|cell| if let Cell::Bytes(value) = cell { Some(value) } else { None });
            Arc::new(values.collect::<BinaryArray>())
        }
        Kind::TimestampMs => {
            let values = cells.map(|cell| if let Cell::Time(value) = cell { Some(*value) } else { None });
            Arc::new(values.collect::<TimestampMillisecondArray>())
        }
    }
}

/// Rows as a batch.
pub(crate) fn batch(schema: &Schema, rows: &[Vec<Cell>]) -> RecordBatch {
    let columns = schema.fields().iter().enumerate();
    let columns = columns.map(|(at, field)| array(field.kind, rows.iter().map(|row| &row[at]))).collect();
    RecordBatch::try_new(schema.arrow().clone(), columns).unwrap()
}

/// One value of a column.
pub(crate) fn cell(column: &ArrayRef, row: usize) -> Cell {
    if column.is_null(row) {
        return Cell::Null;
    }
    match Kind::from_data_type(column.data_type()).unwrap() {
        Kind::Boolean => Cell::Bool(column.as_boolean().value(row)),
        Kind::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
        Kind::Float64 => Cell::Float(column.as_primitive::<Float64Type>().value(row)),
        Kind::Text => Cell::Text(column.as_string::<i32>().value(row).to_owned()),
        Kind::Binary => Cell::Bytes(column.as_binary::<i32>().value(row).to_vec()),
        Kind::TimestampMs => Cell::Time(column.as_primitive::<TimestampMillisecondType>().value(row)),
    }
}

/// All rows of columns.
pub(crate) fn rows(columns: &[ArrayRef]) -> Vec<Vec<Cell>> {
    let rows = columns.first().map_or(0, |column| column.len());
    (0..rows).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}
