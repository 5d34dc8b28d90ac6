//! Rows of windows that do not fit into memory, in the order in which they left it.
//!
//! What waits for the end of a window is not looked at before: it leaves memory as a run, and all runs of a window come back when
//! it is put out. Keys are cut in partitions by a hash, and a run lies in the store partition by partition, so that a window comes
//! back some partitions at a time, in a fraction of the memory that it would take as a whole.
//!
//! ```text
//! key     generation: 2 bytes · span of the window or slice, two times with their signs flipped: 8 bytes each · partition: 2 bytes ·
//!         table: 1 byte · run: 4 bytes · part of it: 4 bytes; all big-endian
//! value   rows (see `spill/rows.rs`)
//! ```
//!
//! A run never changes until its window is gone. So a snapshot takes a view of the store and makes nothing; the rows that it gives are
//! cut in blocks which, once they are full, are the same in every later snapshot. Rows come to the store run by run, in each by partition, so
//! a block is all that lies between its first place and its last: what stays in memory of a run is nothing, of a block of a MiB 40
//! bytes, of a span some 250, and that counts as memory of the operator.
//!
//! One partition, a 1,024th of what a window holds, must fit into memory.

mod swept;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_select::interleave::interleave_record_batch;

use swept::SweptRuns;
pub(super) use swept::{Written, run_place, runs_end, span_end};

use super::OperatorError;
use super::aggregate_fold::internal;
use crate::record::{EventTime, Field};
use crate::spill::{FrozenArea, Put, RowCodec, Spill, SpillError, Value};
use crate::state::{KeyRows, Later, StateError, next_freezing};

/// Partitions that keys are cut in.
pub(super) const PARTITIONS: u32 = 1 << 10;

/// Bytes of one value: more rows of a run and partition make another.
const VALUE_BYTES: usize = 64 << 10;

/// Bytes of the store in a block of a snapshot, about.
const BLOCK_BYTES: u64 = 1 << 20;

/// The part of its memory that an operator fills with rows read back at once. As columns with a key table they take
/// three times as much.
const READ_SHARE: u64 = 8;

/// Batches in memory that are looked at for each row that comes in, to see how much they hold.
pub(super) const LOOKS_A_ROW: usize = 4;

/// Rows that are copied together on their way to the store.
const SORTED_AT_ONCE: usize = 1 << 10;

/// What tells a window, or a slice of windows, from all others of the operator.
pub(super) type Span = (EventTime, EventTime);

/// What an operator has in the store.
pub(super) struct SpilledRuns {
    spill: Spill,
    /// by table of the operator's
    tables: Arc<Vec<RowCodec>>,
    spans: BTreeMap<Span, OnDisk>,
    /// of the places of rows; another one where other versions keep other rows
    generation: u16,
    /// the last that was given out
    generations: u16,
    /// what has come since rows were handed over, where they are migrated
    swept: Option<SweptRuns>,
}

/// What the store has of a span.
struct OnDisk {
    runs: u32,
    /// a key of several runs as often
    rows: u64,
    bytes: u64,
    /// those that have rows
    partitions: Partitions,
    /// by table
    blocks: Vec<Vec<Block>>,
}

/// Rows of one table that a snapshot gives together.
#[derive(Clone, Copy)]
struct Block {
    /// changes with what is in it
    id: u64,
    bytes: u64,
    from: Place,
    /// with what lies there
    to: Place,
}

/// Where rows of a table lie, in the order in which they were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    run: u32,
    partition: u32,
}

impl Block {
    /// The runs of which rows of a partition are in it.
    fn runs(&self, partition: u32) -> Range<u32> {
        let first = if partition < self.from.partition { self.from.run + 1 } else { self.from.run };
        let end = if partition > self.to.partition { self.to.run } else { self.to.run + 1 };
        first..end
    }
}

/// A bit for each partition: an index that stays in memory while the rows are in the store.
#[derive(Clone, Copy, Debug, Default)]
struct Partitions([u64; PARTITIONS as usize / 64]);

impl Partitions {
    fn add(&mut self, partition: u32) {
        let word = self.0.get_mut(partition as usize / 64);
        word.into_iter().for_each(|word| *word |= 1 << (partition % 64));
    }

