//! How rows get to a step, as written.

use std::time::Duration;

use super::spec::ComponentSpec;
use crate::error::Spanned;
use crate::partition::SplitPoints;

/// `partition = ..`
#[derive(Clone, Debug, PartialEq)]
pub enum PartitionSpec {
    /// `"forward"`: task i to task i
    Forward,
    /// `"rebalance"`: evenly
    Rebalance,
    /// `"broadcast"`: all rows to all tasks
    Broadcast,
    /// `{ key = ["a"] }`: rows with equal values to one task
    Key(Vec<Spanned<String>>),
    /// `{ hash = "row" }`: equal rows to one task
    Row,
    /// `{ range = { column = "price", splits = [10, 100] } }`
    Range {
        /// whose values are cut
        column: Spanned<String>,
        /// where ranges begin
        splits: Spanned<SplitPoints>,
    },
    /// `{ range = { column = "price", sample = 1000 } }`: ranges that get about as many rows each
    SampledRange {
        /// whose values are cut
        column: Spanned<String>,
        /// how many of them each sending task keeps
        values: Spanned<usize>,
        /// time from one cut of the ranges to the next
        every: Duration,
    },
    /// `{ custom = "router.wasm" }`: a component says which task
    Custom(ComponentSpec),
}

/// The name under which the partitioner of a step runs, is swapped and shows in figures. No step can have it: a name has no dot.
pub fn route_name(step: &str) -> String {
    format!("{step}.partition")
}
