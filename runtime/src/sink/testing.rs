//! What tests of sinks share.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};

use super::SinkContext;
use crate::format::Format;
use crate::record::{Batch, Field, Kind, NO_EVENT_TIME, Schema};

/// A sink `out` of the format (by name), one text column.
pub(super) fn context(format: &str) -> SinkContext {
    let format = match format {
        "text" => Format::Text,
        "json" => Format::Json,
        other => panic!("no format {other}"),
    };
    let schema = Schema::new([Field::new("value", Kind::Text)]);
    SinkContext { name: "out".into(), format, schema, base: PathBuf::new(), subtask: 0, parallelism: 1, epochs: None }
}

/// Rows of one text column.
pub(super) fn text_batch(values: &[&str]) -> Batch {
    let schema = context("text").schema;
    let columns = RecordBatch::try_new(schema.arrow().clone(), vec![Arc::new(StringArray::from(values.to_vec()))]);
    Batch::new(columns.unwrap(), vec![NO_EVENT_TIME; values.len()].into()).unwrap()
}
