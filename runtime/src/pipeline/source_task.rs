//! A task that begins with a source: rows come from outside, watermarks are made here, barriers start here.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::capsules::StepCapsules;
use super::change::Change;
use super::cut::Cut;
use super::dead_letter::{DeadLetter, Payload};
use super::enough::Enough;
use super::marker::{Marked, Marker};
use super::shuffle::Shuffle;
use super::task::{Chain, TaskError, wait};
use crate::clock::Clock;
use crate::format::BadRecord;
use crate::metrics::NodeCounters;
use crate::operator::OnError;
use crate::record::{Barrier, Batch, Element, NO_EVENT_TIME, Position, Watermark};
use crate::source::{AskedTime, ChannelEvent, DriftMember, PartitionWatermarks, Source, SourceError, SourceEvent};

/// What control asks of a source.
#[derive(Debug)]
pub enum Command {
    /// put this barrier into the stream, here
    Barrier(Barrier),
    /// take nothing more in and end as if the input had ended
    Stop,
    /// take nothing more in until told to go on; barriers still pass
    Pause,
    /// go on after a pause
    Resume,
}

/// A source and all that belongs to it in one task.
pub(super) struct SourceTask {
    pub(super) name: String,
    pub(super) source: Box<dyn Source>,
    pub(super) watermarks: PartitionWatermarks,
    pub(super) on_error: OnError,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) clock: Clock,
    pub(super) counters: Arc<NodeCounters>,
    /// cuts batches at random places, where a run is to show that it does not matter
    pub(super) shuffle: Option<Shuffle>,
    pub(super) chain: Chain,
    /// how long the source has been asked for rows
    pub(super) asked: AskedTime,
    /// keeps it together with other sources
    pub(super) drift: Option<DriftMember>,
    /// gives rows their times and watermarks
    pub(super) marker: Marker,
    /// where calls of its watermark assigner go that fail
    pub(super) capsules: Option<StepCapsules>,
    /// told to take nothing in for now
    pub(super) paused: bool,
    /// what all sources may give together
    pub(super) enough: Option<Enough>,
}

/// Ticks of a migration after which a source that gives nothing says how far it is and shows what it has given: as long as
/// it would otherwise be quiet for.
const SWEEP_TICKS: u32 = 50;

/// What a source task does next.
enum Next {
    Command(Option<Command>),
    /// an operator has something to do because of the time
    Timer,
    /// state is handed over, whether rows come or not
    Sweep,
    /// others have caught up
    CaughtUp,
    Event(Result<SourceEvent, SourceError>),
}

