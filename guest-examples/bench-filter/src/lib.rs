//! Filter for benchmarks: one comparison a row, the cheapest filter that looks at something.

use millstream_sdk::Row;

/// What is read.
#[derive(Clone, Debug, Row)]
pub struct Order {
    /// 0 to 999 in the benchmarks
    pub amount: i64,
}

/// Keeps one row of ten where amounts are uniform in 0..1000.
#[millstream_sdk::filter]
pub fn bench_filter(order: Order) -> bool {
    order.amount >= 900
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn the_bound_itself_is_kept() {
        let orders = [899, 900, 901].map(|amount| Order { amount });
        assert_eq!(testing::filter::<bench_filter, _>(&[], orders).unwrap(), [false, true, true]);
    }
}
