//! State of other versions, taken over.
//!
//! `TryFrom` (or `From`) says how a row of state becomes one of the operator's own, and the attribute names the versions:
//!
//! ```
//! use millstream_sdk::{Aggregate, Row};
//!
//! #[derive(Row)]
//! struct Amount {
//!     amount: i64,
//! }
//!
//! /// What version 1 kept.
//! #[derive(Row)]
//! struct SumV1 {
//!     sum: i64,
//! }
//!
//! #[derive(Row)]
//! struct SumAndCount {
//!     sum: i64,
//!     count: Option<i64>,
//! }
//!
//! impl From<SumV1> for SumAndCount {
//!     fn from(old: SumV1) -> Self {
//!         Self { sum: old.sum, count: None }
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Sum;
//!
//! #[millstream_sdk::aggregate(version = 2, migrate(1 = SumV1))]
//! impl Aggregate for Sum {
//!     type Input<'a> = Amount;
//!     type Accumulator = SumAndCount;
//!     type Output = Amount;
//!
//!     fn create(&self) -> SumAndCount {
//!         SumAndCount { sum: 0, count: Some(0) }
//!     }
//!
//!     fn fold(&self, kept: &mut SumAndCount, row: Amount) {
//!         kept.sum += row.amount;
//!         kept.count = kept.count.map(|count| count + 1);
//!     }
//!
//!     fn merge(&self, left: &mut SumAndCount, right: SumAndCount) {
//!         left.sum += right.sum;
//!         left.count = left.count.zip(right.count).map(|(left, right)| left + right);
//!     }
//!
//!     fn finish(&self, kept: &SumAndCount) -> Amount {
//!         Amount { amount: kept.sum }
//!     }
//! }
//!
//! let sums = millstream_sdk::testing::migrate::<Sum, _, SumAndCount>(1, [SumV1 { sum: 7 }]).unwrap();
//! assert_eq!((sums[0].sum, sums[0].count), (7, None));
//! ```

use std::fmt::Display;

use crate::contract::{Batch, Failure, RowFailure, StateSchema, offset};
use crate::row::{ReadRow, Row};

/// What `migrate(..)` in an attribute makes of an operator. Nobody implements it by hand.
pub trait MigrateOperator {
    /// The states that can be taken over.
    fn sources() -> Vec<StateSchema>;
    /// The state that `state` of version `from` becomes.
    fn migrate(from: u32, state: &Batch) -> Result<Batch, Failure>;
}

/// State `Old` of version `version`, as a source.
pub fn source<Old: Row>(version: u32) -> StateSchema {
    StateSchema { version, fields: Old::fields() }
}

/// Turns rows of `Old` into rows of `New`, all or none.
pub fn migrate<'b, Old, New>(state: &'b Batch) -> Result<Batch, Failure>
where
    Old: ReadRow<'b>,
    New: Row + TryFrom<Old>,
    New::Error: Display,
{
    let reader = Old::open(state).map_err(Failure::Batch)?;
    let rows = state.rows as usize;
    let mut writer = New::writer(0, 0);
    let mut failed = Vec::new();
    for row in 0..rows {
        let new = Old::read(&reader, row).and_then(|old| New::try_from(old).map_err(|error| error.to_string()));
        match new {
            Ok(new) => new.push(&mut writer),
            Err(reason) => failed.push(RowFailure { row: offset(row), reason }),
        }
    }
    if failed.is_empty() {
        Ok(Batch { rows: state.rows, columns: New::finish(writer) })
    } else {
        Err(Failure::Rows(failed))
    }
}

/// That the operator knows no such version.
pub fn unknown(version: u32) -> Failure {
    Failure::Batch(format!("state of version {version} cannot be taken over"))
}
