//! Accumulators of one slice as Arrow columns, and back: the number of rows, why the result has failed already, then the
//! columns of each aggregate.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field as ArrowField};

use super::{Aggregate, SliceState, State};
use crate::operator::OperatorError;
use crate::operator::aggregate_built_in::{BuiltIn, save_counts};
use crate::operator::aggregate_fold::internal;
use crate::record::{Field, Kind};
use crate::state::{Chunked, StateError, words};

impl Aggregate {
    /// The columns that its accumulators are saved in.
    fn saved_fields(&self) -> Vec<ArrowField> {
        match self {
            Self::BuiltIn(built_in) => built_in.saved_fields(),
            Self::Fold(fold) => {
                // output names are unique in the step, and so is that of the first
                let name = fold.output().fields().first().map_or("", |field| field.name.as_str());
                let columns = fold.state().arrow().fields().iter();
                columns.map(|field| field.as_ref().clone().with_name(format!("{name}.{}", field.name()))).collect()
            }
        }
    }
}

/// The columns of [`SliceState::save`].
pub(in crate::operator) fn saved_fields(aggregates: &[Aggregate]) -> Vec<ArrowField> {
    let mut fields =
        vec![ArrowField::new("rows", DataType::Int64, false), ArrowField::new("failed", DataType::Utf8, true)];
    fields.extend(aggregates.iter().flat_map(Aggregate::saved_fields));
    fields
}

impl SliceState {
    /// Accumulators of `slots`, which have rows.
    pub(in crate::operator) fn save(
        &self,
        aggregates: &[Aggregate],
        slots: &[u32],
    ) -> Result<Vec<ArrayRef>, OperatorError> {
        self.save_by(aggregates.iter().map(Aggregate::built_in), slots).map_err(|error| internal(&error))
    }

    /// As [`SliceState::save`]; of a component nothing but its accumulators is needed.
    pub(in crate::operator) fn save_by<'a>(
        &self,
        aggregates: impl Iterator<Item = Option<&'a BuiltIn>>,
        slots: &[u32],
    ) -> Result<Vec<ArrayRef>, StateError> {
        let failed = match self.failed.is_empty() {
            true => StringArray::new_null(slots.len()),
            false => slots.iter().map(|slot| self.failed.get(slot)).collect(),
        };
        let mut columns = vec![save_counts(&self.rows, slots), Arc::new(failed) as ArrayRef];
        for (aggregate, state) in aggregates.zip(&self.states) {
            match (aggregate, state) {
                (Some(built_in), State::BuiltIn(accumulators)) => columns.extend(built_in.save(accumulators, slots)?),
                (None, State::Fold(accumulators)) => {
                    columns.extend_from_slice(accumulators.gather(slots)?.columns());
                }
                // the batch that is made of it will not have the columns of its table
                _ => {}
            }
        }
        Ok(columns)
    }

    /// What [`SliceState::save`] gave; `columns` are of [`saved_fields`]. Slots are empty: one with rows already is an
    /// error, as is one that comes twice.
    pub(in crate::operator) fn load(
        &mut self,
        aggregates: &[Aggregate],
        slots: &[u32],
        columns: &[ArrayRef],
    ) -> Result<(), OperatorError> {
        let [rows, failed, columns @ ..] = columns else { return Ok(()) };
        let mut columns = columns;
        self.load_rows(slots, rows)?;
        self.swept.iter_mut().for_each(|swept| swept.touch(slots));
        let failed = slots.iter().zip(failed.as_string_opt::<i32>().into_iter().flatten());
        self.failed.extend(failed.filter_map(|(slot, reason)| Some((*slot, reason?.to_owned()))));
        for (aggregate, state) in aggregates.iter().zip(&mut self.states) {
            let (own, others) = columns.split_at_checked(aggregate.saved_fields().len()).unwrap_or((columns, &[]));
            columns = others;
            match (aggregate, state) {
                (Aggregate::BuiltIn(built_in), State::BuiltIn(accumulators)) => {
                    built_in.load(accumulators, slots, own).map_err(|error| internal(&error))?;
                }
                (Aggregate::Fold(fold), State::Fold(accumulators)) => {
                    let rows = RecordBatch::try_new(fold.state().arrow().clone(), own.to_vec());
                    let rows = rows.map_err(|error| internal(&StateError::Arrow(error)))?;
                    accumulators.scatter(slots, &rows).map_err(|error| internal(&error))?;
                }
                _ => return Err(OperatorError::Internal { reason: "state of another aggregate".into() }),
            }
        }
        Ok(())
    }

    fn load_rows(&mut self, slots: &[u32], saved: &ArrayRef) -> Result<(), OperatorError> {
        let counts = words(&Field::new("rows", Kind::Int64), saved).map_err(|error| internal(&error))?;
        for (slot, count) in slots.iter().zip(counts.iter().map(|count| *count as i64)) {
            if !self.rows.prefetch(*slot) {
                self.allocate(Chunked::<i64>::chunk_of(*slot));
            }
            let Some(rows) = self.rows.get_mut(*slot) else { continue };
            if *rows != 0 || count <= 0 {
                let reason = if count <= 0 { format!("a window of {count} rows") } else { TWICE.to_owned() };
                return Err(OperatorError::State { reason });
            }
            *rows = count;
            self.touched += 1;
        }
        Ok(())
    }
}

const TWICE: &str = "two rows are of the same key and window: is it the state of one cut?";
