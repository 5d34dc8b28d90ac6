//! The state of one slice: accumulators by slot.

use std::collections::BTreeMap;
use std::ops::Range;

mod state;

pub(super) use state::saved_fields;

use super::OperatorError;
use super::aggregate_built_in::{Accumulators, BuiltIn};
use super::aggregate_fold::FoldCall;
use super::sweep::Swept;
use crate::state::{Chunked, Columns};
use crate::window::Slice;

/// Columns of so many slots are in the L2 cache.
const NEAR_SLOTS: usize = 1 << 15;

/// Rows whose cells are asked for before the first of them is changed.
const BLOCK_ROWS: usize = 64;

/// An aggregate of the step, ready to run.
pub(super) enum Aggregate {
    BuiltIn(BuiltIn),
    Fold(FoldCall),
}

impl Aggregate {
    /// None if it is a component.
    pub(super) fn built_in(&self) -> Option<&BuiltIn> {
        match self {
            Self::BuiltIn(built_in) => Some(built_in),
            Self::Fold(_) => None,
        }
    }
}

/// Accumulators of one aggregate in one slice, of the same variant as the [`Aggregate`].
pub(super) enum State {
    BuiltIn(Accumulators),
    Fold(Columns),
}

/// Rows of a batch with their slots: all of them, or those picked.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    slots: &'a [u32],
    picked: Option<&'a [u32]>,
    slots_total: usize,
}

/// All accumulators of a slice. Their chunks exist where `rows` has one.
pub(super) struct SliceState {
    pub(super) slice: Slice,
    /// rows by slot; a slot without rows has no result
    pub(super) rows: Chunked<i64>,
    /// slots with rows
    pub(super) touched: usize,
    pub(super) states: Vec<State>,
    /// slots whose accumulators could not be merged, and why: they have no result, but a dead row
    pub(super) failed: BTreeMap<u32, String>,
    /// how far it has been handed over, where it is migrated
    pub(super) swept: Option<Swept>,
}

impl<'a> Rows<'a> {
    /// All rows of a batch with these slots, or those `picked`. All slots are below `slots_total`.
    pub(super) fn new(slots: &'a [u32], picked: Option<&'a [u32]>, slots_total: usize) -> Self {
        Self { slots, picked, slots_total }
    }

    /// Which rows, unless all.
    pub(super) fn picked(self) -> Option<&'a [u32]> {
        self.picked
    }

    /// All slots are below this.
    pub(super) fn slots_total(self) -> usize {
        self.slots_total
    }

    pub(super) fn len(self) -> usize {
        self.picked.unwrap_or(self.slots).len()
    }

    /// Calls with row and slot, in row order.
    #[inline(always)]
    pub(super) fn each(self, mut call: impl FnMut(usize, u32)) {
        match self.picked {
            None => self.slots.iter().enumerate().for_each(|(row, slot)| call(row, *slot)),
            Some(picked) => {
                for row in picked {
                    let row = *row as usize;
                    self.slots.get(row).into_iter().for_each(|slot| call(row, *slot));
                }
            }
        }
    }

    /// As [`Rows::each`], without rows that are null.
    #[inline(always)]
    pub(super) fn each_valid(self, nulls: Option<&arrow_buffer::NullBuffer>, mut call: impl FnMut(usize, u32)) {
        match nulls.filter(|nulls| nulls.null_count() > 0) {
            None => self.each(call),
            Some(nulls) => self.each(|row, slot| {
                if nulls.is_valid(row) {
                    call(row, slot);
                }
            }),
        }
    }

    /// Calls with the cell of each row's slot, and the row's value; `values` are by row.
    #[inline(always)]
    pub(super) fn update<T: Clone, V: Copy>(
        self,
        column: &mut Chunked<T>,
        values: &[V],
        mut call: impl FnMut(&mut T, V),
    ) {
        let Some(picked) = self.picked else {
            for (slots, values) in self.slots.chunks(BLOCK_ROWS).zip(values.chunks(BLOCK_ROWS)) {
                if self.slots_total > NEAR_SLOTS {
                    slots.iter().for_each(|slot| _ = column.prefetch(*slot));
                }
                for (slot, value) in slots.iter().zip(values) {
                    column.get_mut(*slot).into_iter().for_each(|cell| call(cell, *value));
                }
            }
            return;
        };
        for row in picked {
            if let (Some(slot), Some(value)) = (self.slots.get(*row as usize), values.get(*row as usize)) {
                column.get_mut(*slot).into_iter().for_each(|cell| call(cell, *value));
            }
        }
    }
}

