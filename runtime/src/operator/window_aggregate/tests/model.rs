//! The operator against a map from key and window to rows.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::fold::{Joined, input};
use super::*;
use crate::restoring::{self, Outcome, Restoring};

#[derive(Clone, Debug)]
pub(in crate::operator) enum Event {
    Row(Vec<Cell>, i64),
    Watermark(i64),
}

fn cells() -> impl Strategy<Value = Vec<Cell>> {
    let text = prop_oneof!["[ab]{0,2}", "[ab]{15,17}"].prop_map(Cell::Text);
    let null = Just(Cell::Null);
    (
        prop_oneof![4 => (0i64..4).prop_map(Cell::Int), 1 => null.clone()],
        prop_oneof![4 => text, 1 => null.clone()],
        prop_oneof![8 => (-5i64..20).prop_map(Cell::Int), 1 => Just(Cell::Int(i64::MAX)), 2 => null.clone()],
        prop_oneof![9 => (-8i64..8).prop_map(|eighths| Cell::Float(eighths as f64 / 8.0)), 1 => Just(Cell::Float(-0.0))],
        prop_oneof![4 => "[a-c]{0,2}".prop_map(Cell::Text), 2 => null],
    )
        .prop_map(|(id, name, amount, price, note)| vec![id, name, amount, price, note])
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        40 => -30i64..60,
        1 => Just(NO_EVENT_TIME),
        1 => i64::MIN..i64::MIN + 20,
        1 => i64::MAX - 20..=i64::MAX,
        1 => any::<i64>(),
    ]
}

pub(in crate::operator) fn events() -> impl Strategy<Value = Vec<Event>> {
    let row = (cells(), time()).prop_map(|(cells, time)| Event::Row(cells, time));
    let watermark = (-30i64..60).prop_map(Event::Watermark);
    prop::collection::vec(prop_oneof![12 => row, 1 => watermark], 1..120)
}

pub(in crate::operator) fn aggregates() -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, Count, Max, Min, Sum};
    vec![
        built_in("rows", Count, None),
        built_in("amounts", Count, Some(2)),
        built_in("amount_sum", Sum, Some(2)),
        built_in("amount_avg", Avg, Some(2)),
        built_in("amount_min", Min, Some(2)),
        built_in("amount_max", Max, Some(2)),
        built_in("price_sum", Sum, Some(3)),
        built_in("price_avg", Avg, Some(3)),
        built_in("price_max", Max, Some(3)),
        built_in("note_min", Min, Some(4)),
        built_in("note_max", Max, Some(4)),
        AggregateCall::Fold(Box::new(Joined::new())),
    ]
}

fn float_of(cell: &Cell) -> f64 {
    if let Cell::Float(value) = cell { *value } else { unreachable!("{cell:?}") }
}

/// What the aggregates should be; None if the sum is outside int64.
pub(in crate::operator) fn expected_result(rows: &[Vec<Cell>]) -> Option<Vec<Cell>> {
    let amounts: Vec<i128> =
        rows.iter().filter_map(|row| if let Cell::Int(value) = row[2] { Some(value.into()) } else { None }).collect();
    let prices: Vec<f64> = rows.iter().map(|row| float_of(&row[3])).collect();
    let notes = rows.iter().map(|row| &row[4]).filter(|note| **note != Cell::Null);
    let or_null = |cell: Option<Cell>| cell.unwrap_or(Cell::Null);
    let sum: i128 = amounts.iter().sum();
    let int = |value: i128| i64::try_from(value).ok().map(Cell::Int);
    let some = !amounts.is_empty();
    let by_total_order = |a: &f64, b: &f64| a.total_cmp(b);
    let mut result = vec![
        Cell::Int(rows.len() as i64),
        Cell::Int(amounts.len() as i64),
        if some { int(sum)? } else { Cell::Null },
        if some { Cell::Float(sum as f64 / amounts.len() as f64) } else { Cell::Null },
        or_null(amounts.iter().min().and_then(|value| int(*value))),
        or_null(amounts.iter().max().and_then(|value| int(*value))),
        Cell::Float(prices.iter().sum::<f64>() + 0.0),
        Cell::Float(prices.iter().sum::<f64>() / prices.len() as f64 + 0.0),
        Cell::Float(prices.iter().copied().max_by(by_total_order).unwrap()),
        or_null(notes.clone().min_by(|a, b| a.partial_cmp(b).unwrap()).cloned()),
        or_null(notes.max_by(|a, b| a.partial_cmp(b).unwrap()).cloned()),
    ];
    let folded: Vec<_> = rows.iter().filter(|row| row[2] != Cell::Int(13)).collect();
    let values = folded.iter().filter_map(|row| if let Cell::Int(value) = row[2] { Some(value) } else { None });
    result.push(Cell::Int(values.clone().count() as i64));
    result.push(Cell::Int(values.fold(0, i64::wrapping_add)));
    let joined: Vec<_> = folded
        .iter()
        .filter_map(|row| if let Cell::Text(note) = &row[4] { Some(note.as_str()) } else { None })
        .collect();
    result.push(if joined.is_empty() { Cell::Null } else { Cell::Text(joined.concat()) });
    Some(result)
}

