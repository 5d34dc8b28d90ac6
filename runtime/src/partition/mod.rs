//! Who gets a row: key columns → hash → key group → task. Pure: no channel, no task.
//!
//! The way from key to group is part of every checkpoint, so it never changes ([`hash_rows`] has the definition and
//! its tests the golden vectors). The way from group to task depends on the parallelism alone, so a checkpoint can be
//! restored at another one.

mod hash;
mod partitioner;
mod range;
mod sample;

pub use hash::{hash_rows, key_group, task_of_group};
pub use partitioner::Partitioner;
pub use range::SplitPoints;
pub use sample::{Sample, Sampler};

/// A batch could not be split. None of these depends on the values of a row.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// no task, or more tasks than key groups
    #[error("parallelism {parallelism} is not in 1..={max}, the number of key groups")]
    Parallelism {
        /// what was asked for
        parallelism: usize,
        /// the largest
        max: u32,
    },
    /// the batch is not of the schema that was planned
    #[error("key column {index} of a batch with {columns} columns")]
    Column {
        /// position of the key column
        index: usize,
        /// columns that there are
        columns: usize,
    },
    /// a column of none of the six kinds
    #[error("cannot hash a key column stored as {data_type}: expected one of the six kinds")]
    Kind {
        /// how Arrow stores it
        data_type: arrow_schema::DataType,
    },
    /// rows could not be copied out of the batch
    #[error("cannot take the rows of task {target}: {source}")]
    Take {
        /// the task
        target: usize,
        /// what Arrow said
        source: arrow_schema::ArrowError,
    },
}
