//! Keys of several columns as bytes, so that equal keys have equal bytes.
//!
//! ```text
//! row      null bits (bit i of byte i / 8: column i is null), then the values that are not null, in order
//! boolean  1 byte, 0 or 1
//! int64, timestamp_ms   zigzag LEB128, 1 to 10 bytes
//! float64  8 bytes, little endian, canonical (see `canonical_float`)
//! text, binary          length as LEB128, bytes
//! ```
//!
//! Lives in memory and in scratch files only; checkpoints write key columns, not these bytes.

use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;

use super::StateError;
use super::arrays::{ColumnBuilder, is_word, varlen, words};
use crate::record::{Field, Kind};

/// -0.0 is the key 0.0, and all NaNs are one key.
pub(crate) fn canonical_float(bits: u64) -> u64 {
    let value = f64::from_bits(bits);
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        bits
    }
}

/// Bytes of many rows: row i is `bytes[offsets[i] .. offsets[i + 1]]`.
#[derive(Debug, Default)]
pub(crate) struct KeyRows {
    pub(super) offsets: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl KeyRows {
    /// The bytes of row `row`; nothing if there is no such row.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        let range = self.offsets.get(row).zip(self.offsets.get(row + 1));
        range.and_then(|(start, end)| self.bytes.get(*start..*end)).unwrap_or_default()
    }
}

enum Cells<'a> {
    Words(std::borrow::Cow<'a, [u64]>),
    Varlen(&'a [i32], &'a [u8]),
}

impl KeyRows {
    /// Replaces what was there by the rows of `columns`.
    pub(crate) fn encode(&mut self, fields: &[Field], columns: &[&ArrayRef], rows: usize) -> Result<(), StateError> {
        let mut cells: Vec<(Kind, Cells<'_>, Option<&NullBuffer>)> = Vec::with_capacity(columns.len());
        for (field, array) in fields.iter().zip(columns) {
            let values = if is_word(field.kind) {
                Cells::Words(words(field, array)?)
            } else {
                let (offsets, bytes) = varlen(field, array)?;
                Cells::Varlen(offsets, bytes)
            };
            cells.push((field.kind, values, array.nulls()));
        }
        self.bytes.clear();
        self.offsets.clear();
        self.offsets.push(0);
        for row in 0..rows {
            for group in cells.chunks(8) {
                let null_bits = (0..).zip(group).fold(0, |bits, (bit, (_, _, nulls))| {
                    bits | u8::from(nulls.is_some_and(|nulls| nulls.is_null(row))) << bit
                });
                self.bytes.push(null_bits);
            }
            for (kind, values, nulls) in &cells {
                if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                    self.push_cell(*kind, values, row);
                }
            }
            self.offsets.push(self.bytes.len());
        }
        Ok(())
    }

    fn push_cell(&mut self, kind: Kind, values: &Cells<'_>, row: usize) {
        match values {
            Cells::Words(words) => {
                let word = words.get(row).copied().unwrap_or_default();
                match kind {
                    Kind::Boolean => self.bytes.push(word as u8),
                    Kind::Float64 => self.bytes.extend_from_slice(&canonical_float(word).to_le_bytes()),
                    _ => self.push_number(word << 1 ^ (word as i64 >> 63) as u64),
                }
            }
            Cells::Varlen(offsets, bytes) => {
                let range = offsets.get(row).zip(offsets.get(row + 1));
                let value = range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize));
                let value = value.unwrap_or_default();
                self.push_number(value.len() as u64);
                self.bytes.extend_from_slice(value);
            }
        }
    }

    fn push_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }
}

/// Appends the values of one encoded key to the columns; None if the bytes are not such a key.
pub(super) fn decode(fields: &[Field], key: &[u8], columns: &mut [ColumnBuilder]) -> Option<Result<(), StateError>> {
    let (null_bits, mut rest) = key.split_at_checked(fields.len().div_ceil(8))?;
    for (at, (field, column)) in fields.iter().zip(columns).enumerate() {
        let pushed = if null_bits.get(at / 8)? >> (at % 8) & 1 == 1 {
            column.push_null()
        } else {
            match field.kind {
                Kind::Boolean => column.push_word(u64::from(*rest.split_off_first()?)),
                Kind::Float64 => {
                    column.push_word(u64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?));
                }
                Kind::Int64 | Kind::TimestampMs => {
                    let zigzag = take_number(&mut rest)?;
                    column.push_word(zigzag >> 1 ^ (zigzag & 1).wrapping_neg());
                }
                Kind::Text | Kind::Binary => {
                    let length = usize::try_from(take_number(&mut rest)?).ok()?;
                    if let Err(error) = column.push_bytes(rest.split_off(..length)?) {
                        return Some(Err(error));
                    }
                }
            }
            Ok(())
        };
        if pushed.is_err() {
            return Some(pushed);
        }
    }
    rest.is_empty().then_some(Ok(()))
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
