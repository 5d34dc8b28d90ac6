//! Putting other components into a running pipeline.
//!
//! Compile and judge first, with the stream untouched; instantiate a guest for every task; then one barrier carries them
//! through all sources, and every task changes between the same two rows. What cannot be done is refused before the
//! barrier starts, or, where state is migrated, voted down by the tasks at the cut: either way the running version is left as it was.

mod error;
mod offers;
mod places;
mod send;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Serialize;

pub use self::error::SwapError;
use super::judge::Verdict;
use super::run::Life;
use super::sweeps::{Migrated, Sweeps};
use super::versions::{Version, Versions};
use crate::checkpoint::fail_point;
use crate::clock::Stopwatch;
use crate::pipeline::ballot::Ballot;
use crate::pipeline::change::{Change, Successor};
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::{Components, Resolved};
use crate::pipeline::sweep::Sweep;

/// A swap that took effect.
#[derive(Clone, Debug, Serialize)]
pub struct SwapReport {
    /// what changed
    pub swapped: Vec<Swapped>,
    /// longest time that a task stood still for the change, ns
    pub pause_ns: u64,
    /// from the request to the last task's change, compilation included, ms
    pub total_ms: f64,
    /// from the start of the barrier to the last task's change, ms
    pub barrier_ms: f64,
    /// state that was migrated; none where nothing had to be
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrated: Option<Migrated>,
}

/// One component that changed.
#[derive(Clone, Debug, Serialize)]
pub struct Swapped {
    /// the step
    pub step: String,
    /// position among the step's components
    pub slot: usize,
    /// digest of what ran before
    pub from: String,
    /// number of its version
    pub from_version: u64,
    /// digest of what runs now
    pub to: String,
    /// number of its version; none before it has one
    pub to_version: Option<u64>,
    /// what the change means for what the step holds
    pub verdict: Verdict,
}

/// How a change is noted among the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// new versions
    Swapped,
    /// the versions before run again
    RolledBack,
}

/// What is to run where.
pub(super) type Offers = BTreeMap<SlotId, Resolved>;

impl Life {
    /// Replaces components at one cut. Each is named by its step, or `step.entry` where the step has several.
    ///
    /// A task that had ended already, because its sources had, changes no more. A component all of whose tasks had ended is
    /// not in the report; if that goes for all of them the answer is [`SwapError::Ended`].
    ///
    /// Goes on to its end in a task of its own when the future is dropped: a barrier that only some sources have sent would
    /// hold up the pipeline for ever.
    pub(super) async fn swap(&self, requests: &[(String, PathBuf)]) -> Result<SwapReport, SwapError> {
        let (handle, requests) = (self.clone(), requests.to_vec());
        let swap = async move {
            let watch = Stopwatch::start();
            let offers = handle.offers(&requests).await?;
            Ok(handle.carry_out(offers, watch, Change::default(), Noted::Swapped).await?.0)
        };
        tokio::spawn(swap).await.map_err(|_| SwapError::Ended)?
    }

    /// Puts other components in place, or the same under another configuration, all at one cut.
    pub(super) async fn exchange(&self, offers: Offers) -> Result<SwapReport, SwapError> {
        Ok(self.carry_out(offers, Stopwatch::start(), Change::default(), Noted::Swapped).await?.0)
    }

    /// Puts back, at one cut, what the named steps ran before their present version; with none named, all that the last swap
    /// changed. Can be repeated, back to the version that the run began with (at most seven before the last).
    pub(super) async fn rollback(&self, steps: &[String]) -> Result<SwapReport, SwapError> {
        let (handle, steps) = (self.clone(), steps.to_vec());
        let rollback = async move {
            let watch = Stopwatch::start();
            let slots = steps.iter().map(|step| handle.slot(step)).collect::<Result<Vec<_>, _>>()?;
            let before = handle.versions().before(&slots);
            let offers = handle.ready(before).await?;
            let first = slots.iter().find(|slot| !offers.contains_key(slot));
            if offers.is_empty() || first.is_some() {
                let what = first.map_or_else(|| "all steps".to_owned(), |slot| format!("step `{}`", slot.step));
                return Err(SwapError::NoVersionBefore { what, several: first.is_none() });
            }
            Ok(handle.carry_out(offers, watch, Change::default(), Noted::RolledBack).await?.0)
        };
        tokio::spawn(rollback).await.map_err(|_| SwapError::Ended)?
    }

