//! Arrow columns read cell by cell, for the encoders.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, StringArray};
use arrow_buffer::NullBuffer;

use crate::record::Kind;

/// One column of a batch, its kind resolved once.
pub(super) struct Cells<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Int64(&'a [i64]),
    Float64(&'a [f64]),
    Text(&'a StringArray),
    Binary(&'a BinaryArray),
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    /// int64, and timestamp_ms in milliseconds
    Int64(i64),
    Float64(f64),
    /// UTF-8
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> Cells<'a> {
    /// The array as a column of `kind`; `None` if it holds something else.
    pub(super) fn new(array: &'a ArrayRef, kind: Kind) -> Option<Self> {
        let values = match kind {
            Kind::Boolean => Values::Boolean(array.as_boolean_opt()?),
            Kind::Int64 => Values::Int64(array.as_primitive_opt::<Int64Type>()?.values()),
            Kind::TimestampMs => Values::Int64(array.as_primitive_opt::<TimestampMillisecondType>()?.values()),
            Kind::Float64 => Values::Float64(array.as_primitive_opt::<Float64Type>()?.values()),
            Kind::Text => Values::Text(array.as_string_opt()?),
            Kind::Binary => Values::Binary(array.as_binary_opt()?),
        };
        Some(Self { values, nulls: array.nulls() })
    }

    /// The cell of a row of the batch; null beyond its end.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Cell<'a> {
        if self.nulls.is_some_and(|nulls| row >= nulls.len() || nulls.is_null(row)) {
            return Cell::Null;
        }
        match self.values {
            Values::Boolean(values) if row < values.len() => Cell::Boolean(values.value(row)),
            Values::Int64(values) => values.get(row).map_or(Cell::Null, |&value| Cell::Int64(value)),
            Values::Float64(values) => values.get(row).map_or(Cell::Null, |&value| Cell::Float64(value)),
            Values::Text(values) if row < values.len() => Cell::Text(values.value(row).as_bytes()),
            Values::Binary(values) if row < values.len() => Cell::Binary(values.value(row)),
            _ => Cell::Null,
        }
    }
}
