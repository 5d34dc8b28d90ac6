//! The state of a processor's keys: a row a key in columns, when it was written, and what has outlived its time.

use std::collections::VecDeque;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray,
    new_null_array,
};
use std::sync::Arc;

use super::OperatorError;
use super::aggregate_fold::internal;
use crate::limits::BATCH_ROWS;
use crate::record::{Field, Kind, Schema};
use crate::state::{CHUNK_ROWS, Chunked, Columns, KeyTable, StateError, check_rows};

/// Keys and their state.
pub(super) struct KeyedState {
    pub(super) table: KeyTable,
    /// the key columns
    pub(super) keys: Schema,
    schema: Schema,
    columns: Columns,
    /// by slot: when the state was written last, ms; `None` where there is no state
    written: Chunked<Option<i64>>,
    chunks: usize,
    ttl_ms: Option<i64>,
    /// slots by the time when they are to be looked at, each that has state once
    expiries: VecDeque<(i64, u32)>,
    /// by slot: whether it is among `expiries`
    queued: Chunked<bool>,
}

impl KeyedState {
    /// No keys yet.
    pub(super) fn new(keys: Schema, schema: Schema, ttl_ms: Option<i64>) -> Result<Self, OperatorError> {
        let initial = blank(&schema).map_err(|error| internal(&error))?;
        Ok(Self {
            table: KeyTable::new(keys.fields()),
            keys,
            columns: Columns::new(&schema, &initial).map_err(|error| internal(&error))?,
            schema,
            written: Chunked::new(None),
            chunks: 0,
            ttl_ms,
            expiries: VecDeque::new(),
            queued: Chunked::new(false),
        })
    }

    /// The slot of each row's key; new keys get one, without state.
    pub(super) fn slots(&mut self, columns: &[&ArrayRef], rows: usize, slots: &mut Vec<u32>) -> Result<(), StateError> {
        self.table.slots(columns, rows, slots)?;
        let chunks = self.table.len().div_ceil(CHUNK_ROWS);
        for chunk in self.chunks..chunks {
            self.columns.allocate(chunk);
            self.written.allocate(chunk);
            self.queued.allocate(chunk);
        }
        self.chunks = self.chunks.max(chunks);
        Ok(())
    }

    /// Whether a key has state.
    pub(super) fn has(&self, slot: u32) -> bool {
        matches!(self.written.get(slot), Some(Some(_)))
    }

    /// One byte a slot: 1 where it has state. What has outlived its time is dropped first.
    pub(super) fn present(&mut self, slots: &[u32], now_ms: i64) -> Vec<u8> {
        if let Some(ttl_ms) = self.ttl_ms {
            let is_over =
                |written: Option<&Option<i64>>| matches!(written, Some(Some(at)) if over(*at, ttl_ms, now_ms));
            let gone: Vec<u32> = slots.iter().copied().filter(|slot| is_over(self.written.get(*slot))).collect();
            self.clear(&gone);
        }
        slots.iter().map(|slot| u8::from(self.has(*slot))).collect()
    }

    /// State rows of slots.
    pub(super) fn gather(&self, slots: &[u32]) -> Result<RecordBatch, StateError> {
        self.columns.gather(slots)
    }

    /// Slots with `present` get the next of `rows` as their state, the others have none from now on.
    pub(super) fn write(
        &mut self,
        slots: &[u32],
        rows: &RecordBatch,
        present: &BooleanArray,
        now_ms: i64,
    ) -> Result<(), StateError> {
        let (mut held, mut gone) = (Vec::with_capacity(rows.num_rows()), Vec::new());
        for (slot, present) in slots.iter().zip(present.values()) {
            if present {
                held.push(*slot);
            } else if self.has(*slot) {
                gone.push(*slot);
            }
        }
        self.columns.scatter(&held, rows)?;
        held.iter().for_each(|slot| self.touch(*slot, now_ms));
        self.clear(&gone);
        Ok(())
    }

    fn touch(&mut self, slot: u32, now_ms: i64) {
        self.written.set(slot, Some(now_ms));
        if self.ttl_ms.is_some() && self.queued.get(slot) != Some(&true) {
            self.queued.set(slot, true);
            self.expiries.push_back((now_ms, slot));
        }
    }

    fn clear(&mut self, slots: &[u32]) {
        if !slots.is_empty() {
            drop(self.columns.split_off(slots));
            drop(self.written.split_off(slots));
        }
    }

    /// Drops state that has outlived its time. Each call looks at what has become due since the last.
    pub(super) fn sweep(&mut self, now_ms: i64) {
        let Some(ttl_ms) = self.ttl_ms else { return };
        let mut gone = Vec::new();
        while let Some((at, slot)) = self.expiries.front().copied().filter(|(at, _)| over(*at, ttl_ms, now_ms)) {
            self.expiries.pop_front();
            match self.written.get(slot).copied().flatten() {
                Some(written) if !over(written, ttl_ms, now_ms) => self.expiries.push_back((written.max(at), slot)),
                written => {
                    self.queued.set(slot, false);
                    gone.extend(written.map(|_| slot));
                }
            }
        }
        self.clear(&gone);
    }

