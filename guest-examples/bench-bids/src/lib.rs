//! Map for benchmarks: several columns of different kinds, as a row of an auction's bids has them.

use millstream_sdk::Row;

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Bid<'a> {
    /// number of the auction
    pub auction: i64,
    /// in cents
    pub price: i64,
    /// where the bid came from
    pub channel: &'a str,
}

/// What is made of it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Priced<'a> {
    /// in euros
    pub euros: f64,
    /// whether the auction is one of those that are watched, and the price is high
    pub flagged: bool,
    /// as it was
    pub channel: &'a str,
}

/// The bid in euros.
#[millstream_sdk::map]
pub fn bench_bids(bid: Bid<'_>) -> Priced<'_> {
    let flagged = bid.price >= 900 && bid.auction & 3 == 0;
    Priced { euros: bid.price as f64 * 0.01, flagged, channel: bid.channel }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn high_prices_of_every_fourth_auction_are_flagged() {
        let bids = [(4, 950), (5, 950), (4, 100)].map(|(auction, price)| Bid { auction, price, channel: "web" });
        let priced = testing::map::<bench_bids, _, Priced<'_>>(&[], bids).unwrap();
        let flagged: Vec<bool> = priced.to_rows().unwrap().into_iter().map(|row| row.flagged).collect();
        assert_eq!(flagged, [true, false, false]);
    }
}
