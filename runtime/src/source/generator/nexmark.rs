//! The three streams of the Nexmark benchmark (Tucker, Tufte, Papadimos, Maier: "NEXMark, a benchmark for queries over data
//! streams", 2002; proportions as in Apache Beam's and Flink's versions).
//!
//! Events are numbered through; of 50 events one is a person, three are auctions and the rest bids. Each stream is made on
//! its own, from the numbers of its events, so three sources of one seed fit together: sellers, bidders and auctions that
//! are named exist, and were made before.

use std::fmt::Write;

use super::rows::{Series, within};
use crate::record::{EventTime, Kind};
use crate::source::NexmarkStream;

/// Events of one round: one person, three auctions, 46 bids.
pub(super) const ROUND: u64 = 50;

/// Identities begin here.
const FIRST_ID: u64 = 1_000;

/// Sellers and bidders are among so many of the latest persons, auctions that are bid for among the latest auctions.
const RECENT_PERSONS: u64 = 100;
const RECENT_AUCTIONS: u64 = 100;

/// A column of one of the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Id,
    Name,
    Email,
    CreditCard,
    City,
    State,
    ItemName,
    Description,
    InitialBid,
    Reserve,
    Expires,
    Seller,
    Category,
    Auction,
    Bidder,
    Price,
    Channel,
    Url,
    Extra,
    DateTime,
}

/// The columns of a stream, in order.
pub(super) const fn columns_of(stream: NexmarkStream) -> &'static [(&'static str, Kind, Column)] {
    match stream {
        NexmarkStream::Person => &[
            ("id", Kind::Int64, Column::Id),
            ("name", Kind::Text, Column::Name),
            ("email_address", Kind::Text, Column::Email),
            ("credit_card", Kind::Text, Column::CreditCard),
            ("city", Kind::Text, Column::City),
            ("state", Kind::Text, Column::State),
            ("date_time", Kind::TimestampMs, Column::DateTime),
            ("extra", Kind::Text, Column::Extra),
        ],
        NexmarkStream::Auction => &[
            ("id", Kind::Int64, Column::Id),
            ("item_name", Kind::Text, Column::ItemName),
            ("description", Kind::Text, Column::Description),
            ("initial_bid", Kind::Int64, Column::InitialBid),
            ("reserve", Kind::Int64, Column::Reserve),
            ("date_time", Kind::TimestampMs, Column::DateTime),
            ("expires", Kind::TimestampMs, Column::Expires),
            ("seller", Kind::Int64, Column::Seller),
            ("category", Kind::Int64, Column::Category),
            ("extra", Kind::Text, Column::Extra),
        ],
        NexmarkStream::Bid => &[
            ("auction", Kind::Int64, Column::Auction),
            ("bidder", Kind::Int64, Column::Bidder),
            ("price", Kind::Int64, Column::Price),
            ("channel", Kind::Text, Column::Channel),
            ("url", Kind::Text, Column::Url),
            ("date_time", Kind::TimestampMs, Column::DateTime),
            ("extra", Kind::Text, Column::Extra),
        ],
    }
}

impl NexmarkStream {
    /// How many of the events of a round are of this stream.
    pub(super) const fn share(self) -> u64 {
        match self {
            Self::Person => 1,
            Self::Auction => 3,
            Self::Bid => ROUND - 4,
        }
    }

    /// The number of the event that is row `row` of this stream.
    pub(super) const fn event(self, row: u64) -> u64 {
        let before = match self {
            Self::Person => 0,
            Self::Auction => 1,
            Self::Bid => 4,
        };
        (row / self.share()).wrapping_mul(ROUND) + before + row % self.share()
    }
}

/// Event time of an event: `start_ms + floor(event * interval_ns / 10⁶)`, saturating.
pub(super) fn time(series: Series, event: u64) -> EventTime {
    let ms = u128::from(event) * u128::from(series.interval_ns) / 1_000_000;
    series.start_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX))
}

