//! What windowed aggregates have in common, whatever their windows: schemas, keys, aggregates and how rows go in.

use std::time::Duration;

use super::aggregate_built_in::BuiltIn;
use super::aggregate_fold::{FoldCall, Groups, internal};
use super::sweep::{Left, MadeColumns};
use super::window_aggregate_slice::{Aggregate, Rows, SliceState, State};
use super::{AggregateCall, AggregateColumns, Fold, OperatorError, Output, output_schema, rolling_schema};
use crate::clock::Clock;
use crate::record::{Batch, Schema};
use crate::spill::Spill;
use crate::state::KeyTable;
use crate::window::{Firing, Trigger, WindowSpec};

/// Fewer keys than this are not worth making the table anew, unless all are gone.
pub(super) const COMPACT_FROM_KEYS: usize = 1_024;

/// What a windowed aggregate is made of.
pub struct WindowAggregateSpec {
    /// columns of the rows that come
    pub input: Schema,
    /// positions of the key columns
    pub keys: Vec<usize>,
    /// the windows
    pub window: WindowSpec,
    /// how long after firing a window takes rows
    pub allowed_lateness: Duration,
    /// whether late rows are put out, as side output 0, beside being counted
    pub late: bool,
    /// position of the int64 column with the gap of sessions, where rows say it
    pub gap: Option<usize>,
    /// when an open window puts out results
    pub trigger: Trigger,
    /// what becomes of its rows then
    pub firing: Firing,
    /// for triggers that go by the host's clock
    pub clock: Clock,
    /// what is computed, in output order
    pub aggregates: Vec<AggregateCall>,
    /// where state goes that does not fit into memory; none: it stays there
    pub spill: Option<Spill>,
}

impl WindowAggregateSpec {
    /// Whether every window fires once, at its end, and again with all rows if late ones come.
    pub(super) fn fires_at_end_only(&self) -> bool {
        self.trigger == Trigger::End && self.firing == Firing::Accumulating
    }
}

