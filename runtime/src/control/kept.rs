//! Which components a start runs that goes on from a checkpoint: those of the checkpoint where the pipeline file still names
//! what it named then, those of the file where it has changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::checkpoints::CheckpointError;
use super::judge::judge_state;
use super::versions::Versions;
use crate::checkpoint::{SlotVersions, Store, StoreError, VersionEntry};
use crate::clock::utc_text;
use crate::pipeline::build::ComponentChoice;
use crate::pipeline::cut::Cut;
use crate::pipeline::plan::SlotId;
use crate::pipeline::resolve::{Components, Resolution, Resolved};
use crate::record::Schema;
use crate::wasm::{Sandbox, StateSchema};

/// What runs, and what is told of it.
#[derive(Debug)]
pub(super) struct GoneOn {
    pub(super) resolution: Resolution,
    pub(super) versions: Versions,
    /// one for each component that is not the pipeline file's
    pub(super) notes: Vec<String>,
}

/// Where versions come from.
#[derive(Debug)]
pub(super) struct From<'a> {
    pub(super) store: &'a Store,
    /// the checkpoint that is gone on from
    pub(super) epoch: u64,
    pub(super) known: &'a [SlotVersions],
}

/// Which components a life runs that goes on from a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// as a process begins
    Start(ComponentChoice),
    /// those of the checkpoint, whatever the pipeline file names: it was made by the same process
    AsOf,
    /// those that are handed in, whether a file names them or they were swapped in
    Wanted,
}

impl Runs {
    /// Whether the pipeline file has not been read again since the checkpoint.
    fn is_same_process(self) -> bool {
        matches!(self, Self::AsOf | Self::Wanted)
    }
}

/// The version to run in place of the declared component, if it is another.
fn instead<'a>(slot: &'a SlotVersions, declared: &str, choice: Runs) -> Option<&'a VersionEntry> {
    let current = slot.current()?;
    let is_kept = match choice {
        Runs::Start(ComponentChoice::Kept) => slot.declared == declared,
        Runs::AsOf => true,
        Runs::Start(ComponentChoice::Declared) | Runs::Wanted => false,
    };
    (is_kept && current.digest != declared).then_some(current)
}

/// Puts the versions of the checkpoint in the place of what the pipeline file names, where these are to run. `before`: what this
/// process ran last, where it is to run what is [wanted](Runs::Wanted).
pub(super) async fn go_on(
    resolution: Resolution,
    sandbox: &Sandbox,
    from: From<'_>,
    (choice, before): (Runs, Option<&Versions>),
    now_ms: i64,
) -> Result<GoneOn, CheckpointError> {
    let mut running = resolution.components.clone();
    let mut notes = Vec::new();
    let mut first = None;
    for slot in from.known {
        let place = running.iter_mut().find(|(id, _)| id.step == slot.step && id.slot == slot.slot);
        let Some((_, resolved)) = place else { continue };
        let Some(version) = instead(slot, &resolved.component.digest().to_string(), choice) else { continue };
        let gone = |reason| gone(&from, slot, version, reason);
        *resolved = match load(from.store, sandbox, version, resolved).await {
            Ok(loaded) => loaded,
            Err(Unreadable::Store(error)) if error.is_passing() => return Err(error.into()),
            Err(error) => return Err(gone(error.to_string())),
        };
        let (step, number, digest) = (&slot.step, version.number, version.digest.get(..12).unwrap_or_default());
        let since = utc_text(version.since_ms);
        notes.push(format!(
            "step `{step}` runs version {number} ({digest}), put in place on {since}; `--components declared` runs what \
             the pipeline file names"
        ));
        tracing::info!(step, version = number, digest, since, "a version of the checkpoint runs");
        first.get_or_insert((slot, version));
    }
    let versions = Versions::going_on(from.known, (&resolution.components, &running), before, now_ms);
    let versions = if choice.is_same_process() { versions.declared_as(from.known) } else { versions };
    let Some((slot, version)) = first else { return Ok(GoneOn { resolution, versions, notes }) };
    let resolution = resolution
        .with(running)
        .map_err(|error| gone(&from, slot, version, format!("it does not fit the pipeline as it is now: {error}")))?;
    Ok(GoneOn { resolution, versions, notes })
}

