//! Sessions, counted windows and windows of all rows against lists of rows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fold::{Joined, UNMERGEABLE, input};
use super::model::{Event, Seen, aggregates, batches, events, expected_result, letters_in_order, script};
use super::*;
use crate::operator::KeyWindowAggregate;
use crate::restoring::{Outcome, Restoring};

fn keyed(input: &Schema, window: WindowSpec, lateness_ms: u64, aggregates: Vec<AggregateCall>) -> KeyWindowAggregate {
    KeyWindowAggregate::new(spec(input, &[0], window, lateness_ms, aggregates)).unwrap()
}

fn session(gap_ms: u64) -> WindowSpec {
    WindowSpec::Session { gap: Duration::from_millis(gap_ms) }
}

/// Rows of one window.
#[derive(Clone, Debug)]
struct Open {
    start: i64,
    end: i64,
    rows: Vec<Vec<Cell>>,
    touched: bool,
}

/// The open windows of each key.
struct Model {
    window: WindowSpec,
    lateness: i64,
    watermark: i64,
    windows: BTreeMap<String, Vec<Open>>,
    seen: Seen,
}

impl Model {
    fn put_out(&mut self, window: &Open) {
        let time = if self.window == WindowSpec::Global { i64::MAX } else { window.end.saturating_sub(1) };
        match expected_result(&window.rows) {
            Some(mut result) => {
                letters_in_order(&mut result);
                let head = vec![window.rows[0][0].clone(), Cell::Time(window.start), Cell::Time(window.end)];
                self.seen.0.push(format!("{:?} @ {time}", [head, result].concat()));
            }
            None => self.seen.1 += 1,
        }
    }

    fn row(&mut self, cells: &[Cell], time: i64) {
        let windows = self.windows.entry(format!("{:?}", cells[0])).or_default();
        let end = |length: i64| time.saturating_add(length);
        let mut new = Open { start: time, end: end(1), rows: vec![cells.to_vec()], touched: true };
        if let WindowSpec::SlidingCount { rows, every } = self.window {
            self.seen.1 += usize::from(cells[2] == Cell::Int(13));
            windows.push(new);
            if windows.len().is_multiple_of(every as usize) {
                let last = &windows[windows.len().saturating_sub(rows as usize)..];
                let mut open = last[0].clone();
                for more in &last[1..] {
                    (open.start, open.end) = (open.start.min(more.start), open.end.max(more.end));
                    open.rows.extend(more.rows.clone());
                }
                self.put_out(&open);
            }
            return;
        }
        if let WindowSpec::Session { gap } = self.window {
            new.end = end(gap.as_millis() as i64);
            let (joined, others) = windows.drain(..).partition(|open| open.start <= new.end && new.start <= open.end);
            *windows = others;
            let joined: Vec<Open> = joined;
            for open in joined {
                (new.start, new.end) = (new.start.min(open.start), new.end.max(open.end));
                new.rows.extend(open.rows);
            }
            if (new.end - 1).saturating_add(self.lateness) <= self.watermark {
                self.seen.2 += 1;
                return;
            }
        } else if let Some(open) = windows.pop() {
            (new.start, new.end) = (new.start.min(open.start), new.end.max(open.end));
            new.rows.extend(open.rows);
        }
        self.seen.1 += usize::from(cells[2] == Cell::Int(13));
        if matches!(self.window, WindowSpec::Count { rows } if rows == new.rows.len() as u64) {
            self.put_out(&new);
        } else {
            windows.push(new);
        }
    }

    /// Those of sessions that are complete and `wanted`, then away with those that are late.
    fn fire(&mut self, wanted: impl Fn(&Open) -> bool) {
        let is_session = matches!(self.window, WindowSpec::Session { .. });
        for mut open in self.windows.values().flatten().cloned().collect::<Vec<_>>() {
            open.touched |= !is_session;
            if open.end - 1 <= self.watermark && wanted(&open) && self.window_fires() {
                self.put_out(&open);
            }
        }
        let (watermark, lateness) = (self.watermark, self.lateness);
        for windows in self.windows.values_mut() {
            windows.retain(|open| !is_session || (open.end - 1).saturating_add(lateness) > watermark);
            windows.iter_mut().for_each(|open| open.touched = false);
        }
    }

    fn window_fires(&self) -> bool {
        match self.window {
            WindowSpec::Session { .. } => true,
            WindowSpec::Global => self.watermark == i64::MAX,
            _ => false,
        }
    }
}

