//! Rows of state that lie in the scratch store, migrated while the operator goes on with them.
//!
//! ```text
//!   `k` · generation 1 · partition · key    what the operator reads and writes
//!   `k` · generation 2 · partition · key    the same rows, as the new version keeps them
//!   `n` · generation 2 · partition · key    no value: a note that the rows of generation 1 have changed
//! ```
//!
//! Rows are read and written by the thread that migrates, some thousands at a time from the first to the last. The task notes
//! which keys it takes out of the store and puts into it meanwhile, in memory, and in the store itself when these are many; of
//! those the thread looks again what is there. At the cut
//! the operator goes on with the other generation, and the rows of its own are removed by a thread that nobody waits for; if
//! the migration is given up those of the other one are.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::thread;

use arrow_array::RecordBatch;

use crate::limits::{BATCH_ROWS, SWEEP_ROWS};
use crate::operator::migration::Migration;
use crate::operator::spilled_keys::{
    Parts, Stored, generation_end, generation_place, note_place, notes_end, without_generation,
};
use crate::spill::{Area, Put, SpillError, Value};

/// Bytes of values that are migrated together, about: values may be of any length.
pub(super) const SWEEP_BYTES: usize = 16 << 20;

/// Bytes that a note takes in memory beside its place.
const NOTE_BYTES: usize = 48;

/// Keys that are removed at once.
const REMOVED_AT_ONCE: usize = 4_096;

/// What changes in the store while its rows are handed over.
#[derive(Debug)]
pub(in crate::operator) struct SweptStore {
    /// of the rows that are made
    to: u16,
    /// places whose rows have come or gone, without their generation
    changed: BTreeSet<Vec<u8>>,
    /// what these take
    bytes: usize,
    /// what they may take: then they go to the store
    most_bytes: usize,
    /// some have since the last piece
    is_noted_there: bool,
    /// all but a little has been handed over
    pub(in crate::operator) caught_up: bool,
}

impl SweptStore {
    /// Rows are made as those of generation `to`. What changes is noted in so many bytes of memory.
    pub(in crate::operator) fn new(to: u16, most_bytes: usize) -> Self {
        Self { to, changed: BTreeSet::new(), bytes: 0, most_bytes, is_noted_there: false, caught_up: false }
    }

    /// What is kept at these places has come, gone, or changed: already, as the thread looks whenever it finds a note.
    pub(in crate::operator) fn note<'a>(
        &mut self,
        places: impl Iterator<Item = &'a [u8]>,
        area: &Area,
    ) -> Result<(), SpillError> {
        for place in places {
            if self.changed.insert(place.to_vec()) {
                self.bytes += NOTE_BYTES + place.len();
            }
            if self.bytes > self.most_bytes {
                self.put_away(area)?;
            }
        }
        Ok(())
    }

    fn put_away(&mut self, area: &Area) -> Result<(), SpillError> {
        let (notes, to) = (std::mem::take(&mut self.changed), self.to);
        let bytes = std::mem::take(&mut self.bytes);
        self.is_noted_there = true;
        area.write(bytes, |put| notes.iter().try_for_each(|place| put(&note_place(to, place), Some(&[]))))
    }

    /// Bytes of memory that notes take.
    pub(in crate::operator) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Changes since the last time, at most so many, of `rows`.
    pub(in crate::operator) fn piece(&mut self, rows: StoreRows, most: usize) -> PieceOfStore {
        let changed: Vec<Vec<u8>> = std::iter::from_fn(|| self.changed.pop_first()).take(most).collect();
        self.bytes -= changed.iter().map(|place| NOTE_BYTES + place.len()).sum::<usize>().min(self.bytes);
        let is_noted_there = std::mem::take(&mut self.is_noted_there);
        PieceOfStore { rows, to: self.to, changed, is_noted_there }
    }
}

/// Rows of an operator that lie in the store.
#[derive(Clone, Debug)]
pub(in crate::operator) struct StoreRows {
    pub(in crate::operator) area: Area,
    pub(in crate::operator) tables: Arc<Vec<Stored>>,
    pub(in crate::operator) generation: u16,
}

