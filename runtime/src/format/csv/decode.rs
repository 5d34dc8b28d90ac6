//! CSV records → columns.

use std::borrow::Cow;

use memchr::memchr;

use crate::format::columns::{Column, Columns, Values};
use crate::format::decode::{self, Decoded};
use crate::format::frames::Frames;
use crate::format::{base64, timestamp};
use crate::record::{Kind, Schema};

/// Decodes CSV records.
pub(in crate::format) struct CsvDecoder {
    /// the wanted column of each field
    targets: Vec<Option<usize>>,
    /// names of all fields, if the record at offset 0 is a header
    header: Option<Vec<String>>,
}

impl CsvDecoder {
    pub(in crate::format) fn new(full: &Schema, wanted: &Schema, header: bool) -> Self {
        let names = full.fields().iter().map(|field| field.name.clone());
        Self {
            targets: names.clone().map(|name| wanted.index_of(&name)).collect(),
            header: header.then(|| names.collect()),
        }
    }

    /// Decodes all records of `frames`.
    pub(in crate::format) fn decode(&mut self, frames: &Frames, columns: &mut Columns) -> Decoded {
        let utf8 = decode::all_utf8(frames);
        decode::rows_until(frames, columns, |columns, index, range| {
            let record = frames.bytes.get(range).unwrap_or_default();
            if !utf8 {
                decode::check_utf8(record)?;
            }
            if let Some(names) = &self.header
                && frames.offsets.get(index) == Some(&0)
            {
                return check_header(record, names).map(|()| false);
            }
            self.row(record, columns).map(|()| true)
        })
    }

    fn row(&self, record: &[u8], columns: &mut Columns) -> Result<(), String> {
        let mut fields = Fields { record, at: Some(0) };
        for target in &self.targets {
            let Some(field) = fields.next()? else { break };
            if let Some(column) = target.and_then(|index| columns.open_cell(index)) {
                read_cell(column, &field)?;
            }
        }
        let mut more = 0;
        while fields.next()?.is_some() {
            more += 1;
        }
        if more > 0 {
            let expected = self.targets.len();
            return Err(format!("expected {expected} fields, got {}", expected + more));
        }
        columns.end_row()
    }
}

/// Refuses a header that does not name the columns in order: the fields are read by position.
fn check_header(record: &[u8], names: &[String]) -> Result<(), String> {
    let mut fields = Fields { record, at: Some(0) };
    let mut found = Vec::new();
    while let Some(field) = fields.next()? {
        found.push(String::from_utf8_lossy(&field.bytes).into_owned());
    }
    if found == names {
        return Ok(());
    }
    Err(format!(
        "expected the header `{}`, got `{}`; name the columns of the schema in this order",
        names.join(","),
        found.join(",")
    ))
}

/// One field, its quotes removed.
struct Field<'a> {
    bytes: Cow<'a, [u8]>,
    quoted: bool,
}

/// The fields of a record from left to right.
struct Fields<'a> {
    record: &'a [u8],
    /// where the next field starts; `None` after the last
    at: Option<usize>,
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<Field<'a>>, String> {
        let Some(at) = self.at else { return Ok(None) };
        let rest = self.record.get(at..).unwrap_or_default();
        if rest.first() == Some(&b'"') {
            return self.quoted(at + 1).map(Some);
        }
        let end = memchr(b',', rest);
        self.at = end.map(|end| at + end + 1);
        let bytes = end.and_then(|end| rest.get(..end)).unwrap_or(rest);
        Ok(Some(Field { bytes: Cow::Borrowed(bytes), quoted: false }))
    }

    /// The field after the quote before `at`.
    fn quoted(&mut self, mut at: usize) -> Result<Field<'a>, String> {
        let mut bytes = Cow::Borrowed(&[][..]);
        loop {
            let rest = self.record.get(at..).unwrap_or_default();
            let Some(quote) = memchr(b'"', rest) else {
                return Err("expected a quote at the end of a quoted field, got the end of the record".into());
            };
            // with its first quote, if two stand for one
            let doubled = rest.get(quote + 1) == Some(&b'"');
            let piece = rest.get(..quote + usize::from(doubled)).unwrap_or_default();
            if bytes.is_empty() {
                bytes = Cow::Borrowed(piece);
            } else {
                bytes.to_mut().extend_from_slice(piece);
            }
            at += quote + 1 + usize::from(doubled);
            if doubled {
                continue;
            }
            self.at = match self.record.get(at) {
                None => None,
                Some(b',') => Some(at + 1),
                Some(_) => return Err(format!("expected a comma after the closing quote at byte {at} of the record")),
            };
            return Ok(Field { bytes, quoted: true });
        }
    }
}

/// Appends the field to the column.
fn read_cell(column: &mut Column, field: &Field<'_>) -> Result<(), String> {
    if field.bytes.is_empty() && !(field.quoted && column.field.kind == Kind::Text) && column.push_null().is_some() {
        return Ok(());
    }
    if push(column, &field.bytes).is_some() {
        return Ok(());
    }
    let got = String::from_utf8_lossy(field.bytes.get(..256).unwrap_or(&field.bytes));
    Err(format!("column `{}`: expected {}, got `{got}`", column.field.name, column.field.kind))
}

/// Appends the value that `field` stands for; `None` where it stands for none of the column's kind.
fn push(column: &mut Column, field: &[u8]) -> Option<()> {
    let text = || std::str::from_utf8(field).ok();
    match &mut column.values {
        Values::Boolean(values) => values.push(match field {
            b"true" => true,
            b"false" => false,
            _ => return None,
        }),
        Values::Int64(values) => match text()?.parse() {
            Ok(value) => values.push(value),
            Err(_) if column.field.kind == Kind::TimestampMs => values.push(timestamp::parse(field)?),
            Err(_) => return None,
        },
        Values::Float64(values) => values.push(text()?.parse().ok()?),
        Values::Bytes(texts) if column.field.kind == Kind::Binary => {
            base64::decode(field, &mut texts.bytes)?;
            texts.end_cell()?;
        }
        Values::Bytes(texts) => texts.push(field)?,
    }
    Some(())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
