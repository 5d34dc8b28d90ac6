//! What is remembered: key columns → slot ([`KeyTable`]), slot → values in chunks ([`Chunked`], [`Columns`]).
//!
//! A slot is a dense number that a key gets when it is first seen, in row order, so numbering depends on the input
//! alone. Everything kept for a key is a column indexed by its slot. Columns come in chunks of [`CHUNK_ROWS`] slots:
//! growth never copies what is there, sparse columns cost what they hold, and a chunk is the unit that a snapshot can
//! share until it is next written.
//!
//! Refused: maps from key to a struct a key. They are as quick for small state, but a guest takes its accumulators as
//! columns, and a snapshot of a map stops the stream.

mod arrays;
#[cfg(test)]
pub(crate) mod cells;
mod chunks;
mod columns;
mod key_rows;
mod key_table;
mod prefetch;
mod rounds;
mod row_keys;
mod shared_set;
mod snapshot;

pub(crate) use arrays::{ColumnBuilder, is_word, varlen, words};
pub(crate) use chunks::next_freezing;
pub use chunks::{CHUNK_ROWS, Chunked};
pub(crate) use columns::heap_bytes;
pub use columns::{Columns, check_rows};
pub(crate) use key_rows::{KeyRows, canonical_float};
pub(crate) use key_table::FrozenKeys;
pub use key_table::KeyTable;
pub(crate) use rounds::NO_SLOT;
pub(crate) use shared_set::{Leaf, SharedSet};
pub use snapshot::{Later, Snapshot, Table};

use arrow_schema::{ArrowError, DataType};

use crate::record::Kind;

/// State could not be read or written. All but [`StateError::TooManyKeys`] and [`StateError::TooManyBytes`] mean that
/// rows came that are not of the schema that was planned.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// another number of columns than planned
    #[error("expected {expected} columns, got {found}")]
    ColumnCount {
        /// as planned
        expected: usize,
        /// as came
        found: usize,
    },
    /// another number of rows than asked for
    #[error("expected {expected} rows, got {found}")]
    RowCount {
        /// as asked for
        expected: usize,
        /// as came
        found: usize,
    },
    /// a column of another kind than planned
    #[error("column `{column}`: expected {expected}, got {found}")]
    Kind {
        /// its name
        column: String,
        /// as planned
        expected: Kind,
        /// as came
        found: DataType,
    },
    /// nulls in a column declared without
    #[error("column `{column}` has nulls but is declared without")]
    Nulls {
        /// its name
        column: String,
    },
    /// slots are 32 bits wide
    #[error("more than {} keys in one task: raise the step's parallelism", u32::MAX - 1)]
    TooManyKeys,
    /// columns of text and binary hold at most 2 GiB
    #[error("{rows} rows of text or binary are more than the {} bytes that one column can hold", i32::MAX)]
    TooManyBytes {
        /// rows that were put in one column
        rows: usize,
    },
    /// what was written is not what was read: a bug
    #[error("slot {slot} does not hold a key of the table")]
    Slot {
        /// which
        slot: u32,
    },
    /// it is kept elsewhere, and does not come back from there
    #[error("{reason}")]
    Elsewhere {
        /// what was said there
        reason: String,
    },
    /// Arrow refused an array
    #[error("{0}")]
    Arrow(#[from] ArrowError),
}
