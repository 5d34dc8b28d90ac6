//! What a guest returned as Arrow columns, after every check that the contract promises. Value buffers are taken over,
//! not copied. Each error names the column, the row, what was expected and what came.

use std::sync::Arc;

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions,
    StringArray,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::abi::{BatchOut, ColumnOut, ExpansionOut, ValuesOut, VarlenOut};
use super::bits::{bits_from_bytes, first_not_boolean};
use crate::limits;
use crate::record::{Field, Kind, Schema};

/// Checks a batch that must have `rows` rows and the columns of `schema`.
pub(super) fn batch(schema: &Schema, rows: usize, returned: BatchOut) -> Result<RecordBatch, String> {
    if returned.rows as usize != rows {
        return Err(format!("returned a batch of {} rows, expected {rows}", returned.rows));
    }
    let fields = schema.fields();
    if returned.columns.len() != fields.len() {
        return Err(format!(
            "returned {} columns, expected the {} of its signature ({schema})",
            returned.columns.len(),
            fields.len()
        ));
    }
    let columns = fields
        .iter()
        .zip(returned.columns)
        .map(|(field, column)| lift_column(field, rows, column).map_err(|reason| format!("column `{field}`: {reason}")))
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), columns, &options)
        .map_err(|error| format!("returned columns that do not fit together: {error}"))
}

/// Checks a mask that must have `rows` bytes, each 0 or 1.
pub(super) fn mask(rows: usize, returned: &[u8]) -> Result<BooleanArray, String> {
    if returned.len() != rows {
        return Err(format!("returned a mask of {} bytes, expected one for each of {rows} rows", returned.len()));
    }
    if let Some(row) = first_not_boolean(returned) {
        return Err(format!("row {row} of the mask is {}, expected 0 (drop) or 1 (keep)", returned[row]));
    }
    Ok(BooleanArray::new(bits_from_bytes(returned), None))
}

/// Checks the targets of `rows` rows, each of which must be less than `targets`.
pub(super) fn targets(rows: usize, targets: u32, returned: Vec<u32>) -> Result<Vec<u32>, String> {
    if returned.len() != rows {
        return Err(format!("returned {} targets, expected one for each of {rows} rows", returned.len()));
    }
    match returned.iter().zip(0..).find(|(target, _)| **target >= targets) {
        Some((target, row)) => {
            let row: usize = row;
            Err(format!("row {row} is routed to task {target}, expected 0 to {}", targets.saturating_sub(1)))
        }
        None => Ok(returned),
    }
}

/// Checks an expansion of `rows` rows: its columns, and an origin for each row that exists and never decreases.
pub(super) fn expansion(
    schema: &Schema,
    rows: usize,
    returned: ExpansionOut,
) -> Result<(Vec<u32>, RecordBatch), String> {
    let ExpansionOut { origin, output } = returned;
    let expanded = output.rows as usize;
    if expanded > limits::EXPANSION_ROWS_MAX {
        return Err(format!("returned {expanded} rows, at most {} in one call", limits::EXPANSION_ROWS_MAX));
    }
    if origin.len() != expanded {
        return Err(format!("returned {} origins, expected one for each of {expanded} rows", origin.len()));
    }
    if let Some(row) = origin.windows(2).position(|pair| pair[0] > pair[1]) {
        return Err(format!("origin decreases from {} to {} at row {}", origin[row], origin[row + 1], row + 1));
    }
    if let Some(last) = origin.last().filter(|last| **last as usize >= rows) {
        return Err(format!("origin of the last row is {last}, expected less than the {rows} rows of the input"));
    }
    Ok((origin, batch(schema, expanded, output)?))
}

fn lift_column(field: &Field, rows: usize, column: ColumnOut) -> Result<ArrayRef, String> {
    let nulls = column.validity.map(|validity| lift_validity(field, rows, &validity)).transpose()?.flatten();
    Ok(match (field.kind, column.values) {
        (Kind::Boolean, ValuesOut::Boolean(bytes)) => {
            check_length(rows, bytes.len())?;
            if let Some(row) = first_not_boolean(&bytes) {
                return Err(format!("row {row} is {}, expected 0 (false) or 1 (true)", bytes[row]));
            }
            Arc::new(BooleanArray::new(bits_from_bytes(&bytes), nulls))
        }
        (Kind::Int64, ValuesOut::Int64(values)) => {
            check_length(rows, values.len())?;
            Arc::new(Int64Array::new(values.into(), nulls))
        }
        (Kind::Float64, ValuesOut::Float64(values)) => {
            check_length(rows, values.len())?;
            Arc::new(Float64Array::new(values.into(), nulls))
        }
        (Kind::TimestampMs, ValuesOut::TimestampMs(values)) => {
            check_length(rows, values.len())?;
            Arc::new(PrimitiveArray::<TimestampMillisecondType>::new(values.into(), nulls))
        }
        (Kind::Text, ValuesOut::Text(varlen)) => Arc::new(lift_text(varlen, rows, nulls)?),
        (Kind::Binary, ValuesOut::Binary(varlen)) => {
            check_offsets(&varlen, rows)?;
            let (offsets, bytes) = lift_varlen(varlen);
            Arc::new(BinaryArray::try_new(offsets, bytes, nulls).map_err(|error| error.to_string())?)
        }
        (_, values) => return Err(format!("returned {} values", kind_of(&values))),
    })
}

