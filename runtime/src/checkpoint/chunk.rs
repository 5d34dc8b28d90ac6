//! State in pieces: what did not change between two checkpoints is the same piece, by its digest, and is not written again.
//!
//! Small state is one piece. A larger table is cut at its batches (an operator that keeps old rows in batches of their
//! own has them unchanged), and a large batch by ranges of key groups, so that a key that changes takes a part of the
//! table with it and not all. The pieces of a table hold its rows in their order, key by key.

use arrow_array::{Array, RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;

use crate::limits::KEY_GROUPS;
use crate::partition::{hash_rows, key_group};
use crate::state::{Snapshot, Table};

/// Bytes of rows in a piece, about: smaller pieces save more and cost more requests.
const CHUNK_BYTES: usize = 1 << 20;

/// A batch from this size on is a piece of its own, so that it stays one when batches before it go.
const OWN_BYTES: usize = 128 << 10;

/// State that becomes one file.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) state: Snapshot,
    /// a block of a frozen copy, whose rows are not made yet: which
    pub(super) frozen: Option<u128>,
}

impl From<Snapshot> for Piece {
    fn from(state: Snapshot) -> Self {
        Self { state, frozen: None }
    }
}

/// The pieces of what one task remembers. Blocks of frozen copies are of the right size already.
pub(super) fn split(mut state: Snapshot) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut small = Snapshot::default();
    for mut table in std::mem::take(&mut state.tables) {
        let later = std::mem::take(&mut table.later);
        for block in &later {
            let state = Snapshot::default().with(&table.name, table.keys, Vec::new()).with_later(vec![block.clone()]);
            pieces.push(Piece { state, frozen: Some(block.id()) });
        }
        let bytes: usize = table.rows.iter().map(bytes_of).sum();
        if bytes > CHUNK_BYTES {
            split_table(&table, &mut pieces)?;
        } else if later.is_empty() || !table.rows.is_empty() {
            small.tables.push(table);
        }
    }
    if !small.tables.is_empty() {
        pieces.push(small.into());
    }
    Ok(pieces)
}

fn split_table(table: &Table, pieces: &mut Vec<Piece>) -> Result<(), String> {
    let mut waiting = Vec::new();
    let mut waiting_bytes = 0;
    let piece = |rows| Piece::from(Snapshot::default().with(&table.name, table.keys, rows));
    for batch in &table.rows {
        let bytes = bytes_of(batch);
        if bytes >= OWN_BYTES && !waiting.is_empty() {
            pieces.push(piece(std::mem::take(&mut waiting)));
            waiting_bytes = 0;
        }
        if bytes < OWN_BYTES {
            waiting.push(batch.clone());
            waiting_bytes += bytes;
            if waiting_bytes >= CHUNK_BYTES {
                pieces.push(piece(std::mem::take(&mut waiting)));
                waiting_bytes = 0;
            }
        } else if bytes <= CHUNK_BYTES {
            pieces.push(piece(vec![batch.clone()]));
        } else {
            let parts = match table.keys {
                Some(keys) => by_key_groups(batch, keys, ranges(bytes))?,
                None => by_rows(batch, bytes),
            };
            pieces.extend(parts.into_iter().map(|rows| piece(vec![rows])));
        }
    }
    if !waiting.is_empty() {
        pieces.push(piece(waiting));
    }
    Ok(())
}

/// A power of two, so that a range of key groups is cut in two when the state has doubled, and otherwise stays.
fn ranges(bytes: usize) -> usize {
    (bytes / CHUNK_BYTES).next_power_of_two().min(KEY_GROUPS as usize)
}

fn by_key_groups(batch: &RecordBatch, keys: usize, ranges: usize) -> Result<Vec<RecordBatch>, String> {
    let columns: Vec<_> = batch.columns().iter().take(keys).collect();
    let mut hashes = Vec::new();
    hash_rows(&columns, batch.num_rows(), &mut hashes).map_err(|error| error.to_string())?;
    let mut rows = vec![Vec::new(); ranges];
    for (row, hash) in (0u32..).zip(hashes) {
        let range = key_group(hash) as usize * ranges / KEY_GROUPS as usize;
        rows.get_mut(range).into_iter().for_each(|rows| rows.push(row));
    }
    let taken = rows
        .into_iter()
        .filter(|rows| !rows.is_empty())
        .map(|rows| take_record_batch(batch, &UInt32Array::from(rows)).map_err(|error| error.to_string()));
    taken.collect()
}

