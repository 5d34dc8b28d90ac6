//! Aggregate: totals of orders that come and go, customers counted once while they have any order.
//!
//! Who has how many orders is a map in the accumulator, one binary column of MessagePack.

use std::collections::BTreeMap;

use millstream_sdk::{Aggregate, Packed, Row};

/// An order that comes or goes.
#[derive(Clone, Debug, Row)]
pub struct Change<'a> {
    /// 1 if it comes, -1 if it goes
    pub sign: i64,
    /// who ordered
    pub customer: &'a str,
    /// how many
    pub quantity: i64,
}

/// What the host keeps for each key.
#[derive(Clone, Debug, Row)]
pub struct Totals {
    /// orders
    pub orders: i64,
    /// of all orders
    pub quantity: i64,
    /// orders by customer
    pub customers: Packed<BTreeMap<String, i64>>,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Result {
    /// orders
    pub c: i64,
    /// customers with orders
    pub d: i64,
    /// of all orders, 5 more for each, and 10
    pub q: i64,
}

/// The operator.
#[derive(Default)]
pub struct ChangeTotals;

#[millstream_sdk::aggregate]
impl Aggregate for ChangeTotals {
    type Input<'a> = Change<'a>;
    type Accumulator = Totals;
    type Output = Result;

    fn create(&self) -> Totals {
        Totals { orders: 0, quantity: 0, customers: Packed(BTreeMap::new()) }
    }

    fn fold(&self, totals: &mut Totals, change: Change<'_>) {
        totals.orders += change.sign;
        totals.quantity += change.sign * (change.quantity + 5);
        *totals.customers.0.entry(change.customer.to_owned()).or_default() += change.sign;
    }

    fn merge(&self, left: &mut Totals, right: Totals) {
        left.orders += right.orders;
        left.quantity += right.quantity;
        for (customer, orders) in right.customers.0 {
            *left.customers.0.entry(customer).or_default() += orders;
        }
    }

    fn finish(&self, totals: &Totals) -> Result {
        let d = totals.customers.0.values().filter(|orders| **orders > 0).count() as i64;
        Result { c: totals.orders, d, q: totals.quantity + 10 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn a_customer_whose_orders_are_gone_does_not_count() {
        let changes = [(1, "ann", 3), (1, "bob", 1), (-1, "ann", 3)];
        let changes = changes.map(|(sign, customer, quantity)| Change { sign, customer, quantity });
        let result = testing::aggregate::<ChangeTotals, _>(&[], changes).unwrap().to_rows().unwrap().remove(0);
        assert_eq!(result, Result { c: 1, d: 1, q: 16 });
    }
}
