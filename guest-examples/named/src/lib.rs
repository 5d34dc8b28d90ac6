//! Map with a configuration: the same name for every row, so that rows of united streams can be told apart.

use millstream_sdk::Row;
use serde::Deserialize;

/// What is read: one column, since an operator must read something.
#[derive(Clone, Debug, Row)]
pub struct Impulse {
    /// a running number
    pub counter: i64,
}

/// What is put out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Named<'a> {
    /// as it came
    pub counter: i64,
    /// the configured name
    pub source: &'a str,
}

/// `config = { .. }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// the name
    pub name: String,
}

/// The row under the configured name.
#[millstream_sdk::map]
pub fn named<'a>(impulse: Impulse, config: &'a Config) -> Named<'a> {
    Named { counter: impulse.counter, source: &config.name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn rows_have_the_name() {
        let named = testing::map::<named, _, Named<'_>>(&[("name", "first".into())], [Impulse { counter: 4 }]).unwrap();
        assert_eq!(named.to_rows().unwrap(), [Named { counter: 4, source: "first" }]);
    }
}
