//! `millstream state ..`: what steps remember at a checkpoint, read without the guests that made it.

mod get;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Decimal128Type, Int32Type, UInt8Type, UInt32Type, UInt64Type};
use arrow_array::{ArrayRef, Int64Array, ListArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{ArrowError, DataType, Field as ArrowField, Schema as ArrowSchema};
use clap::{Args, Subcommand};
use millstream::checkpoint::Loaded;
use millstream::format::{Encoder, Format, Frames};
use millstream::record::{Field, Kind, Schema};
use millstream::state::Table;
use serde::Serialize;

use super::checkpoint::One;
use crate::console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{figures, report};

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
    /// Whether a machine reads the output, and what is said of failures.
    pub(crate) fn json(&self) -> bool {
        match &self.action {
            Action::Ls(one) => one.json,
            Action::Export(export) => export.one.json,
            Action::Get(get) => get.json,
        }
    }

    pub(crate) fn run(self) -> Result<Exit, Failure> {
        match self.action {
            Action::Ls(one) => list(&super::runtime()?.block_on(one.load())?, one.json),
            Action::Export(export) => export.run(),
            Action::Get(get) => get.run(),
        }
        .map(|()| Exit::Done)
    }
}

/// A table, for machines.
#[derive(Debug, Serialize)]
struct TableLine<'a> {
    step: &'a str,
    task: usize,
    table: &'a str,
    rows: usize,
    /// the first of them are the key
    columns: Vec<&'a str>,
    key_columns: Option<usize>,
}

fn list(loaded: &Loaded, json: bool) -> Result<(), Failure> {
    if loaded.states.is_empty() && !json {
        console::say(format!("no step has state in checkpoint {}", loaded.manifest.epoch));
    }
    for ((step, subtask), state) in &loaded.states {
        for table in &state.tables {
            let rows: usize = table.rows.iter().map(|batch| batch.num_rows()).sum();
            let fields = table.rows.first().map(|batch| batch.schema());
            let names = fields.iter().flat_map(|schema| schema.fields()).map(|field| field.name().as_str());
            let (task, name, columns) = (*subtask, table.name.as_str(), names.collect::<Vec<_>>());
            if json {
                let line = TableLine { step, task, table: name, rows, columns, key_columns: table.keys };
                console::result(report::json_line(&line));
                continue;
            }
            let (rows, columns) = (figures::count(rows as u64), columns.join(", "));
            console::result(format!("{step}  task {task}  {name}  {rows} rows  {columns}"));
        }
    }
    Ok(())
}

/// All tables of a step.
fn tables<'a>(loaded: &'a Loaded, step: &str) -> Result<Vec<&'a Table>, Failure> {
    let tables = loaded.states.iter().filter(|((of, _), _)| of == step);
    let tables: Vec<&Table> = tables.flat_map(|(_, state)| &state.tables).collect();
    if tables.is_empty() {
        let known: BTreeSet<&str> = loaded.states.keys().map(|(step, _)| step.as_str()).collect();
        let known = if known.is_empty() { "no step has".to_owned() } else { Vec::from_iter(known).join(", ") };
        return Err(Failure::Usage(format!("step `{step}` has no state; state is of: {known}")));
    }
    Ok(tables)
}

impl Export {
    fn run(self) -> Result<(), Failure> {
        let loaded = super::runtime()?.block_on(self.one.load())?;
        let mut tables = tables(&loaded, &self.step)?;
        if let Some(wanted) = &self.table {
            let known: BTreeSet<&str> = tables.iter().map(|table| table.name.as_str()).collect();
            let known = Vec::from_iter(known).join(", ");
            tables.retain(|table| table.name == *wanted);
            if tables.is_empty() {
                let step = &self.step;
                return Err(Failure::Usage(format!("step `{step}` has no table `{wanted}`; it has: {known}")));
            }
        }
        for table in tables {
            for batch in &table.rows {
                json_rows(&table.name, batch)?;
            }
        }
        Ok(())
    }
}

/// As columns that JSON has: sums of integers are wider than any kind of column and are shown as text, as lists are, the host's
/// own numbers as integers.
fn shown(batch: &RecordBatch) -> Result<RecordBatch, String> {
    let (mut fields, mut columns): (Vec<Arc<ArrowField>>, _) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let column = match column.as_list_opt::<i32>() {
            Some(lists) => Arc::new(texts_of(lists)?),
            None => shown_column(column),
        };
        // rows of a join have their key a second time, among their own columns
        let mut name = field.name().clone();
        while fields.iter().any(|before| *before.name() == name) {
            name.insert(0, '_');
        }
        let field = field.as_ref().clone().with_name(name).with_data_type(column.data_type().clone());
        fields.push(Arc::new(field));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let shown = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options);
    shown.map_err(|error| error.to_string())
}

/// Lists as JSON arrays.
fn texts_of(lists: &ListArray) -> Result<StringArray, String> {
    const VALUE: &str = "v";
    let text = |list: ArrayRef| {
        let rows =
            RecordBatch::try_from_iter_with_nullable([(VALUE, list, true)]).map_err(|error| error.to_string())?;
        let objects = as_json(&rows)?;
        let values = objects.iter().filter_map(|object| object.strip_prefix("{\"v\":")?.strip_suffix('}'));
        Ok(format!("[{}]", values.collect::<Vec<_>>().join(",")))
    };
    lists.iter().map(|list| list.map(text).transpose()).collect()
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

/// Writes rows of the state `table` as JSON objects, one a line, which say which table they are of.
fn json_rows(table: &str, batch: &RecordBatch) -> Result<(), Failure> {
    let failed = |reason: String| Failure::Usage(format!("the state `{table}` cannot be written as JSON: {reason}"));
    let named = named(table, batch).map_err(|error| failed(error.to_string()))?;
    as_json(&named).map_err(failed)?.into_iter().for_each(console::result);
    Ok(())
}

/// The rows with the table's name in a column before them.
fn named(table: &str, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    // the step may have a column of this name
    let mut column = "table".to_owned();
    while schema.column_with_name(&column).is_some() {
        column.insert(0, '_');
    }
    let mut fields = vec![Arc::new(ArrowField::new(column, DataType::Utf8, false))];
    fields.extend(schema.fields().iter().cloned());
    let names = StringArray::from_iter_values((0..batch.num_rows()).map(|_| table));
    let mut columns = vec![Arc::new(names) as ArrayRef];
    columns.extend(batch.columns().iter().cloned());
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
}

/// Each row as a JSON object.
pub(super) fn as_json(batch: &RecordBatch) -> Result<Vec<String>, String> {
    let batch = &shown(batch)?;
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
