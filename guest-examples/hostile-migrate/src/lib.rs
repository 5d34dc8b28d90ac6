//! Aggregate for tests of migrations: version 2 of `migrate-sum-1` with a migration that goes wrong. How is said by a text that
//! tests write over [`MODE`] in the component's file.

use std::hint::black_box;

use millstream_sdk::migrate::{migrate, source};
use millstream_sdk::{Aggregate, Batch, Failure, MigrateOperator, Row, StateSchema, Values};

/// What tests replace; of fixed length: `trap-on-a-key`, `fails-one-row`, `too-few-rows-`, `more-columns-`, `loops-forever`,
/// `none-at-all--`.
static MODE: &str = "trap-on-a-key";

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

#[millstream_sdk::aggregate(version = 2)]
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

impl MigrateOperator for Sum {
    fn sources() -> Vec<StateSchema> {
        vec![source::<KeptV1>(1)]
    }

    fn migrate(_from: u32, state: &Batch) -> Result<Batch, Failure> {
        let mut batch = migrate::<KeptV1, KeptV2>(state)?;
        match black_box(MODE) {
            // the key whose amounts come to nothing
            "trap-on-a-key" => {
                if let Some(Values::Int64(sums)) = batch.columns.get(1).map(|column| &column.values) {
                    assert!(!sums.contains(&0), "a sum of 0 was not expected");
                }
            }
            "fails-one-row" => return Err(Failure::Batch("no, thank you".to_owned())),
            "too-few-rows-" => return migrate::<KeptV1, KeptV2>(&first(state)),
            "more-columns-" => batch.columns.extend(state.columns.clone()),
            "loops-forever" => loop {
                black_box(MODE);
            },
            _ => batch.columns.clear(),
        }
        Ok(batch)
    }
}

/// The first row alone.
fn first(state: &Batch) -> Batch {
    let mut state = state.clone();
    state.rows = state.rows.min(1);
    for column in &mut state.columns {
        if let Values::Int64(values) = &mut column.values {
            values.truncate(state.rows as usize);
        }
    }
    state
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
const _: () = {
    type Component = millstream_sdk::export::Component<Sum>;
    millstream_sdk::export::migrate::export!(Component with_types_in millstream_sdk::export::migrate);
};
