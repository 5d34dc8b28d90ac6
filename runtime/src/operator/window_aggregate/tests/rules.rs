//! Rules that the model does not show.

use super::*;

fn input() -> Schema {
    Schema::new([Field::new("id", Kind::Int64), Field::new("amount", Kind::Int64), Field::new("price", Kind::Float64)])
}

fn row(id: i64, amount: i64, time: i64) -> (Vec<Cell>, i64) {
    (vec![Cell::Int(id), Cell::Int(amount), Cell::Float(0.1)], time)
}

fn counting(size_ms: u64) -> WindowAggregate {
    operator(&input(), &[0], size_ms, vec![built_in("n", AggregateFunction::Count, None)])
}

#[test]
fn a_window_fires_at_its_last_time_and_later_rows_are_late() {
    let mut operator = counting(10);
    put_in(&mut operator, &input(), &[row(1, 0, 9), row(1, 0, 10)]);
    assert!(advance(&mut operator, 8).batches.is_empty());
    let out = advance(&mut operator, 9);
    assert_eq!(results(&out), [vec![Cell::Int(1), Cell::Time(0), Cell::Time(10), Cell::Int(1)]]);
    assert_eq!(out.batches[0].times().as_ref(), [9]);
    let out = put_in(&mut operator, &input(), &[row(1, 0, 9), row(2, 0, 3), row(1, 0, 11)]);
    assert_eq!(out.late_rows, 2);
    let [(0, late)] = out.sides.as_slice() else { panic!("{:?}", out.sides) };
    assert_eq!(
        (late.times().as_ref(), rows(late.columns().columns())[1][0].clone()),
        ([9, 3].as_slice(), Cell::Int(2))
    );
    assert_eq!(operator.keys_held(), 1, "a late row made a key");
    assert_eq!(results(&advance(&mut operator, 19))[0][3], Cell::Int(2));
}

#[test]
fn a_watermark_never_goes_back() {
    let mut operator = counting(10);
    advance(&mut operator, 100);
    advance(&mut operator, 0);
    assert_eq!(put_in(&mut operator, &input(), &[row(1, 0, 50)]).late_rows, 1);
}

#[test]
fn a_row_without_event_time_is_dead() {
    let mut operator = counting(10);
    let out = put_in(&mut operator, &input(), &[row(1, 7, 5), row(2, 8, NO_EVENT_TIME)]);
    assert_eq!(out.dead.len(), 1);
    assert!(out.dead[0].reason.contains("event_time"));
    assert_eq!(rows(out.dead[0].row.columns())[0][1], Cell::Int(8));
    assert_eq!(results(&advance(&mut operator, i64::MAX)).len(), 1);
}

#[test]
fn a_sum_outside_int64_is_a_dead_row_and_the_others_come() {
    let sum = built_in("total", AggregateFunction::Sum, Some(1));
    let mut operator = operator(&input(), &[0], 10, vec![sum]);
    let max = i64::MAX;
    put_in(&mut operator, &input(), &[row(1, max, 0), row(2, max, 0), row(2, max, 0), row(2, -max, 0), row(3, 1, 0)]);
    put_in(&mut operator, &input(), &[row(1, 1, 0), row(4, i64::MIN, 0)]);
    let out = advance(&mut operator, 9);
    let sums: Vec<_> = results(&out).iter().map(|row| row[3].clone()).collect();
    assert_eq!(sums, [Cell::Int(max), Cell::Int(1), Cell::Int(i64::MIN)]);
    assert_eq!(rows(out.dead[0].row.columns()), [[Cell::Int(1), Cell::Time(0), Cell::Time(10)]]);
    assert!(out.dead[0].reason.contains("`total` = sum(amount) is 9223372036854775808"), "{}", out.dead[0].reason);
}

#[test]
fn a_float_sum_does_not_drift() {
    let sum = built_in("total", AggregateFunction::Sum, Some(2));
    let mut operator = operator(&input(), &[0], 10, vec![sum]);
    let mut rows = vec![row(1, 0, 0); 10_000];
    rows.push((vec![Cell::Int(1), Cell::Int(0), Cell::Float(1e16)], 0));
    rows.push((vec![Cell::Int(1), Cell::Int(0), Cell::Float(-1e16)], 0));
    rows.push((vec![Cell::Int(2), Cell::Int(0), Cell::Float(f64::INFINITY)], 0));
    rows.push((vec![Cell::Int(2), Cell::Int(0), Cell::Float(1.0)], 0));
    put_in(&mut operator, &input(), &rows);
    let sums: Vec<_> = results(&advance(&mut operator, 9)).iter().map(|row| row[3].clone()).collect();
    assert_eq!(sums, [Cell::Float(1_000.0), Cell::Float(f64::INFINITY)]);
}

