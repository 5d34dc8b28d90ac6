//! State that is migrated while the operator that keeps it goes on: handed over piece by piece, with what changes behind a
//! piece handed over again, so that at the cut no more is left than has changed since the last piece.
//!
//! State lies by slot: that of a key over all its rows, of a key in a slice of time, of a processor's key, or of a window with a
//! place of its own.
//!
//! ```text
//!   slots              0 ......... handed over ......... upto ......... not yet .........
//!                          ▲ a row changes one of these: it is noted, and handed over again
//! ```
//!
//! What is noted are slots, not chunks: a hundred thousand rows a second of ten million keys change nearly every chunk
//! between two looks, but no more than some hundred slots.

mod made;
mod runs;
mod store;

pub use made::{Left, Made, MadeColumns};
pub(super) use runs::{MadeRuns, PieceOfRuns, StoreRuns};
pub(super) use store::{MadeRows, PieceOfStore, StoreRows, SweptStore};

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{Fields, Schema as ArrowSchema};

use super::key_window_aggregate::Places;
use super::migration::Migration;
use super::spilled_keys::{SpilledKeys, Stored};
use super::spilled_runs::SpilledRuns;
use super::window_aggregate_parts::Parts;
use super::window_aggregate_slice::{SliceState, State};
use crate::record::{EventTime, Schema};
use crate::state::{Chunked, Columns, KeyTable, StateError};

/// How far the slots of one slice have been handed over.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// slots below this have been
    upto: u32,
    /// a bit for each of them that has changed since
    bits: Vec<u64>,
    /// the same slots, in the order in which they changed
    changed: Vec<u32>,
    /// slots that have got other numbers since the last piece, (old, new): those that are not here are gone
    moves: Option<Vec<(u32, u32)>>,
}

/// What slots `first` go to, where those go on as `then` says; all ascending.
fn composed(first: &[(u32, u32)], then: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut then = then.iter().peekable();
    let last = |(old, middle): &(u32, u32)| {
        while then.next_if(|(from, _)| from < middle).is_some() {}
        then.next_if(|(from, _)| from == middle).map(|(_, new)| (*old, *new))
    };
    first.iter().filter_map(last).collect()
}

impl Swept {
    /// State of these slots changes, or goes.
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

    /// The next slots with `values` that have not been handed over yet, at most so many; fewer are all there are.
    fn first(&mut self, values: Values<'_>, most: usize) -> Vec<u32> {
        // of no slots it cannot be told whether they are all
        if self.has_seen_all() || most == 0 {
            return Vec::new();
        }
        let slots = values.slots_from(self.upto, most);
        let next = slots.last().filter(|_| slots.len() == most).map(|last| last + 1);
        self.upto = next.unwrap_or(u32::MAX);
        slots
    }

    /// Slots that have changed since they were handed over, at most so many.
    fn again(&mut self, most: usize) -> Vec<u32> {
        let again: Vec<u32> = self.changed.drain(self.changed.len().saturating_sub(most)..).collect();
        for slot in &again {
            self.bits.get_mut((slot / 64) as usize).into_iter().for_each(|bits| *bits &= !(1 << (slot % 64)));
        }
        again
    }

    /// Slots get other numbers, (old, new), both ascending; those of all others are gone.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        if !self.has_seen_all() {
            let next = moves.get(moves.partition_point(|(old, _)| *old < self.upto)).map(|(_, new)| *new);
            self.upto = next.unwrap_or_else(|| moves.last().map_or(0, |(_, last)| last + 1));
        }
        self.bits.clear();
        for slot in std::mem::take(&mut self.changed) {
            let at = moves.binary_search_by_key(&slot, |(old, _)| *old).ok().and_then(|at| moves.get(at));
            at.into_iter().for_each(|(_, new)| self.touch(&[*new]));
        }
        self.moves = Some(self.moves.take().map_or_else(|| moves.to_vec(), |first| composed(&first, moves)));
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        let moves = self.moves.as_ref().map_or(0, |moves| moves.capacity() * size_of::<(u32, u32)>());
        self.bits.capacity() * size_of::<u64>() + self.changed.capacity() * size_of::<u32>() + moves
    }

    /// Whether every slot has been handed over once; those that are new since count as changed.
    fn has_seen_all(&self) -> bool {
        self.upto == u32::MAX
    }
}

/// An operator whose state is handed over while it goes on.
pub struct Sweeping<'a> {
    keys: &'a KeyTable,
    /// whose windows the slots are the places of; none where they are those of keys
    places: Option<&'a Places>,
    slices: Vec<Slice<'a>>,
    /// keys that are not in memory
    spilled: Option<&'a mut SpilledKeys>,
    /// runs of rows that are not, and what their rows are
    runs: Option<(&'a mut SpilledRuns, &'a Arc<Stored>)>,
}

