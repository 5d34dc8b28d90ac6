//! Filter with a configuration: keeps rows whose `amount` is at least `minimum`. A row without an amount is a failure.
//!
//! ```toml
//! [step.large]
//! from = "orders"
//! filter = { component = "min-amount.wasm", config = { minimum = 100.0 } }
//! ```

use millstream_sdk::Row;
use serde::Deserialize;

/// What is read of an order.
#[derive(Clone, Debug, Row)]
pub struct Order {
    /// its value, if it is known
    pub amount: Option<f64>,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// smallest amount that is kept
    pub minimum: f64,
}

/// Whether the order is large enough.
#[millstream_sdk::filter]
pub fn min_amount(order: Order, config: &Config) -> Result<bool, &'static str> {
    order.amount.map(|amount| amount >= config.minimum).ok_or("the order has no amount")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Failure, testing};

    fn orders<const N: usize>(amounts: [Option<f64>; N]) -> [Order; N] {
        amounts.map(|amount| Order { amount })
    }

    #[test]
    fn the_minimum_itself_is_enough() {
        let orders = orders([Some(99.9), Some(100.0), Some(1e9)]);
        let kept = testing::filter::<min_amount, _>(&[("minimum", 100.0.into())], orders).unwrap();
        assert_eq!(kept, [false, true, true]);
    }

    #[test]
    fn rows_without_amount_fail_by_themselves() {
        let failure =
            testing::filter::<min_amount, _>(&[("minimum", 1.0.into())], orders([Some(2.0), None])).unwrap_err();
        let Failure::Rows(rows) = failure else { panic!("{failure}") };
        assert_eq!((rows.len(), rows[0].row, rows[0].reason.as_str()), (1, 1, "the order has no amount"));
    }

    #[test]
    fn a_configuration_that_does_not_fit_is_refused_by_name() {
        let error = testing::describe::<min_amount>(&[]).unwrap_err();
        assert_eq!(error, "config: missing field `minimum`");
        let error = testing::describe::<min_amount>(&[("minimun", 1.0.into())]).unwrap_err();
        assert!(error.contains("unknown field `minimun`, expected `minimum`"), "{error}");
    }
}
