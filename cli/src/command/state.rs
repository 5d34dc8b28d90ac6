//! `millstream state ..`: what steps remember at a checkpoint, read without the guests that made it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Schema as ArrowSchema};
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
            Action::Ls(one) => list(&one.load()?),
            Action::Export(export) => export.run(),
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

impl Export {
    fn run(self) -> Result<(), Failure> {
        let loaded = self.one.load()?;
        let tables = loaded.states.iter().filter(|((step, _), _)| *step == self.step);
        let tables: Vec<&Table> = tables.flat_map(|(_, state)| &state.tables).collect();
        if tables.is_empty() {
            let known: std::collections::BTreeSet<&str> = loaded.states.keys().map(|(step, _)| step.as_str()).collect();
            let known = if known.is_empty() { "no step has".to_owned() } else { Vec::from_iter(known).join(", ") };
            return Err(Failure::Usage(format!("step `{}` has no state; state is of: {known}", self.step)));
        }
        for table in tables.into_iter().filter(|table| self.table.as_ref().is_none_or(|name| *name == table.name)) {
            rows(table)?;
        }
        Ok(())
    }
}

/// Sums of integers are wider than any kind of column: they are shown as text.
fn shown(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        match column.as_primitive_opt::<Decimal128Type>() {
            Some(sums) => {
                let texts: StringArray = sums.iter().map(|sum| sum.map(|sum| sum.to_string())).collect();
                fields.push(Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8)));
                columns.push(Arc::new(texts) as ArrayRef);
            }
            None => {
                fields.push(Arc::clone(field));
                columns.push(Arc::clone(column));
            }
        }
    }
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns)
}

fn rows(table: &Table) -> Result<(), Failure> {
    let failed =
        |reason: String| Failure::Usage(format!("the state `{}` cannot be written as JSON: {reason}", table.name));
    for batch in &table.rows {
        let batch = &shown(batch).map_err(|error| failed(error.to_string()))?;
        let fields: Option<Vec<Field>> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| {
                let kind = Kind::from_data_type(field.data_type())?;
                Some(Field { name: field.name().clone(), kind, nullable: field.is_nullable() })
            })
            .collect();
        let fields = fields.ok_or_else(|| failed("a column is of a type of the host's own".to_owned()))?;
        let mut encoder =
            Encoder::new(Format::Json, &Schema::new(fields)).map_err(|error| failed(error.to_string()))?;
        let mut frames = Frames::default();
        encoder.encode(batch, &mut frames).map_err(|error| failed(error.to_string()))?;
        for row in 0..frames.len() {
            console::result(String::from_utf8_lossy(frames.get(row)).into_owned());
        }
    }
    Ok(())
}
