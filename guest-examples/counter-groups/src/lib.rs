//! Map: two groupings of a running number: its remainder, and itself with every tenth put together.

use millstream_sdk::Row;

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Impulse {
    /// a running number
    pub counter: i64,
}

/// What is added.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Groups {
    /// remainder by 5
    pub counter_mod: i64,
    /// 0 for every tenth, else the number
    pub user_id: i64,
}

/// The groups of the number.
#[millstream_sdk::map]
pub fn counter_groups(impulse: Impulse) -> Groups {
    let user_id = if impulse.counter % 10 == 0 { 0 } else { impulse.counter };
    Groups { counter_mod: impulse.counter % 5, user_id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn every_tenth_number_is_of_one_user() {
        let impulses = [20, 7].map(|counter| Impulse { counter });
        let groups = testing::map::<counter_groups, _, Groups>(&[], impulses).unwrap().to_rows().unwrap();
        assert_eq!(groups, [Groups { counter_mod: 0, user_id: 0 }, Groups { counter_mod: 2, user_id: 7 }]);
    }
}
