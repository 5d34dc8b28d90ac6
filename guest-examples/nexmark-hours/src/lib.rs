//! Flat map: bids of a price range, in euro, with their time of day and the number of `c` in a text (Nexmark query 14).

use millstream_sdk::{Row, Timestamp};

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid<'a> {
    /// in dollars
    pub price: i64,
    /// when
    pub date_time: Timestamp,
    /// any text
    pub extra: &'a str,
}

/// What is known of a bid in the range.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Classed<'a> {
    /// in euro, three digits after the point
    pub euro: String,
    /// `dayTime`, `nightTime` or `otherTime`
    pub class: &'a str,
    /// how often `c` stands in the text
    pub c_counts: i64,
}

/// The bid, if its price is between one and fifty millions.
#[millstream_sdk::flat_map]
pub fn nexmark_hours(bid: Bid<'_>) -> Option<Classed<'static>> {
    let euro = i128::from(bid.price) * 908;
    if !(1_000_000_001..50_000_000_000).contains(&euro) {
        return None;
    }
    let hour = bid.date_time.0.div_euclid(3_600_000).rem_euclid(24);
    let class = match hour {
        8..=18 => "dayTime",
        20.. | 0..=6 => "nightTime",
        _ => "otherTime",
    };
    let c_counts = bid.extra.bytes().filter(|byte| *byte == b'c').count() as i64;
    Some(Classed { euro: format!("{}.{:03}", euro / 1000, euro % 1000), class, c_counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn a_bid_in_the_range_has_a_class() {
        let hours = [(0, 1_101_322), (9, 1_101_322), (19, 1_101_322), (0, 1_000_000), (0, 60_000_000)];
        let bids = hours.map(|(hour, price)| Bid { price, date_time: Timestamp(hour * 3_600_000), extra: "occur" });
        let (origin, classed) = testing::flat_map::<nexmark_hours, _, Classed<'_>>(&[], bids).unwrap();
        assert_eq!(origin, [0, 1, 2]);
        let classed = classed.to_rows().unwrap();
        assert_eq!((classed[0].euro.as_str(), classed[0].c_counts), ("1000000.376", 2));
        assert_eq!(classed.iter().map(|row| row.class).collect::<Vec<_>>(), ["nightTime", "dayTime", "otherTime"]);
    }
}
