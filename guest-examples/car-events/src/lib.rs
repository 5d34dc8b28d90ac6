//! Filter with a configuration: events of one kind, and of one driver if one is named.

use millstream_sdk::Row;
use serde::Deserialize;

/// What is read of an event.
#[derive(Clone, Debug, Row)]
pub struct Event<'a> {
    /// who
    pub driver_id: i64,
    /// `pickup` or `dropoff`
    pub event_type: &'a str,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// the kind that is kept
    pub event: String,
    /// the driver whose events are kept; all if none is named
    pub driver: Option<i64>,
}

/// Whether the event is wanted.
#[millstream_sdk::filter]
pub fn car_events(event: Event<'_>, config: &Config) -> bool {
    event.event_type == config.event && config.driver.is_none_or(|driver| driver == event.driver_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Setting, testing};

    #[test]
    fn without_a_driver_all_are_wanted() {
        let events = || {
            [(1, "pickup"), (2, "pickup"), (1, "dropoff")]
                .map(|(driver_id, event_type)| Event { driver_id, event_type })
        };
        let one: [(&str, Setting); 2] = [("event", "pickup".into()), ("driver", 1.into())];
        assert_eq!(testing::filter::<car_events, _>(&one, events()).unwrap(), [true, false, false]);
        assert_eq!(testing::filter::<car_events, _>(&one[..1], events()).unwrap(), [true, true, false]);
    }
}
