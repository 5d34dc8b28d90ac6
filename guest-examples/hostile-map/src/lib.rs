//! Map for tests of failures: gives `value` back, unless the row asks for trouble.
//!
//! `boom` panics, `loop` never returns, `bomb` takes memory without end, `refuse` fails its row. Operators should not do
//! any of the first three; that one does must cost its row and nothing else.

use std::hint::black_box;

use millstream_sdk::Row;

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Asked<'a> {
    /// `boom`, `loop`, `bomb`, `refuse`, or anything harmless
    pub value: &'a str,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Given<'a> {
    /// as it came in
    pub value: &'a str,
}

/// The same text again.
#[millstream_sdk::map]
pub fn hostile_map(row: Asked<'_>) -> Result<Given<'_>, String> {
    match row.value {
        "boom" => panic!("went boom on purpose"),
        "loop" => loop {
            black_box(row.value);
        },
        "bomb" => {
            let mut taken = Vec::new();
            loop {
                taken.push(black_box(vec![1_u8; 1 << 20]));
            }
        }
        "refuse" => Err(format!("does not want \"{}\"", row.value)),
        value => Ok(Given { value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Failure, testing};

    #[test]
    fn harmless_rows_pass_and_refused_ones_fail_by_themselves() {
        let rows = |values: &[&'static str]| values.iter().map(|&value| Asked { value }).collect::<Vec<_>>();
        let given = testing::map::<hostile_map, _, Given<'_>>(&[], rows(&["a", "b"])).unwrap();
        assert_eq!(given.to_rows().unwrap(), [Given { value: "a" }, Given { value: "b" }]);
        let failure = testing::map::<hostile_map, _, Given<'_>>(&[], rows(&["a", "refuse"])).unwrap_err();
        let Failure::Rows(failed) = failure else { panic!("{failure}") };
        assert_eq!((failed.len(), failed[0].row), (1, 1));
    }
}
