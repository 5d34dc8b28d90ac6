//! A cut becomes a checkpoint: written, its epoch decided and shown, old ones thrown away.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{CheckpointError, Session};
use crate::checkpoint::{
    Action, Component, Draft, Manifest, PreparedEntry, SourceEntry, StepEntry, TaskEntry, fail_point,
};
use crate::clock::Stopwatch;
use crate::control::kinds;
use crate::control::run::Life;
use crate::control::transactions;
use crate::control::versions::Versions;
use crate::pipeline::cut::Cut;
use crate::pipeline::resolve::Components;
use crate::sink::{self, Prepared};

/// Between two tries after the store or a sink has failed.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// What ran at a cut.
#[derive(Debug)]
pub(super) struct AsOf {
    pub(super) components: Components,
    pub(super) versions: Versions,
}

impl Session {
    /// Makes a cut a checkpoint and its epoch visible. `finished`: the input has ended; `last`: no epoch follows.
    pub(super) async fn keep(
        &mut self,
        handle: &Life,
        (cut, as_of): (Cut, AsOf),
        (finished, last): (bool, bool),
        watch: Stopwatch,
    ) -> Result<(), CheckpointError> {
        let epoch = self.epochs.next;
        let draft = self.draft(handle, as_of, cut, finished);
        let prepared = draft.manifest.prepared.clone();
        fail_point("cut");
        let bytes = self.decide(draft, last).await?;
        fail_point("before-commit");
        let mut action = Action::Write.next(prepared.len());
        while let Some(now) = action {
            self.act(now, epoch, &prepared).await?;
            action = now.next(prepared.len());
        }
        self.epochs.next = epoch.saturating_add(1);
        let took_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(|status| {
            status.epoch = Some(epoch);
            status.made += 1;
            (status.bytes, status.took_ms, status.failing) = (bytes, took_ms, None);
        });
        tracing::debug!(epoch, bytes, took_ms, "checkpoint");
        Ok(())
    }

    /// Makes the epoch happen: its checkpoint is whole and, where sinks write in transactions, its transaction committed.
    async fn decide(&self, draft: Draft, last: bool) -> Result<u64, CheckpointError> {
        let Some(transactions) = &self.epochs.transactions else { return self.write(draft).await };
        let epoch = draft.manifest.epoch;
        let sealed = transactions::seal(transactions, epoch, &self.epochs.attempt);
        let done = tokio::try_join!(self.write(draft), sealed);
        let done = match done {
            Ok((bytes, ())) => transactions::commit(transactions, epoch).await.map(|()| bytes),
            Err(error) => Err(error),
        };
        if done.is_err() {
            // or readers would wait until the broker does it
            transactions.abort().await;
        } else if !last {
            transactions.begin(epoch.saturating_add(1))?;
        }
        done
    }

    fn draft(&self, handle: &Life, as_of: AsOf, cut: Cut, finished: bool) -> Draft {
        let mut kept = kinds::of(&handle.shared.resolution.plan, &as_of.components);
        let sources = cut.sources.into_iter().map(|(source, tasks)| {
            let positions = tasks.into_values().flatten().collect();
            SourceEntry { source, positions }
        });
        let mut steps = Vec::with_capacity(cut.steps.len());
        let mut states = BTreeMap::new();
        for (step, tasks) in cut.steps {
            let of_step = as_of.components.iter().filter(|(slot, _)| slot.step == step);
            let components = of_step
                .map(|(slot, resolved)| Component { slot: slot.slot, digest: resolved.component.digest().to_string() });
            let mut entry = StepEntry {
                components: components.collect(),
                kept: kept.remove(&step),
                step,
                tasks: Vec::with_capacity(tasks.len()),
            };
            entry.components.sort_by_key(|component| component.slot);
            for (subtask, task) in tasks {
                entry.tasks.push(TaskEntry { subtask, watermark_ms: task.watermark.0, state: Vec::new() });
                states.insert((entry.step.clone(), subtask), task.state);
            }
            steps.push(entry);
        }
        let prepared = cut.prepared.into_iter().flat_map(|(sink, all)| {
            all.into_iter().map(move |one| PreparedEntry { sink: sink.clone(), shown: one.shown, bytes: one.bytes })
        });
        let (versions, files) = as_of.versions.entries();
        let manifest = Manifest {
            pipeline: handle.name().to_owned(),
            epoch: self.epochs.next,
            attempt: self.epochs.attempt.clone(),
            written_ms: self.clock.now_ms(),
            finished,
            sources: sources.collect(),
            steps,
            prepared: prepared.collect(),
            transactional_id: self.epochs.transactions.as_ref().map(|of| of.transactional_id().to_owned()),
            versions,
            given_up: handle.given_up(),
        };
        Draft { manifest, states, components: files }
    }

    /// Tries until the store has it: nothing is dropped, the pipeline goes on, its rows wait to be shown.
    async fn write(&self, draft: Draft) -> Result<u64, CheckpointError> {
        let mut pause = RETRY_FIRST;
        loop {
            let written = match self.lease.check().await {
                Ok(()) => self.store.write(draft.clone()).await,
                Err(error) => Err(error),
            };
            match written {
                Ok(bytes) => {
                    self.store.let_go(draft).await;
                    return Ok(bytes);
                }
                Err(error) if error.is_passing() => self.wait(&mut pause, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What follows once the manifest is there.
    async fn act(&self, action: Action, epoch: u64, prepared: &[PreparedEntry]) -> Result<(), CheckpointError> {
        let tidied = match action {
            Action::Write => return Ok(()),
            Action::Show(part) => {
                let Some(entry) = prepared.get(part) else { return Ok(()) };
                self.show(entry).await?;
                fail_point("between-commits");
                return Ok(());
            }
            Action::Note => {
                fail_point("after-commit");
                self.store.mark_committed(epoch).await
            }
            Action::Tidy => self.store.retain(self.spec.retain.value, epoch).await,
        };
        if let Err(error) = tidied {
            // the next start shows it again, which changes nothing; the next checkpoint clears away
            tracing::warn!(epoch, %error, "cannot tidy up after a checkpoint");
        }
        Ok(())
    }

    async fn show(&self, entry: &PreparedEntry) -> Result<(), CheckpointError> {
        let prepared = Prepared { shown: entry.shown.clone(), bytes: entry.bytes.clone() };
        let mut pause = RETRY_FIRST;
        loop {
            match sink::commit(&entry.sink, &self.base, &prepared).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_passing() => self.wait(&mut pause, error).await?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits before the next try. Where a task has failed meanwhile there is none: the next start finishes the checkpoint.
    async fn wait(&self, pause: &mut Duration, error: impl Into<CheckpointError>) -> Result<(), CheckpointError> {
        let error = error.into();
        let reason = error.to_string();
        tracing::warn!(epoch = self.epochs.next, reason, "a checkpoint cannot be finished; trying again");
        self.tell(|status| status.failing = Some(reason));
        let mut failed = self.failed.subscribe();
        let over = tokio::time::timeout(*pause, failed.wait_for(|failed| *failed)).await.is_ok();
        *pause = (*pause * 2).min(RETRY_MAX);
        if over { Err(error) } else { Ok(()) }
    }
}
