//! JSON objects → columns: a projecting scanner in front of the serde seed.
//!
//! The scanner never decides that a record is bad. It reads the plain cases, which are nearly all; at any surprise it
//! gives the record to [`RowSeed`], and serde_json accepts it or words the error. What is quick about it:
//!
//! - The bytes between two values (`,"price":`, order and white space included) are compared with those of the record
//!   before. Only where they differ is a key read and looked up. What was remembered never changes a result: the same
//!   bytes mean the same at the same place.
//! - Text ends are found 16 bytes at a time, digits read 8 at a time, nesting skipped without recursion.
//! - UTF-8 is checked once a batch. An accepted record starts with `{` and ends with `}` or white space, so in a batch
//!   that is UTF-8 as a whole each accepted record is, too.
//!
//! It may read on into the next record of the batch; every step is followed by a comparison with the record's end.

use serde::de::DeserializeSeed;

use super::number;
use super::text_scan::find_special;
use crate::format::columns::{Column, Columns, Texts, Values};
use crate::format::frames::Frames;
use crate::format::seed::{Dialect, Names, RowSeed};
use crate::format::{base64, decode, timestamp};
use crate::record::{Kind, Schema};

/// Places in a record that are remembered, and the longest text between two values: bounds, not tuning.
const PLACES_MAX: usize = 1_024;
const BETWEEN_BYTES_MAX: usize = 256;

/// Misses in a batch after which nothing new is remembered: its records share no layout.
const MISSES_MAX: u32 = 256;

/// Levels of nesting that the scanner skips itself, one bit each.
const DEPTH_MAX: u32 = 64;

/// What stood before the value at one place of the record before.
#[derive(Default)]
struct Between {
    bytes: Vec<u8>,
    /// the wanted column that the value belongs to
    target: Option<usize>,
}

/// Decodes JSON objects; remembers the layout of the last one.
pub(in crate::format) struct JsonDecoder {
    names: Names,
    layout: Vec<Between>,
    misses: u32,
}

/// What follows a value.
enum Next {
    Value { at: usize, target: Option<usize> },
    End,
}

impl JsonDecoder {
    pub(in crate::format) fn new(wanted: &Schema) -> Self {
        Self { names: Names::new(wanted), layout: Vec::new(), misses: 0 }
    }

    /// Decodes all records of `frames`.
    pub(in crate::format) fn decode(&mut self, frames: &Frames, columns: &mut Columns) -> decode::Decoded {
        self.misses = 0;
        let utf8 = decode::all_utf8(frames);
        decode::rows(frames, columns, |columns, range| {
            let record = frames.bytes.get(range.clone()).unwrap_or_default();
            if !utf8 {
                decode::check_utf8(record)?;
            }
            if self.scan(columns, &frames.bytes, range.start, range.end).is_some() {
                return Ok(());
            }
            columns.undo_row();
            reference(record, &self.names, columns)
        })
    }

    /// Reads the record `at..end`. `None` is a surprise: undo the row and let serde_json decide.
    fn scan(&mut self, columns: &mut Columns, bytes: &[u8], mut at: usize, end: usize) -> Option<()> {
        let mut cells = 0;
        for place in 0.. {
            let rest = bytes.get(at..end)?;
            let target = match self.layout.get(place) {
                Some(known) if !known.bytes.is_empty() && rest.starts_with(&known.bytes) => {
                    at += known.bytes.len();
                    known.target
                }
                _ => match self.between(bytes, at, end, place)? {
                    Next::End => break,
                    Next::Value { at: value, target } => {
                        at = value;
                        target
                    }
                },
            };
            at = match target {
                None => skip_value(bytes, at, end)?,
                Some(index) => {
                    cells += 1;
                    read_cell(columns.open_cell(index)?, bytes, skip_space(bytes, at, end), end)?
                }
            };
        }
        if cells == columns.width() {
            columns.end_full_row();
            return Some(());
        }
        columns.end_row().ok()
    }

    /// Reads what stands between two values, or after the last, and remembers it.
    fn between(&mut self, bytes: &[u8], start: usize, end: usize, place: usize) -> Option<Next> {
        let mut at = skip_space(bytes, start, end);
        if place == 0 {
            at = skip_space(bytes, expect(bytes, at, end, b'{')?, end);
        }
        if bytes.get(at..end)?.first() == Some(&b'}') {
            return (skip_space(bytes, at + 1, end) == end).then_some(Next::End);
        }
        if place > 0 {
            at = skip_space(bytes, expect(bytes, at, end, b',')?, end);
        }
        let key = expect(bytes, at, end, b'"')?;
        let key_end = find_special(bytes, key).filter(|&quote| bytes.get(quote) == Some(&b'"'))?;
        let target = self.names.get(bytes.get(key..key_end)?);
        at = expect(bytes, skip_space(bytes, key_end + 1, end), end, b':')?;
        self.remember(place, bytes.get(start..at)?, target);
        Some(Next::Value { at, target })
    }

    fn remember(&mut self, place: usize, between: &[u8], target: Option<usize>) {
        if self.misses >= MISSES_MAX || place >= PLACES_MAX || between.len() > BETWEEN_BYTES_MAX {
            return;
        }
        self.misses += 1;
        if place >= self.layout.len() {
            self.layout.resize_with(place + 1, Between::default);
        }
        if let Some(known) = self.layout.get_mut(place) {
            known.bytes.clear();
            known.bytes.extend_from_slice(between);
            known.target = target;
        }
    }
}

