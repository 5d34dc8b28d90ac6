//! What a pipeline says about operators.

/// What happens with a row (or record) that cannot be handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// to the dead-letter output with the reason
    #[default]
    DeadLetter,
    /// dropped and counted
    Skip,
    /// the pipeline stops with an error
    Fail,
}

/// Built-in aggregates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateFunction {
    /// rows, or with a column rows where it is not null
    Count,
    /// sum of int64 (checked, saturating never: an overflow is an error of the row) or float64
    Sum,
    /// mean as float64
    Avg,
    /// smallest
    Min,
    /// largest
    Max,
}
