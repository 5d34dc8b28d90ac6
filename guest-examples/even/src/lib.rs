//! Filter: keeps rows whose `value` is even.
//!
//! The shortest operator there is. The loop over the column is the SDK's, and compiles to vector instructions.

use millstream_sdk::Row;

/// A number.
#[derive(Clone, Debug, Row)]
pub struct Number {
    /// the number
    pub value: i64,
}

/// Whether the number is even.
#[millstream_sdk::filter]
pub fn even(number: Number) -> bool {
    number.value % 2 == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn even_numbers_stay_negative_ones_too() {
        let numbers = [0, 1, -2, -3, i64::MIN, i64::MAX].map(|value| Number { value });
        assert_eq!(testing::filter::<even, _>(&[], numbers).unwrap(), [true, false, true, false, true, false]);
    }
}