/// Results, dead rows and late rows.
pub(in crate::operator) type Seen = (Vec<String>, usize, u64);

/// Windows of `size` that start every `every` from `offset` on; tumbling if they are as long as that.
#[derive(Clone, Copy, Debug)]
struct Shape {
    size: i64,
    every: i64,
    offset: i64,
    lateness: i64,
}

pub(in crate::operator) fn clamp(time: i128) -> i64 {
    time.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

impl Shape {
    fn spec(self) -> WindowSpec {
        sliding(self.size as u64, self.every as u64, self.offset)
    }

    /// Starts of the windows that hold `time`, the latest first.
    fn starts(self, time: i64) -> Vec<i128> {
        let (time, every) = (i128::from(time), i128::from(self.every));
        let mut start = time - (time - i128::from(self.offset)).rem_euclid(every);
        let mut starts = Vec::new();
        while time < start + i128::from(self.size) {
            starts.push(start);
            start -= every;
        }
        starts
    }

    fn end(self, start: i128) -> i64 {
        clamp(start + i128::from(self.size))
    }
}

/// The rows of a component come merged by slice: letters in another order.
pub(in crate::operator) fn letters_in_order(row: &mut [Cell]) {
    if let Some(Cell::Text(joined)) = row.last_mut() {
        let mut letters: Vec<char> = joined.chars().collect();
        letters.sort_unstable();
        *joined = letters.into_iter().collect();
    }
}

/// The rows of open windows by key, and what comes of them. One row at a time, no slots, no slices.
struct Model<'a> {
    shape: Shape,
    keys: &'a [usize],
    watermark: i64,
    windows: BTreeMap<i128, BTreeMap<String, Vec<Vec<Cell>>>>,
    seen: Seen,
}

impl Model<'_> {
    fn is_late(&self, start: i128) -> bool {
        (self.shape.end(start) - 1).saturating_add(self.shape.lateness) <= self.watermark
    }

    fn put_out(&mut self, start: i128, key: &str) {
        let Some(rows) = self.windows.get(&start).and_then(|window| window.get(key)) else { return };
        let end = self.shape.end(start);
        let key: Vec<_> = self.keys.iter().map(|key| rows[0][*key].clone()).collect();
        match expected_result(rows) {
            Some(mut result) => {
                letters_in_order(&mut result);
                let window = vec![Cell::Time(clamp(start)), Cell::Time(end)];
                self.seen.0.push(format!("{:?} @ {}", [key, window, result].concat(), end - 1));
            }
            None => self.seen.1 += 1,
        }
    }

    fn rows(&mut self, rows: &[(Vec<Cell>, i64)]) {
        let mut again = BTreeSet::new();
        for (cells, time) in rows {
            if *time == NO_EVENT_TIME {
                self.seen.1 += 1;
                continue;
            }
            let open: Vec<_> = self.shape.starts(*time).into_iter().filter(|start| !self.is_late(*start)).collect();
            if open.is_empty() {
                self.seen.2 += 1;
                continue;
            }
            self.seen.1 += usize::from(cells[2] == Cell::Int(13));
            let key: Vec<_> = self.keys.iter().map(|key| cells[*key].clone()).collect();
            let key = format!("{key:?}");
            for start in open {
                let window = self.windows.entry(start).or_default();
                window.entry(key.clone()).or_default().push(cells.clone());
                if self.shape.end(start) - 1 <= self.watermark {
                    again.insert((start, key.clone()));
                }
            }
        }
        again.iter().for_each(|(start, key)| self.put_out(*start, key));
    }

    fn advance(&mut self, watermark: i64) {
        let before = self.watermark;
        self.watermark = before.max(watermark);
        let keys = |keys: &BTreeMap<String, _>| keys.keys().cloned().collect::<Vec<_>>();
        let windows: Vec<_> = self.windows.iter().map(|(start, window)| (*start, keys(window))).collect();
        for (start, keys) in windows {
            if before < self.shape.end(start) - 1 && self.shape.end(start) - 1 <= self.watermark {
                keys.iter().for_each(|key| self.put_out(start, key));
            }
            if self.is_late(start) {
                self.windows.remove(&start);
            }
        }
    }
}

/// Rows, and the watermark after them.
pub(in crate::operator) type Step = (Vec<(Vec<Cell>, i64)>, Option<i64>);

