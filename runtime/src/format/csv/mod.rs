//! CSV (RFC 4180): fields in the schema's order, separated by commas; quotes double inside quoted fields.
//!
//! An empty field without quotes is null, or empty text where the column allows no null; `""` is empty text.

mod decode;
mod encode;

pub(super) use decode::CsvDecoder;
pub(super) use encode::CsvEncoder;