type SchemaOf = fn(&Schema, &[usize], &[AggregateColumns<'_>]) -> Result<Schema, String>;

/// All of it but the windows.
pub(super) struct Parts {
    pub(super) input: Schema,
    pub(super) output: Schema,
    /// keys, and window bounds if there are windows: what is known of a result that could not be made
    pub(super) head: Schema,
    pub(super) keys: Vec<usize>,
    /// whether late rows are put out
    pub(super) late: bool,
    pub(super) table: KeyTable,
    pub(super) aggregates: Vec<Aggregate>,
}

impl Parts {
    pub(super) fn new(spec: WindowAggregateSpec) -> Result<Self, OperatorError> {
        let refused = |reason: String| OperatorError::Internal { reason };
        let input = spec.input;
        let columns: Vec<_> = spec.aggregates.iter().map(columns_of).collect();
        let (schema, bounds) =
            if spec.window.has_bounds() { (output_schema as SchemaOf, 2) } else { (rolling_schema as SchemaOf, 0) };
        let output = schema(&input, &spec.keys, &columns).map_err(refused)?;
        let head: Vec<_> = output.fields().iter().take(spec.keys.len() + bounds).cloned().collect();
        let mut aggregates = Vec::new();
        let mut at = head.len();
        for call in spec.aggregates {
            aggregates.push(match call {
                AggregateCall::BuiltIn { function, column, .. } => {
                    let result = output.fields().get(at).cloned();
                    let result = result.ok_or_else(|| refused("an aggregate without an output column".into()))?;
                    at += 1;
                    Aggregate::BuiltIn(BuiltIn::new(&input, function, column, result))
                }
                AggregateCall::Fold(fold) => {
                    let fold = FoldCall::new(fold, &input)?;
                    at += fold.output().fields().len();
                    Aggregate::Fold(fold)
                }
            });
        }
        let table = KeyTable::new(head.get(..spec.keys.len()).unwrap_or_default());
        Ok(Self { table, head: Schema::new(head), input, output, keys: spec.keys, late: spec.late, aggregates })
    }

    /// Puts another implementation in the place of aggregate `index`; `states` are all there are.
    pub(super) fn replace_fold<'a>(
        &mut self,
        index: usize,
        fold: Box<dyn Fold>,
        states: impl Iterator<Item = &'a mut SliceState>,
    ) -> Result<(), OperatorError> {
        let Some(Aggregate::Fold(old)) = self.aggregates.get_mut(index) else {
            let reason = format!("aggregate {index} of {} is not a component", self.aggregates.len());
            return Err(OperatorError::Internal { reason });
        };
        let new = FoldCall::new(fold, &self.input)?;
        for (what, old, new) in [("state", old.state(), new.state()), ("output", old.output(), new.output())] {
            if old != new {
                let reason = format!("its {what} columns are ({new}), those of the running version ({old})");
                return Err(OperatorError::Contract { reason });
            }
        }
        for state in states {
            let SliceState { rows, states, .. } = state;
            if let Some(State::Fold(columns)) = states.get_mut(index) {
                columns.set_initial(new.initial(), |slot| rows.get(slot).is_none_or(|rows| *rows == 0));
            }
        }
        *old = new;
        Ok(())
    }
}

impl Parts {
    /// As [`Parts::replace_fold`], where the other implementation keeps other state, which is `made`.
    pub(super) fn adopt_fold<'a>(
        &mut self,
        index: usize,
        fold: Box<dyn Fold>,
        states: impl Iterator<Item = &'a mut SliceState>,
        mut made: MadeColumns,
    ) -> Result<Left, OperatorError> {
        let Some(Aggregate::Fold(old)) = self.aggregates.get_mut(index) else {
            let reason = format!("aggregate {index} of {} is not a component", self.aggregates.len());
            return Err(OperatorError::Internal { reason });
        };
        let new = FoldCall::new(fold, &self.input)?;
        if old.output() != new.output() {
            let reason =
                format!("its output columns are ({}), those of the running version ({})", new.output(), old.output());
            return Err(OperatorError::Contract { reason });
        }
        let mut left = Vec::new();
        for state in states {
            let SliceState { slice, rows, states, swept, .. } = state;
            let mut columns = made.slices.remove(&slice.start).unwrap_or_else(|| new.accumulators());
            rows.chunks().for_each(|(chunk, _)| columns.allocate(chunk));
            columns.set_initial(new.initial(), |slot| rows.get(slot).is_none_or(|rows| *rows == 0));
            if let Some(State::Fold(place)) = states.get_mut(index) {
                left.push(std::mem::replace(place, columns));
            }
            *swept = None;
        }
        *old = new;
        Ok(Left(left))
    }
}

/// Takes rows of a batch into accumulators.
pub(super) fn accumulate(
    aggregates: &mut [Aggregate],
    state: &mut SliceState,
    batch: &Batch,
    rows: Rows<'_>,
    groups: &mut Groups,
    out: &mut Output,
) -> Result<(), OperatorError> {
    state.count(rows);
    if aggregates.iter().any(|aggregate| matches!(aggregate, Aggregate::Fold(_))) {
        groups.assign(rows);
        if let Some(swept) = &mut state.swept {
            swept.touch(&groups.slots);
        }
    }
    for (slot, (aggregate, state)) in aggregates.iter_mut().zip(&mut state.states).enumerate() {
        match (aggregate, state) {
            (Aggregate::BuiltIn(built_in), State::BuiltIn(accumulators)) => {
                built_in.accumulate(accumulators, batch, rows).map_err(|error| internal(&error))?;
            }
            (Aggregate::Fold(fold), State::Fold(columns)) => {
                let before = out.dead.len();
                fold.accumulate(columns, batch, rows, groups, out)?;
                out.dead.iter_mut().skip(before).for_each(|dead| dead.slot = Some(slot));
            }
            _ => return Err(OperatorError::Internal { reason: "state of another aggregate".into() }),
        }
    }
    Ok(())
}

fn columns_of(call: &AggregateCall) -> AggregateColumns<'_> {
    match call {
        AggregateCall::BuiltIn { output, function, column } => {
            AggregateColumns::BuiltIn { output, function: *function, column: *column }
        }
        AggregateCall::Fold(fold) => AggregateColumns::Fold(fold.output()),
    }
}