fn model(events: &[Event], window: WindowSpec, lateness: i64, rows_a_batch: usize) -> Seen {
    let seen = (Vec::new(), 0, 0);
    let mut model = Model { window, lateness, watermark: i64::MIN, windows: BTreeMap::new(), seen };
    for (rows, watermark) in batches(events, rows_a_batch) {
        for (cells, time) in rows {
            // windows that do not go by event time take it as of the epoch
            let timeless = !matches!(window, WindowSpec::Session { .. });
            let time = if time == NO_EVENT_TIME && timeless { 0 } else { time };
            if time == NO_EVENT_TIME {
                model.seen.1 += 1;
            } else {
                model.row(&cells, time);
            }
        }
        if matches!(window, WindowSpec::Session { .. }) {
            model.fire(|open| open.touched);
        }
        let before = model.watermark;
        model.watermark = before.max(watermark.unwrap_or(i64::MIN));
        if model.watermark > before {
            model.fire(|open| window == WindowSpec::Global || before < open.end - 1);
        }
    }
    model.seen
}

fn run(events: &[Event], window: WindowSpec, lateness: i64, rows_a_batch: usize) -> Seen {
    let input = input();
    let mut operator = keyed(&input, window, lateness as u64, aggregates());
    let mut out = Output::default();
    for (rows, watermark) in batches(events, rows_a_batch) {
        let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
        let rows = Batch::new(batch(&input, &cells), rows.iter().map(|row| row.1).collect()).unwrap();
        operator.on_batch(rows, &mut out).unwrap();
        watermark.into_iter().for_each(|time| operator.on_watermark(Watermark(time), &mut out).unwrap());
    }
    assert_eq!((operator.keys_held(), operator.windows_open()), (0, 0), "something is left after the end");
    let mut found = Vec::new();
    for part in &out.batches {
        let mut rows = rows(part.columns().columns());
        rows.iter_mut().for_each(|row| letters_in_order(row));
        found.extend(rows.iter().zip(part.times()).map(|(row, time)| format!("{row:?} @ {time}")));
    }
    (found, out.dead.len(), out.late_rows)
}

