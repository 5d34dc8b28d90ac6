//! Picks, orders and renames columns. Rows stay as they are, and no cell is copied.

use arrow_array::{RecordBatch, RecordBatchOptions};

use super::{Operator, OperatorError, Output};
use crate::record::{Batch, Schema};

/// The operator.
#[derive(Debug)]
pub struct Select {
    /// positions of the input's columns, in the order of the output
    columns: Vec<usize>,
    output: Schema,
}

impl Select {
    /// Puts out `columns` of the input under the names of `output`.
    pub fn new(columns: Vec<usize>, output: Schema) -> Self {
        Self { columns, output }
    }
}

impl Operator for Select {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let internal = |reason: String| OperatorError::Internal { reason };
        let columns = self.columns.iter().map(|column| batch.columns().columns().get(*column).cloned());
        let columns = columns.collect::<Option<Vec<_>>>().ok_or_else(|| internal("a column is missing".to_owned()))?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
        let selected = RecordBatch::try_new_with_options(self.output.arrow().clone(), columns, &options)
            .map_err(|error| internal(error.to_string()))?;
        out.batches.extend(Batch::new(selected, batch.times().clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray};

    use super::*;
    use crate::record::{Field, Kind};

    #[test]
    fn columns_come_in_the_order_asked_for_under_their_new_names_and_times_stay() {
        let input = Schema::new([Field::new("a", Kind::Int64), Field::new("b", Kind::Text)]);
        let columns = RecordBatch::try_new(
            input.arrow().clone(),
            vec![Arc::new(Int64Array::from(vec![1, 2])), Arc::new(StringArray::from(vec!["x", "y"]))],
        )
        .unwrap();
        let output =
            Schema::new([Field::new("c", Kind::Text), Field::new("a", Kind::Int64), Field::new("d", Kind::Int64)]);
        let mut out = Output::default();
        let batch = Batch::new(columns, vec![7, 8].into()).unwrap();
        Select::new(vec![1, 0, 0], output.clone()).on_batch(batch, &mut out).unwrap();
        let selected = &out.batches[0];
        assert_eq!(selected.columns().schema(), *output.arrow());
        assert_eq!(selected.times().as_ref(), [7, 8]);
        assert_eq!(selected.column(0).as_string::<i32>().value(1), "y");
        assert_eq!(selected.column(2).as_primitive::<Int64Type>().value(0), 1);
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let input = Schema::new([Field::new("a", Kind::Int64)]);
        let columns =
            RecordBatch::try_new(input.arrow().clone(), vec![Arc::new(Int64Array::from(vec![1, 2]))]).unwrap();
        let mut out = Output::default();
        let batch = Batch::new(columns, vec![7, 8].into()).unwrap();
        Select::new(Vec::new(), Schema::new([])).on_batch(batch, &mut out).unwrap();
        assert_eq!(out.batches[0].rows(), 2);
    }
}
