//! Why a sink cannot be opened or go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::format::{EncoderError, ParquetError};
use crate::objects::ObjectsError;

/// A sink cannot be opened or cannot take more rows.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// whoever read standard output has closed it (`| head`): no mistake, the run ends quietly
    #[error("sink `{sink_name}`: nobody reads standard output any more")]
    Closed {
        /// the sink
        sink_name: String,
    },
    /// the reading end of a channel was dropped
    #[error("sink `{sink_name}`: whoever read its channel is gone")]
    NoReader {
        /// the sink
        sink_name: String,
    },
    /// standard output cannot be written
    #[error("sink `{sink_name}`: cannot write to standard output: {error}")]
    Print {
        /// the sink
        sink_name: String,
        /// what the system said
        error: io::Error,
    },
    /// a file cannot be written
    #[error("sink `{sink_name}`: cannot {action} `{}`: {error}", path.display())]
    File {
        /// the sink
        sink_name: String,
        /// `create`, `write`, ..
        action: &'static str,
        /// which file or folder
        path: PathBuf,
        /// what the system said
        error: io::Error,
    },
    /// a Parquet file cannot be written
    #[error("sink `{sink_name}`: cannot write `{}`: {error}", path.display())]
    Parquet {
        /// the sink
        sink_name: String,
        /// which file
        path: PathBuf,
        /// why
        error: ParquetError,
    },
    /// format and columns do not go together
    #[error("sink `{sink_name}`: {error}")]
    Encoder {
        /// the sink
        sink_name: String,
        /// what does not fit
        error: EncoderError,
    },
    /// `key` names a column that is not written
    #[error("sink `{sink_name}`: there is no column `{column}` for `key`; expected one of {known}")]
    NoSuchKey {
        /// the sink
        sink_name: String,
        /// as written
        column: String,
        /// the columns there are
        known: String,
    },
    /// the broker or topic is not to be had, or does not take records
    #[error("sink `{sink_name}`: kafka topic `{topic}` at `{brokers}`: {reason}")]
    Kafka {
        /// the sink
        sink_name: String,
        /// as written
        brokers: String,
        /// as written
        topic: String,
        /// what happened, and what to do
        reason: String,
    },
    /// transactions are not to be had
    #[error("kafka transactions `{transactional_id}` at `{brokers}`: {reason}")]
    Transactions {
        /// whose
        transactional_id: String,
        /// as written
        brokers: String,
        /// what happened, and what to do
        reason: String,
    },
    /// the broker takes nothing more from this process: another one has taken over, or the transaction was open for too long.
    /// To be started again only where no other process is meant to run
    #[error(
        "kafka transactions `{transactional_id}`: this process has been shut out at epoch {epoch} ({reason}). Either another \
         process runs the pipeline now, or the transaction expired: it was open for {open_for:.1?} of `transaction_timeout` = \
         {timeout:?}. Where no other process runs it, start the pipeline again: it goes on after the last epoch that was \
         committed and makes the rows of epoch {epoch} again, but for those of sources that cannot be read again"
    )]
    ShutOut {
        /// whose
        transactional_id: String,
        /// the epoch that was being written
        epoch: u64,
        /// the key
        timeout: Duration,
        /// how long the transaction had been open
        open_for: Duration,
        /// what the client said
        reason: String,
    },
    /// a transaction cannot be finished and was aborted
    #[error(
        "kafka transactions `{transactional_id}`: epoch {epoch} cannot be finished, after {open_for:.1?} ({reason}). Start the \
         pipeline again: it goes on after the last epoch that was committed and makes the rows of epoch {epoch} again, but for \
         those of sources that cannot be read again"
    )]
    GivenUp {
        /// whose
        transactional_id: String,
        /// the epoch that was being written
        epoch: u64,
        /// how long the transaction had been open
        open_for: Duration,
        /// what happened
        reason: String,
    },
    /// a Kafka property that this sink sets itself
    #[error("sink `{sink_name}`: kafka property `{property}` cannot be set: {why}")]
    RefusedProperty {
        /// the sink
        sink_name: String,
        /// its name
        property: String,
        /// why not, and what to write instead
        why: &'static str,
    },
    /// what an epoch wrote is neither waiting nor visible
    #[error(
        "sink `{sink_name}`: neither `{}` nor `{}` is there, of which one holds rows that belong to a checkpoint; put the file back, or start anew with --fresh",
        pending.display(),
        path.display()
    )]
    PartGone {
        /// the sink
        sink_name: String,
        /// before the commit
        pending: PathBuf,
        /// after it
        path: PathBuf,
    },
    /// an object store does not do what was asked
    #[error("sink `{sink_name}`: {error}")]
    Objects {
        /// the sink
        sink_name: String,
        /// what it said
        error: ObjectsError,
    },
    /// `url` names no object
    #[error("sink `{sink_name}`: {reason}")]
    ObjectUrl {
        /// the sink
        sink_name: String,
        /// why
        reason: String,
    },
    /// what an epoch wrote is neither waiting nor visible
    #[error(
        "sink `{sink_name}`: `{object}`, whose rows belong to a checkpoint, is not there and cannot be made visible any more: {detail}; put it back, or start anew with --fresh"
    )]
    ObjectGone {
        /// the sink
        sink_name: String,
        /// the object
        object: String,
        /// what the store said
        detail: String,
    },
    /// what was prepared cannot be read
    #[error("sink `{sink_name}`: what the checkpoint says about its output cannot be read: {reason}")]
    Prepared {
        /// the sink
        sink_name: String,
        /// why
        reason: String,
    },
    /// ids cannot be made of these columns
    #[error("sink `{sink_name}`: {reason}")]
    DocumentIds {
        /// the sink
        sink_name: String,
        /// why
        reason: String,
    },
    /// a store of documents
    #[error("sink `{sink_name}`: {reason}")]
    Documents {
        /// the sink
        sink_name: String,
        /// why
        reason: String,
    },
    /// the process is ending
    #[error("the process is ending: {reason}")]
    Ended {
        /// what was given up
        reason: String,
    },
    /// built without what the sink needs
    #[error("sink `{sink_name}`: this build has no {feature}; build with `--features {feature}`")]
    NotBuilt {
        /// the sink
        sink_name: String,
        /// the Cargo feature
        feature: &'static str,
    },
}

impl SinkError {
    /// Whether the same may succeed later: nothing is wrong but the disk or the way to a server.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::File { .. } => true,
            Self::Objects { error, .. } => error.is_passing(),
            _ => false,
        }
    }
}
