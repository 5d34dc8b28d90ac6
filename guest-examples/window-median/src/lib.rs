//! Window-process: the median of the values of a window, which needs all of them.

use millstream_sdk::{Row, WindowRows};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Reading {
    pub value: f64,
}

/// What comes out for each window.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Median {
    pub n: i64,
    pub median: f64,
}

#[millstream_sdk::window_process]
pub fn median(window: WindowRows<Reading>) -> Option<Median> {
    let mut values: Vec<f64> = window.rows.iter().map(|row| row.value).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let median = match values.len() % 2 {
        1 => upper,
        _ => f64::midpoint(values[middle - 1], upper),
    };
    Some(Median { n: i64::try_from(values.len()).unwrap_or(i64::MAX), median })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    fn rows(values: &[f64]) -> WindowRows<Reading> {
        let rows = values.iter().map(|value| Reading { value: *value }).collect();
        WindowRows { start: 0, end: 10, rows, times: vec![0; values.len()] }
    }

    #[test]
    fn the_middle_of_an_even_number_of_values_is_between_two() {
        let made =
            testing::window_process::<median, _, Median>(&[], [rows(&[9.0, 1.0, 4.0]), rows(&[2.0, 4.0])]).unwrap();
        assert_eq!(made, [(0, Median { n: 3, median: 4.0 }), (1, Median { n: 2, median: 3.0 })]);
    }
}
