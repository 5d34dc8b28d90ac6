//! Arrow columns as the contract passes them: borrowed where Arrow's layout is the contract's, else through scratch
//! buffers that a guest keeps from call to call (bitmaps become bytes, sliced offsets start at 0 again).

use arrow_array::types::{ByteArrayType, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, GenericByteArray, Int64Array, PrimitiveArray,
    RecordBatch, StringArray,
};

use super::abi::{BatchIn, ColumnIn, ValuesIn, VarlenIn};
use super::bits::bytes_from_bits;
use crate::record::{Field, Kind, Schema};

/// Buffers for what cannot be borrowed. Grow to the largest batch and stay.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    columns: Vec<ColumnScratch>,
}

#[derive(Debug, Default)]
struct ColumnScratch {
    booleans: Vec<u8>,
    validity: Vec<u8>,
    offsets: Vec<u32>,
}

/// A batch ready to cross; holds the list of columns that [`BatchIn`] borrows.
#[derive(Debug)]
pub(super) struct Lowered<'a> {
    rows: u32,
    columns: Vec<ColumnIn<'a>>,
}

impl Lowered<'_> {
    pub(super) fn batch(&self) -> BatchIn<'_> {
        BatchIn { rows: self.rows, columns: &self.columns }
    }
}

impl Scratch {
    /// Prepares `batch`, which must have exactly the columns of `schema` in order. The error names what differs:
    /// that is a mistake of the host, not of the guest.
    pub(super) fn lower<'a>(
        &'a mut self,
        part: &str,
        schema: &Schema,
        batch: &'a RecordBatch,
    ) -> Result<Lowered<'a>, String> {
        let fields = schema.fields();
        if batch.num_columns() != fields.len() {
            return Err(format!("{part}: expected {} columns ({schema}), got {}", fields.len(), batch.num_columns()));
        }
        let rows = u32::try_from(batch.num_rows())
            .map_err(|_| format!("{part}: {} rows, at most {} cross at once", batch.num_rows(), u32::MAX))?;
        self.columns.resize_with(fields.len().max(self.columns.len()), ColumnScratch::default);
        let columns = fields
            .iter()
            .zip(batch.columns())
            .zip(&mut self.columns)
            .map(|((field, array), scratch)| scratch.lower(part, field, array))
            .collect::<Result<_, _>>()?;
        Ok(Lowered { rows, columns })
    }
}

impl ColumnScratch {
    fn lower<'a>(&'a mut self, part: &str, field: &Field, array: &'a ArrayRef) -> Result<ColumnIn<'a>, String> {
        let Self { booleans, validity, offsets } = self;
        let values = lower_values(field.kind, array, booleans, offsets)
            .ok_or_else(|| format!("{part}: column `{field}` is stored as {}", array.data_type()))?;
        let validity = match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(_) if !field.nullable => {
                return Err(format!("{part}: column `{field}` is declared without nulls, got {}", array.null_count()));
            }
            Some(nulls) => {
                bytes_from_bits(nulls.inner(), validity);
                Some(validity.as_slice())
            }
            None => None,
        };
        Ok(ColumnIn { values, validity })
    }
}

/// `None` where the array is not of the kind.
fn lower_values<'a>(
    kind: Kind,
    array: &'a ArrayRef,
    booleans: &'a mut Vec<u8>,
    offsets: &'a mut Vec<u32>,
) -> Option<ValuesIn<'a>> {
    let array = array.as_any();
    Some(match kind {
        Kind::Boolean => {
            bytes_from_bits(array.downcast_ref::<BooleanArray>()?.values(), booleans);
            ValuesIn::Boolean(booleans)
        }
        Kind::Int64 => ValuesIn::Int64(array.downcast_ref::<Int64Array>()?.values()),
        Kind::Float64 => ValuesIn::Float64(array.downcast_ref::<Float64Array>()?.values()),
        Kind::Text => ValuesIn::Text(lower_varlen(array.downcast_ref::<StringArray>()?, offsets)),
        Kind::Binary => ValuesIn::Binary(lower_varlen(array.downcast_ref::<BinaryArray>()?, offsets)),
        Kind::TimestampMs => {
            ValuesIn::TimestampMs(array.downcast_ref::<PrimitiveArray<TimestampMillisecondType>>()?.values())
        }
    })
}

/// Arrow's offsets are never negative and never decrease, so they are the contract's, but for slices: those are moved
/// to start at 0, and only their bytes cross.
fn lower_varlen<'a, T: ByteArrayType<Offset = i32>>(
    array: &'a GenericByteArray<T>,
    scratch: &'a mut Vec<u32>,
) -> VarlenIn<'a> {
    let unsigned: &[u32] = bytemuck::cast_slice(array.value_offsets());
    let first = unsigned.first().copied().unwrap_or(0);
    let last = unsigned.last().copied().unwrap_or(0);
    let bytes = array.value_data().get(first as usize..last as usize).unwrap_or_default();
    if first == 0 {
        return VarlenIn { offsets: unsigned, bytes };
    }
    scratch.clear();
    scratch.extend(unsigned.iter().map(|offset| offset - first));
    VarlenIn { offsets: scratch, bytes }
}
