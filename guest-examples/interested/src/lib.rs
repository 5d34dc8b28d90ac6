//! Filter: keeps the visits to a shop in which the customer did more than look at a page. The demo's first operator.

use millstream_sdk::Row;

/// What is read of a visit.
#[derive(Clone, Debug, Row)]
pub struct Visit<'a> {
    /// `page_view`, `add_to_cart`, `order`
    pub event: &'a str,
}

/// Whether there was any interest in buying.
#[millstream_sdk::filter]
pub fn interested(visit: Visit<'_>) -> bool {
    visit.event != "page_view"
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn page_views_are_dropped() {
        let visits = ["page_view", "add_to_cart", "order"].map(|event| Visit { event });
        assert_eq!(testing::filter::<interested, _>(&[], visits).unwrap(), [false, true, true]);
    }
}
