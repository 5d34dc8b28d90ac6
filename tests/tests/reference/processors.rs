//! State and timers of `inactivity`, and state alone of `dedup`.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::drive::{Expected, Question, holds};
use crate::events::{Model, Nulls, Row, events, key_of, replay};

/// What `inactivity` and its timers come to, user by user.
#[derive(Default)]
struct Silences {
    gap: i64,
    /// times of rows, ascending, and of timers
    users: BTreeMap<Option<u8>, (Vec<i64>, BTreeSet<i64>)>,
    results: Vec<Value>,
}

impl Model for Silences {
    fn row(&mut self, row: &Row) {
        let (times, timers) = self.users.entry(row.key).or_default();
        let time = row.time.unwrap();
        times.push(time);
        times.sort_unstable();
        timers.insert(time + self.gap);
    }

    fn advance(&mut self, watermark: i64) {
        for (key, (times, timers)) in &mut self.users {
            // one that was set behind the watermark is due now too
            while let Some(due) = timers.first().copied().filter(|due| *due <= watermark) {
                timers.remove(&due);
                let last = due - self.gap;
                let before = times.iter().filter(|time| **time <= last).count();
                if before == 0 || times.get(before).is_some_and(|next| *next <= due) {
                    continue;
                }
                times.drain(..before);
                self.results.push(json!({ "user": key_of(*key), "last": last, "rows": before }));
            }
        }
    }
}

#[test]
fn timers_fire_in_order_and_find_what_rows_have_left() {
    holds(60, (events(1, Nulls::None), 1i64..20, any::<u64>()), |(events, gap, shuffle)| {
        let mut silences = Silences { gap, ..Silences::default() };
        replay(&events, 1, &mut silences);
        Question {
            steps: format!(
                "[step.out]\nfrom = \"a\"\nkey_by = \"user\"\nconfig = {{ gap_ms = {gap} }}\n\
                 process = \"../../../target/guests/inactivity.wasm\"\n"
            ),
            columns: vec!["user = \"text\""],
            cells: |row| json!({ "user": row.key() }),
            events,
            shuffle: Some(shuffle),
            expected: Expected { sinks: vec![("out", silences.results)], ..Expected::default() },
        }
    });
}

/// The first row of each key.
#[derive(Default)]
struct Firsts {
    seen: BTreeSet<Option<u8>>,
    results: Vec<Value>,
}

impl Model for Firsts {
    fn row(&mut self, row: &Row) {
        if self.seen.insert(row.key) {
            self.results.push(json!({ "order": row.key(), "amount": row.id }));
        }
    }

    fn advance(&mut self, _watermark: i64) {}
}

#[test]
fn state_says_what_has_been_seen() {
    holds(30, (events(1, Nulls::None), any::<u64>()), |(events, shuffle)| {
        let mut firsts = Firsts::default();
        replay(&events, 1, &mut firsts);
        Question {
            steps: "[step.out]\nfrom = \"a\"\nkey_by = \"order\"\n\
                    process = \"../../../target/guests/dedup.wasm\"\n"
                .to_owned(),
            columns: vec!["order = \"text\", amount = \"float64\""],
            cells: |row| json!({ "order": row.key(), "amount": row.id }),
            events,
            shuffle: Some(shuffle),
            expected: Expected { sinks: vec![("out", firsts.results)], ..Expected::default() },
        }
    });
}
