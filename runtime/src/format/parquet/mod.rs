//! Parquet files ↔ columns, for files only: a Parquet file has its index at its end and cannot be cut into records.
//!
//! ```text
//!   file ──footer──▶ ParquetFile: columns, kinds ──▶ ParquetReader ──▶ columns + bad rows      page by page
//!   columns ──▶ ParquetWriter: a row group in memory ──▶ file, whole once finished
//! ```
//!
//! Flat columns of our six kinds are all that a stream has, so this stands on the crate's column readers and writers and
//! not on its Arrow layer, which brings nested columns, dictionaries and IPC along. The crate checks much of what it
//! reads, but asserts the rest: a file that lies must not end a thread of ours, see [`contained`].

mod leaf;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use read::{ParquetFile, ParquetReader, ParquetRows};
pub use write::ParquetWriter;

use crate::record::Field;

/// A Parquet file cannot be read or written.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ParquetError {
    /// the bytes are not those of a Parquet file, or not all of them, or the file cannot be written
    #[error("{0}")]
    File(String),
    /// a column that the file does not have
    #[error("no column `{column}` in the file; it has {known}")]
    NoColumn {
        /// what is read
        column: String,
        /// what there is
        known: String,
    },
    /// a column of a type that is none of our kinds
    #[error(
        "column `{column}` is {found}, which is none of the kinds boolean, int64, float64, text, binary, timestamp_ms; \
         leave it out by a `schema` of the columns to read, or write the file with another type"
    )]
    Unsupported {
        /// the column
        column: String,
        /// its type in the file's words
        found: String,
    },
    /// a column that is declared as what it is not
    #[error("column `{}` is declared as {}, but the file holds {found}", expected.name, expected.kind)]
    Kind {
        /// as declared
        expected: Field,
        /// what there is
        found: String,
    },
    /// a compression that this build cannot undo
    #[error(
        "column `{column}` is compressed with {codec}; expected none, snappy, gzip or lz4: write the file with one of these"
    )]
    Codec {
        /// the column
        column: String,
        /// by name
        codec: String,
    },
}

impl From<parquet::errors::ParquetError> for ParquetError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::File(error.to_string())
    }
}

/// Runs what takes bytes of unknown origin apart. An assertion that fails there is an error like any other.
fn contained<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(ParquetError::File(format!("the file contradicts itself: {}", said.unwrap_or("no reason given"))))
    })
}