    /// Ascending.
    fn iter(self) -> impl Iterator<Item = u32> {
        let of_word = |(number, word): (u32, u64)| {
            (0..u64::BITS).filter(move |bit| word >> bit & 1 == 1).map(move |bit| number * u64::BITS + bit)
        };
        (0..).zip(self.0).flat_map(of_word)
    }
}

/// Rows on their way to the store: their partitions, ascending from the first to the last of all, and their columns.
pub(super) type Sorted = (Vec<u32>, Vec<ArrayRef>);

/// A run as it was read, or some partitions of it.
pub(super) struct Run {
    pub(super) table: usize,
    values: Vec<Value>,
}

/// Partitions of a window that are not out yet.
pub(super) struct Left {
    /// the last first
    partitions: Vec<u32>,
    /// how many are read at once
    step: usize,
}

impl Left {
    /// Partitions that come next; none after the last.
    pub(super) fn next(&mut self) -> Option<Range<u32>> {
        let some = self.partitions.split_off(self.partitions.len().saturating_sub(self.step));
        Some(*some.last()?..some.first()? + 1)
    }

    /// Whether there are no more.
    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }
}

impl SpilledRuns {
    /// Nothing yet; rows of table `n` are of the `n`th codec.
    pub(super) fn new(spill: Spill, tables: Vec<RowCodec>) -> Self {
        let tables = Arc::new(tables);
        Self { spill, tables, spans: BTreeMap::new(), generation: 0, generations: 0, swept: None }
    }