/// Runs until the source ends or is told to stop.
pub(super) async fn run(mut task: SourceTask) -> Result<(), TaskError> {
    task.chain.begin()?;
    let mut ticks = 0_u32;
    loop {
        task.chain.sweep();
        if ticks.is_multiple_of(SWEEP_TICKS) && task.drift.as_ref().is_some_and(DriftMember::is_ahead) {
            // nothing comes for now: what has come is to be seen
            task.chain.flush().await?;
        }
        let event = match task.next().await {
            Next::Command(Some(Command::Barrier(barrier))) => {
                if let Some(into) = barrier.change.downcast_ref::<Change>().and_then(Change::snapshot) {
                    into.add_positions(&task.name, task.chain.subtask, task.positions());
                }
                let pause = task.chain.change(&barrier).await?;
                let before = task.counters.read();
                task.marker.change(&barrier, (&task.name, task.chain.subtask), before).await?;
                task.chain.passed(&barrier, pause);
                if let Some(handover) = task.chain.is_over() {
                    handover.leave_source(&task.name, task.chain.subtask, task.source);
                    return Ok(());
                }
                continue;
            }
            // control is gone: nobody waits for results any more, but what was read is finished
            Next::Command(Some(Command::Stop) | None) => break,
            Next::Command(Some(Command::Pause)) => {
                task.paused = true;
                // nothing comes for now: what has come is to be seen
                task.chain.flush().await?;
                continue;
            }
            Next::Command(Some(Command::Resume)) => {
                task.paused = false;
                continue;
            }
            Next::Timer => {
                task.chain.processing_time().await?;
                continue;
            }
            Next::CaughtUp => {
                ticks = 0;
                continue;
            }
            Next::Sweep => {
                // the source's own `Quiet` does not come while it is interrupted by these
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(SWEEP_TICKS) {
                    task.progress().await?;
                    task.chain.flush().await?;
                }
                continue;
            }
            Next::Event(event) => event,
        };
        ticks = 0;
        let failed = |source| TaskError::Source { name: task.name.clone(), subtask: task.chain.subtask, source };
        match event.map_err(failed)? {
            SourceEvent::Batch { partition, batch, bad } => {
                let rows = batch.rows();
                task.bad(partition, bad).await?;
                task.batch(partition, batch).await?;
                task.enough.iter().for_each(|enough| enough.given(rows));
            }
            SourceEvent::PartitionEnded { partition } => task.watermarks.end(partition),
            SourceEvent::Quiet => task.chain.flush().await?,
            SourceEvent::Direct(ChannelEvent::End) | SourceEvent::End => break,
            SourceEvent::Direct(event) => {
                task.direct(event).await?;
                continue;
            }
        }
        task.progress().await?;
        if task.enough.as_ref().is_some_and(|enough| !enough.has_left()) {
            break;
        }
        // A source that always has rows must still let other tasks of this thread run.
        tokio::task::consume_budget().await;
    }
    // those that stay together with it need not wait for what it does at its end
    task.drift = None;
    task.counters.watermark(Watermark::MAX.0);
    task.chain.watermark(Watermark::MAX).await?;
    let positions = BTreeMap::from([(task.chain.subtask, task.positions())]);
    let left = Cut { sources: BTreeMap::from([(task.name.clone(), positions)]), ..Cut::default() };
    task.chain.end(left).await
}

impl SourceTask {
    /// Waits for what is to be done next. The source is not asked while its task is ahead of others, or paused.
    async fn next(&mut self) -> Next {
        let timer = self.chain.next_processing_time();
        let sweep = self.chain.sweep_tick();
        let Self { source, commands, clock, drift, asked, paused, .. } = self;
        let paused = *paused;
        let ahead = drift.as_ref().filter(|drift| drift.is_ahead());
        if ahead.is_none() && !paused {
            asked.start(clock.now_ms());
        }
        let next = tokio::select! {
            biased;
            command = commands.recv() => Next::Command(command),
            () = wait(timer, clock) => Next::Timer,
            () = sweep => Next::Sweep,
            next = async {
                match ahead {
                    _ if paused => std::future::pending().await,
                    Some(drift) => {
                        drift.caught_up().await;
                        Next::CaughtUp
                    }
                    None => Next::Event(source.next().await),
                }
            } => next,
        };
        asked.stop(clock.now_ms());
        next
    }

    /// Where the partitions stand, with the latest event time of each.
    fn positions(&self) -> Vec<Position> {
        let seen = |(partition, position): (u32, Position)| {
            let time_ms_max = self.watermarks.time_ms_max(partition).unwrap_or(position.time_ms_max);
            Position { time_ms_max, ..position }
        };
        self.source.positions().into_iter().map(seen).collect()
    }

    async fn batch(&mut self, partition: u32, batch: Batch) -> Result<(), TaskError> {
        if batch.is_empty() {
            return Ok(());
        }
        self.counters.batch_in(batch.rows());
        let pieces = match &mut self.shuffle {
            None => return self.piece(partition, batch).await,
            Some(shuffle) => shuffle.cut(&batch),
        };
        for piece in pieces {
            self.piece(partition, piece).await?;
            self.progress().await?;
        }
        Ok(())
    }