#[test]
fn large_windows_come_in_batches_of_the_usual_size() {
    let mut operator = counting(10);
    let rows: Vec<_> = (0..20_000).map(|id| row(id, 0, 0)).collect();
    rows.chunks(3_000).for_each(|rows| drop(put_in(&mut operator, &input(), rows)));
    let out = advance(&mut operator, 9);
    assert_eq!(
        out.batches.iter().map(Batch::rows).collect::<Vec<_>>(),
        [BATCH_ROWS, BATCH_ROWS, 20_000 - 2 * BATCH_ROWS]
    );
    let ids: Vec<_> = results(&out).iter().map(|row| row[0].clone()).collect();
    assert_eq!(ids, (0..20_000).map(Cell::Int).collect::<Vec<_>>());
}

#[test]
fn keys_that_come_once_do_not_stay() {
    let sum = built_in("total", AggregateFunction::Sum, Some(1));
    let mut operator = operator(&input(), &[0], 10, vec![sum]);
    let mut held_most = 0;
    for window in 0..50 {
        // 1,000 new keys, and key -1 that is in every window and ahead of the watermark
        let mut rows: Vec<_> = (0..1_000).map(|id| row(window * 1_000 + id, 1, window * 10)).collect();
        rows.extend([row(-1, window, window * 10), row(-1, window + 1, window * 10 + 10)]);
        put_in(&mut operator, &input(), &rows);
        let found = results(&advance(&mut operator, window * 10 + 9));
        assert_eq!(found.len(), 1_001);
        let expected = if window == 0 { 0 } else { 2 * window };
        let total = found.iter().find(|row| row[0] == Cell::Int(-1)).unwrap();
        assert_eq!(total[3], Cell::Int(expected), "window {window}");
        held_most = held_most.max(operator.keys_held());
    }
    assert!(held_most < 3_000, "{held_most} keys held");
}

#[test]
fn rows_of_another_schema_are_an_error() {
    let mut operator = counting(10);
    let other = Schema::new([Field::new("id", Kind::Text)]);
    let rows = Batch::new(batch(&other, &[vec![Cell::Text("1".into())]]), vec![0].into()).unwrap();
    assert!(operator.on_batch(rows, &mut Output::default()).is_err());
}

#[test]
fn aggregates_that_cannot_be_are_refused_by_name() {
    use AggregateFunction::{Max, Sum};
    let input = Schema::new([Field::new("name", Kind::Text), Field::new("raw", Kind::Binary)]);
    let refused = |output: &str, function, column| {
        output_schema(&input, &[0], &[AggregateColumns::BuiltIn { output, function, column }]).unwrap_err()
    };
    assert_eq!(refused("a", Sum, Some(0)), "sum(name) of a text column: expected int64 or float64");
    assert_eq!(refused("a", Max, Some(1)), "max(raw) of a binary column: expected any other kind");
    assert!(refused("a", Max, None).contains("reads no column"));
    assert!(refused("a", Max, Some(2)).contains("reads column 2 of an input with 2 columns"));
    assert!(refused("name", Max, Some(0)).contains("two columns `name`"));
    assert!(output_schema(&input, &[7], &[]).is_err());
}

#[test]
fn a_row_is_late_only_if_it_enters_no_window() {
    let count = built_in("n", AggregateFunction::Count, None);
    let mut operator = windowed(&input(), &[0], sliding(10, 4, 0), vec![count]);
    put_in(&mut operator, &input(), &[row(1, 0, 9)]);
    // windows of 9: from 0, 4 and 8
    let found = results(&advance(&mut operator, 9));
    assert_eq!(found, [vec![Cell::Int(1), Cell::Time(0), Cell::Time(10), Cell::Int(1)]]);
    assert_eq!(put_in(&mut operator, &input(), &[row(1, 0, 9), row(1, 0, 3), row(1, 0, 0)]).late_rows, 2);
    let counts: Vec<_> = results(&advance(&mut operator, 17)).iter().map(|row| row[1..].to_vec()).collect();
    let window = |start, n| vec![Cell::Time(start), Cell::Time(start + 10), Cell::Int(n)];
    assert_eq!(counts, [window(4, 2), window(8, 2)]);
    assert_eq!((operator.slices_held(), operator.keys_held()), (0, 0));
}