    /// Bytes that the operator may hold in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.spill.memory_bytes
    }

    /// Whether rows that take so much are to leave memory. What is kept here of those in the store counts, up to half of all that there
    /// is: else every batch would leave at once, and what is kept would grow the faster.
    pub(super) fn is_over(&self, memory_bytes: usize) -> bool {
        let most = self.memory_bytes_now();
        memory_bytes > most.saturating_sub(self.index_bytes()).max(most / 2)
    }

    /// Bytes of what stays in memory of rows in the store.
    fn index_bytes(&self) -> usize {
        let blocks = self.spans.values().flat_map(|span| &span.blocks);
        let blocks: usize = blocks.map(|blocks| size_of_val(blocks) + blocks.capacity() * size_of::<Block>()).sum();
        blocks + self.spans.len() * size_of::<(Span, OnDisk)>()
    }

    /// Tells how much rows take in memory.
    pub(super) fn report(&self, memory_bytes: usize) {
        let on_disk = self.spans.values().map(|span| span.bytes).sum();
        self.spill.counters.state(memory_bytes + self.index_bytes(), on_disk);
    }

    /// Rows in the store; a key of several runs counts as often.
    pub(super) fn rows(&self) -> u64 {
        self.spans.values().map(|span| span.rows).sum()
    }

    #[cfg(test)]
    pub(super) fn counts(&self) -> crate::metrics::NodeCounts {
        self.spill.counters.read()
    }

    /// How much the store has.
    #[cfg(test)]
    pub(super) fn entries(&self) -> usize {
        self.spill.area.range(&[], &[255; 28]).count()
    }

    /// Whether the store has rows of the span.
    pub(super) fn has(&self, span: Span) -> bool {
        self.spans.contains_key(&span)
    }

    /// The first span from `start` on of which the store has rows.
    pub(super) fn first_from(&self, start: EventTime) -> Option<Span> {
        self.spans.range((start, EventTime::MIN)..).next().map(|(span, _)| *span)
    }

    /// Bytes that the store has of a span.
    pub(super) fn bytes_of(&self, span: Span) -> u64 {
        self.spans.get(&span).map_or(0, |span| span.bytes)
    }

    /// Adds the partitions in which the store has rows of a span.
    pub(super) fn partitions(&self, span: Span, to: &mut BTreeSet<u32>) {
        let Some(on_disk) = self.spans.get(&span) else { return };
        to.extend(on_disk.partitions.iter());
    }

    /// These partitions, which have so many bytes in all, to be read a few at a time.
    pub(super) fn left(&self, partitions: BTreeSet<u32>, bytes: u64) -> Left {
        let count = partitions.len();
        let step = (self.spill.memory_bytes as u64 / READ_SHARE).saturating_mul(count as u64) / bytes.max(1);
        let step = usize::try_from(step).unwrap_or(count).clamp(1, count.max(1));
        Left { partitions: partitions.into_iter().rev().collect(), step }
    }

    /// Drops a span.
    pub(super) fn forget(&mut self, span: Span) -> Result<(), OperatorError> {
        if self.spans.remove(&span).is_none() {
            return Ok(());
        }
        self.swept.iter_mut().for_each(|swept| swept.forget(span));
        let (generation, mut keys) = (self.generation, Vec::new());
        for entry in self.spill.area.range(&place(generation, span, 0), &place(generation, span, PARTITIONS)) {
            keys.push(entry?.0);
        }
        self.spill.area.write(keys.len() * 48, |put| keys.iter().try_for_each(|key| put(key, None)))
    }

    /// Writes rows of a table as a run.
    pub(super) fn write(
        &mut self,
        span: Span,
        table: usize,
        about_bytes: usize,
        rows: impl Iterator<Item = Result<Sorted, OperatorError>>,
    ) -> Result<(), OperatorError> {
        let codec = self.tables.get(table).ok_or_else(|| unknown(table))?;
        let run = self.spans.get(&span).map_or(0, |span| span.runs);
        let (generation, mut written, mut count) = (self.generation, Vec::new(), 0);
        self.spill.area.write::<OperatorError>(about_bytes, |put| {
            let (table, value, written) = (table as u8, Vec::new(), &mut written);
            let mut writer = RunWriter { put, generation, span, table, run, at: None, value, written };
            for rows in rows {
                let (partitions, columns) = rows?;
                count += partitions.len() as u64;
                let rows = codec.writer(&columns).map_err(|error| internal(&error))?;
                for (row, partition) in partitions.into_iter().enumerate() {
                    writer.at(partition)?;
                    rows.push(row, &mut writer.value);
                }
            }
            writer.flush()
        })?;
        if !written.is_empty() {
            let tables = self.tables.len();
            self.spans.entry(span).or_insert_with(|| OnDisk::new(tables)).note(table, count, &written);
            self.swept.iter_mut().for_each(|swept| swept.note(span, run, &written));
        }
        Ok(())
    }

    /// As [`SpilledRuns::write`], of rows in any order; `partitions` says which those of a batch belong to.
    pub(super) fn write_rows(
        &mut self,
        span: Span,
        table: usize,
        batches: &[RecordBatch],
        mut partitions: impl FnMut(&RecordBatch) -> Result<Vec<u32>, OperatorError>,
    ) -> Result<(), OperatorError> {
        let mut rows: Vec<(u32, usize, usize)> = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            rows.extend(partitions(batch)?.into_iter().enumerate().map(|(row, partition)| (partition, number, row)));
        }
        if rows.is_empty() {
            return Ok(());
        }
        rows.sort_unstable();
        let bytes = batches.iter().map(bytes_of).sum();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let sorted = rows.chunks(SORTED_AT_ONCE).map(|rows| {
            let places: Vec<(usize, usize)> = rows.iter().map(|(_, batch, row)| (*batch, *row)).collect();
            let rows_of = interleave_record_batch(&batches, &places);
            let rows_of = rows_of.map_err(|error| internal(&StateError::Arrow(error)))?;
            Ok((rows.iter().map(|row| row.0).collect(), rows_of.columns().to_vec()))
        });
        self.write(span, table, bytes, sorted)
    }

    /// What the store has of a span in these partitions: by table, the earliest run first.
    pub(super) fn read(&self, span: Span, partitions: &Range<u32>) -> Result<Vec<Run>, OperatorError> {
        if !self.has(span) {
            return Ok(Vec::new());
        }
        let (area, generation) = (&self.spill.area, self.generation);
        let mut runs: BTreeMap<(u8, u32), Vec<Value>> = BTreeMap::new();
        for entry in area.range(&place(generation, span, partitions.start), &place(generation, span, partitions.end)) {
            let (key, value) = entry?;
            let of =
                key.get(20..25).and_then(|of| Some((*of.first()?, u32::from_be_bytes(*of.get(1..)?.first_chunk()?))));
            runs.entry(of.ok_or_else(|| area.damaged("a key ends too early"))?).or_default().push(value);
        }
        Ok(runs.into_iter().map(|((table, _), values)| Run { table: usize::from(table), values }).collect())
    }

    /// The rows of these runs, one after the other, of those that are of the table.
    pub(super) fn columns<'a>(
        &self,
        table: usize,
        runs: impl IntoIterator<Item = &'a Run>,
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        let codec = self.tables.get(table).ok_or_else(|| unknown(table))?;
        let values = runs.into_iter().filter(|run| run.table == table).flat_map(|run| &run.values);
        let read = rows_of(codec, values.map(Ok));
        Ok(read.map_err(|error| match error {
            Unread::Store(error) => error,
            Unread::Damaged(reason) => self.spill.area.damaged(reason),
        })?)
    }

    /// What is in the store as of now; none if that is nothing.
    pub(super) fn freeze(&self) -> Option<FrozenRuns> {
        if self.spans.is_empty() {
            return None;
        }
        let of_table = |table: usize| {
            let blocks = |(span, on_disk): (&Span, &OnDisk)| {
                let blocks = on_disk.blocks.get(table).into_iter().flatten();
                blocks.map(|block| (*span, on_disk.partitions, *block)).collect::<Vec<_>>()
            };
            self.spans.iter().flat_map(blocks).collect()
        };
        Some(FrozenRuns {
            area: Arc::new(self.spill.area.freeze()),
            tables: Arc::clone(&self.tables),
            generation: self.generation,
            blocks: (0..self.tables.len()).map(of_table).collect(),
        })
    }
}

