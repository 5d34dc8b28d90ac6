//! Rows whose keys can be equal to something, and their numbers.

use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow_select::filter::filter_record_batch;

use super::{JoinColumns, LEFT, arrow, internal, wrong};
use crate::operator::OperatorError;
use crate::record::{Batch, Field};
use crate::state::KeyTable;

/// A batch's rows, told apart by their keys. Neither has none: a batch without nulls is passed on as it is.
pub(super) struct Split {
    /// rows whose keys have no null
    pub(super) keyed: Batch,
    /// the others, which are equal to nothing
    pub(super) loners: Option<Batch>,
}

/// Tells rows with a null in their key from the others.
pub(super) fn split(batch: Batch, keys: &[usize]) -> Result<Split, OperatorError> {
    let Some(keyed) = without_nulls(&batch, keys) else { return Ok(Split { keyed: batch, loners: None }) };
    let loners = picked(&batch, &!&keyed)?;
    Ok(Split { keyed: picked(&batch, &keyed)?, loners: Some(loners) })
}

/// A bit for each row: whether no column of its key is null. None: all are without.
pub(super) fn without_nulls(batch: &Batch, keys: &[usize]) -> Option<BooleanBuffer> {
    let nulls = keys.iter().filter_map(|key| batch.columns().columns().get(*key)?.logical_nulls());
    let nulls = nulls.fold(None, |all: Option<NullBuffer>, nulls| NullBuffer::union(all.as_ref(), Some(&nulls)));
    nulls.filter(|nulls| nulls.null_count() > 0).map(NullBuffer::into_inner)
}

/// The rows of a batch whose bit is set.
pub(super) fn picked(batch: &Batch, keep: &BooleanBuffer) -> Result<Batch, OperatorError> {
    let columns = filter_record_batch(batch.columns(), &BooleanArray::from(keep.clone()));
    let times: ScalarBuffer<i64> =
        batch.times().iter().zip(keep.iter()).filter(|(_, keep)| *keep).map(|(t, _)| *t).collect();
    Batch::new(columns.map_err(|error| arrow(&error))?, times).ok_or_else(|| wrong("rows and times differ"))
}

/// An empty table for the keys of both sides.
pub(super) fn table(columns: &JoinColumns) -> KeyTable {
    let fields = columns.inputs[LEFT].fields();
    let key = |key: &usize| fields.get(*key).map(|field| Field::new(field.name.clone(), field.kind));
    KeyTable::new(&columns.keys[LEFT].iter().filter_map(key).collect::<Vec<_>>())
}

/// The numbers of the keys of rows without nulls in them.
pub(super) fn slots(
    table: &mut KeyTable,
    columns: &[ArrayRef],
    keys: &[usize],
    rows: usize,
    slots: &mut Vec<u32>,
) -> Result<(), OperatorError> {
    let keys: Option<Vec<&ArrayRef>> = keys.iter().map(|key| columns.get(*key)).collect();
    let keys = keys.ok_or_else(|| wrong("a batch lacks a key column"))?;
    table.slots(&keys, rows, slots).map_err(|error| internal(&error))
}

/// As [`slots`], of those rows of a batch that have no null in their key.
pub(super) fn keyed_slots(
    table: &mut KeyTable,
    batch: &Batch,
    keys: &[usize],
    to: &mut Vec<u32>,
) -> Result<(), OperatorError> {
    match without_nulls(batch, keys) {
        None => slots(table, batch.columns().columns(), keys, batch.rows(), to),
        Some(keyed) => {
            let keyed = picked(batch, &keyed)?;
            slots(table, keyed.columns().columns(), keys, keyed.rows(), to)
        }
    }
}
