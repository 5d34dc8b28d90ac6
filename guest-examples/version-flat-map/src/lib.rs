//! Flat map for tests of swaps: one row for each row, or two, with the version in them.
//!
//! Tests make the other version by writing `twice-rows` over [`VERSION`] in the component's file.

use std::hint::black_box;

use millstream_sdk::Row;

/// What tests replace; of fixed length.
static VERSION: &str = "once-a-row";

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
    pub copies: &'static str,
}

/// As many rows as the version makes of one.
#[millstream_sdk::flat_map]
pub fn version_flat_map(_row: Numbered) -> impl Iterator<Item = Seen> {
    let copies = black_box(VERSION);
    std::iter::repeat_n(Seen { copies }, if copies == "twice-rows" { 2 } else { 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn a_row_stays_one() {
        let rows = [3, 4].map(|sequence| Numbered { sequence });
        let (origin, _) = testing::flat_map::<version_flat_map, _, Seen>(&[], rows).unwrap();
        assert_eq!(origin, [0, 1]);
    }
}
