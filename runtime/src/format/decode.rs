//! Bytes → columns: the decoder of a source, and what all formats share of it.
//!
//! A record that cannot be decoded costs itself alone and comes back as a [`BadRecord`] with the reason; its
//! neighbours are decoded as if it had not been there. Which records are bad depends only on the record, the schema
//! and the wanted columns, never on batch boundaries or on what was decoded before.

use std::ops::Range;

use arrow_array::RecordBatch;
use thiserror::Error;

use super::columns::Columns;
use super::csv::CsvDecoder;
use super::frames::Frames;
use super::json::JsonDecoder;
use super::msgpack::MsgpackDecoder;
use super::spec::Format;
use super::whole;
use crate::limits;
use crate::record::{Field, Kind, Schema};

/// Bytes kept of a bad record, for the dead-letter output.
pub(super) const BAD_RECORD_BYTES: usize = 64 << 10;

/// Bytes kept of a reason: serde quotes whatever it was given.
const REASON_BYTES: usize = limits::GUEST_REASON_BYTES;

/// Decodes the records of one source partition.
///
/// | kind | JSON | MessagePack | CSV |
/// |---|---|---|---|
/// | `boolean` | `true`, `false` | boolean | `true`, `false` |
/// | `int64` | a number without fraction and exponent | integer | digits |
/// | `float64` | any number | integer or float | a number, `NaN`, `inf` |
/// | `text` | string | str | the field |
/// | `binary` | standard base64 with padding | bin, or str | base64 |
/// | `timestamp_ms` | milliseconds, or a string `2023-09-18T14:23:10Z`, `2015-07-15 00:00:01.001` | the same | the same |
/// | null | `null` or no such key | nil or no such key | an empty field without quotes |
///
/// Keys that no wanted column has are ignored, whatever their values.
pub struct Decoder {
    columns: Columns,
    inner: Inner,
}

enum Inner {
    Json(JsonDecoder),
    Msgpack(MsgpackDecoder),
    Csv(CsvDecoder),
    /// text and raw: the record is the cell
    Whole,
}

impl Decoder {
    /// A decoder of records whose columns are `full`, in this order where the format has one (CSV, MessagePack arrays),
    /// into the columns `wanted`, which may be none: then only the number of good records matters.
    ///
    /// `csv_header`: a CSV record at offset 0 is the header, which must name the columns of `full` in order.
    ///
    /// # Errors
    /// Where the format cannot have the wanted columns.
    pub fn new(format: Format, full: &Schema, wanted: &Schema, csv_header: bool) -> Result<Self, DecoderError> {
        let inner = match format {
            Format::Json => Inner::Json(JsonDecoder::new(wanted)),
            Format::Msgpack => Inner::Msgpack(MsgpackDecoder::new(full, wanted)),
            Format::Csv => {
                if let Some(field) = wanted.fields().iter().find(|field| full.index_of(&field.name).is_none()) {
                    return Err(DecoderError::NotInSchema { column: field.clone(), schema: full.to_string() });
                }
                Inner::Csv(CsvDecoder::new(full, wanted, csv_header))
            }
            Format::Text => whole_record(format, Kind::Text, wanted)?,
            Format::Raw => whole_record(format, Kind::Binary, wanted)?,
            Format::Parquet => return Err(DecoderError::FilesOnly { format: format.name() }),
        };
        Ok(Self { columns: Columns::new(wanted), inner })
    }

    /// Decodes all records of `frames`. May take `frames.bytes` away (text and raw do, to save the copy); clear the
    /// frames afterwards.
    pub fn decode(&mut self, frames: &mut Frames) -> Decoded {
        match &mut self.inner {
            Inner::Json(json) => json.decode(frames, &mut self.columns),
            Inner::Msgpack(msgpack) => msgpack.decode(frames, &mut self.columns),
            Inner::Csv(csv) => csv.decode(frames, &mut self.columns),
            Inner::Whole => whole::decode(frames, &mut self.columns),
        }
    }
}

/// The decoder of text or raw records, which have the one column `value`.
fn whole_record(format: Format, kind: Kind, wanted: &Schema) -> Result<Inner, DecoderError> {
    match wanted.fields() {
        [] => Ok(Inner::Whole),
        [field] if field.kind == kind && field.name == "value" => Ok(Inner::Whole),
        fields => {
            let other = fields.iter().find(|field| field.kind != kind || field.name != "value");
            let column = other.or(fields.last()).cloned().unwrap_or_else(|| Field::new("", kind));
            Err(DecoderError::NotWholeRecord { format: format.name(), kind, column })
        }
    }
}

