//! Filter with a configuration: rows whose `count` is more than `minimum`.

use millstream_sdk::Row;
use serde::Deserialize;

/// What is read of a result.
#[derive(Clone, Debug, Row)]
pub struct Counted {
    /// how many
    pub count: i64,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// the largest count that is left out
    pub minimum: i64,
}

/// Whether there are more.
#[millstream_sdk::filter]
pub fn more_than(counted: Counted, config: &Config) -> bool {
    counted.count > config.minimum
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn the_minimum_itself_is_not_enough() {
        let counted = [2, 3].map(|count| Counted { count });
        assert_eq!(testing::filter::<more_than, _>(&[("minimum", 2.into())], counted).unwrap(), [false, true]);
    }
}
