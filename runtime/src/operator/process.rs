//! `process`: a guest that handles rows key by key, with state and timers.
//!
//! Rows of a batch are numbered by key, the guest gets the state of these keys with the rows, and what it answers is
//! written back at once or, where the call fails, not at all. Timers of event time fire when a watermark reaches them,
//! before it is forwarded, timers of processing time when the host's clock does.
//!
//! - Results of rows carry the time of their row, results of timers of event time that of the timer. Those of processing
//!   time carry 1 ms after the watermark, the earliest time that no window takes for late.
//! - State is bounded by the keys that have state or timers: keys without either are forgotten.
//! - A timer that fails goes to the dead-letter output with its key and time, and does not fire again.

mod handler;
mod results;

use std::time::Duration;

use self::handler::{Handler, Moment};
use self::results::Results;
use super::aggregate_fold::{Groups, internal};
use super::isolate::Isolation;
use super::process_state::KeyedState;
use super::process_timers::Timers;
use super::saved_table::SavedTable;
use super::window_aggregate_parts::COMPACT_FROM_KEYS;
use super::{KeptColumns, OnError, Operator, OperatorError, Output, Replacement};
use crate::clock::Clock;
use crate::limits;
use crate::record::{Batch, Field, Schema, Watermark};
use crate::state::{Snapshot, StateError};
use crate::wasm::{Guest, TimerClock};

/// What a [`ProcessStep`] is made of.
pub struct ProcessSpec {
    /// columns of each input, one or two
    pub inputs: Vec<Schema>,
    /// for each input the positions of its key columns, of the same kinds in the same order
    pub keys: Vec<Vec<usize>>,
    /// for each further output of the guest the number under which the step puts it out, if anybody reads it
    pub sides: Vec<Option<usize>>,
    /// after how long without being written state is dropped
    pub state_ttl: Option<Duration>,
    /// what happens to rows and timers that fail
    pub on_error: OnError,
    /// what time it is
    pub clock: Clock,
}

/// The operator.
pub struct ProcessStep {
    spec: ProcessSpec,
    handler: Handler,
    watermark: Watermark,
    /// timers of this clock up to this time have yet to fire
    firing: Option<(TimerClock, i64, Moment)>,
    /// look for keys to forget when there are so many
    compact_at: usize,
}

fn bug(reason: impl Into<String>) -> OperatorError {
    OperatorError::Internal { reason: reason.into() }
}

/// The key columns of all inputs, with the names of the first.
fn key_schema(spec: &ProcessSpec) -> Result<Schema, OperatorError> {
    let count = spec.keys.first().map_or(0, Vec::len);
    let mut fields = Vec::with_capacity(count);
    for at in 0..count {
        let of_input = |(schema, keys): (&Schema, &Vec<usize>)| schema.fields().get(*keys.get(at)?).cloned();
        let all: Option<Vec<Field>> = spec.inputs.iter().zip(&spec.keys).map(of_input).collect();
        let all = all.ok_or_else(|| bug("a key column is not there"))?;
        let first = all.first().cloned().ok_or_else(|| bug("a processor without input"))?;
        if all.iter().any(|field| field.kind != first.kind) {
            return Err(bug(format!("key `{}` is of another kind in the other input", first.name)));
        }
        fields.push(Field { nullable: all.iter().any(|field| field.nullable), ..first });
    }
    Ok(Schema::new(fields))
}

