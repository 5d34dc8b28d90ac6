//! Accumulators of built-in aggregates as Arrow columns, and back.
//!
//! Of an aggregate with the output column `total`:
//!
//! | accumulator | columns |
//! |---|---|
//! | `count()`, and `count(column)` without nulls | none: the number of rows serves |
//! | `count(column)` | `total.count` int64 |
//! | sum, avg of int64 | `total.sum` decimal(38, 0): 128 bits hold the sum of 2^63 values |
//! | sum, avg of float64 | `total.sum`, `total.lost` float64: the sum and what rounding took from it |
//! | min, max | `total.best` of the column's kind, null if there was no value |
//! | first, last | `total.value` of the column's kind, `total.time` timestamp; null if there was no value |
//! | count_distinct | `total.values`: the values as a list, in order |
//!
//! Of a column with nulls `total.seen` int64 says how many values there were.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_array::{Array, ArrayRef, Decimal128Array, Float64Array, Int64Array};
use arrow_schema::{DataType, Field as ArrowField};

use super::{Accumulators, BuiltIn, FloatSum, Seen, from_ordered, ordered};
use crate::record::{Field, Kind};
use crate::state::{Chunked, ColumnBuilder, StateError, varlen, words};

/// Digits of a decimal of 128 bits.
const DIGITS: u8 = 38;

impl BuiltIn {
    /// The columns of [`BuiltIn::save`].
    pub(in crate::operator) fn saved_fields(&self) -> Vec<ArrowField> {
        let name = |part: &str| format!("{}.{part}", self.result.name);
        let Some((_, read)) = &self.column else { return Vec::new() };
        let kind = read.kind.data_type();
        let field = |part, data_type, nullable| ArrowField::new(name(part), data_type, nullable);
        let empty = self.accumulators();
        let mut fields = match &empty {
            Accumulators::Rows => Vec::new(),
            Accumulators::Count(_) => vec![field("count", DataType::Int64, false)],
            Accumulators::Int { .. } => vec![field("sum", DataType::Decimal128(DIGITS, 0), false)],
            Accumulators::Float { .. } => {
                vec![field("sum", DataType::Float64, false), field("lost", DataType::Float64, false)]
            }
            Accumulators::Extreme { .. } | Accumulators::ExtremeText(_) => vec![field("best", kind, true)],
            Accumulators::Timed(_) => {
                vec![field("value", kind, true), field("time", Kind::TimestampMs.data_type(), true)]
            }
            Accumulators::Distinct(_) => vec![field("values", DataType::new_list(kind, false), false)],
        };
        if seen_of(&empty).is_some() {
            fields.push(field("seen", DataType::Int64, false));
        }
        fields
    }

    /// The accumulators of `slots`, row by row.
    pub(in crate::operator) fn save(&self, of: &Accumulators, slots: &[u32]) -> Result<Vec<ArrayRef>, StateError> {
        let Some((_, read)) = &self.column else { return Ok(Vec::new()) };
        let mut columns: Vec<ArrayRef> = match of {
            Accumulators::Rows => Vec::new(),
            Accumulators::Count(counts) => vec![save_counts(counts, slots)],
            Accumulators::Int { sums, .. } => {
                let sums = Decimal128Array::from_iter_values(values(sums, slots));
                vec![Arc::new(sums.with_precision_and_scale(DIGITS, 0)?)]
            }
            Accumulators::Float { sums, .. } => vec![
                Arc::new(Float64Array::from_iter_values(values(sums, slots).map(|sum| sum.sum))),
                Arc::new(Float64Array::from_iter_values(values(sums, slots).map(|sum| sum.lost))),
            ],
            Accumulators::Extreme { best, seen } => vec![save_extremes(read, best, seen.as_ref(), slots)?],
            Accumulators::ExtremeText(best) => {
                let mut column = ColumnBuilder::new(&read.clone().nullable(), slots.len());
                for slot in slots {
                    match best.get(*slot) {
                        Some(Some(bytes)) => column.push_bytes(bytes)?,
                        _ => column.push_null()?,
                    }
                }
                vec![column.finish()?]
            }
            Accumulators::Timed(timed) => timed.save(read, slots)?,
            Accumulators::Distinct(distinct) => vec![distinct.save(read, slots)?],
        };
        columns.extend(seen_of(of).map(|seen| save_counts(seen, slots)));
        Ok(columns)
    }