/// What components kept for a key as of a checkpoint.
pub(super) fn states(known: &[SlotVersions]) -> BTreeMap<SlotId, StateSchema> {
    let state = |slot: &SlotVersions| {
        let state = slot.current()?.state.as_ref()?;
        let id = SlotId { step: slot.step.clone(), slot: slot.slot };
        Some((id, StateSchema { version: state.version, fields: Schema::new(state.fields.clone()) }))
    };
    known.iter().filter_map(state).collect()
}

/// Refuses components that find state in `cut` which they cannot make theirs.
pub(super) fn check_states(epoch: u64, cut: &Cut, components: &Components) -> Result<(), CheckpointError> {
    for (id, found) in &cut.kept_by {
        let Some(resolved) = components.get(id) else { continue };
        let tables = cut.steps.get(&id.step).into_iter().flat_map(BTreeMap::values).flat_map(|task| &task.state.tables);
        let is_empty = tables.flat_map(|table| &table.rows).all(|rows| rows.num_rows() == 0);
        if let (false, Err(refusal)) = (is_empty, judge_state(found, &resolved.signature)) {
            return Err(CheckpointError::State { epoch, step: id.step.clone(), refusal });
        }
    }
    Ok(())
}

fn gone(from: &From<'_>, slot: &SlotVersions, version: &VersionEntry, reason: String) -> CheckpointError {
    let (epoch, step, number) = (from.epoch, slot.step.clone(), version.number);
    CheckpointError::Version { epoch, step, number, reason }
}

/// A version's component cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Component(String),
}

/// Reads the component of a version from the store and makes it ready to take the place of `like`.
pub(super) async fn load(
    store: &Store,
    sandbox: &Sandbox,
    version: &VersionEntry,
    like: &Resolved,
) -> Result<Resolved, Unreadable> {
    let bytes = store.component(&version.digest).await?;
    let (kind, settings, limits, number) = (like.kind, like.settings.clone(), like.limits, version.number);
    let (sandbox, path) = (sandbox.clone(), PathBuf::from(&version.path));
    let ready = move || {
        let name = path.display().to_string();
        let component = sandbox.load_bytes(&name, &bytes).map_err(|error| error.to_string())?;
        let signature = component.describe(kind, &settings).map_err(|error| error.to_string())?;
        Ok(Resolved { component, kind, signature, settings, path, limits, number })
    };
    let ready = tokio::task::spawn_blocking(ready).await.map_err(|error| Unreadable::Component(error.to_string()))?;
    ready.map_err(Unreadable::Component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_wins_where_it_has_changed_and_the_swap_where_it_has_not() {
        let version = |number, digest: &str| VersionEntry {
            number,
            digest: digest.to_owned(),
            path: String::new(),
            since_ms: 0,
            swapped: number > 1,
            change: number - 1,
            state: None,
        };
        let slot = |declared: &str, current| SlotVersions {
            step: "s".into(),
            slot: 0,
            declared: declared.into(),
            numbers: 2,
            current,
            versions: vec![version(1, "a"), version(2, "b")],
        };
        const KEPT: Runs = Runs::Start(ComponentChoice::Kept);
        const DECLARED: Runs = Runs::Start(ComponentChoice::Declared);
        // named then, number that ran, named now, choice, what runs in its place
        let table = [
            ("a", 1, "a", KEPT, None),
            ("a", 2, "a", KEPT, Some(2)),
            ("a", 2, "a", DECLARED, None),
            ("a", 2, "b", KEPT, None),
            ("a", 2, "c", KEPT, None),
            ("b", 1, "b", KEPT, Some(1)),
            ("a", 7, "a", KEPT, None),
            ("a", 2, "a", Runs::AsOf, Some(2)),
            ("a", 2, "b", Runs::AsOf, None),
            ("a", 1, "b", Runs::AsOf, Some(1)),
            ("a", 2, "c", Runs::Wanted, None),
        ];
        for (then, current, now, choice, expected) in table {
            let slot = slot(then, current);
            let found = instead(&slot, now, choice).map(|version| version.number);
            assert_eq!(found, expected, "{then} then, {now} now, {choice:?}, version {current}");
        }
    }
}