    /// What a row of state cost when some was last migrated at a cut, ns.
    pub(super) fn migrated_row_ns(&self) -> Option<f64> {
        Some(self.shared.migrated_row_ns.load(Ordering::Acquire)).filter(|bits| *bits > 0).map(f64::from_bits)
    }

    /// How long the last change that migrated nothing at its cut held up the task that it held up longest; none before the first.
    pub(super) fn last_pause_ns(&self) -> Option<u64> {
        Some(self.shared.last_pause_ns.load(Ordering::Acquire)).filter(|ns| *ns > 0)
    }

    /// The versions of each component that are known, oldest first, under the names that a swap takes.
    pub(super) fn history(&self) -> BTreeMap<String, Vec<Version>> {
        let slots = self.shared.resolution.components.keys();
        slots.map(|slot| (self.slot_name(slot), self.versions().of(slot))).collect()
    }

    pub(super) fn versions(&self) -> std::sync::MutexGuard<'_, Versions> {
        self.shared.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Judges all offers, makes their guests and changes them at one cut, with what else `change` brings. Answers also what
    /// has been taken, which is noted among the versions.
    pub(super) async fn carry_out(
        &self,
        mut offers: Offers,
        watch: Stopwatch,
        change: Change,
        noted: Noted,
    ) -> Result<(SwapReport, Offers), SwapError> {
        let _turn = self.shared.swap_turn.lock().await;
        let mut components = self.shared.components.lock().await;
        if !change.has_trials() {
            self.no_trial_runs()?;
        }
        // what was tried has run under its number
        let new: BTreeSet<SlotId> = offers.iter().filter(|(_, of)| of.number == 0).map(|(id, _)| id.clone()).collect();
        if noted == Noted::Swapped {
            self.versions().number(&mut offers);
        }
        let give_back =
            |offers: &Offers| self.versions().give_back(offers.iter().filter(|(slot, _)| new.contains(slot)));
        let changed = self.change(change, &offers, &components);
        let (change, verdicts, sweeps) = changed.inspect_err(|_| give_back(&offers))?;
        if !sweeps.is_empty() {
            // checkpoints are taken meanwhile; nothing else changes what runs
            drop(components);
            let ahead = self.migrate_ahead(&sweeps).await;
            ahead.map_err(|error| error.with_path_of(&offers)).inspect_err(|_| give_back(&offers))?;
            components = self.shared.components.lock().await;
            self.count_trial_from_here();
        }
        let barrier_watch = Stopwatch::start();
        let change = Arc::new(change);
        fail_point("swap-ready");
        let pause_ns = match change.ballot() {
            None => self.send(&change).await?.1,
            Some(ballot) => self.send_and_decide(&change, ballot).await?,
        };
        fail_point("swap-passed");
        let barrier_ms = milliseconds(barrier_watch.elapsed());
        if let Some((step, reason)) = change.ballot().and_then(Ballot::against) {
            give_back(&offers);
            return Err(SwapError::Migration { path: PathBuf::new(), step, reason }.with_path_of(&offers));
        }
        if self.has_failed() {
            // where it goes on after a failure is before the change
            return Err(SwapError::Ended);
        }
        match change.migrated_row_ns() {
            None => self.shared.last_pause_ns.store(pause_ns, Ordering::Release),
            Some(row_ns) => self.shared.migrated_row_ns.store(row_ns.to_bits(), Ordering::Release),
        }
        offers.retain(|slot, _| self.was_taken(&change, slot));
        if offers.is_empty() && !verdicts.is_empty() {
            return Err(SwapError::Ended);
        }
        let swapped = self.take_note(&offers, verdicts, &mut components, noted);
        let migrates = swapped.iter().any(|swapped| matches!(swapped.verdict, Verdict::Migrate { .. }));
        let migrated = migrates.then(|| sweeps.figures(change.migrated()));
        Ok((SwapReport { swapped, pause_ns, total_ms: milliseconds(watch.elapsed()), barrier_ms, migrated }, offers))
    }

