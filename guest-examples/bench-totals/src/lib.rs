//! Aggregate for benchmarks: count and sum of `amount`, checked as `count-sum` is.

use millstream_sdk::{Aggregate, Row};

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Order {
    /// the number
    pub amount: i64,
}

/// Both what the host keeps and what comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Totals {
    /// of rows
    pub count: i64,
    /// of all amounts
    pub sum: i64,
}

/// The operator.
#[derive(Default)]
pub struct BenchTotals;

#[millstream_sdk::aggregate]
impl Aggregate for BenchTotals {
    type Input<'a> = Order;
    type Accumulator = Totals;
    type Output = Totals;

    fn create(&self) -> Totals {
        Totals { count: 0, sum: 0 }
    }

    fn fold(&self, totals: &mut Totals, order: Order) -> Result<(), &'static str> {
        totals.sum = totals.sum.checked_add(order.amount).ok_or("the sum leaves the range of int64")?;
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
    use millstream_sdk::testing;

    #[test]
    fn rows_are_counted_and_summed() {
        let orders = [3, -1, 5].map(|amount| Order { amount });
        let totals = testing::aggregate::<BenchTotals, _>(&[], orders).unwrap().to_rows().unwrap();
        assert_eq!(totals, [Totals { count: 3, sum: 7 }]);
    }
}
