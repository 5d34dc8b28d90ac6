//! Columns of a case as a guest takes them.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use millstream::record::{Kind, Schema};
use serde_json::Value;

use super::Case;

/// The input of a case in the guest's own order of columns.
pub(crate) fn batch(case: &Case, schema: &Schema) -> RecordBatch {
    assert_eq!(schema.fields().len(), case.input.len(), "{}: the guest reads {schema}", case.name);
    let arrays = schema.fields().iter().map(|field| {
        let values = case.input.get(&field.name).unwrap_or_else(|| panic!("{}: no `{}`", case.name, field.name));
        array(field.kind, values)
    });
    let rows = case.input.values().map(Vec::len).max().unwrap_or(0);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), arrays.collect(), &options).unwrap()
}

fn array(kind: Kind, values: &[Value]) -> ArrayRef {
    match kind {
        Kind::Text => Arc::new(values.iter().map(Value::as_str).collect::<StringArray>()),
        Kind::Float64 => Arc::new(values.iter().map(Value::as_f64).collect::<Float64Array>()),
        Kind::Int64 => Arc::new(values.iter().map(Value::as_i64).collect::<Int64Array>()),
        Kind::Boolean => Arc::new(values.iter().map(Value::as_bool).collect::<BooleanArray>()),
        other => panic!("no case has columns of kind {other}"),
    }
}
