//! The state of a processor's keys: a row a key in columns, when it was written, and what has outlived its time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMillisecondArray,
    new_null_array,
};
use sha2::{Digest, Sha256};
use std::ops::Range;
use std::sync::Arc;

use super::OperatorError;
use super::aggregate_fold::internal;
use super::sweep::{Sweeping, Swept};
use crate::record::{Field, Kind, Schema};
use crate::state::{CHUNK_ROWS, Chunked, Columns, FrozenKeys, KeyTable, Later, StateError, check_rows, next_freezing};

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
    expiries: BinaryHeap<Reverse<(i64, u32)>>,
    /// by slot: whether it is among `expiries`
    queued: Chunked<bool>,
    /// changes when keys get other slots
    numbering: u64,
    /// how far it has been handed over, where it is migrated
    swept: Option<Swept>,
}

/// State as it was. What has changed since a frozen copy was made is copied when it does.
pub(super) struct FrozenState {
    pub(super) keys: Arc<FrozenKeys>,
    /// tells slots of one numbering from those of others
    pub(super) numbering: u64,
    schema: Schema,
    columns: Columns,
    written: Chunked<Option<i64>>,
    slots: u32,
}

/// Chunks of slots whose rows are one block of a snapshot.
const BLOCK_CHUNKS: usize = 128;

impl FrozenState {
    /// Rows of the table `state`, block by block.
    pub(super) fn blocks(self: &Arc<Self>) -> Vec<Later> {
        let chunks = Chunked::<bool>::chunk_of(self.slots.saturating_sub(1)) + usize::from(self.slots > 0);
        let later = |from: usize| {
            let (for_id, for_rows) = (Arc::clone(self), Arc::clone(self));
            let chunks = from..from + BLOCK_CHUNKS;
            let of = chunks.clone();
            Later::new(move || for_id.id(&of), move || for_rows.rows(&chunks))
        };
        (0..chunks).step_by(BLOCK_CHUNKS).map(later).collect()
    }

    fn id(&self, chunks: &Range<usize>) -> u128 {
        let mut marks = vec![self.numbering, chunks.start as u64];
        self.keys.marks(chunks.clone(), &mut marks);
        self.columns.marks(chunks.clone(), &mut marks);
        self.written.marks(chunks.clone(), &mut marks);
        digest(&marks)
    }

    fn rows(&self, chunks: &Range<usize>) -> Result<RecordBatch, StateError> {
        let first = |chunk| Chunked::<bool>::first_slot(chunk).min(self.slots);
        let has = |slot: &u32| matches!(self.written.get(*slot), Some(Some(_)));
        let slots: Vec<u32> = (first(chunks.start)..first(chunks.end)).filter(has).collect();
        rows_of(&self.schema, self.keys.keys(&slots)?, &self.columns, &self.written, &slots)
    }
}

/// One number of many.
pub(super) fn digest(marks: &[u64]) -> u128 {
    let digest = Sha256::digest(bytemuck::cast_slice(marks));
    digest.first_chunk().map_or(0, |bytes: &[u8; 16]| u128::from_le_bytes(*bytes))
}