/// State by slot that is handed over.
struct Slice<'a> {
    start: EventTime,
    swept: &'a mut Option<Swept>,
    values: Values<'a>,
}

/// What is kept by slot.
#[derive(Clone, Copy)]
enum Values<'a> {
    /// accumulators of slots with rows
    Slice { rows: &'a Chunked<i64>, states: &'a [State] },
    /// of slots that have been written
    Keyed { written: &'a Chunked<Option<i64>>, columns: &'a Columns },
}

/// Some of the state of an operator, as it is between two elements.
#[derive(Debug, Default)]
pub struct Piece {
    /// starts of the slices that there are
    open: Vec<EventTime>,
    slices: Vec<PieceOfSlice>,
    store: Option<PieceOfStore>,
    runs: Option<PieceOfRuns>,
    /// whether every slot has been handed over at least once
    seen_all: bool,
}

#[derive(Debug)]
struct PieceOfSlice {
    start: EventTime,
    /// see [`Swept`]; they come before all else
    moves: Option<Vec<(u32, u32)>>,
    slots: Vec<u32>,
    /// keys, then the state of these slots: a table for each migration
    rows: Vec<RecordBatch>,
    /// slots without state any more
    gone: Vec<u32>,
}

/// What has only one slice.
const WHOLE: EventTime = EventTime::MIN;

/// The first slots from `first` on with a value that `is` there.
fn slots_from<T: Clone>(values: &Chunked<T>, first: u32, most: usize, is: impl Fn(&T) -> bool) -> Vec<u32> {
    let chunks = values.chunks_from(Chunked::<T>::chunk_of(first));
    let slots = chunks.flat_map(|(chunk, values)| (Chunked::<T>::first_slot(chunk)..).zip(values));
    let slots = slots.filter(|(slot, value)| *slot >= first && is(value));
    slots.map(|(slot, _)| slot).take(most).collect()
}

impl Values<'_> {
    fn has(self, slot: u32) -> bool {
        match self {
            Self::Slice { rows, .. } => rows.get(slot).is_some_and(|rows| *rows > 0),
            Self::Keyed { written, .. } => written.get(slot).is_some_and(Option::is_some),
        }
    }

    fn slots_from(self, first: u32, most: usize) -> Vec<u32> {
        match self {
            Self::Slice { rows, .. } => slots_from(rows, first, most, |rows| *rows > 0),
            Self::Keyed { written, .. } => slots_from(written, first, most, Option::is_some),
        }
    }

    /// What component `component` keeps of these slots.
    fn gather(self, component: usize, slots: &[u32]) -> Result<RecordBatch, StateError> {
        match self {
            Self::Keyed { columns, .. } => columns.gather(slots),
            Self::Slice { states, .. } => match states.get(component) {
                Some(State::Fold(columns)) => columns.gather(slots),
                _ => Err(StateError::ColumnCount { expected: 1, found: 0 }),
            },
        }
    }
}

