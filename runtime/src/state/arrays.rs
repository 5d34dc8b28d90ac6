//! Between Arrow arrays and what state keeps: a 64-bit word for the kinds of fixed width, bytes for the others.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

use super::StateError;
use crate::record::{Field, Kind};

/// Whether values of the kind are kept as one word.
pub(crate) fn is_word(kind: Kind) -> bool {
    !matches!(kind, Kind::Text | Kind::Binary)
}

/// The values of a column of fixed width: bits of int64, timestamps and float64, 0 or 1 of booleans. What lies under
/// nulls is in it too.
pub(crate) fn words<'a>(field: &Field, array: &'a ArrayRef) -> Result<Cow<'a, [u64]>, StateError> {
    let words = match field.kind {
        Kind::Boolean => array.as_boolean_opt().map(|array| Cow::Owned(array.values().iter().map(u64::from).collect())),
        Kind::Int64 => {
            array.as_primitive_opt::<Int64Type>().map(|array| Cow::Borrowed(bytemuck::cast_slice(array.values())))
        }
        Kind::TimestampMs => array
            .as_primitive_opt::<TimestampMillisecondType>()
            .map(|array| Cow::Borrowed(bytemuck::cast_slice(array.values()))),
        Kind::Float64 => {
            array.as_primitive_opt::<Float64Type>().map(|array| Cow::Borrowed(bytemuck::cast_slice(array.values())))
        }
        Kind::Text | Kind::Binary => None,
    };
    words.ok_or_else(|| wrong_kind(field, array))
}

/// The values of a column of varying width: row i is `bytes[offsets[i] .. offsets[i + 1]]`.
pub(crate) fn varlen<'a>(field: &Field, array: &'a ArrayRef) -> Result<(&'a [i32], &'a [u8]), StateError> {
    let parts = match field.kind {
        Kind::Text => array.as_string_opt::<i32>().map(|array| (array.value_offsets(), array.value_data())),
        Kind::Binary => array.as_binary_opt::<i32>().map(|array| (array.value_offsets(), array.value_data())),
        _ => None,
    };
    parts.ok_or_else(|| wrong_kind(field, array))
}

fn wrong_kind(field: &Field, array: &ArrayRef) -> StateError {
    StateError::Kind { column: field.name.clone(), expected: field.kind, found: array.data_type().clone() }
}

/// A column under construction.
#[derive(Debug)]
pub(crate) struct ColumnBuilder {
    kind: Kind,
    words: Vec<u64>,
    offsets: Vec<i32>,
    bytes: Vec<u8>,
    valid: Option<Vec<bool>>,
}

impl ColumnBuilder {
    /// An empty column with room for `rows`.
    pub(crate) fn new(field: &Field, rows: usize) -> Self {
        let (words, offsets) = if is_word(field.kind) { (rows, 0) } else { (0, rows + 1) };
        let mut offsets = Vec::with_capacity(offsets);
        offsets.extend((!is_word(field.kind)).then_some(0));
        Self {
            kind: field.kind,
            words: Vec::with_capacity(words),
            offsets,
            bytes: Vec::new(),
            valid: field.nullable.then(|| Vec::with_capacity(rows)),
        }
    }

    /// The next row of a column of fixed width.
    #[inline]
    pub(crate) fn push_word(&mut self, word: u64) {
        self.words.push(word);
        self.push_valid(true);
    }

    /// The next row of a column of varying width.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<(), StateError> {
        self.bytes.extend_from_slice(bytes);
        self.push_offset()?;
        self.push_valid(true);
        Ok(())
    }

    /// A null; in a column without nulls, zero or nothing.
    pub(crate) fn push_null(&mut self) -> Result<(), StateError> {
        if is_word(self.kind) {
            self.words.push(0);
        } else {
            self.push_offset()?;
        }
        self.push_valid(false);
        Ok(())
    }

    fn push_offset(&mut self) -> Result<(), StateError> {
        let end = i32::try_from(self.bytes.len());
        self.offsets.push(end.map_err(|_| StateError::TooManyBytes { rows: self.offsets.len() })?);
        Ok(())
    }

    #[inline]
    fn push_valid(&mut self, valid: bool) {
        if let Some(rows) = &mut self.valid {
            rows.push(valid);
        }
    }

    /// The finished column.
    pub(crate) fn finish(self) -> Result<ArrayRef, StateError> {
        let nulls = self.valid.map(NullBuffer::from).filter(|nulls| nulls.null_count() > 0);
        let rows = self.words.len();
        Ok(match self.kind {
            Kind::Boolean => {
                let values = BooleanBuffer::from_iter(self.words.iter().map(|word| *word != 0));
                Arc::new(BooleanArray::new(values, nulls))
            }
            Kind::Int64 => {
                let values = ScalarBuffer::new(Buffer::from_vec(self.words), 0, rows);
                Arc::new(Int64Array::try_new(values, nulls)?)
            }
            Kind::TimestampMs => {
                let values = ScalarBuffer::new(Buffer::from_vec(self.words), 0, rows);
                Arc::new(TimestampMillisecondArray::try_new(values, nulls)?)
            }
            Kind::Float64 => {
                let values = ScalarBuffer::new(Buffer::from_vec(self.words), 0, rows);
                Arc::new(Float64Array::try_new(values, nulls)?)
            }
            Kind::Text => {
                let offsets = OffsetBuffer::new(self.offsets.into());
                Arc::new(StringArray::try_new(offsets, self.bytes.into(), nulls)?)
            }
            Kind::Binary => {
                let offsets = OffsetBuffer::new(self.offsets.into());
                Arc::new(BinaryArray::try_new(offsets, self.bytes.into(), nulls)?)
            }
        })
    }
}
