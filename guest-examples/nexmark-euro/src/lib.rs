//! Map: a price in another currency, exact: in thousandths, at so many thousandths a unit (Nexmark query 1).

use millstream_sdk::Row;
use serde::Deserialize;

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid {
    /// in the bid's currency
    pub price: i64,
}

/// What is added to it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Converted {
    /// thousandths of the other currency
    pub price_x1000: i64,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// thousandths of the other currency for one unit
    pub rate_x1000: i64,
}

impl Default for Config {
    fn default() -> Self {
        Config { rate_x1000: 908 }
    }
}

/// The bid's price in the other currency.
#[millstream_sdk::map]
pub fn nexmark_euro(bid: Bid, config: &Config) -> Result<Converted, String> {
    let price = bid.price.checked_mul(config.rate_x1000);
    Ok(Converted { price_x1000: price.ok_or_else(|| format!("price {} is too large to convert", bid.price))? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Failure, testing};

    #[test]
    fn prices_are_exact_and_the_largest_is_refused() {
        let converted = testing::map::<nexmark_euro, _, Converted>(&[], [Bid { price: 499_920 }]).unwrap();
        assert_eq!(converted.to_rows().unwrap()[0].price_x1000, 453_927_360);
        let failure = testing::map::<nexmark_euro, _, Converted>(&[], [Bid { price: i64::MAX }]).unwrap_err();
        assert!(matches!(failure, Failure::Rows(rows) if rows[0].reason.contains("too large")));
    }
}