/// `None` where no row is null.
fn lift_validity(field: &Field, rows: usize, validity: &[u8]) -> Result<Option<NullBuffer>, String> {
    if validity.len() != rows {
        return Err(format!("returned a validity of {} bytes, expected {rows} (one a row)", validity.len()));
    }
    if let Some(row) = first_not_boolean(validity) {
        return Err(format!("validity of row {row} is {}, expected 0 (null) or 1", validity[row]));
    }
    let nulls = NullBuffer::new(bits_from_bytes(validity));
    if nulls.null_count() == 0 {
        return Ok(None);
    }
    if !field.nullable {
        let row = validity.iter().position(|byte| *byte == 0).unwrap_or_default();
        return Err(format!("row {row} is null, but the signature declares the column without nulls"));
    }
    Ok(Some(nulls))
}

fn check_length(rows: usize, values: usize) -> Result<(), String> {
    if values == rows { Ok(()) } else { Err(format!("returned {values} values, expected {rows} (one a row)")) }
}

fn check_offsets(varlen: &VarlenOut, rows: usize) -> Result<(), String> {
    let VarlenOut { offsets, bytes } = varlen;
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
        return Err(format!("returned no offsets, expected {} (rows + 1)", rows + 1));
    };
    if offsets.len() != rows + 1 {
        return Err(format!("returned {} offsets, expected {} (rows + 1)", offsets.len(), rows + 1));
    }
    if *first != 0 {
        return Err(format!("offset 0 is {first}, expected 0"));
    }
    if *last as usize != bytes.len() {
        return Err(format!("the last offset is {last}, expected {} (the number of bytes)", bytes.len()));
    }
    if i32::try_from(*last).is_err() {
        return Err(format!("returned {last} bytes in one column, at most {} fit", i32::MAX));
    }
    // a sum, not a search: the loop has no early exit and compiles to vector instructions
    let decreases: usize = offsets.iter().zip(&offsets[1..]).map(|(start, end)| usize::from(start > end)).sum();
    if decreases == 0 {
        return Ok(());
    }
    let row = offsets.windows(2).position(|pair| pair[0] > pair[1]).unwrap_or_default();
    Err(format!("offsets decrease from {} to {} at row {row}", offsets[row], offsets[row + 1]))
}

/// Every row must be UTF-8 by itself: the whole is, and each row begins at the start of a character.
///
/// Arrow's own check comes to the same, but with the standard library's decoder: on text that is not ASCII it took
/// three quarters of a call that only hands the text back.
#[allow(unsafe_code)]
fn lift_text(varlen: VarlenOut, rows: usize, nulls: Option<NullBuffer>) -> Result<StringArray, String> {
    check_offsets(&varlen, rows)?;
    let VarlenOut { offsets, bytes } = &varlen;
    let is_text = simdutf8::basic::from_utf8(bytes)
        .is_ok_and(|text| text.is_ascii() || offsets.iter().all(|offset| text.is_char_boundary(*offset as usize)));
    if !is_text {
        let row = offsets.windows(2).position(|pair| {
            bytes.get(pair[0] as usize..pair[1] as usize).is_none_or(|row| std::str::from_utf8(row).is_err())
        });
        return Err(format!("row {} is not UTF-8", row.unwrap_or_default()));
    }
    let (offsets, bytes) = lift_varlen(varlen);
    // SAFETY: the offsets never decrease and end at the last byte (`check_offsets`), every row is UTF-8 (above),
    // and the nulls are as many as the rows (`lift_validity`), which are one less than the offsets.
    Ok(unsafe { StringArray::new_unchecked(offsets, bytes, nulls) })
}

/// Takes the buffers over. Offsets have been checked: they fit i32 and never decrease.
fn lift_varlen(varlen: VarlenOut) -> (OffsetBuffer<i32>, Buffer) {
    let entries = varlen.offsets.len();
    let offsets = ScalarBuffer::new(Buffer::from_vec(varlen.offsets), 0, entries);
    (OffsetBuffer::new(offsets), Buffer::from_vec(varlen.bytes))
}

fn kind_of(values: &ValuesOut) -> Kind {
    match values {
        ValuesOut::Boolean(_) => Kind::Boolean,
        ValuesOut::Int64(_) => Kind::Int64,
        ValuesOut::Float64(_) => Kind::Float64,
        ValuesOut::Text(_) => Kind::Text,
        ValuesOut::Binary(_) => Kind::Binary,
        ValuesOut::TimestampMs(_) => Kind::TimestampMs,
    }
}