/// Why there can be no such decoder.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DecoderError {
    /// text and raw records are one column
    #[error(
        "format `{format}` has the one column `value: {kind}`, but the column `{column}` is read; \
         read `value: {kind}`, or choose the format json, msgpack or csv"
    )]
    NotWholeRecord {
        /// name of the format
        format: &'static str,
        /// what its column holds
        kind: Kind,
        /// what was asked for
        column: Field,
    },
    /// the format has no records that could come one by one
    #[error("format `{format}` is for files only; expected json, msgpack, csv, text or raw")]
    FilesOnly {
        /// name of the format
        format: &'static str,
    },
    /// CSV has no column names
    #[error("column `{column}` is read, but the csv schema has only: {schema}; add it to the source's `schema`")]
    NotInSchema {
        /// what was asked for
        column: Field,
        /// what there is
        schema: String,
    },
}

/// What became of a batch of records.
#[derive(Debug)]
pub struct Decoded {
    /// the good records, in order; its schema is that of the wanted columns
    pub columns: RecordBatch,
    /// for each row the index of its record; `None`: all records are rows, one to one
    pub origin: Option<Vec<u32>>,
    /// the bad records, in order
    pub bad: Vec<BadRecord>,
}

/// A record that could not be decoded or framed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRecord {
    /// index among the records given to the decoder; for a framer, how many records it had pushed before
    pub index: u32,
    /// its entry in [`Frames::offsets`]
    pub offset: u64,
    /// the record, cut after 64 KiB
    pub bytes: Vec<u8>,
    /// what is wrong with it: column, expected, got
    pub reason: String,
}

impl BadRecord {
    pub(super) fn new(index: usize, offset: u64, record: &[u8], mut reason: String) -> Self {
        if reason.len() > REASON_BYTES {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES));
            reason.push_str(" ...");
        }
        let kept = record.get(..BAD_RECORD_BYTES).unwrap_or(record);
        Self { index: u32::try_from(index).unwrap_or(u32::MAX), offset, bytes: kept.to_vec(), reason }
    }
}

/// Runs `row` over all records. It appends a row to the columns and ends it, or gives the reason why it cannot.
pub(super) fn rows(
    frames: &Frames,
    columns: &mut Columns,
    mut row: impl FnMut(&mut Columns, Range<usize>) -> Result<(), String>,
) -> Decoded {
    rows_until(frames, columns, |columns, _, range| row(columns, range).map(|()| true))
}

/// As [`rows`], and a record for which `row` gives `false` is neither a row nor bad.
pub(super) fn rows_until(
    frames: &Frames,
    columns: &mut Columns,
    row: impl FnMut(&mut Columns, usize, Range<usize>) -> Result<bool, String>,
) -> Decoded {
    let rows = Rows::of(frames, columns, row);
    match columns.take() {
        Ok(columns) => Decoded { columns, origin: rows.origin, bad: rows.bad },
        Err(error) => {
            // only text can fail, and a format that does not check it while decoding sees to that itself
            let bad = (0..frames.len()).map(|index| bad_record(frames, index, error.to_string())).collect();
            Decoded { columns: columns.none(), origin: Some(Vec::new()), bad }
        }
    }
}

/// What is known of the records once all have been read.
pub(super) struct Rows {
    pub(super) origin: Option<Vec<u32>>,
    pub(super) bad: Vec<BadRecord>,
}

impl Rows {
    /// Runs `row` over all records and leaves the good ones in `columns`.
    pub(super) fn of(
        frames: &Frames,
        columns: &mut Columns,
        mut row: impl FnMut(&mut Columns, usize, Range<usize>) -> Result<bool, String>,
    ) -> Self {
        let mut origin: Option<Vec<u32>> = None;
        let mut bad = Vec::new();
        let mut start = 0;
        for (index, &end) in (0_u32..).zip(&frames.ends) {
            let range = start..end as usize;
            start = range.end;
            let place = index as usize;
            match row(columns, place, range) {
                Ok(true) => {
                    if let Some(origin) = &mut origin {
                        origin.push(index);
                    }
                    continue;
                }
                Ok(false) => {}
                Err(reason) => bad.push(bad_record(frames, place, reason)),
            }
            columns.undo_row();
            origin.get_or_insert_with(|| (0..index).collect());
        }
        Self { origin, bad }
    }
}

pub(super) fn bad_record(frames: &Frames, index: usize, reason: String) -> BadRecord {
    BadRecord::new(index, frames.offsets.get(index).copied().unwrap_or(0), frames.get(index), reason)
}

/// Whether all records are UTF-8, found out in one pass.
pub(super) fn all_utf8(frames: &Frames) -> bool {
    let Ok(text) = simdutf8::basic::from_utf8(&frames.bytes) else { return false };
    frames.ends.iter().all(|&end| text.is_char_boundary(end as usize))
}

/// Refuses a record that is not UTF-8 and says where.
pub(super) fn check_utf8(record: &[u8]) -> Result<(), String> {
    simdutf8::compat::from_utf8(record).map(drop).map_err(|error| format!("the record is not UTF-8: {error}"))
}
