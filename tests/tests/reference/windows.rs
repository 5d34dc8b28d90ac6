//! Windows of all kinds, and the two operators over them: aggregates, and components that get all rows.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::aggregates;
use crate::drive::{Expected, Question, holds};
use crate::events::{Event, Model, Nulls, Row, events, replay};

/// A window as a pipeline has it, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Tumbling { size: i64, offset: i64 },
    Sliding { size: i64, every: i64, offset: i64 },
    Session { gap: i64 },
    Count { rows: usize },
    CountEvery { rows: usize, every: usize },
    Global,
}

impl Window {
    pub(crate) fn toml(self) -> String {
        match self {
            Self::Tumbling { size, offset } => format!("{{ tumbling = \"{size}ms\", offset = \"{offset}ms\" }}"),
            Self::Sliding { size, every, offset } => {
                format!("{{ sliding = \"{size}ms\", every = \"{every}ms\", offset = \"{offset}ms\" }}")
            }
            Self::Session { gap } => format!("{{ session = \"{gap}ms\" }}"),
            Self::Count { rows } => format!("{{ count = {rows} }}"),
            Self::CountEvery { rows, every } => format!("{{ count = {rows}, every = {every} }}"),
            Self::Global => "{ global = true }".to_owned(),
        }
    }

    /// Whether it goes by event time.
    fn timed(self) -> bool {
        matches!(self, Self::Tumbling { .. } | Self::Sliding { .. } | Self::Session { .. })
    }

    /// The windows of a row, sessions before they join.
    pub(crate) fn of(self, time: i64) -> Vec<(i64, i64)> {
        let (size, every, offset) = match self {
            Self::Tumbling { size, offset } => (size, size, offset),
            Self::Sliding { size, every, offset } => (size, every, offset),
            Self::Session { gap } => return vec![(time, time + gap)],
            _ => return vec![(time, time + 1)],
        };
        let holds = |start: &i64| *start <= time && time < start + size && (start - offset).rem_euclid(every) == 0;
        (time - size..=time).filter(holds).map(|start| (start, start + size)).collect()
    }
}

/// Windows that go by event time.
pub(crate) fn timed() -> impl Strategy<Value = Window> {
    let sliding = (1i64..25, 1i64..25, -30i64..30).prop_map(|(size, every, offset)| {
        let every = every.min(size);
        Window::Sliding { size, every, offset: offset % every }
    });
    prop_oneof![
        (1i64..15, -20i64..20).prop_map(|(size, offset)| Window::Tumbling { size, offset: offset % size }),
        sliding,
        (1i64..12).prop_map(|gap| Window::Session { gap }),
    ]
}

fn windows() -> impl Strategy<Value = Window> {
    let count = (1usize..6).prop_map(|rows| Window::Count { rows });
    let every = (1usize..6, 1usize..6).prop_map(|(rows, every)| Window::CountEvery { rows, every: every.min(rows) });
    prop_oneof![6 => timed(), 1 => count, 1 => every, 1 => Just(Window::Global)]
}

/// A window of a key with its rows, in the order in which they came.
#[derive(Clone, Debug)]
struct Open {
    start: i64,
    end: i64,
    rows: Vec<Row>,
}

/// Lists of rows, by key and window.
struct Lists {
    window: Window,
    lateness: i64,
    watermark: i64,
    keys: BTreeMap<Option<u8>, Vec<Open>>,
    /// what comes out of a window
    result: fn(&[Row], Value) -> Value,
    results: Vec<Value>,
    late: u64,
    dead: u64,
}

impl Lists {
    fn put_out(&mut self, open: &Open) {
        let beside = json!({ "k": open.rows[0].key(), "window_start": open.start, "window_end": open.end });
        self.results.push((self.result)(&open.rows, beside));
    }

    fn is_late(&self, end: i64) -> bool {
        self.window.timed() && end - 1 + self.lateness <= self.watermark
    }

    /// The open windows of the row's key that it joins become one with it.
    fn enter(&mut self, row: &Row, (start, end): (i64, i64)) -> Option<Open> {
        let opens = self.keys.entry(row.key).or_default();
        let joins = |open: &mut Open| match self.window {
            Window::Tumbling { .. } | Window::Sliding { .. } => (open.start, open.end) == (start, end),
            Window::Session { .. } => open.start <= end && start <= open.end,
            _ => true,
        };
        let mut one = Open { start, end, rows: Vec::new() };
        for open in opens.extract_if(.., joins) {
            (one.start, one.end) = (one.start.min(open.start), one.end.max(open.end));
            one.rows.extend(open.rows);
        }
        one.rows.push(row.clone());
        one.rows.sort_by_key(|row| row.id);
        if self.is_late(one.end) {
            return None;
        }
        self.keys.entry(row.key).or_default().push(one.clone());
        Some(one)
    }

