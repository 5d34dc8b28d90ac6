//! Built-in aggregates that keep values: first and last by event time, and how many different ones.

mod state;

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::Range;

use arrow_array::{Array, ArrayRef};

use super::aggregate_built_in::{Value, merge_cells};
use super::window_aggregate_slice::Rows;
use crate::record::{EventTime, Field, Kind};
use crate::state::{Chunked, StateError, canonical_float, heap_bytes, is_word, varlen, words};

/// A value with its event time by slot: the first or the last.
#[derive(Clone, Debug)]
pub(super) enum Timed {
    Words(Chunked<Option<(EventTime, u64)>>),
    Bytes(Chunked<Option<(EventTime, Vec<u8>)>>),
}

/// The different values of a slot, all of them: memory grows with their number.
#[derive(Clone, Debug)]
pub(super) enum Distinct {
    Words(Chunked<HashSet<u64>>),
    Bytes(Chunked<HashSet<Vec<u8>>>),
}

impl Timed {
    pub(super) fn new(kind: Kind) -> Self {
        if is_word(kind) { Self::Words(Chunked::new(None)) } else { Self::Bytes(Chunked::new(None)) }
    }

    pub(super) fn accumulate(
        &mut self,
        last: bool,
        field: &Field,
        array: &ArrayRef,
        times: &[EventTime],
        rows: Rows<'_>,
    ) -> Result<(), StateError> {
        match self {
            Self::Words(cells) => {
                let words = words(field, array)?;
                rows.each_valid(array.nulls(), |row, slot| {
                    if let (Some(cell), Some(word), Some(time)) = (cells.get_mut(slot), words.get(row), times.get(row))
                        && replaces(last, *time, cell.as_ref())
                    {
                        *cell = Some((*time, *word));
                    }
                });
            }
            Self::Bytes(cells) => {
                let (offsets, bytes) = varlen(field, array)?;
                rows.each_valid(array.nulls(), |row, slot| {
                    let value = value_of(offsets, bytes, row);
                    if let (Some(cell), Some(time)) = (cells.get_mut(slot), times.get(row))
                        && replaces(last, *time, cell.as_ref())
                    {
                        *cell = Some((*time, value.to_vec()));
                    }
                });
            }
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, last: bool, from: &Self, pairs: &[(u32, u32)]) {
        match (self, from) {
            (Self::Words(into), Self::Words(from)) => merge_cells(into, from, pairs, |a, b| later(last, a, b)),
            (Self::Bytes(into), Self::Bytes(from)) => merge_cells(into, from, pairs, |a, b| later(last, a, b)),
            _ => {}
        }
    }

    pub(super) fn value(&self, slot: u32) -> Value<'_> {
        match self {
            Self::Words(cells) => match cells.get(slot) {
                Some(Some((_, word))) => Value::Word(*word),
                _ => Value::Null,
            },
            Self::Bytes(cells) => match cells.get(slot) {
                Some(Some((_, bytes))) => Value::Bytes(bytes),
                _ => Value::Null,
            },
        }
    }

    pub(super) fn allocate(&mut self, chunk: usize) {
        match self {
            Self::Words(cells) => cells.allocate(chunk),
            Self::Bytes(cells) => cells.allocate(chunk),
        }
    }

    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        match self {
            Self::Words(cells) => cells.renumber(moves),
            Self::Bytes(cells) => cells.renumber(moves),
        }
    }

    /// As [`Chunked::freeze`].
    pub(super) fn freeze(&mut self) -> Self {
        match self {
            Self::Words(cells) => Self::Words(cells.freeze()),
            Self::Bytes(cells) => Self::Bytes(cells.freeze()),
        }
    }

    /// As [`Chunked::marks`].
    pub(super) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        match self {
            Self::Words(cells) => cells.marks(chunks, to),
            Self::Bytes(cells) => cells.marks(chunks, to),
        }
    }

    pub(super) fn split_off(&mut self, slots: &[u32]) -> Self {
        match self {
            Self::Words(cells) => Self::Words(cells.split_off(slots)),
            Self::Bytes(cells) => Self::Bytes(cells.split_off(slots)),
        }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Words(cells) => cells.bytes(),
            Self::Bytes(cells) => {
                let values = cells.chunks().flat_map(|(_, cells)| cells).flatten();
                cells.bytes() + values.map(|(_, bytes)| heap_bytes(bytes.capacity())).sum::<usize>()
            }
        }
    }
}