/// Which rows of the store are to be looked at again.
#[derive(Debug)]
pub(in crate::operator) struct PieceOfStore {
    rows: StoreRows,
    to: u16,
    pub(super) changed: Vec<Vec<u8>>,
    /// whether there are notes in the store, too
    is_noted_there: bool,
}

impl PieceOfStore {
    /// Whether it brings nothing new.
    pub(super) fn is_empty(&self) -> bool {
        self.changed.is_empty() && !self.is_noted_there
    }
}

/// Rows of the new version that lie in the store, ready to be taken over.
#[derive(Debug)]
pub(in crate::operator) struct MadeRows {
    pub(in crate::operator) tables: Arc<Vec<Stored>>,
    pub(in crate::operator) generation: u16,
    /// what they take of what the old ones take, of a thousand
    pub(in crate::operator) bytes_of_1000: u64,
}

/// Rows of the new version as far as they have been made.
#[derive(Debug)]
pub(super) struct MadeStore {
    from: StoreRows,
    to: u16,
    tables: Arc<Vec<Stored>>,
    /// the first place that has not been looked at; none once all have been
    next: Option<Vec<u8>>,
    /// the first place of which a note in the store has not been read; none where there are none
    notes: Option<Vec<u8>>,
    /// of rows that were read, and of those that were made of them
    bytes: (u64, u64),
    taken: bool,
}

pub(super) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Numbers of the migrations of a table.
pub(super) fn of_table(migrations: &[Migration], name: &str) -> Vec<usize> {
    (0..).zip(migrations).filter(|(_, migration)| migration.kept.table == name).map(|(at, _)| at).collect()
}

impl MadeStore {
    /// Nothing yet.
    pub(super) fn new(piece: &PieceOfStore, migrations: &[Migration]) -> Result<Self, String> {
        let from = piece.rows.clone();
        let table = |old: &Stored| {
            let mut schema = Arc::clone(&old.schema);
            for migration in of_table(migrations, old.name).into_iter().filter_map(|at| migrations.get(at)) {
                schema = Arc::new(migration.schema(&schema, old.keys).map_err(text)?);
            }
            Stored::of(old.name, schema, old.keys).map_err(text)
        };
        let tables = from.tables.iter().map(table).collect::<Result<Vec<_>, String>>()?;
        let tables = Arc::new(tables);
        Ok(Self { to: piece.to, tables, next: Some(Vec::new()), notes: None, bytes: (0, 0), taken: false, from })
    }

    /// Whether every row has been looked at, again where it has changed.
    pub(super) fn has_seen_all(&self) -> bool {
        self.next.is_none() && self.notes.is_none()
    }

    /// Looks again at what has changed. The error is for people.
    pub(super) fn take_in(&mut self, piece: &PieceOfStore, migrations: &mut [Migration]) -> Result<(), String> {
        if piece.is_noted_there {
            self.notes = Some(Vec::new());
        }
        self.look_again(&piece.changed, migrations)
    }

    fn look_again(&mut self, changed: &[Vec<u8>], migrations: &mut [Migration]) -> Result<(), String> {
        let (mut found, mut gone) = (Vec::with_capacity(changed.len()), Vec::new());
        let mut bytes = 0;
        // what lies ahead is come by
        let ahead = self.next.clone();
        for place in changed.iter().filter(|place| ahead.as_ref().is_none_or(|next| *place < next)) {
            if bytes >= SWEEP_BYTES {
                self.make(&std::mem::take(&mut found), std::mem::take(&mut gone), migrations)?;
                bytes = 0;
            }
            match self.from.area.get(&generation_place(self.from.generation, place)).map_err(text)? {
                Some(value) => {
                    bytes += value.len();
                    found.push((place.clone(), value));
                }
                None => gone.push(place.clone()),
            }
        }
        self.make(&found, gone, migrations)
    }

