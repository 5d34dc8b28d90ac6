//! What a field of a row may be, and how it gets out of and into its column.
//!
//! A reader is opened once for a column and asked row by row; a writer is made once and told row by row. Both are plain
//! slices and vectors and everything is inlined, so that a loop over numbers compiles to a loop over slices.

use crate::contract::{Column, Kind, Values};
use crate::varlen::{TextReader, VarlenReader, VarlenWriter};

/// A type that a field of a [`Row`](crate::Row) may have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a column",
    label = "not a column type",
    note = "columns are: bool, i64, f64, String, &str, Vec<u8>, &[u8], Timestamp, Packed<T>, and Option of these for columns with nulls"
)]
pub trait Cell: Sized {
    /// what the column holds
    const KIND: Kind;
    /// whether it may hold nulls
    const NULLABLE: bool = false;
    /// collects the column
    type Writer;

    /// A writer for `rows` rows that [`set`](Cell::set) fills, or with 0 rows one that [`push`](Cell::push) grows.
    /// `bytes` is a guess of how many bytes values of varying length will take.
    fn writer(rows: usize, bytes: usize) -> Self::Writer;
    /// How many rows [`set`](Cell::set) can fill. As for [`ReadCell::rows`], loops end there.
    fn room(writer: &Self::Writer) -> usize;
    /// Writes row `row`; rows come in order.
    fn set(self, writer: &mut Self::Writer, row: usize);
    /// Appends a row.
    fn push(self, writer: &mut Self::Writer);
    /// Writes something where the value is null.
    fn set_blank(writer: &mut Self::Writer, row: usize);
    /// Appends something where the value is null.
    fn push_blank(writer: &mut Self::Writer);
    /// The column.
    fn finish(writer: Self::Writer) -> Column;
}

/// A [`Cell`] that can be read from a column that lives for `'b`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a column",
    label = "not a column type",
    note = "columns are: bool, i64, f64, String, &str, Vec<u8>, &[u8], Timestamp, Packed<T>, and Option of these for columns with nulls"
)]
pub trait ReadCell<'b>: Cell {
    /// the column as slices
    type Reader;

    /// The reader of the first `rows` rows; the error names the kind that the column has instead.
    fn open(column: &'b Column, rows: usize) -> Result<Self::Reader, String>;
    /// How many rows the reader has. Loops end there, which tells the compiler that `read` cannot miss.
    fn rows(reader: &Self::Reader) -> usize;
    /// The value of `row`; an error is the failure of that row.
    fn read(reader: &Self::Reader, row: usize) -> Result<Self, String>;
}

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted; may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// From milliseconds.
    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    /// In milliseconds.
    pub const fn millis(self) -> i64 {
        self.0
    }
}

#[cold]
fn wrong_kind(expected: Kind, got: &Column) -> String {
    format!("expected {expected}, got {}", got.values.kind())
}

#[cold]
pub(crate) fn too_short(expected: usize, got: usize) -> String {
    format!("expected {expected} rows, got {got}")
}

#[cold]
pub(crate) fn no_row() -> String {
    "the row is outside of its column".to_owned()
}

/// The fixed-width kinds: a vector of `$raw`, one entry a row.
macro_rules! fixed_width {
    ($type:ty, $kind:ident, $raw:ty, $to:expr, $from:expr) => {
        impl Cell for $type {
            const KIND: Kind = Kind::$kind;
            type Writer = Vec<$raw>;

            #[inline]
            fn writer(rows: usize, _bytes: usize) -> Self::Writer {
                vec![<$raw>::default(); rows]
            }

            #[inline]
            fn room(writer: &Self::Writer) -> usize {
                writer.len()
            }

            #[inline]
            fn set(self, writer: &mut Self::Writer, row: usize) {
                if let Some(slot) = writer.get_mut(row) {
                    *slot = $to(self);
                }
            }

            #[inline]
            fn push(self, writer: &mut Self::Writer) {
                writer.push($to(self));
            }

            #[inline]
            fn set_blank(_writer: &mut Self::Writer, _row: usize) {}

            #[inline]
            fn push_blank(writer: &mut Self::Writer) {
                writer.push(<$raw>::default());
            }

            #[inline]
            fn finish(writer: Self::Writer) -> Column {
                Values::$kind(writer).into()
            }
        }

        impl<'b> ReadCell<'b> for $type {
            type Reader = &'b [$raw];

            #[inline]
            fn open(column: &'b Column, rows: usize) -> Result<Self::Reader, String> {
                let Values::$kind(values) = &column.values else { return Err(wrong_kind(Self::KIND, column)) };
                values.get(..rows).ok_or_else(|| too_short(rows, values.len()))
            }

            #[inline]
            fn rows(reader: &Self::Reader) -> usize {
                reader.len()
            }

            #[inline]
            fn read(reader: &Self::Reader, row: usize) -> Result<Self, String> {
                match reader.get(row) {
                    Some(value) => Ok($from(*value)),
                    None => Err(no_row()),
                }
            }
        }
    };
}

fixed_width!(bool, Boolean, u8, u8::from, |raw| raw != 0);
fixed_width!(i64, Int64, i64, |value| value, |raw| raw);
fixed_width!(f64, Float64, f64, |value| value, |raw| raw);
fixed_width!(Timestamp, TimestampMs, i64, |value: Timestamp| value.0, Timestamp);

