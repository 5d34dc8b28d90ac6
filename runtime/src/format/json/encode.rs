//! Columns → JSON objects.
//!
//! Every column is written, null ones as `null`. Floats are written as the shortest text that reads back the same
//! (`1.0` keeps its fraction); NaN and infinities, which JSON lacks, as `null`. Binary is base64, times are
//! milliseconds. arrow-json would write times as text and leave the format of floats to itself.

use super::text_scan::find_special;
use crate::format::base64;
use crate::format::cells::{Cell, Cells};
use crate::record::Schema;

/// Encodes rows as JSON objects.
pub(in crate::format) struct JsonEncoder {
    /// what stands before each value: `{"a":`, `,"b":`
    before: Vec<Vec<u8>>,
}

impl JsonEncoder {
    pub(in crate::format) fn new(schema: &Schema) -> Self {
        let before = schema.fields().iter().enumerate().map(|(index, field)| {
            let mut before = vec![if index == 0 { b'{' } else { b',' }];
            text(field.name.as_bytes(), &mut before);
            before.push(b':');
            before
        });
        Self { before: before.collect() }
    }

    /// Appends one row.
    pub(in crate::format) fn row(&self, cells: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
        let mut itoa = itoa::Buffer::new();
        for (column, before) in cells.iter().zip(&self.before) {
            out.extend_from_slice(before);
            match column.get(row) {
                Cell::Null => out.extend_from_slice(b"null"),
                Cell::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
                Cell::Int64(value) => out.extend_from_slice(itoa.format(value).as_bytes()),
                Cell::Float64(value) => float(value, out),
                Cell::Text(value) => text(value, out),
                Cell::Binary(value) => {
                    out.push(b'"');
                    base64::encode(value, out);
                    out.push(b'"');
                }
            }
        }
        out.extend_from_slice(if self.before.is_empty() { b"{}" } else { b"}" });
    }
}

fn float(value: f64, out: &mut Vec<u8>) {
    let start = out.len();
    // a vector takes every byte and a float always has a text, so this does not fail
    if serde_json::to_writer(&mut *out, &value).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

/// Appends a string with quotes; only `"`, `\` and control characters are escaped.
fn text(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut plain = 0;
    while let Some(special) = find_special(value, plain) {
        out.extend_from_slice(value.get(plain..special).unwrap_or_default());
        let byte = value.get(special).copied().unwrap_or_default();
        match byte {
            b'"' | b'\\' => out.extend([b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
                out.extend_from_slice(b"\\u00");
                out.extend([hex(byte >> 4), hex(byte & 15)]);
            }
        }
        plain = special + 1;
    }
    out.extend_from_slice(value.get(plain..).unwrap_or_default());
    out.push(b'"');
}
