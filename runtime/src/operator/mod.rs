//! What is done to rows. An operator is a synchronous state machine: a task feeds it batches and watermarks in
//! stream order and forwards what it puts out.

mod spec;

pub use spec::{AggregateFunction, OnError};

use arrow_array::RecordBatch;

use crate::record::{Batch, Watermark};

/// One step in one task.
///
/// Results must not depend on how rows are cut into batches.
pub trait Operator: Send {
    /// Takes in rows; results go to `out` at once or at a later watermark.
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError>;

    /// Event time has advanced. All that this triggers goes to `out` before the task forwards the watermark.
    fn on_watermark(&mut self, _watermark: Watermark, _out: &mut Output) -> Result<(), OperatorError> {
        Ok(())
    }
}

/// What an operator puts out while it handles one element.
#[derive(Debug, Default)]
pub struct Output {
    /// rows for the next step, in order
    pub batches: Vec<Batch>,
    /// rows that could not be handled
    pub dead: Vec<DeadRow>,
    /// rows that came after their window had fired: dropped and counted
    pub late_rows: u64,
}

/// A row that an operator could not handle, on its way to the dead-letter output.
#[derive(Clone, Debug)]
pub struct DeadRow {
    /// the row's columns (those that the step received), one row
    pub row: RecordBatch,
    /// its event time, ms
    pub time: i64,
    /// why
    pub reason: String,
}

/// An operator cannot go on: the pipeline stops (or, under supervision, restarts). Row failures are not this.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// the step's policy is `on_error = "fail"` and a row failed
    #[error("a row failed and the step says on_error = \"fail\": {reason}")]
    Row {
        /// what the operator said
        reason: String,
    },
    /// the guest does not keep its contract, whatever the row
    #[error("component breaks the operator contract: {reason}")]
    Contract {
        /// what it did
        reason: String,
    },
    /// a bug of the host: reported, never a panic
    #[error("internal error: {reason}; please report it")]
    Internal {
        /// what did not hold
        reason: String,
    },
}
