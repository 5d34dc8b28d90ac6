//! Triggers against lists of rows, and the rules one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::fold::input;
use super::model::{Event, batches, events, script};
use super::*;
use crate::operator::KeyWindowAggregate;
use crate::restoring::{Outcome, Restoring};

/// A window of a key.
#[derive(Clone, Debug, Default)]
struct Open {
    start: i64,
    end: i64,
    /// numbers of rows, in order
    rows: Vec<i64>,
    /// since it last fired
    pending: u64,
    early: Option<i64>,
    fired: bool,
}

/// What the windows of every key do, one row at a time: no places, no layers, no pieces of batches.
struct Model {
    window: WindowSpec,
    trigger: Trigger,
    firing: Firing,
    lateness: i64,
    watermark: i64,
    keys: BTreeMap<String, (Vec<Cell>, Vec<Open>)>,
    seen: Vec<String>,
    late: u64,
}

impl Model {
    fn fire(&mut self, key: &str, at: usize) {
        let ends = self.ends();
        let Some((cells, windows)) = self.keys.get_mut(key) else { return };
        let open = &mut windows[at];
        open.pending = 0;
        open.fired |= ends && open.end - 1 <= self.watermark;
        if open.rows.is_empty() {
            return;
        }
        let (count, sum) = (open.rows.len(), open.rows.iter().sum::<i64>());
        let time = if self.window == WindowSpec::Global { i64::MAX } else { open.end - 1 };
        self.seen.push(format!("{:?} {}..{} {count} {sum} @ {time}", cells[0], open.start, open.end));
        if self.firing == Firing::Discarding {
            open.rows.clear();
            if self.window == WindowSpec::Global {
                (open.start, open.end) = (i64::MAX, i64::MIN);
            }
        }
    }

    /// Windows of a row as (start, end), before sessions join.
    fn windows(&self, cells: &[Cell], time: i64) -> Vec<(i64, i64)> {
        match self.window {
            WindowSpec::Sliding { size, every, .. } => {
                let (size, every) = (size.as_millis() as i64, every.as_millis() as i64);
                let starts = (0..).map(|n| time - time.rem_euclid(every) - n * every).take_while(|s| time < s + size);
                starts.map(|start| (start, start + size)).collect()
            }
            WindowSpec::Session { gap } => vec![(time, time.saturating_add(gap.as_millis() as i64))],
            WindowSpec::SessionByColumn => {
                let Cell::Int(gap) = cells[2] else { unreachable!() };
                vec![(time, time.saturating_add(gap))]
            }
            _ => vec![(time, time.saturating_add(1))],
        }
    }

    fn ends(&self) -> bool {
        self.window != WindowSpec::Global
    }

    /// The place of the window that the row enters, in the list of its key.
    fn entered(&self, windows: &mut Vec<Open>, (start, end): (i64, i64)) -> Option<usize> {
        let mut new = Open { start, end, ..Open::default() };
        let joins = |open: &Open| match self.window {
            WindowSpec::Global => true,
            WindowSpec::Sliding { .. } => (open.start, open.end) == (start, end),
            _ => open.start <= end && start <= open.end,
        };
        let (mut joined, others): (Vec<Open>, Vec<Open>) = windows.drain(..).partition(joins);
        joined.sort_by_key(|open| open.start);
        *windows = others;
        new.fired = joined.first().is_some_and(|open| open.fired);
        for open in joined {
            (new.start, new.end) = (new.start.min(open.start), new.end.max(open.end));
            new.rows.extend(open.rows);
            new.pending += open.pending;
            new.early = new.early.into_iter().chain(open.early).min();
        }
        if self.ends() && (new.end - 1).saturating_add(self.lateness) <= self.watermark {
            return None;
        }
        new.fired &= new.end - 1 <= self.watermark;
        windows.push(new);
        Some(windows.len() - 1)
    }

