//! MessagePack maps and arrays → columns: a projecting skipper in front of the serde seed.
//!
//! As in the JSON scanner, keys are compared verbatim (marker and all) with those of the record before, and any
//! surprise goes to [`RowSeed`], where rmp-serde decides. Values that nobody wants are passed over by their markers;
//! their content is not looked at, so text in them need not be UTF-8 (rmp-serde sees it the same way). Wanted text is
//! appended unchecked and checked once a column; only a batch that fails this is decoded again with each text checked.

use serde::de::DeserializeSeed;

use super::walk::{Head, Shape, head};
use crate::format::columns::{Column, Columns, Values};
use crate::format::decode::{self, Decoded, Rows};
use crate::format::frames::Frames;
use crate::format::seed::{Dialect, Names, RowSeed};
use crate::format::timestamp;
use crate::record::{Kind, Schema};

/// Keys that are remembered, and the longest of them.
const KEYS_MAX: usize = 1_024;
const KEY_BYTES_MAX: usize = 256;

/// Misses in a batch after which nothing new is remembered.
const MISSES_MAX: u32 = 256;

/// Levels of nesting that are skipped here; deeper values go to rmp-serde, which refuses them at some depth.
const DEPTH_MAX: usize = 16;

/// Levels of nesting that a record may have; rmp-serde recurses, so this bounds the stack.
pub(super) const RECORD_DEPTH_MAX: usize = 256;

/// A key as it stood in the record before, with its marker.
#[derive(Default)]
struct Key {
    bytes: Vec<u8>,
    target: Option<usize>,
}

/// Decodes MessagePack maps and arrays; remembers the keys of the last map.
pub(in crate::format) struct MsgpackDecoder {
    names: Names,
    /// the wanted column of each element of an array
    order: Vec<Option<usize>>,
    keys: Vec<Key>,
    misses: u32,
    /// whether each text is checked on its own
    checked: bool,
}

impl MsgpackDecoder {
    pub(in crate::format) fn new(full: &Schema, wanted: &Schema) -> Self {
        let order = full.fields().iter().map(|field| wanted.index_of(&field.name)).collect();
        Self { names: Names::new(wanted), order, keys: Vec::new(), misses: 0, checked: false }
    }

    /// Decodes all records of `frames`.
    pub(in crate::format) fn decode(&mut self, frames: &Frames, columns: &mut Columns) -> Decoded {
        self.checked = false;
        let rows = self.rows(frames, columns);
        if let Ok(columns) = columns.take() {
            return Decoded { columns, origin: rows.origin, bad: rows.bad };
        }
        self.checked = true;
        decode::rows(frames, columns, |columns, range| self.row(frames, columns, range.start, range.end))
    }

    fn rows(&mut self, frames: &Frames, columns: &mut Columns) -> Rows {
        self.misses = 0;
        Rows::of(frames, columns, |columns, _, range| self.row(frames, columns, range.start, range.end).map(|()| true))
    }

    fn row(&mut self, frames: &Frames, columns: &mut Columns, start: usize, end: usize) -> Result<(), String> {
        let record = frames.bytes.get(start..end).unwrap_or_default();
        if self.skim(columns, record).is_some() {
            return Ok(());
        }
        columns.undo_row();
        reference(record, &self.names, &self.order, columns)
    }

    /// Reads a record. `None` is a surprise: undo the row and let rmp-serde decide.
    fn skim(&mut self, columns: &mut Columns, record: &[u8]) -> Option<()> {
        let Head { payload, children, shape, .. } = head(record)?;
        let mut at = payload;
        let mut cells = 0;
        let count = usize::try_from(children).ok()?;
        let places = match shape {
            Shape::Map => count / 2,
            Shape::Array if count <= self.order.len() => count,
            _ => return None,
        };
        for place in 0..places {
            let target = if shape == Shape::Map {
                let (target, after) = self.key(place, record, at)?;
                at = after;
                target
            } else {
                *self.order.get(place)?
            };
            at = match target {
                None => skip(record, at)?,
                Some(index) => {
                    cells += 1;
                    read_cell(columns.open_cell(index)?, record, at, self.checked)?
                }
            };
        }
        if at != record.len() {
            return None;
        }
        if cells == columns.width() {
            columns.end_full_row();
            return Some(());
        }
        columns.end_row().ok()
    }

    /// The wanted column that the key at `at` names, and where its value starts.
    #[inline]
    fn key(&mut self, place: usize, record: &[u8], at: usize) -> Option<(Option<usize>, usize)> {
        let rest = record.get(at..)?;
        if let Some(known) = self.keys.get(place)
            && rest.starts_with(&known.bytes)
        {
            return Some((known.target, at + known.bytes.len()));
        }
        let Head { payload, size, shape, .. } = head(rest)?;
        let name = rest.get(payload..size).filter(|_| shape == Shape::Str)?;
        std::str::from_utf8(name).ok()?;
        let target = self.names.get(name);
        self.remember(place, rest.get(..size)?, target);
        Some((target, at + size))
    }

    fn remember(&mut self, place: usize, key: &[u8], target: Option<usize>) {
        if self.misses >= MISSES_MAX || place >= KEYS_MAX || key.len() > KEY_BYTES_MAX {
            return;
        }
        self.misses += 1;
        if place >= self.keys.len() {
            // an empty key would match everything; 0xc1 starts no key
            self.keys.resize_with(place + 1, || Key { bytes: vec![0xc1], target: None });
        }
        if let Some(known) = self.keys.get_mut(place) {
            known.bytes.clear();
            known.bytes.extend_from_slice(key);
            known.target = target;
        }
    }
}

