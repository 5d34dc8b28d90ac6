//! One side of an interval join: its rows, found by key and time.

use std::collections::VecDeque;

use arrow_array::RecordBatch;

use super::rows::Rows;
use crate::operator::OperatorError;
use crate::record::EventTime;
use crate::state::{CHUNK_ROWS, Chunked};

/// The key of a row with a null in it.
pub(super) const NO_KEY: u32 = u32::MAX;

/// What is known of a row beside its columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    /// number of its key
    pub(super) key: u32,
    pub(super) time: EventTime,
    /// first and last time of its partners on the other side
    pub(super) low: EventTime,
    pub(super) high: EventTime,
    /// whether it has met a partner
    pub(super) met: bool,
    /// whether it is still found by its key
    pub(super) gone: bool,
}

const BLANK: Known = Known { key: NO_KEY, time: 0, low: 0, high: 0, met: false, gone: true };

/// The rows of one side.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) rows: Rows,
    /// by number of the row
    known: Chunked<Known>,
    /// by number of the key: time and number of its rows, the earliest first, of one time in the order in which they came
    by_key: Vec<VecDeque<(EventTime, u32)>>,
    /// whether the rows of a key may go in another order than that of their times
    any_order: bool,
}

impl Side {
    /// No rows; whether those of a key may go in another order than that of their times.
    pub(super) fn new(any_order: bool) -> Self {
        Self { rows: Rows::default(), known: Chunked::new(BLANK), by_key: Vec::new(), any_order }
    }

    /// Adds rows, of which `known` says the rest; answers with their numbers.
    pub(super) fn add(&mut self, rows: &RecordBatch, known: &[Known]) -> Result<Vec<u32>, OperatorError> {
        let mut numbers = Vec::with_capacity(known.len());
        self.rows.add(rows, &mut numbers)?;
        for (number, known) in numbers.iter().zip(known) {
            self.known.set(*number, *known);
            if known.key == NO_KEY {
                continue;
            }
            let key = known.key as usize;
            if key >= self.by_key.len() {
                // room for the keys to come too
                self.by_key.resize_with((key + 1).next_multiple_of(CHUNK_ROWS), VecDeque::new);
            }
            if let Some(list) = self.by_key.get_mut(key) {
                let at = list.partition_point(|(time, _)| *time <= known.time);
                list.insert(at, (known.time, *number));
            }
        }
        Ok(numbers)
    }

    pub(super) fn known(&self, number: u32) -> Option<&Known> {
        self.known.get(number)
    }

    pub(super) fn set_met(&mut self, number: u32) {
        self.known.get_mut(number).into_iter().for_each(|known| known.met = true);
    }

    /// Rows of a key with times from `first` to `last`.
    pub(super) fn of_key(&self, key: u32, first: EventTime, last: EventTime) -> impl Iterator<Item = (EventTime, u32)> {
        let list = self.by_key.get(key as usize);
        let range = list.map(|list| {
            let start = list.partition_point(|(time, _)| *time < first);
            list.range(start..).copied().take_while(move |(time, _)| *time <= last)
        });
        range.into_iter().flatten()
    }

    /// Numbers of all rows of a key, the earliest first.
    pub(super) fn all_of_key(&self, key: u32) -> impl Iterator<Item = u32> {
        self.by_key.get(key as usize).into_iter().flatten().map(|(_, number)| *number)
    }

    /// What is known of all rows, as of now.
    pub(super) fn freeze_known(&mut self) -> Chunked<Known> {
        self.known.freeze()
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        let lists: usize = self.by_key.iter().map(|list| 32 + list.capacity() * 16).sum();
        self.rows.bytes() + self.known.bytes() + lists
    }

    /// Whether the key has rows here.
    pub(super) fn has_key(&self, key: u32) -> bool {
        self.by_key.get(key as usize).is_some_and(|list| !list.is_empty())
    }

    /// Lets rows go; answers with the numbers of their keys.
    pub(super) fn remove(&mut self, numbers: &[u32]) -> Result<Vec<u32>, OperatorError> {
        let mut keys = Vec::new();
        for number in numbers {
            let Some(known) = self.known.get_mut(*number) else { continue };
            known.gone = true;
            keys.extend((known.key != NO_KEY).then_some(known.key));
        }
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            let Some(list) = self.by_key.get_mut(*key as usize) else { continue };
            let gone = |known: &Chunked<Known>, number: u32| known.get(number).is_none_or(|known| known.gone);
            while list.front().is_some_and(|(_, number)| gone(&self.known, *number)) {
                list.pop_front();
            }
            if self.any_order {
                list.retain(|(_, number)| !gone(&self.known, *number));
            }
            if list.is_empty() {
                *list = VecDeque::new();
            }
        }
        self.rows.remove(numbers)?;
        if self.rows.numbers() == 0 {
            self.known = Chunked::new(BLANK);
        }
        Ok(keys)
    }

    /// Keys have other numbers: `moves` are old and new, ascending, of those that are left.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        let mut by_key = Vec::with_capacity(moves.len());
        for (old, new) in moves {
            let list = self.by_key.get_mut(*old as usize).map(std::mem::take).unwrap_or_default();
            for (_, number) in &list {
                self.known.get_mut(*number).into_iter().for_each(|known| known.key = *new);
            }
            by_key.push(list);
        }
        self.by_key = by_key;
    }
}
