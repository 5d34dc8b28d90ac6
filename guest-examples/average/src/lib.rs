//! Aggregate: the mean of `value`, with an accumulator of its own. Without rows the mean is null.

use millstream_sdk::{Aggregate, Row};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Reading {
    /// the number
    pub value: f64,
}

/// What the host keeps for each key and window: two columns.
#[derive(Clone, Debug, Row)]
pub struct Seen {
    /// of all values
    pub sum: f64,
    /// of rows
    pub count: i64,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Mean {
    /// null without rows
    pub mean: Option<f64>,
}

/// The operator.
#[derive(Default)]
pub struct Average;

#[millstream_sdk::aggregate]
impl Aggregate for Average {
    type Input<'a> = Reading;
    type Accumulator = Seen;
    type Output = Mean;

    fn create(&self) -> Seen {
        Seen { sum: 0.0, count: 0 }
    }

    fn fold(&self, seen: &mut Seen, reading: Reading) {
        seen.sum += reading.value;
        seen.count += 1;
    }

    fn merge(&self, left: &mut Seen, right: Seen) {
        left.sum += right.sum;
        left.count += right.count;
    }

    fn finish(&self, seen: &Seen) -> Mean {
        Mean { mean: (seen.count > 0).then(|| seen.sum / seen.count as f64) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing::{self, Fired, Window, Windows};

    fn mean(values: &[f64]) -> Option<f64> {
        let readings = values.iter().map(|&value| Reading { value });
        testing::aggregate::<Average, _>(&[], readings).unwrap().to_rows().unwrap().remove(0).mean
    }

    #[test]
    fn the_mean_is_the_sum_by_the_count() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
    }

    #[test]
    fn without_rows_there_is_no_mean() {
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn each_sliding_window_has_the_mean_of_its_rows() {
        let mut windows: Windows<Average> = Windows::new(Window::Sliding { length_ms: 10, every_ms: 5 }, &[]).unwrap();
        windows.rows([(1, 1.0), (6, 3.0), (12, 8.0)].map(|(time_ms, value)| (time_ms, Reading { value }))).unwrap();
        let fired = |start_ms, mean| Fired { start_ms, end_ms: start_ms + 10, result: Mean { mean: Some(mean) } };
        assert_eq!(windows.watermark(9).unwrap(), [fired(-5, 1.0), fired(0, 2.0)]);
        assert_eq!(windows.end().unwrap(), [fired(5, 5.5), fired(10, 8.0)]);
    }
}
