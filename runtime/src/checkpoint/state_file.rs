//! Tables of state as a file, read again without the guest or the operator that made them.
//!
//! ```text
//!   file    seal, tables: u32, table*
//!   table   name: text, keys: i32 (-1: rows have no key), fields: u32, field*, batches: u32, batch*
//!   field   name: text, type: u8 (below), nullable: u8, of a list: field (of its items)
//!   batch   rows: u64, column*
//!   column  has nulls: u8, [validity: bitmap], then by type
//!             fixed width   values: bytes, rows × width
//!             boolean       values: bitmap
//!             text, binary  offsets: bytes, (rows + 1) × 4, then values: bytes
//!             list          offsets: bytes, (rows + 1) × 4, items: u64, then the items as a column
//!   text, bytes, bitmap     length in bytes: u64, bytes; bits from the lowest
//! ```
//!
//! All numbers are little-endian, as in memory on the machines that this runs on.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMillisecondType, UInt8Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Decimal128Array, ListArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::sealed;
use crate::state::{Snapshot, Table};

#[cfg(test)]
mod tests;

const MAGIC: [u8; 4] = *b"MSST";
const VERSION: u32 = 1;

/// What integers are added up in.
const SUM: DataType = DataType::Decimal128(38, 0);

/// The number of a list, for ever; its items may be of any type.
const LIST: u8 = 12;

/// Lists in lists: no state has more, and bytes that claim it are damaged.
const DEPTH_MAX: usize = 4;

/// Names, types and lengths of a usual snapshot.
const SMALL_BYTES: usize = 4 << 10;

/// Types of columns without columns in them and their numbers in files, for ever.
const TYPES: [(u8, DataType); 11] = [
    (1, DataType::Boolean),
    (2, DataType::Int64),
    (3, DataType::Float64),
    (4, DataType::Utf8),
    (5, DataType::Binary),
    (6, DataType::Timestamp(TimeUnit::Millisecond, None)),
    (7, DataType::Int32),
    (8, DataType::UInt32),
    (9, DataType::UInt64),
    (10, DataType::UInt8),
    (11, SUM),
];

/// State cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateFileError {
    /// a column of a type that files do not have
    #[error("column `{column}` of the state `{table}` is of type {found}, which state files do not hold")]
    Type {
        /// of the state
        table: String,
        /// of the table
        column: String,
        /// its type
        found: String,
    },
    /// the file is not what it should be
    #[error("{0}")]
    Damaged(String),
}

/// A snapshot as a file.
pub(crate) fn encode(snapshot: &Snapshot) -> Result<Vec<u8>, StateFileError> {
    let batches = snapshot.tables.iter().flat_map(|table| &table.rows);
    let mut out = sealed::start(MAGIC, VERSION, batches.map(super::chunk::bytes_of).sum::<usize>() + SMALL_BYTES);
    put_count(&mut out, snapshot.tables.len());
    for table in &snapshot.tables {
        put_bytes(&mut out, table.name.as_bytes());
        let keys = table.keys.map_or(-1, |keys| i32::try_from(keys).unwrap_or(i32::MAX));
        out.extend_from_slice(&keys.to_le_bytes());
        let schema = table.rows.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
        put_count(&mut out, schema.fields().len());
        for field in schema.fields() {
            put_field(&mut out, field, 0).ok_or_else(|| StateFileError::Type {
                table: table.name.clone(),
                column: field.name().clone(),
                found: field.data_type().to_string(),
            })?;
        }
        put_count(&mut out, table.rows.len());
        for batch in &table.rows {
            out.extend_from_slice(&(batch.num_rows() as u64).to_le_bytes());
            for column in batch.columns() {
                put_column(&mut out, column);
            }
        }
    }
    Ok(sealed::finish(out))
}

