//! The guest of a processor, and all that a call reads and changes.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow_buffer::ScalarBuffer;

use super::results::{Results, earliest_in_time, with_times};
use super::{ProcessSpec, bug};
use crate::limits;
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::{Groups, internal};
use crate::operator::isolate::Failed;
use crate::operator::process_state::KeyedState;
use crate::operator::process_timers::{Due, Timers};
use crate::operator::window_aggregate_slice::Rows;
use crate::record::{Batch, Field, Kind, Schema, Watermark};
use crate::state::{StateError, check_rows};
use crate::wasm::{Guest, ProcessCall, Processed, SideRows, TimerClock, Work};

/// The guest, and all that a call reads and changes.
pub(super) struct Handler {
    pub(super) guest: Guest,
    /// for each input the columns that the guest reads
    pub(super) reads: Vec<Vec<usize>>,
    /// key columns that the guest wants to know
    pub(super) known: Vec<usize>,
    pub(super) state: KeyedState,
    pub(super) timers: Timers,
    /// timers that handlers have set and that were due at once, since the last watermark
    pub(super) chained: usize,
    /// how many of these there may be, beside some for each key
    pub(super) chained_max: usize,
    /// keys that there were at the last watermark, in memory or not
    pub(super) keys_then: usize,
    pub(super) slots: Vec<u32>,
    pub(super) groups: Groups,
    /// timers of keys that are about to leave memory, by slot
    pub(super) leaving: Vec<(u32, i64, TimerClock)>,
}

/// Where in time a call stands.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) now_ms: i64,
    pub(super) watermark: Watermark,
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

impl Handler {
    pub(super) fn find_columns(&mut self, spec: &ProcessSpec) -> Result<(), OperatorError> {
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
    pub(super) fn as_rows(&self, due: &[Due], clock: TimerClock) -> Result<Batch, OperatorError> {
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
    pub(super) fn number(&mut self, keys: &[&ArrayRef], rows: usize) -> Result<(), OperatorError> {
        self.state.slots(keys, rows, &mut self.slots).map_err(|error| internal(&error))?;
        self.groups.assign(Rows::new(&self.slots, None, self.state.table.len()));
        Ok(())
    }

    /// One call for rows of input `port`: all of it happens, or nothing.
    pub(super) fn rows_of(
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
    pub(super) fn timers_of(
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

    pub(super) fn call(&mut self, work: Work<'_>, moment: Moment) -> Result<Processed, Failed> {
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
    pub(super) fn apply(
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
    pub(super) fn check_timers(&self, firing: Option<(TimerClock, i64)>) -> Result<(), OperatorError> {
        if self.timers.len() > limits::TIMERS_PER_TASK {
            let reason = format!("it has set more than {} timers in one task", limits::TIMERS_PER_TASK);
            return Err(OperatorError::Contract { reason });
        }
        let keys = self.keys_then.max(self.state.table.len());
        let most = self.chained_max.saturating_add(limits::TIMERS_CHAINED_PER_KEY.saturating_mul(keys));
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

impl Handler {
    pub(super) fn timer_schema(&self) -> Schema {
        let mut fields = self.state.keys.fields().to_vec();
        fields.extend([Field::new("time_ms", Kind::Int64), Field::new("processing_time", Kind::Boolean)]);
        Schema::new(fields)
    }

    pub(super) fn restore_timers(&mut self, rows: &RecordBatch) -> Result<(), StateError> {
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