fn by_rows(batch: &RecordBatch, bytes: usize) -> Vec<RecordBatch> {
    let rows = batch.num_rows().div_ceil(bytes.div_ceil(CHUNK_BYTES)).max(1);
    (0..batch.num_rows()).step_by(rows).map(|at| batch.slice(at, rows.min(batch.num_rows() - at))).collect()
}

/// Puts the pieces of a task together again, in the order in which [`split`] gave them.
pub(super) fn join(pieces: impl IntoIterator<Item = Snapshot>) -> Snapshot {
    let mut state = Snapshot::default();
    for table in pieces.into_iter().flat_map(|piece| piece.tables) {
        match state.tables.iter_mut().find(|known| known.name == table.name) {
            Some(known) => known.rows.extend(table.rows),
            None => state.tables.push(table),
        }
    }
    state
}

/// Tells one piece from all others by its content: BLAKE3, the first half, hexadecimal. Guests write what is in pieces, so nobody
/// may be able to make two alike; of the hashes that promise this it takes the least from the processors.
pub(super) fn digest(content: &[u8]) -> String {
    blake3::hash(content).as_bytes().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of the rows, not of the buffers that they may share with others.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes = |column: &arrow_array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(usize::MAX / 1024);
    batch.columns().iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};

    use super::*;

    fn rows(keys: std::ops::Range<i64>, changed: i64) -> RecordBatch {
        let values = keys.clone().map(|key| format!("value {} {:0100}", key, i64::from(key == changed)));
        let values: StringArray = values.map(Some).collect();
        RecordBatch::try_from_iter([
            ("key", Arc::new(Int64Array::from_iter_values(keys)) as _),
            ("value", Arc::new(values) as _),
        ])
        .unwrap()
    }

    fn digests(state: &Snapshot) -> Vec<String> {
        let pieces = split(state.clone()).unwrap();
        pieces.iter().map(|piece| digest(&super::super::state_file::encode(&piece.state).unwrap())).collect()
    }

    #[test]
    fn pieces_of_a_large_state_hold_all_its_rows_once() {
        let state = Snapshot::default()
            .with("keyed", Some(1), vec![rows(0..10, -1), rows(10..60_000, -1), rows(60_000..60_010, -1)])
            .with("all", None, vec![rows(0..30_000, -1)])
            .with("small", Some(1), vec![rows(0..5, -1)])
            .with("empty", Some(1), vec![]);
        let pieces: Vec<Snapshot> = split(state).unwrap().into_iter().map(|piece| piece.state).collect();
        assert!(pieces.len() > 10, "{}", pieces.len());
        assert!(
            pieces
                .iter()
                .flat_map(|piece| &piece.tables)
                .flat_map(|table| &table.rows)
                .all(|rows| bytes_of(rows) < 2 * CHUNK_BYTES)
        );
        let joined = join(pieces);
        for (name, count) in [("keyed", 60_010), ("all", 30_000), ("small", 5)] {
            let keys = joined
                .rows(name)
                .iter()
                .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
            let mut keys: Vec<i64> = keys.collect();
            if name == "all" {
                assert!(keys.is_sorted(), "rows without keys stay in order");
            }
            keys.sort_unstable();
            assert!(keys.into_iter().eq(0..count), "{name}");
        }
        assert_eq!(joined.tables.len(), 4, "a table without rows is a table");
    }

    #[test]
    fn one_changed_key_changes_one_piece() {
        let of = |changed| Snapshot::default().with("keyed", Some(1), vec![rows(0..100_000, changed)]);
        let (before, after) = (digests(&of(-1)), digests(&of(77)));
        assert_eq!(before.len(), after.len());
        assert!(before.len() >= 8, "{}", before.len());
        assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
    }

    #[test]
    fn batches_that_go_at_the_front_and_come_at_the_end_leave_those_between_as_they_were() {
        let slice = |number: i64| rows(number * 2_000..(number + 1) * 2_000, -1);
        let of = |slices: std::ops::Range<i64>| {
            digests(&Snapshot::default().with("windows", Some(1), slices.map(slice).collect()))
        };
        let (before, after) = (of(0..10), of(1..11));
        assert_eq!(before.get(1..), after.get(..9));
    }

    #[test]
    fn rows_in_a_new_batch_leave_old_large_batches_as_they_were() {
        let old = rows(0..100_000, -1);
        let before = digests(&Snapshot::default().with("keyed", Some(1), vec![old.clone()]));
        let after = digests(&Snapshot::default().with("keyed", Some(1), vec![old, rows(0..3, -1)]));
        assert_eq!(after.get(..before.len()), Some(before.as_slice()));
        assert_eq!(after.len(), before.len() + 1);
    }
}
