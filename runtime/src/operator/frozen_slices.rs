//! A frozen copy of keys and accumulators, from which a snapshot's rows are made off the task's thread.
//!
//! Rows come in blocks of slots. A block says by the marks of its chunks whether it has changed, so that a checkpoint makes
//! rows only of those that have.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow_schema::SchemaRef;
use arrow_select::concat::concat_batches;
use sha2::{Digest, Sha256};

use super::aggregate_built_in::BuiltIn;
use super::window_aggregate_slice::{Aggregate, SliceState};
use crate::record::EventTime;
use crate::state::{Chunked, FrozenKeys, Later, StateError};

/// Chunks in a block: some hundred KiB to a MiB of rows.
const BLOCK_CHUNKS: usize = 128;

/// Slices with fewer rows share blocks.
const OWN_ROWS: usize = 2_048;

/// Keys and slices as they were.
pub(super) struct FrozenSlices {
    pub(super) schema: SchemaRef,
    pub(super) keys: FrozenKeys,
    pub(super) slices: Vec<FrozenSlice>,
    /// by aggregate; none of components
    pub(super) aggregates: Vec<Option<BuiltIn>>,
}

/// One slice as it was.
pub(super) struct FrozenSlice {
    pub(super) state: SliceState,
    pub(super) head: Head,
}

/// The columns between keys and accumulators.
pub(super) enum Head {
    /// start and end of the slice
    Bounds,
    /// a time by slot
    Times(Chunked<Option<EventTime>>),
}

/// Chunks of one slice.
#[derive(Clone, Debug)]
struct Part {
    slice: usize,
    chunks: Range<usize>,
}

/// What [`FrozenSlices::aggregates`] are.
pub(super) fn built_in(aggregates: &[Aggregate]) -> Vec<Option<BuiltIn>> {
    aggregates.iter().map(|aggregate| aggregate.built_in().cloned()).collect()
}

impl FrozenSlices {
    /// All rows, slice by slice, block by block.
    pub(super) fn blocks(self) -> Vec<Later> {
        let mut blocks = Vec::new();
        let (mut waiting, mut rows_waiting) = (Vec::new(), 0);
        for (slice, frozen) in self.slices.iter().enumerate() {
            let there_in = |chunks: Range<usize>| chunks.filter(|chunk| frozen.state.rows.has(*chunk)).count();
            let end = frozen.state.rows.chunks_end();
            let all_there = there_in(0..end);
            for start in (0..end).step_by(BLOCK_CHUNKS) {
                let chunks = start..start + BLOCK_CHUNKS;
                let there = there_in(chunks.clone());
                if there == 0 {
                    continue;
                }
                // about: where its rows are nobody has counted, and keys of other slices may have slots between them
                let rows = (frozen.state.touched * there).div_ceil(all_there);
                // a slice of some size does not share: it stays the same block when those before it go
                if rows >= OWN_ROWS && !waiting.is_empty() {
                    blocks.push(std::mem::take(&mut waiting));
                    rows_waiting = 0;
                }
                waiting.push(Part { slice, chunks });
                rows_waiting += rows;
                if rows_waiting >= OWN_ROWS {
                    blocks.push(std::mem::take(&mut waiting));
                    rows_waiting = 0;
                }
            }
        }
        blocks.extend((!waiting.is_empty()).then_some(waiting));
        let frozen = Arc::new(self);
        let later = blocks.into_iter().map(|parts| {
            let (for_id, for_rows) = (Arc::clone(&frozen), Arc::clone(&frozen));
            let (id_of, rows_of) = (parts.clone(), parts);
            Later::new(move || for_id.id(&id_of), move || for_rows.rows(&rows_of))
        });
        later.collect()
    }

    fn id(&self, parts: &[Part]) -> u128 {
        let mut marks = Vec::new();
        let mut all = Sha256::new();
        for part in parts {
            let Some(FrozenSlice { state, head }) = self.slices.get(part.slice) else { continue };
            marks.clear();
            marks.extend([state.slice.start as u64, state.slice.end as u64, part.chunks.start as u64]);
            self.keys.marks(part.chunks.clone(), &mut marks);
            state.marks(part.chunks.clone(), &mut marks);
            if let Head::Times(times) = head {
                times.marks(part.chunks.clone(), &mut marks);
            }
            all.update(bytemuck::cast_slice(&marks));
            for (slot, reason) in state.failed.range(slots_of(&part.chunks)) {
                all.update(slot.to_le_bytes());
                all.update(reason.as_bytes());
            }
        }
        let digest = all.finalize();
        digest.first_chunk().map_or(0, |bytes: &[u8; 16]| u128::from_le_bytes(*bytes))
    }

    fn rows(&self, parts: &[Part]) -> Result<RecordBatch, StateError> {
        let parts = parts.iter().filter_map(|part| Some((part, self.slices.get(part.slice)?)));
        let mut batches = Vec::new();
        for (part, slice) in parts {
            let slots = slots_of(&part.chunks);
            let slots: Vec<u32> = slice.state.slots_from(slots.start).take_while(|slot| slots.contains(slot)).collect();
            let mut columns = self.keys.keys(&slots)?;
            columns.extend(slice.head(&slots));
            columns.extend(slice.state.save_by(self.aggregates.iter().map(Option::as_ref), &slots)?);
            let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
            batches.push(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?);
        }
        match batches.as_slice() {
            [batch] => Ok(batch.clone()),
            batches => Ok(concat_batches(&self.schema, batches)?),
        }
    }
}

impl FrozenSlice {
    fn head(&self, slots: &[u32]) -> Vec<ArrayRef> {
        match &self.head {
            Head::Bounds => {
                let bound = |time| Arc::new(TimestampMillisecondArray::from_value(time, slots.len())) as ArrayRef;
                vec![bound(self.state.slice.start), bound(self.state.slice.end)]
            }
            // where every row puts out a result none is to come
            Head::Times(times) if times.chunks_end() == 0 => {
                vec![Arc::new(TimestampMillisecondArray::new_null(slots.len()))]
            }
            Head::Times(times) => {
                let times = times.of_slots(slots).map(|time| time.copied().flatten());
                vec![Arc::new(times.collect::<TimestampMillisecondArray>())]
            }
        }
    }
}

fn slots_of(chunks: &Range<usize>) -> Range<u32> {
    Chunked::<i64>::first_slot(chunks.start)..Chunked::<i64>::first_slot(chunks.end)
}
