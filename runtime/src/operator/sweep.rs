//! State that is migrated while the operator that keeps it goes on: handed over piece by piece, with what changes behind a
//! piece handed over again, so that at the cut no more is left than has changed since the last piece.
//!
//! ```text
//!   slots of a slice   0 ......... handed over ......... upto ......... not yet .........
//!                          ▲ a row changes one of these: it is noted, and handed over again
//! ```
//!
//! What is noted are slots, not chunks: a hundred thousand rows a second of ten million keys change nearly every chunk
//! between two looks, but no more than some hundred slots.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Fields, Schema as ArrowSchema};

use super::migration::Migration;
use super::window_aggregate_parts::Parts;
use super::window_aggregate_slice::{Aggregate, SliceState, State};
use crate::record::EventTime;
use crate::state::{Chunked, Columns, StateError};

/// How far the slots of one slice have been handed over.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// slots below this have been
    upto: u32,
    /// a bit for each of them that has changed since
    bits: Vec<u64>,
    /// the same slots, in the order in which they changed
    changed: Vec<u32>,
}

impl Swept {
    /// Accumulators of these slots change.
    pub(super) fn touch(&mut self, slots: &[u32]) {
        for slot in slots.iter().filter(|slot| **slot < self.upto) {
            let (word, bit) = ((slot / 64) as usize, 1 << (slot % 64));
            if self.bits.len() <= word {
                self.bits.resize(word + 1, 0);
            }
            let Some(bits) = self.bits.get_mut(word) else { continue };
            if *bits & bit == 0 {
                *bits |= bit;
                self.changed.push(*slot);
            }
        }
    }

    /// The next slots of `state` that have not been handed over yet, at most so many; fewer are all there are.
    fn first(&mut self, state: &SliceState, most: usize) -> Vec<u32> {
        // of no slots it cannot be told whether they are all
        if self.has_seen_all() || most == 0 {
            return Vec::new();
        }
        let slots: Vec<u32> = state.slots_from(self.upto).take(most).collect();
        let next = slots.last().filter(|_| slots.len() == most).map(|last| last + 1);
        self.upto = next.unwrap_or(u32::MAX);
        slots
    }

    /// Slots that have changed since they were handed over, at most so many.
    fn again(&mut self, most: usize, to: &mut Vec<u32>) {
        for slot in self.changed.drain(self.changed.len().saturating_sub(most)..) {
            self.bits.get_mut((slot / 64) as usize).into_iter().for_each(|bits| *bits &= !(1 << (slot % 64)));
            to.push(slot);
        }
    }

    /// Whether every slot has been handed over once; those that are new since count as changed.
    fn has_seen_all(&self) -> bool {
        self.upto == u32::MAX
    }
}

/// An operator whose state is handed over while it goes on.
pub struct Sweeping<'a> {
    parts: &'a Parts,
    slices: Vec<&'a mut SliceState>,
}

/// Some of the state of an operator, as it is between two elements.
#[derive(Debug, Default)]
pub struct Piece {
    /// starts of the slices that there are
    open: Vec<EventTime>,
    slices: Vec<PieceOfSlice>,
    /// whether every slot has been handed over at least once
    seen_all: bool,
}

#[derive(Debug)]
struct PieceOfSlice {
    start: EventTime,
    slots: Vec<u32>,
    /// keys, then accumulators: a table for each migration
    rows: Vec<RecordBatch>,
}

impl<'a> Sweeping<'a> {
    pub(super) fn new(parts: &'a Parts, slices: impl Iterator<Item = &'a mut SliceState>) -> Self {
        Self { parts, slices: slices.collect() }
    }

    /// The next piece of the state of these components, at most `most` rows; fewer are all there are for now.
    pub(crate) fn piece(&mut self, components: &[Kept], most: usize) -> Result<Piece, StateError> {
        let mut piece = Piece { seen_all: true, ..Piece::default() };
        let mut left = most;
        let mut taken = Vec::with_capacity(self.slices.len());
        for state in &mut self.slices {
            piece.open.push(state.slice.start);
            let mut swept = state.swept.take().unwrap_or_default();
            let slots = swept.first(state, left);
            piece.seen_all &= swept.has_seen_all();
            state.swept = Some(swept);
            left = left.saturating_sub(slots.len());
            taken.push(slots);
        }
        // what is new comes before what comes again: else a slice that always changes would keep others from their turn
        for (state, slots) in self.slices.iter_mut().zip(&mut taken) {
            let Some(swept) = &mut state.swept else { continue };
            let before = slots.len();
            swept.again(left, slots);
            left = left.saturating_sub(slots.len() - before);
        }
        for (state, slots) in self.slices.iter().zip(taken).filter(|(_, slots)| !slots.is_empty()) {
            let keys = self.parts.table.keys(&slots)?;
            let rows = components.iter().map(|kept| kept.rows(self.parts, state, &keys, &slots));
            let rows = rows.collect::<Result<_, _>>()?;
            piece.slices.push(PieceOfSlice { start: state.slice.start, slots, rows });
        }
        Ok(piece)
    }