/// The record as rmp-serde reads it; whoever calls has undone the row.
pub(super) fn reference(
    record: &[u8],
    names: &Names,
    order: &[Option<usize>],
    columns: &mut Columns,
) -> Result<(), String> {
    let mut deserializer = rmp_serde::Deserializer::new(record);
    deserializer.set_max_depth(RECORD_DEPTH_MAX);
    let row = RowSeed { columns: &mut *columns, names, dialect: Dialect::Msgpack(order) };
    row.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    let rest = deserializer.get_ref().len();
    if rest > 0 {
        return Err(format!("expected the record to end after one MessagePack value, got {rest} more bytes"));
    }
    columns.end_row()
}

/// Where the value at `at` ends, its children included.
#[inline]
fn skip(record: &[u8], at: usize) -> Option<usize> {
    let value = head(record.get(at..)?)?;
    let end = at + value.size;
    match value.shape {
        Shape::Scalar | Shape::Str | Shape::Bin => (end <= record.len()).then_some(end),
        Shape::Array | Shape::Map => skip_children(record, end, value.children),
        Shape::Ext | Shape::Never => None,
    }
}

/// Where the last of `children` values from `at` on ends, with the values still to come at each level.
fn skip_children(record: &[u8], mut at: usize, children: u64) -> Option<usize> {
    let mut open = [0; DEPTH_MAX];
    let mut depth = 0;
    let mut left = children;
    loop {
        while left == 0 {
            if depth == 0 {
                return (at <= record.len()).then_some(at);
            }
            depth -= 1;
            left = open[depth];
        }
        let value = head(record.get(at..)?)?;
        at += value.size;
        left -= 1;
        match value.shape {
            Shape::Scalar | Shape::Str | Shape::Bin => {}
            Shape::Array | Shape::Map => {
                *open.get_mut(depth)? = left;
                depth += 1;
                left = value.children;
            }
            Shape::Ext | Shape::Never => return None,
        }
    }
}

/// Reads the value at `at` into the column and returns where it ends.
#[inline]
fn read_cell(column: &mut Column, record: &[u8], at: usize, checked: bool) -> Option<usize> {
    let rest = record.get(at..)?;
    let marker = *rest.first()?;
    if marker == 0xc0 {
        column.push_null()?;
        return Some(at + 1);
    }
    let kind = column.field.kind;
    match &mut column.values {
        Values::Boolean(values) => {
            values.push(match marker {
                0xc2 => false,
                0xc3 => true,
                _ => return None,
            });
            Some(at + 1)
        }
        Values::Int64(values) => {
            if let Some((value, size)) = integer(rest, marker) {
                values.push(value);
                return Some(at + size);
            }
            let Head { payload, size, shape, .. } = head(rest)?;
            let text = rest.get(payload..size).filter(|_| kind == Kind::TimestampMs && shape == Shape::Str)?;
            values.push(timestamp::parse(text)?);
            Some(at + size)
        }
        Values::Float64(values) => {
            let (value, size) = float(rest, marker)?;
            values.push(value);
            Some(at + size)
        }
        Values::Bytes(texts) => {
            let Head { payload, size, shape, .. } = head(rest)?;
            let bytes = rest.get(payload..size)?;
            match (kind, shape) {
                (Kind::Text, Shape::Str) if checked => drop(std::str::from_utf8(bytes).ok()?),
                (Kind::Text | Kind::Binary, Shape::Str) | (Kind::Binary, Shape::Bin) => {}
                _ => return None,
            }
            texts.push(bytes)?;
            Some(at + size)
        }
    }
}

/// The `N` bytes after the marker.
#[inline]
fn operand<const N: usize>(value: &[u8]) -> Option<[u8; N]> {
    value.get(1..)?.first_chunk::<N>().copied()
}

/// The integer with this marker, and its size. `None` for what is none or exceeds an `i64`.
#[inline]
fn integer(value: &[u8], marker: u8) -> Option<(i64, usize)> {
    Some(match marker {
        0x00..=0x7f => (i64::from(marker), 1),
        0xe0..=0xff => (i64::from(marker.cast_signed()), 1),
        0xcc => (u8::from_be_bytes(operand(value)?).into(), 2),
        0xcd => (u16::from_be_bytes(operand(value)?).into(), 3),
        0xce => (u32::from_be_bytes(operand(value)?).into(), 5),
        0xcf => (u64::from_be_bytes(operand(value)?).try_into().ok()?, 9),
        0xd0 => (i8::from_be_bytes(operand(value)?).into(), 2),
        0xd1 => (i16::from_be_bytes(operand(value)?).into(), 3),
        0xd2 => (i32::from_be_bytes(operand(value)?).into(), 5),
        0xd3 => (i64::from_be_bytes(operand(value)?), 9),
        _ => return None,
    })
}

/// The number with this marker as a double, and its size.
#[inline]
fn float(value: &[u8], marker: u8) -> Option<(f64, usize)> {
    match marker {
        0xca => Some((f32::from_be_bytes(operand(value)?).into(), 5)),
        0xcb => Some((f64::from_be_bytes(operand(value)?), 9)),
        _ => integer(value, marker).map(|(value, size)| (value as f64, size)),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
