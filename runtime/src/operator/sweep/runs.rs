//! Runs of rows that lie in the scratch store, migrated while the operator goes on: as `sweep/store.rs` does it with rows of
//! keys, value by value under another generation.
//!
//! Runs do not change, and of a span that is gone nobody asks: so what has been made is never looked at again, and the
//! task notes no more than which runs have come meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::store::{SWEEP_BYTES, of_table, remove_later, text};
use crate::limits::{BATCH_ROWS, SWEEP_ROWS};
use crate::operator::migration::Migration;
use crate::operator::spilled_keys::Stored;
use crate::operator::spilled_runs::{Span, Written, run_place, runs_end, span_end};
use crate::spill::{Area, Put, RowReader, SpillError};

/// Places that are looked at together: each takes some microseconds, whether something lies there or not.
const LOOKED_AT_ONCE: usize = 256;

/// Runs of an operator that lie in the store.
#[derive(Clone, Debug)]
pub(in crate::operator) struct StoreRuns {
    pub(in crate::operator) area: Area,
    pub(in crate::operator) table: Arc<Stored>,
    pub(in crate::operator) generation: u16,
}

/// Which runs of the store have come.
#[derive(Debug)]
pub(in crate::operator) struct PieceOfRuns {
    pub(in crate::operator) runs: StoreRuns,
    pub(in crate::operator) to: u16,
    pub(in crate::operator) written: Vec<Written>,
    /// the last span that is gone: neither it nor those before it come again
    pub(in crate::operator) gone: Option<Span>,
}

/// Runs of the new version that lie in the store, ready to be taken over.
#[derive(Debug)]
pub(in crate::operator) struct MadeRuns {
    pub(in crate::operator) table: Arc<Stored>,
    pub(in crate::operator) generation: u16,
    /// what they take of what the old ones take, of a thousand
    pub(in crate::operator) bytes_of_1000: u64,
}

/// Runs of the new version as far as they have been made.
#[derive(Debug)]
pub(super) struct RunsMade {
    from: StoreRuns,
    to: u16,
    table: Arc<Stored>,
    /// the first place that has not been looked at; none once all have been that there were
    next: Option<Vec<u8>>,
    /// what has come behind it
    waiting: BTreeMap<Span, Written>,
    /// where what is left of one of these lies
    places: VecDeque<Range<Vec<u8>>>,
    /// see [`PieceOfRuns`]
    gone: Option<Span>,
    /// of values that were read, and of those that were made of them
    bytes: (u64, u64),
    taken: bool,
}

/// Values that were read.
struct Found<'a> {
    reader: RowReader<'a>,
    places: Vec<Vec<u8>>,
    /// by value: the number of its rows and of all before it
    ends: Vec<usize>,
    bytes: usize,
}

impl Found<'_> {
    fn is_full(&self) -> bool {
        self.reader.rows() >= SWEEP_ROWS || self.bytes >= SWEEP_BYTES
    }
}

impl RunsMade {
    /// Nothing yet.
    pub(super) fn new(piece: &PieceOfRuns, migrations: &[Migration]) -> Result<Self, String> {
        let old = &piece.runs.table;
        let mut schema = Arc::clone(&old.schema);
        for migration in of_table(migrations, old.name).into_iter().filter_map(|at| migrations.get(at)) {
            schema = Arc::new(migration.schema(&schema, old.keys).map_err(text)?);
        }
        Ok(Self {
            table: Arc::new(Stored::of(old.name, schema, old.keys).map_err(text)?),
            to: piece.to,
            next: Some(run_place(piece.runs.generation, None)),
            waiting: BTreeMap::new(),
            places: VecDeque::new(),
            gone: piece.gone,
            bytes: (0, 0),
            taken: false,
            from: piece.runs.clone(),
        })
    }

    /// Whether every run has been looked at.
    pub(super) fn has_seen_all(&self) -> bool {
        self.next.is_none() && self.places.is_empty() && self.waiting.is_empty()
    }

    /// Takes note of runs that have come.
    pub(super) fn take_in(&mut self, piece: PieceOfRuns) {
        self.ends_with(&piece);
        for written in piece.written {
            // what lies ahead is come by
            let begin = run_place(self.from.generation, Some(written.span));
            if self.next.as_ref().is_some_and(|next| begin >= *next) {
                continue;
            }
            self.waiting.entry(written.span).and_modify(|waiting| waiting.add(&written)).or_insert(written);
        }
        self.waiting.retain(|span, _| self.gone.is_none_or(|gone| *span > gone));
    }

    /// Takes note of which spans are gone.
    pub(super) fn ends_with(&mut self, piece: &PieceOfRuns) {
        self.gone = self.gone.max(piece.gone);
    }

