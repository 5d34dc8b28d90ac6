//! Which components a pipeline's steps have run, so that the one before can come back. Checkpoints keep it: a run that
//! goes on from one goes on with this as well.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::checkpoint::{SlotVersions, StateEntry, VersionEntry};
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
    /// counts from 1, through restarts where the pipeline has checkpoints; never given twice
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
    entry: VersionEntry,
    /// none where only the checkpoint store has it, until it is needed
    resolved: Option<Resolved>,
}

/// The versions of one component, oldest first.
#[derive(Clone, Debug)]
struct History {
    kept: Vec<Kept>,
    /// what runs
    current: usize,
    numbers: u64,
    /// what the pipeline file named as the run began
    declared: String,
}

/// A version that ran before.
#[derive(Clone, Debug)]
pub(super) enum Earlier {
    /// compiled
    Ready(Box<Resolved>),
    /// in the checkpoint store
    Stored(VersionEntry),
}

/// The versions of all components of a run.
#[derive(Clone, Debug)]
pub(super) struct Versions {
    slots: BTreeMap<SlotId, History>,
    changes: u64,
}

impl Versions {
    /// As a run begins that goes on from nothing.
    pub(super) fn new(components: &Components, now_ms: i64) -> Self {
        let first = |resolved: &Resolved| History {
            kept: vec![Kept::new(1, now_ms, false, 0, resolved)],
            current: 0,
            numbers: 1,
            declared: resolved.component.digest().to_string(),
        };
        let slots = components.iter().map(|(slot, resolved)| (slot.clone(), first(resolved)));
        Self { slots: slots.collect(), changes: 0 }
    }

    /// As a run begins that goes on from a checkpoint: `declared` is what the pipeline file names, `running` what is to
    /// run, a version of `known` or a new one. `before`: what the process has run before, if `running` is what it is to run now.
    pub(super) fn going_on(
        known: &[SlotVersions],
        (declared, running): (&Components, &Components),
        before: Option<&Self>,
        now_ms: i64,
    ) -> Self {
        let mut versions = Self::new(declared, now_ms);
        versions.changes = known.iter().flat_map(|slot| &slot.versions).map(|one| one.change).max().unwrap_or(0);
        for entry in known {
            let id = SlotId { step: entry.step.clone(), slot: entry.slot };
            let (Some(history), Some(resolved)) = (versions.slots.get_mut(&id), running.get(&id)) else { continue };
            let Some(current) = entry.versions.iter().position(|version| version.number == entry.current) else {
                continue;
            };
            history.kept = entry.versions.iter().map(|one| Kept { entry: one.clone(), resolved: None }).collect();
            (history.current, history.numbers) = (current, entry.numbers);
            let digest = resolved.component.digest().to_string();
            match history.kept.get_mut(current) {
                Some(kept)
                    if kept.entry.digest == digest && !before.is_some_and(|of| of.is_other(entry, &id, resolved)) =>
                {
                    kept.resolved = Some(resolved.clone());
                }
                _ => history.push(false, now_ms, versions.changes, resolved),
            }
        }
        versions
    }

    /// Whether what is to run in a place is another version than that which ran as of a checkpoint, though of the same file: under
    /// another configuration, or other limits, which checkpoints do not know.
    fn is_other(&self, then: &SlotVersions, id: &SlotId, resolved: &Resolved) -> bool {
        let Some(history) = self.slots.get(id) else { return false };
        let Some(runs) = history.kept.get(history.current) else { return false };
        // the last checkpoint may be of before a change that was made
        let is_later = runs.entry.number != then.current && resolved.number != then.current;
        is_later || runs.resolved.as_ref().is_some_and(|runs| !runs.is_like(resolved))
    }

    /// What runs as of the checkpoint stays in the place of what the pipeline file named then: no file was read since.
    pub(super) fn declared_as(mut self, known: &[SlotVersions]) -> Self {
        for entry in known {
            let id = SlotId { step: entry.step.clone(), slot: entry.slot };
            let Some(history) = self.slots.get_mut(&id) else { continue };
            let runs = history.kept.get(history.current).map(|kept| &kept.entry.digest);
            if runs == entry.current().map(|current| &current.digest) {
                history.declared.clone_from(&entry.declared);
            }
        }
        self
    }

    /// As another shape of the pipeline begins in the same process, without a checkpoint.
    pub(super) fn reshaped(mut self, components: &Components, now_ms: i64) -> Self {
        let mut versions = Self::new(components, now_ms);
        versions.changes = self.changes;
        for (id, history) in &mut versions.slots {
            let (Some(resolved), Some(mut before)) = (components.get(id), self.slots.remove(id)) else { continue };
            match before.kept.get_mut(before.current) {
                Some(runs) if runs.resolved.as_ref().is_some_and(|runs| runs.is_like(resolved)) => {}
                _ => before.push(false, now_ms, self.changes, resolved),
            }
            *history = before;
        }
        versions
    }

    /// Gives what is about to take its places the next numbers, but for what has one.
    pub(super) fn number(&mut self, offers: &mut Components) {
        for (slot, resolved) in offers.iter_mut().filter(|(_, resolved)| resolved.number == 0) {
            if let Some(history) = self.slots.get_mut(slot) {
                history.numbers += 1;
                resolved.number = history.numbers;
            }
        }
    }

