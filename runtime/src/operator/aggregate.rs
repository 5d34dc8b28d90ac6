//! What an aggregate is: which column a built-in one makes, and what a user-defined one must do.

use arrow_array::RecordBatch;

use super::{AggregateFunction, OperatorError};
use crate::record::{Field, Kind, Schema};
use crate::wasm::RowFailure;

/// One aggregate of a step, ready to run.
pub enum AggregateCall {
    /// computed by the host
    BuiltIn {
        /// name of the output column
        output: String,
        /// which
        function: AggregateFunction,
        /// position of the column it reads; none for `count()`
        column: Option<usize>,
    },
    /// computed by a component
    Fold(Box<dyn Fold>),
}

/// A user-defined aggregate. Its accumulators are typed columns that the host owns; it keeps nothing between calls that
/// changes a result.
///
/// Rows that a call cannot handle are named in its `failed`, in order and once each; what becomes of them is the policy of
/// the step. An error is not about rows.
pub trait Fold: Send {
    /// Positions of the columns of the operator's input that it reads, in the order in which it wants them.
    fn input(&self) -> &[usize];

    /// Columns of an accumulator.
    fn state(&self) -> &Schema;

    /// Columns of a result.
    fn output(&self) -> &Schema;

    /// The empty accumulator: one row of [`Fold::state`].
    fn create(&mut self) -> Result<RecordBatch, OperatorError>;

    /// Folds row i of `input` into row `groups[i]` of `accumulators` and answers all accumulators in the same order.
    /// Rows that `failed` leave no trace in what it answers.
    ///
    /// The host touches other aggregates with such a row all the same, and the row's key has a result.
    fn accumulate(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError>;

    /// Row i of the answer is row i of `left` and of `right` in one; `left` is the earlier by event time where the two do
    /// not overlap. Rows that `failed` are left out of the answer.
    fn merge(
        &mut self,
        left: &RecordBatch,
        right: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError>;

    /// The result of each accumulator, row by row. Rows that `failed` are left out of the answer.
    fn finish(
        &mut self,
        accumulators: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError>;
}

/// What an aggregate adds to the output, as far as planning needs to know.
#[derive(Clone, Copy, Debug)]
pub enum AggregateColumns<'a> {
    /// as [`AggregateCall::BuiltIn`]
    BuiltIn {
        /// name of the output column
        output: &'a str,
        /// which
        function: AggregateFunction,
        /// position of the column it reads
        column: Option<usize>,
    },
    /// the columns that a component produces
    Fold(&'a Schema),
}

/// Columns of a windowed aggregate: keys, `window_start`, `window_end`, then the aggregates. The error says which
/// column cannot be, and why.
pub fn output_schema(input: &Schema, keys: &[usize], aggregates: &[AggregateColumns<'_>]) -> Result<Schema, String> {
    schema(input, keys, &["window_start", "window_end"], aggregates)
}

/// Columns of an aggregate without windows: keys, then the aggregates.
pub fn rolling_schema(input: &Schema, keys: &[usize], aggregates: &[AggregateColumns<'_>]) -> Result<Schema, String> {
    schema(input, keys, &[], aggregates)
}

fn schema(
    input: &Schema,
    keys: &[usize],
    bounds: &[&str],
    aggregates: &[AggregateColumns<'_>],
) -> Result<Schema, String> {
    let mut fields = Vec::new();
    for key in keys {
        let field = input.fields().get(*key);
        fields.push(field.cloned().ok_or_else(|| no_column("key", *key, input))?);
    }
    fields.extend(bounds.iter().map(|name| Field::new(*name, Kind::TimestampMs)));
    for aggregate in aggregates {
        match *aggregate {
            AggregateColumns::BuiltIn { output, function, column } => {
                fields.push(result_field(input, output, function, column)?);
            }
            AggregateColumns::Fold(columns) => fields.extend_from_slice(columns.fields()),
        }
    }
    for (at, field) in fields.iter().enumerate() {
        if fields.iter().take(at).any(|earlier| earlier.name == field.name) {
            return Err(format!("the output has two columns `{}`: give the aggregate another name", field.name));
        }
    }
    Ok(Schema::new(fields))
}

/// The column that a built-in aggregate produces. It is null for keys with nulls only, so it is nullable where the
/// column that it reads is; a count never is.
pub fn result_field(
    input: &Schema,
    output: &str,
    function: AggregateFunction,
    column: Option<usize>,
) -> Result<Field, String> {
    let name = function.name();
    let value = match column {
        Some(column) => input.fields().get(column).ok_or_else(|| no_column(name, column, input))?,
        None if function == AggregateFunction::Count => return Ok(Field::new(output, Kind::Int64)),
        None => return Err(format!("{name}() reads no column: name one, as in {name}(price)")),
    };
    let kind = match (function, value.kind) {
        (AggregateFunction::Count, _) => return Ok(Field::new(output, Kind::Int64)),
        (AggregateFunction::CountDistinct, _) => return Ok(Field::new(output, Kind::Int64)),
        (AggregateFunction::First | AggregateFunction::Last, kind) => kind,
        (AggregateFunction::Sum, Kind::Int64 | Kind::Float64) => value.kind,
        (AggregateFunction::Avg, Kind::Int64 | Kind::Float64) => Kind::Float64,
        (AggregateFunction::Min | AggregateFunction::Max, kind) if kind != Kind::Binary => kind,
        (AggregateFunction::Sum | AggregateFunction::Avg, kind) => {
            return Err(format!("{name}({}) of a {kind} column: expected int64 or float64", value.name));
        }
        (_, kind) => return Err(format!("{name}({}) of a {kind} column: expected any other kind", value.name)),
    };
    Ok(Field { name: output.to_owned(), kind, nullable: value.nullable })
}

fn no_column(what: &str, index: usize, input: &Schema) -> String {
    format!("{what} reads column {index} of an input with {} columns", input.fields().len())
}
