//! Partition: keys that bring most of the rows have the first tasks to themselves, one each; the others share the rest.

use millstream_sdk::{Row, serde};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Keyed {
    /// whose row it is
    pub key: i64,
}

/// Which keys are hot.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(crate = "millstream_sdk::serde")]
pub struct Hot {
    /// so many keys from 0 on
    pub hot: i64,
}

/// The task of a row.
#[millstream_sdk::partition]
pub fn hot_keys(row: Keyed, targets: u32, hot: &Hot) -> u32 {
    let apart = hot.hot.clamp(0, i64::from(targets) - 1);
    let task = if (0..apart).contains(&row.key) { row.key } else { apart + row.key.rem_euclid(i64::from(targets) - apart) };
    task as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    fn routes(hot: i64, targets: u32) -> Vec<u32> {
        let rows = [0, 1, 2, 3, 4, -1].map(|key| Keyed { key });
        testing::partition::<hot_keys, _>(&[("hot", hot.into())], rows, targets).unwrap()
    }

    #[test]
    fn hot_keys_have_tasks_of_their_own_as_far_as_there_are_tasks() {
        assert_eq!(routes(2, 4), [0, 1, 2, 3, 2, 3]);
        assert_eq!(routes(0, 2), [0, 1, 0, 1, 0, 1]);
        assert_eq!(routes(5, 1), [0; 6]);
    }
}
