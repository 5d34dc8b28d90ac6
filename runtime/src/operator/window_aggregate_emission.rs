//! Results of a window on their way out.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, TimestampMillisecondArray};

use super::aggregate_fold::{internal, take_out};
use super::key_window_aggregate::Places;
use super::window_aggregate_slice::{Aggregate, SliceState, State};
use super::{DeadRow, OperatorError, Output};
use crate::limits::BATCH_ROWS;
use crate::record::{Batch, EventTime, Schema};
use crate::state::{KeyTable, StateError};
use crate::wasm::RowFailure;
use crate::window::Slice;

/// Results on their way out.
pub(super) struct Emission<'a> {
    pub(super) head: &'a Schema,
    pub(super) output: &'a Schema,
    pub(super) table: &'a KeyTable,
    pub(super) aggregates: &'a mut [Aggregate],
    pub(super) state: &'a SliceState,
    pub(super) bounds: Bounds<'a>,
    pub(super) out: &'a mut Output,
}

/// Which windows results are of.
pub(super) enum Bounds<'a> {
    /// all of one; slots are those of keys
    One(Slice),
    /// by slot, each with its key
    Each {
        windows: &'a Places,
        /// results carry the end of time and not that of their window
        at_end: bool,
    },
}

impl Bounds<'_> {
    fn of(&self, slot: u32) -> Slice {
        match self {
            Self::One(bounds) => *bounds,
            Self::Each { windows, .. } => {
                windows.get(slot as usize).map_or(Slice { start: 0, end: 0 }, |window| window.bounds)
            }
        }
    }

    fn result_time(&self, slot: u32) -> EventTime {
        match self {
            Self::Each { at_end: true, .. } => EventTime::MAX,
            _ => self.of(slot).result_time(),
        }
    }
}

