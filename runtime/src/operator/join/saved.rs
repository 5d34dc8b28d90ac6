//! Rows of a side as a snapshot holds them: key columns, the time, whether the row has met a partner, the row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch, TimestampMillisecondArray};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use arrow_schema::Field as ArrowField;

use super::rows::Part;
use super::{JoinColumns, LEFT, RIGHT, arrow, wrong};
use crate::operator::OperatorError;
use crate::operator::process_state::digest;
use crate::operator::saved_table::SavedTable;
use crate::record::{Batch, EventTime, Field, Kind, Schema};
use crate::state::{Later, Snapshot, StateError};

/// Names of the tables, by side.
pub(super) const NAMES: [&str; 2] = ["left", "right"];

/// Saved rows of the left and the right side.
type Sides<'a> = [&'a [RecordBatch]; 2];

/// Columns between the keys and the row.
const OWN_COLUMNS: usize = 2;

/// Rows that come back.
pub(super) struct Restored {
    pub(super) batch: Batch,
    pub(super) met: BooleanBuffer,
}

/// What a snapshot holds of the rows of a side.
pub(super) fn table(name: &'static str, columns: &JoinColumns, side: usize) -> SavedTable {
    let fields = columns.inputs.get(side).map(Schema::fields).unwrap_or_default();
    let keys = columns.keys.get(side).map(Vec::as_slice).unwrap_or_default();
    let keys: Vec<Field> = keys.iter().filter_map(|key| fields.get(*key).cloned()).collect();
    let own = [("event time", Kind::TimestampMs), ("met", Kind::Boolean)];
    let own = own.map(|(name, kind)| ArrowField::new(name, kind.data_type(), false));
    let row = fields.iter().map(|field| ArrowField::new(&field.name, field.kind.data_type(), field.nullable));
    SavedTable::new(name, &keys, own.into_iter().chain(row))
}

/// The tables of both sides, which are all that there may be.
pub(super) fn of_sides<'a>(state: &'a Snapshot, columns: &JoinColumns) -> Result<Sides<'a>, OperatorError> {
    let [left, right] = [LEFT, RIGHT].map(|side| table(NAMES[side], columns, side));
    Ok([left.rows_beside(state, &[&right])?, right.rows_beside(state, &[&left])?])
}

/// Rows on their way into a snapshot. Columns are shared, not copied.
pub(super) fn saved(
    rows: &RecordBatch,
    keys: &[usize],
    times: ScalarBuffer<EventTime>,
    met: Option<BooleanBuffer>,
) -> Result<RecordBatch, StateError> {
    let schema = rows.schema();
    let field = |name: &str, kind: Kind| arrow_schema::Field::new(name, kind.data_type(), false);
    let met = met.unwrap_or_else(|| BooleanBuffer::new_unset(rows.num_rows()));
    let mut fields: Vec<Arc<arrow_schema::Field>> =
        keys.iter().filter_map(|key| schema.fields().get(*key).cloned()).collect();
    let mut columns: Vec<ArrayRef> = keys.iter().filter_map(|key| rows.columns().get(*key).cloned()).collect();
    fields.push(Arc::new(field("event time", Kind::TimestampMs)));
    columns.push(Arc::new(TimestampMillisecondArray::try_new(times, None)?));
    fields.push(Arc::new(field("met", Kind::Boolean)));
    columns.push(Arc::new(BooleanArray::from(met)));
    fields.extend(schema.fields().iter().cloned());
    columns.extend(rows.columns().iter().cloned());
    Ok(RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(fields)), columns)?)
}

/// Rows of a part that stay as they are, whatever becomes of it. `own` are, by number, a row's time and whether it has met a
/// partner, and `marks` tells these from others that the same rows had.
pub(super) fn later(
    part: Part,
    keys: &[usize],
    own: impl Fn(u32) -> (EventTime, bool) + Send + Sync + 'static,
    marks: impl Fn(&Part) -> Vec<u64> + Send + Sync + 'static,
) -> Later {
    let (keys, part) = (keys.to_vec(), Arc::new(part));
    let of = Arc::clone(&part);
    let id = move || {
        let mut marks = marks(&of);
        marks.push(of.id());
        digest(&marks)
    };
    Later::new(id, move || {
        let (rows, numbers) = part.held().map_err(|error| StateError::Elsewhere { reason: error.to_string() })?;
        let times = numbers.iter().map(|number| own(*number).0).collect();
        let met = numbers.iter().map(|number| own(*number).1).collect();
        saved(&rows, &keys, times, Some(met))
    })
}

/// The rows of a table that [`saved`] made, with `keys` key columns, which are of `schema`.
pub(super) fn restored(table: &RecordBatch, schema: &Schema, keys: usize) -> Result<Restored, OperatorError> {
    let lacks = || wrong("the saved rows of a join have other columns than the join");
    let times = table.columns().get(keys).and_then(|times| times.as_primitive_opt::<TimestampMillisecondType>());
    let times = times.ok_or_else(lacks)?.values().clone();
    let met = table.columns().get(keys + 1).and_then(|met| met.as_boolean_opt()).ok_or_else(lacks)?.values().clone();
    let columns = table.columns().get(keys + OWN_COLUMNS..).ok_or_else(lacks)?.to_vec();
    let rows = RecordBatch::try_new(schema.arrow().clone(), columns).map_err(|error| arrow(&error))?;
    Ok(Restored { batch: Batch::new(rows, times).ok_or_else(lacks)?, met })
}