/// As an error is expected of each kind.
#[inline]
fn unchanged<T: ?Sized>(value: &T) -> Result<&T, String> {
    Ok(value)
}

/// The kinds of varying length: `$as_bytes` is written, what is read goes through `$from`.
macro_rules! varying_length {
    ($type:ty, $life:lifetime, [$($generics:tt)*], $kind:ident, $reader:ident, $as_bytes:expr, $from:expr) => {
        impl<$($generics)*> Cell for $type {
            const KIND: Kind = Kind::$kind;
            type Writer = VarlenWriter;

            #[inline]
            fn writer(rows: usize, bytes: usize) -> Self::Writer {
                VarlenWriter::new(rows, bytes)
            }

            #[inline]
            fn room(writer: &Self::Writer) -> usize {
                writer.rows()
            }

            #[inline]
            fn set(self, writer: &mut Self::Writer, row: usize) {
                writer.set(row, $as_bytes(&self));
            }

            #[inline]
            fn push(self, writer: &mut Self::Writer) {
                writer.push($as_bytes(&self));
            }

            #[inline]
            fn set_blank(writer: &mut Self::Writer, row: usize) {
                writer.set(row, &[]);
            }

            #[inline]
            fn push_blank(writer: &mut Self::Writer) {
                writer.push(&[]);
            }

            #[inline]
            fn finish(writer: Self::Writer) -> Column {
                Values::$kind(writer.finish()).into()
            }
        }

        impl<$life> ReadCell<$life> for $type {
            type Reader = $reader<$life>;

            #[inline]
            fn open(column: &$life Column, rows: usize) -> Result<Self::Reader, String> {
                let Values::$kind(values) = &column.values else { return Err(wrong_kind(Self::KIND, column)) };
                $reader::open(values, rows)
            }

            #[inline]
            fn rows(reader: &Self::Reader) -> usize {
                reader.rows()
            }

            #[inline]
            #[allow(clippy::needless_question_mark)] // for borrowed values there is nothing to convert: `$from` is `Ok`
            fn read(reader: &Self::Reader, row: usize) -> Result<Self, String> {
                $from(reader.get(row)?)
            }
        }
    };
}

varying_length!(&'b str, 'b, ['b], Text, TextReader, |value: &&'b str| value.as_bytes(), unchanged);
varying_length!(String, 'b, [], Text, TextReader, String::as_bytes, |text: &str| Ok(text.to_owned()));
varying_length!(&'b [u8], 'b, ['b], Binary, VarlenReader, |value: &&'b [u8]| *value, unchanged);
varying_length!(Vec<u8>, 'b, [], Binary, VarlenReader, Vec::as_slice, |bytes: &[u8]| Ok(bytes.to_vec()));

impl<T: Cell> Cell for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;
    type Writer = (T::Writer, Vec<u8>);

    #[inline]
    fn writer(rows: usize, bytes: usize) -> Self::Writer {
        const { assert!(!T::NULLABLE, "a column cannot be an Option of an Option") };
        (T::writer(rows, bytes), vec![0; rows])
    }

    #[inline]
    fn room((values, validity): &Self::Writer) -> usize {
        T::room(values).min(validity.len())
    }

    #[inline]
    fn set(self, (values, validity): &mut Self::Writer, row: usize) {
        if let Some(slot) = validity.get_mut(row) {
            *slot = u8::from(self.is_some());
        }
        match self {
            Some(value) => value.set(values, row),
            None => T::set_blank(values, row),
        }
    }

    #[inline]
    fn push(self, (values, validity): &mut Self::Writer) {
        validity.push(u8::from(self.is_some()));
        match self {
            Some(value) => value.push(values),
            None => T::push_blank(values),
        }
    }

    #[inline]
    fn set_blank((values, _): &mut Self::Writer, row: usize) {
        T::set_blank(values, row);
    }

    #[inline]
    fn push_blank((values, validity): &mut Self::Writer) {
        validity.push(0);
        T::push_blank(values);
    }

    #[inline]
    fn finish((values, validity): Self::Writer) -> Column {
        Column { validity: Some(validity), ..T::finish(values) }
    }
}

impl<'b, T: ReadCell<'b>> ReadCell<'b> for Option<T> {
    type Reader = (T::Reader, Option<&'b [u8]>);

    #[inline]
    fn open(column: &'b Column, rows: usize) -> Result<Self::Reader, String> {
        let validity = match &column.validity {
            Some(bytes) => Some(bytes.get(..rows).ok_or_else(|| too_short(rows, bytes.len()))?),
            None => None,
        };
        Ok((T::open(column, rows)?, validity))
    }

    #[inline]
    fn rows((values, validity): &Self::Reader) -> usize {
        validity.map_or(usize::MAX, <[u8]>::len).min(T::rows(values))
    }

    #[inline]
    fn read((values, validity): &Self::Reader, row: usize) -> Result<Self, String> {
        match validity {
            Some(bytes) if bytes.get(row) == Some(&0) => Ok(None),
            _ => T::read(values, row).map(Some),
        }
    }
}