/// Rows between watermarks, at most `rows_a_batch` at once.
pub(in crate::operator) fn batches(events: &[Event], rows_a_batch: usize) -> Vec<Step> {
    let mut batches: Vec<Step> = vec![(Vec::new(), None)];
    for event in events {
        let (rows, watermark) = batches.last_mut().unwrap();
        match event {
            Event::Watermark(time) => *watermark = Some(*time),
            Event::Row(cells, time) => {
                rows.push((cells.clone(), *time));
                if rows.len() < rows_a_batch {
                    continue;
                }
            }
        }
        batches.push((Vec::new(), None));
    }
    batches.push((Vec::new(), Some(i64::MAX)));
    batches
}

/// The batches and watermarks as the harness of restores takes them.
pub(in crate::operator) fn script(events: &[Event], rows_a_batch: usize) -> Vec<restoring::Event> {
    let mut script = Vec::new();
    for (rows, watermark) in batches(events, rows_a_batch) {
        let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
        let rows = Batch::new(batch(&input(), &cells), rows.iter().map(|row| row.1).collect()).unwrap();
        script.push(restoring::Event::rows(0, rows));
        script.extend(watermark.map(restoring::Event::Watermark));
    }
    script
}

fn model(events: &[Event], keys: &[usize], shape: Shape, rows_a_batch: usize) -> Seen {
    let seen = (Vec::new(), 0, 0);
    let mut model = Model { shape, keys, watermark: i64::MIN, windows: BTreeMap::new(), seen };
    for (rows, watermark) in batches(events, rows_a_batch) {
        model.rows(&rows);
        watermark.into_iter().for_each(|watermark| model.advance(watermark));
    }
    model.seen
}

/// The operator, with `rows_a_batch` rows at most in a batch.
fn run(events: &[Event], keys: &[usize], shape: Shape, rows_a_batch: usize) -> Seen {
    let input = input();
    let mut operator = late(&input, keys, shape.spec(), shape.lateness as u64, aggregates());
    let mut out = Output::default();
    for (rows, watermark) in batches(events, rows_a_batch) {
        let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
        let rows = Batch::new(batch(&input, &cells), rows.iter().map(|row| row.1).collect()).unwrap();
        operator.on_batch(rows, &mut out).unwrap();
        watermark.into_iter().for_each(|time| operator.on_watermark(Watermark(time), &mut out).unwrap());
    }
    assert_eq!((operator.keys_held(), operator.slices_held()), (0, 0), "something is left after the end");
    let mut found = Vec::new();
    for part in &out.batches {
        assert_eq!(part.columns().schema(), *operator.output().arrow());
        let mut rows = rows(part.columns().columns());
        rows.iter_mut().for_each(|row| letters_in_order(row));
        found.extend(rows.iter().zip(part.times()).map(|(row, time)| format!("{row:?} @ {time}")));
    }
    (found, out.dead.len(), out.late_rows)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let tumbling =
        prop_oneof![1i64..15, Just(1_000)].prop_map(|size| Shape { size, every: size, offset: 0, lateness: 0 });
    let sliding = (1i64..25, 1i64..25, -30i64..30).prop_map(|(size, every, offset)| {
        let every = every.min(size);
        Shape { size, every, offset: offset % every, lateness: 0 }
    });
    (prop_oneof![tumbling, sliding], prop_oneof![2 => Just(0), 1 => 1i64..30, 1 => Just(i64::MAX)])
        .prop_map(|(shape, lateness)| Shape { lateness, ..shape })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn results_are_those_of_a_map_however_the_input_is_cut(
        events in events(),
        keys in prop::sample::select(vec![vec![0], vec![1], vec![0, 1], vec![3], vec![1, 3, 0], vec![]]),
        shape in shapes(),
        rows_a_batch in 1usize..50,
    ) {
        // the model takes -0.0 and 0.0 for two keys
        let events: Vec<_> = events.into_iter().map(|event| match event {
            Event::Row(mut cells, time) if keys.contains(&3) && cells[3] == Cell::Float(0.0) => {
                cells[3] = Cell::Float(0.0);
                Event::Row(cells, time)
            }
            other => other,
        }).collect();
        let found = run(&events, &keys, shape, rows_a_batch);
        if shape.lateness == 0 {
            prop_assert_eq!(&found, &run(&events, &keys, shape, 1_000), "batches change results or their order");
        }
        let (mut sorted, mut expected) = (found, model(&events, &keys, shape, rows_a_batch));
        sorted.0.sort();
        expected.0.sort();
        prop_assert_eq!(&sorted, &expected);
        let make = || {
            let operator = late(&input(), &keys, shape.spec(), shape.lateness as u64, aggregates());
            Box::new(operator) as Box<dyn Operator>
        };
        let (results, dead, late_rows) = expected;
        Restoring::new(make)
            .keyed(&[&keys])
            .in_any_order(letters_in_order)
            .equals(&Outcome::of(results, dead, late_rows), &script(&events, rows_a_batch));
    }
}
