//! How rows get to a step, as written.

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
}