    fn row(&mut self, cells: &[Cell], number: i64, time: i64) {
        let key = format!("{:?}", cells[0]);
        let bounds = self.windows(cells, time);
        let mut taken = false;
        for bounds in bounds.into_iter().rev() {
            let (_, mut windows) = self.keys.remove(&key).unwrap_or((cells.to_vec(), Vec::new()));
            let at = self.entered(&mut windows, bounds);
            self.keys.insert(key.clone(), (cells.to_vec(), windows));
            let Some(at) = at else { continue };
            taken = true;
            let (ends, watermark) = (self.ends(), self.watermark);
            let open = &mut self.keys.get_mut(&key).unwrap().1[at];
            open.rows.push(number);
            open.pending += 1;
            if let Trigger::Every { interval } = self.trigger
                && !(ends && open.end - 1 <= watermark)
            {
                let interval = interval.as_millis() as i64;
                let next = (time.max(watermark).div_euclid(interval) + 1) * interval;
                open.early = Some(open.early.map_or(next, |early| early.min(next)));
            }
            if matches!(self.trigger, Trigger::Count { rows, .. } if open.pending >= rows) {
                self.fire(&key, at);
            }
        }
        self.late += u64::from(!taken);
    }

    fn each(&mut self, mut fires: impl FnMut(&mut Open) -> bool) {
        for key in self.keys.keys().cloned().collect::<Vec<_>>() {
            for at in 0..self.keys[&key].1.len() {
                if fires(&mut self.keys.get_mut(&key).unwrap().1[at]) {
                    self.fire(&key, at);
                }
            }
        }
    }

    /// After a batch: windows that have ended and took rows.
    fn batch_ends(&mut self) {
        let (ends, watermark, at_end) = (self.ends(), self.watermark, self.trigger.fires_at_end());
        self.each(|open| {
            let fires = ends && at_end && open.pending > 0 && open.end - 1 <= watermark;
            open.fired |= fires;
            fires
        });
    }

    fn advance(&mut self, watermark: i64) {
        let (ends, at_end) = (self.ends(), self.trigger.fires_at_end());
        let forgets = !ends && self.firing == Firing::Discarding;
        let interval = match self.trigger {
            Trigger::Every { interval } => interval.as_millis() as i64,
            _ => 1,
        };
        self.watermark = watermark;
        self.each(|open| {
            let ended = if ends { open.end - 1 <= watermark } else { watermark == i64::MAX };
            let early = open.early.is_some_and(|early| early <= watermark);
            if early || ended {
                // a window that has fired early does so at every multiple from then on; one of all rows begins anew
                let goes_on = !ended && !forgets;
                open.early = goes_on.then(|| (watermark.div_euclid(interval) + 1) * interval);
            }
            if ended {
                let fires = at_end && !open.fired;
                open.fired = true;
                return fires;
            }
            early && open.pending > 0
        });
        let lateness = self.lateness;
        for (_, windows) in self.keys.values_mut() {
            windows.retain(|open| !ends || (open.end - 1).saturating_add(lateness) > watermark);
        }
    }
}

/// Rows that all triggers have a use for: with a number, an event time, and a gap.
fn numbered(events: Vec<Event>) -> Vec<Event> {
    let mut numbers = 1..;
    let number = |event| match event {
        Event::Row(mut cells, time) => {
            cells[1] = Cell::Null;
            cells[2] = Cell::Int(numbers.next().unwrap_or(1) % 12 + 1);
            Event::Row(cells, time.clamp(-40, 70))
        }
        watermark => watermark,
    };
    events.into_iter().map(number).collect()
}

#[derive(Clone, Copy, Debug)]
struct Case {
    window: WindowSpec,
    trigger: Trigger,
    firing: Firing,
    lateness: u64,
}

fn made(case: Case, clock: &Clock) -> KeyWindowAggregate {
    let aggregates =
        vec![built_in("n", AggregateFunction::Count, None), built_in("total", AggregateFunction::Sum, Some(2))];
    let Case { window, trigger, firing, lateness } = case;
    let gap = (window == WindowSpec::SessionByColumn).then_some(2);
    let clock = clock.clone();
    let spec =
        WindowAggregateSpec { trigger, firing, gap, clock, ..spec(&input(), &[0], window, lateness, aggregates) };
    KeyWindowAggregate::new(spec).unwrap()
}

