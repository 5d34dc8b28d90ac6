//! The data of `wit/processor.wit` as Rust types, the same natively and on wasm32.

use crate::contract::{Batch, Field, StateSchema};

/// An output beside the operator's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SideOutput {
    /// its name
    pub name: String,
    /// its columns
    pub fields: Vec<Field>,
}

/// What a processor reads, produces and remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSignature {
    /// fields read from the first input
    pub inputs: Vec<Field>,
    /// fields read from the second input; `None`: there is only one
    pub second_inputs: Option<Vec<Field>>,
    /// key columns that it wants to know
    pub keys: Vec<Field>,
    /// fields produced
    pub outputs: Vec<Field>,
    /// further outputs, by number
    pub sides: Vec<SideOutput>,
    /// the state of one key
    pub state: StateSchema,
}

/// Timers of keys, in lists of one length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timers {
    /// number of the key in the call
    pub groups: Vec<u32>,
    /// when each fires, ms
    pub times: Vec<i64>,
    /// 0: event time, 1: processing time
    pub clocks: Vec<u8>,
}

/// What is to be done: rows of one input, or timers that are due.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// the host's clock, ms
    pub now: i64,
    /// how far event time has come, ms
    pub watermark: i64,
    /// one row a key
    pub keys: Batch,
    /// one byte a key: 1 where there is state
    pub present: Vec<u8>,
    /// the state of the keys that have any
    pub state: Batch,
    /// the input that the rows are of
    pub port: u32,
    /// number of the key by row
    pub groups: Vec<u32>,
    /// event time by row, ms
    pub times: Vec<i64>,
    /// the rows
    pub input: Batch,
    /// timers that are due
    pub fired: Timers,
}

/// Rows for a further output.
#[derive(Clone, Debug, PartialEq)]
pub struct SideRows {
    /// number of the output
    pub side: u32,
    /// for each row the row or timer of the call that it came from, never decreasing
    pub origin: Vec<u32>,
    /// the rows
    pub output: Batch,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// one byte a key: 1 where there is state from now on
    pub present: Vec<u8>,
    /// the state of the keys that have any
    pub state: Batch,
    /// for each row of `output` the row or timer of the call that it came from, never decreasing
    pub origin: Vec<u32>,
    /// the rows
    pub output: Batch,
    /// rows for further outputs
    pub sides: Vec<SideRows>,
    /// timers that no longer hold
    pub deleted: Timers,
    /// timers to set, after those were deleted
    pub set: Timers,
}
