//! Columns that grow by a cell at a time and can be cut back to the last whole row.
//!
//! A decoder appends the cells of a row in any order, then calls [`Columns::end_row`]; when the row turns out bad,
//! [`Columns::undo_row`] takes back what it had appended. Memory is proportional to the batch. Text is appended
//! unchecked and checked once a column when it becomes an array: checking each text costs four times as much.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMillisecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

use crate::record::{Field, Kind, Schema};

/// Cells of one column.
pub(super) enum Values {
    /// boolean
    Boolean(Vec<bool>),
    /// int64 and timestamp_ms
    Int64(Vec<i64>),
    /// float64
    Float64(Vec<f64>),
    /// text and binary
    Bytes(Texts),
}

/// Variable-length cells: all bytes, and rows + 1 offsets into them.
pub(super) struct Texts {
    pub(super) bytes: Vec<u8>,
    offsets: Vec<i32>,
}

impl Texts {
    fn new() -> Self {
        Self { bytes: Vec::new(), offsets: vec![0] }
    }

    /// Ends the cell whose bytes have been appended to `bytes`. `None`, and nothing is kept, beyond 2 GiB a batch.
    #[inline]
    pub(super) fn end_cell(&mut self) -> Option<()> {
        let Ok(end) = i32::try_from(self.bytes.len()) else {
            self.undo_cell();
            return None;
        };
        self.offsets.push(end);
        Some(())
    }

    /// Takes back bytes appended since the last whole cell.
    fn undo_cell(&mut self) {
        let end = self.offsets.last().copied().unwrap_or(0);
        self.bytes.truncate(usize::try_from(end).unwrap_or(0));
    }

    /// Appends a cell.
    #[inline]
    pub(super) fn push(&mut self, cell: &[u8]) -> Option<()> {
        self.bytes.extend_from_slice(cell);
        self.end_cell()
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        self.undo_cell();
    }
}

/// One growing column.
pub(super) struct Column {
    /// name, kind and whether nulls are allowed
    pub(super) field: Field,
    /// the cells; a null has a default value here
    pub(super) values: Values,
    /// rows that are null, ascending: validity costs nothing until the first one
    nulls: Vec<u32>,
}

impl Column {
    fn new(field: &Field) -> Self {
        let values = match field.kind {
            Kind::Boolean => Values::Boolean(Vec::new()),
            Kind::Int64 | Kind::TimestampMs => Values::Int64(Vec::new()),
            Kind::Float64 => Values::Float64(Vec::new()),
            Kind::Text | Kind::Binary => Values::Bytes(Texts::new()),
        };
        Self { field: field.clone(), values, nulls: Vec::new() }
    }

    /// Number of cells.
    #[inline]
    pub(super) fn len(&self) -> usize {
        match &self.values {
            Values::Boolean(values) => values.len(),
            Values::Int64(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Bytes(texts) => texts.offsets.len() - 1,
        }
    }

    /// Appends a null; `None` where the column allows none.
    pub(super) fn push_null(&mut self) -> Option<()> {
        if !self.field.nullable {
            return None;
        }
        self.nulls.push(u32::try_from(self.len()).ok()?);
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Int64(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Bytes(texts) => texts.end_cell()?,
        }
        Some(())
    }

    /// Appends a cell of a text or binary column; `None` for other kinds and beyond 2 GiB a batch.
    pub(super) fn push_bytes(&mut self, cell: &[u8]) -> Option<()> {
        match &mut self.values {
            Values::Bytes(texts) => texts.push(cell),
            _ => None,
        }
    }

    fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Int64(values) => values.truncate(rows),
            Values::Float64(values) => values.truncate(rows),
            Values::Bytes(texts) => texts.truncate(rows),
        }
        while self.nulls.last().is_some_and(|&row| row as usize >= rows) {
            self.nulls.pop();
        }
    }

    /// Takes the cells out as an array and leaves an empty column with room for as many.
    fn take_array(&mut self) -> Result<ArrayRef, ArrowError> {
        let rows = self.len();
        let nulls = validity(&self.nulls, rows);
        self.nulls.clear();
        let timestamps = self.field.kind == Kind::TimestampMs;
        Ok(match &mut self.values {
            Values::Boolean(values) => {
                let bits = values.drain(..).collect::<BooleanBuffer>();
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Values::Int64(values) if timestamps => {
                Arc::new(TimestampMillisecondArray::try_new(renew(values).into(), nulls)?)
            }
            Values::Int64(values) => Arc::new(Int64Array::try_new(renew(values).into(), nulls)?),
            Values::Float64(values) => Arc::new(Float64Array::try_new(renew(values).into(), nulls)?),
            Values::Bytes(texts) => {
                let bytes = Buffer::from_vec(renew(&mut texts.bytes));
                let offsets = renew(&mut texts.offsets);
                texts.offsets.push(0);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                if self.field.kind == Kind::Text {
                    Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
                } else {
                    Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
                }
            }
        })
    }
}

/// The vector's contents; in their place an empty one with the same room, for a batch that will be much like this one.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = values.len();
    std::mem::replace(values, Vec::with_capacity(room))
}

/// Arrow's validity of `rows` rows of which `nulls` are null.
fn validity(nulls: &[u32], rows: usize) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut bits = vec![u8::MAX; rows.div_ceil(8)];
    for &row in nulls {
        if let Some(byte) = bits.get_mut(row as usize / 8) {
            *byte &= !(1 << (row % 8));
        }
    }
    Some(NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, rows)))
}

/// All columns of a batch that is being decoded.
pub(super) struct Columns {
    schema: Schema,
    columns: Vec<Column>,
    rows: usize,
}

impl Columns {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { schema: schema.clone(), columns: schema.fields().iter().map(Column::new).collect(), rows: 0 }
    }

    /// The columns that are being filled.
    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Number of columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// The column at `index` if this row has no cell for it yet: a second one is a duplicate key.
    #[inline]
    pub(super) fn open_cell(&mut self, index: usize) -> Option<&mut Column> {
        let rows = self.rows;
        self.columns.get_mut(index).filter(|column| column.len() == rows)
    }

    /// Name of the column at `index`.
    pub(super) fn name(&self, index: usize) -> &str {
        self.columns.get(index).map_or("", |column| &column.field.name)
    }

    /// Ends a row; columns without a cell get a null.
    ///
    /// # Errors
    /// The name of a column that is missing and allows no null; the row is then still open.
    pub(super) fn end_row(&mut self) -> Result<(), String> {
        for column in &mut self.columns {
            if column.len() == self.rows && column.push_null().is_none() {
                let Field { name, kind, .. } = &column.field;
                return Err(format!("column `{name}`: expected {kind}, got nothing, and the column allows no null"));
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Ends a row that is known to have a cell in every column.
    #[inline]
    pub(super) fn end_full_row(&mut self) {
        self.rows += 1;
    }

    /// Takes back the cells of the row that has not ended.
    pub(super) fn undo_row(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
    }

    /// Forgets all rows.
    pub(super) fn clear(&mut self) {
        self.rows = 0;
        self.undo_row();
    }

    /// Takes all rows out.
    ///
    /// # Errors
    /// Where a text column is not UTF-8. All rows are lost then: decode again, checking each text.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        let arrays = self.columns.iter_mut().map(Column::take_array).collect::<Result<Vec<_>, _>>();
        self.clear();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.arrow().clone(), arrays?, &options)
    }

    /// A batch without rows.
    pub(super) fn none(&self) -> RecordBatch {
        RecordBatch::new_empty(self.schema.arrow().clone())
    }
}
