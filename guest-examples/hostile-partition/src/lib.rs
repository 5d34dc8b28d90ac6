//! Partition for tests of failures: sends a row where its `value` says, or asks for trouble.
//!
//! `boom` panics, `loop` never returns, `refuse` fails its row; other text that is no number goes to task 0.

use std::hint::black_box;

use millstream_sdk::Row;

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Asked<'a> {
    /// the number of a task, or trouble
    pub value: &'a str,
}

/// The task that the row names, whether there is such a one or not.
#[millstream_sdk::partition]
pub fn hostile_partition(row: Asked<'_>, _targets: u32) -> Result<u32, String> {
    match row.value {
        "boom" => panic!("went boom on purpose"),
        "loop" => loop {
            black_box(row.value);
        },
        "refuse" => Err(format!("does not want \"{}\"", row.value)),
        value => Ok(value.parse().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Failure, testing};

    #[test]
    fn a_row_for_a_task_that_does_not_exist_fails_alone() {
        let rows = |values: &[&'static str]| values.iter().map(|&value| Asked { value }).collect::<Vec<_>>();
        assert_eq!(testing::partition::<hostile_partition, _>(&[], rows(&["1", "a"]), 2).unwrap(), [1, 0]);
        let failure = testing::partition::<hostile_partition, _>(&[], rows(&["1", "2", "refuse"]), 2).unwrap_err();
        let Failure::Rows(failed) = failure else { panic!("{failure}") };
        assert_eq!(failed.iter().map(|failed| failed.row).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(failed[0].reason, "the row is routed to task 2, expected 0 to 1");
    }
}