/// None where the type has no number.
fn put_field(out: &mut Vec<u8>, field: &Field, depth: usize) -> Option<()> {
    let items = match field.data_type() {
        DataType::List(items) if depth < DEPTH_MAX => Some(items),
        _ => None,
    };
    let number = match items {
        Some(_) => LIST,
        None => TYPES.iter().find(|(_, known)| known == field.data_type()).map(|(number, _)| *number)?,
    };
    put_bytes(out, field.name().as_bytes());
    out.extend_from_slice(&[number, u8::from(field.is_nullable())]);
    items.map_or(Some(()), |items| put_field(out, items, depth + 1))
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_bits(out: &mut Vec<u8>, bits: &BooleanBuffer) {
    put_bytes(out, bits.sliced().as_slice());
}

fn put_column(out: &mut Vec<u8>, column: &ArrayRef) {
    match column.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.push(0),
        Some(nulls) => {
            out.push(1);
            put_bits(out, nulls.inner());
        }
    }
    if let Some(values) = column.as_boolean_opt() {
        put_bits(out, values.values());
    } else if let Some(values) = column.as_string_opt::<i32>() {
        put_texts(out, values.offsets(), values.values());
    } else if let Some(values) = column.as_binary_opt::<i32>() {
        put_texts(out, values.offsets(), values.values());
    } else if let Some(lists) = column.as_list_opt::<i32>() {
        let items = put_offsets(out, lists.offsets());
        out.extend_from_slice(&(items.len() as u64).to_le_bytes());
        put_column(out, &lists.values().slice(items.start, items.len()));
    } else {
        let fixed = [
            fixed::<Int64Type>,
            fixed::<Float64Type>,
            fixed::<TimestampMillisecondType>,
            fixed::<Int32Type>,
            fixed::<UInt32Type>,
            fixed::<UInt64Type>,
            fixed::<UInt8Type>,
            fixed::<Decimal128Type>,
        ];
        let values = fixed.iter().find_map(|fixed| fixed(column));
        put_bytes(out, values.as_ref().map(Buffer::as_slice).unwrap_or_default());
    }
}

fn fixed<T: ArrowPrimitiveType>(column: &ArrayRef) -> Option<Buffer> {
    column.as_primitive_opt::<T>().map(|values| values.values().inner().clone())
}

/// Offsets and the bytes between the first and the last: the array may be a slice of a larger one.
fn put_texts(out: &mut Vec<u8>, offsets: &OffsetBuffer<i32>, values: &Buffer) {
    let range = put_offsets(out, offsets);
    put_bytes(out, values.as_slice().get(range).unwrap_or_default());
}

/// Offsets from 0; returns what lies between the first and the last.
fn put_offsets(out: &mut Vec<u8>, offsets: &OffsetBuffer<i32>) -> Range<usize> {
    let (first, last) = match **offsets {
        [first, .., last] => (first, last),
        // no rows: the one offset need not be 0
        [only] => (only, only),
        [] => (0, 0),
    };
    if first == 0 {
        put_bytes(out, bytemuck::cast_slice(offsets));
    } else {
        let from_zero: Vec<i32> = offsets.iter().map(|offset| offset - first).collect();
        put_bytes(out, bytemuck::cast_slice(&from_zero));
    }
    usize::try_from(first).unwrap_or(0)..usize::try_from(last).unwrap_or(0)
}

/// A snapshot from a file; whatever the bytes are, an answer.
pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, StateFileError> {
    let content = sealed::open(MAGIC, VERSION, bytes).map_err(|error| StateFileError::Damaged(error.to_string()))?;
    let mut reader = Reader { rest: content };
    let mut snapshot = Snapshot::default();
    for _ in 0..reader.count()? {
        snapshot.tables.push(reader.table()?);
    }
    if reader.rest.is_empty() { Ok(snapshot) } else { Err(damaged("bytes follow the last table")) }
}

fn damaged(reason: impl Into<String>) -> StateFileError {
    StateFileError::Damaged(reason.into())
}

