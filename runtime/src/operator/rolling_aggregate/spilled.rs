//! Keys that do not fit into memory.
//!
//! Every row changes the accumulators of its key, so keys are read back one by one: those of a batch that are not in memory
//! are looked up before it is handled. When state takes more than its share of memory, the half of the keys that has gone
//! unused for longest is written to the store.
//!
//! ```text
//! key `k` · key bytes (see `state/key_rows.rs`)   value: key columns, `changed_at`, accumulators (see `spill/rows.rs`)
//! key `c` · key bytes                             no value: the key may have a result to come at the next watermark
//! ```
//!
//! A row stays in the store while its key is in memory and means nothing then.

use arrow_array::{Array, ArrayRef, UInt32Array};
use arrow_select::take::take;

use super::snapshot::value_fields;
use super::{Groups, OperatorError, RollingAggregate, internal};
use crate::limits::BATCH_ROWS;
use crate::spill::{RowCodec, Spill, Value};
use crate::state::{Chunked, KeyRows, NO_SLOT, StateError};

const ROW: u8 = b'k';
const CHANGED: u8 = b'c';

/// Keys with a result to come that are read back at once.
const CHANGED_AT_ONCE: usize = 4_096;

/// What the operator has in the store.
pub(super) struct SpilledKeys {
    spill: Spill,
    codec: RowCodec,
    keys: usize,
    /// rows written, as often as they were: none means that nothing needs to be looked up
    written: u64,
    /// of these, rows whose keys have come back into memory
    returned: u64,
    /// about
    bytes: u64,
    /// by slot: the batch that used it last
    used: Chunked<u32>,
    batch: u32,
    /// rows taken in since memory was last measured
    unmeasured: usize,
    encoded: KeyRows,
}

fn named(what: u8, key: &[u8]) -> Vec<u8> {
    let mut named = Vec::with_capacity(1 + key.len());
    named.push(what);
    named.extend_from_slice(key);
    named
}

impl SpilledKeys {
    /// Keys that are in the store alone.
    pub(super) fn keys_spilled(&self) -> u64 {
        self.written.saturating_sub(self.returned)
    }

    /// The keys of columns as bytes.
    fn encode(&mut self, of: &RollingAggregate, columns: &[ArrayRef], rows: usize) -> Result<(), OperatorError> {
        let columns: Vec<&ArrayRef> = columns.iter().collect();
        self.encoded.encode(of.parts.table.fields(), &columns, rows).map_err(|error| internal(&error))
    }

    /// Rows of the store as columns.
    fn read(&self, values: &[Value]) -> Result<Vec<ArrayRef>, OperatorError> {
        let area = &self.spill.area;
        let mut rows = self.codec.reader(values.len());
        for value in values {
            let read = rows.read(value).ok_or_else(|| area.damaged("a row ends too early"))?;
            read.map_err(|error| area.damaged(error.to_string()))?;
        }
        if rows.rows() != values.len() {
            return Err(area.damaged(format!("{} rows in place of {}", rows.rows(), values.len())).into());
        }
        Ok(rows.finish().map_err(|error| area.damaged(error.to_string()))?)
    }
}

