//! Map: visits to a shop by what they are worth, with one segment more than `segment`, which it replaces in the demo.

use millstream_sdk::Row;

/// What is read of a visit.
#[derive(Clone, Debug, Row)]
pub struct Visit<'a> {
    /// `add_to_cart`, `order`
    pub event: &'a str,
    /// what was ordered for; 0 for a cart
    pub amount: f64,
}

/// What is made of it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Segment<'a> {
    /// `cart`, `small`, `medium`, `large`
    pub segment: &'a str,
}

/// The visit's segment.
#[millstream_sdk::map]
pub fn segment(visit: Visit<'_>) -> Segment<'_> {
    let segment = match visit.event {
        "add_to_cart" => "cart",
        _ if visit.amount < 100.0 => "small",
        _ if visit.amount < 250.0 => "medium",
        _ => "large",
    };
    Segment { segment }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_told_apart_by_their_amount() {
        let of = |event, amount| segment(Visit { event, amount }).segment;
        assert_eq!([of("order", 99.99), of("order", 100.0), of("order", 250.0)], ["small", "medium", "large"]);
    }
}
