//! JSON: one object a record.

mod encode;
mod number;
mod scan;
mod text_scan;

pub(super) use encode::JsonEncoder;
pub(super) use scan::JsonDecoder;