impl RollingAggregate {
    pub(super) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        let Some(spill) = spill else { return Ok(self) };
        let keys = self.parts.head.arrow().fields().iter().map(|field| field.as_ref().clone());
        let fields: Vec<_> = keys.chain(value_fields(&self.parts)).collect();
        self.spilled = Some(Box::new(SpilledKeys {
            spill,
            codec: RowCodec::new(fields.iter()).map_err(|error| internal(&error))?,
            keys: self.parts.keys.len(),
            written: 0,
            returned: 0,
            bytes: 0,
            used: Chunked::new(0),
            batch: 0,
            unmeasured: 0,
            encoded: KeyRows::default(),
        }));
        Ok(self)
    }

    /// Takes the keys from slot `known` on, which are new in memory, out of the store, as far as they are there; notes that
    /// all keys of the batch are in use.
    pub(super) fn bring_in(&mut self, known: usize) -> Result<(), OperatorError> {
        let Some(mut spilled) = self.spilled.take() else { return Ok(()) };
        let new: Vec<u32> = (known as u32..self.parts.table.len() as u32).collect();
        let found = if spilled.written == 0 { Ok(()) } else { self.look_up(&mut spilled, &new) };
        self.spilled = Some(spilled);
        self.note_used(known);
        found
    }

    /// Notes that the keys of `self.slots`, and those from slot `known` on, are in use.
    pub(super) fn note_used(&mut self, known: usize) {
        let Some(spilled) = &mut self.spilled else { return };
        spilled.batch = spilled.batch.saturating_add(1);
        let new = known as u32..self.parts.table.len() as u32;
        for slot in self.slots.iter().copied().chain(new) {
            spilled.used.set(slot, spilled.batch);
        }
    }

    fn look_up(&mut self, spilled: &mut SpilledKeys, slots: &[u32]) -> Result<(), OperatorError> {
        for slots in slots.chunks(BATCH_ROWS) {
            let columns = self.parts.table.keys(slots).map_err(|error| internal(&error))?;
            spilled.encode(self, &columns, slots.len())?;
            // neighbours in the store one after the other
            let mut order: Vec<usize> = (0..slots.len()).collect();
            order.sort_unstable_by(|one, other| spilled.encoded.row(*one).cmp(spilled.encoded.row(*other)));
            let (mut found, mut values) = (Vec::new(), Vec::new());
            for row in order {
                if let Some(value) = spilled.spill.area.get(&named(ROW, spilled.encoded.row(row)))? {
                    found.extend(slots.get(row).copied());
                    values.push(value);
                }
            }
            if !found.is_empty() {
                spilled.returned += found.len() as u64;
                let columns = spilled.read(&values)?;
                let batch = std::mem::replace(&mut self.slots, found);
                let loaded = self.load_rows(columns.get(spilled.keys..).unwrap_or_default());
                self.slots = batch;
                loaded?;
            }
        }
        Ok(())
    }

    /// Brings keys into memory that have changed since the last watermark and left memory since; false if there are none.
    pub(super) fn bring_in_changed(&mut self) -> Result<bool, OperatorError> {
        let Some(mut spilled) = self.spilled.take_if(|spilled| spilled.written > 0) else { return Ok(false) };
        let brought = self.read_changed(&mut spilled);
        self.spilled = Some(spilled);
        brought
    }

    fn read_changed(&mut self, spilled: &mut SpilledKeys) -> Result<bool, OperatorError> {
        let (mut marks, mut values) = (Vec::new(), Vec::new());
        for mark in spilled.spill.area.range(&[CHANGED], &[CHANGED + 1]).take(CHANGED_AT_ONCE) {
            let (mark, _) = mark?;
            let row = named(ROW, mark.get(1..).unwrap_or_default());
            values.extend(spilled.spill.area.get(&row)?);
            marks.push(mark);
        }
        if marks.is_empty() {
            return Ok(false);
        }
        spilled.spill.area.write::<OperatorError>(0, |put| marks.iter().try_for_each(|mark| put(mark, None)))?;
        let columns = spilled.read(&values)?;
        let columns = self.not_in_memory(spilled, columns)?;
        let rows = columns.first().map_or(0, |column| column.len());
        if rows > 0 {
            spilled.returned += rows as u64;
            let (keys, rest) = columns.split_at_checked(spilled.keys).unwrap_or_default();
            let keys: Vec<&ArrayRef> = keys.iter().collect();
            self.parts.table.slots(&keys, rows, &mut self.slots).map_err(|error| internal(&error))?;
            self.load_rows(rest)?;
            for slot in &self.slots {
                spilled.used.set(*slot, spilled.batch);
            }
        }
        Ok(true)
    }

    /// Rows of the store without those whose keys are in memory.
    fn not_in_memory(&mut self, spilled: &SpilledKeys, columns: Vec<ArrayRef>) -> Result<Vec<ArrayRef>, OperatorError> {
        let rows = columns.first().map_or(0, |column| column.len());
        let keys: Vec<&ArrayRef> = columns.iter().take(spilled.keys).collect();
        let mut slots = Vec::new();
        self.parts.table.find(&keys, rows, &mut slots).map_err(|error| internal(&error))?;
        if slots.iter().all(|slot| *slot == NO_SLOT) {
            return Ok(columns);
        }
        let others = (0_u32..).zip(&slots).filter(|(_, slot)| **slot == NO_SLOT).map(|(row, _)| row);
        let others: UInt32Array = others.collect();
        let taken = columns.iter().map(|column| take(column, &others, None));
        taken.collect::<Result<_, _>>().map_err(|error| internal(&StateError::Arrow(error)))
    }

    /// Hands over the rows that are in the store alone.
    pub(super) fn spilled_rows(
        &mut self,
        mut to: impl FnMut(usize, Vec<ArrayRef>) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let Some(spilled) = self.spilled.take() else { return Ok(()) };
        let mut read = |values: &mut Vec<Value>, of: &mut Self| {
            let columns = of.not_in_memory(&spilled, spilled.read(values)?)?;
            values.clear();
            let rows = columns.first().map_or(0, |column| column.len());
            if rows > 0 { to(rows, columns) } else { Ok(()) }
        };
        let mut done = Ok(());
        let mut values = Vec::new();
        for entry in spilled.spill.area.range(&[ROW], &[ROW + 1]) {
            match entry {
                Ok((_, value)) => values.push(value),
                Err(error) => done = Err(error.into()),
            }
            if done.is_ok() && values.len() == BATCH_ROWS {
                done = read(&mut values, self);
            }
            if done.is_err() {
                break;
            }
        }
        if done.is_ok() && !values.is_empty() {
            done = read(&mut values, self);
        }
        self.spilled = Some(spilled);
        done
    }

    /// Measures what is in memory, now and then, and writes half of it to the store if it is too much. `rows` have come in.
    pub(super) fn spill_if_over(&mut self, rows: usize) -> Result<(), OperatorError> {
        let Some(spilled) = &mut self.spilled else { return Ok(()) };
        spilled.unmeasured += rows;
        if spilled.unmeasured * 16 < self.parts.table.len() {
            return Ok(());
        }
        spilled.unmeasured = 0;
        let groups = self.groups.bytes() + self.keys.bytes() + spilled.used.bytes() + self.changed_at.bytes();
        let bytes = self.state.bytes() + self.parts.table.bytes() + groups + self.changed.capacity() * 4;
        let over = bytes > spilled.spill.memory_bytes;
        if over && let Some(mut spilled) = self.spilled.take() {
            let written = self.write_unused(&mut spilled);
            self.spilled = Some(spilled);
            written?;
        }
        let held = if over { bytes / 2 } else { bytes };
        self.spilled.iter().for_each(|spilled| spilled.spill.counters.state(held, spilled.bytes));
        Ok(())
    }

    fn write_unused(&mut self, spilled: &mut SpilledKeys) -> Result<(), OperatorError> {
        let mut by_use: Vec<(u32, u32)> = (0..self.parts.table.len() as u32)
            .map(|slot| (spilled.used.get(slot).copied().unwrap_or_default(), slot))
            .collect();
        if by_use.is_empty() {
            return Ok(());
        }
        let half = by_use.len() / 2;
        by_use.select_nth_unstable(half);
        let (unused, kept) = by_use.split_at(by_use.len().min(half + 1));
        let mut kept: Vec<u32> = kept.iter().map(|(_, slot)| *slot).collect();
        kept.sort_unstable();
        let unused: Vec<u32> = unused.iter().map(|(_, slot)| *slot).filter(|slot| self.state.has(*slot)).collect();
        self.write_rows(spilled, &unused)?;
        let moves = self.parts.table.retain(&kept).map_err(|error| internal(&error))?;
        self.state.renumber(&moves);
        self.state.touched = moves.iter().filter(|(_, new)| self.state.has(*new)).count();
        self.changed_at.renumber(&moves);
        spilled.used.renumber(&moves);
        self.changed = moves.iter().map(|(_, new)| *new).filter(|new| self.is_changed(*new)).collect();
        (self.groups, self.keys) = (Groups::new(), Groups::new());
        Ok(())
    }

    fn is_changed(&self, slot: u32) -> bool {
        self.changed_at.get(slot).is_some_and(Option::is_some)
    }

    fn write_rows(&mut self, spilled: &mut SpilledKeys, slots: &[u32]) -> Result<(), OperatorError> {
        let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::with_capacity(slots.len());
        let mut marks: Vec<Vec<u8>> = Vec::new();
        let mut about_bytes = 0;
        for slots in slots.chunks(BATCH_ROWS) {
            let columns = self.rows_of(slots)?;
            spilled.encode(self, columns.get(..spilled.keys).unwrap_or_default(), slots.len())?;
            let writer = spilled.codec.writer(&columns).map_err(|error| internal(&error))?;
            for (row, slot) in slots.iter().enumerate() {
                let mut value = Vec::new();
                writer.push(row, &mut value);
                let key = spilled.encoded.row(row);
                about_bytes += key.len() + value.len();
                rows.push((named(ROW, key), value));
                if self.is_changed(*slot) {
                    marks.push(named(CHANGED, key));
                }
            }
        }
        marks.sort_unstable();
        rows.sort_unstable();
        spilled.written += rows.len() as u64;
        spilled.bytes += about_bytes as u64;
        spilled.spill.area.write(about_bytes, |put| {
            marks.iter().try_for_each(|mark| put(mark, Some(&[])))?;
            rows.iter().try_for_each(|(key, value)| put(key, Some(value)))
        })
    }
}
