//! Filter with a configuration: rows whose `auction` is one of a list (Nexmark query 2).
//!
//! ```toml
//! [step.wanted]
//! from = "bids"
//! filter = { component = "one-of.wasm", config = { auctions = "1007, 1020" } }
//! ```

use millstream_sdk::Row;
use serde::{Deserialize, Deserializer};

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid {
    /// what is bid for
    pub auction: i64,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// numbers, comma separated
    #[serde(deserialize_with = "numbers")]
    pub auctions: Vec<i64>,
}

fn numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<i64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let number = |part: &str| {
        part.trim().parse().map_err(|_| serde::de::Error::custom(format!("\"{}\" is not a number", part.trim())))
    };
    text.split(',').map(number).collect()
}

/// Whether the auction is in the list.
#[millstream_sdk::filter]
pub fn one_of(bid: Bid, config: &Config) -> bool {
    config.auctions.contains(&bid.auction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn auctions_of_the_list_are_kept() {
        let bids = [7, 8, 9].map(|auction| Bid { auction });
        assert_eq!(testing::filter::<one_of, _>(&[("auctions", "9, 7".into())], bids).unwrap(), [true, false, true]);
        let error = testing::describe::<one_of>(&[("auctions", "7,x".into())]).unwrap_err();
        assert!(error.contains("\"x\" is not a number"), "{error}");
    }
}