    /// Migrates the next rows that nobody has looked at, or again those of which there are notes. How many keys.
    pub(super) fn go_on(&mut self, migrations: &mut [Migration]) -> Result<usize, String> {
        let Some(next) = self.next.take() else { return self.read_notes(migrations) };
        let (area, generation) = (&self.from.area, self.from.generation);
        let (mut found, mut bytes) = (Vec::new(), 0);
        for entry in area.range(&generation_place(generation, &next), &generation_end(generation)).take(SWEEP_ROWS) {
            let (place, value) = entry.map_err(text)?;
            bytes += value.len();
            found.push((without_generation(&place).to_vec(), value));
            if bytes >= SWEEP_BYTES {
                break;
            }
        }
        if found.len() == SWEEP_ROWS || bytes >= SWEEP_BYTES {
            self.next = found.last().map(|(place, _)| [place.as_slice(), &[0]].concat());
        }
        self.make(&found, Vec::new(), migrations)?;
        Ok(found.len())
    }

    /// Looks again where notes in the store say so. How many of them.
    fn read_notes(&mut self, migrations: &mut [Migration]) -> Result<usize, String> {
        let Some(from) = self.notes.take() else { return Ok(0) };
        let area = self.from.area.clone();
        let notes = area.range(&note_place(self.to, &from), &notes_end(self.to)).take(SWEEP_ROWS);
        let notes = notes.map(|note| note.map(|(note, _)| note)).collect::<Result<Vec<_>, _>>().map_err(text)?;
        // before rows are read: if one changes again in between, its note either stays or is of what is read now
        area.write::<SpillError>(0, |put| notes.iter().try_for_each(|note| put(note, None))).map_err(text)?;
        let places: Vec<Vec<u8>> = notes.iter().map(|note| without_generation(note).to_vec()).collect();
        self.look_again(&places, migrations)?;
        if places.len() == SWEEP_ROWS {
            self.notes = places.last().map(|last| [last.as_slice(), &[0]].concat());
        }
        Ok(places.len())
    }

    /// Writes what the new version keeps in place of the values that were `found`, and of those that are `gone`; both
    /// ascending.
    fn make(
        &mut self,
        found: &[(Vec<u8>, Value)],
        gone: Vec<Vec<u8>>,
        migrations: &mut [Migration],
    ) -> Result<(), String> {
        let values = self.migrated(found, migrations)?;
        let mut about_bytes = 0;
        let mut entries: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::with_capacity(found.len() + gone.len());
        entries.extend(gone.into_iter().map(|place| (generation_place(self.to, &place), None)));
        for ((place, old), new) in found.iter().zip(values) {
            let place = generation_place(self.to, place);
            self.bytes.0 += (place.len() + old.len()) as u64;
            self.bytes.1 += (place.len() + new.len()) as u64;
            about_bytes += place.len() + new.len();
            entries.push((place, Some(new)));
        }
        if entries.is_empty() {
            return Ok(());
        }
        entries.sort_unstable();
        let write =
            |put: &mut Put<'_, SpillError>| entries.iter().try_for_each(|(place, value)| put(place, value.as_deref()));
        self.from.area.write(about_bytes, write).map_err(text)
    }

