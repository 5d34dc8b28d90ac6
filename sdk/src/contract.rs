//! The contract's data (`wit/types.wit`) as Rust types, the same natively and on wasm32.
//!
//! The generated bindings are told to use these instead of their own, so a batch that the host passes is not converted.

use std::fmt;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// true or false
    Boolean,
    /// signed 64-bit integer
    Int64,
    /// IEEE 754 double
    Float64,
    /// UTF-8 text
    Text,
    /// bytes
    Binary,
    /// milliseconds since 1970-01-01T00:00:00Z
    TimestampMs,
}

impl fmt::Display for Kind {
    /// The name that pipelines use: `int64`, `timestamp_ms`, ...
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Boolean => "boolean",
            Kind::Int64 => "int64",
            Kind::Float64 => "float64",
            Kind::Text => "text",
            Kind::Binary => "binary",
            Kind::TimestampMs => "timestamp_ms",
        })
    }
}

/// A named, typed column as an operator declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// the column's name
    pub name: String,
    /// what it holds
    pub kind: Kind,
    /// whether it may hold nulls
    pub nullable: bool,
}

/// Values of varying length: row i is `bytes[offsets[i] .. offsets[i + 1]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Varlen {
    /// rows + 1 entries, the first 0, never decreasing, the last the length of `bytes`
    pub offsets: Vec<u32>,
    /// all values, one after the other
    pub bytes: Vec<u8>,
}

impl Varlen {
    /// The bytes of `row`; `None` where the row does not exist or its offsets do not fit the bytes.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        let start = *self.offsets.get(row)?;
        let end = *self.offsets.get(row + 1)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for Varlen {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut bytes = Vec::new();
        let mut offsets = vec![0];
        for value in values {
            bytes.extend_from_slice(value.as_ref());
            offsets.push(offset(bytes.len()));
        }
        Varlen { offsets, bytes }
    }
}

/// A length as an offset. A wasm32 guest cannot hold more bytes than a `u32` counts.
#[inline]
pub(crate) fn offset(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The values of one column. Where a row is null its value is present, and ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// one byte a row: 0 is false, 1 is true
    Boolean(Vec<u8>),
    /// integers
    Int64(Vec<i64>),
    /// floating point
    Float64(Vec<f64>),
    /// each row is UTF-8 by itself
    Text(Varlen),
    /// bytes
    Binary(Varlen),
    /// milliseconds since 1970-01-01T00:00:00Z
    TimestampMs(Vec<i64>),
}

impl Values {
    /// What they are.
    pub fn kind(&self) -> Kind {
        match self {
            Values::Boolean(_) => Kind::Boolean,
            Values::Int64(_) => Kind::Int64,
            Values::Float64(_) => Kind::Float64,
            Values::Text(_) => Kind::Text,
            Values::Binary(_) => Kind::Binary,
            Values::TimestampMs(_) => Kind::TimestampMs,
        }
    }

    /// How many rows they are.
    pub fn rows(&self) -> usize {
        match self {
            Values::Boolean(values) => values.len(),
            Values::Int64(values) | Values::TimestampMs(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Text(values) | Values::Binary(values) => values.rows(),
        }
    }

    /// Bytes of values of varying length; 0 for the other kinds.
    pub(crate) fn varlen_bytes(&self) -> usize {
        match self {
            Values::Text(values) | Values::Binary(values) => values.bytes.len(),
            _ => 0,
        }
    }
}

/// One column of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// one a row, also where the row is null
    pub values: Values,
    /// One byte a row: 0 is null, 1 is not. `None`: no row is null.
    pub validity: Option<Vec<u8>>,
}

impl From<Values> for Column {
    /// A column without nulls.
    fn from(values: Values) -> Self {
        Column { values, validity: None }
    }
}

/// Rows as columns, in the order in which the operator declared its fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// number of rows; says it even where there are no columns
    pub rows: u32,
    /// the columns, each with `rows` rows
    pub columns: Vec<Column>,
}

impl Batch {
    /// Bytes of all text and binary columns: what a writer of the results may reserve.
    pub(crate) fn varlen_bytes(&self) -> usize {
        self.columns.iter().map(|column| column.values.varlen_bytes()).sum()
    }
}

/// The accumulator's columns and their version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSchema {
    /// raised by the author whenever the fields or their meaning change
    pub version: u32,
    /// the accumulator's fields
    pub fields: Vec<Field>,
}

/// What an operator reads, produces and remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// fields read from the incoming stream, by name
    pub inputs: Vec<Field>,
    /// fields produced; empty for a filter
    pub outputs: Vec<Field>,
    /// the accumulator; `None` for operators without state
    pub state: Option<StateSchema>,
}

/// One row that an operator could not handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFailure {
    /// index of the row in the batch that was passed
    pub row: u32,
    /// for people
    pub reason: String,
}

/// Why a call gave no result. A failed call has no effect at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// these rows cannot be handled; the host calls again with the others
    Rows(Vec<RowFailure>),
    /// the batch as a whole cannot be handled
    Batch(String),
    /// something passing: the host calls again with the same batch, a bounded number of times
    Retry(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Rows(rows) => match rows.first() {
                Some(first) => {
                    write!(f, "{} rows failed, the first is row {}: {}", rows.len(), first.row, first.reason)
                }
                None => f.write_str("rows failed, but none is named"),
            },
            Failure::Batch(reason) => write!(f, "the batch failed: {reason}"),
            Failure::Retry(reason) => write!(f, "passing failure: {reason}"),
        }
    }
}

/// What a flat_map answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Expansion {
    /// for each row of `output` the input row that it came from, never decreasing
    pub origin: Vec<u32>,
    /// the rows
    pub output: Batch,
}