/// A number of an event.
pub(super) fn number(column: Column, stream: NexmarkStream, series: Series, row: u64) -> i64 {
    let event = stream.event(row);
    let draw = series.draw(event);
    let round = event / ROUND;
    let value = match column {
        Column::Id => FIRST_ID + row,
        // persons of this round and before exist
        Column::Seller | Column::Bidder => FIRST_ID + recent(draw, round, RECENT_PERSONS),
        Column::Auction if within(draw, 2) == 0 => FIRST_ID + hot(round * 3 + 2, RECENT_AUCTIONS),
        Column::Auction => FIRST_ID + recent(draw.rotate_left(7), round * 3 + 2, RECENT_AUCTIONS),
        Column::Category => 10 + within(draw.rotate_left(13), 5),
        Column::Price | Column::InitialBid => price(draw.rotate_left(23)),
        Column::Reserve => price(draw.rotate_left(23)) + price(draw.rotate_left(31)),
        Column::Expires => {
            // long enough for some hundred events to fall in
            let lasts = (1 + within(draw.rotate_left(41), 20 * ROUND)) * series.interval_ns / 1_000_000;
            return time(series, event).saturating_add(i64::try_from(lasts.max(1)).unwrap_or(i64::MAX));
        }
        _ => return time(series, event),
    };
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Writes a text of an event.
pub(super) fn text(column: Column, stream: NexmarkStream, series: Series, row: u64, out: &mut String) {
    const FIRST: [&str; 10] = ["peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter"];
    const LAST: [&str; 9] = ["shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris"];
    const CITIES: [(&str, &str); 10] = [
        ("phoenix", "az"),
        ("los angeles", "ca"),
        ("san francisco", "ca"),
        ("boise", "id"),
        ("portland", "or"),
        ("bend", "or"),
        ("redmond", "wa"),
        ("seattle", "wa"),
        ("kent", "wa"),
        ("cheyenne", "wy"),
    ];
    const CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
    let event = stream.event(row);
    let draw = series.draw(event);
    let pick = |of: &[&'static str], bits: u64| of.get(within(bits, of.len() as u64) as usize).copied().unwrap_or("");
    let city = CITIES.get(within(draw.rotate_left(17), CITIES.len() as u64) as usize).copied().unwrap_or_default();
    // writing to a String does not fail
    let _ = match column {
        Column::Name => write!(out, "{} {}", pick(&FIRST, draw), pick(&LAST, draw.rotate_left(9))),
        Column::Email => write!(out, "{}{row}@{}.com", pick(&FIRST, draw), pick(&LAST, draw.rotate_left(9))),
        Column::CreditCard => {
            let part = |bits| within(series.draw(event ^ bits), 10_000);
            write!(out, "{:04} {:04} {:04} {:04}", part(1 << 60), part(1 << 61), part(1 << 62), part(1 << 63))
        }
        Column::City => out.write_str(city.0),
        Column::State => out.write_str(city.1),
        Column::Channel | Column::Url => {
            let channel = within(draw.rotate_left(37), 10_000);
            match (column, within(draw.rotate_left(29), 2)) {
                (Column::Channel, 0) => out.write_str(pick(&CHANNELS, draw.rotate_left(43))),
                (Column::Channel, _) => write!(out, "channel-{channel}"),
                (_, hot) => {
                    out.push_str("https://www.nexmark.com/");
                    for turn in [3, 19, 47] {
                        word(draw.rotate_left(turn), 3, 5, out);
                        out.push('/');
                    }
                    out.push_str("item.htm?query=1");
                    if hot == 1 { write!(out, "&channel_id={channel}") } else { Ok(()) }
                }
            }
        }
        Column::ItemName => {
            word(draw, 5, 15, out);
            Ok(())
        }
        _ => {
            (0..4).for_each(|turn| word(draw.rotate_left(turn * 11), 8, 14, out));
            Ok(())
        }
    };
}

/// One of the `among` latest of numbers up to `last`.
fn recent(draw: u64, last: u64, among: u64) -> u64 {
    last - within(draw, among.min(last + 1))
}

/// The same for all that come at about the same time: the latest multiple of `every`, or nothing better than 0.
const fn hot(last: u64, every: u64) -> u64 {
    last / every * every
}

/// 100 to 100 million, small ones as likely as large ones.
fn price(draw: u64) -> u64 {
    let exponent = 2.0 + 6.0 * (within(draw, 1 << 20) as f64 / f64::from(1 << 20));
    10_f64.powf(exponent) as u64
}

/// Lower-case letters, at least `least` and fewer than `most`.
fn word(mut draw: u64, least: u64, most: u64, out: &mut String) {
    for _ in 0..least + within(draw, most - least) {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.push(char::from(b'a' + within(draw, 26) as u8));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_streams_share_all_events_between_them() {
        let mut events: Vec<u64> = [NexmarkStream::Person, NexmarkStream::Auction, NexmarkStream::Bid]
            .into_iter()
            .flat_map(|stream| (0..stream.share() * 4).map(move |row| stream.event(row)))
            .collect();
        events.sort_unstable();
        assert_eq!(events, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn whoever_is_named_was_made_before() {
        let series = Series { seed: 3, start_ms: 0, interval_ns: 1_000_000 };
        for row in 0..2_000 {
            let event = NexmarkStream::Bid.event(row);
            let bidder = number(Column::Bidder, NexmarkStream::Bid, series, row) as u64 - FIRST_ID;
            assert!(NexmarkStream::Person.event(bidder) < event);
            let auction = number(Column::Auction, NexmarkStream::Bid, series, row) as u64 - FIRST_ID;
            assert!(NexmarkStream::Auction.event(auction) < event);
        }
    }
}
