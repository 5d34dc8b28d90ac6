//! The operator against sorted lists.

use proptest::prelude::*;

use super::*;
use crate::restoring::{Event, Outcome, Restoring};
use crate::spill::testing;
use crate::state::cells::{Cell, batch, rows};

fn input() -> Schema {
    Schema::new([
        Field::new("name", Kind::Text),
        Field::new("window_start", Kind::TimestampMs),
        Field::new("count", Kind::Int64).nullable(),
        Field::new("window_end", Kind::TimestampMs),
        Field::new("price", Kind::Float64),
    ])
}

fn spec(keys: &[usize], rows: usize, ties: Ties) -> TopSpec {
    let windows = TopWindows::Columns { start: 1, end: 3 };
    let by = vec![OrderBy { column: 2, descending: true }];
    let output = top_schema(&input(), windows, "rank");
    let keys = keys.to_vec();
    TopSpec { input: input(), keys, windows, rows, by, ties, output, late: true, on_error: OnError::DeadLetter }
}

/// A row of the window `[start, start + 10)`.
fn row(name: &str, start: i64, count: Option<i64>, price: f64) -> Vec<Cell> {
    let count = count.map_or(Cell::Null, Cell::Int);
    vec![Cell::Text(name.to_owned()), Cell::Time(start), count, Cell::Time(start + 10), Cell::Float(price)]
}

fn put_in(top: &mut Top, rows: &[Vec<Cell>]) -> Output {
    let mut out = Output::default();
    let times = rows.iter().map(|row| if let Cell::Time(end) = row[3] { end - 1 } else { 0 }).collect();
    top.on_batch(Batch::new(batch(&input(), rows), times).unwrap(), &mut out).unwrap();
    out
}

fn advance(top: &mut Top, time: i64) -> Vec<Vec<Cell>> {
    let mut out = Output::default();
    top.on_watermark(Watermark(time), &mut out).unwrap();
    let times = out.batches.iter().flat_map(|batch| batch.times().iter().copied());
    let rows = out.batches.iter().flat_map(|batch| rows(batch.columns().columns()));
    rows.zip(times)
        .map(|(mut row, time)| {
            row.push(Cell::Time(time));
            row
        })
        .collect()
}

fn names(rows: &[Vec<Cell>]) -> Vec<(&str, i64)> {
    let name = |row: &Vec<Cell>| match (row.first().cloned(), row.get(5).cloned()) {
        (Some(Cell::Text(name)), Some(Cell::Int(rank))) => (name.leak() as &str, rank),
        other => panic!("{other:?}"),
    };
    rows.iter().map(name).collect()
}

#[test]
fn the_first_rows_of_a_window_come_when_it_is_complete() {
    let mut top = Top::new(spec(&[], 2, Ties::Cut)).unwrap();
    put_in(&mut top, &[row("a", 0, Some(1), 0.0), row("b", 0, Some(3), 0.0), row("c", 10, Some(9), 0.0)]);
    put_in(&mut top, &[row("d", 0, Some(2), 0.0), row("e", 0, None, 0.0)]);
    assert!(advance(&mut top, 8).is_empty());
    let rows = advance(&mut top, 9);
    assert_eq!(names(&rows), [("b", 1), ("d", 2)]);
    assert_eq!(rows[0][6], Cell::Time(9));
    let out = put_in(&mut top, &[row("f", 0, Some(7), 0.0)]);
    assert_eq!((out.late_rows, out.sides.len()), (1, 1));
    assert_eq!(names(&advance(&mut top, i64::MAX)), [("c", 1)]);
    assert_eq!(top.rows_held(), 0);
}

#[test]
fn ties_are_cut_by_the_other_columns_or_kept_with_one_rank() {
    let tied =
        [row("c", 0, Some(5), 0.0), row("b", 0, Some(5), 0.0), row("a", 0, Some(9), 0.0), row("d", 0, Some(5), 0.0)];
    let mut top = Top::new(spec(&[], 2, Ties::Cut)).unwrap();
    put_in(&mut top, &tied);
    assert_eq!(names(&advance(&mut top, 9)), [("a", 1), ("b", 2)]);
    let mut top = Top::new(spec(&[], 2, Ties::Keep)).unwrap();
    put_in(&mut top, &tied);
    assert_eq!(names(&advance(&mut top, 9)), [("a", 1), ("b", 2), ("c", 2), ("d", 2)]);
}

