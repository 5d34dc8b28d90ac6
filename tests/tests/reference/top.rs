//! The first rows of windows: sorted lists.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::aggregates;
use crate::drive::{Expected, Question, holds};
use crate::events::{Model, Nulls, Row, events, replay};
use crate::windows::{Window, timed};

struct Lists {
    window: Window,
    n: usize,
    ties: bool,
    keyed: bool,
    watermark: i64,
    lists: BTreeMap<(i64, i64, Option<u8>), Vec<Row>>,
    results: Vec<Value>,
    late: u64,
    dead: u64,
}

impl Lists {
    fn put_out(&mut self, (start, end): (i64, i64), mut rows: Vec<Row>) {
        // largest first, nulls last; equal ones by the next column, which is `id`
        rows.sort_by_key(|row| (row.value.is_none(), row.value.map(|value| -value), row.id));
        for (at, row) in rows.iter().enumerate() {
            let first = rows.iter().position(|other| other.value == row.value).unwrap();
            let rank = if self.ties { first } else { at } + 1;
            if rank <= self.n {
                let (k, id) = (row.key(), row.id);
                self.results.push(json!({ "id": id, "k": k, "rank": rank, "window_start": start, "window_end": end }));
            }
        }
    }
}

impl Model for Lists {
    fn row(&mut self, row: &Row) {
        let Some(time) = row.time else {
            self.dead += 1;
            return;
        };
        let open: Vec<_> = self.window.of(time).into_iter().filter(|(_, end)| end - 1 > self.watermark).collect();
        self.late += u64::from(open.is_empty());
        for (start, end) in open {
            let key = row.key.filter(|_| self.keyed);
            self.lists.entry((start, end, key)).or_default().push(row.clone());
        }
    }

    fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
        let (done, left) =
            std::mem::take(&mut self.lists).into_iter().partition(|((_, end, _), _)| end - 1 <= watermark);
        self.lists = left;
        let done: BTreeMap<_, _> = done;
        done.into_iter().for_each(|((start, end, _), rows)| self.put_out((start, end), rows));
    }
}

#[test]
fn first_rows_of_windows_are_those_of_sorted_lists() {
    let window = timed().prop_filter("sessions have no top", |window| !matches!(window, Window::Session { .. }));
    let drawn = (events(1, Nulls::All), window, 1usize..4, any::<(bool, bool)>(), any::<u64>());
    holds(60, drawn, |(events, window, n, (ties, keyed), shuffle)| {
        let (lists, results) = (BTreeMap::new(), Vec::new());
        let mut lists = Lists { window, n, ties, keyed, watermark: i64::MIN, lists, results, late: 0, dead: 0 };
        replay(&events, 1, &mut lists);
        let key = if keyed { "key_by = \"k\"\n" } else { "" };
        let ties = if ties { "keep" } else { "cut" };
        Question {
            steps: format!(
                "[step.out]\nfrom = \"a\"\n{key}window = {}\ntop = {{ n = {n}, by = \"v\", ties = \"{ties}\" }}\n",
                window.toml()
            ),
            columns: vec![aggregates::COLUMNS],
            cells: aggregates::cells,
            events,
            shuffle: Some(shuffle),
            expected: Expected { sinks: vec![("out", lists.results)], late: lists.late, dead: lists.dead },
        }
    });
}
