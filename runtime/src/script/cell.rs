//! Values of columns: read from JSON, taken from batches, compared and shown.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use serde_json::Value;

use super::read::kind_of;
use crate::format::{decode_base64, encode_base64, parse_timestamp};
use crate::record::Kind;

/// How far two floats may be apart, relative to the larger one, to count as equal.
const TOLERANCE: f64 = 1e-9;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    /// also NaN and infinities, which JSON writes so
    Null,
    Boolean(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Binary(Vec<u8>),
    TimeMs(i64),
}

impl Cell {
    /// What `value` means in a column of `kind`; `Err` says what was expected.
    pub(super) fn expected(value: &Value, kind: Kind) -> Result<Self, String> {
        let wrong = || format!("expected {}, found {}", words(kind), kind_of(value));
        match (kind, value) {
            (_, Value::Null) => Ok(Self::Null),
            (Kind::Boolean, Value::Bool(value)) => Ok(Self::Boolean(*value)),
            (Kind::Int64 | Kind::Float64, Value::Number(number)) => match number.as_i64() {
                Some(int) => Ok(Self::Int(int)),
                None => number.as_f64().map(Self::Float).ok_or_else(wrong),
            },
            (Kind::Text, Value::String(text)) => Ok(Self::Text(text.clone())),
            (Kind::Binary, Value::String(text)) => {
                let mut bytes = Vec::new();
                decode_base64(text.as_bytes(), &mut bytes).ok_or_else(wrong)?;
                Ok(Self::Binary(bytes))
            }
            (Kind::TimestampMs, Value::Number(number)) => match number.as_i64() {
                Some(ms) => Ok(Self::TimeMs(ms)),
                None => number.as_f64().map(Self::Float).ok_or_else(wrong),
            },
            (Kind::TimestampMs, Value::String(text)) => {
                parse_timestamp(text.as_bytes()).map(Self::TimeMs).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }

    /// The value of a row; null beyond the column's end or where it holds something unknown.
    pub(super) fn of(column: &ArrayRef, row: usize) -> Self {
        if row >= column.len() || column.is_null(row) {
            return Self::Null;
        }
        let cell = match Kind::from_data_type(column.data_type()) {
            Some(Kind::Boolean) => column.as_boolean_opt().map(|column| Self::Boolean(column.value(row))),
            Some(Kind::Int64) => column.as_primitive_opt::<Int64Type>().map(|column| Self::Int(column.value(row))),
            Some(Kind::Float64) => column.as_primitive_opt::<Float64Type>().map(|column| match column.value(row) {
                value if value.is_finite() => Self::Float(value),
                _ => Self::Null,
            }),
            Some(Kind::Text) => column.as_string_opt::<i32>().map(|column| Self::Text(column.value(row).to_owned())),
            Some(Kind::Binary) => {
                column.as_binary_opt::<i32>().map(|column| Self::Binary(column.value(row).to_owned()))
            }
            Some(Kind::TimestampMs) => {
                column.as_primitive_opt::<TimestampMillisecondType>().map(|column| Self::TimeMs(column.value(row)))
            }
            None => None,
        };
        cell.unwrap_or(Self::Null)
    }

    /// Whether a cell that came is what was expected: whole numbers must be equal in value, floats nearly so.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn is(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Float(found), Self::Float(expected)) => near(*found, *expected),
            (Self::Float(found), Self::Int(expected)) => near(*found, *expected as f64),
            (Self::Int(found) | Self::TimeMs(found), Self::Float(expected)) => equal(*found, *expected),
            (found, expected) => found == expected,
        }
    }

    /// As the JSON format writes it.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Boolean(value) => (*value).into(),
            Self::Int(value) | Self::TimeMs(value) => (*value).into(),
            Self::Float(value) => (*value).into(),
            Self::Text(value) => value.as_str().into(),
            Self::Binary(bytes) => {
                let mut text = Vec::new();
                encode_base64(bytes, &mut text);
                String::from_utf8_lossy(&text).into()
            }
        }
    }
}

fn near(one: f64, other: f64) -> bool {
    one == other || (one - other).abs() <= TOLERANCE * one.abs().max(other.abs())
}

/// Whether a whole number and a float are the same number.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // the second way decides
fn equal(int: i64, float: f64) -> bool {
    int as f64 == float && float as i64 == int
}

/// What JSON has for a kind.
fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "true or false (the column is boolean)",
        Kind::Int64 => "a number (the column is int64)",
        Kind::Float64 => "a number (the column is float64)",
        Kind::Text => "text (the column is text)",
        Kind::Binary => "base64 text with padding (the column is binary)",
        Kind::TimestampMs => "milliseconds or a time like 2024-01-01T00:00:00Z (the column is timestamp_ms)",
    }
}
