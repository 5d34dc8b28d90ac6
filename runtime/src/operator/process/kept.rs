//! What a processor keeps, put away and taken up again: for a checkpoint, and where it does not fit into memory.
//!
//! Two tables: `state` (key columns, state columns, when it was written) and `timers` (key columns, time, which clock).

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};

use super::handler::Handler;
use super::{ProcessStep, bug};
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::internal;
use crate::operator::process_state::{FrozenState, digest};
use crate::operator::process_timers::Due;
use crate::operator::saved_table::SavedTable;
use crate::operator::spilled_keys::{ByKey, SpilledKeys, Wake, Wakes};
use crate::record::{Schema, Watermark};
use crate::spill::Spill;
use crate::state::{KeyTable, Later, Leaf, Snapshot, StateError};
use crate::wasm::TimerClock;

/// Leaves of timers that are one block of a snapshot.
const BLOCK_LEAVES: usize = 16;

/// Timers as they were.
struct FrozenTimers {
    clock: TimerClock,
    leaves: Vec<Leaf<Due>>,
}

impl FrozenTimers {
    fn id(&self, numbering: u64) -> u128 {
        let mut marks = vec![numbering, u64::from(self.clock == TimerClock::Processing)];
        marks.extend(self.leaves.iter().map(Leaf::number));
        digest(&marks)
    }
}

/// Rows of the table `timers`.
fn timer_rows(
    schema: &Schema,
    mut columns: Vec<ArrayRef>,
    timers: impl Iterator<Item = (i64, TimerClock)>,
) -> Result<RecordBatch, StateError> {
    let (times, processing): (Vec<i64>, Vec<bool>) =
        timers.map(|(time_ms, clock)| (time_ms, clock == TimerClock::Processing)).unzip();
    columns.push(Arc::new(Int64Array::from(times)));
    columns.push(Arc::new(BooleanArray::from(processing)));
    Ok(RecordBatch::try_new(schema.arrow().clone(), columns)?)
}

impl Handler {
    /// All timers of a clock as of now, some thousands in a block.
    fn frozen_timers(&mut self, clock: TimerClock, state: &Arc<FrozenState>) -> Vec<Later> {
        let schema = self.timer_schema();
        let leaves = self.timers.freeze(clock);
        let later = |leaves: &[Leaf<Due>]| {
            let frozen = Arc::new(FrozenTimers { clock, leaves: leaves.to_vec() });
            let (for_id, state, schema) = (Arc::clone(&frozen), Arc::clone(state), schema.clone());
            let numbering = state.numbering;
            let rows = move || {
                let timers = || frozen.leaves.iter().flat_map(|leaf| leaf.values());
                let slots: Vec<u32> = timers().map(|(_, slot)| *slot).collect();
                timer_rows(&schema, state.keys.keys(&slots)?, timers().map(|(time_ms, _)| (*time_ms, clock)))
            };
            Later::new(move || for_id.id(numbering), rows)
        };
        leaves.chunks(BLOCK_LEAVES).map(later).collect()
    }

    /// Timers of keys that are about to leave, in the order of their slots.
    fn leaving_of(&self, slots: &[u32]) -> &[(u32, i64, TimerClock)] {
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return &[] };
        let from = self.leaving.partition_point(|(slot, ..)| slot < first);
        let to = self.leaving.partition_point(|(slot, ..)| slot <= last);
        self.leaving.get(from..to).unwrap_or_default()
    }
}

impl ByKey for Handler {
    fn key_table(&self) -> &KeyTable {
        &self.state.table
    }

    fn leaving(&mut self, slots: &[u32]) {
        self.leaving.clear();
        for clock in [TimerClock::Event, TimerClock::Processing] {
            let all = self.timers.all(clock).filter(|(_, slot)| slots.binary_search(slot).is_ok());
            self.leaving.extend(all.map(|(time_ms, slot)| (slot, time_ms, clock)));
        }
        self.leaving.sort_by_key(|(slot, ..)| *slot);
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        let state = self.state.rows_of(slots).map_err(|error| internal(&error))?;
        let timers = self.leaving_of(slots);
        let of: Vec<u32> = timers.iter().map(|(slot, ..)| *slot).collect();
        let keys = self.state.table.keys(&of).map_err(|error| internal(&error))?;
        let timers = timers.iter().map(|(_, time_ms, clock)| (*time_ms, *clock));
        let timers = timer_rows(&self.timer_schema(), keys, timers).map_err(|error| internal(&error))?;
        Ok(vec![vec![state], vec![timers]])
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        let mut timers = self.leaving_of(slots).iter().peekable();
        let wakes = slots.iter().map(|slot| {
            let mut wakes = [None, None, self.state.expires(*slot)];
            while let Some((_, time_ms, clock)) = timers.next_if(|(of, ..)| of == slot) {
                let wake = if *clock == TimerClock::Event { Wake::Event } else { Wake::Processing };
                if let Some(first) = wakes.get_mut(wake as usize) {
                    *first = Some(first.map_or(*time_ms, |first| first.min(*time_ms)));
                }
            }
            wakes
        });
        wakes.collect()
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        self.leaving = Vec::new();
        let moves = self.state.retain(|_, slot| slots.binary_search(&slot).is_ok());
        let moves = moves.map_err(|error| internal(&error))?;
        self.timers.renumber(&moves);
        Ok(moves)
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        let [state, timers] = tables else { return Err(bug("a processor keeps state and timers")) };
        self.state.restore(state).map_err(|error| internal(&error))?;
        self.restore_timers(timers).map_err(|error| internal(&error))
    }