    /// What [`BuiltIn::save`] gave becomes the accumulators of `slots`, which are empty; their chunks exist. The columns
    /// are of [`BuiltIn::saved_fields`].
    pub(in crate::operator) fn load(
        &self,
        into: &mut Accumulators,
        slots: &[u32],
        columns: &[ArrayRef],
    ) -> Result<(), StateError> {
        let Some((_, read)) = &self.column else { return Ok(()) };
        match (&mut *into, columns) {
            (Accumulators::Rows, _) => {}
            (Accumulators::Count(counts), [saved, ..]) => load_counts(counts, slots, saved)?,
            (Accumulators::Int { sums, .. }, [saved, ..]) => {
                let saved = saved.as_primitive_opt::<Decimal128Type>();
                put(sums, slots, saved.into_iter().flat_map(|saved| saved.values().iter().copied()));
            }
            (Accumulators::Float { sums, .. }, [sum, lost, ..]) => {
                let field = Field::new(&self.result.name, Kind::Float64);
                let (sum, lost) = (words(&field, sum)?, words(&field, lost)?);
                let both = sum.iter().zip(lost.iter());
                let both = both.map(|(sum, lost)| FloatSum { sum: f64::from_bits(*sum), lost: f64::from_bits(*lost) });
                put(sums, slots, both);
            }
            (Accumulators::Extreme { best, .. }, [saved, ..]) => {
                let float = read.kind == Kind::Float64;
                for ((row, slot), word) in slots.iter().enumerate().zip(words(read, saved)?.iter()) {
                    if saved.is_valid(row) {
                        best.get_mut(*slot).into_iter().for_each(|best| *best = ordered(float, *word));
                    }
                }
            }
            (Accumulators::ExtremeText(best), [saved, ..]) => {
                let (offsets, bytes) = varlen(read, saved)?;
                for (row, slot) in slots.iter().enumerate().filter(|(row, _)| saved.is_valid(*row)) {
                    let range = offsets.get(row).zip(offsets.get(row + 1));
                    let value = range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize));
                    best.get_mut(*slot).into_iter().for_each(|best| *best = value.map(<[u8]>::to_vec));
                }
            }
            (Accumulators::Timed(timed), [value, time, ..]) => timed.load(read, slots, value, time)?,
            (Accumulators::Distinct(distinct), [saved, ..]) => distinct.load(read, slots, saved)?,
            (_, found) => return Err(StateError::ColumnCount { expected: 1, found: found.len() }),
        }
        match (seen_of_mut(into), columns.last()) {
            (Some(seen), Some(saved)) => load_counts(seen, slots, saved),
            _ => Ok(()),
        }
    }
}

fn seen_of(of: &Accumulators) -> Option<&Chunked<i64>> {
    match of {
        Accumulators::Int { seen, .. } | Accumulators::Float { seen, .. } | Accumulators::Extreme { seen, .. } => {
            seen.as_ref()
        }
        _ => None,
    }
}

fn seen_of_mut(of: &mut Accumulators) -> Option<&mut Chunked<i64>> {
    let seen: &mut Seen = match of {
        Accumulators::Int { seen, .. } | Accumulators::Float { seen, .. } | Accumulators::Extreme { seen, .. } => seen,
        _ => return None,
    };
    seen.as_mut()
}

/// The values of `slots`; of a slot without a chunk, the default.
fn values<'a, T: Copy + Default>(of: &'a Chunked<T>, slots: &'a [u32]) -> impl Iterator<Item = T> + 'a {
    of.of_slots(slots).map(|value| value.copied().unwrap_or_default())
}

/// Counts as a column.
pub(in crate::operator) fn save_counts(of: &Chunked<i64>, slots: &[u32]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values(of, slots)))
}

fn load_counts(into: &mut Chunked<i64>, slots: &[u32], saved: &ArrayRef) -> Result<(), StateError> {
    let counts = words(&Field::new("count", Kind::Int64), saved)?;
    put(into, slots, counts.iter().map(|word| *word as i64));
    Ok(())
}

fn put<T: Clone>(into: &mut Chunked<T>, slots: &[u32], values: impl Iterator<Item = T>) {
    for (slot, value) in slots.iter().zip(values) {
        into.get_mut(*slot).into_iter().for_each(|place| *place = value.clone());
    }
}

fn save_extremes(
    read: &Field,
    best: &Chunked<i64>,
    seen: Option<&Chunked<i64>>,
    slots: &[u32],
) -> Result<ArrayRef, StateError> {
    let float = read.kind == Kind::Float64;
    let mut column = ColumnBuilder::new(&read.clone().nullable(), slots.len());
    for slot in slots {
        match best.get(*slot) {
            Some(best) if seen.is_none_or(|seen| seen.get(*slot).is_some_and(|seen| *seen > 0)) => {
                column.push_word(from_ordered(float, *best));
            }
            _ => column.push_null()?,
        }
    }
    column.finish()
}
