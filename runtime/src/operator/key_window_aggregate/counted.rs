//! Counted windows that slide: after every `every` rows of a key the last `rows` of them, fewer at the start.
//!
//! Every window has accumulators of its own, so a row is folded once for each of the `rows / every` windows that hold it, and no
//! row is kept. A key has always a window open, the latest of which still waits for the most rows: how far the key has come
//! follows from that, and nothing else is remembered of it.

use super::{KeyWindowAggregate, NOWHERE};
use crate::operator::DeadRow;
use crate::operator::key_window_aggregate::assign::Assignment;
use crate::record::{Batch, EventTime};
use crate::window::Slice;

impl KeyWindowAggregate {
    /// Puts a row into all windows that hold it, after those that begin with it have been opened.
    pub(super) fn assign_sliding(
        &mut self,
        key: u32,
        time: EventTime,
        (rows, every): (u64, u64),
        row: u32,
        to: &mut Assignment,
    ) {
        let Some(mut open) = self.by_key.get_mut(key as usize).map(std::mem::take) else { return };
        let layers = to.layers.len().max(1);
        let last = open.last().and_then(|place| self.windows.get(*place as usize));
        let (mut waits, mut layer) = last.map_or((0, layers - 1), |last| (last.pending, last.layer));
        while let Some(next) = waits.checked_add(every).filter(|next| *next <= rows) {
            (waits, layer) = (next, (layer + 1) % layers);
            let place = self.open(key, NOWHERE);
            if let Some(window) = self.windows.get_mut(place as usize) {
                (window.pending, window.layer) = (waits, layer);
            }
            open.push(place);
        }
        for place in &open {
            let Some(window) = self.windows.get_mut(*place as usize) else { continue };
            let Slice { start, end } = window.bounds;
            window.bounds = Slice { start: start.min(time), end: end.max(time.saturating_add(1)) };
            window.rows += 1;
            window.pending = window.pending.saturating_sub(1);
            to.put(window.layer, row, *place);
        }
        to.newest.get_mut(row as usize).into_iter().for_each(|newest| *newest = layer);
        let is_full = |place: &u32| self.windows.get(*place as usize).is_some_and(|window| window.pending == 0);
        let full = open.iter().take_while(|place| is_full(place)).count();
        to.complete.extend(open.drain(..full));
        if let Some(windows) = self.by_key.get_mut(key as usize) {
            *windows = open;
        }
    }
}

/// Of the rows that were refused in a layer, in the order of its rows, those whose latest window is in it: a row that is
/// refused is so in each of its windows and is dead once.
pub(super) fn refused_once(
    refused: Vec<DeadRow>,
    batch: &Batch,
    picked: &[u32],
    newest: &[usize],
    layer: usize,
) -> Vec<DeadRow> {
    let mut rows = picked.iter().map(|row| *row as usize);
    let mut here = |dead: &DeadRow| {
        let same =
            |row: &usize| batch.times().get(*row) == Some(&dead.time) && batch.columns().slice(*row, 1) == dead.row;
        rows.find(same).is_none_or(|row| newest.get(row) == Some(&layer))
    };
    refused.into_iter().filter(|dead| here(dead)).collect()
}
