//! Windows of all kinds with all aggregates, put away and taken up again at every position.

use proptest::prelude::*;

use super::fold::input;
use super::model::{Event as Happening, aggregates, batches, events, letters_in_order};
use super::*;
use crate::operator::{AggregateStep, OnError};
use crate::restoring::{Event, Restoring};
use crate::spill::{Spill, testing};

/// All functions over columns of all kinds, beside those of the model and a component.
pub(super) fn all_aggregates() -> Vec<AggregateCall> {
    use AggregateFunction::{CountDistinct, First, Last, Max, Min};
    let mut all = Vec::new();
    for (column, name) in ["id", "name", "amount", "price", "note"].into_iter().enumerate() {
        for function in [First, Last, CountDistinct] {
            all.push(built_in(&format!("{name}_{}", function.name()), function, Some(column)));
        }
    }
    all.push(built_in("price_min", Min, Some(3)));
    all.push(built_in("id_max", Max, Some(0)));
    all.extend(aggregates());
    all
}

pub(super) fn script(happenings: &[Happening], rows_a_batch: usize) -> Vec<Event> {
    let mut script = Vec::new();
    for (rows, watermark) in batches(happenings, rows_a_batch) {
        let mut cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
        cells.iter_mut().for_each(|row| {
            if let Cell::Float(price) = &mut row[3] {
                // values that rounding takes from, and NaN as a key and as a value
                *price = if *price == 0.25 { f64::NAN } else { *price * 0.1 };
            }
        });
        let times = rows.iter().map(|row| row.1).collect();
        script.extend(Batch::new(batch(&input(), &cells), times).map(|rows| Event::rows(0, rows)));
        script.extend(watermark.map(Event::Watermark));
    }
    script
}

fn step(keys: &[usize], window: WindowSpec, lateness_ms: u64, trigger: Trigger, firing: Firing) -> AggregateStep {
    step_of((keys, window, lateness_ms, trigger, firing), None)
}

type Asked<'a> = (&'a [usize], WindowSpec, u64, Trigger, Firing);

fn step_of((keys, window, lateness_ms, trigger, firing): Asked<'_>, spill: Option<Spill>) -> AggregateStep {
    let aggregates = all_aggregates();
    let outputs = aggregates.iter().map(|_| None).collect();
    let gap = (window == WindowSpec::SessionByColumn).then_some(2);
    let spec =
        WindowAggregateSpec { trigger, firing, gap, spill, ..spec(&input(), keys, window, lateness_ms, aggregates) };
    AggregateStep::new(spec, OnError::DeadLetter, outputs).unwrap()
}

