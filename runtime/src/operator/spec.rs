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
    /// value of the row with the earliest event time; of several the one that came first
    First,
    /// value of the row with the latest event time; of several the one that came last
    Last,
    /// how many different values
    CountDistinct,
}

impl AggregateFunction {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Count, Self::Sum, Self::Avg, Self::Min, Self::Max, Self::First, Self::Last, Self::CountDistinct];

    /// As pipelines write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::First => "first",
            Self::Last => "last",
            Self::CountDistinct => "count_distinct",
        }
    }
}