/// What is left to be read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], StateFileError> {
        let (array, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(*array)
    }

    fn count(&mut self) -> Result<u32, StateFileError> {
        self.array().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, StateFileError> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| damaged("a length is too large"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], StateFileError> {
        let length = self.length()?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| damaged("it ends too early"))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<String, StateFileError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| damaged("a name is not UTF-8"))
    }

    fn table(&mut self) -> Result<Table, StateFileError> {
        let name = self.text()?;
        let keys = usize::try_from(i32::from_le_bytes(self.array()?)).ok();
        let mut fields = Vec::new();
        for _ in 0..self.count()? {
            fields.push(self.field(0)?);
        }
        let schema = Arc::new(Schema::new(fields));
        let mut rows = Vec::new();
        for _ in 0..self.count()? {
            rows.push(self.batch(&schema)?);
        }
        Ok(Table { name, keys, rows, later: Vec::new() })
    }

    fn field(&mut self, depth: usize) -> Result<Field, StateFileError> {
        let name = self.text()?;
        let [number, nullable] = self.array()?;
        let data_type = if number == LIST && depth < DEPTH_MAX {
            DataType::List(Arc::new(self.field(depth + 1)?))
        } else {
            let known = TYPES.iter().find(|(known, _)| *known == number).map(|(_, data_type)| data_type.clone());
            known.ok_or_else(|| damaged(format!("column `{name}` is of the unknown type {number}")))?
        };
        Ok(Field::new(name, data_type, nullable != 0))
    }

    fn batch(&mut self, schema: &SchemaRef) -> Result<RecordBatch, StateFileError> {
        let rows = self.length()?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            columns.push(self.column(field.data_type(), rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
            .map_err(|error| damaged(error.to_string()))
    }

    fn column(&mut self, data_type: &DataType, rows: usize) -> Result<ArrayRef, StateFileError> {
        let [has_nulls] = self.array()?;
        let nulls = if has_nulls == 0 { None } else { Some(NullBuffer::new(self.bits(rows)?)) };
        match data_type {
            DataType::Boolean => Ok(Arc::new(BooleanArray::new(self.bits(rows)?, nulls))),
            DataType::Utf8 => {
                let (offsets, values) = self.texts(rows)?;
                let array = StringArray::try_new(offsets, values, nulls).map_err(|error| damaged(error.to_string()))?;
                Ok(Arc::new(array))
            }
            DataType::Binary => {
                let (offsets, values) = self.texts(rows)?;
                let array = BinaryArray::try_new(offsets, values, nulls).map_err(|error| damaged(error.to_string()))?;
                Ok(Arc::new(array))
            }
            DataType::List(field) => {
                let offsets = self.offsets(rows)?;
                let items = self.length()?;
                check_offsets(&offsets, items)?;
                let items = self.column(field.data_type(), items)?;
                let array = ListArray::try_new(Arc::clone(field), OffsetBuffer::new(offsets), items, nulls);
                Ok(Arc::new(array.map_err(|error| damaged(error.to_string()))?))
            }
            DataType::Int64 => self.fixed::<Int64Type>(rows, nulls),
            DataType::Float64 => self.fixed::<Float64Type>(rows, nulls),
            DataType::Int32 => self.fixed::<Int32Type>(rows, nulls),
            DataType::UInt32 => self.fixed::<UInt32Type>(rows, nulls),
            DataType::UInt64 => self.fixed::<UInt64Type>(rows, nulls),
            DataType::UInt8 => self.fixed::<UInt8Type>(rows, nulls),
            DataType::Decimal128(..) => {
                let values = numbers::<Decimal128Type>(self.bytes()?, rows)?;
                let array = Decimal128Array::try_new(values, nulls).map_err(|error| damaged(error.to_string()))?;
                Ok(Arc::new(array.with_data_type(SUM)))
            }
            _ => self.fixed::<TimestampMillisecondType>(rows, nulls),
        }
    }

    fn bits(&mut self, rows: usize) -> Result<BooleanBuffer, StateFileError> {
        let bytes = self.bytes()?;
        if bytes.len() < rows.div_ceil(8) {
            return Err(damaged(format!("a bitmap has {} bytes for {rows} rows", bytes.len())));
        }
        Ok(BooleanBuffer::new(Buffer::from(bytes), 0, rows))
    }

    fn fixed<T: ArrowPrimitiveType>(
        &mut self,
        rows: usize,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, StateFileError> {
        let values = numbers::<T>(self.bytes()?, rows)?;
        let array = PrimitiveArray::<T>::try_new(values, nulls).map_err(|error| damaged(error.to_string()))?;
        Ok(Arc::new(array))
    }

    fn texts(&mut self, rows: usize) -> Result<(OffsetBuffer<i32>, Buffer), StateFileError> {
        let offsets = self.offsets(rows)?;
        let values = self.bytes()?;
        check_offsets(&offsets, values.len())?;
        Ok((OffsetBuffer::new(offsets), Buffer::from(values)))
    }

    fn offsets(&mut self, rows: usize) -> Result<ScalarBuffer<i32>, StateFileError> {
        let entries = rows.checked_add(1).ok_or_else(|| damaged("a batch has too many rows"))?;
        numbers::<Int32Type>(self.bytes()?, entries)
    }
}

/// From 0, rising, to the number of `values`.
fn check_offsets(offsets: &[i32], values: usize) -> Result<(), StateFileError> {
    let rising = offsets.windows(2).all(|pair| matches!(pair, [start, end] if start <= end));
    let end = offsets.last().and_then(|last| usize::try_from(*last).ok());
    if offsets.first() != Some(&0) || !rising || end != Some(values) {
        return Err(damaged("the offsets of a column do not fit its values"));
    }
    Ok(())
}

/// Copied into memory that is aligned for them.
fn numbers<T: ArrowPrimitiveType>(bytes: &[u8], count: usize) -> Result<ScalarBuffer<T::Native>, StateFileError> {
    let width = size_of::<T::Native>();
    if count.checked_mul(width) != Some(bytes.len()) {
        return Err(damaged(format!("a column has {} bytes for {count} values of {width}", bytes.len())));
    }
    Ok(ScalarBuffer::new(Buffer::from(bytes), 0, count))
}