    /// What was numbered last has never run.
    pub(super) fn give_back<'a>(&mut self, offers: impl IntoIterator<Item = (&'a SlotId, &'a Resolved)>) {
        for (slot, resolved) in offers {
            let unused = |history: &&mut History| {
                let runs = history.kept.iter().any(|kept| kept.entry.number == resolved.number);
                history.numbers == resolved.number && !runs
            };
            if let Some(history) = self.slots.get_mut(slot).filter(unused) {
                history.numbers -= 1;
            }
        }
    }

    /// Gives the components that run their numbers.
    pub(super) fn number_running(&self, running: &mut Components) {
        for (slot, resolved) in running {
            resolved.number = self.current(slot).unwrap_or_default();
        }
    }

    /// As a checkpoint keeps them, with the files that are at hand.
    pub(super) fn entries(&self) -> (Vec<SlotVersions>, BTreeMap<String, Arc<[u8]>>) {
        let mut files = BTreeMap::new();
        let entries = self.slots.iter().map(|(id, history)| {
            for kept in &history.kept {
                if let Some(resolved) = &kept.resolved {
                    files.insert(kept.entry.digest.clone(), resolved.component.bytes());
                }
            }
            SlotVersions {
                step: id.step.clone(),
                slot: id.slot,
                declared: history.declared.clone(),
                numbers: history.numbers,
                current: history.kept.get(history.current).map_or(0, |kept| kept.entry.number),
                versions: history.kept.iter().map(|kept| kept.entry.clone()).collect(),
            }
        });
        let entries = entries.collect();
        (entries, files)
    }

    /// Takes note of components that were put in place at one cut. Versions that had been rolled back from are gone then.
    pub(super) fn swapped<'a>(&mut self, now: impl IntoIterator<Item = (&'a SlotId, &'a Resolved)>, now_ms: i64) {
        self.changes += 1;
        for (slot, resolved) in now {
            if let Some(history) = self.slots.get_mut(slot) {
                history.push(true, now_ms, self.changes, resolved);
            }
        }
    }

    /// What ran before in these slots; in all that changed last, if none is named. Empty where nothing came before.
    pub(super) fn before(&self, slots: &[SlotId]) -> Vec<(SlotId, Earlier)> {
        let current = |history: &History| history.kept.get(history.current).map_or(0, |kept| kept.entry.change);
        let last = self.slots.values().map(current).max().unwrap_or(0);
        let wanted = |slot: &SlotId, history: &History| match slots {
            [] => last > 0 && current(history) == last,
            named => named.contains(slot),
        };
        let before = |history: &History| history.kept.get(history.current.checked_sub(1)?).map(Kept::earlier);
        let wanted = self.slots.iter().filter(|(slot, history)| wanted(slot, history));
        wanted.filter_map(|(slot, history)| Some((slot.clone(), before(history)?))).collect()
    }

    /// Takes note that the version before runs again.
    pub(super) fn rolled_back<'a>(&mut self, now: impl IntoIterator<Item = (&'a SlotId, &'a Resolved)>) {
        for (slot, resolved) in now {
            if let Some(history) = self.slots.get_mut(slot) {
                history.current = history.current.saturating_sub(1);
                if let Some(kept) = history.kept.get_mut(history.current) {
                    kept.resolved = Some(resolved.clone());
                }
            }
        }
    }

    /// The number of the version that runs in a slot.
    fn current(&self, slot: &SlotId) -> Option<u64> {
        let history = self.slots.get(slot)?;
        history.kept.get(history.current).map(|kept| kept.entry.number)
    }

    /// The versions that are known of a slot, oldest first.
    pub(super) fn of(&self, slot: &SlotId) -> Vec<Version> {
        let Some(history) = self.slots.get(slot) else { return Vec::new() };
        let version = |(index, kept): (usize, &Kept)| Version {
            number: kept.entry.number,
            digest: kept.entry.digest.clone(),
            path: kept.entry.path.clone(),
            since_ms: kept.entry.since_ms,
            origin: if kept.entry.swapped { Origin::Swapped } else { Origin::Started },
            current: index == history.current,
        };
        history.kept.iter().enumerate().map(version).collect()
    }
}

impl History {
    /// Puts a version after the current one, in place of those that had been rolled back from.
    fn push(&mut self, swapped: bool, now_ms: i64, change: u64, resolved: &Resolved) {
        let number = if resolved.number > 0 { resolved.number } else { self.numbers + 1 };
        self.numbers = self.numbers.max(number);
        self.kept.truncate(self.current + 1);
        self.kept.push(Kept::new(number, now_ms, swapped, change, resolved));
        let over = self.kept.len().saturating_sub(KEPT);
        self.kept.drain(..over);
        self.current = self.kept.len() - 1;
    }
}

impl Kept {
    fn new(number: u64, since_ms: i64, swapped: bool, change: u64, resolved: &Resolved) -> Self {
        let state = resolved.signature.state.as_ref();
        let entry = VersionEntry {
            number,
            digest: resolved.component.digest().to_string(),
            path: resolved.path.display().to_string(),
            since_ms,
            swapped,
            change,
            state: state.map(|of| StateEntry { version: of.version, fields: of.fields.fields().to_vec() }),
        };
        Self { entry, resolved: Some(resolved.clone()) }
    }

    fn earlier(&self) -> Earlier {
        match &self.resolved {
            Some(resolved) => Earlier::Ready(Box::new(Resolved { number: self.entry.number, ..resolved.clone() })),
            None => Earlier::Stored(self.entry.clone()),
        }
    }
}
