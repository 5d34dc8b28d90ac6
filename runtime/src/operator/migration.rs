//! State of one version of a component, turned into that of another: rows of a snapshot in, rows of a snapshot out. A step
//! changes versions by taking up a snapshot of itself that has gone through here.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{DataType, Field as ArrowField, FieldRef, Schema as ArrowSchema, TimeUnit};
use arrow_select::interleave::interleave_record_batch;
use arrow_select::take::take_record_batch;

use crate::limits::BATCH_ROWS;
use crate::record::Schema;
use crate::state::Snapshot;
use crate::wasm::{CallError, Guest, StateSchema};

/// The column of windows and keys that says how many rows an accumulator has.
const ROWS: &str = "rows";

/// Of a key's cell in a message.
const CELL_CHARS: usize = 64;

/// Where the state of a component is in its step's snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptColumns {
    /// in which table
    pub table: &'static str,
    /// before the names of its columns
    pub prefix: String,
}

/// State that cannot be migrated; it stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// the component cannot do it, or does it wrong
    #[error("state of version {from} does not migrate{}: {reason}", key.as_ref().map(|key| format!(", of the key {key}")).unwrap_or_default())]
    Guest {
        /// which version
        from: u32,
        /// the first key at fault, where one can be found
        key: Option<String>,
        /// why
        reason: String,
    },
    /// it is not what the version is said to leave
    #[error("there is no state of version {from}: {reason}")]
    Columns {
        /// which version
        from: u32,
        /// what was expected
        reason: String,
    },
}

/// Rows to migrate at one place of a step's snapshot.
#[derive(Debug)]
pub struct Migration {
    /// which component of the step
    pub slot: usize,
    /// where
    pub kept: KeptColumns,
    /// what is there
    pub from: StateSchema,
    /// who knows what becomes of it
    pub guest: Guest,
}

impl Migration {
    /// Turns the rows of `snapshot` into what the guest's version keeps. On an error nothing has changed but `snapshot`.
    pub fn run(&mut self, mut snapshot: Snapshot) -> Result<Snapshot, MigrationError> {
        let Some(table) = snapshot.tables.iter_mut().find(|table| table.name == self.kept.table) else {
            return Ok(snapshot);
        };
        let keys = table.keys.unwrap_or(0);
        let mut migrated = Vec::with_capacity(table.rows.len());
        for batch in &table.rows {
            for start in (0..batch.num_rows()).step_by(BATCH_ROWS) {
                let rows = batch.slice(start, BATCH_ROWS.min(batch.num_rows() - start));
                migrated.push(self.batch(&rows, keys)?);
            }
        }
        table.rows = migrated;
        Ok(snapshot)
    }

    /// How many rows it has to see in `snapshot`.
    pub fn rows_in(&self, snapshot: &Snapshot) -> u64 {
        snapshot.rows(self.kept.table).iter().map(|rows| rows.num_rows() as u64).sum()
    }

    /// What accumulators become that come behind the keys of `rows`.
    pub(super) fn accumulators(&mut self, rows: &RecordBatch) -> Result<RecordBatch, MigrationError> {
        let keys = rows.num_columns().saturating_sub(self.from.fields.fields().len());
        let migrated = self.batch(rows, keys)?;
        let new: Vec<usize> = (keys..migrated.num_columns()).collect();
        migrated.project(&new).map_err(|error| self.columns(error.to_string()))
    }

