//! Aggregate for tests of migrations: what `migrate-sum-1` has counted, and beside it what this version counts.

use millstream_sdk::{Aggregate, Row};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Amount {
    /// the number
    pub amount: i64,
}

/// What version 1 keeps.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct KeptV1 {
    pub rows: i64,
    pub sum: i64,
}

/// What version 2 keeps.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct KeptV2 {
    pub old_rows: i64,
    pub old_sum: i64,
    pub rows: i64,
    pub sum: i64,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Sums {
    /// rows that version 1 has seen
    pub rows_1: i64,
    /// their sum
    pub sum_1: i64,
    /// rows that version 2 has seen
    pub rows_2: i64,
    /// their sum
    pub sum_2: i64,
}

impl From<KeptV1> for KeptV2 {
    fn from(older: KeptV1) -> Self {
        Self { old_rows: older.rows, old_sum: older.sum, rows: 0, sum: 0 }
    }
}

/// The operator.
#[derive(Default)]
pub struct Sum;

#[millstream_sdk::aggregate(version = 2, migrate(1 = KeptV1))]
impl Aggregate for Sum {
    type Input<'a> = Amount;
    type Accumulator = KeptV2;
    type Output = Sums;

    fn create(&self) -> KeptV2 {
        KeptV2 { old_rows: 0, old_sum: 0, rows: 0, sum: 0 }
    }

    fn fold(&self, kept: &mut KeptV2, row: Amount) {
        kept.rows += 1;
        kept.sum += row.amount;
    }

    fn merge(&self, left: &mut KeptV2, right: KeptV2) {
        left.old_rows += right.old_rows;
        left.old_sum += right.old_sum;
        left.rows += right.rows;
        left.sum += right.sum;
    }

    fn finish(&self, kept: &KeptV2) -> Sums {
        Sums { rows_1: kept.old_rows, sum_1: kept.old_sum, rows_2: kept.rows, sum_2: kept.sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn what_version_1_has_seen_stays_its_own() {
        let kept = testing::migrate::<Sum, _, KeptV2>(1, [KeptV1 { rows: 2, sum: 7 }]).unwrap();
        assert_eq!(kept, [KeptV2 { old_rows: 2, old_sum: 7, rows: 0, sum: 0 }]);
        assert!(testing::migrate::<Sum, _, KeptV2>(3, [KeptV1 { rows: 2, sum: 7 }]).is_err());
    }
}
