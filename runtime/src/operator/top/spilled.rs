//! Rows of windows that do not fit into memory.
//!
//! When rows take more than their share of memory, those that cannot come out any more are dropped. If the others are still more than
//! half of it they are written as runs (see `spilled_runs.rs`) and leave memory. When a window is complete, what memory has of it
//! follows, and its rows come back and are put out some partitions of the keys at a time: a list, of a window and key, lies in one.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;

use super::{EventTime, Kept, Top, TopSpec, cut, keep_in};
use crate::operator::aggregate_fold::internal;
use crate::operator::spilled_runs::{FrozenRuns, LOOKS_A_ROW, Left, Span, SpilledRuns, bytes_of, partitions_of};
use crate::operator::{OperatorError, Output};
use crate::record::Field;
use crate::spill::{RowCodec, Spill};
use crate::state::StateError;

/// What the operator has in the store, by start and end of windows.
pub(super) struct SpilledWindows {
    runs: SpilledRuns,
    /// of the keys
    fields: Vec<Field>,
    /// the window that is on its way out
    firing: Option<(Span, Left)>,
    /// rows taken in since memory was last measured
    unmeasured: usize,
    /// so many of them
    look_after: usize,
}

impl SpilledWindows {
    fn new(spill: Spill, spec: &TopSpec) -> Result<Self, OperatorError> {
        let fields = spec.input.arrow().fields().iter().map(AsRef::as_ref);
        let codec = RowCodec::new(fields).map_err(|error| internal(&error))?;
        let fields = spec.keys.iter().filter_map(|key| spec.input.fields().get(*key).cloned()).collect();
        Ok(Self { runs: SpilledRuns::new(spill, vec![codec]), fields, firing: None, unmeasured: 0, look_after: 0 })
    }

    /// What is in the store as of now.
    pub(super) fn freeze(&self) -> Option<FrozenRuns> {
        self.runs.freeze()
    }

    /// Whether a window has rows in the store.
    pub(super) fn has(&self, (end, start): (EventTime, EventTime)) -> bool {
        self.runs.has((start, end))
    }

    /// Writes the rows of a window, which has none in memory then.
    fn write(&mut self, span: Span, kept: &mut Kept, spec: &TopSpec) -> Result<(), OperatorError> {
        let Kept { batches, .. } = std::mem::take(kept);
        self.runs.write_rows(span, 0, &batches, |batch: &RecordBatch| {
            let keys: Vec<_> = spec.keys.iter().filter_map(|key| batch.columns().get(*key)).collect();
            partitions_of(&self.fields, &keys, batch.num_rows())
        })
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        self.batches.iter().map(bytes_of).sum()
    }
}

impl Top {
    /// The same with a bound of memory.
    pub fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        self.spilled = spill.map(|spill| SpilledWindows::new(spill, &self.spec)).transpose()?.map(Box::new);
        Ok(self)
    }

    #[cfg(test)]
    pub(super) fn entries_spilled(&self) -> usize {
        self.spilled.as_ref().map_or(0, |spilled| spilled.runs.entries())
    }

    /// Bytes of the rows that are in memory.
    pub(super) fn state_bytes(&self) -> usize {
        self.kept.values().map(Kept::bytes).sum()
    }

    /// Writes what is in memory to the store if it is too much. `rows` have come in.
    pub(super) fn spill_if_over(&mut self, rows: usize) -> Result<(), OperatorError> {
        let Some(mut bytes) = self.state_bytes_now_and_then(rows) else { return Ok(()) };
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        if spilled.runs.is_over(bytes) {
            for kept in self.kept.values_mut().filter(|kept| kept.rows > kept.least) {
                cut(&self.spec, kept)?;
            }
            bytes = self.kept.values().map(Kept::bytes).sum();
            if bytes > spilled.runs.memory_bytes() / 2 {
                for ((end, start), kept) in &mut self.kept {
                    spilled.write((*start, *end), kept, &self.spec)?;
                }
                bytes = 0;
            }
        }
        spilled.runs.report(bytes);
        Ok(())
    }

    /// Looking at all batches takes time by their number, so there are rows between two looks; none where they have not been looked at.
    fn state_bytes_now_and_then(&mut self, rows: usize) -> Option<usize> {
        let spilled = self.spilled.as_mut()?;
        spilled.unmeasured += rows;
        if spilled.unmeasured < spilled.look_after {
            return None;
        }
        spilled.unmeasured = 0;
        spilled.look_after = self.kept.values().map(|kept| kept.batches.len()).sum::<usize>() / LOOKS_A_ROW;
        Some(self.state_bytes())
    }

    /// Puts out some partitions of a window; true if they were the last.
    pub(super) fn put_out_part(
        &mut self,
        window: (EventTime, EventTime),
        out: &mut Output,
    ) -> Result<bool, OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(true) };
        let span = (window.1, window.0);
        let mut left = match spilled.firing.take().filter(|(firing, _)| *firing == span) {
            Some((_, left)) => left,
            None => {
                if let Some(kept) = self.kept.get_mut(&window) {
                    spilled.write(span, kept, &self.spec)?;
                }
                let mut partitions = BTreeSet::new();
                spilled.runs.partitions(span, &mut partitions);
                spilled.runs.left(partitions, spilled.runs.bytes_of(span))
            }
        };
        let mut kept = Kept::default();
        if let Some(partitions) = left.next() {
            for run in spilled.runs.read(span, &partitions)? {
                let rows = RecordBatch::try_new(self.spec.input.arrow().clone(), spilled.runs.columns(0, [&run])?);
                keep_in(&self.spec, &mut kept, rows.map_err(|error| internal(&StateError::Arrow(error)))?)?;
            }
        }
        let done = left.is_empty();
        if done {
            spilled.runs.forget(span)?;
        } else {
            spilled.firing = Some((span, left));
        }
        self.put_out(window, kept, out)?;
        Ok(done)
    }
}
