//! What flows: typed column batches with an event time a row, and the control elements between them.

mod batch;
mod element;
mod position;
mod schema;

pub use batch::{Batch, EventTime, NO_EVENT_TIME};
pub use element::{Barrier, BarrierId, Element, Watermark};
pub use position::{Position, Positions};
pub use schema::{Field, Kind, Schema};