    /// Takes note of what runs now, with the components still held: a checkpoint takes note of both.
    fn take_note(
        &self,
        offers: &Offers,
        mut verdicts: BTreeMap<SlotId, Verdict>,
        components: &mut Components,
        noted: Noted,
    ) -> Vec<Swapped> {
        let mut swapped = Vec::with_capacity(offers.len());
        for (slot, offered) in offers {
            let to = offered.component.digest().to_string();
            let before = components.insert(slot.clone(), offered.clone());
            let (from, from_version) =
                before.map(|before| (before.component.digest().to_string(), before.number)).unwrap_or_default();
            let (verdict, to_version) = (verdicts.remove(slot).unwrap_or(Verdict::Identical), offered.number);
            let (step, slot) = (slot.step.clone(), slot.slot);
            swapped.push(Swapped { step, slot, from, from_version, to, to_version: Some(to_version), verdict });
        }
        let what = match noted {
            Noted::Swapped => {
                self.versions().swapped(offers, self.shared.clock.now_ms());
                "a component was swapped"
            }
            Noted::RolledBack => {
                self.versions().rolled_back(offers);
                "a component was rolled back"
            }
        };
        for Swapped { step, slot, from, from_version, to, to_version, .. } in &swapped {
            tracing::info!(step, slot, version = to_version, digest = to, from_version, from, "{what}");
        }
        swapped
    }

    /// What is to be sent for these offers, and what they mean.
    fn change(
        &self,
        mut change: Change,
        offers: &Offers,
        running: &Components,
    ) -> Result<(Change, BTreeMap<SlotId, Verdict>, Sweeps), SwapError> {
        let (mut all, mut verdicts) = (Vec::with_capacity(offers.len()), BTreeMap::new());
        for (slot, offered) in offers {
            let before = running.get(slot).ok_or_else(|| self.unknown(&slot.step))?;
            let (verdict, replacements) = self.replacements(slot, before, offered)?;
            all.push((slot, offered, replacements));
            verdicts.insert(slot.clone(), verdict);
        }
        let migrates = |(slot, verdict): (&SlotId, &Verdict)| {
            matches!(verdict, Verdict::Migrate { .. }).then(|| slot.step.clone())
        };
        let migrating: BTreeSet<String> = verdicts.iter().filter_map(migrates).collect();
        let mut sweeps = Sweeps::default();
        let mut succeeded = BTreeSet::new();
        for step in migrating {
            let mut successors = self.successors(&step, offers, running, &verdicts)?;
            if !self.migrates_ahead(&step, &mut successors) {
                change.add_successors(&step, successors);
                succeeded.insert(step);
                continue;
            }
            for (subtask, Successor { migrations, .. }) in successors.into_iter().enumerate() {
                let failed = |reason| SwapError::Migration { path: PathBuf::new(), step: step.clone(), reason };
                let sweep = Sweep::new(migrations).map_err(|reason| failed(reason).with_path_of(offers))?;
                sweeps.add(&step, subtask, sweep);
            }
            change.end_sweep(&step);
        }
        for (slot, offered, replacements) in all.into_iter().filter(|(slot, ..)| !succeeded.contains(&slot.step)) {
            change.add(slot.clone(), offered.version(), replacements);
        }
        Ok((change, verdicts, sweeps))
    }

    /// Whether any task has put in place what the change brought for `slot`. A source that ends with the barrier still in
    /// front of it leaves the guests of the tasks behind it where they are.
    fn was_taken(&self, change: &Change, slot: &SlotId) -> bool {
        let tasks = self.place(&slot.step).and_then(|index| self.shared.nodes.get(index));
        (0..tasks.map_or(0, |node| node.guests.len())).any(|subtask| !change.holds(slot, subtask))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