impl SliceState {
    pub(super) fn new(slice: Slice, aggregates: &[Aggregate]) -> Self {
        let state = |aggregate: &Aggregate| match aggregate {
            Aggregate::BuiltIn(built_in) => State::BuiltIn(built_in.accumulators()),
            Aggregate::Fold(fold) => State::Fold(fold.accumulators()),
        };
        let states = aggregates.iter().map(state).collect();
        Self { slice, rows: Chunked::new(0), touched: 0, states, failed: BTreeMap::new(), swept: None }
    }

    /// Counts rows, and makes the chunks of their slots.
    pub(super) fn count(&mut self, rows: Rows<'_>) {
        rows.each(|_, slot| {
            if !self.rows.prefetch(slot) {
                self.allocate(Chunked::<i64>::chunk_of(slot));
            }
        });
        rows.each(|_, slot| {
            if let Some(rows) = self.rows.get_mut(slot) {
                self.touched += usize::from(*rows == 0);
                *rows += 1;
            }
        });
    }

    /// Makes the chunks of these slots.
    pub(super) fn make_room(&mut self, slots: &[u32]) {
        for slot in slots {
            if !self.rows.prefetch(*slot) {
                self.allocate(Chunked::<i64>::chunk_of(*slot));
            }
        }
    }

    #[cold]
    fn allocate(&mut self, chunk: usize) {
        self.rows.allocate(chunk);
        for state in &mut self.states {
            match state {
                State::BuiltIn(accumulators) => accumulators.allocate(chunk),
                State::Fold(columns) => columns.allocate(chunk),
            }
        }
    }

    /// Takes in what `from` has; `pairs` are slots of both, (to, from), each `to` once. What is here is the earlier.
    pub(super) fn merge(
        &mut self,
        from: &Self,
        pairs: &[(u32, u32)],
        aggregates: &mut [Aggregate],
    ) -> Result<(), OperatorError> {
        if let Some(swept) = &mut self.swept {
            pairs.iter().for_each(|(to, _)| swept.touch(&[*to]));
        }
        for (to, _) in pairs {
            if !self.rows.prefetch(*to) {
                self.allocate(Chunked::<i64>::chunk_of(*to));
            }
        }
        let mut failed = Vec::new();
        if !from.failed.is_empty() {
            let reason = |(to, of): &(u32, u32)| Some((*to, from.failed.get(of)?.clone()));
            failed.extend(pairs.iter().filter_map(reason));
        }
        for ((aggregate, into), from) in aggregates.iter_mut().zip(&mut self.states).zip(&from.states) {
            match (aggregate, into, from) {
                (Aggregate::BuiltIn(built_in), State::BuiltIn(into), State::BuiltIn(from)) => {
                    built_in.merge(into, from, pairs);
                }
                (Aggregate::Fold(fold), State::Fold(into), State::Fold(from)) => {
                    let occupied = |slot| self.rows.get(slot).is_some_and(|rows| *rows > 0);
                    fold.merge(into, from, pairs, occupied, &mut failed)?;
                }
                _ => return Err(OperatorError::Internal { reason: "state of another aggregate".into() }),
            }
        }
        for (slot, reason) in failed {
            self.failed.entry(slot).or_insert(reason);
        }
        for (to, of) in pairs {
            if let (Some(rows), Some(more)) = (self.rows.get_mut(*to), from.rows.get(*of)) {
                self.touched += usize::from(*rows == 0 && *more > 0);
                *rows += more;
            }
        }
        Ok(())
    }