fn unknown(table: usize) -> OperatorError {
    OperatorError::Internal { reason: format!("rows of an unknown table {table}") }
}

/// What is in the store as it was.
pub(super) struct FrozenRuns {
    area: Arc<FrozenArea>,
    tables: Arc<Vec<RowCodec>>,
    generation: u16,
    /// by table, with the span's partitions
    blocks: Vec<Vec<(Span, Partitions, Block)>>,
}

impl FrozenRuns {
    /// The rows of a table, span by span, those of a partition in the order in which they were written; `make` makes what the snapshot
    /// holds of some rows of a span.
    pub(super) fn later(
        &self,
        table: usize,
        make: impl Fn(Span, Vec<ArrayRef>) -> Result<RecordBatch, StateError> + Send + Sync + 'static,
    ) -> Vec<Later> {
        let make = Arc::new(make);
        let blocks = self.blocks.get(table).into_iter().flatten();
        let later = |(span, partitions, block): &(Span, Partitions, Block)| {
            let (area, tables, make) = (Arc::clone(&self.area), Arc::clone(&self.tables), Arc::clone(&make));
            let (id, at) = (u128::from(block.id), (self.generation, *span, table));
            let (partitions, block) = (*partitions, *block);
            Later::new(move || id, move || make(at.1, read_block(&area, &tables, at, (partitions, block))?))
        };
        blocks.map(later).collect()
    }
}

fn read_block(
    area: &FrozenArea,
    tables: &[RowCodec],
    (generation, span, table): (u16, Span, usize),
    (partitions, block): (Partitions, Block),
) -> Result<Vec<ArrayRef>, StateError> {
    let codec = tables.get(table).ok_or(StateError::ColumnCount { expected: tables.len(), found: table })?;
    // runs of a partition and table are neighbours in the store
    let parts = partitions.iter().map(|partition| (partition, block.runs(partition)));
    let values = parts.filter(|(_, runs)| !runs.is_empty()).flat_map(|(partition, runs)| {
        let [from, to] = [runs.start, runs.end].map(|run| place_of(generation, span, partition, (table as u8, run)));
        area.range(&from, &to).map(|entry| entry.map(|(_, value)| value)).collect::<Vec<_>>()
    });
    let elsewhere = |error: SpillError| StateError::Elsewhere { reason: error.to_string() };
    rows_of(codec, values).map_err(|error| match error {
        Unread::Store(error) => elsewhere(error),
        Unread::Damaged(reason) => elsewhere(area.damaged(reason)),
    })
}

/// Values that could not be read.
enum Unread {
    Store(SpillError),
    Damaged(String),
}

