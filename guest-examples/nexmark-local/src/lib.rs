//! Filter: auctions of one category whose seller lives in one of three states (Nexmark query 3).

use millstream_sdk::Row;

/// What is read of an auction with its seller.
#[derive(Clone, Debug, Row)]
pub struct Offer<'a> {
    /// where the seller lives
    pub state: &'a str,
    /// of the auction
    pub category: i64,
}

/// Whether the offer is local.
#[millstream_sdk::filter]
pub fn nexmark_local(offer: Offer<'_>) -> bool {
    offer.category == 10 && matches!(offer.state, "or" | "id" | "ca")
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing;

    #[test]
    fn both_must_fit() {
        let offers = [("or", 10), ("or", 11), ("wa", 10)].map(|(state, category)| Offer { state, category });
        assert_eq!(testing::filter::<nexmark_local, _>(&[], offers).unwrap(), [true, false, false]);
    }
}