#[test]
fn nulls_come_last_either_way() {
    for descending in [false, true] {
        let by = vec![OrderBy { column: 2, descending }];
        let mut top = Top::new(TopSpec { by, ..spec(&[], 3, Ties::Cut) }).unwrap();
        put_in(&mut top, &[row("a", 0, None, 0.0), row("b", 0, Some(3), 0.0), row("c", 0, Some(4), 0.0)]);
        assert_eq!(names(&advance(&mut top, 9))[2], ("a", 3));
    }
}

#[test]
fn a_window_holds_no_more_than_it_may_put_out_and_one_batch() {
    let mut top = Top::new(spec(&[0], 3, Ties::Cut)).unwrap();
    for round in 0..40 {
        let rows: Vec<_> = (0..1_000).map(|i| row(["a", "b"][i % 2], 0, Some(round * 1_000 + i as i64), 0.0)).collect();
        put_in(&mut top, &rows);
        assert!(top.rows_held() <= BATCH_ROWS + 1_000, "{}", top.rows_held());
    }
    assert_eq!(names(&advance(&mut top, 9)), [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 3)]);
}

#[test]
fn lists_of_many_keys_stay_within_their_budget_and_leave_in_parts() {
    const MEMORY_BYTES: usize = 1 << 20;
    let (mut spilling, mut in_memory) = (
        Top::new(spec(&[0], 2, Ties::Cut)).unwrap().with_spill(Some(testing::spill(MEMORY_BYTES))).unwrap(),
        Top::new(spec(&[0], 2, Ties::Cut)).unwrap(),
    );
    let mut most = 0;
    for round in 0..40 {
        let rows: Vec<_> = (0..2_000)
            .map(|id| row(&format!("key {}", (round * 2_000 + id) % 30_000), id % 2 * 10, Some(round), 0.0))
            .collect();
        put_in(&mut spilling, &rows);
        put_in(&mut in_memory, &rows);
        most = most.max(spilling.state_bytes());
    }
    assert!(most < MEMORY_BYTES && spilling.entries_spilled() > 1_000, "{most}, {}", spilling.entries_spilled());
    let snapshot = spilling.snapshot().unwrap();
    assert!(snapshot.tables[0].rows.is_empty() && snapshot.tables[0].later.len() > 2, "rows are made at the barrier");
    let mut parts = vec![advance(&mut spilling, i64::MAX)];
    loop {
        let mut out = Output::default();
        if !spilling.go_on(&mut out).unwrap() {
            break;
        }
        parts.push(out.batches.iter().flat_map(|batch| rows(batch.columns().columns())).collect());
    }
    let largest = parts.iter().map(Vec::len).max().unwrap();
    let total: usize = parts.iter().map(Vec::len).sum();
    assert!(parts.len() > 10 && largest < total / 5, "{} parts, the largest of {largest} rows", parts.len());
    let mut expected = advance(&mut in_memory, i64::MAX);
    loop {
        let mut out = Output::default();
        if !in_memory.go_on(&mut out).unwrap() {
            break;
        }
        expected.extend(out.batches.iter().flat_map(|batch| rows(batch.columns().columns())));
    }
    let text = |rows: &[Vec<Cell>]| {
        let mut rows: Vec<String> = rows.iter().map(|row| format!("{:?}", &row[..6])).collect();
        rows.sort();
        rows
    };
    assert!(text(&parts.concat()) == text(&expected));
    assert_eq!((spilling.entries_spilled(), spilling.rows_held()), (0, 0));
}

#[test]
fn state_of_other_columns_is_refused() {
    let mut top = Top::new(spec(&[], 2, Ties::Cut)).unwrap();
    put_in(&mut top, &[row("a", 0, Some(1), 0.0)]);
    let state = top.snapshot().unwrap().made().unwrap();
    let mut other = Top::new(spec(&[0], 2, Ties::Cut)).unwrap();
    let error = other.restore(&state, Watermark::MIN).unwrap_err().to_string();
    assert!(error.contains("expected 3 key columns, found 2"), "{error}");
}