#[test]
fn state_of_a_sliding_window_does_not_grow_with_the_overlap() {
    let count = built_in("n", AggregateFunction::Count, None);
    let mut operator = windowed(&input(), &[0], sliding(10_000, 10, 0), vec![count]);
    put_in(&mut operator, &input(), &[row(1, 0, 5), row(1, 0, 7), row(1, 0, 19)]);
    assert_eq!(operator.slices_held(), 2);
    let out = advance(&mut operator, i64::MAX);
    assert_eq!(results(&out).len(), 1_001);
}

#[test]
fn a_late_row_within_the_allowed_lateness_fires_its_window_again_for_its_key() {
    let count = built_in("n", AggregateFunction::Count, None);
    let window = WindowSpec::Tumbling { size: Duration::from_millis(10), offset_ms: 0 };
    let mut operator = late(&input(), &[0], window, 5, vec![count]);
    put_in(&mut operator, &input(), &[row(1, 0, 5), row(2, 0, 5)]);
    assert_eq!(results(&advance(&mut operator, 13)).len(), 2);
    // once a batch and window, with all rows of the key; 15 is not late and fires nothing
    let out = put_in(&mut operator, &input(), &[row(2, 0, 6), row(2, 0, 15), row(2, 0, 7), row(3, 0, 7)]);
    let window = |id, n| vec![Cell::Int(id), Cell::Time(0), Cell::Time(10), Cell::Int(n)];
    assert_eq!(results(&out), [window(2, 3), window(3, 1)]);
    assert_eq!(out.batches[0].times().as_ref(), [9, 9]);
    assert!(advance(&mut operator, 13).batches.is_empty());
    // 9 + 5 <= 14
    assert!(advance(&mut operator, 14).batches.is_empty());
    let out = put_in(&mut operator, &input(), &[row(1, 0, 9)]);
    assert_eq!((out.late_rows, out.batches.len()), (1, 0));
    assert_eq!(operator.slices_held(), 1);
}

#[test]
fn first_and_last_go_by_event_time_and_values_are_counted_once() {
    use AggregateFunction::{CountDistinct, First, Last};
    let input = super::fold::input();
    let aggregates = || {
        vec![
            built_in("first", First, Some(2)),
            built_in("last", Last, Some(4)),
            built_in("amounts", CountDistinct, Some(2)),
            built_in("prices", CountDistinct, Some(3)),
            built_in("notes", CountDistinct, Some(4)),
        ]
    };
    let row = |amount: Option<i64>, price: f64, note: &str, time: i64| {
        let amount = amount.map_or(Cell::Null, Cell::Int);
        (vec![Cell::Int(1), Cell::Null, amount, Cell::Float(price), Cell::Text(note.into())], time)
    };
    // 2 and 8 are in different slices; the earliest row has a null, the latest time comes twice
    let early = [row(Some(7), 0.0, "a", 2), row(Some(5), -0.0, "b", 1), row(None, 1.0, "b", 0)];
    let late = [row(Some(7), 1.0, "c", 8), row(Some(9), 2.0, "a", 8), row(Some(4), 2.0, "d", 7)];
    for window in [sliding(10, 5, 0), WindowSpec::Tumbling { size: Duration::from_millis(10), offset_ms: 0 }] {
        let mut operator = windowed(&input, &[0], window, aggregates());
        put_in(&mut operator, &input, &late);
        put_in(&mut operator, &input, &early);
        let found = results(&advance(&mut operator, 9));
        let of_both = found.iter().find(|row| row[1] == Cell::Time(0)).unwrap();
        let expected = [Cell::Int(5), Cell::Text("a".into()), Cell::Int(4), Cell::Int(3), Cell::Int(4)];
        assert_eq!(of_both[3..], expected);
    }
}
