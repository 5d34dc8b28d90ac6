//! The store's side of keys that leave memory.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field as ArrowField};

use super::*;
use crate::record::{Field, Kind};
use crate::spill::testing;

#[test]
fn what_is_kept_of_a_key_comes_back_as_it_was_and_nothing_else_is_taken_for_it() {
    let parts = Parts { wakes: [Some(i64::MIN), None, Some(7)], tables: vec![b"rows".as_slice(), b""] };
    let value = parts.write().unwrap();
    let read = Parts::read(&value, 2).unwrap();
    assert_eq!((read.wakes, read.tables), (parts.wakes, parts.tables));
    assert!((0..value.len()).all(|end| Parts::read(&value[..end], 2).is_none()));
    assert!(Parts::read(&value, 1).is_none() && Parts::read(&value, 3).is_none());
}

#[test]
fn marks_are_in_the_order_of_time() {
    let times = [i64::MIN, -5, 0, 3, i64::MAX];
    let marks: Vec<Vec<u8>> = times.iter().map(|time| mark_of(Wake::Event, *time, b"key")).collect();
    assert!(marks.is_sorted());
    assert!(marks.iter().zip(times).all(|(mark, time)| read_mark(mark) == Some((time, b"key".as_slice()))));
    assert_eq!(read_mark(b"e1234"), None);
}

/// Keeps a time by key, for which it waits.
struct Waiting {
    keys: KeyTable,
    times: Vec<i64>,
    wake: Wake,
}

fn table() -> SavedTable {
    SavedTable::new("keys", &[Field::new("key", Kind::Int64)], [ArrowField::new("time", DataType::Int64, false)])
}

impl Waiting {
    fn new(wake: Wake) -> Self {
        Self { keys: KeyTable::new(&[Field::new("key", Kind::Int64)]), times: Vec::new(), wake }
    }

    fn put(&mut self, key: i64, time: i64) {
        let (keys, times): (Vec<i64>, Vec<i64>) = ([key].into(), [time].into());
        let columns: [ArrayRef; 2] = [Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(times))];
        self.load(&[RecordBatch::try_new(table().schema().clone(), columns.into()).unwrap()]).unwrap();
    }

    /// What is in memory, and nothing else any more.
    fn take(&mut self) -> Vec<i64> {
        self.keep(&[]).unwrap();
        std::mem::take(&mut self.times)
    }
}

impl ByKey for Waiting {
    fn key_table(&self) -> &KeyTable {
        &self.keys
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        let mut columns = self.keys.keys(slots).unwrap();
        columns.push(Arc::new(slots.iter().map(|slot| Some(self.times[*slot as usize])).collect::<Int64Array>()));
        Ok(vec![vec![RecordBatch::try_new(table().schema().clone(), columns).unwrap()]])
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        let wakes = |slot: &u32| Wake::ALL.map(|wake| (wake == self.wake).then_some(self.times[*slot as usize]));
        slots.iter().map(wakes).collect()
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        if !slots.is_empty() {
            self.times = slots.iter().map(|slot| self.times[*slot as usize]).collect();
        }
        Ok(self.keys.retain(slots).unwrap())
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        let mut slots = Vec::new();
        for table in tables {
            self.keys.slots(&[table.column(0)], table.num_rows(), &mut slots).unwrap();
            self.times.extend(table.column(1).as_primitive::<Int64Type>().values());
        }
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        usize::MAX / 2
    }
}

/// Writes all that is in memory.
fn write_all(of: &mut Waiting, spilled: &mut SpilledKeys) {
    let slots: Vec<u32> = (0..of.times.len() as u32).collect();
    spilled.write(of, &slots).unwrap();
    of.take();
}

/// For how many of these times the marks of all keys lie before where reading begins.
fn passed(spilled: &SpilledKeys, wake: Wake, times: Range<i64>) -> usize {
    times.filter(|time| mark_of(wake, *time, &[255; 16]) < spilled.floors[wake as usize]).count()
}

