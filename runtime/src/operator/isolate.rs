//! Finding the rows that a guest cannot handle, so that they alone are taken out and the stream goes on.
//!
//! A failed call has no effect, so it can be repeated with fewer rows. Rows that the guest names are taken out and
//! the rest is called again; after a trap, too much memory or a broken contract the batch is halved until the row at fault
//! stands alone: about 2 · log2(rows) calls for one bad row. After a missed deadline, where each call that fails costs
//! the whole deadline, it is cut into more pieces: four such calls find one row among 8,192.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::{filter, filter_record_batch};

use super::{DeadRow, OnError, OperatorError, Output};
use crate::limits;
use crate::record::Batch;
use crate::wasm::{CallError, RowFailure};

/// Pieces of a batch that missed its deadline.
const PIECES_AFTER_DEADLINE: usize = 32;

/// What to do with rows at fault, and where they go.
pub(super) struct Isolation<'a> {
    /// the step's policy
    pub(super) on_error: OnError,
    /// dead rows are added here
    pub(super) out: &'a mut Output,
}

/// Why a piece did not pass.
pub(super) enum Failed {
    /// the guest's doing: the rows at fault can be found
    Call(CallError),
    /// not the rows' doing
    Fatal(OperatorError),
}

impl From<CallError> for Failed {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<OperatorError> for Failed {
    fn from(error: OperatorError) -> Self {
        Self::Fatal(error)
    }
}

impl Isolation<'_> {
    /// Hands all rows of `batch` to `pass` in order, in as few and as large pieces as will pass. What `pass` does with
    /// a piece must happen entirely or, where it fails, not at all.
    pub(super) fn run(
        &mut self,
        batch: &Batch,
        pass: &mut dyn FnMut(&Batch) -> Result<(), Failed>,
    ) -> Result<(), OperatorError> {
        // A work list in place of recursion: pieces still to be done, the next one last.
        let mut open = vec![batch.clone()];
        let mut overruns = 0;
        while let Some(piece) = open.pop() {
            if piece.is_empty() {
                continue;
            }
            let passed = pass(&piece);
            overruns += usize::from(matches!(passed, Err(Failed::Call(CallError::Deadline { .. }))));
            if overruns > limits::DEADLINES_PER_BATCH {
                let reason =
                    format!("more than {} calls for one batch overran their deadline", limits::DEADLINES_PER_BATCH);
                return Err(OperatorError::Contract { reason });
            }
            match passed {
                Ok(()) => {}
                Err(Failed::Fatal(error)) => return Err(error),
                Err(Failed::Call(CallError::Rows(failures))) => open.push(self.without(&piece, &failures)?),
                // not the rows' doing: with others it would be the same
                Err(Failed::Call(error @ CallError::Instance { .. })) => {
                    return Err(OperatorError::Contract { reason: error.to_string() });
                }
                Err(Failed::Call(CallError::Internal { reason })) => return Err(OperatorError::Internal { reason }),
                Err(Failed::Call(error)) if piece.rows() == 1 => self.dead(&piece, 0, &error.to_string())?,
                Err(Failed::Call(CallError::Deadline { .. })) => cut(&piece, PIECES_AFTER_DEADLINE, &mut open),
                Err(Failed::Call(_)) => cut(&piece, 2, &mut open),
            }
        }
        Ok(())
    }

    /// The piece without the rows that the guest named.
    fn without(&mut self, piece: &Batch, failures: &[RowFailure]) -> Result<Batch, OperatorError> {
        let mut keep = vec![true; piece.rows()];
        for failure in failures {
            let row = failure.row as usize;
            match keep.get_mut(row) {
                Some(kept) if *kept => {
                    *kept = false;
                    self.dead(piece, row, &failure.reason)?;
                }
                Some(_) => {}
                None => {
                    let reason = format!("row {row} is said to fail in a batch of {} rows", piece.rows());
                    return Err(OperatorError::Contract { reason });
                }
            }
        }
        if failures.is_empty() {
            return Err(OperatorError::Contract { reason: "failure `rows` names no row".to_owned() });
        }
        selected(piece, &BooleanArray::from(keep))
    }

    fn dead(&mut self, piece: &Batch, row: usize, reason: &str) -> Result<(), OperatorError> {
        match self.on_error {
            OnError::Fail => Err(OperatorError::Row { reason: reason.to_owned() }),
            OnError::Skip => {
                self.out.skipped_rows += 1;
                Ok(())
            }
            OnError::DeadLetter => {
                let time = piece.times().get(row).copied().unwrap_or_default();
                let row = piece.columns().slice(row, 1);
                self.out.dead.push(DeadRow { row, time, reason: reason.to_owned(), slot: None });
                Ok(())
            }
        }
    }
}

/// Puts the rows of `piece` on the work list in up to `pieces` pieces, the first of them last.
fn cut(piece: &Batch, pieces: usize, open: &mut Vec<Batch>) {
    let most = piece.rows().div_ceil(pieces);
    let starts: Vec<usize> = (0..piece.rows()).step_by(most).collect();
    open.extend(starts.into_iter().rev().map(|start| piece.slice(start, most.min(piece.rows() - start))));
}

/// The rows of `batch` for which `keep` is true, with their times.
pub(super) fn selected(batch: &Batch, keep: &BooleanArray) -> Result<Batch, OperatorError> {
    let internal = |reason: String| OperatorError::Internal { reason };
    let columns: RecordBatch = if batch.columns().num_columns() == 0 {
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(keep.true_count()));
        RecordBatch::try_new_with_options(batch.columns().schema(), Vec::new(), &options)
            .map_err(|error| internal(error.to_string()))?
    } else {
        filter_record_batch(batch.columns(), keep).map_err(|error| internal(error.to_string()))?
    };
    let times = arrow_array::Int64Array::new(batch.times().clone(), None);
    let times = filter(&times, keep).map_err(|error| internal(error.to_string()))?;
    let times = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(&times).values().clone();
    Batch::new(columns, times).ok_or_else(|| internal("rows and times differ after a filter".to_owned()))
}
