//! What the macros make of a function: an operator as the host calls it.
//!
//! `#[map] fn to_euro(..)` also makes a type `to_euro` that implements [`MapOperator`]. Nobody implements these by hand.

use crate::aggregate::Aggregate;
use crate::contract::{Batch, Expansion, Failure, Signature};
use crate::settings::Settings;
use crate::window_process::WindowCall;

/// What all operators have in common.
pub trait Operator {
    /// What is made once for each instance: the configuration, read.
    type Instance: 'static;

    /// Reads the configuration; the error refuses it, for people.
    fn configure(settings: &Settings) -> Result<Self::Instance, String>;
    /// What the operator reads, produces and remembers.
    fn signature() -> Signature;
}

/// One row out for each row in.
pub trait MapOperator: Operator {
    /// Row i of the answer replaces row i of `input`.
    fn transform(instance: &Self::Instance, input: Batch) -> Result<Batch, Failure>;
}

/// Keeps or drops rows.
pub trait FilterOperator: Operator {
    /// One byte a row: 1 keeps it, 0 drops it.
    fn select(instance: &Self::Instance, input: Batch) -> Result<Vec<u8>, Failure>;
}

/// Any number of rows out for each row in.
pub trait FlatMapOperator: Operator {
    /// The rows, each with the input row that it came from.
    fn expand(instance: &Self::Instance, input: Batch) -> Result<Expansion, Failure>;
}

/// Any number of rows for each window.
pub trait WindowProcessOperator: Operator {
    /// The rows, each with the number of the window that it came from.
    fn process(instance: &Self::Instance, call: &WindowCall) -> Result<Expansion, Failure>;
}

/// Decides which task gets a row.
pub trait PartitionOperator: Operator {
    /// For each row a number less than `targets`.
    fn route(instance: &Self::Instance, input: Batch, targets: u32) -> Result<Vec<u32>, Failure>;
}

/// Folds rows into accumulators.
pub trait AggregateOperator: Aggregate + Operator<Instance = Self> {
    /// version of the accumulator's fields and their meaning
    const VERSION: u32;
}