#[test]
fn keys_that_are_due_are_not_looked_for_where_others_have_been() {
    for wake in [Wake::Event, Wake::Processing, Wake::Expiry] {
        let (mut of, mut spilled) = (Waiting::new(wake), SpilledKeys::new(testing::spill(1), &[&table()]).unwrap());
        (0..5_000).for_each(|key| of.put(key, key));
        write_all(&mut of, &mut spilled);
        let mut found = Vec::new();
        while let Some(more) = spilled.bring_due(&mut of, wake, 3_499).unwrap() {
            found.extend(of.take());
            assert_eq!((more, passed(&spilled, wake, 0..5_000)), (found.len() as i64 - 1, found.len()));
        }
        found.extend(of.take());
        assert!(found.into_iter().eq(0..3_500));
        // none of those that are gone is looked at again
        assert_eq!(passed(&spilled, wake, 0..5_000), 3_500);
        assert_eq!(spilled.next_processing_time(), (wake == Wake::Processing).then_some(3_500));
        // one that comes to wait for an earlier time is found, and an earlier time finds nothing
        of.put(7_000, 20);
        write_all(&mut of, &mut spilled);
        assert_eq!(passed(&spilled, wake, 0..5_000), 20);
        assert_eq!(spilled.bring_due(&mut of, wake, 19).unwrap(), None);
        assert!(of.take().is_empty());
        spilled.bring_due(&mut of, wake, 3_500).unwrap();
        assert_eq!(of.take(), [20, 3_500]);
        assert_eq!(spilled.bring_due(&mut of, wake, 30).unwrap(), None);
        while spilled.bring_due(&mut of, wake, i64::MAX).unwrap().is_some() {}
        assert_eq!((of.take().len(), spilled.keys_spilled(), spilled.next_processing_time()), (1_499, 0, None));
        of.put(8_000, 40);
        write_all(&mut of, &mut spilled);
        spilled.bring_due(&mut of, wake, 40).unwrap();
        assert_eq!(of.take(), [40]);
    }
}

/// Times of the keys in a block of a snapshot.
fn times(block: &Later) -> Vec<i64> {
    block.rows().unwrap().column(1).as_primitive::<Int64Type>().values().to_vec()
}

#[test]
fn keys_that_come_and_go_leave_all_blocks_of_a_snapshot_as_they_were_but_their_own() {
    let (mut of, mut spilled) = (Waiting::new(Wake::Event), SpilledKeys::new(testing::spill(1), &[&table()]).unwrap());
    (0..30_000).for_each(|key| of.put(key, key));
    write_all(&mut of, &mut spilled);
    let blocks = |spilled: &SpilledKeys| spilled.freeze().remove(0);
    let ids = |blocks: &[Later]| blocks.iter().map(Later::id).collect::<std::collections::BTreeSet<_>>();
    let before = blocks(&spilled);
    assert!(before.iter().all(|block| times(block).len() <= BLOCK_KEYS as usize));
    // some come back, others are new: which of the partitions have more than before is by chance
    spilled.bring_due(&mut of, Wake::Event, 1).unwrap();
    assert_eq!(of.take(), [0, 1]);
    of.put(50_000, 50_000);
    write_all(&mut of, &mut spilled);
    let after = blocks(&spilled);
    let (kept, all) = (ids(&before).intersection(&ids(&after)).count(), ids(&before).len());
    assert!(all >= 8 && (all - 3..all).contains(&kept), "{kept} of {all} blocks are as they were");
    let of_all = |blocks: &[Later]| {
        let mut all: Vec<i64> = blocks.iter().flat_map(times).collect();
        all.sort_unstable();
        all
    };
    assert!(of_all(&before).into_iter().eq(0..30_000), "as of its barrier");
    assert!(of_all(&after).into_iter().eq((2..30_000).chain([50_000])));
}

#[test]
fn a_block_of_few_large_values_takes_no_more_bytes_than_it_may() {
    let of = |bytes: u64, keys: u64| vec![Partition { keys, bytes, number: 1 }; 64];
    let cut = |partitions: &[Partition]| {
        let mut blocks = Vec::new();
        super::cut(partitions, 0, &mut blocks);
        blocks.into_iter().map(|(range, _)| (range.start, range.end)).collect::<Vec<_>>()
    };
    assert_eq!(cut(&of(10, 1)), [(0, 64)]);
    assert_eq!(cut(&of(BLOCK_BYTES / 32, 1)), [(0, 32), (32, 64)]);
    assert_eq!(cut(&of(10, BLOCK_KEYS)).len(), 64);
    assert_eq!(cut(&of(10, BLOCK_KEYS * 2)).len(), 64, "a partition is not cut");
    assert!(cut(&of(0, 0)).is_empty());
}
