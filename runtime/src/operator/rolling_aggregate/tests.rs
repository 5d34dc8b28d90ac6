//! Running aggregates against lists of rows.

use std::collections::BTreeMap;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::operator::window_aggregate::tests::fold::{Joined, input};
use crate::operator::window_aggregate::tests::model::{
    Event as Happening, aggregates, batches, events, expected_result, script,
};
use crate::operator::{AggregateCall, AggregateFunction, AggregateStep, OnError};
use crate::restoring::{Outcome, Restoring};
use crate::spill::testing;
use crate::state::cells::{Cell, batch, rows};
use crate::window::{Firing, Trigger};

fn spec(keys: &[usize], emit: Emit, aggregates: Vec<AggregateCall>) -> WindowAggregateSpec {
    let (window, keys) = (WindowSpec::Rolling { emit }, keys.to_vec());
    WindowAggregateSpec {
        input: input(),
        keys,
        window,
        allowed_lateness: Duration::ZERO,
        late: false,
        gap: None,
        trigger: Trigger::End,
        firing: Firing::Accumulating,
        clock: Clock::virtual_at_ms(0),
        aggregates,
        spill: None,
    }
}

fn as_batch(rows: &[(Vec<Cell>, i64)]) -> Batch {
    let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    Batch::new(batch(&input(), &cells), rows.iter().map(|row| row.1).collect()).unwrap()
}

/// Results in the order in which they come, and dead rows.
fn run(happenings: &[Happening], keys: &[usize], emit: Emit, rows_a_batch: usize) -> (Vec<String>, usize) {
    let mut operator = RollingAggregate::new(spec(keys, emit, aggregates())).unwrap();
    let mut out = Output::default();
    for (rows, watermark) in batches(happenings, rows_a_batch) {
        operator.on_batch(as_batch(&rows), &mut out).unwrap();
        watermark.into_iter().for_each(|time| operator.on_watermark(Watermark(time), &mut out).unwrap());
    }
    let found = out.batches.iter().flat_map(|batch| {
        assert_eq!(batch.columns().schema(), *operator.output().arrow());
        let times = batch.times().to_vec();
        rows(batch.columns().columns()).into_iter().zip(times)
    });
    (found.map(|(row, time)| format!("{row:?} @ {time}")).collect(), out.dead.len())
}

/// All rows of a key so far, computed anew for every result.
fn model(happenings: &[Happening], keys: &[usize], emit: Emit) -> (Vec<String>, usize) {
    let mut lists: BTreeMap<String, Vec<Vec<Cell>>> = BTreeMap::new();
    let mut order: Vec<(String, Option<i64>)> = Vec::new();
    let (mut found, mut dead, mut watermark) = (Vec::new(), 0, i64::MIN);
    let mut put_out = |rows: &[Vec<Cell>], time: i64, dead: &mut usize| match expected_result(rows) {
        Some(result) => {
            let head: Vec<_> = keys.iter().map(|key| rows[0][*key].clone()).collect();
            found.push(format!("{:?} @ {time}", [head, result].concat()));
        }
        None => *dead += 1,
    };
    for happening in happenings.iter().cloned().chain([Happening::Watermark(i64::MAX)]) {
        match happening {
            Happening::Row(row, time) => {
                let key: Vec<_> = keys.iter().map(|key| row[*key].clone()).collect();
                let key = format!("{key:?}");
                dead += usize::from(row[2] == Cell::Int(13));
                let list = lists.entry(key.clone()).or_default();
                list.push(row);
                if emit == Emit::Changes {
                    put_out(list, time, &mut dead);
                } else if let Some(known) = order.iter_mut().find(|known| known.0 == key) {
                    known.1 = known.1.max(Some(time));
                } else {
                    order.push((key, Some(time)));
                }
            }
            Happening::Watermark(time) if time > watermark => {
                watermark = time;
                for (key, time) in &mut order {
                    if let Some(time) = time.take() {
                        put_out(&lists[key], time, &mut dead);
                    }
                }
            }
            Happening::Watermark(_) => {}
        }
    }
    (found, dead)
}

