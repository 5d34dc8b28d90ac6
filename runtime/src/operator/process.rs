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
mod kept;
mod results;

use std::time::Duration;

use arrow_array::ArrayRef;

use self::handler::{Handler, Moment};
use self::kept::look_up;
use self::results::Results;
use super::aggregate_fold::{Groups, internal};
use super::isolate::Isolation;
use super::process_state::KeyedState;
use super::process_timers::Timers;
use super::spilled_keys::SpilledKeys;
use super::sweep::{Left, MadeColumns, Sweeping};
use super::window_aggregate_parts::COMPACT_FROM_KEYS;
use super::{KeptColumns, OnError, Operator, OperatorError, Output, Replacement};
use crate::clock::Clock;
use crate::limits;
use crate::record::{Batch, Field, Schema, Watermark};
use crate::spill::Spill;
use crate::state::Snapshot;
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
    /// where state goes that does not fit into memory; none: it stays there
    pub spill: Option<Spill>,
}

/// The operator.
pub struct ProcessStep {
    spec: ProcessSpec,
    handler: Handler,
    watermark: Watermark,
    /// timers of this clock up to this time have yet to fire; first those in memory up to another, if that is there
    firing: Option<(TimerClock, i64, Moment, Option<i64>)>,
    /// look for keys to forget when there are so many
    compact_at: usize,
    /// keys that do not fit into memory, where that is bounded
    spilled: Option<Box<SpilledKeys>>,
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
            keys_then: 0,
            slots: Vec::new(),
            groups: Groups::new(),
            leaving: Vec::new(),
        };
        handler.find_columns(&spec)?;
        let spill = spec.spill.clone();
        let (watermark, compact_at) = (Watermark::MIN, COMPACT_FROM_KEYS);
        Self { spec, handler, watermark, firing: None, compact_at, spilled: None }.with_spill(spill)
    }

    /// Keys that are held at the moment.
    pub fn keys_held(&self) -> usize {
        self.handler.state.table.len()
    }

    fn moment(&mut self) -> Result<Moment, OperatorError> {
        let now_ms = self.spec.clock.now_ms();
        self.bring_expired(now_ms)?;
        self.handler.state.sweep(now_ms);
        Ok(Moment { now_ms, watermark: self.watermark })
    }

    /// Timers that are set from here on are counted, for the keys that there are.
    fn begin_to_fire(&mut self) {
        let spilled = self.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled());
        self.firing = None;
        self.handler.chained = 0;
        self.handler.keys_then =
            self.handler.state.table.len().saturating_add(usize::try_from(spilled).unwrap_or(usize::MAX));
    }

    /// Handles a part of the timers of `clock` that are due at `until`. False: no more may be put out at once.
    fn fire_part(
        &mut self,
        (clock, until, upto): (TimerClock, i64, i64),
        moment: Moment,
        out: &mut Output,
    ) -> Result<bool, OperatorError> {
        let mut fired = 0;
        let most = limits::BATCH_ROWS.min(out.rows_at_once);
        while self.handler.timers.begin(clock, upto, most) {
            let mut results = Results::default();
            loop {
                let round = self.handler.timers.round();
                if round.is_empty() {
                    break;
                }
                fired += round.len();
                let batch = self.handler.as_rows(&round, clock)?;
                let handler = &mut self.handler;
                let mut pass = |piece: &Batch| handler.timers_of(piece, clock, until, moment, &mut results);
                Isolation { on_error: self.spec.on_error, out: &mut *out }.run(&batch, &mut pass)?;
            }
            self.put_out(results.in_order_of_time()?, out);
            if out.is_full() {
                self.firing = Some((clock, until, moment, (upto < until).then_some(upto)));
                self.spill_if_over(fired)?;
                return Ok(false);
            }
        }
        self.spill_if_over(fired)?;
        Ok(true)
    }

    /// Handles the timers of `clock` that are due at `until`, and those that handling them makes due, until as much has been
    /// put out as may be at once.
    fn fire(&mut self, clock: TimerClock, until: i64, moment: Moment, out: &mut Output) -> Result<(), OperatorError> {
        // those that have come back and did not get their turn are worked off before others come
        let mut came = self.firing.take().and_then(|(.., came)| came);
        loop {
            // timers before the first that may still be in the store
            let more = match came.take() {
                Some(came) => Some(came),
                None => self.bring_due(clock, until)?,
            };
            if !self.fire_part((clock, until, more.unwrap_or(until)), moment, out)? {
                return Ok(());
            }
            if more.is_none() {
                return self.forget_keys();
            }
        }
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
        if state.table.len() < self.compact_at || state.is_swept() {
            return Ok(());
        }
        let live = |state: &KeyedState, slot: u32| state.has(slot) || timers.has(slot);
        let all = state.table.len();
        let kept = (0..all as u32).filter(|slot| live(state, *slot)).count();
        if kept * 2 <= all {
            let moves = state.retain(live).map_err(|error| internal(&error))?;
            timers.renumber(&moves);
            self.spilled.iter_mut().for_each(|spilled| spilled.renumber(&moves));
        }
        self.compact_at = COMPACT_FROM_KEYS.max(kept * 2);
        Ok(())
    }
}