    fn state_bytes(&self) -> usize {
        self.state.bytes() + self.timers.bytes() + self.groups.bytes()
    }
}

/// Brings the keys of `handler.slots` back that are in the store; those from slot `known` on are new in memory.
pub(super) fn look_up(
    spilled: &mut Option<Box<SpilledKeys>>,
    handler: &mut Handler,
    known: usize,
) -> Result<(), OperatorError> {
    let Some(spilled) = spilled else { return Ok(()) };
    let slots = std::mem::take(&mut handler.slots);
    spilled.look_up(handler, known)?;
    spilled.note_used(&slots, known as u32..handler.state.table.len() as u32);
    handler.slots = slots;
    Ok(())
}

impl ProcessStep {
    pub(super) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        let [state, timers] = self.saved_tables();
        self.spilled = spill.map(|spill| SpilledKeys::new(spill, &[&state, &timers])).transpose()?.map(Box::new);
        Ok(self)
    }

    /// What a snapshot holds: state and timers.
    fn saved_tables(&self) -> [SavedTable; 2] {
        let keys = self.handler.state.keys.fields();
        let of = |name, schema: Schema| {
            let rest = schema.arrow().fields().iter().skip(keys.len()).map(|field| field.as_ref().clone());
            SavedTable::new(name, keys, rest.collect::<Vec<_>>())
        };
        [of("state", self.handler.state.table_schema()), of("timers", self.handler.timer_schema())]
    }

    pub(super) fn save(&mut self) -> Snapshot {
        let keys = Some(self.handler.state.keys.fields().len());
        let frozen = self.handler.state.freeze();
        let mut timers = self.handler.frozen_timers(TimerClock::Event, &frozen);
        timers.extend(self.handler.frozen_timers(TimerClock::Processing, &frozen));
        let mut tables = vec![frozen.blocks(), timers];
        if let Some(spilled) = &self.spilled {
            tables.iter_mut().zip(spilled.freeze()).for_each(|(table, spilled)| table.extend(spilled));
        }
        let mut tables = tables.into_iter();
        let state = Snapshot::default().with("state", keys, Vec::new()).with_later(tables.next().unwrap_or_default());
        state.with("timers", keys, Vec::new()).with_later(tables.next().unwrap_or_default())
    }

    pub(super) fn load_all(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        let refused = |error: StateError| OperatorError::Internal { reason: error.to_string() };
        self.watermark = watermark;
        let [kept, timers] = self.saved_tables();
        let rows_of_timers = timers.rows_beside(state, &[&kept])?;
        for rows in kept.rows_beside(state, &[&timers])? {
            self.handler.state.restore(rows).map_err(refused)?;
            self.spill_if_over(rows.num_rows())?;
        }
        for rows in rows_of_timers {
            if self.spilled.is_some() {
                let keys = self.handler.state.keys.fields().len();
                let keys: Vec<&ArrayRef> = rows.columns().iter().take(keys).collect();
                let known = self.handler.state.table.len();
                self.handler.number(&keys, rows.num_rows())?;
                look_up(&mut self.spilled, &mut self.handler, known)?;
            }
            self.handler.restore_timers(rows).map_err(refused)?;
            self.spill_if_over(rows.num_rows())?;
        }
        Ok(())
    }

    /// Brings keys back whose timers are due at `until`. `Some`: not all, but all with timers before this time.
    pub(super) fn bring_due(&mut self, clock: TimerClock, until: i64) -> Result<Option<i64>, OperatorError> {
        let wake = if clock == TimerClock::Event { Wake::Event } else { Wake::Processing };
        let Some(spilled) = &mut self.spilled else { return Ok(None) };
        spilled.bring_due(&mut self.handler, wake, until)
    }

    /// Brings keys back whose state has outlived its time, so that it is dropped; not all at once.
    pub(super) fn bring_expired(&mut self, now_ms: i64) -> Result<(), OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.bring_due(&mut self.handler, Wake::Expiry, now_ms).map(drop)
    }

    /// Keys leave memory if there are too many. `rows` have come in.
    pub(super) fn spill_if_over(&mut self, rows: usize) -> Result<(), OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.spill_if_over(&mut self.handler, rows)
    }
}
