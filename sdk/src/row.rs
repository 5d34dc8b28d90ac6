//! Rows: structs whose fields are columns.

use crate::contract::{Batch, Column, Field};

/// A struct whose fields are the columns that an operator reads or produces. Derive it.
///
/// The name of a field is the name of its column; `#[column(name = "event type")]` gives another. A struct may have one
/// lifetime: fields `&'a str` and `&'a [u8]` are read without a copy.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    label = "not a row",
    note = "rows are structs with named fields and `#[derive(millstream_sdk::Row)]`"
)]
pub trait Row: Sized {
    /// collects the columns
    type Writer;

    /// The columns, in order.
    fn fields() -> Vec<Field>;
    /// As [`Cell::writer`](crate::Cell::writer).
    fn writer(rows: usize, bytes: usize) -> Self::Writer;
    /// As [`Cell::room`](crate::Cell::room), of all columns.
    fn room(writer: &Self::Writer) -> usize;
    /// Writes row `row`; rows come in order.
    fn set(self, writer: &mut Self::Writer, row: usize);
    /// Appends a row.
    fn push(self, writer: &mut Self::Writer);
    /// The columns.
    fn finish(writer: Self::Writer) -> Vec<Column>;
}

/// A [`Row`] that can be read from a batch that lives for `'b`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a row",
    label = "not a row",
    note = "rows are structs with named fields and `#[derive(millstream_sdk::Row)]`"
)]
pub trait ReadRow<'b>: Row {
    /// the columns as slices
    type Reader;

    /// The reader of all rows; the error names the column that does not fit.
    fn open(batch: &'b Batch) -> Result<Self::Reader, String>;
    /// How many rows all columns have, as [`ReadCell::rows`](crate::ReadCell::rows).
    fn rows(reader: &Self::Reader) -> usize;
    /// The row `row`; an error is the failure of that row.
    fn read(reader: &Self::Reader, row: usize) -> Result<Self, String>;
}

/// No columns: the key or state of an operator that has none.
impl Row for () {
    type Writer = usize;

    fn fields() -> Vec<Field> {
        Vec::new()
    }

    fn writer(rows: usize, _bytes: usize) -> usize {
        rows
    }

    fn room(writer: &usize) -> usize {
        *writer
    }

    fn set(self, _writer: &mut usize, _row: usize) {}

    fn push(self, writer: &mut usize) {
        *writer += 1;
    }

    fn finish(_writer: usize) -> Vec<Column> {
        Vec::new()
    }
}

impl<'b> ReadRow<'b> for () {
    type Reader = usize;

    fn open(batch: &'b Batch) -> Result<usize, String> {
        Ok(batch.rows as usize)
    }

    fn rows(reader: &usize) -> usize {
        *reader
    }

    fn read(_reader: &usize, _row: usize) -> Result<Self, String> {
        Ok(())
    }
}
