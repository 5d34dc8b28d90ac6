//! Process: the median of the last `last` values of each key, with a list as state.

use millstream_sdk::{Context, List, Packed, Process, Row};
use serde::Deserialize;

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Reading {
    pub k: i64,
    pub value: f64,
}

/// What comes out for each row.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Median {
    pub k: i64,
    pub median: f64,
}

/// The step's configuration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningMedian {
    last: usize,
}

#[millstream_sdk::process(config)]
impl Process for RunningMedian {
    type Input<'a> = Reading;
    type State = List<f64>;
    type Output = Median;

    fn on_row(&self, reading: Reading, state: &mut Option<List<f64>>, context: &mut Context<Self>) {
        let Packed(values) = state.get_or_insert_default();
        if values.len() >= self.last.max(1) {
            values.remove(0);
        }
        values.push(reading.value);
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        context.emit(Median { k: reading.k, median });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing::Processing;

    #[test]
    fn the_median_of_the_last_three() {
        let mut median = Processing::<RunningMedian>::new(&[("last", 3.into())]).unwrap();
        for (value, time) in [(1.0, 0), (3.0, 1), (100.0, 2), (2.0, 3)] {
            median.row((), Reading { k: 1, value }, time).unwrap();
        }
        let medians: Vec<f64> = median.take().unwrap().iter().map(|(_, row)| row.median).collect();
        assert_eq!(medians, [1.0, 2.0, 3.0, 3.0]);
    }
}
