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

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray, UInt32Array,
};
use arrow_buffer::ScalarBuffer;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;

use super::aggregate_fold::{Groups, internal};
use super::isolate::{Failed, Isolation};
use super::process_state::KeyedState;
use super::process_timers::{Due, Timers};
use super::window_aggregate_parts::COMPACT_FROM_KEYS;
use super::window_aggregate_slice::Rows;
use super::{OnError, Operator, OperatorError, Output, Replacement};
use crate::clock::Clock;
use crate::limits;
use crate::record::{Batch, EventTime, Field, Kind, NO_EVENT_TIME, Schema, Watermark};
use crate::state::{Snapshot, StateError, check_rows};
use crate::wasm::{Guest, ProcessCall, Processed, SideRows, TimerClock, Work};

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
    /// look for keys to forget when there are so many
    compact_at: usize,
}

/// The guest, and all that a call reads and changes.
struct Handler {
    guest: Guest,
    /// for each input the columns that the guest reads
    reads: Vec<Vec<usize>>,
    /// key columns that the guest wants to know
    known: Vec<usize>,
    state: KeyedState,
    timers: Timers,
    /// timers that handlers have set and that were due at once, since the last watermark
    chained: usize,
    /// how many of these there may be, beside some for each key
    chained_max: usize,
    slots: Vec<u32>,
    groups: Groups,
}

/// Batches of the main output, and of each further output of the guest.
#[derive(Default)]
struct Results {
    main: Vec<Batch>,
    sides: Vec<(usize, Batch)>,
}

/// Where in time a call stands.
#[derive(Clone, Copy)]
struct Moment {
    now_ms: i64,
    watermark: Watermark,
}

fn bug(reason: impl Into<String>) -> OperatorError {
    OperatorError::Internal { reason: reason.into() }
}