    /// The last rows of the key, again and again.
    fn counted(&mut self, row: &Row, rows: usize, every: usize) {
        let all = self.keys.entry(row.key).or_default();
        let time = row.time.unwrap_or(0);
        all.push(Open { start: time, end: time + 1, rows: vec![row.clone()] });
        if all.len().is_multiple_of(every) {
            let last = &all[all.len().saturating_sub(rows)..];
            let (start, end) = (last.iter().map(|one| one.start).min(), last.iter().map(|one| one.end).max());
            let rows = last.iter().flat_map(|one| one.rows.clone()).collect();
            self.put_out(&Open { start: start.unwrap(), end: end.unwrap(), rows });
        }
    }
}

impl Model for Lists {
    fn row(&mut self, row: &Row) {
        let time = match row.time {
            Some(time) => time,
            None if !self.window.timed() => 0,
            None => {
                self.dead += 1;
                return;
            }
        };
        if let Window::CountEvery { rows, every } = self.window {
            return self.counted(row, rows, every);
        }
        let windows = self.window.of(time);
        let entered: Vec<Open> = windows.into_iter().filter_map(|bounds| self.enter(row, bounds)).collect();
        self.late += u64::from(entered.is_empty());
        for open in entered {
            let full = matches!(self.window, Window::Count { rows } if rows == open.rows.len());
            if full {
                self.keys.insert(row.key, Vec::new());
            }
            // a window that has fired fires again
            if full || self.window.timed() && open.end - 1 <= self.watermark {
                self.put_out(&open);
            }
        }
    }

    fn advance(&mut self, watermark: i64) {
        let before = std::mem::replace(&mut self.watermark, watermark);
        let fires = |open: &&Open| match self.window {
            Window::Global => watermark == i64::MAX,
            Window::Count { .. } | Window::CountEvery { .. } => false,
            _ => before < open.end - 1 && open.end - 1 <= watermark,
        };
        let fired: Vec<Open> = self.keys.values().flatten().filter(fires).cloned().collect();
        fired.iter().for_each(|open| self.put_out(open));
        let mut keys = std::mem::take(&mut self.keys);
        keys.values_mut().for_each(|opens| opens.retain(|open| !self.is_late(open.end)));
        self.keys = keys;
    }
}

/// One step, its windows and lateness; rows in random batches where nothing depends on these.
fn question(
    operator: &str,
    (events, window, lateness, shuffle): (Vec<Event>, Window, i64, u64),
    result: fn(&[Row], Value) -> Value,
) -> Question {
    let lateness = if window.timed() { lateness } else { 0 };
    let (keys, results) = (BTreeMap::new(), Vec::new());
    let mut lists = Lists { window, lateness, watermark: i64::MIN, keys, result, results, late: 0, dead: 0 };
    replay(&events, 1, &mut lists);
    let mut steps = format!("[step.out]\nfrom = \"a\"\nkey_by = \"k\"\nwindow = {}\n{operator}\n", window.toml());
    if lateness > 0 {
        steps += &format!("allowed_lateness = \"{lateness}ms\"\n");
    }
    Question {
        steps,
        columns: vec![aggregates::COLUMNS],
        cells: aggregates::cells,
        events,
        // each row that comes late is then a batch, and fires its windows by itself
        shuffle: (lateness == 0).then_some(shuffle),
        expected: Expected { sinks: vec![("out", lists.results)], late: lists.late, dead: lists.dead },
    }
}

fn lateness() -> impl Strategy<Value = i64> {
    prop_oneof![2 => Just(0), 1 => 1i64..30]
}

#[test]
fn windowed_aggregates_are_those_of_lists() {
    let drawn = (events(1, Nulls::All), windows(), lateness(), any::<u64>());
    let operator = format!("aggregate = {{ {} }}", aggregates::CALLS);
    holds(120, drawn, |drawn| question(&operator, drawn, aggregates::of));
}

/// What `hostile-window` answers: rows by time, those of one time as they came.
fn told(rows: &[Row], beside: Value) -> Value {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.time);
    let values: Vec<i64> = rows.iter().filter_map(|row| row.value).collect();
    let mut result = json!({
        "n": values.len(), "total": values.iter().sum::<i64>(), "least": values.iter().min(),
        "first": values.first(), "last": values.last(), "sound": true,
    });
    result.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
    result
}

#[test]
fn components_get_all_rows_of_a_window_by_time() {
    let drawn = (events(1, Nulls::None), windows(), lateness(), any::<u64>());
    let drawn =
        drawn.prop_filter("rows are kept for one window each", |drawn| !matches!(drawn.1, Window::CountEvery { .. }));
    let operator = "window_process = \"../../../target/guests/hostile-window.wasm\"";
    holds(60, drawn, |drawn| Question {
        columns: vec!["k = \"text?\", word = \"text\", v = \"int64\""],
        cells: |row| json!({ "k": row.key(), "word": "", "v": row.value }),
        ..question(operator, drawn, told)
    });
}