fn window() -> impl Strategy<Value = WindowSpec> {
    prop_oneof![
        3 => (1u64..15).prop_map(|size| sliding(size, size, 0)),
        3 => (1u64..25, 1u64..25, -3i64..3).prop_map(|(size, every, offset)| {
            let every = every.min(size);
            sliding(size, every, offset % every as i64)
        }),
        3 => (1u64..12).prop_map(|gap| WindowSpec::Session { gap: Duration::from_millis(gap) }),
        1 => Just(WindowSpec::Session { gap: Duration::from_millis(i64::MAX as u64) }),
        1 => Just(WindowSpec::SessionByColumn),
        2 => (1u64..6).prop_map(|rows| WindowSpec::Count { rows }),
        2 => super::keyed::sliding_counts(),
        1 => Just(WindowSpec::Global),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_restore_at_any_position_and_parallelism_changes_nothing(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![3], vec![1, 3, 0], vec![]]),
        window in window(),
        lateness in prop_oneof![2 => Just(0), 1 => 1u64..30, 1 => Just(i64::MAX as u64)],
        rows_a_batch in 4usize..50,
    ) {
        let lateness = if window.is_counted() || window == WindowSpec::Global { 0 } else { lateness };
        Restoring::new(|| Box::new(step(&keys, window, lateness, Trigger::End, Firing::Accumulating)) as Box<dyn Operator>)
            .keyed(&[&keys])
            .in_any_order(letters_in_order)
            .check(&script(&happenings, rows_a_batch));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_restore_between_the_firings_of_a_window_changes_nothing(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1, 3, 0], vec![]]),
        window in window(),
        lateness in prop_oneof![2 => Just(0), 1 => 1u64..30],
        trigger in triggers(),
        firing in prop::sample::select(vec![Firing::Accumulating, Firing::Discarding]),
        rows_a_batch in 4usize..50,
        rings in prop::collection::vec(1usize..20, 0..10),
    ) {
        prop_assume!(!window.is_counted());
        let lateness = if window == WindowSpec::Global { 0 } else { lateness };
        let mut script = script(&happenings, rows_a_batch);
        for (after, now_ms) in rings.iter().zip((10..).step_by(10)) {
            script.insert(*after.min(&script.len()), Event::Clock(now_ms));
        }
        Restoring::new(|| Box::new(step(&keys, window, lateness, trigger, firing)) as Box<dyn Operator>)
            .keyed(&[&keys])
            .in_any_order(letters_in_order)
            .check(&script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn windows_of_keys_that_spill_come_back_as_they_were(
        happenings in events(),
        keys in prop::sample::select(vec![vec![0], vec![1, 3, 0], vec![]]),
        window in window(),
        lateness in prop_oneof![2 => Just(0), 1 => 1u64..30],
        trigger in triggers(),
        firing in prop::sample::select(vec![Firing::Accumulating, Firing::Discarding]),
        rows_a_batch in 4usize..50,
        rings in prop::collection::vec(1usize..20, 0..10),
        memory_bytes in prop_oneof![Just(1_usize), 300_000_usize..3_000_000],
    ) {
        let (trigger, firing) = if window.is_counted() { (Trigger::End, Firing::Accumulating) } else { (trigger, firing) };
        let lateness = if window.is_counted() || window == WindowSpec::Global { 0 } else { lateness };
        let mut script = script(&happenings, rows_a_batch);
        for (after, now_ms) in rings.iter().zip((10..).step_by(10)) {
            script.insert(*after.min(&script.len()), Event::Clock(now_ms));
        }
        let asked = (keys.as_slice(), window, lateness, trigger, firing);
        let of = |spill| Box::new(step_of(asked, spill)) as Box<dyn Operator>;
        let keyed: &[&[usize]] = &[&keys];
        let spilling = Restoring::new(|| of(Some(testing::spill(memory_bytes))));
        let spilling = spilling.keyed(keyed).in_any_order(letters_in_order);
        let in_slices = window.is_alike_for_all_keys() && trigger == Trigger::End && firing == Firing::Accumulating;
        let spilling = if in_slices { spilling.in_runs() } else { spilling };
        let in_memory = Restoring::new(|| of(None)).keyed(keyed).in_any_order(letters_in_order);
        spilling.same_as(&in_memory, &script);
        spilling.check(&script);
    }
}

pub(super) fn triggers() -> impl Strategy<Value = Trigger> {
    let interval = (1u64..15).prop_map(Duration::from_millis);
    prop_oneof![
        1 => Just(Trigger::End),
        3 => (1u64..6, any::<bool>()).prop_map(|(rows, at_end)| Trigger::Count { rows, at_end }),
        2 => interval.clone().prop_map(|interval| Trigger::Every { interval }),
        1 => interval.prop_map(|interval| Trigger::ProcessingTime { interval }),
    ]
}

fn counting(aggregates: Vec<AggregateCall>) -> WindowAggregate {
    operator(&input(), &[0], 10, aggregates)
}

#[test]
fn state_of_other_aggregates_is_refused_by_column() {
    let mut sums = counting(vec![built_in("total", AggregateFunction::Sum, Some(2))]);
    let row = vec![Cell::Int(1), Cell::Null, Cell::Int(5), Cell::Float(0.0), Cell::Null];
    put_in(&mut sums, &input(), &[(row, 0)]);
    let state = sums.snapshot().unwrap().made().unwrap();
    let names: Vec<_> = state.tables[0].rows[0].schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "slice_start", "slice_end", "rows", "failed", "total.sum", "total.seen"]);
    let refusal = |mut other: WindowAggregate| other.restore(&state, Watermark(0)).unwrap_err().to_string();
    let error = refusal(counting(vec![built_in("total", AggregateFunction::Max, Some(2))]));
    let expected = "table `windows`, column 6: expected `total.best` Int64, found `total.sum` Decimal128(38, 0)";
    assert!(error.contains(expected), "{error}");
    let error = refusal(counting(vec![]));
    assert!(error.contains("expected no more columns, found `total.sum`"), "{error}");
    let error = refusal(operator(&input(), &[0, 1], 10, vec![]));
    assert!(error.contains("expected 2 key columns, found 1"), "{error}");
    let error = refusal(operator(&input(), &[0], 7, vec![built_in("total", AggregateFunction::Sum, Some(2))]));
    assert!(error.contains("rows of 0..10 ms, the windows of this step lie at 0..7 ms"), "{error}");
}

#[test]
fn state_that_lies_is_an_error() {
    let mut counts = counting(vec![built_in("n", AggregateFunction::Count, None)]);
    let row = vec![Cell::Int(1), Cell::Null, Cell::Int(5), Cell::Float(0.0), Cell::Null];
    put_in(&mut counts, &input(), &[(row, 0)]);
    let mut state = counts.snapshot().unwrap().made().unwrap();
    state.tables[0].name = "other".to_owned();
    let mut other = counting(vec![built_in("n", AggregateFunction::Count, None)]);
    assert!(other.restore(&state, Watermark(0)).unwrap_err().to_string().contains("a table `other`"));
}

#[test]
fn a_large_snapshot_comes_in_a_few_blocks() {
    let mut counts = counting(vec![built_in("n", AggregateFunction::Count, None)]);
    let cells = |id| vec![Cell::Int(id), Cell::Null, Cell::Int(5), Cell::Float(0.0), Cell::Null];
    let rows: Vec<_> = (0..10_000).flat_map(|id| [(cells(id), 0), (cells(id % 100), 10 + id % 1_000)]).collect();
    put_in(&mut counts, &input(), &rows);
    let state = counts.snapshot().unwrap().made().unwrap();
    let sizes: Vec<_> = state.tables[0].rows.iter().map(RecordBatch::num_rows).collect();
    assert!(sizes.iter().all(|rows| *rows <= 2 * BATCH_ROWS) && sizes.len() <= 3, "{sizes:?}");
    let mut restored = counting(vec![built_in("n", AggregateFunction::Count, None)]);
    restored.restore(&state, Watermark::MIN).unwrap();
    assert_eq!(results(&advance(&mut restored, i64::MAX)), results(&advance(&mut counts, i64::MAX)));
}
