//! Aggregate for tests of swaps: counts and adds up `amount` to the columns of its version, so that results tell how many
//! rows each version has seen.
//!
//! Tests make the other version by writing `sum-b` over [`VERSION`] in the component's file.

use std::hint::black_box;

use millstream_sdk::{Aggregate, Row};

/// What tests replace; of fixed length.
static VERSION: &str = "sum-a";

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Amount {
    /// the number
    pub amount: i64,
}

/// What the host keeps.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Kept {
    /// rows of version a
    pub kept_rows_a: i64,
    /// their sum
    pub kept_sum_a: i64,
    /// rows of version b
    pub kept_rows_b: i64,
    /// their sum
    pub kept_sum_b: i64,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Sums {
    /// rows of version a
    pub rows_a: i64,
    /// their sum
    pub sum_a: i64,
    /// rows of version b
    pub rows_b: i64,
    /// their sum
    pub sum_b: i64,
}

/// The operator.
#[derive(Default)]
pub struct VersionSum;

#[millstream_sdk::aggregate]
impl Aggregate for VersionSum {
    type Input<'a> = Amount;
    type Accumulator = Kept;
    type Output = Sums;

    fn create(&self) -> Kept {
        Kept { kept_rows_a: 0, kept_sum_a: 0, kept_rows_b: 0, kept_sum_b: 0 }
    }

    fn fold(&self, kept: &mut Kept, row: Amount) {
        if black_box(VERSION) == "sum-a" {
            kept.kept_rows_a += 1;
            kept.kept_sum_a += row.amount;
        } else {
            kept.kept_rows_b += 1;
            kept.kept_sum_b += row.amount;
        }
    }

    fn merge(&self, left: &mut Kept, right: Kept) {
        left.kept_rows_a += right.kept_rows_a;
        left.kept_sum_a += right.kept_sum_a;
        left.kept_rows_b += right.kept_rows_b;
        left.kept_sum_b += right.kept_sum_b;
    }

    fn finish(&self, kept: &Kept) -> Sums {
        Sums { rows_a: kept.kept_rows_a, sum_a: kept.kept_sum_a, rows_b: kept.kept_rows_b, sum_b: kept.kept_sum_b }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn rows_are_the_versions() {
        let rows = [3, 4].map(|amount| Amount { amount });
        let sums = testing::aggregate::<VersionSum, _>(&[], rows).unwrap();
        assert_eq!(sums.to_rows().unwrap(), [Sums { rows_a: 2, sum_a: 7, rows_b: 0, sum_b: 0 }]);
    }
}
