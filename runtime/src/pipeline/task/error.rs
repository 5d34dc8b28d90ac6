//! Why a task stops before its input has ended.

use crate::operator::OperatorError;
use crate::pipeline::exchange::ExchangeError;
use crate::sink::SinkError;

/// A task stopped before its input ended.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// an operator cannot go on
    #[error("step `{step}`, task {subtask}: {source}")]
    Operator {
        /// the step
        step: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: OperatorError,
    },
    /// a source cannot go on
    #[error("source `{name}`, task {subtask}: {source}")]
    Source {
        /// the source
        name: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: crate::source::SourceError,
    },
    /// a record could not be decoded and the source says `on_error = "fail"`
    #[error("source `{name}`, task {subtask}: record at offset {offset} cannot be decoded: {reason}")]
    Record {
        /// the source
        name: String,
        /// which task
        subtask: usize,
        /// where in its partition
        offset: u64,
        /// why
        reason: String,
    },
    /// a source's watermark assigner cannot go on
    #[error("source `{name}`, task {subtask}: watermark assigner: {source}")]
    Assigner {
        /// the source
        name: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: OperatorError,
    },
    /// a sink cannot go on
    #[error("sink `{name}`, task {subtask}: {source}")]
    Sink {
        /// the sink
        name: String,
        /// which task
        subtask: usize,
        /// why
        #[source]
        source: SinkError,
    },
    /// rows could not be passed on
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// the dead-letter output does not take rows
    #[error("the dead-letter output failed: {0}")]
    DeadLetter(String),
}