    /// Rows whose first `keys` columns are those of their key.
    pub(super) fn batch(&mut self, rows: &RecordBatch, keys: usize) -> Result<RecordBatch, MigrationError> {
        let (at, schema) = (self.places(&rows.schema())?, self.schema(&rows.schema(), keys)?);
        let columns: Vec<ArrayRef> = at.iter().filter_map(|at| rows.columns().get(*at).cloned()).collect();
        let old = batch_of(&self.from.fields, columns, rows.num_rows()).map_err(|reason| self.columns(reason))?;
        let new = match with_rows(rows, keys) {
            None => self.migrate(&old, rows, keys)?,
            Some(some) => self.migrate_some(&old, rows, keys, &some)?,
        };
        let columns = in_place(rows.columns(), &at, keys, new.columns());
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)
            .map_err(|error| self.columns(error.to_string()))
    }

    fn migrate(&mut self, old: &RecordBatch, rows: &RecordBatch, keys: usize) -> Result<RecordBatch, MigrationError> {
        self.guest.migrate(&self.from, old).map_err(|error| self.at_fault(&error, old, rows, keys))
    }

    /// Migrates `some` of the rows. What the others hold means nothing: they get what is new, and the guest does not see them.
    fn migrate_some(
        &mut self,
        old: &RecordBatch,
        rows: &RecordBatch,
        keys: usize,
        some: &UInt32Array,
    ) -> Result<RecordBatch, MigrationError> {
        let of_guest = |error: CallError, from| MigrationError::Guest { from, key: None, reason: error.to_string() };
        let from = self.from.version;
        let new = self.guest.create().map_err(|error| of_guest(error, from))?;
        let take = |rows: &RecordBatch| take_record_batch(rows, some).map_err(|error| self.columns(error.to_string()));
        let (old, meant) = (take(old)?, take(rows)?);
        let migrated = if some.is_empty() { new.slice(0, 0) } else { self.migrate(&old, &meant, keys)? };
        let mut places = vec![(0, 0); rows.num_rows()];
        for (at, row) in some.values().iter().enumerate() {
            places.get_mut(*row as usize).into_iter().for_each(|place| *place = (1, at));
        }
        interleave_record_batch(&[&new, &migrated], &places).map_err(|error| self.columns(error.to_string()))
    }

    /// Columns of rows that are migrated: the new ones where the first of the old ones was, or behind the keys.
    pub(super) fn schema(&self, rows: &ArrowSchema, keys: usize) -> Result<ArrowSchema, MigrationError> {
        let state = self.guest.signature().state.as_ref().map(|state| state.fields.arrow().fields());
        let new: Vec<FieldRef> = state.into_iter().flatten().map(|field| self.named(field)).collect();
        Ok(ArrowSchema::new(in_place(rows.fields(), &self.places(rows)?, keys, &new)))
    }

    /// Positions of the old columns, in the order of their fields.
    fn places(&self, schema: &ArrowSchema) -> Result<Vec<usize>, MigrationError> {
        let place = |field: &crate::record::Field| {
            let name = format!("{}{}", self.kept.prefix, field.name);
            let found = schema.index_of(&name).ok();
            let found = found.filter(|at| schema.field(*at).data_type() == &field.kind.data_type());
            found.ok_or_else(|| self.columns(format!("expected a column `{name}` of {}", field.kind)))
        };
        self.from.fields.fields().iter().map(place).collect()
    }

    fn named(&self, field: &ArrowField) -> FieldRef {
        Arc::new(field.clone().with_name(format!("{}{}", self.kept.prefix, field.name())))
    }

    fn columns(&self, reason: String) -> MigrationError {
        MigrationError::Columns { from: self.from.version, reason }
    }

    /// Looks for the first row at fault: people know their data by its keys.
    fn at_fault(&mut self, error: &CallError, old: &RecordBatch, rows: &RecordBatch, keys: usize) -> MigrationError {
        let row = match error {
            CallError::Rows(failures) => failures.first().map(|failure| failure.row as usize),
            CallError::Deadline { .. } | CallError::Memory { .. } => None,
            _ => self.first_that_fails(old),
        };
        let reason = match (error, row) {
            (CallError::Rows(failures), _) => {
                failures.first().map(|failure| failure.reason.clone()).unwrap_or_default()
            }
            _ => error.to_string(),
        };
        let key = row.map(|row| shown(rows, keys, row)).filter(|key| !key.is_empty());
        MigrationError::Guest { from: self.from.version, key, reason }
    }

    /// By halving: calls are pure, so one of the halves fails again, unless only all rows together do.
    fn first_that_fails(&mut self, old: &RecordBatch) -> Option<usize> {
        let (mut from, mut until) = (0, old.num_rows());
        while until - from > 1 {
            let middle = from + (until - from) / 2;
            if self.guest.migrate(&self.from, &old.slice(from, middle - from)).is_err() {
                until = middle;
            } else {
                from = middle;
            }
        }
        let fails = until > from && self.guest.migrate(&self.from, &old.slice(from, 1)).is_err();
        fails.then_some(from)
    }
}

fn batch_of(schema: &Schema, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, String> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), columns, &options).map_err(|error| error.to_string())
}

/// Which of these have an accumulator that means something; none where all have.
fn with_rows(rows: &RecordBatch, keys: usize) -> Option<UInt32Array> {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).skip(keys);
    let (_, counts) = columns.into_iter().find(|(field, _)| field.name() == ROWS)?;
    let counts = counts.as_primitive_opt::<Int64Type>()?.values();
    let some = (0..).zip(counts.iter()).filter_map(|(row, rows)| (*rows > 0).then_some(row));
    counts.iter().any(|rows| *rows <= 0).then(|| some.collect())
}

/// Columns with `new` ones in place of those `at` these places, which may be none.
fn in_place<T: Clone>(columns: &[T], at: &[usize], keys: usize, new: &[T]) -> Vec<T> {
    let first = at.iter().min().copied().unwrap_or(keys);
    let mut all = Vec::with_capacity(columns.len() + new.len());
    for place in 0..=columns.len() {
        if place == first {
            all.extend_from_slice(new);
        }
        all.extend(columns.get(place).filter(|_| !at.contains(&place)).cloned());
    }
    all
}

/// `user = ann, device = 7`.
fn shown(rows: &RecordBatch, keys: usize, row: usize) -> String {
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).take(keys);
    let cell = |(field, column): (&FieldRef, &ArrayRef)| format!("{} = {}", field.name(), cell_text(column, row));
    columns.map(cell).collect::<Vec<_>>().join(", ")
}

/// A cell for people; long ones are cut.
fn cell_text(column: &ArrayRef, row: usize) -> String {
    if row >= column.len() || column.is_null(row) {
        return "null".to_owned();
    }
    let text = match column.data_type() {
        DataType::Boolean => column.as_boolean().value(row).to_string(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Float64 => column.as_primitive::<Float64Type>().value(row).to_string(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            format!("{} ms", column.as_primitive::<TimestampMillisecondType>().value(row))
        }
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Binary => column.as_binary::<i32>().value(row).escape_ascii().to_string(),
        other => format!("a {other}"),
    };
    text.chars().take(CELL_CHARS).collect()
}