fn emits() -> impl Strategy<Value = Emit> {
    prop::sample::select(vec![Emit::Changes, Emit::Latest])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn results_are_those_of_lists_in_row_order_however_the_input_is_cut(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![]]),
        emit in emits(),
        rows_a_batch in 1usize..50,
    ) {
        let (results, dead) = model(&happenings, &keys, emit);
        prop_assert_eq!(run(&happenings, &keys, emit, rows_a_batch), (results.clone(), dead));
        let make = || Box::new(RollingAggregate::new(spec(&keys, emit, aggregates())).unwrap()) as Box<dyn Operator>;
        let script = script(&happenings, rows_a_batch);
        Restoring::new(make).keyed(&[&keys]).equals(&Outcome::of(results, dead, 0), &script);
    }

    #[test]
    fn a_restore_changes_nothing(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![3], vec![]]),
        emit in emits(),
        rows_a_batch in 4usize..50,
    ) {
        let script = script(&happenings, rows_a_batch);
        let make = || {
            let aggregates = aggregates();
            let outputs = aggregates.iter().map(|_| None).collect();
            let step = AggregateStep::new(spec(&keys, emit, aggregates), OnError::DeadLetter, outputs);
            Box::new(step.unwrap()) as Box<dyn Operator>
        };
        Restoring::new(make).keyed(&[&keys]).check(&script);
    }
}

/// A step that may hold so many bytes in memory.
fn bounded(keys: &[usize], emit: Emit, memory_bytes: Option<usize>) -> Box<dyn Operator> {
    let spill = memory_bytes.map(testing::spill);
    let spec = WindowAggregateSpec { spill, ..spec(keys, emit, aggregates()) };
    let outputs = spec.aggregates.iter().map(|_| None).collect();
    Box::new(AggregateStep::new(spec, OnError::DeadLetter, outputs).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn keys_that_spill_come_back_as_they_were(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![3], vec![]]),
        emit in emits(),
        rows_a_batch in 1usize..50,
        memory_bytes in prop_oneof![Just(1_usize), 50_000_usize..500_000],
    ) {
        let script = script(&happenings, rows_a_batch);
        let keyed: &[&[usize]] = &[&keys];
        let spilling = Restoring::new(|| bounded(&keys, emit, Some(memory_bytes))).keyed(keyed);
        spilling.same_as(&Restoring::new(|| bounded(&keys, emit, None)).keyed(keyed), &script);
        spilling.check(&script);
    }
}

#[test]
fn more_keys_than_fit_leave_memory_and_come_back() {
    const MEMORY_BYTES: usize = 1 << 20;
    for emit in [Emit::Changes, Emit::Latest] {
        let count =
            || vec![AggregateCall::BuiltIn { output: "n".into(), function: AggregateFunction::Count, column: None }];
        let spec = WindowAggregateSpec { spill: Some(testing::spill(MEMORY_BYTES)), ..spec(&[0], emit, count()) };
        let mut operator = RollingAggregate::new(spec).unwrap();
        let row = |id| vec![Cell::Int(id), Cell::Null, Cell::Null, Cell::Float(0.0), Cell::Null];
        let (mut found, mut most) = (Vec::new(), 0);
        for round in 0..2 {
            for first in (0..60_000).step_by(2_000) {
                let rows: Vec<_> = (first..first + 2_000).map(|id| (row(id), round)).collect();
                let mut out = Output::default();
                operator.on_batch(as_batch(&rows), &mut out).unwrap();
                found.extend(out.batches);
                most = most.max(operator.state.bytes() + operator.parts.table.bytes());
            }
            let mut out = Output::default();
            operator.on_watermark(Watermark(round), &mut out).unwrap();
            while operator.go_on(&mut out).unwrap() {}
            found.extend(out.batches);
        }
        assert!(most < MEMORY_BYTES * 5 / 4, "{most}");
        let state = operator.snapshot().unwrap();
        assert!(state.tables.iter().all(|table| table.rows.is_empty()), "rows are made at the barrier");
        let keys: Vec<usize> = state.tables[0].later.iter().map(|block| block.rows().unwrap().num_rows()).collect();
        assert!(keys.iter().sum::<usize>() == 60_000 && keys.len() > 5, "{keys:?}");
        let mut counts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for row in found.iter().flat_map(|batch| rows(batch.columns().columns())) {
            counts.entry(format!("{:?}", row[0])).or_default().push(format!("{:?}", row[1]));
        }
        assert_eq!(counts.len(), 60_000);
        assert!(counts.values().all(|counts| counts == &["Int(1)", "Int(2)"]), "{emit:?}");
    }
}

