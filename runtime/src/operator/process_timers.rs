//! Timers of keys, by the time that they wait for.
//!
//! What one watermark makes due is handled in rounds: a round has the earliest due timer of each key, because handling it
//! may set another before the key's next. Timers that are due are looked at in slices of some thousands, so that results
//! leave in the order of time however far the watermark jumps, and no more of them wait than a slice makes.

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{Leaf, SharedSet};
use crate::wasm::TimerClock;

/// A timer: when it fires, and the slot of its key.
pub(super) type Due = (i64, u32);

/// All timers of a task.
#[derive(Debug, Default)]
pub(super) struct Timers {
    event: SharedSet<Due>,
    processing: SharedSet<Due>,
    /// number of timers by slot, where there are any
    by_slot: BTreeMap<u32, u32>,
    slice: Option<Slice>,
}

/// Timers that are being handled: those of `clock` up to `until`, by slot.
#[derive(Debug)]
struct Slice {
    clock: TimerClock,
    until: i64,
    pending: BTreeMap<u32, BTreeSet<i64>>,
}

impl Timers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let pending = self.slice.iter().flat_map(|slice| slice.pending.values());
        self.event.len() + self.processing.len() + pending.map(BTreeSet::len).sum::<usize>()
    }

    /// Whether a key has any.
    pub(super) fn has(&self, slot: u32) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// Sets a timer. False where there is one already for the same key, time and clock.
    pub(super) fn set(&mut self, slot: u32, time_ms: i64, clock: TimerClock) -> bool {
        let new = match self.slice.as_mut().filter(|slice| slice.clock == clock && time_ms <= slice.until) {
            Some(slice) => slice.pending.entry(slot).or_default().insert(time_ms),
            None => self.of(clock).insert((time_ms, slot)),
        };
        if new {
            *self.by_slot.entry(slot).or_default() += 1;
        }
        new
    }

    /// Takes a timer away, if it is there.
    pub(super) fn delete(&mut self, slot: u32, time_ms: i64, clock: TimerClock) {
        let pending = self.slice.as_mut().filter(|slice| slice.clock == clock && time_ms <= slice.until);
        let was_there = match pending.and_then(|slice| slice.pending.get_mut(&slot)) {
            Some(times) => times.remove(&time_ms),
            None => self.of(clock).remove(&(time_ms, slot)),
        };
        if was_there {
            self.forget(slot);
        }
    }

    /// When the first timer of a clock fires.
    pub(super) fn first(&self, clock: TimerClock) -> Option<i64> {
        let timers = if clock == TimerClock::Event { &self.event } else { &self.processing };
        timers.first().map(|(time_ms, _)| time_ms)
    }

    /// Begins with the timers of `clock` up to `until`, but with no more than `most` and those of the same time.
    /// False where none is due.
    pub(super) fn begin(&mut self, clock: TimerClock, until: i64, most: usize) -> bool {
        let due = self.of(clock).iter().take_while(|(time_ms, _)| *time_ms <= until).take(most).last();
        let Some((last_ms, _)) = due else { return false };
        let mut pending: BTreeMap<u32, BTreeSet<i64>> = BTreeMap::new();
        for (time_ms, slot) in self.of(clock).take_to(&(last_ms, u32::MAX)) {
            pending.entry(slot).or_default().insert(time_ms);
        }
        self.slice = Some(Slice { clock, until: last_ms, pending });
        true
    }

    /// The next round, by time and then by slot; empty when all is done that was begun.
    pub(super) fn round(&mut self) -> Vec<Due> {
        let Some(slice) = &mut self.slice else { return Vec::new() };
        let mut round: Vec<Due> =
            slice.pending.iter_mut().filter_map(|(slot, times)| Some((times.pop_first()?, *slot))).collect();
        slice.pending.retain(|_, times| !times.is_empty());
        if round.is_empty() {
            self.slice = None;
        }
        round.iter().for_each(|(_, slot)| self.forget(*slot));
        round.sort_unstable();
        round
    }

    /// All timers of a clock, by time.
    pub(super) fn all(&self, clock: TimerClock) -> impl Iterator<Item = Due> {
        if clock == TimerClock::Event { &self.event } else { &self.processing }.iter()
    }

    /// All timers of a clock as of now, by time; leaves are shared until they are next written.
    pub(super) fn freeze(&mut self, clock: TimerClock) -> Vec<Leaf<Due>> {
        self.of(clock).freeze()
    }

    /// Bytes that are held.
    pub(super) fn bytes(&self) -> usize {
        self.event.bytes() + self.processing.bytes() + self.by_slot.len() * 16
    }

    /// Gives keys their new slots: pairs of old and new, ascending. Timers of other keys go.
    pub(super) fn renumber(&mut self, moves: &[(u32, u32)]) {
        let new = |old: u32| {
            let at = moves.binary_search_by_key(&old, |(old, _)| *old).ok()?;
            moves.get(at).map(|(_, new)| *new)
        };
        for timers in [&mut self.event, &mut self.processing] {
            // slots stay in their order, and so do timers
            *timers = SharedSet::from_sorted(timers.iter().filter_map(|(time_ms, slot)| Some((time_ms, new(slot)?))));
        }
        self.by_slot = self.by_slot.iter().filter_map(|(slot, count)| Some((new(*slot)?, *count))).collect();
    }

    fn of(&mut self, clock: TimerClock) -> &mut SharedSet<Due> {
        match clock {
            TimerClock::Event => &mut self.event,
            TimerClock::Processing => &mut self.processing,
        }
    }

    fn forget(&mut self, slot: u32) {
        if let Some(count) = self.by_slot.get_mut(&slot) {
            *count -= 1;
            if *count == 0 {
                self.by_slot.remove(&slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: TimerClock = TimerClock::Event;

    /// All rounds up to `until`; `handle` may set and delete.
    fn fire(timers: &mut Timers, until: i64, most: usize, mut handle: impl FnMut(&mut Timers, Due)) -> Vec<Vec<Due>> {
        let mut rounds = Vec::new();
        while timers.begin(EVENT, until, most) {
            loop {
                let round = timers.round();
                if round.is_empty() {
                    break;
                }
                round.iter().for_each(|due| handle(timers, *due));
                rounds.push(round);
            }
        }
        rounds
    }

    #[test]
    fn a_timer_counts_once_and_fires_once() {
        let mut timers = Timers::default();
        assert!(timers.set(1, 10, EVENT));
        assert!(!timers.set(1, 10, EVENT));
        assert!(timers.set(1, 10, TimerClock::Processing));
        assert_eq!(fire(&mut timers, 9, 10, |_, _| {}), Vec::<Vec<Due>>::new());
        assert_eq!(fire(&mut timers, 10, 10, |_, _| {}), [[(10, 1)]]);
        assert_eq!((timers.len(), timers.has(1)), (1, true));
        timers.delete(1, 10, TimerClock::Processing);
        timers.delete(1, 10, TimerClock::Processing);
        assert_eq!((timers.len(), timers.has(1)), (0, false));
    }

    #[test]
    fn what_a_timer_sets_comes_before_the_later_timers_of_its_key() {
        let mut timers = Timers::default();
        for (slot, time) in [(0, 10), (0, 30), (1, 20)] {
            timers.set(slot, time, EVENT);
        }
        let rounds = fire(&mut timers, 100, 10, |timers, due| {
            if due == (10, 0) {
                timers.set(0, 15, EVENT);
                timers.set(0, 200, EVENT);
                timers.delete(0, 30, EVENT);
            }
        });
        assert_eq!(rounds, [vec![(10, 0), (20, 1)], vec![(15, 0)]]);
        assert_eq!(timers.all(EVENT).collect::<Vec<_>>(), [(200, 0)]);
    }

    #[test]
    fn of_one_key_a_timer_that_is_set_now_fires_before_one_that_was_due_already() {
        let mut timers = Timers::default();
        timers.set(0, 10, EVENT);
        timers.set(0, 30, EVENT);
        let rounds = fire(&mut timers, 100, 10, |timers, due| {
            if due.0 == 10 {
                timers.set(0, 15, EVENT);
            }
        });
        assert_eq!(rounds, [[(10, 0)], [(15, 0)], [(30, 0)]]);
    }

    #[test]
    fn many_timers_are_handled_in_slices_of_time() {
        let mut timers = Timers::default();
        (0..100).for_each(|time| _ = timers.set(time % 3, i64::from(time / 2), EVENT));
        let rounds = fire(&mut timers, i64::MAX, 8, |_, _| {});
        let mut fired: Vec<Due> = rounds.iter().flatten().copied().collect();
        assert_eq!(fired.len(), 100);
        let slices_begin: Vec<i64> = rounds.iter().filter_map(|round| round.first()).map(|due| due.0).collect();
        assert!(slices_begin.len() > 10);
        fired.dedup();
        assert_eq!((fired.len(), timers.len()), (100, 0));
    }

    #[test]
    fn a_timer_at_the_end_of_time_fires_at_the_end() {
        let mut timers = Timers::default();
        timers.set(0, i64::MAX, EVENT);
        timers.set(0, i64::MIN, EVENT);
        assert_eq!(fire(&mut timers, 5, 10, |_, _| {}), [[(i64::MIN, 0)]]);
        assert_eq!(fire(&mut timers, i64::MAX, 10, |_, _| {}), [[(i64::MAX, 0)]]);
    }

    #[test]
    fn renumbering_keeps_timers_with_their_keys() {
        let mut timers = Timers::default();
        timers.set(3, 10, EVENT);
        timers.set(7, 5, EVENT);
        timers.renumber(&[(3, 0), (7, 1)]);
        assert_eq!(timers.all(EVENT).collect::<Vec<_>>(), [(5, 1), (10, 0)]);
        assert!(timers.has(0) && timers.has(1) && !timers.has(3));
    }
}
