//! Sliding windows without merging all of their slices anew for each of them.
//!
//! Event time is cut into blocks as long as a window, so that every window has one block border, its middle, in it or at
//! its start. For the slices before the middle the merge of each with all that follow it is kept, for those after it the
//! merge of all of them so far; a window is the merge of two of these. Each slice is merged three times in all, however
//! many windows it is in (van Herk 1992, Gil and Werman 1993, for sums without an inverse; two stacks in Tangwongsan et
//! al., "Low-latency sliding-window aggregation in worst-case constant time", 2017).
//!
//! - Where the middle lies follows from the window alone, so a result has the same bits after a restore.
//! - A row behind the watermark changes a slice that has been merged: before the next window fires, what hangs on it is
//!   merged anew from the slices for the keys of such rows alone.
//! - It can be dropped at any time and is made anew from the slices. It takes as much memory as the slices of one window
//!   would with all keys of the window in each.

use std::collections::btree_map::Range;
use std::collections::{BTreeMap, BTreeSet};

use super::super::OperatorError;
use super::super::window_aggregate_slice::{Aggregate, Rows, SliceState};
use crate::record::EventTime;
use crate::window::{Slice, Window, Windows};

/// With fewer slices a window, merging them is as cheap.
pub(super) const SLICES_MIN: i64 = 4;

/// Merges that the next window needs.
pub(super) struct Running {
    windows: Windows,
    /// merges of a slice with all that follow it up to `middle`, by the slice's start
    front: BTreeMap<EventTime, SliceState>,
    middle: i128,
    /// the merge of the slices from `middle` to `until`
    back: SliceState,
    until: i128,
    /// keys with rows that came into merged slices
    stale: BTreeSet<u32>,
}

/// Slices by start.
type Slices = BTreeMap<EventTime, SliceState>;

impl Running {
    /// None where windows have too few slices for it.
    pub(super) fn new(windows: Windows, aggregates: &[Aggregate]) -> Option<Self> {
        let back = SliceState::new(NOWHERE, aggregates);
        let front = BTreeMap::new();
        let (middle, until) = (i128::MIN, i128::MIN);
        (windows.slices_a_window() >= SLICES_MIN).then_some(Self {
            windows,
            front,
            middle,
            back,
            until,
            stale: BTreeSet::new(),
        })
    }

    /// Forgets all merges: keys have other slots, or components merge otherwise.
    pub(super) fn reset(&mut self, aggregates: &[Aggregate]) {
        self.front.clear();
        self.back = SliceState::new(NOWHERE, aggregates);
        (self.middle, self.until) = (i128::MIN, i128::MIN);
        self.stale.clear();
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.back.bytes() + self.front.values().map(SliceState::bytes).sum::<usize>()
    }

    /// Notes that rows of these keys came into the slice that starts at `start`.
    pub(super) fn touch(&mut self, start: EventTime, rows: Rows<'_>) {
        if i128::from(start) < self.until {
            rows.each(|_, slot| _ = self.stale.insert(slot));
        }
    }

    /// Accumulators of a window. Windows are asked for in order; one may be asked for twice.
    pub(super) fn merged(
        &mut self,
        window: Window,
        slices: &Slices,
        aggregates: &mut [Aggregate],
    ) -> Result<SliceState, OperatorError> {
        let start = window.bounds().start;
        while self.front.first_key_value().is_some_and(|(first, _)| *first < start) {
            self.front.pop_first();
        }
        let middle = self.windows.middle_of(window);
        if middle != self.middle {
            self.begin(middle, start, slices, aggregates)?;
        } else if !self.stale.is_empty() {
            self.mend(start, slices, aggregates)?;
        }
        for (_, slice) in between(slices, self.until, window.end()) {
            merge_all(&mut self.back, slice, aggregates)?;
        }
        self.until = window.end();
        let mut sum = SliceState::new(window.bounds(), aggregates);
        if let Some((_, front)) = self.front.first_key_value() {
            merge_all(&mut sum, front, aggregates)?;
        }
        merge_all(&mut sum, &self.back, aggregates)?;
        Ok(sum)
    }

    /// The windows' middle has moved: merges the slices before it, the last first.
    fn begin(
        &mut self,
        middle: i128,
        start: EventTime,
        slices: &Slices,
        aggregates: &mut [Aggregate],
    ) -> Result<(), OperatorError> {
        self.reset(aggregates);
        (self.middle, self.until) = (middle, middle);
        let mut front: Vec<(EventTime, SliceState)> = Vec::new();
        for (_, slice) in between(slices, start.into(), middle).rev() {
            let mut sum = SliceState::new(slice.slice, aggregates);
            merge_all(&mut sum, slice, aggregates)?;
            if let Some((_, after)) = front.last() {
                merge_all(&mut sum, after, aggregates)?;
            }
            front.push((slice.slice.start, sum));
        }
        self.front = front.into_iter().collect();
        Ok(())
    }

    /// Merges anew what stale keys have.
    fn mend(&mut self, start: EventTime, slices: &Slices, aggregates: &mut [Aggregate]) -> Result<(), OperatorError> {
        let stale: Vec<u32> = std::mem::take(&mut self.stale).into_iter().collect();
        let mut after: Option<(EventTime, SliceState)> = None;
        for (_, slice) in between(slices, start.into(), self.middle).rev() {
            let at = slice.slice.start;
            let sum = match self.front.remove(&at) {
                Some(mut sum) => {
                    drop(sum.split_off(&stale, aggregates));
                    merge_some(&mut sum, slice, &stale, aggregates)?;
                    if let Some((_, after)) = &after {
                        merge_some(&mut sum, after, &stale, aggregates)?;
                    }
                    sum
                }
                // a slice that had no rows
                None => {
                    let mut sum = SliceState::new(slice.slice, aggregates);
                    merge_all(&mut sum, slice, aggregates)?;
                    if let Some((_, after)) = &after {
                        merge_all(&mut sum, after, aggregates)?;
                    }
                    sum
                }
            };
            self.front.extend(after.replace((at, sum)));
        }
        self.front.extend(after);
        drop(self.back.split_off(&stale, aggregates));
        for (_, slice) in between(slices, self.middle, self.until) {
            merge_some(&mut self.back, slice, &stale, aggregates)?;
        }
        Ok(())
    }
}

/// The bounds of what is merged from slices.
pub(super) const NOWHERE: Slice = Slice { start: EventTime::MAX, end: EventTime::MIN };

/// Slices that start at `from` or later and before `to`.
fn between(slices: &Slices, from: i128, to: i128) -> Range<'_, EventTime, SliceState> {
    let Ok(first) = EventTime::try_from(from.max(EventTime::MIN.into())) else {
        return slices.range(EventTime::MAX..EventTime::MAX);
    };
    match EventTime::try_from(to) {
        Ok(end) => slices.range(first..end.max(first)),
        Err(_) if to > 0 => slices.range(first..),
        Err(_) => slices.range(first..first),
    }
}

pub(super) fn merge_all(
    into: &mut SliceState,
    from: &SliceState,
    aggregates: &mut [Aggregate],
) -> Result<(), OperatorError> {
    let pairs: Vec<_> = from.slots().map(|slot| (slot, slot)).collect();
    into.merge(from, &pairs, aggregates)
}

fn merge_some(
    into: &mut SliceState,
    from: &SliceState,
    slots: &[u32],
    aggregates: &mut [Aggregate],
) -> Result<(), OperatorError> {
    let pairs: Vec<_> = slots.iter().filter(|slot| from.has(**slot)).map(|slot| (*slot, *slot)).collect();
    into.merge(from, &pairs, aggregates)
}
