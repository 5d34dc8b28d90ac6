//! Aggregate for tests of failures: the sum of `value`, unless the row's `word` asks for trouble, as in `hostile-map`.

use std::hint::black_box;

use millstream_sdk::{Aggregate, Row};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Asked<'a> {
    /// `boom`, `loop`, `bomb`, `refuse`, or anything harmless
    pub word: &'a str,
    /// what is added up
    pub value: i64,
}

/// Both what the host keeps and what comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Total {
    /// of all values
    pub sum: i64,
}

/// A sum of which there is no result.
pub const UNFINISHABLE: i64 = -666;

/// A sum that another is not added to.
pub const UNMERGEABLE: i64 = -667;

/// The operator.
#[derive(Default)]
pub struct HostileSum;

#[millstream_sdk::aggregate]
impl Aggregate for HostileSum {
    type Input<'a> = Asked<'a>;
    type Accumulator = Total;
    type Output = Total;

    fn create(&self) -> Total {
        Total { sum: 0 }
    }

    fn fold(&self, total: &mut Total, row: Asked<'_>) -> Result<(), String> {
        total.sum += row.value;
        match row.word {
            "boom" => panic!("went boom on purpose"),
            "loop" => loop {
                black_box(row.word);
            },
            "bomb" => {
                let mut taken = Vec::new();
                loop {
                    taken.push(black_box(vec![1_u8; 1 << 20]));
                }
            }
            "refuse" => Err(format!("does not want \"{}\"", row.word)),
            _ => Ok(()),
        }
    }

    fn merge(&self, left: &mut Total, right: Total) {
        assert!(left.sum != UNMERGEABLE && right.sum != UNMERGEABLE, "will not merge");
        left.sum += right.sum;
    }

    fn finish(&self, total: &Total) -> Total {
        assert!(total.sum != UNFINISHABLE, "will not finish");
        total.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Failure, testing};

    #[test]
    fn harmless_rows_are_added_up_and_refused_ones_fail_by_themselves() {
        let rows = |words: &[&'static str]| words.iter().map(|&word| Asked { word, value: 2 }).collect::<Vec<_>>();
        let sum = testing::aggregate::<HostileSum, _>(&[], rows(&["a", "b"])).unwrap();
        assert_eq!(sum.to_rows().unwrap(), [Total { sum: 4 }]);
        let failure = testing::aggregate::<HostileSum, _>(&[], rows(&["a", "refuse"])).unwrap_err();
        let Failure::Rows(failed) = failure else { panic!("{failure}") };
        assert_eq!((failed.len(), failed[0].row), (1, 1));
    }
}