/// The operator's results as the model words them, in order, and how many rows were late.
fn run(events: &[Event], case: Case, clock_steps: bool, rows_a_batch: usize) -> (Vec<String>, u64) {
    let clock = Clock::virtual_at_ms(0);
    let mut operator = made(case, &clock);
    let mut out = Output::default();
    let mut watermark = i64::MIN;
    for (rows, next) in batches(events, rows_a_batch) {
        let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
        let rows = Batch::new(batch(&input(), &cells), rows.iter().map(|row| row.1).collect()).unwrap();
        operator.on_batch(rows, &mut out).unwrap();
        if let Some(time) = next.filter(|time| *time > watermark) {
            watermark = time;
            operator.on_watermark(Watermark(time), &mut out).unwrap();
        }
        if clock_steps && next.is_some() {
            clock.set_ms(clock.now_ms() + 10);
            if operator.next_processing_time().is_some_and(|time| time <= clock.now_ms()) {
                operator.on_processing_time(clock.now_ms(), &mut out).unwrap();
            }
        }
    }
    assert_eq!((operator.keys_held(), operator.windows_open()), (0, 0), "something is left after the end");
    let mut found = Vec::new();
    for part in &out.batches {
        found.extend(rows(part.columns().columns()).iter().zip(part.times()).map(|(row, time)| worded(row, *time)));
    }
    (found, out.late_rows)
}

/// A result as the model says it.
fn worded(row: &[Cell], time: i64) -> String {
    let [key, Cell::Time(start), Cell::Time(end), Cell::Int(n), Cell::Int(total)] = row else { panic!("{row:?}") };
    format!("{key:?} {start}..{end} {n} {total} @ {time}")
}

fn model(events: &[Event], case: Case, rows_a_batch: usize) -> (Vec<String>, u64) {
    let Case { window, trigger, firing, lateness } = case;
    let (keys, seen) = (BTreeMap::new(), Vec::new());
    let mut model =
        Model { window, trigger, firing, lateness: lateness as i64, watermark: i64::MIN, keys, seen, late: 0 };
    for (rows, watermark) in batches(events, rows_a_batch) {
        for (cells, time) in &rows {
            let Cell::Int(number) = cells[2] else { unreachable!() };
            model.row(cells, number, *time);
        }
        model.batch_ends();
        if let Some(watermark) = watermark.filter(|watermark| *watermark > model.watermark) {
            model.advance(watermark);
        }
    }
    (model.seen, model.late)
}

