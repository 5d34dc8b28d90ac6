//! Any serde type as one binary column.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cell::{Cell, ReadCell};
use crate::contract::{Batch, Column, Field, Kind};
use crate::row::{ReadRow, Row};
use crate::varlen::VarlenReader;

/// A value of any serde type, kept as MessagePack (with field names) in one binary column.
///
/// For what typed columns cannot say: sets, maps, lists. It may be a field of a row, or a whole accumulator. Each call
/// decodes and encodes it, 100 ns and more a value, so prefer typed fields where they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Packed<T>(pub T);

impl<T> Packed<T>
where
    T: Serialize,
{
    /// A value that serde refuses (a map with keys of mixed shape, say) is written as no bytes at all,
    /// which fails when it is read back.
    fn encode(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(&self.0).unwrap_or_default()
    }
}

impl<T: Serialize> Cell for Packed<T> {
    const KIND: Kind = Kind::Binary;
    type Writer = <Vec<u8> as Cell>::Writer;

    fn writer(rows: usize, bytes: usize) -> Self::Writer {
        Vec::<u8>::writer(rows, bytes)
    }

    fn set(self, writer: &mut Self::Writer, row: usize) {
        self.encode().set(writer, row);
    }

    fn push(self, writer: &mut Self::Writer) {
        self.encode().push(writer);
    }

    fn room(writer: &Self::Writer) -> usize {
        Vec::<u8>::room(writer)
    }

    fn set_blank(writer: &mut Self::Writer, row: usize) {
        Vec::<u8>::set_blank(writer, row);
    }

    fn push_blank(writer: &mut Self::Writer) {
        Vec::<u8>::push_blank(writer);
    }

    fn finish(writer: Self::Writer) -> Column {
        Vec::<u8>::finish(writer)
    }
}

impl<'b, T: Serialize + DeserializeOwned> ReadCell<'b> for Packed<T> {
    type Reader = VarlenReader<'b>;

    fn open(column: &'b Column, rows: usize) -> Result<Self::Reader, String> {
        <&[u8]>::open(column, rows)
    }

    fn rows(reader: &Self::Reader) -> usize {
        reader.rows()
    }

    fn read(reader: &Self::Reader, row: usize) -> Result<Self, String> {
        let bytes = reader.get(row)?;
        rmp_serde::from_slice(bytes).map(Packed).map_err(|error| format!("packed value cannot be decoded: {error}"))
    }
}

impl<T: Serialize> Row for Packed<T> {
    type Writer = <Self as Cell>::Writer;

    fn fields() -> Vec<Field> {
        vec![Field { name: "packed".to_owned(), kind: Kind::Binary, nullable: false }]
    }

    fn writer(rows: usize, bytes: usize) -> Self::Writer {
        <Self as Cell>::writer(rows, bytes)
    }

    fn room(writer: &Self::Writer) -> usize {
        <Self as Cell>::room(writer)
    }

    fn set(self, writer: &mut Self::Writer, row: usize) {
        Cell::set(self, writer, row);
    }

    fn push(self, writer: &mut Self::Writer) {
        Cell::push(self, writer);
    }

    fn finish(writer: Self::Writer) -> Vec<Column> {
        vec![<Self as Cell>::finish(writer)]
    }
}

impl<'b, T: Serialize + DeserializeOwned> ReadRow<'b> for Packed<T> {
    type Reader = VarlenReader<'b>;

    fn open(batch: &'b Batch) -> Result<Self::Reader, String> {
        match batch.columns.as_slice() {
            [column] => <Self as ReadCell>::open(column, batch.rows as usize),
            other => Err(format!("expected 1 column, got {}", other.len())),
        }
    }

    fn rows(reader: &Self::Reader) -> usize {
        reader.rows()
    }

    fn read(reader: &Self::Reader, row: usize) -> Result<Self, String> {
        <Self as ReadCell>::read(reader, row)
    }
}
