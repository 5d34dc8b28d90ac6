//! Map with a configuration: the price in another currency, at the rate of the bid's own.
//!
//! The settings that name a currency in capitals are the table of rates; `target` names the column's meaning in the
//! output. A currency without a rate is the failure of its row.
//!
//! ```toml
//! [step.euro]
//! from = "bids"
//! map = { component = "enrich.wasm", config = { target = "EUR", USD = 0.908, GBP = 1.17 } }
//! keep = "all"
//! ```

use std::collections::BTreeMap;

use millstream_sdk::{Row, counter};
use serde::Deserialize;

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid<'a> {
    /// in `currency`
    pub price: f64,
    /// three letters
    pub currency: &'a str,
}

/// What is added to it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Converted<'a> {
    /// the price in `target`
    pub converted: f64,
    /// the currency of `converted`
    pub target: &'a str,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
pub struct Config {
    /// the currency to convert to, rate 1
    pub target: String,
    /// what one unit of each other currency is worth in it
    #[serde(flatten)]
    pub rates: BTreeMap<String, f64>,
}

/// The bid's price in the target currency.
#[millstream_sdk::map]
pub fn enrich<'a>(bid: Bid<'a>, config: &'a Config) -> Result<Converted<'a>, String> {
    let rate = if bid.currency == config.target { Some(1.0) } else { config.rates.get(bid.currency).copied() };
    let Some(rate) = rate else {
        counter("unknown_currency", 1);
        let known: Vec<&str> = config.rates.keys().map(String::as_str).collect();
        return Err(format!("no rate for currency \"{}\"; there are: {}", bid.currency, known.join(", ")));
    };
    Ok(Converted { converted: bid.price * rate, target: &config.target })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Failure, Setting, testing};

    fn config() -> [(&'static str, Setting); 2] {
        [("target", "EUR".into()), ("USD", 0.5.into())]
    }

    #[test]
    fn prices_are_converted_at_the_rate_of_their_currency() {
        let bids = [("USD", 10.0), ("EUR", 10.0)].map(|(currency, price)| Bid { price, currency });
        let converted = testing::map::<enrich, _, Converted<'_>>(&config(), bids).unwrap();
        let converted: Vec<f64> = converted.to_rows().unwrap().iter().map(|row| row.converted).collect();
        assert_eq!(converted, [5.0, 10.0]);
    }

    #[test]
    fn an_unknown_currency_fails_its_row_and_is_counted() {
        testing::recorded();
        let bids = [Bid { price: 1.0, currency: "XXX" }];
        let failure = testing::map::<enrich, _, Converted<'_>>(&config(), bids).unwrap_err();
        let Failure::Rows(rows) = failure else { panic!("{failure}") };
        assert_eq!(rows[0].reason, "no rate for currency \"XXX\"; there are: USD");
        assert_eq!(testing::recorded().counters["unknown_currency"], 1);
    }

    #[test]
    fn a_rate_must_be_a_number() {
        let error = testing::describe::<enrich>(&[("target", "EUR".into()), ("USD", "much".into())]).unwrap_err();
        assert!(error.contains("expected f64"), "{error}");
    }
}