    /// Takes the values of `slots` out, which are empty then.
    pub(super) fn split_off(&mut self, slots: &[u32], aggregates: &[Aggregate]) -> Self {
        let mut taken = Self::new(self.slice, aggregates);
        self.swept.iter_mut().for_each(|swept| swept.touch(slots));
        taken.touched = slots.iter().filter(|slot| self.has(**slot)).count();
        self.touched -= taken.touched;
        taken.rows = self.rows.split_off(slots);
        if !self.failed.is_empty() {
            taken.failed = slots.iter().filter_map(|slot| self.failed.remove_entry(slot)).collect();
        }
        for (taken, state) in taken.states.iter_mut().zip(&mut self.states) {
            *taken = match state {
                State::BuiltIn(accumulators) => State::BuiltIn(accumulators.split_off(slots)),
                State::Fold(columns) => State::Fold(columns.split_off(slots)),
            };
        }
        taken
    }

    /// As [`Chunked::freeze`].
    pub(super) fn freeze(&mut self) -> Self {
        let states = self.states.iter_mut().map(|state| match state {
            State::BuiltIn(accumulators) => State::BuiltIn(accumulators.freeze()),
            State::Fold(columns) => State::Fold(columns.freeze()),
        });
        Self {
            slice: self.slice,
            states: states.collect(),
            rows: self.rows.freeze(),
            touched: self.touched,
            failed: self.failed.clone(),
            swept: None,
        }
    }

    /// As [`Chunked::marks`]. Which slots have failed is not in it.
    pub(super) fn marks(&self, chunks: Range<usize>, to: &mut Vec<u64>) {
        self.rows.marks(chunks.clone(), to);
        for state in &self.states {
            match state {
                State::BuiltIn(accumulators) => accumulators.marks(chunks.clone(), to),
                State::Fold(columns) => columns.marks(chunks.clone(), to),
            }
        }
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        let state = |state: &State| match state {
            State::BuiltIn(accumulators) => accumulators.bytes(),
            State::Fold(columns) => columns.bytes(),
        };
        let swept = self.swept.as_ref().map_or(0, Swept::bytes);
        self.rows.bytes() + self.states.iter().map(state).sum::<usize>() + self.failed.len() * 256 + swept
    }

    /// Whether a slot has rows.
    pub(super) fn has(&self, slot: u32) -> bool {
        self.rows.get(slot).is_some_and(|rows| *rows > 0)
    }

    /// Slots with rows, ascending.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> {
        self.slots_from(0)
    }

    /// Those that are not below `first`.
    pub(super) fn slots_from(&self, first: u32) -> impl Iterator<Item = u32> {
        let chunks = self.rows.chunks_from(Chunked::<i64>::chunk_of(first));
        let slots = chunks.flat_map(|(chunk, rows)| {
            (Chunked::<i64>::first_slot(chunk)..).zip(rows).filter(|(_, rows)| **rows > 0).map(|(slot, _)| slot)
        });
        slots.skip_while(move |slot| *slot < first)
    }

    /// As [`Chunked::renumber`]; no slot with rows is dropped.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        let moves: Vec<_> = moves.iter().copied().filter(|(old, _)| self.has(*old)).collect();
        self.swept.iter_mut().for_each(|swept| swept.renumber(&moves));
        self.rows.renumber(&moves);
        let mut failed = std::mem::take(&mut self.failed);
        if !failed.is_empty() {
            self.failed = moves.iter().filter_map(|(old, new)| Some((*new, failed.remove(old)?))).collect();
        }
        for state in &mut self.states {
            match state {
                State::BuiltIn(accumulators) => accumulators.renumber(&moves),
                State::Fold(columns) => columns.renumber(&moves),
            }
        }
    }
}
