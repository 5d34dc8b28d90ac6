//! Windows with a budget of memory, against the same with as much as they like.

use proptest::prelude::*;

use super::fold::input;
use super::model::{events, letters_in_order};
use super::restoring::{all_aggregates, script};
use super::*;
use crate::operator::spilled_keys::ByKey;
use crate::operator::{AggregateStep, KeyWindowAggregate, OnError};
use crate::restoring::Restoring;
use crate::spill::{Spill, SpillStore, testing};

fn step(keys: &[usize], window: WindowSpec, lateness_ms: u64, spill: Option<Spill>) -> Box<dyn Operator> {
    let aggregates = all_aggregates();
    let outputs = aggregates.iter().map(|_| None).collect();
    let spec = WindowAggregateSpec { spill, ..spec(&input(), keys, window, lateness_ms, aggregates) };
    Box::new(AggregateStep::new(spec, OnError::DeadLetter, outputs).unwrap())
}

fn window() -> impl Strategy<Value = WindowSpec> {
    prop_oneof![
        2 => (1u64..40).prop_map(|size| sliding(size, size, 0)),
        3 => (1u64..25, 1u64..25, -3i64..3).prop_map(|(size, every, offset)| {
            let every = every.min(size);
            sliding(size, every, offset % every as i64)
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn what_spills_comes_back_as_it_was(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![3], vec![1, 3, 0], vec![]]),
        window in window(),
        lateness in prop_oneof![2 => Just(0), 1 => 1u64..30, 1 => Just(i64::MAX as u64)],
        rows_a_batch in 4usize..50,
        // from all at once to some of it now and then: a chunk of all aggregates takes half a megabyte
        memory_bytes in prop_oneof![Just(1_usize), 300_000_usize..3_000_000],
    ) {
        let script = script(&happenings, rows_a_batch);
        let spilling = || step(&keys, window, lateness, Some(testing::spill(memory_bytes)));
        let keyed: &[&[usize]] = &[&keys];
        let spilling = Restoring::new(spilling).keyed(keyed).in_any_order(letters_in_order).in_runs();
        let in_memory = Restoring::new(|| step(&keys, window, lateness, None)).keyed(keyed).in_any_order(letters_in_order);
        spilling.same_as(&in_memory, &script);
        spilling.check(&script);
    }
}

fn counting(memory_bytes: Option<usize>) -> WindowAggregate {
    let aggregates = vec![
        built_in("n", AggregateFunction::Count, None),
        built_in("total", AggregateFunction::Sum, Some(2)),
        built_in("note", AggregateFunction::Last, Some(4)),
    ];
    let spec = spec(&input(), &[0], sliding(20, 10, 0), 0, aggregates);
    WindowAggregate::new(WindowAggregateSpec { spill: memory_bytes.map(testing::spill), ..spec }).unwrap()
}

fn rows_of(ids: std::ops::Range<i64>, time: i64) -> Vec<(Vec<Cell>, i64)> {
    let note = |id: i64| Cell::Text(format!("note {id} of a key"));
    ids.map(|id| (vec![Cell::Int(id), Cell::Null, Cell::Int(id), Cell::Float(0.0), note(id)], time)).collect()
}

/// Results of one watermark, part by part.
fn parts(operator: &mut WindowAggregate, time: i64) -> Vec<Vec<Vec<Cell>>> {
    let mut parts = vec![results(&advance(operator, time))];
    loop {
        let mut out = Output::default();
        if !operator.go_on(&mut out).unwrap() {
            return parts;
        }
        parts.push(results(&out));
    }
}

#[test]
fn a_large_window_leaves_in_parts_and_memory_stays_within_its_bounds() {
    const MEMORY_BYTES: usize = 1 << 20;
    let (mut spilling, mut in_memory) = (counting(Some(MEMORY_BYTES)), counting(None));
    let mut most = 0;
    for (first, time) in (0..100_000).step_by(2_000).zip((0..20).cycle()) {
        let rows = rows_of(first..first + 2_000, time);
        put_in(&mut spilling, &input(), &rows);
        put_in(&mut in_memory, &input(), &rows);
        let held: usize = spilling.states.values().map(SliceState::bytes).sum();
        most = most.max(held + spilling.parts.table.bytes());
    }
    assert!(most < MEMORY_BYTES, "{most}");
    let counters = spilling.spilled.as_ref().map(|spilled| spilled.counts()).unwrap();
    assert!(counters.spilled_bytes > 3 << 20 && counters.state_bytes < MEMORY_BYTES as u64, "{counters:?}");
    let parts = parts(&mut spilling, 19);
    let largest = parts.iter().map(Vec::len).max().unwrap();
    assert!(parts.len() > 10 && largest < 20_000, "{} parts, the largest of {largest} rows", parts.len());
    let mut found: Vec<String> = parts.concat().iter().map(|row| format!("{row:?}")).collect();
    let mut expected: Vec<String> =
        self::parts(&mut in_memory, 19).concat().iter().map(|row| format!("{row:?}")).collect();
    found.sort();
    expected.sort();
    assert_eq!(found.len(), 160_000);
    assert!(found == expected);
    assert_eq!((spilling.slices_held(), in_memory.slices_held()), (1, 1));
    parts_are_gone(&mut spilling);
}

/// When all windows have fired the store is empty again.
fn parts_are_gone(operator: &mut WindowAggregate) {
    parts(operator, i64::MAX);
    assert_eq!(operator.slices_held(), 0);
    assert_eq!(operator.spilled.as_ref().map(|spilled| spilled.entries()), Some(0));
}

#[test]
fn a_restore_of_more_than_fits_spills_on_its_way() {
    let mut in_memory = counting(None);
    put_in(&mut in_memory, &input(), &rows_of(0..60_000, 5));
    let state = in_memory.snapshot().unwrap().made().unwrap();
    let mut spilling = counting(Some(1 << 20));
    spilling.restore(&state, Watermark::MIN).unwrap();
    let counts = spilling.spilled.as_ref().map(|spilled| spilled.counts()).unwrap();
    assert!(counts.spilled_bytes > 1 << 20, "{counts:?}");
    assert_eq!(parts(&mut spilling, i64::MAX).concat().len(), 120_000);
}

#[test]
fn a_barrier_reads_nothing_of_what_has_spilled_and_full_blocks_stay_the_same() {
    let mut spilling = counting(Some(1 << 20));
    for first in (0..60_000).step_by(2_000) {
        put_in(&mut spilling, &input(), &rows_of(first..first + 2_000, 5));
    }
    let later = |operator: &mut WindowAggregate| {
        let snapshot = operator.snapshot().unwrap();
        assert!(snapshot.tables.iter().all(|table| table.rows.is_empty()), "rows are made at the barrier");
        snapshot
    };
    let ids = |state: &Snapshot| state.tables[0].later.iter().map(crate::state::Later::id).collect::<Vec<_>>();
    let before = later(&mut spilling);
    assert_eq!(ids(&before), ids(&later(&mut spilling)));
    for first in (0..20_000).step_by(2_000) {
        put_in(&mut spilling, &input(), &rows_of(first..first + 2_000, 6));
    }
    let (first, second) = (ids(&before), ids(&later(&mut spilling)));
    let stay = first.iter().filter(|id| second.contains(id)).count();
    assert!(first.len() >= 4 && stay + 2 >= first.len(), "{stay} of {} blocks stay", first.len());
    // what the barrier saw is what is read after it, though windows have gone since
    assert_eq!(parts(&mut spilling, i64::MAX).concat().len(), 120_000);
    let sizes: Vec<usize> = before.tables[0].later.iter().map(|block| block.rows().unwrap().num_rows()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 60_000);
    assert!(sizes.iter().all(|rows| *rows < 40_000), "{sizes:?}");
    let mut restored = counting(None);
    restored.restore(&before.made().unwrap(), Watermark::MIN).unwrap();
    assert_eq!(parts(&mut restored, i64::MAX).concat().len(), 120_000);
}

#[test]
fn rows_of_a_key_and_slice_that_come_in_several_runs_are_merged_in_their_order() {
    let mut spilling = counting(Some(1));
    for round in 0..3 {
        put_in(&mut spilling, &input(), &rows_of(0..50, round));
    }
    let state = spilling.snapshot().unwrap().made().unwrap();
    assert_eq!(state.rows("windows").iter().map(RecordBatch::num_rows).sum::<usize>(), 150);
    let mut restored = counting(None);
    restored.restore(&state, Watermark::MIN).unwrap();
    let sorted = |operator: &mut WindowAggregate| {
        let mut rows: Vec<String> = parts(operator, i64::MAX).concat().iter().map(|row| format!("{row:?}")).collect();
        rows.sort();
        rows
    };
    let found = sorted(&mut restored);
    assert_eq!((found.len(), &found), (100, &sorted(&mut spilling)));
    assert!(found.iter().all(|row| row.contains("Int(3)")), "{found:?}");
}

#[test]
fn a_store_that_fails_fails_the_task_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let store = SpillStore::open(folder.path(), "p", 0).unwrap();
    let spill = Spill { area: store.area(), memory_bytes: 1, counters: Default::default() };
    let aggregates = vec![built_in("note", AggregateFunction::Last, Some(4))];
    let spec = spec(&input(), &[0], sliding(10, 10, 0), 0, aggregates);
    let mut operator = WindowAggregate::new(WindowAggregateSpec { spill: Some(spill), ..spec }).unwrap();
    // as a disk that is gone
    std::fs::remove_dir_all(store.folder()).unwrap();
    let rows = rows_of(0..80_000, 0);
    let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    let batch = Batch::new(batch(&input(), &cells), rows.iter().map(|row| row.1).collect()).unwrap();
    let error = operator.on_batch(batch, &mut Output::default()).unwrap_err().to_string();
    let place = store.folder().display().to_string();
    assert!(
        error.contains("cannot write") && error.contains(&place) && error.contains("raise `state.memory`"),
        "{error}"
    );
    // nothing that was taken in is gone
    assert_eq!(parts(&mut operator, 9).concat().len(), 80_000);
}

