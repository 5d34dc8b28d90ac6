//! Aggregate for tests of migrations: counts and adds up `amount`. Version 2 is `migrate-sum-2`, which tells what either version
//! has seen; on the way back all is counted as this version's.

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

impl From<KeptV2> for KeptV1 {
    fn from(newer: KeptV2) -> Self {
        Self { rows: newer.old_rows + newer.rows, sum: newer.old_sum + newer.sum }
    }
}

/// The operator.
#[derive(Default)]
pub struct Sum;

#[millstream_sdk::aggregate(version = 1, migrate(2 = KeptV2))]
impl Aggregate for Sum {
    type Input<'a> = Amount;
    type Accumulator = KeptV1;
    type Output = Sums;

    fn create(&self) -> KeptV1 {
        KeptV1 { rows: 0, sum: 0 }
    }

    fn fold(&self, kept: &mut KeptV1, row: Amount) {
        kept.rows += 1;
        kept.sum += row.amount;
    }

    fn merge(&self, left: &mut KeptV1, right: KeptV1) {
        left.rows += right.rows;
        left.sum += right.sum;
    }

    fn finish(&self, kept: &KeptV1) -> Sums {
        Sums { rows_1: kept.rows, sum_1: kept.sum, rows_2: 0, sum_2: 0 }
    }
}
