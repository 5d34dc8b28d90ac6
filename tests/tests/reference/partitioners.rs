//! Rows of two sources, spread in every way there is: each goes to one task, and state behind them is by key all the same.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::drive::{Expected, Question, holds};
use crate::events::{Model, Nulls, Row, events, key_of, replay};

fn cells(row: &Row) -> Value {
    json!({ "id": row.id, "k": row.key(), "key": row.key.map_or(-1, i64::from), "v": row.value })
}

/// All rows, and totals of the keys that have changed when event time advances: rows of one key may pass each other on the way
/// through several tasks.
#[derive(Default)]
struct Spread {
    rows: Vec<Value>,
    totals: BTreeMap<Option<u8>, Option<i64>>,
    changed: BTreeSet<Option<u8>>,
    results: Vec<Value>,
}

impl Model for Spread {
    fn row(&mut self, row: &Row) {
        self.rows.push(cells(row));
        let total = self.totals.entry(row.key).or_default();
        *total = row.value.map(|value| value + total.unwrap_or(0)).or(*total);
        self.changed.insert(row.key);
    }

    fn advance(&mut self, _watermark: i64) {
        for key in std::mem::take(&mut self.changed) {
            self.results.push(json!({ "k": key_of(key), "total": self.totals[&key] }));
        }
    }
}

fn partitions() -> impl Strategy<Value = String> {
    let fixed = ["\"rebalance\"", "{ hash = \"row\" }", "{ key = \"k\" }", "{ key = [\"v\", \"k\"] }"];
    let splits = prop::collection::btree_set(-20i64..20, 1..5);
    let custom = "../../../target/guests/hot-keys.wasm";
    prop_oneof![
        2 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        1 => Just("{ range = { column = \"k\", splits = [\"key 1\", \"key 3\"] } }".to_owned()),
        1 => splits.prop_map(|splits| {
            format!("{{ range = {{ column = \"v\", splits = {:?} }} }}", splits.into_iter().collect::<Vec<_>>())
        }),
        2 => (0..5).prop_map(move |hot| {
            format!("{{ custom = {{ component = \"{custom}\", config = {{ hot = {hot} }} }} }}")
        }),
    ]
}

#[test]
fn every_row_goes_to_one_task_and_state_behind_is_by_key() {
    let tasks = prop::option::of(1..5);
    holds(60, (events(2, Nulls::All), partitions(), tasks, any::<u64>()), |(events, partition, tasks, shuffle)| {
        let mut model = Spread::default();
        replay(&events, 2, &mut model);
        let expected = vec![("spread", model.rows), ("totals", model.results)];
        let tasks = tasks.map_or(String::new(), |tasks| format!("parallelism = {tasks}\n"));
        let columns = "id = \"int64\", k = \"text?\", key = \"int64\", v = \"int64?\"";
        Question {
            steps: format!(
                "[step.spread]\nfrom = [\"a\", \"b\"]\nselect = [\"id\", \"k\", \"key\", \"v\"]\npartition = {partition}\n{tasks}\
                 [step.totals]\nfrom = \"spread\"\nkey_by = \"k\"\naggregate = {{ total = \"sum(v)\" }}\nemit = \"latest\"\n"
            ),
            columns: vec![columns; 2],
            cells,
            events,
            shuffle: Some(shuffle),
            expected: Expected { sinks: expected, ..Expected::default() },
        }
    });
}