fn rows_of<V: AsRef<[u8]>>(
    codec: &RowCodec,
    values: impl Iterator<Item = Result<V, SpillError>>,
) -> Result<Vec<ArrayRef>, Unread> {
    let mut rows = codec.reader(0);
    for value in values {
        let value = value.map_err(Unread::Store)?;
        let read = rows.read(value.as_ref()).ok_or_else(|| Unread::Damaged("a row ends too early".to_owned()))?;
        read.map_err(|error| Unread::Damaged(error.to_string()))?;
    }
    rows.finish().map_err(|error| Unread::Damaged(error.to_string()))
}

impl OnDisk {
    fn new(tables: usize) -> Self {
        Self { runs: 0, rows: 0, bytes: 0, partitions: Partitions::default(), blocks: vec![Vec::new(); tables] }
    }

    /// A run has been written: its rows, and its partitions with their bytes.
    fn note(&mut self, table: usize, rows: u64, written: &[(u32, u64)]) {
        let run = self.runs;
        self.runs += 1;
        self.rows += rows;
        let Some(blocks) = self.blocks.get_mut(table) else { return };
        for (partition, bytes) in written {
            self.bytes += bytes;
            self.partitions.add(*partition);
            let (id, to) = (next_freezing(), Place { run, partition: *partition });
            match blocks.last_mut().filter(|last| last.bytes < BLOCK_BYTES) {
                Some(block) => (block.id, block.bytes, block.to) = (id, block.bytes + bytes, to),
                None => blocks.push(Block { id, bytes: *bytes, from: to, to }),
            }
        }
    }
}

/// A run on its way to the store.
struct RunWriter<'a, 'b> {
    put: &'a mut Put<'b, OperatorError>,
    generation: u16,
    span: Span,
    table: u8,
    run: u32,
    /// partition, and part of it, of the value at hand
    at: Option<(u32, u32)>,
    value: Vec<u8>,
    /// partitions and their bytes
    written: &'a mut Vec<(u32, u64)>,
}

impl RunWriter<'_, '_> {
    /// The next row is of this partition.
    fn at(&mut self, partition: u32) -> Result<(), OperatorError> {
        match self.at {
            Some((last, _)) if last == partition && self.value.len() < VALUE_BYTES => return Ok(()),
            Some((last, part)) if last == partition => {
                self.flush()?;
                self.at = Some((partition, part + 1));
            }
            _ => {
                self.flush()?;
                self.at = Some((partition, 0));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OperatorError> {
        let Some((partition, part)) = self.at.filter(|_| !self.value.is_empty()) else { return Ok(()) };
        let mut key = place_of(self.generation, self.span, partition, (self.table, self.run));
        key.extend_from_slice(&part.to_be_bytes());
        (self.put)(&key, Some(&self.value))?;
        let bytes = (key.len() + self.value.len()) as u64;
        match self.written.last_mut() {
            Some((last, sum)) if *last == partition => *sum += bytes,
            _ => self.written.push((partition, bytes)),
        }
        self.value.clear();
        Ok(())
    }
}

/// Where partition `partition` of a span begins.
fn place(generation: u16, span: Span, partition: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(29);
    key.extend_from_slice(&generation.to_be_bytes());
    for time in [span.0, span.1] {
        key.extend_from_slice(&(time as u64 ^ 1 << 63).to_be_bytes());
    }
    key.extend_from_slice(&(partition as u16).to_be_bytes());
    key
}

fn place_of(generation: u16, span: Span, partition: u32, (table, run): (u8, u32)) -> Vec<u8> {
    let mut key = place(generation, span, partition);
    key.push(table);
    key.extend_from_slice(&run.to_be_bytes());
    key
}

/// Bytes of a batch's rows.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or_default();
    batch.columns().iter().map(bytes).sum()
}

/// The partitions of keys.
pub(super) fn partitions_of(fields: &[Field], keys: &[&ArrayRef], rows: usize) -> Result<Vec<u32>, OperatorError> {
    let mut encoded = KeyRows::default();
    encoded.encode(fields, keys, rows).map_err(|error| internal(&error))?;
    Ok((0..rows).map(|row| partition_of(encoded.row(row))).collect())
}

fn partition_of(key: &[u8]) -> u32 {
    let hash = foldhash::quality::FixedState::with_seed(0).hash_one(key);
    (hash >> (u64::BITS - PARTITIONS.trailing_zeros())) as u32
}

#[cfg(test)]
mod tests;