/// One list a window and key, sorted when it is complete.
fn model(happenings: &[Happening], keys: &[usize], n: usize, ties: Ties) -> (Vec<String>, u64) {
    let mut watermark = i64::MIN;
    let mut lists: BTreeMap<(i64, String), Vec<Vec<Cell>>> = BTreeMap::new();
    let (mut found, mut late) = (Vec::new(), 0);
    for happening in happenings.iter().cloned().chain([Happening::Watermark(i64::MAX)]) {
        match happening {
            Happening::Row(row) => {
                let Cell::Time(end) = row[3] else { unreachable!() };
                if end - 1 <= watermark {
                    late += 1;
                } else {
                    let key: Vec<_> = keys.iter().map(|key| &row[*key]).collect();
                    lists.entry((end, format!("{key:?}"))).or_default().push(row);
                }
            }
            Happening::Watermark(time) => {
                watermark = watermark.max(time);
                for (end, list) in lists.extract_if(.., |(end, _), _| *end - 1 <= watermark).map(|((e, _), l)| (e, l)) {
                    let mut list = list;
                    let count =
                        |row: &Vec<Cell>| if let Cell::Int(count) = row[2] { (false, -count) } else { (true, 0) };
                    list.sort_by(|a, b| count(a).cmp(&count(b)).then(a.partial_cmp(b).unwrap()));
                    for (at, row) in list.iter().enumerate() {
                        let first = list.iter().position(|other| count(other) == count(row)).unwrap_or(at);
                        let rank = if ties == Ties::Keep { first } else { at } + 1;
                        if rank <= n {
                            let row = [row.clone(), vec![Cell::Int(rank as i64)]].concat();
                            found.push(format!("{row:?} @ {}", end - 1));
                        }
                    }
                }
            }
        }
    }
    found.sort();
    (found, late)
}