    /// Takes what a source says that knows event time itself: the partitions' watermarks are not asked.
    async fn direct(&mut self, event: ChannelEvent) -> Result<(), TaskError> {
        match event {
            ChannelEvent::Rows(batch) if batch.is_empty() => Ok(()),
            ChannelEvent::Rows(batch) => {
                self.counters.batch_in(batch.rows());
                self.counters.out(batch.rows());
                let pieces = match &mut self.shuffle {
                    None => return self.chain.batch(0, batch).await,
                    Some(shuffle) => shuffle.cut(&batch),
                };
                for piece in pieces {
                    self.chain.batch(0, piece).await?;
                }
                Ok(())
            }
            ChannelEvent::Watermark(watermark) => {
                self.counters.watermark(watermark.0);
                self.chain.watermark(watermark).await
            }
            ChannelEvent::Idle => self.chain.forward(Element::Idle).await,
            ChannelEvent::Active => self.chain.forward(Element::Active).await,
            ChannelEvent::End => Ok(()),
        }
    }

    async fn piece(&mut self, partition: u32, batch: Batch) -> Result<(), TaskError> {
        let (name, subtask) = (&self.name, self.chain.subtask);
        let capsules = self.capsules.as_ref();
        let failed = |source| {
            let source = match capsules {
                Some(capsules) => capsules.name_in(source),
                None => source,
            };
            TaskError::Assigner { name: name.clone(), subtask, source }
        };
        let Marked { batches, watermark, dead, skipped } = self.marker.mark(batch).map_err(failed)?;
        if let Some(capsules) = capsules {
            capsules.write(&dead);
        }
        self.counters.lost(dead.len(), skipped, 0);
        for dead in dead {
            let payload = Payload::Row { row: dead.row, time_ms: dead.time };
            let (node, version) = (self.name.clone(), self.marker.version());
            let capsule = self.capsules.as_ref().and_then(|capsules| capsules.file_for(&dead.reason));
            let letter = DeadLetter { node, version, capsule, reason: dead.reason, payload };
            self.chain.dead.send(letter).await.map_err(TaskError::DeadLetter)?;
        }
        for batch in batches {
            let latest = batch.times().iter().copied().max().unwrap_or(NO_EVENT_TIME);
            self.watermarks.observe(partition, latest, self.asked.ms());
            self.counters.out(batch.rows());
            if !batch.is_empty() {
                self.chain.batch(0, batch).await?;
            }
        }
        if let Some(watermark) = watermark {
            self.watermarks.mark(partition, watermark, self.asked.ms());
        }
        Ok(())
    }

    /// Says what the watermarks of all partitions together allow.
    async fn progress(&mut self) -> Result<(), TaskError> {
        let progress = self.watermarks.progress(self.asked.ms());
        if let Some(drift) = &self.drift {
            drift.reached(self.watermarks.announced());
        }
        if progress.idle == Some(false) {
            self.chain.forward(Element::Active).await?;
        }
        if let Some(watermark) = progress.watermark {
            self.counters.watermark(watermark.0);
            self.chain.watermark(watermark).await?;
        }
        if progress.idle == Some(true) {
            self.chain.forward(Element::Idle).await?;
        }
        Ok(())
    }

    async fn bad(&mut self, partition: u32, bad: Vec<BadRecord>) -> Result<(), TaskError> {
        match self.on_error {
            OnError::Skip => self.counters.lost(0, bad.len() as u64, 0),
            OnError::Fail => {
                if let Some(record) = bad.into_iter().next() {
                    let (name, subtask) = (self.name.clone(), self.chain.subtask);
                    return Err(TaskError::Record { name, subtask, offset: record.offset, reason: record.reason });
                }
            }
            OnError::DeadLetter => {
                self.counters.lost(bad.len(), 0, 0);
                for record in bad {
                    let letter = DeadLetter {
                        node: self.name.clone(),
                        version: None,
                        capsule: None,
                        reason: record.reason,
                        payload: Payload::Record { partition, offset: record.offset, bytes: record.bytes },
                    };
                    self.chain.dead.send(letter).await.map_err(TaskError::DeadLetter)?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
