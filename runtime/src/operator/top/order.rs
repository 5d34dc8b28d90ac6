//! The order of rows: columns as values that compare.

use std::cmp::Ordering;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::NullBuffer;

use super::TopSpec;
use crate::operator::aggregate_built_in::ordered;
use crate::record::{Field, Kind};
use crate::state::{StateError, is_word, varlen, words};

/// Compares the rows of a batch.
pub(super) struct Order<'a> {
    by: Vec<Column<'a>>,
    /// all columns: what tells rows apart that are equal in those
    rest: Vec<Column<'a>>,
}

struct Column<'a> {
    values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
    descending: bool,
}

enum Values<'a> {
    Numbers(Vec<i64>),
    Bytes(&'a [i32], &'a [u8]),
}

impl<'a> Order<'a> {
    pub(super) fn new(spec: &TopSpec, rows: &'a RecordBatch) -> Result<Self, StateError> {
        let columns = || spec.input.fields().iter().zip(rows.columns());
        let by = spec.by.iter().filter_map(|by| columns().nth(by.column).map(|column| (column, by.descending)));
        let by = by.map(|((field, array), descending)| Column::new(field, array, descending));
        Ok(Self {
            by: by.collect::<Result<_, _>>()?,
            rest: columns().map(|(field, array)| Column::new(field, array, false)).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn compare(&self, a: u32, b: u32) -> Ordering {
        compare(self.by.iter().chain(&self.rest), a as usize, b as usize)
    }

    /// Whether rows are equal in the columns that they are ordered by.
    pub(super) fn tied(&self, a: u32, b: u32) -> bool {
        compare(self.by.iter(), a as usize, b as usize).is_eq()
    }
}

fn compare<'a>(mut columns: impl Iterator<Item = &'a Column<'a>>, a: usize, b: usize) -> Ordering {
    columns.find_map(|column| Some(column.compare(a, b)).filter(|order| order.is_ne())).unwrap_or(Ordering::Equal)
}

impl<'a> Column<'a> {
    fn new(field: &Field, array: &'a ArrayRef, descending: bool) -> Result<Self, StateError> {
        let values = if is_word(field.kind) {
            let float = field.kind == Kind::Float64;
            Values::Numbers(words(field, array)?.iter().map(|word| ordered(float, *word)).collect())
        } else {
            let (offsets, bytes) = varlen(field, array)?;
            Values::Bytes(offsets, bytes)
        };
        Ok(Self { values, nulls: array.nulls().filter(|nulls| nulls.null_count() > 0), descending })
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        let null = |row| self.nulls.is_some_and(|nulls| nulls.is_null(row));
        match (null(a), null(b)) {
            (false, false) => {}
            (a, b) => return a.cmp(&b),
        }
        let order = match &self.values {
            Values::Numbers(numbers) => numbers.get(a).cmp(&numbers.get(b)),
            Values::Bytes(offsets, bytes) => {
                let value = |row: usize| {
                    let range = offsets.get(row).zip(offsets.get(row + 1));
                    range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize))
                };
                value(a).cmp(&value(b))
            }
        };
        if self.descending { order.reverse() } else { order }
    }
}
