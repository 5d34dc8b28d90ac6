//! Keys and what is kept of them as bytes of the store, see [`super`].

use std::hash::BuildHasher;
use std::ops::Range;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;

use super::{PARTITIONS, Wake, Wakes};
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::internal;
use crate::operator::saved_table::SavedTable;
use crate::spill::{FrozenArea, RowCodec, SpillError, Value};
use crate::state::StateError;

pub(super) const KEY: u8 = b'k';
const NOTE: u8 = b'n';

/// Bytes of a place before its partition.
const HEAD: usize = 3;

/// Bytes of a partition.
const PARTITION: usize = 2;

/// One table of the operator's snapshot.
#[derive(Debug)]
pub(in crate::operator) struct Stored {
    pub(in crate::operator) name: &'static str,
    pub(in crate::operator) codec: RowCodec,
    pub(in crate::operator) schema: SchemaRef,
    pub(in crate::operator) keys: usize,
}

/// A value taken apart.
pub(in crate::operator) struct Parts<'a> {
    pub(in crate::operator) wakes: Wakes,
    /// by table, its rows
    pub(in crate::operator) tables: Vec<&'a [u8]>,
}

pub(super) fn place_of(generation: u16, key: &[u8]) -> Vec<u8> {
    let hash = foldhash::quality::FixedState::with_seed(0).hash_one(key);
    let partition = (hash >> (u64::BITS - PARTITIONS.trailing_zeros())) as u16;
    let mut place = Vec::with_capacity(HEAD + PARTITION + key.len());
    place.extend_from_slice(&generation_place(generation, &partition.to_be_bytes()));
    place.extend_from_slice(key);
    place
}

/// A place from its partition on, in this generation.
pub(in crate::operator) fn generation_place(generation: u16, rest: &[u8]) -> Vec<u8> {
    let [high, low] = generation.to_be_bytes();
    [&[KEY, high, low], rest].concat()
}

/// Behind the last place of a generation.
pub(in crate::operator) fn generation_end(generation: u16) -> Vec<u8> {
    generation.checked_add(1).map_or(vec![KEY + 1], |next| generation_place(next, &[]))
}

/// A note of a migration to this generation, of what lies at a place from its partition on.
pub(in crate::operator) fn note_place(generation: u16, rest: &[u8]) -> Vec<u8> {
    let [high, low] = generation.to_be_bytes();
    [&[NOTE, high, low], rest].concat()
}

/// Behind the last note of a migration.
pub(in crate::operator) fn notes_end(generation: u16) -> Vec<u8> {
    generation.checked_add(1).map_or(vec![NOTE + 1], |next| note_place(next, &[]))
}

/// A place without its generation: its partition, then the key.
pub(in crate::operator) fn without_generation(place: &[u8]) -> &[u8] {
    place.get(HEAD..).unwrap_or_default()
}

/// The partition of a place.
pub(super) fn partition_of(place: &[u8]) -> Option<u16> {
    without_generation(place).first_chunk().map(|partition| u16::from_be_bytes(*partition))
}

/// The key of a place.
pub(super) fn key_of(place: &[u8]) -> &[u8] {
    place.get(HEAD + PARTITION..).unwrap_or_default()
}

pub(super) fn mark_of(wake: Wake, time: i64, key: &[u8]) -> Vec<u8> {
    let mut mark = Vec::with_capacity(9 + key.len());
    mark.push(wake.mark());
    mark.extend_from_slice(&(time as u64 ^ 1 << 63).to_be_bytes());
    mark.extend_from_slice(key);
    mark
}

/// The time of a mark, and its key.
pub(super) fn read_mark(mark: &[u8]) -> Option<(i64, &[u8])> {
    let (time, key) = mark.get(1..)?.split_first_chunk::<8>()?;
    Some(((u64::from_be_bytes(*time) ^ 1 << 63) as i64, key))
}

impl<'a> Parts<'a> {
    pub(in crate::operator) fn read(mut value: &'a [u8], tables: usize) -> Option<Self> {
        let bits = *value.split_off_first()?;
        let mut wakes = Wakes::default();
        for (bit, wake) in wakes.iter_mut().enumerate() {
            if bits >> bit & 1 == 1 {
                *wake = Some(i64::from_le_bytes(*value.split_off(..8)?.first_chunk()?));
            }
        }
        let mut parts = Self { wakes, tables: Vec::with_capacity(tables) };
        for _ in 0..tables {
            let length = u32::from_le_bytes(*value.split_off(..4)?.first_chunk()?);
            parts.tables.push(value.split_off(..length as usize)?);
        }
        value.is_empty().then_some(parts)
    }

    pub(in crate::operator) fn write(&self) -> Option<Vec<u8>> {
        let bits = self.wakes.iter().enumerate().map(|(bit, wake)| u8::from(wake.is_some()) << bit).sum();
        let mut value: Vec<u8> = vec![bits];
        self.wakes.iter().flatten().for_each(|time| value.extend_from_slice(&time.to_le_bytes()));
        for rows in &self.tables {
            value.extend_from_slice(&u32::try_from(rows.len()).ok()?.to_le_bytes());
            value.extend_from_slice(rows);
        }
        Some(value)
    }
}

impl Stored {
    pub(super) fn new(table: &SavedTable) -> Result<Self, OperatorError> {
        Self::of(table.name(), table.schema().clone(), table.keys()).map_err(|error| internal(&error))
    }

    /// A table of these columns, the first `keys` of which are the step's keys.
    pub(in crate::operator) fn of(name: &'static str, schema: SchemaRef, keys: usize) -> Result<Self, StateError> {
        let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
        Ok(Self { name, codec: RowCodec::new(fields.iter())?, schema, keys })
    }

    /// So many rows of it.
    pub(in crate::operator) fn batch(&self, rows: usize, columns: Vec<ArrayRef>) -> Result<RecordBatch, String> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(|error| error.to_string())
    }

    /// Rows of values, of which this is table `number` of `count`.
    pub(super) fn read<'a>(
        &self,
        values: impl Iterator<Item = &'a Value>,
        number: usize,
        count: usize,
    ) -> Result<RecordBatch, String> {
        let mut rows = self.codec.reader(0);
        for value in values {
            let parts = Parts::read(value, count).ok_or("what is kept of a key ends too early")?;
            let bytes = parts.tables.get(number).copied().unwrap_or_default();
            rows.read(bytes).ok_or("a row ends too early")?.map_err(|error| error.to_string())?;
        }
        let count = rows.rows();
        self.batch(count, rows.finish().map_err(|error| error.to_string())?)
    }
}

/// Rows of one table of some partitions, as they were.
pub(super) fn read_block(
    area: &FrozenArea,
    tables: &[Stored],
    number: usize,
    (generation, partitions): (u16, &Range<usize>),
) -> Result<RecordBatch, StateError> {
    let elsewhere = |error: SpillError| StateError::Elsewhere { reason: error.to_string() };
    let place = |partition: usize| match u16::try_from(partition) {
        Ok(partition) => generation_place(generation, &partition.to_be_bytes()),
        Err(_) => generation_end(generation),
    };
    let entries =
        area.range(&place(partitions.start), &place(partitions.end)).map(|entry| entry.map(|(_, value)| value));
    let values = entries.collect::<Result<Vec<Value>, _>>().map_err(elsewhere)?;
    let table = tables.get(number).ok_or(StateError::ColumnCount { expected: tables.len(), found: number })?;
    table.read(values.iter(), number, tables.len()).map_err(|reason| elsewhere(area.damaged(reason)))
}
