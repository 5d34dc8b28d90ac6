//! Text and raw: the record is the one cell `value`. The records' bytes become the column without a copy.

use std::sync::Arc;

use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};

use super::columns::Columns;
use super::decode::{self, Decoded};
use super::frames::Frames;
use crate::record::Kind;

/// Decodes all records of `frames`; takes its bytes unless a record turns out bad.
pub(super) fn decode(frames: &mut Frames, columns: &mut Columns) -> Decoded {
    match all_good(frames, columns) {
        Some(columns) => Decoded { columns, origin: None, bad: Vec::new() },
        None => one_by_one(frames, columns),
    }
}

/// The batch if all records are good. `None` leaves the frames as they were.
fn all_good(frames: &mut Frames, columns: &Columns) -> Option<RecordBatch> {
    let schema = columns.schema();
    let Some(field) = schema.fields().first() else {
        return None; // no column, so no bytes to move
    };
    let text = field.kind == Kind::Text;
    let offsets = std::iter::once(Ok(0)).chain(frames.ends.iter().map(|&end| i32::try_from(end)));
    let offsets = offsets.collect::<Result<Vec<i32>, _>>().ok()?;
    let total = usize::try_from(*offsets.last()?).ok()?;
    if total > frames.bytes.len() || !offsets.is_sorted() {
        return None;
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    let bytes = Buffer::from_vec(std::mem::take(&mut frames.bytes));
    let array: Option<ArrayRef> = if text {
        StringArray::try_new(offsets, bytes.clone(), None).ok().map(|array| Arc::new(array) as ArrayRef)
    } else {
        BinaryArray::try_new(offsets, bytes.clone(), None).ok().map(|array| Arc::new(array) as ArrayRef)
    };
    let batch = array.and_then(|array| RecordBatch::try_new(schema.arrow().clone(), vec![array]).ok());
    if batch.is_none() {
        frames.bytes = bytes.into_vec::<u8>().unwrap_or_else(|shared| shared.to_vec());
    }
    batch
}

/// Copies the good records and finds the bad ones.
fn one_by_one(frames: &Frames, columns: &mut Columns) -> Decoded {
    let kind = columns.schema().fields().first().map(|field| field.kind);
    decode::rows(frames, columns, |columns, range| {
        let record = frames.bytes.get(range).ok_or("the record lies outside of its batch")?;
        if kind == Some(Kind::Text) {
            decode::check_utf8(record)?;
        }
        if let Some(column) = columns.open_cell(0) {
            column.push_bytes(record).ok_or("column `value`: one batch would hold more than 2 GiB of it")?;
        }
        columns.end_row()
    })
}
