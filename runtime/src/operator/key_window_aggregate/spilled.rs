//! Keys whose windows do not fit into memory, see `spilled_keys.rs`. What is kept of a key are its windows, and their rows
//! where rows are kept.

use arrow_array::RecordBatch;

use super::{Due, KeyWindowAggregate};
use crate::operator::OperatorError;
use crate::operator::aggregate_fold::internal;
use crate::operator::spilled_keys::{ByKey, SpilledKeys, Spilling, Wake, Wakes};
use crate::spill::Spill;
use crate::state::{KeyTable, next_freezing};
use crate::window::{KeyWindow, Trigger};

impl ByKey for KeyWindowAggregate {
    fn key_table(&self) -> &KeyTable {
        &self.parts.table
    }

    fn saved(&mut self, slots: &[u32]) -> Result<Vec<Vec<RecordBatch>>, OperatorError> {
        let mut places = self.places_of(slots);
        places.retain(|place| !self.emptied.contains(place) || self.state.has(*place));
        let mut tables = vec![vec![self.windows_of(&places)?]];
        if self.whole.is_some() {
            tables.push(self.rows_of(&places)?.into_iter().collect());
        }
        Ok(tables)
    }

    fn wakes(&self, slots: &[u32]) -> Vec<Wakes> {
        let wakes = slots.iter().map(|slot| {
            let places = self.by_key.get(*slot as usize).into_iter().flatten();
            let windows = || places.clone().filter_map(|place| self.windows.get(*place as usize));
            let rings = matches!(self.trigger, Trigger::ProcessingTime { .. });
            let waits = rings && windows().any(|window| window.pending > 0);
            [windows().map(|window| window.timer).min(), waits.then_some(0), None]
        });
        wakes.collect()
    }

    fn keep(&mut self, slots: &[u32]) -> Result<Vec<(u32, u32)>, OperatorError> {
        let leaving: Vec<u32> = (0..self.by_key.len() as u32).filter(|key| slots.binary_search(key).is_err()).collect();
        let gone = self.places_of(&leaving);
        self.empty(&gone);
        // places without gaps: what windows take goes by the last of them
        let mut places = self.places_of(slots);
        places.sort_unstable();
        let moves: Vec<(u32, u32)> = places.into_iter().zip(0..).collect();
        let new = |old: u32| {
            let at = moves.binary_search_by_key(&old, |(old, _)| *old).ok()?;
            moves.get(at).map(|(_, new)| *new)
        };
        self.windows.renumber(&moves);
        self.state.renumber(&moves);
        let all: Vec<u32> = moves.iter().map(|(_, place)| *place).collect();
        self.state.make_room(&all);
        if let Some(whole) = &mut self.whole {
            whole.rows.renumber(&moves)?;
        }
        self.timers = self.timers.iter().filter_map(|(time, place)| Some((*time, new(*place)?))).collect();
        self.emptied = self.emptied.iter().filter_map(|place| new(*place)).collect();
        let moved = self.parts.table.retain(slots).map_err(|error| internal(&error))?;
        self.numbering = next_freezing();
        let mut by_key = Vec::with_capacity(moved.len());
        for (old, key) in &moved {
            let list = self.by_key.get_mut(*old as usize).map(std::mem::take).unwrap_or_default();
            let list: Vec<u32> = list.into_iter().filter_map(new).collect();
            for place in &list {
                self.windows.get_mut(*place as usize).into_iter().for_each(|window| window.key = *key);
            }
            by_key.push(list);
        }
        self.by_key = by_key;
        Ok(moved)
    }

    fn load(&mut self, tables: &[RecordBatch]) -> Result<(), OperatorError> {
        // as it was when all that was due had fired
        let watermark = std::mem::replace(&mut self.watermark, self.as_of);
        let (slots, rings) = (std::mem::take(&mut self.slots), self.rings);
        let loaded = match tables {
            [windows] => self.load_windows(windows),
            [windows, rows] => self.load_windows(windows).and_then(|()| self.load_rows(rows)),
            _ => Err(OperatorError::Internal { reason: "windows without tables".to_owned() }),
        };
        (self.watermark, self.slots, self.rings) = (watermark, slots, rings);
        loaded
    }

    fn state_bytes(&self) -> usize {
        let lists: usize = self.by_key.iter().map(|list| 24 + list.capacity() * 4).sum();
        let rows = self.whole.as_ref().map_or(0, |whole| whole.rows.bytes());
        let index = self.windows.bytes() + lists + self.timers.len() * 32 + self.groups.bytes();
        self.parts.table.bytes() + self.state.bytes() + rows + index
    }
}

impl Spilling for KeyWindowAggregate {
    fn spilled(&mut self) -> &mut Option<Box<SpilledKeys>> {
        &mut self.spilled
    }
}

impl KeyWindowAggregate {
    pub(super) fn with_spill(mut self, spill: Option<Spill>) -> Result<Self, OperatorError> {
        let Some(spill) = spill else { return Ok(self) };
        let windows = self.saved_table();
        let rows = self.whole.is_some().then(|| self.rows_table());
        let tables: Vec<_> = std::iter::once(&windows).chain(&rows).collect();
        self.spilled = Some(Box::new(SpilledKeys::new(spill, &tables)?));
        Ok(self)
    }

    #[cfg(test)]
    pub(in crate::operator) fn keys_spilled(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.keys_spilled())
    }

    /// Places of these keys' windows, by key, the earliest of a key first.
    pub(super) fn places_of(&self, keys: &[u32]) -> Vec<u32> {
        keys.iter().filter_map(|key| self.by_key.get(*key as usize)).flatten().copied().collect()
    }

    /// Brings the keys of `self.slots` back that are in the store; those from slot `known` on are new in memory.
    pub(super) fn look_up(&mut self, known: usize) -> Result<(), OperatorError> {
        self.lent(|of, spilled| {
            let found = spilled.look_up(of, known);
            spilled.note_used(&of.slots, known as u32..of.parts.table.len() as u32);
            found
        })
        .map(drop)
    }

    /// What the watermark makes due, some keys of the store at a time.
    pub(super) fn due_by_watermark(&mut self) -> Result<Due, OperatorError> {
        let more = self.bring_due(Wake::Event, self.watermark.0)?;
        let (fire, gone) = if self.window.ends() || self.watermark < crate::record::Watermark::MAX {
            self.due(more.unwrap_or(self.watermark.0))
        } else {
            let fires = self.window == KeyWindow::Global && self.trigger.fires_at_end();
            (if fires { self.all_open() } else { Vec::new() }, self.all_open())
        };
        Ok(Due { places: fire.into_iter(), gone: Some(gone), more: more.is_some() })
    }

    /// What the clock makes due, likewise.
    pub(super) fn due_by_clock(&mut self) -> Result<Due, OperatorError> {
        let more = self.bring_due(Wake::Processing, i64::MAX)?;
        let mut new = self.all_open();
        new.retain(|place| self.windows.get(*place as usize).is_some_and(|window| window.pending > 0));
        self.order(&mut new);
        Ok(Due { places: new.into_iter(), gone: None, more: more.is_some() })
    }
}
