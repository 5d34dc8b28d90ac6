//! `millstream state get ..`: what a step remembers of one key.

use std::path::PathBuf;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use clap::Args;
use millstream::checkpoint::Loaded;
use millstream::state::Table;

use crate::command::checkpoint;
use crate::console;
use crate::failure::Failure;

/// A step, and one of its keys.
#[derive(Debug, Args)]
pub(super) struct Get {
    /// The pipeline file
    pipeline: PathBuf,
    /// The step
    step: String,
    /// Key columns and their values, as `auction=7`; times in ms since 1970
    #[arg(required = true, value_name = "COLUMN=VALUE")]
    key: Vec<String>,
    /// A checkpoint's epoch or a savepoint's name; the newest checkpoint if not given
    #[arg(long)]
    checkpoint: Option<String>,
    /// Failures as JSON too; rows always are
    #[arg(long)]
    pub(super) json: bool,
}

impl Get {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = checkpoint::load(&self.pipeline, self.checkpoint.as_deref());
        let (_, loaded) = crate::command::runtime()?.block_on(loaded)?;
        let mut wanted = Vec::new();
        for pair in &self.key {
            let Some((column, value)) = pair.split_once('=') else {
                return Err(Failure::Usage(format!(
                    "expected a key column and its value, as `auction=7`, got `{pair}`"
                )));
            };
            wanted.push((column, value));
        }
        let tables = keyed_tables(&loaded, &self.step)?;
        let mut found = false;
        for table in tables {
            for batch in rows_of(table, &wanted, &self.step)? {
                found = true;
                super::json_rows(&table.name, &batch)?;
            }
        }
        if !found && !self.json {
            console::say(format!("step `{}` remembers nothing of {}", self.step, self.key.join(", ")));
        }
        Ok(())
    }
}

/// The step's tables whose rows have keys.
fn keyed_tables<'a>(loaded: &'a Loaded, step: &str) -> Result<Vec<&'a Table>, Failure> {
    let tables = super::tables(loaded, step)?;
    let keyed: Vec<&Table> = tables.into_iter().filter(|table| table.keys.is_some_and(|keys| keys > 0)).collect();
    if keyed.is_empty() {
        return Err(Failure::Usage(format!("step `{step}` remembers nothing by key; `state export` writes all of it")));
    }
    Ok(keyed)
}

/// The rows of the table with the key.
fn rows_of(table: &Table, wanted: &[(&str, &str)], step: &str) -> Result<Vec<RecordBatch>, Failure> {
    let mut found = Vec::new();
    for batch in table.rows.iter().filter(|batch| batch.num_rows() > 0) {
        let schema = batch.schema();
        let keys: Vec<&str> =
            schema.fields().iter().take(table.keys.unwrap_or(0)).map(|field| field.name().as_str()).collect();
        let mut columns = Vec::with_capacity(keys.len());
        for (column, value) in wanted {
            let Some(at) = keys.iter().position(|key| key == column) else {
                let known = keys.join(", ");
                return Err(Failure::Usage(format!(
                    "`{column}` is no key column of step `{step}`; its key is: {known}"
                )));
            };
            columns.push((batch.column(at), *value));
        }
        if let Some(missing) = keys.iter().find(|key| !wanted.iter().any(|(column, _)| column == *key)) {
            return Err(Failure::Usage(format!("the key of step `{step}` is more: add `{missing}=..`")));
        }
        for row in 0..batch.num_rows() {
            if columns.iter().all(|(column, value)| is(column, row, value)) {
                found.push(batch.slice(row, 1));
            }
        }
    }
    Ok(found)
}

/// Whether a cell is what was written on the command line.
fn is(column: &ArrayRef, row: usize, value: &str) -> bool {
    if column.is_null(row) {
        return value == "null";
    }
    match column.data_type() {
        DataType::Int64 => value.parse() == Ok(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => value.parse() == Ok(column.as_primitive::<Float64Type>().value(row)),
        DataType::Timestamp(..) => value.parse() == Ok(column.as_primitive::<TimestampMillisecondType>().value(row)),
        DataType::Boolean => value.parse() == Ok(column.as_boolean().value(row)),
        DataType::Utf8 => column.as_string::<i32>().value(row) == value,
        DataType::Binary => column.as_binary::<i32>().value(row) == value.as_bytes(),
        _ => false,
    }
}