    /// Migrates the next values that nobody has looked at. How many rows.
    pub(super) fn go_on(&mut self, migrations: &mut [Migration]) -> Result<usize, String> {
        let (old, generation) = (Arc::clone(&self.from.table), self.from.generation);
        let mut found = Found { reader: old.codec.reader(0), places: Vec::new(), ends: Vec::new(), bytes: 0 };
        if let Some(next) = self.next.take() {
            self.next = self.read(&(next..runs_end(generation)), &mut found)?;
        } else {
            let mut looked = 0;
            while looked < LOOKED_AT_ONCE && !found.is_full() {
                if self.places.is_empty() {
                    let first = self.waiting.pop_first();
                    self.places = first.map(|(_, written)| written.places(generation)).unwrap_or_default();
                }
                let Some(range) = self.places.pop_front() else { break };
                looked += 1;
                if let Some(rest) = self.read(&range, &mut found)? {
                    self.places.push_front(rest..range.end);
                }
            }
        }
        self.make(found, migrations)
    }

    /// Adds the values that lie in `places`. The first place that is left, if any.
    fn read(&self, places: &Range<Vec<u8>>, found: &mut Found<'_>) -> Result<Option<Vec<u8>>, String> {
        let damaged = |reason: &str| self.from.area.damaged(reason).to_string();
        for entry in self.from.area.range(&places.start, &places.end) {
            let (place, value) = entry.map_err(text)?;
            let read = found.reader.read(&value).ok_or_else(|| damaged("a row ends too early"))?;
            read.map_err(text)?;
            found.ends.push(found.reader.rows());
            found.bytes += value.len();
            let rest = found.is_full().then(|| [place.as_slice(), &[0]].concat());
            found.places.push(place);
            if rest.is_some() {
                return Ok(rest);
            }
        }
        Ok(None)
    }

    /// Writes what the new version keeps in place of these values. How many rows.
    fn make(&mut self, found: Found<'_>, migrations: &mut [Migration]) -> Result<usize, String> {
        let Found { reader, places, ends, bytes } = found;
        let (old, count) = (Arc::clone(&self.from.table), reader.rows());
        if places.is_empty() {
            return Ok(0);
        }
        let rows = old.batch(count, reader.finish().map_err(text)?)?;
        let mut values: Vec<Vec<u8>> = vec![Vec::new(); places.len()];
        let which = of_table(migrations, old.name);
        let mut at = 0;
        for from in (0..count).step_by(BATCH_ROWS) {
            let mut piece = rows.slice(from, BATCH_ROWS.min(count - from));
            for number in &which {
                let Some(migration) = migrations.get_mut(*number) else { continue };
                piece = migration.batch(&piece, old.keys).map_err(text)?;
            }
            let writer = self.table.codec.writer(piece.columns()).map_err(text)?;
            for row in 0..piece.num_rows() {
                while ends.get(at).is_some_and(|end| from + row >= *end) {
                    at += 1;
                }
                values.get_mut(at).into_iter().for_each(|value| writer.push(row, value));
            }
        }
        self.write(places, values, bytes)?;
        Ok(count)
    }

    fn write(&mut self, places: Vec<Vec<u8>>, values: Vec<Vec<u8>>, bytes_read: usize) -> Result<(), String> {
        let bytes: usize = values.iter().map(Vec::len).sum();
        self.bytes = (self.bytes.0 + bytes_read as u64, self.bytes.1 + bytes as u64);
        let begin = run_place(self.to, None);
        let made = |place: Vec<u8>| [begin.as_slice(), place.get(begin.len()..).unwrap_or_default()].concat();
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = places.into_iter().map(made).zip(values).collect();
        entries.sort_unstable();
        // of a span of which more has come while it was looked at
        entries.dedup_by(|one, other| one.0 == other.0);
        let write =
            |put: &mut Put<'_, SpillError>| entries.iter().try_for_each(|(place, value)| put(place, Some(value)));
        self.from.area.write(bytes, write).map_err(text)
    }

    /// What the operator goes on with from now on; once.
    pub(super) fn take(&mut self) -> Option<MadeRuns> {
        if std::mem::replace(&mut self.taken, true) {
            return None;
        }
        let (old, new) = self.bytes;
        let bytes_of_1000 = new.saturating_mul(1_000).checked_div(old).unwrap_or(1_000);
        Some(MadeRuns { table: Arc::clone(&self.table), generation: self.to, bytes_of_1000 })
    }
}

/// Removes what nobody reads any more.
impl Drop for RunsMade {
    fn drop(&mut self) {
        let all = |generation| run_place(generation, None)..runs_end(generation);
        let useless = if self.taken {
            // and what was made of spans that were gone before it ended
            let gone = self.gone.map(|gone| run_place(self.to, None)..span_end(self.to, gone));
            std::iter::once(all(self.from.generation)).chain(gone).collect()
        } else {
            vec![all(self.to)]
        };
        remove_later(self.from.area.clone(), useless);
    }
}