/// Rows of the table `state`: key columns, state columns, when it was written.
fn rows_of(
    schema: &Schema,
    mut columns: Vec<ArrayRef>,
    state: &Columns,
    written: &Chunked<Option<i64>>,
    slots: &[u32],
) -> Result<RecordBatch, StateError> {
    columns.extend(state.gather(slots)?.columns().iter().cloned());
    let written = slots.iter().map(|slot| written.get(*slot).copied().flatten().unwrap_or_default());
    columns.push(Arc::new(written.collect::<Int64Array>()));
    Ok(RecordBatch::try_new(schema.arrow().clone(), columns)?)
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
            expiries: BinaryHeap::new(),
            numbering: next_freezing(),
            queued: Chunked::new(false),
            swept: None,
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
        self.swept.iter_mut().for_each(|swept| swept.touch(&held));
        held.iter().for_each(|slot| self.touch(*slot, now_ms));
        self.clear(&gone);
        Ok(())
    }

    fn touch(&mut self, slot: u32, now_ms: i64) {
        self.written.set(slot, Some(now_ms));
        if self.ttl_ms.is_some() && self.queued.get(slot) != Some(&true) {
            self.queued.set(slot, true);
            self.expiries.push(Reverse((now_ms, slot)));
        }
    }

    fn clear(&mut self, slots: &[u32]) {
        if !slots.is_empty() {
            self.swept.iter_mut().for_each(|swept| swept.touch(slots));
            drop(self.columns.split_off(slots));
            drop(self.written.split_off(slots));
        }
    }

    /// Drops state that has outlived its time. Each call looks at what has become due since the last.
    pub(super) fn sweep(&mut self, now_ms: i64) {
        let Some(ttl_ms) = self.ttl_ms else { return };
        let mut gone = Vec::new();
        let is_due = |Reverse((at, _)): &Reverse<(i64, u32)>| over(*at, ttl_ms, now_ms);
        while let Some(Reverse((at, slot))) = self.expiries.peek().copied().filter(is_due) {
            self.expiries.pop();
            match self.written.get(slot).copied().flatten() {
                Some(written) if !over(written, ttl_ms, now_ms) => {
                    self.expiries.push(Reverse((written.max(at), slot)));
                }
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
        self.swept.iter_mut().for_each(|swept| swept.renumber(&moves));
        self.columns.renumber(&moves);
        self.written.renumber(&moves);
        self.queued.renumber(&moves);
        let new = |old: u32| {
            let at = moves.binary_search_by_key(&old, |(old, _)| *old).ok()?;
            moves.get(at).map(|(_, new)| *new)
        };
        self.expiries =
            self.expiries.iter().filter_map(|Reverse((at, slot))| Some(Reverse((*at, new(*slot)?)))).collect();
        self.numbering = next_freezing();
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

    /// Its rows, to be migrated while it goes on.
    pub(super) fn sweeping(&mut self) -> Sweeping<'_> {
        Sweeping::of_keys(&self.table, &self.written, &self.columns, &mut self.swept)
    }

    /// Whether rows are handed over, which goes by their slots.
    pub(super) fn is_swept(&self) -> bool {
        self.swept.is_some()
    }

    /// Keeps other columns from now on, those that were `made` of what has been handed over. The old ones, to be dropped
    /// elsewhere.
    pub(super) fn adopt(&mut self, schema: Schema, made: Option<Columns>) -> Result<Columns, StateError> {
        let mut columns = match made {
            Some(made) => made,
            None => Columns::new(&schema, &blank(&schema)?)?,
        };
        (0..self.chunks).for_each(|chunk| columns.allocate(chunk));
        (self.schema, self.swept) = (schema, None);
        Ok(std::mem::replace(&mut self.columns, columns))
    }

    /// Columns of the table `state`.
    pub(super) fn table_schema(&self) -> Schema {
        let state = self.schema.fields().iter();
        let state = state.map(|field| Field { name: format!("state.{}", field.name), ..field.clone() });
        let fields = self.keys.fields().iter().cloned().chain(state);
        Schema::new(fields.chain([Field::new("written_at_ms", Kind::Int64)]).collect::<Vec<_>>())
    }

    /// All of it as of now.
    pub(super) fn freeze(&mut self) -> Arc<FrozenState> {
        Arc::new(FrozenState {
            keys: Arc::new(self.table.freeze()),
            numbering: self.numbering,
            schema: self.table_schema(),
            columns: self.columns.freeze(),
            written: self.written.freeze(),
            slots: self.table.len() as u32,
        })
    }

    /// The state of those of these slots that have any.
    pub(super) fn rows_of(&self, slots: &[u32]) -> Result<RecordBatch, StateError> {
        let slots: Vec<u32> = slots.iter().copied().filter(|slot| self.has(*slot)).collect();
        rows_of(&self.table_schema(), self.table.keys(&slots)?, &self.columns, &self.written, &slots)
    }

    /// When the state of a slot outlives its time.
    pub(super) fn expires(&self, slot: u32) -> Option<i64> {
        let written = self.written.get(slot).copied().flatten()?;
        Some(written.saturating_add(self.ttl_ms?))
    }

    /// Bytes that are held. Looks at every value of text and binary.
    pub(super) fn bytes(&self) -> usize {
        let columns = self.columns.bytes() + self.written.bytes() + self.queued.bytes();
        let swept = self.swept.as_ref().map_or(0, Swept::bytes);
        self.table.bytes() + columns + swept + self.expiries.capacity() * size_of::<(i64, u32)>()
    }

    /// Takes over rows of the table `state`, of keys that have none.
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
        self.swept.iter_mut().for_each(|swept| swept.touch(&slots));
        let written = rows.columns().last().and_then(|column| column.as_primitive_opt::<Int64Type>());
        for (slot, written) in slots.iter().zip(written.into_iter().flat_map(|written| written.values().iter())) {
            self.touch(*slot, *written);
        }
        Ok(())
    }
}

fn over(written_ms: i64, ttl_ms: i64, now_ms: i64) -> bool {
    written_ms.saturating_add(ttl_ms) <= now_ms
}

/// One row that means nothing: null where there may be nulls, else 0, false, or nothing.
pub(super) fn blank(schema: &Schema) -> Result<RecordBatch, StateError> {
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
