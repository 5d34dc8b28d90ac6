//! A left row meets the latest right row of its key, as known when the left row comes.
//!
//! The right side reaches all tasks, and each of them holds all of it; a row takes the place of the one with its key. The
//! order between the two inputs is that of arrival. Results carry the time of the left row. Rows of the right side with a
//! null in their key can never be found and are not held.

mod spilled;

use arrow_array::ArrayRef;

use super::columns::{Joined, NO_WINDOW, nulls};
use super::rows::{NO_ROW, Rows};
use super::{JoinColumns, LEFT, RIGHT, internal, keys, saved};
use crate::operator::join::spilled::SpillingJoin;
use crate::operator::spilled_keys::{SpilledKeys, Spilling};
use crate::operator::{Operator, OperatorError, Output};
use crate::record::{Batch, Watermark};
use crate::state::{KeyTable, Later, Snapshot};

/// The table in a snapshot.
const TABLE: &str = "rules";

/// Below this many keys the table is not made anew.
const COMPACT_FROM_KEYS: usize = 1_024;

/// The operator.
pub struct LookupJoin {
    columns: JoinColumns,
    nulls: Vec<ArrayRef>,
    table: KeyTable,
    rows: Rows,
    /// by number of the key: its row
    latest: Vec<u32>,
    slots: Vec<u32>,
    /// keys that do not fit into memory, where that is bounded
    spilled: Option<Box<SpilledKeys>>,
}

impl LookupJoin {
    /// An operator that knows nothing yet.
    pub fn new(columns: JoinColumns) -> Self {
        Self {
            nulls: nulls(&columns),
            table: keys::table(&columns),
            columns,
            rows: Rows::default(),
            latest: Vec::new(),
            slots: Vec::new(),
            spilled: None,
        }
    }

    /// Rows of the right side that are held at the moment.
    pub fn rows_held(&self) -> usize {
        self.rows.len()
    }

    /// Keys that are held at the moment, those that were only asked for included.
    pub fn keys_held(&self) -> usize {
        self.table.len()
    }

    fn learn(&mut self, batch: Batch) -> Result<(), OperatorError> {
        let batch = keys::split(batch, &self.columns.keys[RIGHT])?.keyed;
        let columns = batch.columns().columns();
        keys::slots(&mut self.table, columns, &self.columns.keys[RIGHT], batch.rows(), &mut self.slots)?;
        let mut numbers = Vec::with_capacity(batch.rows());
        self.rows.add(batch.columns(), &mut numbers)?;
        self.latest.resize(self.table.len(), NO_ROW);
        let mut gone = Vec::new();
        for (key, number) in self.slots.iter().zip(numbers) {
            let Some(latest) = self.latest.get_mut(*key as usize) else { continue };
            let before = std::mem::replace(latest, number);
            gone.extend((before != NO_ROW).then_some(before));
        }
        self.rows.remove(&gone)
    }

    fn look_up(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let split = keys::split(batch, &self.columns.keys[LEFT])?;
        let columns = split.keyed.columns().columns();
        keys::slots(&mut self.table, columns, &self.columns.keys[LEFT], split.keyed.rows(), &mut self.slots)?;
        let right = self.rows.batches();
        let loners = split.loners.as_ref().filter(|_| self.columns.kind.keeps(LEFT));
        let left: Vec<_> = std::iter::once(&split.keyed).chain(loners).map(Batch::columns).collect();
        let mut joined = Joined::new(&self.columns, &self.nulls, [&left, &right])?;
        for (row, (key, time)) in self.slots.iter().zip(split.keyed.times()).enumerate() {
            let latest = self.latest.get(*key as usize).filter(|latest| **latest != NO_ROW);
            let found = latest.and_then(|latest| self.rows.place(*latest));
            if found.is_some() || self.columns.kind.keeps(LEFT) {
                joined.push(Some((0, row)), found, *time, NO_WINDOW, out)?;
            }
        }
        for (row, time) in loners.iter().flat_map(|loners| loners.times()).enumerate() {
            joined.push(Some((1, row)), None, *time, NO_WINDOW, out)?;
        }
        joined.finish(out)?;
        self.forget_unknown()
    }

    /// Keys that were asked for and are not there take numbers too: makes the table anew when most are of that kind.
    fn forget_unknown(&mut self) -> Result<(), OperatorError> {
        let keys = self.table.len();
        if keys < COMPACT_FROM_KEYS || keys < 2 * self.rows.len() {
            return Ok(());
        }
        let known = (0u32..).zip(&self.latest).filter(|(_, row)| **row != NO_ROW);
        let known: Vec<u32> = known.map(|(key, _)| key).collect();
        let moves = self.table.retain(&known).map_err(|error| internal(&error))?;
        self.spilled.iter_mut().for_each(|spilled| spilled.renumber(&moves));
        let latest = |(old, _): (u32, u32)| self.latest.get(old as usize).copied().unwrap_or(NO_ROW);
        self.latest = moves.into_iter().map(latest).collect();
        Ok(())
    }
}

impl Operator for LookupJoin {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(LEFT, batch, out)
    }

    fn on_input(&mut self, side: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let rows = batch.rows();
        self.bring_in(side, &batch)?;
        if side == LEFT {
            self.look_up(batch, out)?;
        } else {
            self.learn(batch)?;
        }
        self.spill_if_over(rows)
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        let later = |part| saved::later(part, &self.columns.keys[RIGHT], |_| (0, false), |_| Vec::new());
        let mut rows: Vec<Later> = self.rows.freeze().into_iter().map(later).collect();
        rows.extend(self.spilled.iter().flat_map(|spilled| spilled.freeze()).flatten());
        // all tasks hold all of it
        Ok(Snapshot::default().with(TABLE, None, Vec::new()).with_later(rows))
    }

    fn restore(&mut self, state: &Snapshot, _watermark: Watermark) -> Result<(), OperatorError> {
        // a copy of each task: rows that come again take their own place
        let saved = saved::table(TABLE, &self.columns, RIGHT).everywhere();
        for table in saved.rows(state)? {
            let keys = self.columns.keys[RIGHT].len();
            let batch = saved::restored(table, &self.columns.inputs[RIGHT], keys)?.batch;
            self.bring_in(RIGHT, &batch)?;
            self.learn(batch)?;
            self.spill_if_over(table.num_rows())?;
        }
        Ok(())
    }
}