fn cases() -> impl Strategy<Value = Case> {
    let window = prop_oneof![
        2 => (1u64..15).prop_map(|size| sliding(size, size, 0)),
        2 => (1u64..25, 1u64..25).prop_map(|(size, every)| sliding(size, every.min(size), 0)),
        2 => (1u64..12).prop_map(|gap| WindowSpec::Session { gap: Duration::from_millis(gap) }),
        1 => Just(WindowSpec::SessionByColumn),
        1 => Just(WindowSpec::Global),
    ];
    let lateness = prop_oneof![2 => Just(0), 1 => 1u64..30];
    let firing = prop::sample::select(vec![Firing::Accumulating, Firing::Discarding]);
    (window, super::restoring::triggers(), firing, lateness).prop_map(|(window, trigger, firing, lateness)| {
        let lateness = if window == WindowSpec::Global { 0 } else { lateness };
        Case { window, trigger, firing, lateness }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn windows_fire_as_lists_of_rows_do_however_the_input_is_cut(
        events in events(),
        case in cases(),
        rows_a_batch in 1usize..50,
    ) {
        let events = numbered(events);
        let (found, late) = run(&events, case, true, rows_a_batch);
        if case.lateness == 0 || !case.trigger.fires_at_end() {
            let whole = run(&events, case, true, 1_000);
            prop_assert_eq!((&found, late), (&whole.0, whole.1), "batches change results or their order");
        }
        if !matches!(case.trigger, Trigger::ProcessingTime { .. }) {
            let (mut found, (mut expected, expected_late)) = (found, model(&events, case, rows_a_batch));
            found.sort();
            expected.sort();
            prop_assert_eq!((&found, late), (&expected, expected_late));
            Restoring::new(|| Box::new(made(case, &Clock::virtual_at_ms(0))) as Box<dyn Operator>)
                .keyed(&[&[0]])
                .worded(worded)
                .equals(&Outcome::of(expected, 0, expected_late), &script(&events, rows_a_batch));
        }
    }
}

fn row(id: i64, gap: Cell, time: i64) -> (Vec<Cell>, i64) {
    (vec![Cell::Int(id), Cell::Null, gap, Cell::Float(0.0), Cell::Null], time)
}

fn counts(out: &Output) -> Vec<(i64, i64)> {
    let count = |row: Vec<Cell>| match row.as_slice() {
        [Cell::Int(key), _, _, Cell::Int(n), _] => (*key, *n),
        other => panic!("{other:?}"),
    };
    results(out).into_iter().map(count).collect()
}

fn takes(operator: &mut KeyWindowAggregate, rows: &[(Vec<Cell>, i64)]) -> Output {
    let mut out = Output::default();
    let cells: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    let rows = Batch::new(batch(&input(), &cells), rows.iter().map(|row| row.1).collect()).unwrap();
    operator.on_batch(rows, &mut out).unwrap();
    out
}

#[test]
fn a_count_trigger_fires_in_row_order_and_several_times_within_a_batch() {
    let window = sliding(100, 100, 0);
    let trigger = Trigger::Count { rows: 2, at_end: false };
    let ids = [1, 2, 1, 1, 2, 1, 1];
    let rows: Vec<_> = ids.into_iter().map(|id| row(id, Cell::Int(1), 5)).collect();
    for (firing, expected) in
        [(Firing::Accumulating, [(1, 2), (2, 2), (1, 4)]), (Firing::Discarding, [(1, 2), (2, 2), (1, 2)])]
    {
        let mut operator = made(Case { window, trigger, firing, lateness: 0 }, &Clock::virtual_at_ms(0));
        let out = takes(&mut operator, &rows);
        assert_eq!(counts(&out), expected);
        assert_eq!(out.batches.len(), 1, "small results come as one batch");
        let mut end = Output::default();
        operator.on_watermark(Watermark(99), &mut end).unwrap();
        assert_eq!(counts(&end), [], "the fifth row of key 1 is left over");
    }
}

#[test]
fn the_hosts_clock_fires_windows_with_new_rows_at_multiples_of_the_interval() {
    let clock = Clock::virtual_at_ms(1_250);
    let trigger = Trigger::ProcessingTime { interval: Duration::from_secs(1) };
    let case = Case { window: WindowSpec::Global, trigger, firing: Firing::Accumulating, lateness: 0 };
    let mut operator = made(case, &clock);
    assert_eq!(operator.next_processing_time(), None);
    takes(&mut operator, &[row(1, Cell::Int(1), 5), row(2, Cell::Int(1), 6)]);
    assert_eq!(operator.next_processing_time(), Some(2_000));
    let mut out = Output::default();
    operator.on_processing_time(2_100, &mut out).unwrap();
    assert_eq!(counts(&out), [(1, 1), (2, 1)]);
    assert_eq!(operator.next_processing_time(), None);
    clock.set_ms(2_100);
    takes(&mut operator, &[row(2, Cell::Int(1), 6)]);
    let mut out = Output::default();
    operator.on_processing_time(3_000, &mut out).unwrap();
    assert_eq!(counts(&out), [(2, 2)], "only keys with new rows");
    let mut out = Output::default();
    operator.on_watermark(Watermark::MAX, &mut out).unwrap();
    assert_eq!(counts(&out), [(1, 1), (2, 2)], "all of them at the end");
}

#[test]
fn a_row_says_how_long_its_session_lasts_and_one_without_a_gap_is_dead() {
    let case =
        Case { window: WindowSpec::SessionByColumn, trigger: Trigger::End, firing: Firing::Accumulating, lateness: 0 };
    let mut operator = made(case, &Clock::virtual_at_ms(0));
    let rows = [
        row(1, Cell::Int(5), 0),
        row(1, Cell::Int(100), 5),
        row(1, Cell::Int(1), 90),
        row(1, Cell::Int(1), 106),
        row(1, Cell::Null, 0),
        row(1, Cell::Int(0), 0),
        row(1, Cell::Int(-5), 0),
    ];
    let out = takes(&mut operator, &rows);
    assert_eq!(out.dead.len(), 3);
    assert!(out.dead[0].reason.contains("expected 1 ms or more"), "{}", out.dead[0].reason);
    let mut out = Output::default();
    operator.on_watermark(Watermark(104), &mut out).unwrap();
    assert_eq!(counts(&out), [(1, 3)]);
    operator.on_watermark(Watermark(106), &mut out).unwrap();
    assert_eq!(counts(&out), [(1, 3), (1, 1)]);
}