    /// Nothing more is handed over, and what changes need not be noted.
    pub(crate) fn end(self) {
        self.slices.into_iter().for_each(|state| state.swept = None);
    }
}

/// Where a component's accumulators are, and under which name in a [`Migration`].
#[derive(Clone, Debug)]
pub struct Kept {
    slot: usize,
    prefix: String,
}

impl Kept {
    /// What `migration` reads.
    pub(crate) fn of(migration: &Migration) -> Self {
        Self { slot: migration.slot, prefix: migration.kept.prefix.clone() }
    }

    /// A row a slot.
    fn rows(
        &self,
        parts: &Parts,
        state: &SliceState,
        keys: &[ArrayRef],
        slots: &[u32],
    ) -> Result<RecordBatch, StateError> {
        let (Some(Aggregate::Fold(fold)), Some(State::Fold(columns))) =
            (parts.aggregates.get(self.slot), state.states.get(self.slot))
        else {
            return Err(StateError::ColumnCount { expected: 1, found: 0 });
        };
        let fields = fold.state().arrow().fields().iter().map(|field| {
            let name = format!("{}{}", self.prefix, field.name());
            Arc::new(field.as_ref().clone().with_name(name))
        });
        let heads = parts.head.arrow().fields().iter().take(keys.len()).map(Arc::clone);
        let fields: Fields = heads.chain(fields).collect();
        let columns = keys.iter().chain(columns.gather(slots)?.columns()).map(Arc::clone).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options)?)
    }
}

impl Piece {
    /// Rows of state in it.
    pub(crate) fn rows(&self) -> usize {
        self.slices.iter().map(|slice| slice.slots.len()).sum()
    }

    /// Whether with it all state has been handed over at least once.
    pub(crate) fn has_seen_all(&self) -> bool {
        self.seen_all
    }
}

/// State of the new version, made of pieces of the old one's.
#[derive(Debug)]
pub struct Made {
    migrations: Vec<Migration>,
    /// of each, accumulators without slots
    empty: Vec<Columns>,
    /// the same of each slice
    slices: BTreeMap<EventTime, Vec<Columns>>,
}

/// State of one component, ready to be taken over.
#[derive(Debug)]
pub struct MadeColumns {
    /// by start of the slice
    pub(super) slices: BTreeMap<EventTime, Columns>,
}

/// What a component has kept for slices and does no more.
#[derive(Default)]
pub struct Left(pub(super) Vec<Columns>);

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Left({})", self.0.len())
    }
}

impl Made {
    /// Nothing yet. An error is one of a component that fails to make an empty accumulator.
    pub(crate) fn new(mut migrations: Vec<Migration>) -> Result<Self, String> {
        let mut empty = Vec::with_capacity(migrations.len());
        for migration in &mut migrations {
            let created = migration.guest.create().map_err(|error| error.to_string())?;
            let state = migration.guest.signature().state.as_ref().ok_or("the component keeps no state")?;
            empty.push(Columns::new(&state.fields, &created).map_err(|error| error.to_string())?);
        }
        Ok(Self { migrations, empty, slices: BTreeMap::new() })
    }

    /// What is read of an operator.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.migrations.iter().map(Kept::of).collect()
    }

    /// Migrates a piece, in the place of what was made of these slots before. The error is for people.
    pub(crate) fn take_in(&mut self, piece: Piece) -> Result<(), String> {
        let Self { migrations, empty, slices } = self;
        // in the order of time
        slices.retain(|start, _| piece.open.binary_search(start).is_ok());
        for PieceOfSlice { start, slots, rows } in piece.slices {
            let of_slice = slices.entry(start).or_insert_with(|| empty.clone());
            for ((migration, columns), rows) in migrations.iter_mut().zip(of_slice).zip(&rows) {
                let new = migration.accumulators(rows).map_err(|error| error.to_string())?;
                let mut last = None;
                for chunk in slots.iter().map(|slot| Chunked::<i64>::chunk_of(*slot)) {
                    if last.replace(chunk) != Some(chunk) {
                        columns.allocate(chunk);
                    }
                }
                columns.scatter(&slots, &new).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Takes all of it out, to be dropped.
    pub(crate) fn clear(&mut self) -> Vec<MadeColumns> {
        (0..self.migrations.len()).filter_map(|at| self.take(self.migrations.get(at)?.slot)).collect()
    }

    /// The state of component `slot`; none where it is not migrated.
    pub(crate) fn take(&mut self, slot: usize) -> Option<MadeColumns> {
        let at = self.migrations.iter().position(|migration| migration.slot == slot)?;
        let empty = self.empty.get(at)?;
        let take = |(start, columns): (&EventTime, &mut Vec<Columns>)| {
            Some((*start, std::mem::replace(columns.get_mut(at)?, empty.clone())))
        };
        Some(MadeColumns { slices: self.slices.iter_mut().filter_map(take).collect() })
    }
}
