//! Rows of state as bytes, so that one of them can be read without the others.
//!
//! ```text
//! row                   null bits (bit i of byte i / 8: column i is null), then the values that are not null, in order
//! boolean               1 byte, 0 or 1
//! int64, timestamp_ms   zigzag LEB128, 1 to 10 bytes
//! decimal               16 bytes, little endian
//! float64               8 bytes, little endian
//! text, binary          length as LEB128, bytes
//! list                  number of items as LEB128, items as above
//! ```
//!
//! Lives in scratch files only.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_array::{Array, ArrayRef, Decimal128Array, ListArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{DataType, Field as ArrowField};

use crate::record::{Field, Kind};
use crate::state::{ColumnBuilder, StateError, is_word, varlen, words};

#[cfg(test)]
mod tests;

/// Columns that rows are made of.
#[derive(Clone, Debug)]
pub(crate) struct RowCodec {
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
enum Column {
    Plain(Field),
    Decimal(DataType),
    /// lists without nulls, of these items
    List(Field),
}

enum Cells<'a> {
    Words(Kind, Cow<'a, [u64]>),
    Varlen(&'a [i32], &'a [u8]),
    Decimal(&'a [i128]),
    List(&'a [i32], Box<Cells<'a>>),
}

fn unknown(field: &ArrowField) -> StateError {
    StateError::Kind { column: field.name().clone(), expected: Kind::Binary, found: field.data_type().clone() }
}

impl RowCodec {
    /// Of rows with these columns.
    pub(crate) fn new<'a>(fields: impl IntoIterator<Item = &'a ArrowField>) -> Result<Self, StateError> {
        let plain = |field: &ArrowField, name: &str| {
            let kind = Kind::from_data_type(field.data_type()).ok_or_else(|| unknown(field))?;
            Ok::<_, StateError>(Field { name: name.to_owned(), kind, nullable: field.is_nullable() })
        };
        let column = |field: &ArrowField| {
            Ok(match field.data_type() {
                decimal @ DataType::Decimal128(..) => Column::Decimal(decimal.clone()),
                DataType::List(item) => Column::List(plain(item, field.name())?),
                _ => Column::Plain(plain(field, field.name())?),
            })
        };
        Ok(Self { columns: fields.into_iter().map(column).collect::<Result<_, StateError>>()? })
    }

    /// Reads the rows of `columns`, which are those of the codec.
    pub(crate) fn writer<'a>(&self, columns: &'a [ArrayRef]) -> Result<RowWriter<'a>, StateError> {
        if columns.len() != self.columns.len() {
            return Err(StateError::ColumnCount { expected: self.columns.len(), found: columns.len() });
        }
        let cells = self.columns.iter().zip(columns).map(|(column, array)| Ok((cells(column, array)?, array.nulls())));
        Ok(RowWriter { cells: cells.collect::<Result<_, StateError>>()? })
    }

    /// Takes up rows; room for `rows` of them.
    pub(crate) fn reader(&self, rows: usize) -> RowReader<'_> {
        let builder = |column: &Column| match column {
            Column::Plain(field) => Builder::Plain(field.kind, ColumnBuilder::new(field, rows)),
            Column::Decimal(_) => Builder::Decimal(Vec::with_capacity(rows)),
            Column::List(item) => Builder::List {
                kind: item.kind,
                lengths: Vec::with_capacity(rows),
                items: ColumnBuilder::new(item, rows),
            },
        };
        RowReader { codec: self, builders: self.columns.iter().map(builder).collect(), rows: 0 }
    }
}

fn cells<'a>(column: &Column, array: &'a ArrayRef) -> Result<Cells<'a>, StateError> {
    let missing = || StateError::ColumnCount { expected: 1, found: 0 };
    Ok(match column {
        Column::Plain(field) if is_word(field.kind) => Cells::Words(field.kind, words(field, array)?),
        Column::Plain(field) => {
            let (offsets, bytes) = varlen(field, array)?;
            Cells::Varlen(offsets, bytes)
        }
        Column::Decimal(_) => Cells::Decimal(array.as_primitive_opt::<Decimal128Type>().ok_or_else(missing)?.values()),
        Column::List(item) => {
            let list = array.as_list_opt::<i32>().ok_or_else(missing)?;
            Cells::List(list.value_offsets(), Box::new(cells(&Column::Plain(item.clone()), list.values())?))
        }
    })
}

/// Rows of columns on their way to bytes.
pub(crate) struct RowWriter<'a> {
    cells: Vec<(Cells<'a>, Option<&'a NullBuffer>)>,
}

impl RowWriter<'_> {
    /// Appends row `row`.
    pub(crate) fn push(&self, row: usize, out: &mut Vec<u8>) {
        for group in self.cells.chunks(8) {
            let bits = (0..).zip(group).fold(0, |bits, (bit, (_, nulls))| {
                bits | u8::from(nulls.is_some_and(|nulls| nulls.is_null(row))) << bit
            });
            out.push(bits);
        }
        for (cells, nulls) in &self.cells {
            if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                cells.push(row, out);
            }
        }
    }
}