/// The record as serde_json reads it; whoever calls has undone the row and checked UTF-8.
pub(super) fn reference(record: &[u8], names: &Names, columns: &mut Columns) -> Result<(), String> {
    let mut deserializer = serde_json::Deserializer::from_slice(record);
    let row = RowSeed { columns: &mut *columns, names, dialect: Dialect::Json };
    row.deserialize(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| error.to_string())?;
    columns.end_row()
}

/// The place after `byte`, if that is what stands at `at`.
#[inline]
fn expect(bytes: &[u8], at: usize, end: usize, byte: u8) -> Option<usize> {
    (bytes.get(at..end)?.first() == Some(&byte)).then_some(at + 1)
}

/// The first place from `at` on that is no white space, `end` at the latest.
#[inline]
fn skip_space(bytes: &[u8], at: usize, end: usize) -> usize {
    let rest = bytes.get(at..end).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count()
}

/// Reads the value at `at` into the column and returns where it ends.
#[inline]
fn read_cell(column: &mut Column, bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let first = *bytes.get(at..end)?.first()?;
    if first == b'n' {
        column.push_null()?;
        return literal(bytes, at, b"null");
    }
    match &mut column.values {
        Values::Int64(values) if first != b'"' => {
            let (value, after) = number::integer(bytes, at)?;
            values.push(value);
            Some(after)
        }
        Values::Int64(values) if column.field.kind == Kind::TimestampMs => {
            let close = plain_end(bytes, at + 1)?;
            values.push(timestamp::parse(bytes.get(at + 1..close)?)?);
            Some(close + 1)
        }
        Values::Int64(_) => None,
        Values::Float64(values) => {
            let (value, after) = number::float(bytes, at)?;
            values.push(value);
            Some(after)
        }
        Values::Boolean(values) => {
            values.push(first == b't');
            literal(bytes, at, if first == b't' { b"true" } else { b"false" })
        }
        Values::Bytes(_) if first != b'"' => None,
        Values::Bytes(texts) if column.field.kind == Kind::Text => read_text(texts, bytes, at),
        Values::Bytes(texts) => {
            let close = plain_end(bytes, at + 1)?;
            base64::decode(bytes.get(at + 1..close)?, &mut texts.bytes)?;
            texts.end_cell()?;
            Some(close + 1)
        }
    }
}

/// The place of the quote that ends a text without escapes.
#[inline]
fn plain_end(bytes: &[u8], at: usize) -> Option<usize> {
    find_special(bytes, at).filter(|&special| bytes.get(special) == Some(&b'"'))
}

/// Reads the text whose opening quote stands at `at`.
#[inline]
fn read_text(texts: &mut Texts, bytes: &[u8], at: usize) -> Option<usize> {
    let special = find_special(bytes, at + 1)?;
    if bytes.get(special) == Some(&b'"') {
        texts.push(bytes.get(at + 1..special)?)?;
        return Some(special + 1);
    }
    let after = skip_text(bytes, at)?;
    let text: String = serde_json::from_slice(bytes.get(at..after)?).ok()?;
    texts.push(text.as_bytes())?;
    Some(after)
}

/// Where the text ends whose opening quote stands at `at`. Escapes are checked as serde_json checks those it ignores.
fn skip_text(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at = find_special(bytes, at)?;
        match (bytes.get(at)?, bytes.get(at + 1)) {
            (b'"', _) => return Some(at + 1),
            (b'\\', Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
            (b'\\', Some(b'u')) if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
            _ => return None,
        }
    }
}

fn literal(bytes: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    bytes.get(at..)?.starts_with(word).then_some(at + word.len())
}

/// Where the value ends that starts at `at` or after white space. Nesting costs a bit a level, and beyond
/// [`DEPTH_MAX`] serde_json goes on, which does not recurse into what it ignores either.
fn skip_value(bytes: &[u8], mut at: usize, end: usize) -> Option<usize> {
    let mut objects = 0_u64;
    let mut depth = 0;
    loop {
        at = skip_space(bytes, at, end);
        let first = *bytes.get(at..end)?.first()?;
        if first == b'{' || first == b'[' {
            if depth == DEPTH_MAX {
                return None;
            }
            let object = first == b'{';
            depth += 1;
            objects = objects << 1 | u64::from(object);
            at = skip_space(bytes, at + 1, end);
            if bytes.get(at) != Some(if object { &b'}' } else { &b']' }) {
                if object {
                    at = skip_key(bytes, at, end)?;
                }
                continue;
            }
        } else {
            at = skip_scalar(bytes, at, first)?;
        }
        loop {
            if depth == 0 {
                return Some(at);
            }
            at = skip_space(bytes, at, end);
            match (bytes.get(at..end)?.first()?, objects & 1 == 1) {
                (b'}', true) | (b']', false) => {
                    depth -= 1;
                    objects >>= 1;
                    at += 1;
                }
                (b',', object) => {
                    at = skip_space(bytes, at + 1, end);
                    if object {
                        at = skip_key(bytes, at, end)?;
                    }
                    break;
                }
                _ => return None,
            }
        }
    }
}

/// Where the text, number, boolean or null at `at` ends.
fn skip_scalar(bytes: &[u8], at: usize, first: u8) -> Option<usize> {
    match first {
        b'"' => skip_text(bytes, at),
        b't' => literal(bytes, at, b"true"),
        b'f' => literal(bytes, at, b"false"),
        b'n' => literal(bytes, at, b"null"),
        _ => number::skip(bytes, at),
    }
}

/// Where the value of the key at `at` starts.
fn skip_key(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    expect(bytes, at, end, b'"')?;
    expect(bytes, skip_space(bytes, skip_text(bytes, at)?, end), end, b':')
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
