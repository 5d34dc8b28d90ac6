//! Filter for tests of swaps: keeps even rows, or odd ones.
//!
//! Tests make the other version by writing `keep-odd-` over [`VERSION`] in the component's file.

use std::hint::black_box;

use millstream_sdk::Row;

/// What tests replace; of fixed length.
static VERSION: &str = "keep-even";

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Numbered {
    /// the row's number
    pub sequence: i64,
}

/// Whether the version wants the row.
#[millstream_sdk::filter]
pub fn version_filter(row: Numbered) -> bool {
    (row.sequence % 2 == 0) == (black_box(VERSION) == "keep-even")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn even_rows_are_kept() {
        let rows = [0, 1, 2].map(|sequence| Numbered { sequence });
        assert_eq!(testing::filter::<version_filter, _>(&[], rows).unwrap(), [true, false, true]);
    }
}