impl Cells<'_> {
    fn push(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Words(kind, words) => {
                let word = words.get(row).copied().unwrap_or_default();
                match kind {
                    Kind::Boolean => out.push(word as u8),
                    Kind::Float64 => out.extend_from_slice(&word.to_le_bytes()),
                    _ => push_number(word << 1 ^ (word as i64 >> 63) as u64, out),
                }
            }
            Self::Varlen(offsets, bytes) => {
                let range = offsets.get(row).zip(offsets.get(row + 1));
                let value = range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize));
                let value = value.unwrap_or_default();
                push_number(value.len() as u64, out);
                out.extend_from_slice(value);
            }
            Self::Decimal(values) => {
                out.extend_from_slice(&values.get(row).copied().unwrap_or_default().to_le_bytes());
            }
            Self::List(offsets, items) => {
                let range = offsets.get(row).zip(offsets.get(row + 1));
                let range = range.map_or(0..0, |(start, end)| *start as usize..*end as usize);
                push_number(range.len() as u64, out);
                range.for_each(|item| items.push(item, out));
            }
        }
    }
}

fn push_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Rows on their way back to columns.
pub(crate) struct RowReader<'a> {
    codec: &'a RowCodec,
    builders: Vec<Builder>,
    rows: usize,
}

enum Builder {
    Plain(Kind, ColumnBuilder),
    Decimal(Vec<i128>),
    List { kind: Kind, lengths: Vec<usize>, items: ColumnBuilder },
}

impl RowReader<'_> {
    /// Rows taken up so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Takes up all rows of `bytes`; None if these are no rows.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<Result<(), StateError>> {
        if self.builders.is_empty() {
            return None;
        }
        while !bytes.is_empty() {
            if let Err(error) = self.row(&mut bytes)? {
                return Some(Err(error));
            }
        }
        Some(Ok(()))
    }

    fn row(&mut self, bytes: &mut &[u8]) -> Option<Result<(), StateError>> {
        let null_bits = bytes.split_off(..self.builders.len().div_ceil(8))?;
        for (at, builder) in self.builders.iter_mut().enumerate() {
            let null = null_bits.get(at / 8)? >> (at % 8) & 1 == 1;
            if let Err(error) = if null { builder.push_null() } else { builder.take(bytes)? } {
                return Some(Err(error));
            }
        }
        self.rows += 1;
        Some(Ok(()))
    }

    /// The columns.
    pub(crate) fn finish(self) -> Result<Vec<ArrayRef>, StateError> {
        let columns = self.builders.into_iter().zip(&self.codec.columns);
        columns.map(|(builder, column)| builder.finish(column)).collect()
    }
}

impl Builder {
    fn push_null(&mut self) -> Result<(), StateError> {
        match self {
            Self::Plain(_, column) => column.push_null()?,
            Self::Decimal(values) => values.push(0),
            Self::List { lengths, .. } => lengths.push(0),
        }
        Ok(())
    }

    fn take(&mut self, bytes: &mut &[u8]) -> Option<Result<(), StateError>> {
        match self {
            Self::Plain(kind, column) => take_plain(*kind, column, bytes),
            Self::Decimal(values) => {
                values.push(i128::from_le_bytes(*bytes.split_off(..16)?.first_chunk()?));
                Some(Ok(()))
            }
            Self::List { kind, lengths, items } => {
                let length = usize::try_from(take_number(bytes)?).ok()?;
                lengths.push(length);
                for _ in 0..length {
                    if let Err(error) = take_plain(*kind, items, bytes)? {
                        return Some(Err(error));
                    }
                }
                Some(Ok(()))
            }
        }
    }

    fn finish(self, column: &Column) -> Result<ArrayRef, StateError> {
        Ok(match (self, column) {
            (Self::Decimal(values), Column::Decimal(data_type)) => {
                Arc::new(Decimal128Array::from(values).with_data_type(data_type.clone()))
            }
            (Self::List { kind, lengths, items }, _) => {
                let sum = |sum: i32, length: &usize| sum.checked_add(i32::try_from(*length).ok()?);
                lengths.iter().try_fold(0_i32, sum).ok_or(StateError::TooManyBytes { rows: lengths.len() })?;
                let item = Arc::new(ArrowField::new_list_field(kind.data_type(), false));
                Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), items.finish()?, None)?)
            }
            (Self::Plain(_, column), _) => column.finish()?,
            (Self::Decimal(_), _) => return Err(StateError::ColumnCount { expected: 1, found: 0 }),
        })
    }
}

fn take_plain(kind: Kind, column: &mut ColumnBuilder, bytes: &mut &[u8]) -> Option<Result<(), StateError>> {
    match kind {
        Kind::Boolean => column.push_word(u64::from(*bytes.split_off_first()?)),
        Kind::Float64 => column.push_word(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?)),
        Kind::Int64 | Kind::TimestampMs => {
            let zigzag = take_number(bytes)?;
            column.push_word(zigzag >> 1 ^ (zigzag & 1).wrapping_neg());
        }
        Kind::Text | Kind::Binary => {
            let length = usize::try_from(take_number(bytes)?).ok()?;
            return Some(column.push_bytes(bytes.split_off(..length)?));
        }
    }
    Some(Ok(()))
}
