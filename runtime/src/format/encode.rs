//! Columns → bytes: the encoder of a sink.

use arrow_array::RecordBatch;
use thiserror::Error;

use super::cells::{Cell, Cells};
use super::csv::CsvEncoder;
use super::frames::Frames;
use super::json::JsonEncoder;
use super::msgpack::MsgpackEncoder;
use super::spec::Format;
use crate::record::{Field, Kind, Schema};

/// Encodes the rows of a sink as records; a [`Decoder`](super::Decoder) reads back what was written, but for NaN and
/// infinities, which are `null` in JSON, and nulls in text, raw and CSV of one text column, which are empty.
pub struct Encoder {
    schema: Schema,
    inner: Inner,
}

enum Inner {
    Json(JsonEncoder),
    Msgpack(MsgpackEncoder),
    Csv(CsvEncoder),
    /// text and raw: the column at this place is the record, the others are not written
    Whole(usize),
}

impl Encoder {
    /// An encoder of rows with the columns `schema`.
    ///
    /// Text writes the text column `value`, or else the only text column; raw the same among text and binary columns.
    ///
    /// # Errors
    /// Where text or raw have no such column, and for Parquet, which has no records.
    pub fn new(format: Format, schema: &Schema) -> Result<Self, EncoderError> {
        let inner = match format {
            Format::Json => Inner::Json(JsonEncoder::new(schema)),
            Format::Msgpack => Inner::Msgpack(MsgpackEncoder::new(schema)?),
            Format::Csv => Inner::Csv(CsvEncoder),
            Format::Text => Inner::Whole(whole_column(format, schema, &[Kind::Text])?),
            Format::Raw => Inner::Whole(whole_column(format, schema, &[Kind::Text, Kind::Binary])?),
            Format::Parquet => return Err(EncoderError::FilesOnly { format: format.name() }),
        };
        Ok(Self { schema: schema.clone(), inner })
    }

    /// Appends each row as a record to `out.bytes` and its end to `out.ends`, without separators.
    ///
    /// # Errors
    /// Where the batch does not have the encoder's columns, or `out` would exceed 4 GiB; `out` is then as before.
    pub fn encode(&mut self, columns: &RecordBatch, out: &mut Frames) -> Result<(), EncoderError> {
        let cells = self.cells(columns)?;
        let (bytes, ends) = (out.bytes.len(), out.ends.len());
        let done = self.rows(&cells, columns.num_rows(), out);
        if done.is_err() {
            out.bytes.truncate(bytes);
            out.ends.truncate(ends);
        }
        done
    }

    fn cells<'a>(&self, columns: &'a RecordBatch) -> Result<Vec<Cells<'a>>, EncoderError> {
        let fields = self.schema.fields();
        let cells = fields.iter().enumerate().map(|(index, field)| {
            let array = columns.columns().get(index);
            array.and_then(|array| Cells::new(array, field.kind)).ok_or_else(|| EncoderError::Column {
                expected: field.clone(),
                index,
                got: array.map_or_else(|| "nothing".into(), |array| array.data_type().to_string()),
            })
        });
        cells.collect()
    }

    fn rows(&self, cells: &[Cells<'_>], rows: usize, out: &mut Frames) -> Result<(), EncoderError> {
        out.ends.reserve(rows);
        for row in 0..rows {
            match &self.inner {
                Inner::Json(json) => json.row(cells, row, &mut out.bytes),
                Inner::Msgpack(msgpack) => {
                    msgpack.row(cells, row, &mut out.bytes).map_err(|_| EncoderError::TooLarge)?;
                }
                Inner::Csv(csv) => csv.row(cells, row, &mut out.bytes),
                Inner::Whole(index) => {
                    if let Some(Cell::Text(value) | Cell::Binary(value)) = cells.get(*index).map(|cells| cells.get(row))
                    {
                        out.bytes.extend_from_slice(value);
                    }
                }
            }
            out.ends.push(u32::try_from(out.bytes.len()).map_err(|_| EncoderError::TooLarge)?);
        }
        Ok(())
    }
}

/// The column that is the whole record.
fn whole_column(format: Format, schema: &Schema, kinds: &[Kind]) -> Result<usize, EncoderError> {
    let possible = schema.fields().iter().enumerate().filter(|(_, field)| kinds.contains(&field.kind));
    let mut possible = possible.collect::<Vec<_>>();
    if possible.len() > 1 {
        possible.retain(|(_, field)| field.name == "value");
    }
    match possible[..] {
        [(index, _)] => Ok(index),
        _ => Err(EncoderError::NoWholeColumn {
            format: format.name(),
            kinds: if format == Format::Text { "text" } else { "text or binary" },
            schema: schema.to_string(),
        }),
    }
}

/// Why rows cannot be encoded.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EncoderError {
    /// text and raw write one column
    #[error(
        "format `{format}` writes the {kinds} column `value`, or the only {kinds} column, but the columns are: \
         {schema}; keep one such column, or choose the format json, msgpack or csv"
    )]
    NoWholeColumn {
        /// name of the format
        format: &'static str,
        /// what the column may hold
        kinds: &'static str,
        /// the columns there are
        schema: String,
    },
    /// the format has no records that could be written one by one
    #[error("format `{format}` is for files only; expected json, msgpack, csv, text or raw")]
    FilesOnly {
        /// name of the format
        format: &'static str,
    },
    /// the batch is not of the encoder's schema
    #[error("expected column `{expected}` at position {index} of the batch, got {got}")]
    Column {
        /// the encoder's column
        expected: Field,
        /// its position
        index: usize,
        /// Arrow's type of what stands there
        got: String,
    },
    /// more than 4 GiB in one batch of records
    #[error("the encoded records exceed 4 GiB; encode smaller batches")]
    TooLarge,
}
