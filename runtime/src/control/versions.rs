//! Which components a pipeline's steps have run, so that the one before can come back.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::{Components, Resolved};

/// How many versions of a component can be gone back to. Each is compiled code in memory.
const KEPT: usize = 8;

/// How a version came to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// the pipeline file named it when the run began
    Started,
    /// a swap put it in place
    Swapped,
}

/// One version of a step's component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// counts from 1 within a run; never given twice
    pub number: u64,
    /// SHA-256 of the file, hexadecimal
    pub digest: String,
    /// the file it was read from
    pub path: String,
    /// when it was put in place first, ms since 1970
    pub since_ms: i64,
    /// how it came to run
    pub origin: Origin,
    /// whether it runs now
    pub current: bool,
}

/// A version with what is needed to run it again.
#[derive(Clone, Debug)]
struct Kept {
    number: u64,
    since_ms: i64,
    origin: Origin,
    /// versions with one number of change came together
    change: u64,
    resolved: Resolved,
}

/// The versions of one component, oldest first.
#[derive(Clone, Debug)]
struct History {
    kept: Vec<Kept>,
    /// what runs
    current: usize,
    numbers: u64,
}

/// The versions of all components of a run.
#[derive(Debug)]
pub(super) struct Versions {
    slots: BTreeMap<SlotId, History>,
    changes: u64,
}

impl Versions {
    /// As a run begins.
    pub(super) fn new(components: &Components, now_ms: i64) -> Self {
        let first = |resolved: &Resolved| Kept {
            number: 1,
            since_ms: now_ms,
            origin: Origin::Started,
            change: 0,
            resolved: resolved.clone(),
        };
        let slots = components
            .iter()
            .map(|(slot, resolved)| (slot.clone(), History { kept: vec![first(resolved)], current: 0, numbers: 1 }));
        Self { slots: slots.collect(), changes: 0 }
    }

    /// Takes note of components that were put in place at one cut. Versions that had been rolled back from are gone then.
    pub(super) fn swapped<'a>(&mut self, now: impl IntoIterator<Item = (&'a SlotId, &'a Resolved)>, now_ms: i64) {
        self.changes += 1;
        for (slot, resolved) in now {
            let Some(history) = self.slots.get_mut(slot) else { continue };
            history.numbers += 1;
            history.kept.truncate(history.current + 1);
            history.kept.push(Kept {
                number: history.numbers,
                since_ms: now_ms,
                origin: Origin::Swapped,
                change: self.changes,
                resolved: resolved.clone(),
            });
            let over = history.kept.len().saturating_sub(KEPT);
            history.kept.drain(..over);
            history.current = history.kept.len() - 1;
        }
    }

    /// What ran before in these slots; in all that changed last, if none is named. Empty where nothing came before.
    pub(super) fn before(&self, slots: &[SlotId]) -> Vec<(SlotId, Resolved)> {
        let current = |history: &History| history.kept.get(history.current).map_or(0, |kept| kept.change);
        let last = self.slots.values().map(current).max().unwrap_or(0);
        let wanted = |slot: &SlotId, history: &History| match slots {
            [] => last > 0 && current(history) == last,
            named => named.contains(slot),
        };
        let before =
            |history: &History| history.kept.get(history.current.checked_sub(1)?).map(|kept| kept.resolved.clone());
        let wanted = self.slots.iter().filter(|(slot, history)| wanted(slot, history));
        wanted.filter_map(|(slot, history)| Some((slot.clone(), before(history)?))).collect()
    }

    /// Takes note that the version before runs again.
    pub(super) fn rolled_back<'a>(&mut self, slots: impl IntoIterator<Item = &'a SlotId>) {
        for slot in slots {
            if let Some(history) = self.slots.get_mut(slot) {
                history.current = history.current.saturating_sub(1);
            }
        }
    }

    /// The versions that are known of a slot, oldest first.
    pub(super) fn of(&self, slot: &SlotId) -> Vec<Version> {
        let Some(history) = self.slots.get(slot) else { return Vec::new() };
        let version = |(index, kept): (usize, &Kept)| Version {
            number: kept.number,
            digest: kept.resolved.component.digest().to_string(),
            path: kept.resolved.path.display().to_string(),
            since_ms: kept.since_ms,
            origin: kept.origin,
            current: index == history.current,
        };
        history.kept.iter().enumerate().map(version).collect()
    }
}