impl<'a> Sweeping<'a> {
    /// Accumulators by key.
    pub(super) fn new(parts: &'a Parts, slices: impl Iterator<Item = &'a mut SliceState>) -> Self {
        let slice = |state: &'a mut SliceState| {
            let SliceState { slice, rows, states, swept, .. } = state;
            Slice { start: slice.start, swept, values: Values::Slice { rows, states } }
        };
        Self { keys: &parts.table, places: None, slices: slices.map(slice).collect(), spilled: None, runs: None }
    }

    /// Accumulators by place of a window.
    pub(super) fn of_windows(parts: &'a Parts, places: &'a Places, state: &'a mut SliceState) -> Self {
        Self { places: Some(places), ..Self::new(parts, std::iter::once(state)) }
    }

    /// State of a processor's keys.
    pub(super) fn of_keys(
        keys: &'a KeyTable,
        written: &'a Chunked<Option<i64>>,
        columns: &'a Columns,
        swept: &'a mut Option<Swept>,
    ) -> Self {
        let values = Values::Keyed { written, columns };
        Self { keys, places: None, slices: vec![Slice { start: WHOLE, swept, values }], spilled: None, runs: None }
    }

    /// And of the keys that are not in memory.
    pub(super) fn and_spilled(self, spilled: Option<&'a mut SpilledKeys>) -> Self {
        Self { spilled, ..self }
    }

    /// And of the runs that are not.
    pub(super) fn and_runs(self, runs: Option<(&'a mut SpilledRuns, &'a Arc<Stored>)>) -> Self {
        Self { runs, ..self }
    }

    /// All has been migrated but what changes in a moment, or not.
    pub(crate) fn caught_up(&mut self, is: bool) {
        self.spilled.iter_mut().for_each(|spilled| spilled.caught_up(is));
        self.runs.iter_mut().for_each(|(runs, _)| runs.caught_up(is));
    }

    /// The next piece of the state of these components, at most `most` rows; fewer are all there are for now.
    pub(crate) fn piece(&mut self, components: &[Kept], most: usize) -> Result<Piece, StateError> {
        let mut piece = Piece { seen_all: true, ..Piece::default() };
        let mut left = most;
        let mut taken = Vec::with_capacity(self.slices.len());
        for slice in &mut self.slices {
            piece.open.push(slice.start);
            let swept = slice.swept.get_or_insert_default();
            let slots = swept.first(slice.values, left);
            piece.seen_all &= swept.has_seen_all();
            left = left.saturating_sub(slots.len());
            taken.push((slots, Vec::new(), std::mem::take(&mut swept.moves)));
        }
        // what is new comes before what comes again: else a slice that always changes would keep others from their turn
        for (slice, (slots, gone, _)) in self.slices.iter_mut().zip(&mut taken) {
            let Some(swept) = slice.swept.as_mut() else { continue };
            for slot in swept.again(left) {
                left = left.saturating_sub(1);
                if slice.values.has(slot) { slots.push(slot) } else { gone.push(slot) }
            }
        }
        for (slice, (slots, gone, moves)) in self.slices.iter().zip(taken) {
            if slots.is_empty() && gone.is_empty() && moves.is_none() {
                continue;
            }
            let keys = self.keys(&slots)?;
            let rows = components.iter().map(|kept| self.rows(kept, slice.values, &keys, &slots));
            let rows = rows.collect::<Result<_, _>>()?;
            piece.slices.push(PieceOfSlice { start: slice.start, moves, slots, rows, gone });
        }
        if let Some(spilled) = &mut self.spilled {
            // what always changes in memory must not keep the store's from its turn
            piece.store = Some(spilled.piece(left.max(most / 2)));
        }
        piece.runs = self.runs.as_mut().map(|(runs, table)| runs.piece(table));
        Ok(piece)
    }

    fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, StateError> {
        match self.places {
            Some(places) => self.keys.keys(&places.keys(slots)),
            None => self.keys.keys(slots),
        }
    }

    /// A row a slot: its key, and what the component keeps of it.
    fn rows(
        &self,
        kept: &Kept,
        values: Values<'_>,
        keys: &[ArrayRef],
        slots: &[u32],
    ) -> Result<RecordBatch, StateError> {
        let state = values.gather(kept.slot, slots)?;
        let schema = state.schema();
        let fields = schema.fields().iter().map(|field| {
            let name = format!("{}{}", kept.prefix, field.name());
            Arc::new(field.as_ref().clone().with_name(name))
        });
        let heads = Schema::new(self.keys.fields().to_vec());
        let fields: Fields = heads.arrow().fields().iter().map(Arc::clone).chain(fields).collect();
        let columns = keys.iter().chain(state.columns()).map(Arc::clone).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &options)?)
    }

    /// Nothing more is handed over, and what changes need not be noted.
    pub(crate) fn end(self) {
        self.slices.into_iter().for_each(|slice| *slice.swept = None);
        self.spilled.into_iter().for_each(SpilledKeys::end_sweep);
        self.runs.into_iter().for_each(|(runs, _)| runs.end_sweep());
    }
}

/// Where a component's state is, and under which name in a [`Migration`].
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
}

impl Piece {
    /// Rows of state in it, those that are gone among them.
    pub(crate) fn rows(&self) -> usize {
        let in_memory: usize = self.slices.iter().map(|slice| slice.slots.len() + slice.gone.len()).sum();
        in_memory + self.store.as_ref().map_or(0, |store| store.changed.len())
    }

    /// Whether it brings nothing new.
    pub(crate) fn is_empty(&self) -> bool {
        let in_store = self.store.iter().all(PieceOfStore::is_empty);
        self.rows() == 0 && self.slices.is_empty() && in_store && self.runs.iter().all(|runs| runs.written.is_empty())
    }

    /// Whether with it all state has been handed over at least once.
    pub(crate) fn has_seen_all(&self) -> bool {
        self.seen_all
    }
}

#[cfg(test)]
mod tests;
