//! What aggregates make of a list of rows.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::events::Row;

/// The columns that [`of`] answers.
pub(crate) const CALLS: &str = "n = \"count()\", c = \"count(v)\", total = \"sum(v)\", mean = \"avg(v)\", \
    least = \"min(v)\", most = \"max(v)\", first = \"first(v)\", last = \"last(v)\", kinds = \"count_distinct(v)\"";

/// The columns that rows have for it.
pub(crate) const COLUMNS: &str = "id = \"int64\", k = \"text?\", v = \"int64?\"";

/// A row as these columns.
pub(crate) fn cells(row: &Row) -> Value {
    json!({ "id": row.id, "k": row.key(), "v": row.value })
}

/// The aggregates of rows in the order in which they came, beside what they are of.
pub(crate) fn of(rows: &[Row], beside: Value) -> Value {
    let values: Vec<(i64, i64)> =
        rows.iter().filter_map(|row| Some((row.time.unwrap_or(i64::MIN), row.value?))).collect();
    let numbers = || values.iter().map(|(_, value)| *value);
    let total: i64 = numbers().sum();
    let some = |value: Value| if values.is_empty() { Value::Null } else { value };
    let mut earliest = values.clone();
    earliest.sort_by_key(|(time, _)| *time);
    let latest = values.iter().max_by_key(|(time, _)| *time);
    let mut result = json!({
        "n": rows.len(),
        "c": values.len(),
        "total": some(total.into()),
        "mean": some((total as f64 / values.len() as f64).into()),
        "least": numbers().min(),
        "most": numbers().max(),
        "first": earliest.first().map(|(_, value)| value),
        "last": latest.map(|(_, value)| value),
        "kinds": numbers().collect::<BTreeSet<i64>>().len(),
    });
    result.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
    result
}
