//! Write Millstream operators in Rust.
//!
//! An operator is a plain function over plain structs. The structs say which columns it reads and which it produces:
//!
//! ```
//! use millstream_sdk::Row;
//!
//! #[derive(Row)]
//! struct Bid<'a> {
//!     auction: i64,
//!     price: f64,
//!     url: &'a str,
//! }
//!
//! #[derive(Row)]
//! struct EuroBid<'a> {
//!     auction: i64,
//!     euro: f64,
//!     url: &'a str,
//! }
//!
//! #[millstream_sdk::map]
//! fn to_euro(bid: Bid<'_>) -> EuroBid<'_> {
//!     EuroBid { auction: bid.auction, euro: bid.price * 0.908, url: bid.url }
//! }
//!
//! let bid = Bid { auction: 7, price: 100.0, url: "http://example.org" };
//! assert_eq!(to_euro(bid).euro, 90.8);
//! ```
//!
//! - [`map`] turns each row into one row, [`filter`] keeps or drops it, [`flat_map`] turns it into any number of rows,
//!   and [`aggregate`](macro@aggregate) folds rows into an accumulator that the host keeps.
//! - A function may answer `Result<_, E>` with any `E: Display`: an error is the failure of that row alone, and the
//!   step's `on_error` says what becomes of it.
//! - A function may take a last parameter `&T` with `T: Deserialize`: the step's `config`, read once for each
//!   instance. A configuration that does not fit is refused when the pipeline is planned, with serde's message.
//! - A function over [`Columns`] works on whole columns: the fastest form there is.
//! - [`process`](macro@process) handles rows key by key with state and timers that the host keeps.
//! - [`window_process`](macro@window_process) is handed all rows of a window and key at once.
//! - [`partition`](macro@partition) decides which task of a step gets a row.
//! - [`migrate`] takes over what another version of an aggregate or processor has kept.
//! - Nothing may be kept between calls. What an aggregate remembers is its accumulator, what a processor does its state.
//!
//! The function stays an ordinary function, so `cargo test` tests it natively, and [`testing`] runs it over rows
//! through the same conversion to columns and back that the host does. For wasm32, and only there, the macros also
//! export it as a component.

extern crate self as millstream_sdk;

mod aggregate;
mod cell;
mod columns;
mod contract;
mod host;
pub mod migrate;
mod operator;
mod packed;
mod process;
mod row;
mod settings;
pub mod testing;
mod varlen;
mod window_process;

#[doc(hidden)]
pub mod drive;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod export;

pub use aggregate::{Aggregate, Verdict};
pub use cell::{Cell, ReadCell, Timestamp};
pub use columns::Columns;
pub use contract::{
    Batch, Column, Expansion, Failure, Field, Kind, RowFailure, Signature, StateSchema, Values, Varlen,
};
pub use host::{Level, counter, gauge, log};
pub use migrate::MigrateOperator;
pub use millstream_sdk_macros::{Row, aggregate, filter, flat_map, map, partition, process, window_process};
pub use operator::{
    AggregateOperator, FilterOperator, FlatMapOperator, MapOperator, Operator, PartitionOperator, WindowProcessOperator,
};
pub use packed::Packed;
pub use process::contract::{Call, Outcome, ProcessSignature, SideOutput, SideRows, Timers};
pub use process::{Clock, Context, List, Map, Process, ProcessOperator, Side, Timer};
pub use row::{ReadRow, Row};
pub use serde;
pub use settings::{Setting, Settings};
pub use window_process::{WindowCall, WindowRows};
