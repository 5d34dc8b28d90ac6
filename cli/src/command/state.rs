//! `millstream state ..`: what steps remember at a checkpoint, read without the guests that made it.

mod get;

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Decimal128Type, Int32Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, Schema as ArrowSchema};
use clap::{Args, Subcommand};
use millstream::checkpoint::Loaded;
use millstream::format::{Encoder, Format, Frames};
use millstream::record::{Field, Kind, Schema};
use millstream::state::Table;

use super::checkpoint::One;
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::figures;

/// Look at the state of a pipeline's steps.
#[derive(Debug, Args)]
pub(crate) struct State {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the tables of all steps
    Ls(One),
    /// Write the rows of a step's state, a JSON object a line
    Export(Export),
    /// Write what a step remembers of one key, a JSON object a line
    Get(get::Get),
}

#[derive(Debug, Args)]
struct Export {
    /// The step
    #[arg(long)]
    step: String,
    /// Only this table of it
    #[arg(long)]
    table: Option<String>,
    #[command(flatten)]
    one: One,
}

impl State {
    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Ls(one) => list(&super::runtime()?.block_on(one.load())?),
            Action::Export(export) => export.run(),
            Action::Get(get) => get.run(),
        }
        .map(|()| Exit::Done)
    }
}

fn list(loaded: &Loaded) -> Result<(), Failure> {
    for ((step, subtask), state) in &loaded.states {
        for table in &state.tables {
            let rows: usize = table.rows.iter().map(|batch| batch.num_rows()).sum();
            let fields = table.rows.first().map(|batch| batch.schema());
            let names = fields.iter().flat_map(|schema| schema.fields()).map(|field| field.name().as_str());
            let (names, rows) = (names.collect::<Vec<_>>().join(", "), figures::count(rows as u64));
            console::result(format!("{step}  task {subtask}  {}  {rows} rows  {names}", table.name));
        }
    }
    Ok(())
}

/// All tables of a step.
fn tables<'a>(loaded: &'a Loaded, step: &str) -> Result<Vec<&'a Table>, Failure> {
    let tables = loaded.states.iter().filter(|((of, _), _)| of == step);
    let tables: Vec<&Table> = tables.flat_map(|(_, state)| &state.tables).collect();
    if tables.is_empty() {
        let known: std::collections::BTreeSet<&str> = loaded.states.keys().map(|(step, _)| step.as_str()).collect();
        let known = if known.is_empty() { "no step has".to_owned() } else { Vec::from_iter(known).join(", ") };
        return Err(Failure::Usage(format!("step `{step}` has no state; state is of: {known}")));
    }
    Ok(tables)
}

impl Export {
    fn run(self) -> Result<(), Failure> {
        let loaded = super::runtime()?.block_on(self.one.load())?;
        let tables = tables(&loaded, &self.step)?;
        for table in tables.into_iter().filter(|table| self.table.as_ref().is_none_or(|name| *name == table.name)) {
            for batch in &table.rows {
                json_rows(&table.name, batch)?;
            }
        }
        Ok(())
    }
}

/// As columns that JSON has: sums of integers are wider than any kind of column and are shown as text, the host's own
/// numbers as integers.
fn shown(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let column = shown_column(column);
        fields.push(Arc::new(field.as_ref().clone().with_data_type(column.data_type().clone())));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options)
}

fn shown_column(column: &ArrayRef) -> ArrayRef {
    if let Some(sums) = column.as_primitive_opt::<Decimal128Type>() {
        let texts: StringArray = sums.iter().map(|sum| sum.map(|sum| sum.to_string())).collect();
        return Arc::new(texts);
    }
    if let Some(numbers) = column.as_primitive_opt::<UInt64Type>() {
        let texts: StringArray = numbers.iter().map(|number| number.map(|number| number.to_string())).collect();
        return Arc::new(texts);
    }
    let narrow = integers::<UInt8Type>(column).or_else(|| integers::<UInt32Type>(column));
    narrow.or_else(|| integers::<Int32Type>(column)).unwrap_or_else(|| Arc::clone(column))
}

fn integers<T: ArrowPrimitiveType<Native: Into<i64>>>(column: &ArrayRef) -> Option<ArrayRef> {
    let numbers = column.as_primitive_opt::<T>()?;
    Some(Arc::new(Int64Array::from_iter(numbers.iter().map(|number| number.map(Into::into)))))
}

/// Writes rows of the state `table` as JSON objects, one a line.
fn json_rows(table: &str, batch: &RecordBatch) -> Result<(), Failure> {
    let failed = |reason: String| Failure::Usage(format!("the state `{table}` cannot be written as JSON: {reason}"));
    as_json(batch).map_err(failed)?.into_iter().for_each(console::result);
    Ok(())
}

/// Each row as a JSON object.
pub(super) fn as_json(batch: &RecordBatch) -> Result<Vec<String>, String> {
    let batch = &shown(batch).map_err(|error| error.to_string())?;
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|field| {
        let kind = Kind::from_data_type(field.data_type())?;
        Some(Field { name: field.name().clone(), kind, nullable: field.is_nullable() })
    });
    let fields: Option<Vec<Field>> = fields.collect();
    let fields = fields.ok_or_else(|| "a column is of a type of the host's own".to_owned())?;
    let mut encoder = Encoder::new(Format::Json, &Schema::new(fields)).map_err(|error| error.to_string())?;
    let mut frames = Frames::default();
    encoder.encode(batch, &mut frames).map_err(|error| error.to_string())?;
    Ok((0..frames.len()).map(|row| String::from_utf8_lossy(frames.get(row)).into_owned()).collect())
}
