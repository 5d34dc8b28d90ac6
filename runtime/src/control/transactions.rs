//! Epochs that a Kafka broker decides: what a start finds, and how an epoch is committed.
//!
//! ```text
//!   barrier ─▶ marker ─▶ all has arrived ─╮
//!            ╰▶ checkpoint is on the disk ─┴▶ commit = the decision ─▶ next epoch begins ─▶ files are renamed ─▶ old ones go
//! ```
//!
//! The broker decides for all sinks. Files follow: their renames can be repeated by any later start, as the checkpoint that the
//! marker names tells what they are, and before the commit nothing of the epoch is visible anywhere. The other way
//! round would not do: a transaction cannot be committed by another process than the one that wrote it, so files
//! that are shown first could show an epoch whose records are lost.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checkpoints::CheckpointError;
use crate::checkpoint::{
    Cure, Decision, Draft, Facts, Held, HeldBack, Loaded, Manifest, Marker, Named, Store, StoreError, Stored,
    choose_decided, cure, fail_point,
};
use crate::pipeline::spec::{CheckpointSpec, PipelineSpec};
use crate::sink::{HeldPartition, SinkKind, TransactionSpec, Transactions};

/// How often it is looked again while another producer is in the way.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The transactions of a pipeline; none where it has no Kafka sink.
pub(super) fn of(spec: &PipelineSpec, checkpoint: &CheckpointSpec) -> Option<TransactionSpec> {
    let kinds = spec.sinks.iter().map(|sink| &sink.kind.value).chain(spec.dead_letter.iter().map(|kind| &kind.value));
    let sinks: Vec<_> =
        kinds.filter_map(|kind| if let SinkKind::Kafka(sink) = kind { Some(sink.clone()) } else { None }).collect();
    if sinks.is_empty() {
        return None;
    }
    let transactional_id = checkpoint.transactional_id(&spec.name.value);
    let timeout = checkpoint.transaction_timeout.value;
    Some(TransactionSpec { transactional_id, base: spec.base.clone(), timeout, sinks })
}

/// What the broker has decided, once nothing hides it.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    pub(super) transactional_id: String,
    pub(super) marker: Option<Marker>,
}

/// Reads the last marker, after whatever is in the way has been cleared away.
pub(super) async fn decided(
    transactions: &Transactions,
    store: &Store,
    timeout: Duration,
) -> Result<Decided, CheckpointError> {
    fail_point("initialized");
    let watch = crate::clock::Stopwatch::start();
    loop {
        let found = transactions.committed().await?;
        let held = transactions.held().await?;
        let stored = stored(store).await?;
        let asked = |epoch: u64| stored.get(&epoch).copied().unwrap_or(Stored::Never);
        match cure(&facts_of(&held), found.as_ref().map(|marker| marker.epoch), asked) {
            Cure::None => {
                let marker = found.map(|found| Marker { epoch: found.epoch, attempt: found.attempt });
                let transactional_id = transactions.transactional_id().to_owned();
                return Ok(Decided { transactional_id, marker });
            }
            Cure::AbortAgain(partitions) => {
                tracing::warn!(
                    ?partitions,
                    "the broker has not ended an aborted transaction there; aborting once more"
                );
                let of = |held: &HeldPartition| partitions.contains(&name_of(held));
                let again = held.iter().filter(|held| of(held)).map(|held| (held.topic.clone(), held.partition));
                transactions.abort_again(again.collect()).await?;
                fail_point("cured");
            }
            Cure::Wait if watch.elapsed() <= timeout => {
                tracing::warn!(
                    ?held,
                    "another producer's open transaction hides records of this pipeline; waiting for its end"
                );
                tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            }
            Cure::Wait => {
                let partitions: Vec<String> = held.iter().map(name_of).collect();
                let reason = format!(
                    "an open transaction of another producer hides records of this pipeline in {}; end it \
                     (`kafka-transactions.sh find-hanging`)",
                    partitions.join(", ")
                );
                return Err(CheckpointError::Undecidable { reason });
            }
            Cure::Refuse { reason } => return Err(CheckpointError::Undecidable { reason }),
        }
    }
}

fn name_of(held: &HeldPartition) -> String {
    format!("{}/{}", held.topic, held.partition)
}

