//! Map: a bid's day, and its bidder and auction under the rank of its price (Nexmark queries 15 to 17). Counting a
//! rank's column counts the bids of that rank, since those of other ranks are null.

use millstream_sdk::{Row, Timestamp};

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid {
    /// what is bid for
    pub auction: i64,
    /// who
    pub bidder: i64,
    /// how much
    pub price: i64,
    /// when
    pub date_time: Timestamp,
}

/// What is added to it.
#[derive(Clone, Debug, Default, PartialEq, Row)]
pub struct Ranked {
    /// `2015-07-15`
    pub day: String,
    /// the bidder, of prices below ten thousand
    pub bidder1: Option<i64>,
    /// of prices below a million
    pub bidder2: Option<i64>,
    /// of prices from a million
    pub bidder3: Option<i64>,
    /// the auction, of prices below ten thousand
    pub auction1: Option<i64>,
    /// of prices below a million
    pub auction2: Option<i64>,
    /// of prices from a million
    pub auction3: Option<i64>,
}

/// The bid's day and rank.
#[millstream_sdk::map]
pub fn nexmark_ranks(bid: Bid) -> Ranked {
    let (bidder, auction) = (Some(bid.bidder), Some(bid.auction));
    let ranked = Ranked { day: date(bid.date_time.0.div_euclid(86_400_000)), ..Ranked::default() };
    match bid.price {
        ..10_000 => Ranked { bidder1: bidder, auction1: auction, ..ranked },
        10_000..1_000_000 => Ranked { bidder2: bidder, auction2: auction, ..ranked },
        _ => Ranked { bidder3: bidder, auction3: auction, ..ranked },
    }
}

/// The date of a day since 1970. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms",
/// `civil_from_days`.
fn date(days: i64) -> String {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn a_bid_stands_under_the_rank_of_its_price() {
        let bids = [9_999, 10_000, 1_000_000].map(|price| {
            let date_time = Timestamp(1_436_918_401_000);
            Bid { auction: 1, bidder: 2, price, date_time }
        });
        let ranked = testing::map::<nexmark_ranks, _, Ranked>(&[], bids).unwrap().to_rows().unwrap();
        assert_eq!(ranked[0].day, "2015-07-15");
        let ranks = ranked.iter().map(|row| (row.bidder1, row.bidder2, row.auction3)).collect::<Vec<_>>();
        assert_eq!(ranks, [(Some(2), None, None), (None, Some(2), None), (None, None, Some(1))]);
    }

    #[test]
    fn leap_days_and_days_before_1970_have_their_dates() {
        let dates = [-1, 0, 59, 11_016, 19_782].map(date);
        assert_eq!(dates, ["1969-12-31", "1970-01-01", "1970-03-01", "2000-02-29", "2024-02-29"]);
    }
}
