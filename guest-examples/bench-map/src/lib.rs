//! Map for benchmarks: one column of integers to one of floating point numbers, the cheapest map that makes something.

use millstream_sdk::Row;

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Cents {
    /// in cents
    pub amount: i64,
}

/// What is made of it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Euros {
    /// in euros
    pub euros: f64,
}

/// Cents as euros.
#[millstream_sdk::map]
pub fn bench_map(cents: Cents) -> Euros {
    Euros { euros: cents.amount as f64 * 0.01 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn a_hundred_cents_are_a_euro() {
        let euros = testing::map::<bench_map, _, Euros>(&[], [Cents { amount: 100 }]).unwrap().to_rows().unwrap();
        assert_eq!(euros, [Euros { euros: 1.0 }]);
    }
}