    /// The values of the new version.
    fn migrated(&self, found: &[(Vec<u8>, Value)], migrations: &mut [Migration]) -> Result<Vec<Vec<u8>>, String> {
        let (from, count) = (&self.from, self.from.tables.len());
        let damaged = |reason: &str| from.area.damaged(reason).to_string();
        let early = || damaged("what is kept of a key ends too early");
        let parts: Option<Vec<Parts<'_>>> = found.iter().map(|(_, value)| Parts::read(value, count)).collect();
        let parts = parts.ok_or_else(early)?;
        // by table, then by value
        let mut made: Vec<Option<Vec<Vec<u8>>>> = Vec::with_capacity(count);
        for (number, (old, new)) in from.tables.iter().zip(self.tables.iter()).enumerate() {
            let which = of_table(migrations, old.name);
            if which.is_empty() {
                made.push(None);
                continue;
            }
            let mut reader = old.codec.reader(0);
            let mut owners = Vec::new();
            for (value, parts) in parts.iter().enumerate() {
                let bytes = parts.tables.get(number).copied().unwrap_or_default();
                reader.read(bytes).ok_or_else(early)?.map_err(text)?;
                owners.resize(reader.rows(), value);
            }
            let columns = reader.finish().map_err(text)?;
            let rows = old.batch(owners.len(), columns)?;
            let mut values = vec![Vec::new(); parts.len()];
            for from in (0..rows.num_rows()).step_by(BATCH_ROWS) {
                let mut piece: RecordBatch = rows.slice(from, BATCH_ROWS.min(rows.num_rows() - from));
                for at in &which {
                    let Some(migration) = migrations.get_mut(*at) else { continue };
                    piece = migration.batch(&piece, old.keys).map_err(text)?;
                }
                let writer = new.codec.writer(piece.columns()).map_err(text)?;
                for row in 0..piece.num_rows() {
                    let value = owners.get(from + row).and_then(|value| values.get_mut(*value));
                    value.into_iter().for_each(|value| writer.push(row, value));
                }
            }
            made.push(Some(values));
        }
        let values = parts.iter().enumerate().map(|(value, old)| {
            let table = |(number, made): (usize, &Option<Vec<Vec<u8>>>)| match made {
                Some(values) => values.get(value).map(Vec::as_slice).unwrap_or_default().to_vec(),
                None => old.tables.get(number).copied().unwrap_or_default().to_vec(),
            };
            let tables: Vec<Vec<u8>> = made.iter().enumerate().map(table).collect();
            let new = Parts { wakes: old.wakes, tables: tables.iter().map(Vec::as_slice).collect() };
            new.write().ok_or_else(|| damaged("what is kept of a key is more than 4 GiB"))
        });
        values.collect()
    }

    /// What the operator goes on with from now on; once.
    pub(super) fn take(&mut self) -> Option<MadeRows> {
        if std::mem::replace(&mut self.taken, true) {
            return None;
        }
        let (old, new) = self.bytes;
        let bytes_of_1000 = new.saturating_mul(1_000).checked_div(old).unwrap_or(1_000);
        Some(MadeRows { tables: Arc::clone(&self.tables), generation: self.to, bytes_of_1000 })
    }
}

/// Removes what nobody reads any more.
impl Drop for MadeStore {
    fn drop(&mut self) {
        let generation = if self.taken { self.from.generation } else { self.to };
        let rows = generation_place(generation, &[])..generation_end(generation);
        let notes = note_place(self.to, &[])..notes_end(self.to);
        remove_later(self.from.area.clone(), vec![rows, notes]);
    }
}

/// Removes what lies there, in a thread that nobody waits for. What it does not remove takes room until the pipeline ends, and is
/// never read.
pub(super) fn remove_later(area: Area, places: Vec<Range<Vec<u8>>>) {
    let remove = move || {
        for places in places {
            if let Err(error) = remove(&area, &places) {
                tracing::warn!(%error, "rows of state of another version stay in the scratch store");
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("migration-rows".to_owned()).spawn(remove) {
        tracing::warn!(%error, "rows of state of another version stay in the scratch store");
    }
}

fn remove(area: &Area, places: &Range<Vec<u8>>) -> Result<(), SpillError> {
    let mut from = places.start.clone();
    loop {
        let rows = area.range(&from, &places.end).take(REMOVED_AT_ONCE);
        let gone = rows.map(|row| row.map(|(place, _)| place)).collect::<Result<Vec<_>, _>>()?;
        area.write::<SpillError>(0, |put| gone.iter().try_for_each(|place| put(place, None)))?;
        let Some(last) = gone.last().filter(|_| gone.len() == REMOVED_AT_ONCE) else { return Ok(()) };
        // what has been removed takes the store time, too
        from = [last.as_slice(), &[0]].concat();
    }
}