#[derive(Clone, Debug)]
enum Happening {
    Row(Vec<Cell>),
    Watermark(i64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let count = prop_oneof![5 => (0i64..4).prop_map(Some), 1 => Just(None)];
    let row = ("[ab]{0,2}", -2i64..4, count, 0i64..3);
    let row = row.prop_map(|(name, start, count, price)| Happening::Row(row_of(&name, start * 5, count, price)));
    prop::collection::vec(prop_oneof![9 => row, 1 => (-10i64..40).prop_map(Happening::Watermark)], 1..80)
}

fn row_of(name: &str, start: i64, count: Option<i64>, price: i64) -> Vec<Cell> {
    row(name, start, count, price as f64)
}

/// Events with at most `rows_a_batch` rows in a batch.
fn script(happenings: &[Happening], rows_a_batch: usize) -> Vec<Event> {
    let mut script = Vec::new();
    let mut waiting: Vec<Vec<Cell>> = Vec::new();
    let flush = |waiting: &mut Vec<Vec<Cell>>, script: &mut Vec<Event>| {
        let times = vec![0; waiting.len()];
        script.push(Event::rows(0, Batch::new(batch(&input(), waiting), times.into()).unwrap()));
        waiting.clear();
    };
    for happening in happenings.iter().cloned().chain([Happening::Watermark(i64::MAX)]) {
        match happening {
            Happening::Row(row) => waiting.push(row),
            Happening::Watermark(time) => {
                flush(&mut waiting, &mut script);
                script.push(Event::Watermark(time));
            }
        }
        if waiting.len() == rows_a_batch {
            flush(&mut waiting, &mut script);
        }
    }
    script
}

/// All that comes of a script.
fn put_out(spec: TopSpec, script: &[Event]) -> Output {
    let (mut top, mut out) = (Top::new(spec).unwrap(), Output::default());
    for event in script {
        match event {
            Event::Rows(_, batch) => top.on_batch(batch.clone(), &mut out).unwrap(),
            Event::Watermark(time) => top.on_watermark(Watermark(*time), &mut out).unwrap(),
            Event::Clock(_) => {}
        }
    }
    out
}

/// The rows of an output with their times.
fn timed(out: &Output) -> impl Iterator<Item = (Vec<Cell>, i64)> {
    out.batches.iter().flat_map(|batch| rows(batch.columns().columns()).into_iter().zip(batch.times().to_vec()))
}

/// Makes the operator, in so much memory.
fn making(spec: &TopSpec, memory_bytes: Option<usize>) -> impl Fn() -> Box<dyn Operator> + use<> {
    let spec = spec.clone();
    move || Box::new(Top::new(spec.clone()).unwrap().with_spill(memory_bytes.map(testing::spill)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn results_are_those_of_sorted_lists_however_often_it_is_restored(
        happenings in happenings(),
        keys in prop::sample::select(vec![vec![], vec![0], vec![4, 0]]),
        n in 1usize..5,
        ties in prop::sample::select(vec![Ties::Cut, Ties::Keep]),
        rows_a_batch in 1usize..20,
    ) {
        let script = script(&happenings, rows_a_batch);
        let spec = spec(&keys, n, ties);
        let out = put_out(spec.clone(), &script);
        let mut found: Vec<_> = timed(&out).map(|(row, time)| format!("{row:?} @ {time}")).collect();
        found.sort();
        let (expected, late) = model(&happenings, &keys, n, ties);
        prop_assert_eq!((&found, out.late_rows), (&expected, late));
        let partition_keys = spec.partition_keys();
        let restoring = Restoring::new(making(&spec, None)).keyed(&[&partition_keys]);
        restoring.equals(&Outcome::of(expected, 0, late), &script);
        restoring.check(&script);
    }

    #[test]
    fn what_spills_comes_back_as_it_was(
        happenings in happenings(),
        keys in prop::sample::select(vec![vec![], vec![0], vec![4, 0]]),
        n in 1usize..5,
        ties in prop::sample::select(vec![Ties::Cut, Ties::Keep]),
        rows_a_batch in 1usize..20,
        memory_bytes in prop_oneof![Just(1_usize), 200_usize..3_000],
    ) {
        let script = script(&happenings, rows_a_batch);
        let spec = spec(&keys, n, ties);
        let partition_keys = spec.partition_keys();
        let (expected, late) = model(&happenings, &keys, n, ties);
        let restoring = Restoring::new(making(&spec, Some(memory_bytes))).keyed(&[&partition_keys]).in_runs();
        restoring.equals(&Outcome::of(expected, 0, late), &script);
        restoring.check(&script);
    }

    #[test]
    fn windows_that_the_step_assigns_hold_the_rows_of_their_time(
        times in prop::collection::vec(prop_oneof![20 => -20i64..40, 1 => Just(NO_EVENT_TIME)], 1..60),
        every in 2i64..10,
        rows_a_batch in 1usize..20,
    ) {
        let (size, every) = (Duration::from_millis(10), Duration::from_millis(every as u64));
        let windows = TopWindows::Assigned(WindowSpec::Sliding { size, every, offset_ms: 0 });
        let input = Schema::new([Field::new("name", Kind::Text), Field::new("count", Kind::Int64)]);
        let output = top_schema(&input, windows, "place");
        let by = vec![OrderBy { column: 1, descending: false }];
        let spec = TopSpec { input: input.clone(), windows, by, output, ..spec(&[0], 2, Ties::Cut) };
        let mut script = Vec::new();
        for times in times.chunks(rows_a_batch) {
            let cells: Vec<_> = times.iter().map(|time| vec![Cell::Text(format!("{}", time & 1)), Cell::Int(time & 7)]).collect();
            script.push(Event::rows(0, Batch::new(batch(&input, &cells), times.to_vec().into()).unwrap()));
            script.push(Event::Watermark(times[0]));
        }
        script.push(Event::Watermark(i64::MAX));
        let in_memory = Restoring::new(making(&spec, None)).keyed(&[&[0]]);
        in_memory.check(&script);
        let spilling = Restoring::new(making(&spec, Some(1))).keyed(&[&[0]]).in_runs();
        spilling.same_as(&in_memory, &script);
        spilling.check(&script);
        let out = put_out(spec, &script);
        for (row, time) in timed(&out) {
            let [_, _, Cell::Time(start), Cell::Time(end), Cell::Int(rank)] = row.as_slice() else { panic!("{row:?}") };
            prop_assert_eq!((end - start, time, start.rem_euclid(every.as_millis() as i64)), (10, end - 1, 0));
            prop_assert!((1..=2).contains(rank));
        }
        let without_time = times.iter().filter(|time| **time == NO_EVENT_TIME).count();
        prop_assert_eq!(out.dead.len(), without_time);
    }
}