    /// Forgets keys for which `keep` is false, and answers the old and new slots of the others.
    pub(super) fn retain(&mut self, keep: impl Fn(&Self, u32) -> bool) -> Result<Vec<(u32, u32)>, StateError> {
        let kept: Vec<u32> = (0..self.table.len() as u32).filter(|slot| keep(self, *slot)).collect();
        let moves = self.table.retain(&kept)?;
        self.columns.renumber(&moves);
        self.written.renumber(&moves);
        self.queued.renumber(&moves);
        let new = |old: u32| {
            let at = moves.binary_search_by_key(&old, |(old, _)| *old).ok()?;
            moves.get(at).map(|(_, new)| *new)
        };
        self.expiries = self.expiries.iter().filter_map(|(at, slot)| Some((*at, new(*slot)?))).collect();
        // chunks that no value moved to do not exist, though slots may lie in them
        let chunks = self.table.len().div_ceil(CHUNK_ROWS);
        for chunk in 0..chunks {
            self.columns.allocate(chunk);
            self.written.allocate(chunk);
            self.queued.allocate(chunk);
        }
        self.chunks = chunks;
        Ok(moves)
    }

    /// Columns of [`KeyedState::rows`].
    pub(super) fn table_schema(&self) -> Schema {
        let state = self.schema.fields().iter();
        let state = state.map(|field| Field { name: format!("state.{}", field.name), ..field.clone() });
        let fields = self.keys.fields().iter().cloned().chain(state);
        Schema::new(fields.chain([Field::new("written_at_ms", Kind::Int64)]).collect::<Vec<_>>())
    }

    /// All state: key columns, state columns, when it was written.
    pub(super) fn rows(&self) -> Result<Vec<RecordBatch>, StateError> {
        let schema = self.table_schema();
        let slots: Vec<u32> = (0..self.table.len() as u32).filter(|slot| self.has(*slot)).collect();
        let mut batches = Vec::new();
        for slots in slots.chunks(BATCH_ROWS) {
            let mut columns = self.table.keys(slots)?;
            columns.extend(self.columns.gather(slots)?.columns().iter().cloned());
            let written = slots.iter().map(|slot| self.written.get(*slot).copied().flatten().unwrap_or_default());
            columns.push(Arc::new(written.collect::<Int64Array>()));
            batches.push(RecordBatch::try_new(schema.arrow().clone(), columns)?);
        }
        Ok(batches)
    }

    /// Takes over rows that [`KeyedState::rows`] gave.
    pub(super) fn restore(&mut self, rows: &RecordBatch) -> Result<(), StateError> {
        check_rows(&self.table_schema(), rows.num_rows(), rows)?;
        let (keys, count) = (self.keys.fields().len(), rows.num_rows());
        let key_columns: Vec<&ArrayRef> = rows.columns().iter().take(keys).collect();
        let mut slots = Vec::new();
        self.slots(&key_columns, count, &mut slots)?;
        let state = rows.columns().iter().skip(keys).take(self.schema.fields().len()).cloned().collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let state = RecordBatch::try_new_with_options(self.schema.arrow().clone(), state, &options)?;
        self.columns.scatter(&slots, &state)?;
        let written = rows.columns().last().and_then(|column| column.as_primitive_opt::<Int64Type>());
        for (slot, written) in slots.iter().zip(written.into_iter().flat_map(|written| written.values().iter())) {
            self.touch(*slot, *written);
        }
        // rows of several tasks come one task after the other
        self.expiries.make_contiguous().sort_unstable();
        Ok(())
    }
}

fn over(written_ms: i64, ttl_ms: i64, now_ms: i64) -> bool {
    written_ms.saturating_add(ttl_ms) <= now_ms
}

/// One row that means nothing: null where there may be nulls, else 0, false, or nothing.
fn blank(schema: &Schema) -> Result<RecordBatch, StateError> {
    let column = |field: &Field| -> ArrayRef {
        if field.nullable {
            return new_null_array(&field.kind.data_type(), 1);
        }
        match field.kind {
            Kind::Boolean => Arc::new(BooleanArray::from(vec![false])),
            Kind::Int64 => Arc::new(Int64Array::from(vec![0])),
            Kind::Float64 => Arc::new(Float64Array::from(vec![0.0])),
            Kind::TimestampMs => Arc::new(TimestampMillisecondArray::from(vec![0])),
            Kind::Text => {
                let mut text = StringBuilder::new();
                text.append_value("");
                Arc::new(text.finish())
            }
            Kind::Binary => {
                let mut bytes = BinaryBuilder::new();
                bytes.append_value([]);
                Arc::new(bytes.finish())
            }
        }
    };
    let columns: Vec<ArrayRef> = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(1));
    Ok(RecordBatch::try_new_with_options(schema.arrow().clone(), columns, &options)?)
}
