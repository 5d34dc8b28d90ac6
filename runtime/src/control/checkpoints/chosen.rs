//! What a start goes on from, and what it finishes before.

use std::collections::BTreeSet;

use super::{CheckpointError, Restored, StartFrom};
use crate::checkpoint::{Choice, Loaded, Manifest, Store, StoreError, choose, fail_point, next_epoch};
use crate::control::transactions::{self, Decided};
use crate::pipeline::spec::PipelineSpec;
use crate::sink::{self, Prepared, SinkError, SinkKind, Transactions};

/// What a start goes on from.
pub(super) struct Chosen {
    pub(super) loaded: Option<(Loaded, Restored)>,
    pub(super) next: u64,
    /// a broker has decided for it
    pub(super) by_marker: bool,
}

impl Chosen {
    pub(super) async fn new(
        (spec, dropped): (&PipelineSpec, &BTreeSet<String>),
        store: &Store,
        from: &StartFrom,
        decided: Option<&Decided>,
    ) -> Result<Self, CheckpointError> {
        let shown = shown(spec).await?;
        let mut by_marker = false;
        let marked = decided.and_then(|decided| decided.marker.as_ref()).map(|marker| marker.epoch);
        let seen = marked.max(shown.as_ref().map(|(epoch, _)| *epoch));
        let next = next_epoch(store.newest_epoch().await?, seen);
        let mut notes = Vec::new();
        let (loaded, savepoint) = match from {
            StartFrom::Fresh => return Ok(Self { loaded: None, next, by_marker }),
            StartFrom::Savepoint(_) | StartFrom::Checkpoint(_) => {
                let (loaded, name) = match from {
                    StartFrom::Savepoint(name) => (store.load_savepoint(name).await?, Some(name.clone())),
                    StartFrom::Checkpoint(epoch) => (store.load(*epoch).await?, None),
                    StartFrom::Latest | StartFrom::Fresh => return Ok(Self { loaded: None, next, by_marker }),
                };
                let epoch = loaded.manifest.epoch;
                if loaded.manifest.transactional_id.is_some() && decided.is_some() && marked < Some(epoch) {
                    let reason =
                        format!("the transaction of epoch {epoch} was never committed: its rows would be missing");
                    return Err(CheckpointError::Refused { reason });
                }
                if let Some((shown, sink)) = shown.filter(|(shown, _)| *shown > epoch) {
                    notes.push(format!("sink `{sink}` shows rows up to epoch {shown}: those after {epoch} come again"));
                }
                (loaded, name)
            }
            StartFrom::Latest => {
                let shown = shown.as_ref().map(|(epoch, sink)| (*epoch, sink.as_str()));
                let named = match decided {
                    Some(decided) => transactions::chosen(store, decided, shown).await?,
                    None => None,
                };
                by_marker = named.is_some();
                if let Some(loaded) = named {
                    return Self::go_on((spec, dropped), (loaded, None), next, by_marker, notes);
                }
                let candidates = store.candidates().await?;
                match choose(&candidates.all, shown) {
                    Choice::Begin => return Ok(Self { loaded: None, next, by_marker }),
                    Choice::Refuse { reason } => return Err(CheckpointError::Refused { reason }),
                    Choice::GoOn { passed_over, .. } => {
                        let over = passed_over.iter();
                        notes.extend(over.map(|(over, why)| format!("checkpoint {over} is passed over: {why}")));
                        // the choice is the one that is whole
                        let Some(whole) = candidates.whole else {
                            return Ok(Self { loaded: None, next, by_marker });
                        };
                        (whole, None)
                    }
                }
            }
        };
        Self::go_on((spec, dropped), (loaded, savepoint), next, by_marker, notes)
    }

    fn go_on(
        (spec, dropped): (&PipelineSpec, &BTreeSet<String>),
        (loaded, savepoint): (Loaded, Option<String>),
        next: u64,
        by_marker: bool,
        mut notes: Vec<String>,
    ) -> Result<Self, CheckpointError> {
        let manifest = &loaded.manifest;
        known_steps(spec, &loaded, dropped)?;
        notes.extend(new_and_gone_sources(spec, manifest));
        let restored = Restored {
            epoch: manifest.epoch,
            savepoint,
            written_ms: manifest.written_ms,
            finished: manifest.finished,
            notes,
        };
        Ok(Self { loaded: Some((loaded, restored)), next, by_marker })
    }

