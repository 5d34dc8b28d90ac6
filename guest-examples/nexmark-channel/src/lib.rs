//! Flat map: the number of a bid's channel, known by name or read from its address; bids without one are left out
//! (Nexmark query 21).

use millstream_sdk::Row;

/// What is read of a bid.
#[derive(Clone, Debug, Row)]
pub struct Bid<'a> {
    /// where it was made
    pub channel: &'a str,
    /// the page
    pub url: &'a str,
}

/// What is added to it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Channel<'a> {
    /// the channel's number
    pub channel_id: &'a str,
}

/// The channel's number, if it has one.
#[millstream_sdk::flat_map]
pub fn nexmark_channel<'a>(bid: Bid<'a>) -> Option<Channel<'a>> {
    const KNOWN: [(&str, &str); 4] = [("apple", "0"), ("google", "1"), ("facebook", "2"), ("baidu", "3")];
    let known = KNOWN.iter().find(|(name, _)| bid.channel.eq_ignore_ascii_case(name));
    let channel_id = match known {
        Some((_, number)) => number,
        None => bid.url.split('&').find_map(|part| part.strip_prefix("channel_id="))?,
    };
    Some(Channel { channel_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn channels_are_known_by_name_or_by_the_address() {
        let bids = [("Apple", "u"), ("channel-1", "u?query=1&channel_id=42&x=1"), ("channel-2", "u?query=1")];
        let bids = bids.map(|(channel, url)| Bid { channel, url });
        let (origin, channels) = testing::flat_map::<nexmark_channel, _, Channel<'_>>(&[], bids).unwrap();
        assert_eq!(origin, [0, 1]);
        let channels: Vec<_> = channels.to_rows().unwrap().iter().map(|row| row.channel_id.to_owned()).collect();
        assert_eq!(channels, ["0", "42"]);
    }
}
