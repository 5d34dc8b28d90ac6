//! State of the new version, made beside the old one's.

use std::collections::BTreeMap;
use std::fmt;

use super::runs::RunsMade;
use super::store::MadeStore;
use super::{Kept, MadeRows, MadeRuns, Piece, PieceOfSlice};
use crate::operator::migration::Migration;
use crate::operator::process_state::blank;
use crate::record::EventTime;
use crate::state::{Chunked, Columns};

/// State of the new version, made of pieces of the old one's.
#[derive(Debug)]
pub struct Made {
    migrations: Vec<Migration>,
    /// of each, columns without slots
    empty: Vec<Columns>,
    /// the same of each slice
    slices: BTreeMap<EventTime, Vec<Columns>>,
    /// of keys that are not in memory
    store: Option<MadeStore>,
    /// of runs that are not
    runs: Option<RunsMade>,
}

/// State of one component, ready to be taken over.
#[derive(Debug)]
pub struct MadeColumns {
    /// by start of the slice
    pub(in crate::operator) slices: BTreeMap<EventTime, Columns>,
    /// rows of all components that are not in memory, beside those of the first that is taken
    pub(in crate::operator) store: Option<MadeRows>,
    /// runs, likewise
    pub(in crate::operator) runs: Option<MadeRuns>,
}

/// What a component has kept for slices and does no more.
#[derive(Default)]
pub struct Left(pub(in crate::operator) Vec<Columns>);

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Left({})", self.0.len())
    }
}

/// What slots hold that have no state yet.
fn empty(migration: &mut Migration) -> Result<Columns, String> {
    let guest = &mut migration.guest;
    let fields = guest.signature().state.as_ref().map(|state| state.fields.clone());
    let fields = fields.ok_or("the component keeps no state")?;
    let initial = match guest.signature().process {
        Some(_) => blank(&fields).map_err(|error| error.to_string())?,
        None => guest.create().map_err(|error| error.to_string())?,
    };
    Columns::new(&fields, &initial).map_err(|error| error.to_string())
}

impl Made {
    /// Nothing yet. An error is one of a component that fails to make an empty accumulator.
    pub(crate) fn new(mut migrations: Vec<Migration>) -> Result<Self, String> {
        let empty = migrations.iter_mut().map(empty).collect::<Result<_, _>>()?;
        Ok(Self { migrations, empty, slices: BTreeMap::new(), store: None, runs: None })
    }

    /// What is read of an operator.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.migrations.iter().map(Kept::of).collect()
    }

    /// Whether there is something to be done with `piece`. If not, it is the last.
    pub(crate) fn needs(&mut self, piece: &Piece) -> bool {
        let is_new = piece.store.is_some() && self.store.is_none() || piece.runs.is_some() && self.runs.is_none();
        if let (Some(runs), Some(piece)) = (&mut self.runs, &piece.runs) {
            runs.ends_with(piece);
        }
        is_new || !self.has_seen_all() || !piece.has_seen_all() || !piece.is_empty()
    }

    /// Whether all that is in the store has been looked at, where there is one.
    pub(crate) fn has_seen_all(&self) -> bool {
        self.store.iter().all(MadeStore::has_seen_all) && self.runs.iter().all(RunsMade::has_seen_all)
    }

    /// Migrates a piece, in the place of what was made of it before, and some of the rows of the store, where there are any:
    /// how many of those. The error is for people.
    pub(crate) fn take_in(&mut self, piece: Piece) -> Result<usize, String> {
        let Self { migrations, empty, slices, store, runs } = self;
        // in the order of time
        slices.retain(|start, _| piece.open.binary_search(start).is_ok());
        for PieceOfSlice { start, moves, slots, rows, gone } in piece.slices {
            let of_slice = slices.entry(start).or_insert_with(|| empty.clone());
            for ((migration, columns), rows) in migrations.iter_mut().zip(of_slice).zip(&rows) {
                moves.iter().for_each(|moves| columns.renumber(moves));
                // who gets the slot next begins with what is new
                drop(columns.split_off(&gone));
                if slots.is_empty() {
                    continue;
                }
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
        let mut stored = 0;
        if let Some(piece) = piece.store {
            let store = match store {
                Some(store) => store,
                None => store.insert(MadeStore::new(&piece, migrations)?),
            };
            store.take_in(&piece, migrations)?;
            stored += store.go_on(migrations)?;
        }
        if let Some(piece) = piece.runs {
            let runs = match runs {
                Some(runs) => runs,
                None => runs.insert(RunsMade::new(&piece, migrations)?),
            };
            runs.take_in(piece);
            stored += runs.go_on(migrations)?;
        }
        Ok(stored)
    }

    /// Takes all of it out, to be dropped.
    pub(crate) fn clear(&mut self) -> Self {
        let (slices, store, runs) = (std::mem::take(&mut self.slices), self.store.take(), self.runs.take());
        Self { migrations: Vec::new(), empty: Vec::new(), slices, store, runs }
    }

    /// The state of component `slot`; none where it is not migrated.
    pub(crate) fn take(&mut self, slot: usize) -> Option<MadeColumns> {
        let at = self.migrations.iter().position(|migration| migration.slot == slot)?;
        let empty = self.empty.get(at)?;
        let take = |(start, columns): (&EventTime, &mut Vec<Columns>)| {
            Some((*start, std::mem::replace(columns.get_mut(at)?, empty.clone())))
        };
        let slices = self.slices.iter_mut().filter_map(take).collect();
        let (store, runs) = (self.store.as_mut(), self.runs.as_mut());
        Some(MadeColumns { slices, store: store.and_then(MadeStore::take), runs: runs.and_then(RunsMade::take) })
    }
}

impl MadeColumns {
    /// That of what has only one slice; none where nothing was handed over.
    pub(in crate::operator) fn whole(&mut self) -> Option<Columns> {
        self.slices.remove(&super::WHOLE)
    }
}
