//! What is done to rows. An operator is a synchronous state machine: a task feeds it batches and watermarks in
//! stream order and forwards what it puts out.

mod aggregate;
mod aggregate_built_in;
mod aggregate_fold;
mod aggregate_values;
mod frozen_slices;
mod guest;
mod guest_fold;
mod isolate;
mod join;
mod key_window_aggregate;
mod late_rows;
mod migration;
mod policy;
mod process;
mod process_state;
mod process_timers;
mod rolling_aggregate;
mod route;
mod saved_table;
mod select;
mod spec;
mod spilled_keys;
mod spilled_runs;
mod sweep;
mod top;
mod trial;
mod window_aggregate;
mod window_aggregate_emission;
mod window_aggregate_parts;
mod window_aggregate_slice;
mod window_process;
mod window_rows;

pub use aggregate::{AggregateCall, AggregateColumns, Fold, output_schema, result_field, rolling_schema};
pub use guest::GuestStep;
pub use guest_fold::{AggregateStep, GuestFold};
pub use join::{
    Bound, IntervalJoin, JoinBounds, JoinColumn, JoinColumns, JoinKind, JoinRule, LookupJoin, SessionJoin, WindowJoin,
    join_operator,
};
pub use key_window_aggregate::KeyWindowAggregate;
pub use migration::{KeptColumns, Migration, MigrationError};
pub use process::{ProcessSpec, ProcessStep};
pub use rolling_aggregate::RollingAggregate;
pub use route::RouteStep;
pub use select::Select;
pub use spec::{AggregateFunction, OnError};
pub use sweep::{Kept, Left, Made, MadeColumns, Piece, Sweeping};
pub use top::{OrderBy, Ties, Top, TopSpec, TopWindows, partition_keys, top_schema};
pub use trial::{
    Apart, Cost, Difference, EXAMPLES, Example, OtherState, Share, SharedFigures, Side, TaskFigures, TrialStep,
};
pub(crate) use trial::{put_in_place, union};
pub use window_aggregate::WindowAggregate;
pub use window_aggregate_parts::WindowAggregateSpec;
pub use window_process::WindowProcess;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;

use crate::limits;
use crate::record::{Batch, Watermark};
use crate::spill::SpillError;
use crate::state::Snapshot;
use crate::wasm::{ExactVersion, Guest};

/// One step in one task.
///
/// Results must not depend on how rows are cut into batches. (Which rows are late does: a watermark follows the batch whose
/// rows allow it, so only rows within the source's bound are sure to be in time.)
pub trait Operator: Send {
    /// Takes in rows; results go to `out` at once or at a later watermark.
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError>;

    /// As [`Operator::on_batch`], for rows of input `input` of an operator with several (0 is `from`, 1 is what is joined
    /// to it). To an operator with one input all are the same.
    fn on_input(&mut self, _input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_batch(batch, out)
    }

    /// Event time has advanced. All that this triggers goes to `out` before the task forwards the watermark.
    fn on_watermark(&mut self, _watermark: Watermark, _out: &mut Output) -> Result<(), OperatorError> {
        Ok(())
    }

    /// Goes on with what [`Operator::on_watermark`] or [`Operator::on_processing_time`] has left undone because `out` was
    /// [full](Output::is_full); false: there was nothing left. Called again and again after either of them, each time when
    /// what was in `out` has left the task, with no other call in between.
    fn go_on(&mut self, _out: &mut Output) -> Result<bool, OperatorError> {
        Ok(false)
    }

    /// The earliest time of the host's clock, in ms, at which [`Operator::on_processing_time`] has something to do.
    fn next_processing_time(&self) -> Option<i64> {
        None
    }

    /// The host's clock has reached `now_ms`.
    fn on_processing_time(&mut self, _now_ms: i64, _out: &mut Output) -> Result<(), OperatorError> {
        Ok(())
    }

