//! Map for tests of swaps: says which version of it saw the row.
//!
//! Tests make versions by writing other letters over those of [`VERSION`] in the component's file. A version that is
//! `trap-` and digits panics on rows whose `sequence` can be divided by that number.

use std::hint::black_box;

use millstream_sdk::Row;

/// What tests replace; of fixed length.
static VERSION: &str = "version-000a";

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Numbered {
    /// the row's number
    pub sequence: i64,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Seen {
    /// by which version
    pub version: &'static str,
}

/// The version at work.
#[millstream_sdk::map]
pub fn version_map(row: Numbered) -> Seen {
    let version = black_box(VERSION);
    if let Some(digits) = version.strip_prefix("trap-") {
        let every: i64 = digits.parse().unwrap_or(1);
        assert!(row.sequence % every.max(1) != 0, "row {} is one to trap on", row.sequence);
    }
    Seen { version }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Columns, testing};

    #[test]
    fn rows_bear_the_version() {
        let seen: Columns<Seen> = testing::map::<version_map, _, _>(&[], [Numbered { sequence: 1 }]).unwrap();
        assert_eq!(seen.text("version").unwrap().get(0).unwrap(), VERSION.as_bytes());
    }
}