fn sessions(memory_bytes: Option<usize>) -> KeyWindowAggregate {
    let aggregates =
        vec![built_in("n", AggregateFunction::Count, None), built_in("note", AggregateFunction::Last, Some(4))];
    let spec = spec(&input(), &[0], WindowSpec::Session { gap: Duration::from_millis(100) }, 0, aggregates);
    KeyWindowAggregate::new(WindowAggregateSpec { spill: memory_bytes.map(testing::spill), ..spec }).unwrap()
}

#[test]
fn many_sessions_stay_within_their_budget_and_come_by_their_ends() {
    const MEMORY_BYTES: usize = 2 << 20;
    let (mut spilling, mut in_memory) = (sessions(Some(MEMORY_BYTES)), sessions(None));
    let mut most = 0;
    for (first, time) in (0..60_000).step_by(2_000).zip((0..50).cycle()) {
        let rows = rows_of(first..first + 2_000, time);
        put_in(&mut spilling, &input(), &rows);
        put_in(&mut in_memory, &input(), &rows);
        most = most.max(ByKey::state_bytes(&spilling));
    }
    assert!(most < MEMORY_BYTES && spilling.keys_spilled() > 40_000, "{most}, {}", spilling.keys_spilled());
    let ends = |operator: &mut KeyWindowAggregate, time: i64| -> Vec<Vec<Cell>> {
        let mut all = results(&advance(operator, time));
        loop {
            let mut out = Output::default();
            if !operator.go_on(&mut out).unwrap() {
                return all;
            }
            all.extend(results(&out));
        }
    };
    for time in [110, i64::MAX] {
        let (mut found, mut expected) = (ends(&mut spilling, time), ends(&mut in_memory, time));
        assert!(found.iter().map(|row| format!("{:?}", row[2])).is_sorted_by_key(|end| (end.len(), end)));
        let text = |rows: &mut Vec<Vec<Cell>>| rows.sort_by_key(|row| format!("{row:?}"));
        text(&mut found);
        text(&mut expected);
        assert!(!found.is_empty() && found == expected, "{} and {} rows", found.len(), expected.len());
    }
    assert_eq!((spilling.keys_spilled(), spilling.windows_open()), (0, 0));
}

#[test]
fn a_barrier_among_sessions_copies_nothing_and_blocks_that_have_not_changed_stay_the_same() {
    let mut sessions = sessions(None);
    put_in(&mut sessions, &input(), &rows_of(0..80_000, 5));
    let ids = |sessions: &mut KeyWindowAggregate| -> Vec<u128> {
        let snapshot = sessions.snapshot().unwrap();
        assert!(snapshot.tables.iter().all(|table| table.rows.is_empty()), "rows are made at the barrier");
        snapshot.tables[0].later.iter().map(crate::state::Later::id).collect()
    };
    let before = sessions.snapshot().unwrap();
    let first = ids(&mut sessions);
    put_in(&mut sessions, &input(), &rows_of(79_999..80_000, 6));
    let second = ids(&mut sessions);
    let same: Vec<bool> = first.iter().zip(&second).map(|(one, other)| one == other).collect();
    assert_eq!(same, [true, true, false]);
    advance(&mut sessions, i64::MAX);
    let before = before.made().unwrap();
    assert_eq!(before.rows("windows").iter().map(|rows| rows.num_rows()).sum::<usize>(), 80_000);
}