#[test]
fn state_of_a_window_is_refused() {
    let count =
        || vec![AggregateCall::BuiltIn { output: "n".into(), function: AggregateFunction::Count, column: None }];
    let windowed = WindowAggregateSpec { window: WindowSpec::Global, ..spec(&[0], Emit::Changes, count()) };
    let state = crate::operator::KeyWindowAggregate::new(windowed).unwrap().snapshot().unwrap();
    let mut rolling = RollingAggregate::new(spec(&[0], Emit::Changes, count())).unwrap();
    let error = rolling.restore(&state, Watermark::MIN).unwrap_err().to_string();
    assert!(error.contains("a table `windows`, this step keeps `keys`"), "{error}");
}

#[test]
fn a_component_goes_on_with_the_accumulators_of_the_one_before() {
    let joined = || vec![AggregateCall::Fold(Box::new(Joined::new()) as Box<dyn Fold>)];
    let mut operator = RollingAggregate::new(spec(&[0], Emit::Changes, joined())).unwrap();
    let row = |amount| (vec![Cell::Int(1), Cell::Null, Cell::Int(amount), Cell::Float(0.0), Cell::Null], 0);
    let mut out = Output::default();
    operator.on_batch(as_batch(&[row(5), row(6)]), &mut out).unwrap();
    operator.replace_fold(0, Box::new(Joined::new())).unwrap();
    operator.on_batch(as_batch(&[row(7)]), &mut out).unwrap();
    let totals = out.batches.iter().flat_map(|batch| rows(batch.columns().columns())).map(|row| row[2].clone());
    assert_eq!(totals.collect::<Vec<_>>(), [Cell::Int(5), Cell::Int(11), Cell::Int(18)]);
    assert_eq!(operator.keys_held(), 1);
}

#[test]
fn a_snapshot_keeps_what_was_and_tells_which_blocks_have_changed_since() {
    let rows_of = |keys: std::ops::Range<i64>| {
        let row = |id| vec![Cell::Int(id), Cell::Null, Cell::Int(1), Cell::Float(0.0), Cell::Null];
        as_batch(&keys.map(|id| (row(id), 0)).collect::<Vec<_>>())
    };
    for emit in [Emit::Latest, Emit::Changes] {
        let count = AggregateCall::BuiltIn { output: "n".into(), function: AggregateFunction::Count, column: None };
        let mut operator = RollingAggregate::new(spec(&[0], emit, vec![count])).unwrap();
        let mut after = |keys| {
            operator.on_batch(rows_of(keys), &mut Output::default()).unwrap();
            operator.snapshot().unwrap()
        };
        let states = [after(0..80_000), after(0..0), after(40_000..40_001), after(80_000..80_001)];
        let ids = |state: &Snapshot| state.tables[0].later.iter().map(crate::state::Later::id).collect::<Vec<_>>();
        let changed: Vec<Vec<bool>> = states
            .windows(2)
            .map(|pair| ids(&pair[0]).iter().zip(ids(&pair[1])).map(|(before, after)| *before != after).collect())
            .collect();
        assert_eq!(changed, [[false; 3], [false, true, false], [false, false, true]]);
        let totals = states.map(|state| {
            let state = state.made().unwrap();
            let counts = state.rows("keys").iter().map(|batch| batch.column_by_name("rows").unwrap().clone());
            let counts: Vec<i64> =
                counts.flat_map(|counts| counts.as_primitive::<Int64Type>().values().to_vec()).collect();
            (counts.len(), counts.iter().sum::<i64>())
        });
        assert_eq!(totals, [(80_000, 80_000), (80_000, 80_000), (80_000, 80_001), (80_001, 80_002)]);
    }
}
