//! Typed columns by slot: the accumulators of aggregates that are not built in.

use std::ops::Range;

use arrow_array::{Array, RecordBatch, RecordBatchOptions};

use super::arrays::{ColumnBuilder, is_word, varlen, words};
use super::{Chunked, StateError};
use crate::record::Schema;

/// One row of values a slot, all of one schema. Slots without a value yet hold the initial row.
#[derive(Clone, Debug)]
pub struct Columns {
    schema: Schema,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
enum Column {
    Words {
        values: Chunked<u64>,
        valid: Option<Chunked<bool>>,
    },
    /// None is a null. A value is overwritten in place, so replacing it leaves nothing behind.
    Bytes(Chunked<Option<Vec<u8>>>),
}

impl Columns {
    /// No slots; `initial` has one row of the schema, which is the value of every new slot.
    pub fn new(schema: &Schema, initial: &RecordBatch) -> Result<Self, StateError> {
        check_rows(schema, 1, initial)?;
        let mut columns = Vec::new();
        for (field, array) in schema.fields().iter().zip(initial.columns()) {
            let valid = array.is_valid(0);
            columns.push(if is_word(field.kind) {
                let word = words(field, array)?.first().copied().unwrap_or_default();
                let valid = field.nullable.then(|| Chunked::new(valid));
                Column::Words { values: Chunked::new(word), valid }
            } else {
                let (offsets, bytes) = varlen(field, array)?;
                Column::Bytes(Chunked::new(valid.then(|| slice(offsets, bytes, 0).to_vec())))
            });
        }
        Ok(Self { schema: schema.clone(), columns })
    }

    /// Makes a chunk of slots, all with the initial row.
    pub fn allocate(&mut self, chunk: usize) {
        for column in &mut self.columns {
            match column {
                Column::Words { values, valid } => {
                    values.allocate(chunk);
                    valid.iter_mut().for_each(|valid| valid.allocate(chunk));
                }
                Column::Bytes(values) => values.allocate(chunk),
            }
        }
    }

    /// Bytes that are held. Looks at every value of text and binary.
    pub fn bytes(&self) -> usize {
        let column = |column: &Column| match column {
            Column::Words { values, valid } => values.bytes() + valid.as_ref().map_or(0, Chunked::bytes),
            Column::Bytes(values) => {
                let held = values.chunks().flat_map(|(_, values)| values).flatten();
                values.bytes() + held.map(|bytes| heap_bytes(bytes.capacity())).sum::<usize>()
            }
        };
        self.columns.iter().map(column).sum()
    }

    /// The rows of `slots`, in their order. All chunks of the slots exist.
    pub fn gather(&self, slots: &[u32]) -> Result<RecordBatch, StateError> {
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (field, column) in self.schema.fields().iter().zip(&self.columns) {
            let mut build = ColumnBuilder::new(field, slots.len());
            match column {
                Column::Words { values, valid: None } => {
                    slots.iter().for_each(|slot| _ = values.prefetch(*slot));
                    slots.iter().for_each(|slot| build.push_word(values.get(*slot).copied().unwrap_or_default()));
                }
                Column::Words { values, valid: Some(valid) } => {
                    for slot in slots {
                        match (values.get(*slot), valid.get(*slot)) {
                            (Some(word), Some(true)) => build.push_word(*word),
                            _ => build.push_null()?,
                        }
                    }
                }
                Column::Bytes(values) => {
                    for slot in slots {
                        match values.get(*slot) {
                            Some(Some(bytes)) => build.push_bytes(bytes)?,
                            _ => build.push_null()?,
                        }
                    }
                }
            }
            arrays.push(build.finish()?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(self.schema.arrow().clone(), arrays, &options)?)
    }

    /// Row i of `rows` becomes the row of `slots[i]`. All chunks of the slots exist. Nothing is written on an error.
    pub fn scatter(&mut self, slots: &[u32], rows: &RecordBatch) -> Result<(), StateError> {
        check_rows(&self.schema, slots.len(), rows)?;
        for ((field, column), array) in self.schema.fields().iter().zip(&mut self.columns).zip(rows.columns()) {
            let nulls = array.nulls();
            match column {
                Column::Words { values, valid } => {
                    for (slot, word) in slots.iter().zip(words(field, array)?.iter()) {
                        values.get_mut(*slot).into_iter().for_each(|place| *place = *word);
                    }
                    let Some(valid) = valid else { continue };
                    for (row, slot) in slots.iter().enumerate() {
                        let is_valid = nulls.is_none_or(|nulls| nulls.is_valid(row));
                        valid.get_mut(*slot).into_iter().for_each(|place| *place = is_valid);
                    }
                }
                Column::Bytes(values) => {
                    let (offsets, bytes) = varlen(field, array)?;
                    for (row, slot) in slots.iter().enumerate() {
                        let value = nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| slice(offsets, bytes, row));
                        values.get_mut(*slot).into_iter().for_each(|place| overwrite(place, value));
                    }
                }
            }
        }
        Ok(())
    }

