//! Batches cut at random places, which must not matter to an operator.

use std::ops::Range;

use crate::contract::{Batch, Column, Values, Varlen, offset};

/// Cuts that are tried for each call.
pub(super) const ROUNDS: u64 = 4;

/// `0..rows` in pieces of random lengths, none of them empty; the same for the same round.
pub(super) fn cut(rows: usize, round: u64) -> Vec<Range<usize>> {
    let mut state = round.wrapping_add(rows as u64);
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < rows {
        let left = rows - start;
        let most = if round.is_multiple_of(2) { left } else { left.min(3) };
        let length = 1 + usize::try_from(random(&mut state) % most as u64).unwrap_or(0);
        pieces.push(start..start + length);
        start += length;
    }
    pieces
}

/// `SplitMix64` (Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Some rows of a batch, in this order.
pub(super) fn take(batch: &Batch, rows: impl Iterator<Item = usize> + Clone) -> Batch {
    let columns = batch.columns.iter().map(|column| Column {
        values: match &column.values {
            Values::Boolean(values) => Values::Boolean(pick(values, rows.clone())),
            Values::Int64(values) => Values::Int64(pick(values, rows.clone())),
            Values::Float64(values) => Values::Float64(pick(values, rows.clone())),
            Values::TimestampMs(values) => Values::TimestampMs(pick(values, rows.clone())),
            Values::Text(values) => Values::Text(pick_varlen(values, rows.clone())),
            Values::Binary(values) => Values::Binary(pick_varlen(values, rows.clone())),
        },
        validity: column.validity.as_ref().map(|validity| pick(validity, rows.clone())),
    });
    let columns = columns.collect();
    Batch { rows: offset(rows.count()), columns }
}

fn pick<T: Copy + Default>(values: &[T], rows: impl Iterator<Item = usize>) -> Vec<T> {
    rows.map(|row| values.get(row).copied().unwrap_or_default()).collect()
}

fn pick_varlen(values: &Varlen, rows: impl Iterator<Item = usize>) -> Varlen {
    rows.map(|row| values.get(row).unwrap_or_default()).collect()
}

/// Whether two batches hold the same rows; floats may be a billionth apart, as sums in another order are.
pub(super) fn same(one: &Batch, other: &Batch) -> bool {
    let columns = one.columns.iter().zip(&other.columns);
    one.rows == other.rows
        && one.columns.len() == other.columns.len()
        && columns.clone().all(|(one, other)| (0..one.values.rows()).all(|row| same_cell(one, other, row)))
}

fn same_cell(one: &Column, other: &Column, row: usize) -> bool {
    let valid = |column: &Column| column.validity.as_ref().is_none_or(|validity| validity.get(row) != Some(&0));
    match (valid(one), valid(other)) {
        (true, true) => {}
        (one, other) => return one == other,
    }
    match (&one.values, &other.values) {
        (Values::Boolean(one), Values::Boolean(other)) => one.get(row) == other.get(row),
        (Values::Int64(one), Values::Int64(other)) | (Values::TimestampMs(one), Values::TimestampMs(other)) => {
            one.get(row) == other.get(row)
        }
        (Values::Float64(one), Values::Float64(other)) => match (one.get(row), other.get(row)) {
            (Some(one), Some(other)) => near(*one, *other),
            (one, other) => one.is_none() && other.is_none(),
        },
        (Values::Text(one), Values::Text(other)) | (Values::Binary(one), Values::Binary(other)) => {
            one.get(row) == other.get(row)
        }
        _ => false,
    }
}

fn near(one: f64, other: f64) -> bool {
    one == other || (one.is_nan() && other.is_nan()) || (one - other).abs() <= 1e-9 * one.abs().max(other.abs())
}

/// The rows of all batches, which have the same columns, in order.
pub(super) fn joined(batches: &[Batch]) -> Batch {
    let Some((first, rest)) = batches.split_first() else { return Batch { rows: 0, columns: Vec::new() } };
    let mut all = first.clone();
    for batch in rest {
        for (column, more) in all.columns.iter_mut().zip(&batch.columns) {
            if column.validity.is_some() || more.validity.is_some() {
                let known = |column: &Column| column.validity.clone().unwrap_or_else(|| vec![1; column.values.rows()]);
                column.validity = Some([known(column), known(more)].concat());
            }
            extend(&mut column.values, &more.values);
        }
        all.rows += batch.rows;
    }
    all
}

fn extend(values: &mut Values, more: &Values) {
    match (values, more) {
        (Values::Boolean(values), Values::Boolean(more)) => values.extend(more),
        (Values::Int64(values), Values::Int64(more)) | (Values::TimestampMs(values), Values::TimestampMs(more)) => {
            values.extend(more);
        }
        (Values::Float64(values), Values::Float64(more)) => values.extend(more),
        (Values::Text(values), Values::Text(more)) | (Values::Binary(values), Values::Binary(more)) => {
            *values = values_of(values).chain(values_of(more)).collect();
        }
        _ => {}
    }
}

fn values_of(values: &Varlen) -> impl Iterator<Item = &[u8]> {
    (0..values.rows()).map(|row| values.get(row).unwrap_or_default())
}
