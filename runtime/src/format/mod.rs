//! Bytes ↔ columns, natively, only the columns that somebody needs.
//!
//! ```text
//!   bytes ──Framer──▶ Frames ──Decoder──▶ columns + bad records          columns ──Encoder──▶ Frames
//! ```
//!
//! JSON and MessagePack have a quick projecting reader each (`json/scan.rs`, `msgpack/skim.rs`) in front of one serde
//! seed (`seed.rs`). The seed is the reference: it decides every odd case, and property tests hold the two together.
//! Parquet (`parquet/`) stands apart: a whole file to columns and back, without frames.
//! Nothing here panics, recurses without a bound or allocates by a length that a record claims.

mod base64;
mod cells;
mod columns;
mod csv;
mod decode;
mod encode;
mod framer;
mod frames;
mod json;
mod msgpack;
mod parquet;
mod seed;
mod spec;
mod timestamp;
mod whole;

pub use decode::{BadRecord, Decoded, Decoder, DecoderError};
pub use encode::{Encoder, EncoderError};
pub use framer::Framer;
pub use frames::Frames;
pub use parquet::{ParquetError, ParquetFile, ParquetReader, ParquetRows, ParquetWriter};
pub use spec::{Format, Framing};

pub(crate) use base64::{decode as decode_base64, encode as encode_base64};
pub(crate) use timestamp::parse as parse_timestamp;

#[cfg(test)]
mod tests;
