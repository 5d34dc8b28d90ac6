//! Filter: groups with at least the average number of rows, rounded down (Nexmark query 102).

use millstream_sdk::Row;

/// A group beside the totals of all groups.
#[derive(Clone, Debug, Row)]
pub struct Group {
    /// rows of the group
    pub rows: i64,
    /// rows of all groups
    pub rows_total: i64,
    /// groups
    pub groups: i64,
}

/// Whether the group has as many rows as groups have on average.
#[millstream_sdk::filter]
pub fn above_average(group: Group) -> Result<bool, &'static str> {
    let average = group.rows_total.checked_div_euclid(group.groups).ok_or("there are no groups")?;
    Ok(group.rows >= average)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn the_average_is_rounded_down_and_needs_groups() {
        let group = |rows, groups| Group { rows, rows_total: 11, groups };
        assert_eq!(testing::filter::<above_average, _>(&[], [group(3, 3), group(2, 3)]).unwrap(), [true, false]);
        assert!(testing::filter::<above_average, _>(&[], [group(3, 0)]).is_err());
    }
}
