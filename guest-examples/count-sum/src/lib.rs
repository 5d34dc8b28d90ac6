//! Aggregate: the number of rows and the sum of `value`.
//!
//! A sum that leaves the range of int64 is the failure of the row that would make it so.

use millstream_sdk::{Aggregate, Row};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Amount {
    /// the number
    pub value: i64,
}

/// Both what the host keeps and what comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Totals {
    /// of rows
    pub count: i64,
    /// of all values
    pub sum: i64,
}

/// The operator.
#[derive(Default)]
pub struct CountSum;

#[millstream_sdk::aggregate]
impl Aggregate for CountSum {
    type Input<'a> = Amount;
    type Accumulator = Totals;
    type Output = Totals;

    fn create(&self) -> Totals {
        Totals { count: 0, sum: 0 }
    }

    fn fold(&self, totals: &mut Totals, amount: Amount) -> Result<(), &'static str> {
        totals.sum = totals.sum.checked_add(amount.value).ok_or("the sum leaves the range of int64")?;
        totals.count += 1;
        Ok(())
    }

    fn merge(&self, left: &mut Totals, right: Totals) {
        left.count += right.count;
        left.sum = left.sum.saturating_add(right.sum);
    }

    fn finish(&self, totals: &Totals) -> Totals {
        totals.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::Failure;
    use millstream_sdk::testing::{self, Fired, Window, Windows};

    fn totals(values: &[i64]) -> Result<Totals, Failure> {
        let amounts = values.iter().map(|&value| Amount { value });
        testing::aggregate::<CountSum, _>(&[], amounts).map(|totals| totals.to_rows().unwrap().remove(0))
    }

    #[test]
    fn rows_are_counted_and_summed() {
        assert_eq!(totals(&[3, -1, 5]).unwrap(), Totals { count: 3, sum: 7 });
        assert_eq!(totals(&[]).unwrap(), Totals { count: 0, sum: 0 });
    }

    #[test]
    fn visits_that_touch_are_one_session() {
        let mut windows: Windows<CountSum> = Windows::new(Window::Session { gap_ms: 10 }, &[]).unwrap();
        windows.rows([(0, 3), (25, 4), (10, 5)].map(|(time_ms, value)| (time_ms, Amount { value }))).unwrap();
        let fired = windows.watermark(19).unwrap();
        assert_eq!(fired, [Fired { start_ms: 0, end_ms: 20, result: Totals { count: 2, sum: 8 } }]);
        windows.rows([(5, Amount { value: 1 })]).unwrap();
        assert_eq!((windows.late(), windows.end().unwrap().len()), (1, 1));
    }

    #[test]
    fn the_row_that_overflows_fails() {
        let failure = totals(&[1, i64::MAX, 2]).unwrap_err();
        let Failure::Rows(rows) = failure else { panic!("{failure}") };
        assert_eq!(rows.iter().map(|row| row.row).collect::<Vec<_>>(), [1]);
    }
}