impl Operator for ProcessStep {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(0, batch, out)
    }

    fn on_input(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let moment = self.moment()?;
        let keys = self.spec.keys.get(input).ok_or_else(|| bug(format!("a processor has no input {input}")))?;
        if self.spilled.is_some() {
            let keys: Vec<&ArrayRef> = keys.iter().map(|key| batch.column(*key)).collect();
            let known = self.handler.state.table.len();
            self.handler.number(&keys, batch.rows())?;
            look_up(&mut self.spilled, &mut self.handler, known)?;
        }
        let (handler, mut results) = (&mut self.handler, Results::default());
        let mut pass = |piece: &Batch| handler.rows_of(piece, input, keys, moment, &mut results);
        Isolation { on_error: self.spec.on_error, out: &mut *out }.run(&batch, &mut pass)?;
        self.put_out(results, out);
        self.spill_if_over(batch.rows())?;
        self.forget_keys()
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watermark = watermark;
        let moment = self.moment()?;
        self.begin_to_fire();
        self.fire(TimerClock::Event, watermark.0, moment, out)
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let Some((clock, until, moment, _)) = self.firing else { return Ok(false) };
        self.fire(clock, until, moment, out)?;
        Ok(true)
    }

    fn next_processing_time(&self) -> Option<i64> {
        let in_memory = self.handler.timers.first(TimerClock::Processing);
        let spilled = self.spilled.as_ref().and_then(|spilled| spilled.next_processing_time());
        in_memory.into_iter().chain(spilled).min()
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        let moment = Moment { now_ms, ..self.moment()? };
        self.begin_to_fire();
        self.fire(TimerClock::Processing, now_ms, moment, out)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        Ok(self.save())
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.load_all(state, watermark)
    }

    fn state_rows(&self) -> Option<u64> {
        let spilled = self.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled());
        Some(self.keys_held() as u64 + spilled)
    }

    fn kept_columns(&self, _slot: usize) -> Option<KeptColumns> {
        Some(KeptColumns { table: "state", prefix: "state.".to_owned() })
    }

    fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        Some(self.handler.state.sweeping().and_spilled(self.spilled.as_deref_mut()))
    }

    fn adopt(&mut self, slot: usize, replacement: Replacement, mut made: MadeColumns) -> Result<Left, OperatorError> {
        let state = replacement.guest.signature().state.as_ref().map(|state| state.fields.clone());
        let state = state.ok_or_else(|| bug("a processor without state"))?;
        let left = self.handler.state.adopt(state, made.whole()).map_err(|error| internal(&error))?;
        if let (Some(spilled), Some(rows)) = (&mut self.spilled, made.store) {
            spilled.adopt(rows);
        }
        self.replace(slot, replacement)?;
        Ok(Left(vec![left]))
    }

    fn replace(&mut self, _slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.handler.guest = replacement.guest;
        self.handler.find_columns(&self.spec)
    }
}

#[cfg(test)]
mod tests;