/// Columns of the schema, by name.
fn positions(schema: &Schema, wanted: &Schema) -> Result<Vec<usize>, OperatorError> {
    let position = |field: &Field| {
        schema
            .index_of(&field.name)
            .ok_or_else(|| bug(format!("a processor reads `{}`, which is not there", field.name)))
    };
    wanted.fields().iter().map(position).collect()
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
        Ok(Self { spec, handler, watermark: Watermark::MIN, compact_at: COMPACT_FROM_KEYS })
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

    /// Handles all timers of `clock` that are due at `until`, and those that handling them makes due.
    fn fire(&mut self, clock: TimerClock, until: i64, moment: Moment, out: &mut Output) -> Result<(), OperatorError> {
        self.handler.chained = 0;
        while self.handler.timers.begin(clock, until, limits::BATCH_ROWS) {
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

impl Handler {
    fn find_columns(&mut self, spec: &ProcessSpec) -> Result<(), OperatorError> {
        let signature = self.guest.signature();
        let process = signature.process.as_ref().ok_or_else(|| bug("the component is no processor"))?;
        let mut reads = Vec::new();
        for (schema, wanted) in spec.inputs.iter().zip([Some(&signature.inputs), process.second.as_ref()]) {
            reads.push(match wanted {
                Some(wanted) => positions(schema, wanted)?,
                None => return Err(bug("a processor of one input has two")),
            });
        }
        self.known = positions(&self.state.keys, &process.keys)?;
        self.reads = reads;
        Ok(())
    }

    /// Timers as rows: the columns of the key, when the timer was to fire, and by which clock.
    fn as_rows(&self, due: &[Due], clock: TimerClock) -> Result<Batch, OperatorError> {
        let slots: Vec<u32> = due.iter().map(|(_, slot)| *slot).collect();
        let times: Vec<i64> = due.iter().map(|(time_ms, _)| *time_ms).collect();
        let mut columns = self.state.table.keys(&slots).map_err(|error| internal(&error))?;
        columns.push(Arc::new(TimestampMillisecondArray::from(times.clone())));
        let name = match clock {
            TimerClock::Event => "event_timer",
            TimerClock::Processing => "processing_timer",
        };
        let mut fields = self.state.keys.fields().to_vec();
        fields.push(Field::new(name, Kind::TimestampMs));
        let columns = RecordBatch::try_new(Schema::new(fields).arrow().clone(), columns);
        let columns = columns.map_err(|error| bug(error.to_string()))?;
        Batch::new(columns, ScalarBuffer::from(times)).ok_or_else(|| bug("timers and times differ"))
    }

    /// Numbers the keys of rows by their key columns.
    fn number(&mut self, keys: &[&ArrayRef], rows: usize) -> Result<(), OperatorError> {
        self.state.slots(keys, rows, &mut self.slots).map_err(|error| internal(&error))?;
        self.groups.assign(Rows::new(&self.slots, None, self.state.table.len()));
        Ok(())
    }

    /// One call for rows of input `port`: all of it happens, or nothing.
    fn rows_of(
        &mut self,
        piece: &Batch,
        port: usize,
        keys: &[usize],
        moment: Moment,
        results: &mut Results,
    ) -> Result<(), Failed> {
        let keys: Vec<&ArrayRef> = keys.iter().map(|key| piece.column(*key)).collect();
        self.number(&keys, piece.rows())?;
        let reads = self.reads.get(port).map(Vec::as_slice).unwrap_or_default();
        let input = piece.columns().project(reads).map_err(|error| bug(error.to_string()))?;
        let groups = std::mem::take(&mut self.groups.groups);
        let work = Work::Rows { port, groups: &groups, times: piece.times(), input: &input };
        let done = self.call(work, moment);
        self.groups.groups = groups;
        self.apply(done?, piece.times(), None, moment, results)
    }

    /// One call for timers: all of it happens, or nothing.
    fn timers_of(
        &mut self,
        piece: &Batch,
        clock: TimerClock,
        until: i64,
        moment: Moment,
        results: &mut Results,
    ) -> Result<(), Failed> {
        let keys: Vec<&ArrayRef> = piece.columns().columns().iter().take(self.state.keys.fields().len()).collect();
        self.number(&keys, piece.rows())?;
        let groups = std::mem::take(&mut self.groups.groups);
        let done = self.call(Work::Timers { groups: &groups, times: piece.times(), clock }, moment);
        self.groups.groups = groups;
        let times = match clock {
            TimerClock::Event => piece.times().clone(),
            TimerClock::Processing => vec![earliest_in_time(moment.watermark); piece.rows()].into(),
        };
        self.apply(done?, &times, Some((clock, until)), moment, results)
    }

    fn call(&mut self, work: Work<'_>, moment: Moment) -> Result<Processed, Failed> {
        let slots = &self.groups.slots;
        let present = self.state.present(slots, moment.now_ms);
        let with_state: Vec<u32> =
            slots.iter().zip(&present).filter(|(_, present)| **present == 1).map(|(slot, _)| *slot).collect();
        let state = self.state.gather(&with_state).map_err(|error| internal(&error))?;
        let known = if self.known.is_empty() {
            Vec::new()
        } else {
            self.state.table.keys(slots).map_err(|error| internal(&error))?
        };
        let fields: Vec<Field> =
            self.known.iter().filter_map(|key| self.state.keys.fields().get(*key).cloned()).collect();
        let columns: Vec<ArrayRef> = self.known.iter().filter_map(|key| known.get(*key).cloned()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        let keys = RecordBatch::try_new_with_options(Schema::new(fields).arrow().clone(), columns, &options)
            .map_err(|error| bug(error.to_string()))?;
        let call = ProcessCall {
            now_ms: moment.now_ms,
            watermark_ms: moment.watermark.0,
            keys: &keys,
            present: &present,
            state: &state,
            work,
        };
        Ok(self.guest.process(&call)?)
    }

    /// Writes back what a call answered. `firing`: the clock and time whose timers are being handled.
    fn apply(
        &mut self,
        done: Processed,
        times: &[i64],
        firing: Option<(TimerClock, i64)>,
        moment: Moment,
        results: &mut Results,
    ) -> Result<(), Failed> {
        let Self { state, timers, groups, .. } = self;
        let slots = &groups.slots;
        state.write(slots, &done.state, &done.present, moment.now_ms).map_err(|error| internal(&error))?;
        let slot = |group: u32| slots.get(group as usize).copied().unwrap_or_default();
        for timer in done.deleted {
            timers.delete(slot(timer.group), timer.time_ms, timer.clock);
        }
        for timer in done.set {
            let due = firing.is_some_and(|(clock, until)| clock == timer.clock && timer.time_ms <= until);
            let is_new = timers.set(slot(timer.group), timer.time_ms, timer.clock);
            self.chained += usize::from(due && is_new);
        }
        self.check_timers(firing)?;
        results.main.extend(with_times(done.output, &done.origin, times)?);
        for SideRows { side, origin, rows } in done.sides {
            results.sides.extend(with_times(rows, &origin, times)?.map(|batch| (side, batch)));
        }
        Ok(())
    }

    /// Timers without end would take the memory of the host, or hold its task for ever.
    fn check_timers(&self, firing: Option<(TimerClock, i64)>) -> Result<(), OperatorError> {
        if self.timers.len() > limits::TIMERS_PER_TASK {
            let reason = format!("it has set more than {} timers in one task", limits::TIMERS_PER_TASK);
            return Err(OperatorError::Contract { reason });
        }
        let most = self.chained_max + limits::TIMERS_CHAINED_PER_KEY * self.state.table.len();
        if self.chained <= most {
            return Ok(());
        }
        let when = match firing {
            Some((TimerClock::Event, i64::MAX)) => {
                "at the end of the input, where the watermark is the greatest there is: do not set a timer again then"
            }
            _ => "at one time: set each timer later than that which fires",
        };
        Err(OperatorError::Contract { reason: format!("its timers set {} further ones {when}", self.chained) })
    }
}

/// The rows with the times of what they came from; nothing where there are none.
fn with_times(rows: RecordBatch, origin: &[u32], times: &[i64]) -> Result<Option<Batch>, OperatorError> {
    if rows.num_rows() == 0 {
        return Ok(None);
    }
    let times = origin.iter().map(|from| times.get(*from as usize).copied().unwrap_or(NO_EVENT_TIME));
    Batch::new(rows, times.collect()).map(Some).ok_or_else(|| bug("rows and origins differ"))
}

/// The earliest event time that is not late.
fn earliest_in_time(watermark: Watermark) -> EventTime {
    if watermark == Watermark::MIN { NO_EVENT_TIME } else { watermark.0.saturating_add(1) }
}

impl Results {
    /// What several rounds gave, by time; rows of one time stay in the order of the rounds.
    fn in_order_of_time(self) -> Result<Self, OperatorError> {
        let mut ordered = Self { main: by_time(self.main)?.into_iter().collect(), sides: Vec::new() };
        let mut sides: Vec<(usize, Vec<Batch>)> = Vec::new();
        for (side, batch) in self.sides {
            match sides.iter_mut().find(|(known, _)| *known == side) {
                Some((_, batches)) => batches.push(batch),
                None => sides.push((side, vec![batch])),
            }
        }
        for (side, batches) in sides {
            ordered.sides.extend(by_time(batches)?.map(|batch| (side, batch)));
        }
        Ok(ordered)
    }
}

/// Batches as one, by time.
fn by_time(batches: Vec<Batch>) -> Result<Option<Batch>, OperatorError> {
    if batches.len() <= 1 {
        return Ok(batches.into_iter().next());
    }
    let arrow = |error: arrow_schema::ArrowError| bug(error.to_string());
    let Some(schema) = batches.first().map(|batch| batch.columns().schema()) else { return Ok(None) };
    let rows = concat_batches(&schema, batches.iter().map(Batch::columns)).map_err(arrow)?;
    let times: Vec<i64> = batches.iter().flat_map(|batch| batch.times().iter().copied()).collect();
    let mut order: Vec<u32> = (0..times.len() as u32).collect();
    order.sort_by_key(|row| times.get(*row as usize).copied());
    let times = order.iter().filter_map(|row| times.get(*row as usize).copied()).collect();
    let rows = take_record_batch(&rows, &UInt32Array::from(order)).map_err(arrow)?;
    Ok(Batch::new(rows, times))
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
        self.fire(TimerClock::Event, watermark.0, moment, out)
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.handler.timers.first(TimerClock::Processing)
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        let moment = Moment { now_ms, ..self.moment() };
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
        for rows in state.rows("state") {
            self.handler.state.restore(rows).map_err(refused)?;
        }
        for rows in state.rows("timers") {
            self.handler.restore_timers(rows).map_err(refused)?;
        }
        Ok(())
    }

    fn replace(&mut self, _slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.handler.guest = replacement.guest;
        self.handler.find_columns(&self.spec)
    }
}

impl Handler {
    fn timer_schema(&self) -> Schema {
        let mut fields = self.state.keys.fields().to_vec();
        fields.extend([Field::new("time_ms", Kind::Int64), Field::new("processing_time", Kind::Boolean)]);
        Schema::new(fields)
    }

    /// All timers: key columns, time, and whether it is processing time.
    fn timer_rows(&self) -> Result<Vec<RecordBatch>, StateError> {
        let schema = self.timer_schema();
        let mut batches = Vec::new();
        for clock in [TimerClock::Event, TimerClock::Processing] {
            let all: Vec<Due> = self.timers.all(clock).collect();
            for due in all.chunks(limits::BATCH_ROWS) {
                let slots: Vec<u32> = due.iter().map(|(_, slot)| *slot).collect();
                let mut columns = self.state.table.keys(&slots)?;
                columns.push(Arc::new(due.iter().map(|(time_ms, _)| *time_ms).collect::<Int64Array>()));
                columns.push(Arc::new(BooleanArray::from(vec![clock == TimerClock::Processing; due.len()])));
                batches.push(RecordBatch::try_new(schema.arrow().clone(), columns)?);
            }
        }
        Ok(batches)
    }

    fn restore_timers(&mut self, rows: &RecordBatch) -> Result<(), StateError> {
        check_rows(&self.timer_schema(), rows.num_rows(), rows)?;
        let keys: Vec<&ArrayRef> = rows.columns().iter().take(self.state.keys.fields().len()).collect();
        self.state.slots(&keys, rows.num_rows(), &mut self.slots)?;
        let mut rest = rows.columns().iter().skip(keys.len());
        let times = rest.next().and_then(|column| column.as_primitive_opt::<Int64Type>());
        let clocks = rest.next().and_then(|column| column.as_boolean_opt());
        let (Some(times), Some(clocks)) = (times, clocks) else { return Ok(()) };
        for ((slot, time_ms), processing) in self.slots.iter().zip(times.values()).zip(clocks.values()) {
            let clock = if processing { TimerClock::Processing } else { TimerClock::Event };
            self.timers.set(*slot, *time_ms, clock);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