    /// All that it remembers, between two elements. It goes on as if nothing had happened.
    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        Ok(Snapshot::default())
    }

    /// As [`Operator::snapshot`], for another version to go on with: all that is to be migrated, and apart from it what a
    /// candidate of that version has made of its own keys, as it keeps it.
    fn snapshot_apart(&mut self) -> Result<(Snapshot, Option<Snapshot>), OperatorError> {
        Ok((self.snapshot()?, None))
    }

    /// Takes over what [`Operator::snapshot`] gave, before the first element: the rows of those keys that this task owns
    /// now, of all tasks that there were. `watermark` is the least that these had reached.
    fn restore(&mut self, state: &Snapshot, _watermark: Watermark) -> Result<(), OperatorError> {
        match state.tables.first() {
            None => Ok(()),
            Some(table) => {
                Err(OperatorError::Internal { reason: format!("no operator for the state `{}`", table.name) })
            }
        }
    }

    /// Rows of state that there are, about: as many as a migration at the cut goes through. None: it is not known.
    fn state_rows(&self) -> Option<u64> {
        None
    }

    /// Where [`Operator::snapshot`] has the state of component `slot`; none where it keeps none.
    fn kept_columns(&self, _slot: usize) -> Option<KeptColumns> {
        None
    }

    /// Its state, to be migrated piece by piece between elements while it goes on; none where it has to stand still for it.
    fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        None
    }

    /// As [`Operator::replace`] by a guest that keeps other state, which has been made of all that
    /// [`Operator::sweeping`] has handed over. What the old guest has kept is handed back, to be dropped elsewhere.
    fn adopt(&mut self, slot: usize, _replacement: Replacement, _made: MadeColumns) -> Result<Left, OperatorError> {
        Err(OperatorError::Internal { reason: format!("component {slot} of this step cannot migrate as it goes on") })
    }

    /// What a trial holds, which is over; none for all others.
    fn take_apart(&mut self) -> Option<Apart> {
        None
    }

    /// Puts another guest in the place of component `slot`. Called between two elements; rows before it were the old
    /// guest's, rows after it are the new one's. What fits was decided before: this does not fail for good input.
    fn replace(&mut self, slot: usize, _replacement: Replacement) -> Result<(), OperatorError> {
        Err(OperatorError::Internal { reason: format!("component {slot} of this step cannot be replaced") })
    }
}

/// A guest that is to take the place of another.
#[derive(Debug)]
pub struct Replacement {
    /// the new guest, ready to be called
    pub guest: Guest,
    /// input columns that it reads, in its order
    pub inputs: Vec<usize>,
}

/// Which versions of a step's components run, by slot. Cheap to clone.
pub type SlotVersions = Arc<[(usize, ExactVersion)]>;

/// What an operator puts out while it handles one element.
#[derive(Debug)]
pub struct Output {
    /// rows for the next step, in order
    pub batches: Vec<Batch>,
    /// rows for the step's other outputs (late rows, side outputs), by the number of the output
    pub sides: Vec<(usize, Batch)>,
    /// rows that could not be handled
    pub dead: Vec<DeadRow>,
    /// which of `dead` another version than the step's own could not handle, and its components by slot
    pub dead_by: Vec<(Range<usize>, SlotVersions)>,
    /// rows that came after their window had fired: dropped and counted
    pub late_rows: u64,
    /// rows that could not be handled and were dropped because the step says `on_error = "skip"`
    pub skipped_rows: u64,
    /// with how many rows it is full; a bound on what is held at once, beyond which results do not depend on it
    pub rows_at_once: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            sides: Vec::new(),
            dead: Vec::new(),
            dead_by: Vec::new(),
            late_rows: 0,
            skipped_rows: 0,
            rows_at_once: limits::ROWS_AT_ONCE,
        }
    }
}

impl Output {
    /// Whether its rows should leave the task before there are more of them, see [`Operator::go_on`].
    pub fn is_full(&self) -> bool {
        let sides = self.sides.iter().map(|(_, batch)| batch.rows());
        let rows: usize = self.batches.iter().map(Batch::rows).chain(sides).sum();
        rows + self.dead.len() >= self.rows_at_once
    }
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
    /// which of the step's components could not; none: the only one, or the host
    pub slot: Option<usize>,
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
    /// what a step remembered is not of the step as it is written now
    #[error(
        "the state does not fit the step: {reason}; restore with the pipeline that wrote it, or start without state"
    )]
    State {
        /// what was expected, and what was found
        reason: String,
    },
    /// state that did not fit into memory cannot be kept
    #[error(transparent)]
    Spill(#[from] SpillError),
    /// a bug of the host: reported, never a panic
    #[error("internal error: {reason}; please report it")]
    Internal {
        /// what did not hold
        reason: String,
    },
}
