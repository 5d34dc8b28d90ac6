//! Ranges of a column: split points cut its values into pieces, and pieces go to tasks in their order.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};

use super::PartitionError;
use crate::record::Kind;

/// Where ranges begin, ascending. A value that equals one belongs to the range that begins there; a null to the first range,
/// NaN to the last.
#[derive(Clone, Debug, PartialEq)]
pub enum SplitPoints {
    /// of int64 and timestamps
    Integers(Vec<i64>),
    /// of float64
    Floats(Vec<f64>),
    /// of text, compared byte by byte
    Texts(Vec<String>),
}

impl SplitPoints {
    /// Number of ranges.
    pub fn ranges(&self) -> usize {
        1 + match self {
            Self::Integers(points) => points.len(),
            Self::Floats(points) => points.len(),
            Self::Texts(points) => points.len(),
        }
    }

    /// Whether they can cut a column of this kind.
    pub fn fits(&self, kind: Kind) -> bool {
        match self {
            Self::Integers(_) => matches!(kind, Kind::Int64 | Kind::TimestampMs),
            Self::Floats(_) => kind == Kind::Float64,
            Self::Texts(_) => kind == Kind::Text,
        }
    }

    /// Whether each is larger than the one before, and none is NaN.
    pub fn ascend(&self) -> bool {
        match self {
            Self::Integers(points) => points.is_sorted_by(|one, other| one < other),
            Self::Floats(points) => points.is_sorted_by(|one, other| one < other) && !points.iter().any(|p| p.is_nan()),
            Self::Texts(points) => points.is_sorted_by(|one, other| one < other),
        }
    }

    /// The task, of `parallelism`, that a range belongs to. Where there are more ranges than tasks, ranges that follow one
    /// another share a task; where there are fewer, the last tasks get nothing.
    pub fn task_of(&self, range: usize, parallelism: usize) -> usize {
        let ranges = self.ranges();
        if ranges <= parallelism { range } else { range.saturating_mul(parallelism) / ranges }
    }

    /// The range of each row of a column.
    pub fn ranges_of(&self, column: &ArrayRef) -> Result<Vec<usize>, PartitionError> {
        let refused = || PartitionError::Kind { data_type: column.data_type().clone() };
        let of_nulls = |(row, range): (usize, usize)| if column.is_null(row) { 0 } else { range };
        let ranges: Vec<usize> = match self {
            Self::Integers(points) => {
                let integers = column.as_primitive_opt::<Int64Type>().map(|array| array.values());
                let times = || column.as_primitive_opt::<TimestampMillisecondType>().map(|array| array.values());
                let values = integers.or_else(times).ok_or_else(refused)?;
                values.iter().map(|value| points.partition_point(|point| point <= value)).collect()
            }
            Self::Floats(points) => {
                let values = column.as_primitive_opt::<Float64Type>().ok_or_else(refused)?.values();
                let range = |value: &f64| match value.is_nan() {
                    true => points.len(),
                    false => points.partition_point(|point| point <= value),
                };
                values.iter().map(range).collect()
            }
            Self::Texts(points) => {
                let values = column.as_string_opt::<i32>().ok_or_else(refused)?;
                let range = |value: Option<&str>| points.partition_point(|point| Some(point.as_str()) <= value);
                values.iter().map(range).collect()
            }
        };
        Ok(ranges.into_iter().enumerate().map(of_nulls).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Float64Array, Int64Array, StringArray};

    use super::*;

    #[test]
    fn a_value_belongs_to_the_range_that_begins_at_or_before_it() {
        let column: ArrayRef =
            Arc::new(Int64Array::from(vec![Some(9), Some(10), Some(99), Some(100), None, Some(i64::MIN)]));
        let points = SplitPoints::Integers(vec![10, 100]);
        assert_eq!(points.ranges_of(&column).unwrap(), [0, 1, 1, 2, 0, 0]);
        let column: ArrayRef =
            Arc::new(Float64Array::from(vec![-0.0, 0.0, f64::NAN, f64::NEG_INFINITY, f64::INFINITY]));
        assert_eq!(SplitPoints::Floats(vec![0.0, 1.0]).ranges_of(&column).unwrap(), [1, 1, 2, 0, 2]);
        let column: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("m"), None, Some("z"), Some("")]));
        assert_eq!(SplitPoints::Texts(vec!["m".into()]).ranges_of(&column).unwrap(), [0, 1, 0, 1, 0]);
        assert!(
            SplitPoints::Texts(vec!["m".into()]).ranges_of(&(Arc::new(Int64Array::from(vec![1])) as ArrayRef)).is_err()
        );
    }

    #[test]
    fn ranges_that_follow_one_another_share_a_task() {
        let points = SplitPoints::Integers((0..9).collect());
        let tasks: Vec<usize> = (0..10).map(|range| points.task_of(range, 3)).collect();
        assert_eq!(tasks, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]);
        let tasks: Vec<usize> = (0..10).map(|range| points.task_of(range, 16)).collect();
        assert_eq!(tasks, (0..10).collect::<Vec<_>>());
    }
}
