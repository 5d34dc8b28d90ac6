//! Aggregates without windows: all rows of a key so far.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::aggregates;
use crate::drive::{Expected, Question, holds};
use crate::events::{Model, Nulls, Row, events, replay};

#[derive(Default)]
struct Lists {
    /// only when event time advances
    latest: bool,
    keys: BTreeMap<Option<u8>, Vec<Row>>,
    changed: BTreeSet<Option<u8>>,
    results: Vec<Value>,
}

impl Lists {
    fn put_out(&mut self, key: Option<u8>) {
        let rows = &self.keys[&key];
        self.results.push(aggregates::of(rows, json!({ "k": rows[0].key() })));
    }
}

impl Model for Lists {
    fn row(&mut self, row: &Row) {
        self.keys.entry(row.key).or_default().push(row.clone());
        self.changed.insert(row.key);
        if !self.latest {
            self.put_out(row.key);
        }
    }

    fn advance(&mut self, _watermark: i64) {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter(|_| self.latest).collect::<Vec<_>>().into_iter().for_each(|key| self.put_out(key));
    }
}

#[test]
fn running_aggregates_are_those_of_lists() {
    let drawn = (events(1, Nulls::All), any::<bool>(), any::<u64>());
    holds(60, drawn, |(events, latest, shuffle)| {
        let mut lists = Lists { latest, ..Lists::default() };
        replay(&events, 1, &mut lists);
        let emit = if latest { "latest" } else { "changes" };
        let calls = aggregates::CALLS;
        Question {
            steps: format!("[step.out]\nfrom = \"a\"\nkey_by = \"k\"\naggregate = {{ {calls} }}\nemit = \"{emit}\"\n"),
            columns: vec![aggregates::COLUMNS],
            cells: aggregates::cells,
            events,
            shuffle: Some(shuffle),
            expected: Expected { sinks: vec![("out", lists.results)], ..Expected::default() },
        }
    });
}
