//! Columns → CSV records.

use crate::format::base64;
use crate::format::cells::{Cell, Cells};

/// Encodes rows as CSV records.
pub(in crate::format) struct CsvEncoder;

impl CsvEncoder {
    /// Appends one row.
    pub(in crate::format) fn row(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
        let mut itoa = itoa::Buffer::new();
        let start = out.len();
        for (index, column) in cells.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match column.get(row) {
                Cell::Null => {}
                Cell::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
                Cell::Int64(value) => out.extend_from_slice(itoa.format(value).as_bytes()),
                Cell::Float64(value) => out.extend_from_slice(format!("{value:?}").as_bytes()),
                Cell::Text(value) => text(value, out),
                Cell::Binary(value) => base64::encode(value, out),
            }
        }
        if out.len() == start && cells.len() == 1 {
            // a line without a byte is no record
            out.extend_from_slice(b"\"\"");
        }
    }
}

/// Appends a text field, in quotes where it needs them. Empty text does: without quotes it would be null.
fn text(value: &[u8], out: &mut Vec<u8>) {
    let plain = !value.is_empty() && !value.iter().any(|byte| matches!(byte, b',' | b'"' | b'\n' | b'\r'));
    if plain {
        out.extend_from_slice(value);
        return;
    }
    out.push(b'"');
    for (index, piece) in value.split(|&byte| byte == b'"').enumerate() {
        if index > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(piece);
    }
    out.push(b'"');
}
