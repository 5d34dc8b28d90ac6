//! Rows of open windows put away and taken up again.
//!
//! One table `rows`: the key columns (and the bounds, where they are columns of the input), `window_start` and `window_end`
//! where the step assigns them, then the other columns of the input. Of a window that has spilled it may hold rows that will not come
//! out: each run has been cut by itself.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMillisecondArray};
use arrow_schema::{Field as ArrowField, SchemaRef};

use super::{ByWindow, Kept, Top, TopSpec, TopWindows, best, joined, taken};
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::internal;
use crate::operator::saved_table::SavedTable;
use crate::operator::window_aggregate::times;
use crate::record::{Field, Kind, Watermark};
use crate::state::{Later, Snapshot, StateError};

impl super::TopSpec {
    /// Columns by which rows are spread over tasks.
    pub fn partition_keys(&self) -> Vec<usize> {
        partition_keys(&self.keys, self.windows)
    }

    /// Input columns in the order of the table: keys first.
    fn saved_order(&self) -> Vec<usize> {
        let keys = self.partition_keys();
        let others = (0..self.input.fields().len()).filter(|column| !keys.contains(column));
        keys.iter().copied().chain(others).collect()
    }
}

/// Columns by which the rows of a top-N step are spread over tasks: its keys, and the bounds of windows that the rows have.
pub fn partition_keys(keys: &[usize], windows: TopWindows) -> Vec<usize> {
    let mut partition = keys.to_vec();
    if let TopWindows::Columns { start, end } = windows {
        partition.extend([start, end].iter().filter(|bound| !keys.contains(bound)));
    }
    partition
}

impl Top {
    fn saved_table(&self) -> SavedTable {
        let keys = self.spec.partition_keys().len();
        let fields: Vec<Field> = self
            .spec
            .saved_order()
            .iter()
            .filter_map(|column| self.spec.input.fields().get(*column).cloned())
            .collect();
        let (keys, others) = fields.split_at_checked(keys).unwrap_or_default();
        let time = Kind::TimestampMs.data_type();
        let bounds = ["window_start", "window_end"].map(|name| ArrowField::new(name, time.clone(), false));
        let bounds = bounds.into_iter().filter(|_| self.windows.is_some());
        let others = others.iter().map(|field| ArrowField::new(&field.name, field.kind.data_type(), field.nullable));
        SavedTable::new("rows", keys, bounds.chain(others))
    }

    /// What is held as of now: rows are shared, and those that cannot come out any more are left out when it is written.
    pub(super) fn save(&self) -> Snapshot {
        let (table, spec) = (self.saved_table(), Arc::new(self.spec.clone()));
        let assigned = self.windows.is_some();
        let later = |((end, start), kept): (&(i64, i64), &Kept)| {
            let (batches, spec, schema) = (kept.batches.clone(), Arc::clone(&spec), table.schema().clone());
            let (number, bounds) = (kept.number, assigned.then_some([*start, *end]));
            let rows = move || saved(&spec, &schema, &batches, bounds).map_err(|error| elsewhere(&error));
            Later::new(move || u128::from(number), rows)
        };
        let in_memory = self.kept.iter().filter(|(_, kept)| kept.rows > 0).map(later);
        let mut rows: Vec<Later> = in_memory.collect();
        if let Some(spilled) = self.spilled.as_ref().and_then(|spilled| spilled.freeze()) {
            let (spec, schema) = (Arc::clone(&spec), table.schema().clone());
            rows.extend(spilled.later(0, move |(start, end), columns| {
                let batches = [RecordBatch::try_new(spec.input.arrow().clone(), columns)?];
                saved(&spec, &schema, &batches, assigned.then_some([start, end])).map_err(|error| elsewhere(&error))
            }));
        }
        Snapshot::default().with("rows", Some(table.keys()), Vec::new()).with_later(rows)
    }

    pub(super) fn load(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.watermark = self.watermark.max(watermark);
        let table = self.saved_table();
        for batch in table.rows(state)? {
            let mut columns = batch.columns().to_vec();
            let (start, end) = match self.spec.windows {
                TopWindows::Columns { start, end } => {
                    let order = self.spec.saved_order();
                    let column = |of| order.iter().position(|column| *column == of).and_then(|at| columns.get(at));
                    (times(column(start))?, times(column(end))?)
                }
                TopWindows::Assigned(_) => {
                    let bounds: Vec<ArrayRef> = columns.drain(table.keys()..table.keys() + 2).collect();
                    (times(bounds.first())?, times(bounds.get(1))?)
                }
            };
            let mut by_window = ByWindow::new();
            for ((row, start), end) in (0u32..).zip(start).zip(end) {
                by_window.entry((end, start)).or_default().push(row);
            }
            let rows = self.as_input(columns, batch.num_rows())?;
            for (window, which) in by_window {
                self.keep(window, taken(&rows, which)?)?;
            }
            self.spill_if_over(batch.num_rows())?;
        }
        Ok(())
    }

    /// Columns of the table in the order of the input.
    fn as_input(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, OperatorError> {
        let mut placed: Vec<(usize, ArrayRef)> = self.spec.saved_order().into_iter().zip(columns).collect();
        placed.sort_unstable_by_key(|(place, _)| *place);
        let columns = placed.into_iter().map(|(_, column)| column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.spec.input.arrow().clone(), columns, &options);
        batch.map_err(|error| internal(&StateError::Arrow(error)))
    }
}

fn elsewhere(error: &OperatorError) -> StateError {
    StateError::Elsewhere { reason: error.to_string() }
}

/// Rows of one window as the table has them.
fn saved(
    spec: &TopSpec,
    schema: &SchemaRef,
    batches: &[RecordBatch],
    bounds: Option<[i64; 2]>,
) -> Result<RecordBatch, OperatorError> {
    let rows = joined(&spec.input, batches)?;
    let (best, _) = best(spec, &rows)?;
    let rows = taken(&rows, best)?;
    let order = spec.saved_order();
    let mut columns: Vec<ArrayRef> = order.iter().filter_map(|column| rows.columns().get(*column).cloned()).collect();
    if let Some(bounds) = bounds {
        let others = columns.split_off(spec.partition_keys().len().min(columns.len()));
        for bound in bounds {
            columns.push(Arc::new(TimestampMillisecondArray::from_value(bound, rows.num_rows())));
        }
        columns.extend(others);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(schema.clone(), columns, &options);
    rows.map_err(|error| internal(&StateError::Arrow(error)))
}