fn facts_of(held: &[HeldPartition]) -> Vec<Held> {
    let fact = |held: &HeldPartition| Held {
        partition: name_of(held),
        of_markers: held.of_markers,
        first: match held.first_of {
            Some(epoch) => HeldBack::Ours { epoch },
            None => HeldBack::Others { ours_behind: held.any_ours },
        },
    };
    held.iter().map(fact).collect()
}

async fn stored(store: &Store) -> Result<BTreeMap<u64, Stored>, StoreError> {
    let listed = store.list().await?;
    let state = |committed: bool| if committed { Stored::Committed } else { Stored::Perhaps };
    Ok(listed.iter().map(|listed| (listed.epoch, state(listed.committed))).collect())
}

/// What a start goes on from: the checkpoint that the marker names, or none where no transaction has been committed and
/// something else decides.
pub(super) async fn chosen(
    store: &Store,
    decided: &Decided,
    shown: Option<(u64, &str)>,
) -> Result<Option<Loaded>, CheckpointError> {
    let (mut named, mut loaded) = (None, None);
    if let Some(marker) = &decided.marker {
        let known = match store.load(marker.epoch).await {
            Ok(found) => {
                let attempt = found.manifest.attempt.clone();
                loaded = Some(found);
                Named::Whole { attempt }
            }
            Err(StoreError::Damaged { reason, .. }) => Named::Damaged(reason),
            Err(StoreError::Unknown { .. }) => Named::Missing,
            Err(error) => return Err(error.into()),
        };
        named = Some((marker.clone(), known));
    }
    let manifests: Vec<Manifest> = store.list().await?.into_iter().filter_map(|listed| listed.manifest.ok()).collect();
    let mut under = manifests.iter().filter_map(|of| Some((of.epoch, of.transactional_id.as_deref()?)));
    let facts =
        Facts { transactional_id: &decided.transactional_id, marker: named, in_transaction: under.next(), shown };
    match choose_decided(&facts) {
        Decision::GoOn { .. } => Ok(loaded),
        Decision::Undecided => Ok(None),
        Decision::Refuse { reason } => Err(CheckpointError::Refused { reason }),
    }
}

/// The checkpoint that a pipeline begins with under transactions: `from` as it is, or nothing, under a new number. The
/// epoch needs no transaction to have happened.
pub(super) fn base(pipeline: &str, epoch: u64, attempt: &str, now_ms: i64, from: Option<&Loaded>) -> Draft {
    let (sources, steps, states) = match from {
        None => Default::default(),
        Some(loaded) => {
            let mut steps = loaded.manifest.steps.clone();
            for task in steps.iter_mut().flat_map(|step| &mut step.tasks) {
                task.state = Vec::new();
            }
            (loaded.manifest.sources.clone(), steps, loaded.states.clone())
        }
    };
    let manifest = Manifest {
        given_up: from.map(|from| from.manifest.given_up.clone()).unwrap_or_default(),
        pipeline: pipeline.to_owned(),
        epoch,
        attempt: attempt.to_owned(),
        written_ms: now_ms,
        finished: from.is_some_and(|loaded| loaded.manifest.finished),
        sources,
        steps,
        prepared: Vec::new(),
        transactional_id: None,
        // their components are in the store
        versions: from.map_or_else(Vec::new, |loaded| loaded.manifest.versions.clone()),
    };
    Draft { manifest, states, components: BTreeMap::new() }
}

/// Adds the marker and waits until the epoch's records have arrived.
pub(super) async fn seal(transactions: &Transactions, epoch: u64, attempt: &str) -> Result<(), CheckpointError> {
    transactions.mark(epoch, attempt).await?;
    fail_point("marked");
    transactions.drained().await?;
    fail_point("drained");
    Ok(())
}

/// Commits the epoch, whose checkpoint is on the disk.
pub(super) async fn commit(transactions: &Transactions, epoch: u64) -> Result<(), CheckpointError> {
    fail_point("before-decision");
    let die_meanwhile = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        fail_point("deciding");
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        committed = transactions.commit(epoch) => committed?,
        () = die_meanwhile => {}
    }
    fail_point("decided");
    Ok(())
}