    /// New slots, and those that are `untouched`, hold the initial row of `from`, which has the same schema.
    pub fn set_initial(&mut self, from: &Self, untouched: impl Fn(u32) -> bool) {
        for (column, from) in self.columns.iter_mut().zip(&from.columns) {
            match (column, from) {
                (Column::Words { values, valid }, Column::Words { values: word, valid: is_valid }) => {
                    refill(values, word, &untouched);
                    valid.iter_mut().zip(is_valid).for_each(|(valid, from)| refill(valid, from, &untouched));
                }
                (Column::Bytes(values), Column::Bytes(bytes)) => refill(values, bytes, &untouched),
                _ => {}
            }
        }
    }

    /// As [`Chunked::split_off`].
    pub fn split_off(&mut self, slots: &[u32]) -> Self {
        let columns = self.columns.iter_mut().map(|column| match column {
            Column::Words { values, valid } => Column::Words {
                values: values.split_off(slots),
                valid: valid.as_mut().map(|valid| valid.split_off(slots)),
            },
            Column::Bytes(values) => Column::Bytes(values.split_off(slots)),
        });
        Self { columns: columns.collect(), schema: self.schema.clone() }
    }

    /// As [`Chunked::freeze`].
    pub fn freeze(&mut self) -> Self {
        let columns = self.columns.iter_mut().map(|column| match column {
            Column::Words { values, valid } => {
                Column::Words { values: values.freeze(), valid: valid.as_mut().map(Chunked::freeze) }
            }
            Column::Bytes(values) => Column::Bytes(values.freeze()),
        });
        Self { columns: columns.collect(), schema: self.schema.clone() }
    }

    /// As [`Chunked::marks`].
    pub(crate) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        for column in &self.columns {
            match column {
                Column::Words { values, valid } => {
                    values.marks(chunks.clone(), to);
                    valid.iter().for_each(|valid| valid.marks(chunks.clone(), to));
                }
                Column::Bytes(values) => values.marks(chunks.clone(), to),
            }
        }
    }

    /// As [`Chunked::renumber`].
    pub fn renumber(&mut self, moves: &[(u32, u32)]) {
        for column in &mut self.columns {
            match column {
                Column::Words { values, valid } => {
                    values.renumber(moves);
                    valid.iter_mut().for_each(|valid| valid.renumber(moves));
                }
                Column::Bytes(values) => values.renumber(moves),
            }
        }
    }
}

/// What an allocation of so many bytes takes.
pub(crate) fn heap_bytes(capacity: usize) -> usize {
    if capacity == 0 { 0 } else { capacity + 16 }
}

/// Most often nothing has changed, and nothing is visited.
fn refill<T: Clone + PartialEq>(values: &mut Chunked<T>, from: &Chunked<T>, stale: impl Fn(u32) -> bool) {
    if values.fill() != from.fill() {
        values.refill(from.fill().clone(), stale);
    }
}

/// Row `row` of a column of varying width; nothing if the offsets lie.
fn slice<'a>(offsets: &[i32], bytes: &'a [u8], row: usize) -> &'a [u8] {
    let range = offsets.get(row).zip(offsets.get(row + 1));
    range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize)).unwrap_or_default()
}

/// Puts `value` in the place of another, in the memory of the other unless that is much too large.
fn overwrite(place: &mut Option<Vec<u8>>, value: Option<&[u8]>) {
    match (place.as_mut(), value) {
        (Some(old), Some(value)) if old.capacity() <= 4 * value.len() + 64 => {
            old.clear();
            old.extend_from_slice(value);
        }
        (_, value) => *place = value.map(<[u8]>::to_vec),
    }
}

/// Whether a batch has `rows` rows of `schema`: kinds and nulls as declared. Names are not compared.
pub fn check_rows(schema: &Schema, rows: usize, batch: &RecordBatch) -> Result<(), StateError> {
    if batch.num_columns() != schema.fields().len() {
        return Err(StateError::ColumnCount { expected: schema.fields().len(), found: batch.num_columns() });
    }
    if batch.num_rows() != rows {
        return Err(StateError::RowCount { expected: rows, found: batch.num_rows() });
    }
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        if *array.data_type() != field.kind.data_type() {
            let found = array.data_type().clone();
            return Err(StateError::Kind { column: field.name.clone(), expected: field.kind, found });
        }
        if !field.nullable && array.null_count() > 0 {
            return Err(StateError::Nulls { column: field.name.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
