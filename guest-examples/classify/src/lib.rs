//! Map with a configuration: how far a customer's event is on the way to a purchase, and what it is worth.
//!
//! Every event gets a stage (`visit`, `interest`, `intent`, `purchase`) and a score, the stage's weight. The weights are
//! configuration, so a swap to other weights is a swap of the same component. An unknown event is stage `other`, score 0.
//!
//! ```toml
//! [step.classified]
//! from = "events"
//! map = { component = "classify.wasm", config = { intent = 5, purchase = 25 } }
//! keep = "all"
//! ```

use millstream_sdk::Row;
use serde::Deserialize;

/// What is read of an event.
#[derive(Clone, Debug, Row)]
pub struct Event<'a> {
    /// `page_view`, `search`, `product_view`, `add_to_cart`, `checkout`, `purchase`
    #[column(name = "type")]
    pub kind: &'a str,
}

/// What is added to it.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Stage {
    /// how far the customer is
    pub stage: &'static str,
    /// the stage's weight
    pub score: i64,
}

/// `config = { .. }`: the weight of each stage.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// someone is there
    pub visit: i64,
    /// looks at something
    pub interest: i64,
    /// wants it
    pub intent: i64,
    /// bought it
    pub purchase: i64,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { visit: 1, interest: 2, intent: 5, purchase: 10 }
    }
}

/// The event's stage.
#[millstream_sdk::map]
pub fn classify(event: Event<'_>, weights: &Weights) -> Stage {
    let (stage, score) = match event.kind {
        "page_view" => ("visit", weights.visit),
        "search" | "product_view" => ("interest", weights.interest),
        "add_to_cart" | "checkout" => ("intent", weights.intent),
        "purchase" => ("purchase", weights.purchase),
        _ => ("other", 0),
    };
    Stage { stage, score }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::{Setting, testing};

    fn scores(config: &[(&str, Setting)]) -> Vec<i64> {
        let events = ["page_view", "search", "checkout", "purchase", "logout"].map(|kind| Event { kind });
        let instance: millstream_sdk::Columns<Stage> = testing::map::<classify, _, _>(config, events).unwrap();
        instance.int64("score").unwrap().to_vec()
    }

    #[test]
    fn each_stage_has_its_weight() {
        assert_eq!(scores(&[]), [1, 2, 5, 10, 0]);
    }

    #[test]
    fn weights_are_configuration() {
        assert_eq!(scores(&[("purchase", 100.into())]), [1, 2, 5, 100, 0]);
    }

    #[test]
    fn a_misspelt_stage_is_refused() {
        let error = testing::describe::<classify>(&[("purchse", 1.into())]).unwrap_err();
        assert!(error.contains("unknown field `purchse`"), "{error}");
    }
}