impl Emission<'_> {
    /// Puts out the results of `slots`, in batches of the usual size.
    pub(super) fn put_out_all(&mut self, slots: impl Iterator<Item = u32>) -> Result<(), OperatorError> {
        self.put_out_some(slots, usize::MAX).map(drop)
    }

    /// Puts out the results of `slots` until there are as many rows as may be put out at once; the last slot that is done
    /// if others may be left.
    pub(super) fn put_out_part(&mut self, slots: impl Iterator<Item = u32>) -> Result<Option<u32>, OperatorError> {
        self.put_out_some(slots, self.out.rows_at_once)
    }

    fn put_out_some(
        &mut self,
        mut slots: impl Iterator<Item = u32>,
        most: usize,
    ) -> Result<Option<u32>, OperatorError> {
        let at_once = most.clamp(1, BATCH_ROWS);
        let mut waiting = Vec::with_capacity(self.state.touched.min(at_once));
        loop {
            waiting.extend(slots.by_ref().take(at_once));
            let last = waiting.last().copied().filter(|_| waiting.len() == at_once);
            self.put_out(&mut waiting)?;
            if last.is_none() || most < usize::MAX && self.out.is_full() {
                return Ok(last);
            }
        }
    }

    /// Keys and window bounds of `slots`, and the times of their results.
    pub(super) fn heads(&self, slots: &[u32]) -> Result<(Vec<ArrayRef>, Vec<EventTime>), OperatorError> {
        Ok((self.head_columns(slots)?, slots.iter().map(|slot| self.bounds.result_time(*slot)).collect()))
    }

    /// Puts out the results of `slots` as one batch, and clears the list.
    fn put_out(&mut self, slots: &mut Vec<u32>) -> Result<(), OperatorError> {
        self.put_out_dead(slots)?;
        let results = loop {
            if slots.is_empty() {
                return Ok(());
            }
            let mut failed = Vec::new();
            let (results, component) = self.results(slots, &mut failed)?;
            if failed.is_empty() {
                break results;
            }
            // the others are asked for again, which changes no accumulator
            self.dead(take_out(slots, failed), component)?;
        };
        let mut columns = self.head_columns(slots)?;
        columns.extend(results);
        let columns = record_batch(self.output, columns)?;
        let times = slots.iter().map(|slot| self.bounds.result_time(*slot)).collect();
        self.out.batches.extend(Batch::new(columns, times));
        slots.clear();
        Ok(())
    }

    /// The results of `slots`, unless some of them `failed`: in the component whose slot is told then.
    fn results(
        &mut self,
        slots: &[u32],
        failed: &mut Vec<RowFailure>,
    ) -> Result<(Vec<ArrayRef>, Option<usize>), OperatorError> {
        let mut columns = Vec::new();
        for (slot, (aggregate, state)) in self.aggregates.iter_mut().zip(&self.state.states).enumerate() {
            match (aggregate, state) {
                (Aggregate::BuiltIn(built_in), State::BuiltIn(accumulators)) => {
                    let column = built_in.finish(accumulators, &self.state.rows, slots);
                    columns.push(column.map_err(|error| internal(&error))?);
                }
                (Aggregate::Fold(fold), State::Fold(accumulators)) => {
                    columns.extend(fold.finish(accumulators, slots, failed)?);
                    if !failed.is_empty() {
                        return Ok((columns, Some(slot)));
                    }
                }
                _ => return Err(OperatorError::Internal { reason: "state of another aggregate".into() }),
            }
        }
        Ok((columns, None))
    }

    /// Takes slots without a result off the list.
    fn put_out_dead(&mut self, slots: &mut Vec<u32>) -> Result<(), OperatorError> {
        let mut dead: Vec<(u32, String)> = Vec::new();
        if !self.state.failed.is_empty() {
            slots.retain(|slot| match self.state.failed.get(slot) {
                Some(reason) => {
                    dead.push((*slot, reason.clone()));
                    false
                }
                None => true,
            });
        }
        for (aggregate, state) in self.aggregates.iter().zip(&self.state.states) {
            if let (Aggregate::BuiltIn(built_in), State::BuiltIn(accumulators)) = (aggregate, state)
                && built_in.may_fail()
            {
                slots.retain(|slot| match built_in.failure(accumulators, *slot) {
                    Some(reason) => {
                        dead.push((*slot, reason));
                        false
                    }
                    None => true,
                });
            }
        }
        self.dead(dead, None)
    }

    /// Slots without a result, why, and which of several components has none: dead rows of keys and window bounds.
    fn dead(&mut self, slots: Vec<(u32, String)>, component: Option<usize>) -> Result<(), OperatorError> {
        for (slot, reason) in slots {
            let row = record_batch(self.head, self.head_columns(&[slot])?)?;
            self.out.dead.push(DeadRow { row, time: self.bounds.result_time(slot), reason, slot: component });
        }
        Ok(())
    }

    /// Keys and window bounds.
    fn head_columns(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, OperatorError> {
        let mut columns = match &self.bounds {
            Bounds::One(_) => self.table.keys(slots),
            Bounds::Each { windows, .. } => {
                let key = |slot: &u32| windows.get(*slot as usize).map_or(u32::MAX, |window| window.key);
                self.table.keys(&slots.iter().map(key).collect::<Vec<_>>())
            }
        }
        .map_err(|error| internal(&error))?;
        let bounds = || slots.iter().map(|slot| self.bounds.of(*slot));
        for times in [bounds().map(|bounds| bounds.start).collect(), bounds().map(|bounds| bounds.end).collect()] {
            let times: Vec<EventTime> = times;
            columns.push(Arc::new(TimestampMillisecondArray::from(times)));
        }
        Ok(columns)
    }
}

fn record_batch(schema: &Schema, columns: Vec<ArrayRef>) -> Result<RecordBatch, OperatorError> {
    RecordBatch::try_new(schema.arrow().clone(), columns).map_err(|error| internal(&StateError::Arrow(error)))
}