/// The last rows of a key, again and again.
pub(super) fn sliding_counts() -> impl Strategy<Value = WindowSpec> {
    (1u64..9, 1u64..9).prop_map(|(rows, every)| WindowSpec::SlidingCount { rows, every: every.min(rows) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn results_are_those_of_lists_however_the_input_is_cut(
        events in events(),
        window in prop_oneof![
            4 => (1u64..12).prop_map(session),
            1 => Just(session(i64::MAX as u64)),
            2 => (1u64..6).prop_map(|rows| WindowSpec::Count { rows }),
            3 => sliding_counts(),
            1 => Just(WindowSpec::Global),
        ],
        lateness in prop_oneof![2 => Just(0), 1 => 1i64..30, 1 => Just(i64::MAX)],
        rows_a_batch in 1usize..50,
    ) {
        let lateness = if matches!(window, WindowSpec::Session { .. }) { lateness } else { 0 };
        let found = run(&events, window, lateness, rows_a_batch);
        if lateness == 0 {
            prop_assert_eq!(&found, &run(&events, window, 0, 1_000), "batches change results or their order");
        }
        let (mut sorted, mut expected) = (found, model(&events, window, lateness, rows_a_batch));
        sorted.0.sort();
        expected.0.sort();
        prop_assert_eq!(&sorted, &expected);
        let make = || Box::new(keyed(&input(), window, lateness as u64, aggregates())) as Box<dyn Operator>;
        Restoring::new(make)
            .keyed(&[&[0]])
            .in_any_order(letters_in_order)
            .equals(&Outcome::of(expected.0, expected.1, expected.2), &script(&events, rows_a_batch));
    }
}

fn rows_of(id: i64, times: &[i64]) -> Vec<(Vec<Cell>, i64)> {
    let cells = |id| vec![Cell::Int(id), Cell::Null, Cell::Int(1), Cell::Float(0.0), Cell::Null];
    times.iter().map(|time| (cells(id), *time)).collect()
}

fn put_in(operator: &mut KeyWindowAggregate, rows: &[(Vec<Cell>, i64)]) -> Output {
    let mut out = Output::default();
    let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    let rows = Batch::new(batch(&input(), &cells), rows.iter().map(|row| row.1).collect()).unwrap();
    operator.on_batch(rows, &mut out).unwrap();
    out
}

fn advance(operator: &mut KeyWindowAggregate, time: i64) -> Vec<Vec<Cell>> {
    let mut out = Output::default();
    operator.on_watermark(Watermark(time), &mut out).unwrap();
    results(&out)
}

fn window(id: i64, start: i64, end: i64, n: i64) -> Vec<Cell> {
    vec![Cell::Int(id), Cell::Time(start), Cell::Time(end), Cell::Int(n)]
}

fn counting(window: WindowSpec, lateness_ms: u64) -> KeyWindowAggregate {
    keyed(&input(), window, lateness_ms, vec![built_in("n", AggregateFunction::Count, None)])
}

#[test]
fn sessions_that_touch_are_one_and_a_millisecond_more_keeps_them_apart() {
    let mut operator = counting(session(10), 0);
    put_in(&mut operator, &rows_of(1, &[0, 10, 21]));
    assert_eq!(advance(&mut operator, 18), Vec::<Vec<Cell>>::new());
    assert_eq!(advance(&mut operator, 30), [window(1, 0, 20, 2), window(1, 21, 31, 1)]);
}

#[test]
fn a_row_behind_the_watermark_enters_an_open_session_and_is_late_otherwise() {
    let mut operator = counting(session(10), 0);
    put_in(&mut operator, &rows_of(1, &[20]));
    advance(&mut operator, 25);
    let out = put_in(&mut operator, &[rows_of(1, &[10, 3]), rows_of(2, &[10])].concat());
    // 3 touches what 10 has extended
    assert_eq!(out.late_rows, 1);
    assert_eq!((out.sides[0].0, out.sides[0].1.times().as_ref()), (0, [10].as_slice()));
    assert_eq!(advance(&mut operator, 29), [window(1, 3, 30, 3)]);
}

#[test]
fn a_late_row_within_the_allowed_lateness_bridges_sessions_that_have_fired() {
    let mut operator = counting(session(10), 100);
    put_in(&mut operator, &rows_of(1, &[0, 15, 40]));
    assert_eq!(advance(&mut operator, 30), [window(1, 0, 10, 1), window(1, 15, 25, 1)]);
    assert_eq!(results(&put_in(&mut operator, &rows_of(1, &[8]))), [window(1, 0, 25, 3)]);
    // moves the end beyond the watermark: fires there
    assert!(put_in(&mut operator, &rows_of(1, &[24])).batches.is_empty());
    assert_eq!(advance(&mut operator, 33), [window(1, 0, 34, 4)]);
    assert_eq!(advance(&mut operator, 49), [window(1, 40, 50, 1)]);
}

#[test]
fn counted_windows_fire_at_their_last_row_and_what_is_left_over_does_not() {
    let mut operator = counting(WindowSpec::Count { rows: 2 }, 0);
    let out = put_in(&mut operator, &[rows_of(1, &[7, 3, 1]), rows_of(2, &[5])].concat());
    assert_eq!(results(&out), [window(1, 3, 8, 2)]);
    assert_eq!(out.batches[0].times().as_ref(), [7]);
    assert_eq!(advance(&mut operator, i64::MAX), Vec::<Vec<Cell>>::new());
    assert_eq!(operator.windows_open(), 0);
}

#[test]
fn the_window_of_all_rows_fires_at_the_end() {
    let mut operator = counting(WindowSpec::Global, 0);
    put_in(&mut operator, &rows_of(1, &[7, 3]));
    assert!(advance(&mut operator, i64::MAX - 1).is_empty());
    put_in(&mut operator, &rows_of(1, &[-5]));
    assert_eq!(advance(&mut operator, i64::MAX), [window(1, -5, 8, 3)]);
}

#[test]
fn keys_that_come_once_do_not_stay() {
    let mut operator = counting(session(5), 0);
    for round in 0..50 {
        let rows: Vec<_> = (0..1_000).flat_map(|id| rows_of(round * 1_000 + id, &[round * 10])).collect();
        put_in(&mut operator, &rows);
        assert_eq!(advance(&mut operator, round * 10 + 4).len(), 1_000);
        assert_eq!((operator.keys_held(), operator.windows_open()), (0, 0));
    }
}

#[test]
fn sessions_that_cannot_become_one_have_no_result_but_a_dead_row() {
    let mut operator = keyed(&input(), session(10), 0, vec![AggregateCall::Fold(Box::new(Joined::new()))]);
    let mut first = rows_of(1, &[0]);
    first[0].0[2] = Cell::Int(UNMERGEABLE);
    put_in(&mut operator, &[first, rows_of(2, &[0])].concat());
    put_in(&mut operator, &[rows_of(1, &[18]), rows_of(2, &[18])].concat());
    // joins what came before and after it
    put_in(&mut operator, &[rows_of(1, &[9]), rows_of(2, &[9])].concat());
    let mut out = Output::default();
    operator.on_watermark(Watermark(100), &mut out).unwrap();
    assert_eq!(results(&out).iter().map(|row| row[3].clone()).collect::<Vec<_>>(), [Cell::Int(3)]);
    assert_eq!(out.dead.len(), 1);
    assert_eq!(rows(out.dead[0].row.columns())[0][..3], window(1, 0, 28, 0)[..3]);
    // the place is given out anew, and is as good as any
    put_in(&mut operator, &rows_of(3, &[200]));
    assert_eq!(advance(&mut operator, 300).len(), 1);
}