impl Distinct {
    /// Bytes that are held. Looks at every set, and at every value of text and binary.
    pub(super) fn bytes(&self) -> usize {
        // a table keeps a byte beside each place, and an eighth of its places empty
        let table = |places: usize, width: usize| heap_bytes(places * (width + 1) * 8 / 7);
        match self {
            Self::Words(cells) => {
                let sets = cells.chunks().flat_map(|(_, cells)| cells);
                cells.bytes() + sets.map(|set| table(set.capacity(), 8)).sum::<usize>()
            }
            Self::Bytes(cells) => {
                let set = |set: &HashSet<Vec<u8>>| {
                    let values: usize = set.iter().map(|bytes| heap_bytes(bytes.capacity())).sum();
                    table(set.capacity(), size_of::<Vec<u8>>()) + values
                };
                cells.bytes() + cells.chunks().flat_map(|(_, cells)| cells).map(set).sum::<usize>()
            }
        }
    }

    pub(super) fn new(kind: Kind) -> Self {
        if is_word(kind) {
            Self::Words(Chunked::new(HashSet::new()))
        } else {
            Self::Bytes(Chunked::new(HashSet::new()))
        }
    }

    pub(super) fn accumulate(&mut self, field: &Field, array: &ArrayRef, rows: Rows<'_>) -> Result<(), StateError> {
        match self {
            Self::Words(cells) => {
                let words = words(field, array)?;
                let float = field.kind == Kind::Float64;
                rows.each_valid(array.nulls(), |row, slot| {
                    if let (Some(cell), Some(word)) = (cells.get_mut(slot), words.get(row)) {
                        cell.insert(if float { canonical_float(*word) } else { *word });
                    }
                });
            }
            Self::Bytes(cells) => {
                let (offsets, bytes) = varlen(field, array)?;
                rows.each_valid(array.nulls(), |row, slot| {
                    let value = value_of(offsets, bytes, row);
                    if let Some(cell) = cells.get_mut(slot)
                        && !cell.contains(value)
                    {
                        cell.insert(value.to_vec());
                    }
                });
            }
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, from: &Self, pairs: &[(u32, u32)]) {
        match (self, from) {
            (Self::Words(into), Self::Words(from)) => merge_cells(into, from, pairs, unite),
            (Self::Bytes(into), Self::Bytes(from)) => merge_cells(into, from, pairs, unite),
            _ => {}
        }
    }

    pub(super) fn count(&self, slot: u32) -> Option<u64> {
        let count = match self {
            Self::Words(cells) => cells.get(slot)?.len(),
            Self::Bytes(cells) => cells.get(slot)?.len(),
        };
        Some(count as u64)
    }

    pub(super) fn allocate(&mut self, chunk: usize) {
        match self {
            Self::Words(cells) => cells.allocate(chunk),
            Self::Bytes(cells) => cells.allocate(chunk),
        }
    }

    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        match self {
            Self::Words(cells) => cells.renumber(moves),
            Self::Bytes(cells) => cells.renumber(moves),
        }
    }

    /// As [`Chunked::freeze`].
    pub(super) fn freeze(&mut self) -> Self {
        match self {
            Self::Words(cells) => Self::Words(cells.freeze()),
            Self::Bytes(cells) => Self::Bytes(cells.freeze()),
        }
    }

    /// As [`Chunked::marks`].
    pub(super) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        match self {
            Self::Words(cells) => cells.marks(chunks, to),
            Self::Bytes(cells) => cells.marks(chunks, to),
        }
    }

    pub(super) fn split_off(&mut self, slots: &[u32]) -> Self {
        match self {
            Self::Words(cells) => Self::Words(cells.split_off(slots)),
            Self::Bytes(cells) => Self::Bytes(cells.split_off(slots)),
        }
    }
}

/// Whether a value that comes after `than` takes its place.
fn replaces<T>(last: bool, time: EventTime, than: Option<&(EventTime, T)>) -> bool {
    than.is_none_or(|(than, _)| if last { time >= *than } else { time < *than })
}

fn later<T: Clone>(last: bool, into: &mut Option<(EventTime, T)>, from: &Option<(EventTime, T)>) {
    if let Some(value) = from
        && replaces(last, value.0, into.as_ref())
    {
        *into = Some(value.clone());
    }
}

fn unite<T: Clone + Eq + Hash>(into: &mut HashSet<T>, from: &HashSet<T>) {
    into.extend(from.iter().cloned());
}

/// Row `row` of a column of varying width; nothing if the offsets lie.
fn value_of<'a>(offsets: &[i32], bytes: &'a [u8], row: usize) -> &'a [u8] {
    let range = offsets.get(row).zip(offsets.get(row + 1));
    range.and_then(|(start, end)| bytes.get(*start as usize..*end as usize)).unwrap_or_default()
}