    /// The first checkpoint under transactions, and its marker: from here on markers decide.
    pub(super) async fn begin(
        &mut self,
        spec: &PipelineSpec,
        store: &Store,
        transactions: &Transactions,
        attempt: &str,
        now_ms: i64,
    ) -> Result<(), CheckpointError> {
        let from = self.loaded.as_ref().map(|(loaded, _)| loaded);
        // the first of all is epoch 0
        let first = self.next == 1 && matches!(store.load(0).await, Err(StoreError::Unknown { .. }));
        let epoch = if first { 0 } else { self.next };
        let draft = transactions::base(&spec.name.value, epoch, attempt, now_ms, from);
        store.write(draft).await?;
        fail_point("base-written");
        transactions.begin(epoch)?;
        transactions::seal(transactions, epoch, attempt).await?;
        transactions::commit(transactions, epoch).await?;
        store.mark_committed(epoch).await?;
        self.next = epoch.saturating_add(1);
        Ok(())
    }
}

/// The newest epoch that a sink shows, and which sink.
async fn shown(spec: &PipelineSpec) -> Result<Option<(u64, String)>, SinkError> {
    let mut newest: Option<(u64, String)> = None;
    for (name, kind) in outputs(spec) {
        let Some(epoch) = sink::last_committed(name, kind, &spec.base).await? else { continue };
        if newest.as_ref().is_none_or(|(newest, _)| epoch > *newest) {
            newest = Some((epoch, name.to_owned()));
        }
    }
    Ok(newest)
}

/// Sinks by name, dead letters last.
pub(super) fn outputs(spec: &PipelineSpec) -> impl Iterator<Item = (&str, &SinkKind)> {
    let sinks = spec.sinks.iter().map(|sink| (sink.name.value.as_str(), &sink.kind.value));
    sinks.chain(spec.dead_letter.iter().map(|kind| ("dead_letter", &kind.value)))
}

pub(super) async fn commit_all(manifest: &Manifest, spec: &PipelineSpec) -> Result<(), SinkError> {
    for entry in &manifest.prepared {
        let prepared = Prepared { shown: entry.shown.clone(), bytes: entry.bytes.clone() };
        sink::commit(&entry.sink, &spec.base, &prepared).await?;
    }
    Ok(())
}

/// Finishes the newest checkpoint if it is whole, for a start that does not go on from it: its epoch has happened, so its
/// rows are to be seen. Where they are gone a `fresh` start goes on without.
pub(super) async fn finish_newest(
    store: &Store,
    spec: &PipelineSpec,
    decided: Option<&Decided>,
    fresh: bool,
) -> Result<(), CheckpointError> {
    let candidates = store.candidates().await?;
    // a damaged one in front of it is not the newest that is whole, but then nothing is known of what it had prepared
    let newest = candidates.whole.filter(|_| candidates.all.len() == 1);
    let marked = decided.and_then(|decided| decided.marker.as_ref()).map(|marker| marker.epoch);
    // where a broker decides, an epoch without its marker has not happened
    let happened = |of: &Manifest| of.transactional_id.is_none() || marked == Some(of.epoch);
    let newest = newest.filter(|loaded| !loaded.committed && happened(&loaded.manifest));
    let Some(loaded) = newest else { return Ok(()) };
    match commit_all(&loaded.manifest, spec).await {
        Ok(()) => {}
        Err(error @ SinkError::PartGone { .. }) if fresh => {
            tracing::warn!(epoch = loaded.manifest.epoch, %error, "the rows of the newest checkpoint are given up");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(store.mark_committed(loaded.manifest.epoch).await?)
}

/// State of a step that is gone would be lost silently.
fn known_steps(spec: &PipelineSpec, loaded: &Loaded, dropped: &BTreeSet<String>) -> Result<(), CheckpointError> {
    let known: Vec<&str> = spec.steps.iter().map(|step| step.name.value.as_str()).collect();
    let given_up = |step: &str| loaded.manifest.given_up.iter().any(|gone| gone == step) || dropped.contains(step);
    let gone = loaded.manifest.state_files().find(|(step, ..)| !known.contains(step) && !given_up(step));
    match gone {
        None => Ok(()),
        Some((step, ..)) => Err(CheckpointError::StepGone {
            epoch: loaded.manifest.epoch,
            step: step.to_owned(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        }),
    }
}

fn new_and_gone_sources(spec: &PipelineSpec, manifest: &Manifest) -> Vec<String> {
    let mut notes = Vec::new();
    for source in spec.sources.iter().filter(|source| crate::source::is_rewindable(&source.kind.value)) {
        let name = &source.name.value;
        if !manifest.sources.iter().any(|entry| entry.source == *name) {
            notes.push(format!("source `{name}` is not in the checkpoint: it begins at its start"));
        }
    }
    for entry in &manifest.sources {
        if !spec.sources.iter().any(|source| source.name.value == entry.source) {
            notes.push(format!("source `{}` of the checkpoint is not in the pipeline any more", entry.source));
        }
    }
    notes
}
