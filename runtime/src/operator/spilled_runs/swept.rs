//! Runs that are migrated while the operator goes on, see `sweep/runs.rs`.
//!
//! Runs never change, so nothing is noted but which have come since rows were last handed over: for a span the first of
//! them and their partitions, however many they are. That is as much as the index of the store holds anyway.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::{PARTITIONS, Partitions, Span, SpilledRuns, next_freezing, place, place_of};
use crate::operator::spilled_keys::Stored;
use crate::operator::sweep::{MadeRuns, PieceOfRuns, StoreRuns};

/// Of operators whose runs migrate: the only one.
const TABLE: u8 = 0;

/// What comes to the store while its runs are handed over.
#[derive(Debug)]
pub(in crate::operator) struct SweptRuns {
    /// generation of what is made
    to: u16,
    written: BTreeMap<Span, Written>,
    /// the last span that has gone
    gone: Option<Span>,
    /// all but a little has been handed over
    caught_up: bool,
}

/// Runs of one span.
#[derive(Clone, Debug)]
pub(in crate::operator) struct Written {
    pub(in crate::operator) span: Span,
    /// and those after it
    first_run: u32,
    partitions: Partitions,
}

impl Written {
    /// Those of `other`, which are of the same span, too.
    pub(in crate::operator) fn add(&mut self, other: &Self) {
        self.first_run = self.first_run.min(other.first_run);
        self.partitions.0.iter_mut().zip(other.partitions.0).for_each(|(own, others)| *own |= others);
    }

    /// Where they lie in this generation, ascending.
    pub(in crate::operator) fn places(&self, generation: u16) -> VecDeque<Range<Vec<u8>>> {
        let places = self.partitions.iter().map(|partition| {
            let place = |run| place_of(generation, self.span, partition, (TABLE, run));
            place(self.first_run)..[place(u32::MAX).as_slice(), &[255; 5]].concat()
        });
        places.collect()
    }
}

/// Where a generation of runs begins, or the rows of a span in it.
pub(in crate::operator) fn run_place(generation: u16, span: Option<Span>) -> Vec<u8> {
    span.map_or_else(|| generation.to_be_bytes().to_vec(), |span| place(generation, span, 0))
}

/// Behind the last run of a span.
pub(in crate::operator) fn span_end(generation: u16, span: Span) -> Vec<u8> {
    place(generation, span, PARTITIONS)
}

/// Behind the last run of a generation.
pub(in crate::operator) fn runs_end(generation: u16) -> Vec<u8> {
    generation.checked_add(1).map_or(vec![255; 32], |next| run_place(next, None))
}

impl SweptRuns {
    /// A run has come, with rows in these partitions.
    pub(super) fn note(&mut self, span: Span, run: u32, written: &[(u32, u64)]) {
        let mut partitions = Partitions::default();
        written.iter().for_each(|(partition, _)| partitions.add(*partition));
        let new = Written { span, first_run: run, partitions };
        self.written.entry(span).and_modify(|noted| noted.add(&new)).or_insert(new);
    }

    /// The span is gone. It is the first of all: slices go when no window takes a row of them, or of those before them, any more.
    pub(super) fn forget(&mut self, span: Span) {
        self.written.remove(&span);
        self.gone = self.gone.max(Some(span));
    }
}

impl SpilledRuns {
    /// The runs that have come since the last time; the first time none, but all are to be looked at. `table` is what
    /// their rows are.
    pub(in crate::operator) fn piece(&mut self, table: &Arc<Stored>) -> PieceOfRuns {
        let runs = StoreRuns { area: self.spill.area.clone(), table: Arc::clone(table), generation: self.generation };
        let swept = self.swept.get_or_insert_with(|| {
            self.generations = self.generations.wrapping_add(1);
            if self.generations == self.generation {
                self.generations = self.generations.wrapping_add(1);
            }
            SweptRuns { to: self.generations, written: BTreeMap::new(), gone: None, caught_up: false }
        });
        let written = std::mem::take(&mut swept.written).into_values().collect();
        PieceOfRuns { runs, to: swept.to, written, gone: swept.gone }
    }

    /// As [`crate::operator::spilled_keys::SpilledKeys::caught_up`].
    pub(in crate::operator) fn caught_up(&mut self, is: bool) {
        self.swept.iter_mut().for_each(|swept| swept.caught_up = is);
    }

    /// Bytes that may be held in memory before runs are written.
    pub(in crate::operator) fn memory_bytes_now(&self) -> usize {
        let most = self.memory_bytes();
        let holds = self.swept.as_ref().is_some_and(|swept| swept.caught_up);
        if holds { most.saturating_add(most / 2) } else { most }
    }

    /// Nothing more is handed over.
    pub(in crate::operator) fn end_sweep(&mut self) {
        self.swept = None;
    }

    /// What is in the store is that of another version from now on.
    pub(in crate::operator) fn adopt(&mut self, made: &MadeRuns) {
        (self.generation, self.swept) = (made.generation, None);
        self.tables = Arc::new(vec![made.table.codec.clone()]);
        for span in self.spans.values_mut() {
            // about
            let scaled = |bytes: u64| bytes.saturating_mul(made.bytes_of_1000) / 1_000;
            span.bytes = scaled(span.bytes);
            for block in span.blocks.iter_mut().flatten() {
                (block.id, block.bytes) = (next_freezing(), scaled(block.bytes));
            }
        }
    }
}