impl ProcessStep {
    /// An operator without state.
    pub fn new(guest: Guest, spec: ProcessSpec) -> Result<Self, OperatorError> {
        let state = guest.signature().state.as_ref().map(|state| state.fields.clone());
        let state = state.ok_or_else(|| bug("a processor without state"))?;
        let ttl_ms = spec.state_ttl.map(|ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let state = KeyedState::new(key_schema(&spec)?, state, ttl_ms)?;
        let mut handler = Handler {
            guest,
            reads: Vec::new(),
            known: Vec::new(),
            state,
            timers: Timers::default(),
            chained: 0,
            chained_max: limits::TIMERS_CHAINED,
            slots: Vec::new(),
            groups: Groups::new(),
        };
        handler.find_columns(&spec)?;
        Ok(Self { spec, handler, watermark: Watermark::MIN, firing: None, compact_at: COMPACT_FROM_KEYS })
    }

    /// Keys that are held at the moment.
    pub fn keys_held(&self) -> usize {
        self.handler.state.table.len()
    }

    fn moment(&mut self) -> Moment {
        let now_ms = self.spec.clock.now_ms();
        self.handler.state.sweep(now_ms);
        Moment { now_ms, watermark: self.watermark }
    }

    /// Handles the timers of `clock` that are due at `until`, and those that handling them makes due, until as much has been
    /// put out as may be at once.
    fn fire(&mut self, clock: TimerClock, until: i64, moment: Moment, out: &mut Output) -> Result<(), OperatorError> {
        self.firing = None;
        let most = limits::BATCH_ROWS.min(out.rows_at_once);
        while self.handler.timers.begin(clock, until, most) {
            let mut results = Results::default();
            loop {
                let round = self.handler.timers.round();
                if round.is_empty() {
                    break;
                }
                let batch = self.handler.as_rows(&round, clock)?;
                let handler = &mut self.handler;
                let mut pass = |piece: &Batch| handler.timers_of(piece, clock, until, moment, &mut results);
                Isolation { on_error: self.spec.on_error, out: &mut *out }.run(&batch, &mut pass)?;
            }
            self.put_out(results.in_order_of_time()?, out);
            if out.is_full() {
                self.firing = Some((clock, until, moment));
                return Ok(());
            }
        }
        self.forget_keys()
    }

    fn put_out(&self, results: Results, out: &mut Output) {
        out.batches.extend(results.main);
        for (side, batch) in results.sides {
            if let Some(output) = self.spec.sides.get(side).copied().flatten() {
                out.sides.push((output, batch));
            }
        }
    }

    /// Forgets keys that have neither state nor timers, once they may be half of all.
    fn forget_keys(&mut self) -> Result<(), OperatorError> {
        let Handler { state, timers, .. } = &mut self.handler;
        if state.table.len() < self.compact_at {
            return Ok(());
        }
        let live = |state: &KeyedState, slot: u32| state.has(slot) || timers.has(slot);
        let all = state.table.len();
        let kept = (0..all as u32).filter(|slot| live(state, *slot)).count();
        if kept * 2 <= all {
            let moves = state.retain(live).map_err(|error| internal(&error))?;
            timers.renumber(&moves);
        }
        self.compact_at = COMPACT_FROM_KEYS.max(kept * 2);
        Ok(())
    }
}

impl ProcessStep {
    /// What a snapshot holds: state and timers.
    fn saved_tables(&self) -> [SavedTable; 2] {
        let keys = self.handler.state.keys.fields();
        let of = |name, schema: Schema| {
            let rest = schema.arrow().fields().iter().skip(keys.len()).map(|field| field.as_ref().clone());
            SavedTable::new(name, keys, rest.collect::<Vec<_>>())
        };
        [of("state", self.handler.state.table_schema()), of("timers", self.handler.timer_schema())]
    }
}

impl Operator for ProcessStep {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(0, batch, out)
    }

    fn on_input(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let moment = self.moment();
        let keys = self.spec.keys.get(input).ok_or_else(|| bug(format!("a processor has no input {input}")))?;
        let (handler, mut results) = (&mut self.handler, Results::default());
        let mut pass = |piece: &Batch| handler.rows_of(piece, input, keys, moment, &mut results);
        Isolation { on_error: self.spec.on_error, out: &mut *out }.run(&batch, &mut pass)?;
        self.put_out(results, out);
        self.forget_keys()
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = watermark;
        let moment = self.moment();
        self.handler.chained = 0;
        self.fire(TimerClock::Event, watermark.0, moment, out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let Some((clock, until, moment)) = self.firing else { return Ok(false) };
        self.fire(clock, until, moment, out)?;
        Ok(true)
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.handler.timers.first(TimerClock::Processing)
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        let moment = Moment { now_ms, ..self.moment() };
        self.handler.chained = 0;
        self.fire(TimerClock::Processing, now_ms, moment, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        let keys = Some(self.handler.state.keys.fields().len());
        let state = self.handler.state.rows().map_err(|error| internal(&error))?;
        let timers = self.handler.timer_rows().map_err(|error| internal(&error))?;
        Ok(Snapshot::default().with("state", keys, state).with("timers", keys, timers))
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        let refused = |error: StateError| OperatorError::Internal { reason: error.to_string() };
        self.watermark = watermark;
        let [kept, timers] = self.saved_tables();
        let rows_of_timers = timers.rows_beside(state, &[&kept])?;
        for rows in kept.rows_beside(state, &[&timers])? {
            self.handler.state.restore(rows).map_err(refused)?;
        }
        for rows in rows_of_timers {
            self.handler.restore_timers(rows).map_err(refused)?;
        }
        Ok(())
    }

    fn kept_columns(&self, _slot: usize) -> Option<KeptColumns> {
        Some(KeptColumns { table: "state", prefix: "state.".to_owned() })
    }

    fn replace(&mut self, _slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.handler.guest = replacement.guest;
        self.handler.find_columns(&self.spec)
    }
}

#[cfg(test)]
mod tests;
