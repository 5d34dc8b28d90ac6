//! A candidate beside the running version of a step, for as long as it is tried. Put in place at a barrier, taken away at one.
//!
//! ```text
//!   shadow   rows ─┬─▶ running version ──▶ out                canary   rows ─┬─▶ running version ──▶ out
//!                  └─▶ candidate ──▶ compared, dropped                       └─▶ candidate ────────▶ out
//!                  all rows to both                                   each row to one, by key group
//! ```
//!
//! In shadow nothing that the candidate does leaves the task, not even its failure: one that cannot go on is left alone from
//! there. In a canary a candidate without state that cannot go on hands its rows to the running version; one with state fails
//! the task, as the running version would. State of both is one table at a snapshot, so a checkpoint does not know of a trial.
//!
//! Where the candidate of a canary keeps other state, the running version goes on with the candidate's keys behind it, unseen:
//!
//! ```text
//!   rows ─┬─ other keys ───────▶ running version ──▶ out
//!         └─ candidate's keys ─┬▶ candidate ───────▶ out          state of a migrated copy
//!                              └▶ running version ─▶ dropped      what a checkpoint, and a rollback, has of these keys
//! ```

mod begin;
mod compare;
mod figures;
mod split;

use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use begin::put_in_place;
pub use begin::{Apart, OtherState, TrialStep};
pub use figures::{Cost, Difference, EXAMPLES, Example, Side, TaskFigures};
pub use split::Share;

use self::compare::{Comparison, Rows};
pub(crate) use self::split::union;
use super::{Left, MadeColumns, Operator, OperatorError, Output, Replacement, SlotVersions, Sweeping};
use crate::clock::Stopwatch;
use crate::record::{Batch, Watermark};
use crate::state::Snapshot;

/// Where a task tells what it sees of a trial.
pub type SharedFigures = Arc<Mutex<TaskFigures>>;

fn note(figures: &SharedFigures, change: impl FnOnce(&mut TaskFigures)) {
    // counts only: a reader that panicked has left them whole
    change(&mut figures.lock().unwrap_or_else(PoisonError::into_inner));
}

/// Calls an operator, with what it puts out and costs on the account of its side.
fn timed(
    side: &mut Side,
    rows: usize,
    out: &mut Output,
    call: impl FnOnce(&mut Output) -> Result<(), OperatorError>,
) -> Result<(), OperatorError> {
    let before = Mark::of(out);
    let watch = Stopwatch::start();
    let result = call(out);
    side.cost.record(rows, u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX));
    side.rows_in += rows as u64;
    before.account(out, side);
    result
}

/// How far an output was filled.
#[derive(Clone, Copy, Debug)]
struct Mark {
    batches: usize,
    sides: usize,
    dead: usize,
    skipped: u64,
    late: u64,
}

impl Mark {
    fn of(out: &Output) -> Self {
        let (batches, sides, dead) = (out.batches.len(), out.sides.len(), out.dead.len());
        Self { batches, sides, dead, skipped: out.skipped_rows, late: out.late_rows }
    }

    fn rows(self, out: &Output) -> Rows<'_> {
        Rows::behind(out, (self.batches, self.sides))
    }

    fn account(self, out: &Output, side: &mut Side) {
        side.rows_out += self.rows(out).count();
        side.dead += out.dead.len().saturating_sub(self.dead) as u64;
        side.dead += out.skipped_rows.saturating_sub(self.skipped);
        side.late += out.late_rows.saturating_sub(self.late);
    }
}

/// Both versions see all; the running one's output goes on.
struct Shadow {
    running: Box<dyn Operator>,
    /// none once it could not go on
    candidate: Option<Box<dyn Operator>>,
    /// which of them may have more to put out, see [`Operator::go_on`]
    goes_on: [bool; 2],
    comparison: Comparison,
    /// what the candidate puts out
    scratch: Output,
    figures: SharedFigures,
}

impl Shadow {
    /// Lets both do `what`, and compares.
    fn both(
        &mut self,
        out: &mut Output,
        rows: usize,
        mut what: impl FnMut(&mut dyn Operator, &mut Output) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let (mut running, mut candidate) = (Side::default(), Side::default());
        let before = Mark::of(out);
        timed(&mut running, rows, out, |out| what(self.running.as_mut(), out))?;
        self.scratch.rows_at_once = out.rows_at_once;
        let failure = match &mut self.candidate {
            None => None,
            Some(operator) => {
                let done = timed(&mut candidate, rows, &mut self.scratch, |out| what(operator.as_mut(), out));
                let compared =
                    self.comparison.take(&before.rows(out), &Mark::of(&Output::default()).rows(&self.scratch));
                done.and(compared).err()
            }
        };
        let rows_at_once = self.scratch.rows_at_once;
        self.scratch = Output { rows_at_once, ..Output::default() };
        let failed = failure.map(|error| error.to_string());
        if failed.is_some() {
            self.candidate = None;
            self.comparison = Comparison::default();
        }
        note(&self.figures, |figures| {
            figures.running.add(&running);
            figures.candidate.add(&candidate);
            if failed.is_some() {
                figures.failed = failed;
            }
        });
        Ok(())
    }

    /// An element is over.
    fn settle(&mut self) {
        if self.candidate.is_some() {
            let found = self.comparison.settle();
            note(&self.figures, |figures| figures.difference.add(&found));
        }
    }
}

impl Operator for Shadow {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(0, batch, out)
    }

    fn on_input(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.both(out, batch.rows(), |operator, out| operator.on_input(input, batch.clone(), out))?;
        self.settle();
        Ok(())
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.goes_on = [true; 2];
        self.both(out, 0, |operator, out| operator.on_watermark(watermark, out))
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let (mut asked, mut goes_on) = (0, self.goes_on);
        self.both(out, 0, |operator, out| {
            // the running version is asked first
            if let Some(more) = goes_on.get_mut(asked)
                && *more
            {
                *more = operator.go_on(out)?;
            }
            asked += 1;
            Ok(())
        })?;
        if self.candidate.is_none() {
            goes_on[1] = false;
        }
        self.goes_on = goes_on;
        let more = goes_on.contains(&true);
        if !more {
            self.settle();
        }
        Ok(more)
    }

    fn next_processing_time(&self) -> Option<i64> {
        earlier(self.running.as_ref(), self.candidate.as_deref())
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        self.goes_on = [true; 2];
        self.both(out, 0, |operator, out| clock_to(operator, now_ms, out))
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        self.running.snapshot()
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.running.restore(state, watermark)
    }

    fn state_rows(&self) -> Option<u64> {
        self.running.state_rows()
    }

    fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        // it is the running version whose state is migrated when the trial ends
        self.running.sweeping()
    }

    fn replace(&mut self, slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.running.replace(slot, replacement)
    }

    fn take_apart(&mut self) -> Option<Apart> {
        let running = std::mem::replace(&mut self.running, Box::new(begin::Gone));
        Some(Apart { running, canary: None })
    }
}

/// Each version has its key groups, and the output of both goes on.
struct Canary {
    running: Box<dyn Operator>,
    candidate: Box<dyn Operator>,
    /// The running version once more, for the candidate's keys, where the candidate keeps other state: it sees what the candidate
    /// sees, and nothing it puts out leaves the task. A row that it cannot take fails the task where `on_error` says so, also one
    /// that the candidate has taken: without it there would be no way back.
    behind: Option<Box<dyn Operator>>,
    /// the candidate could not go on: all rows are the running version's again
    is_off: bool,
    /// rows of a key may change the version: there is no state
    is_stateless: bool,
    goes_on: [bool; 2],
    share: Share,
    /// the candidate's components by slot, for dead rows
    versions: SlotVersions,
    figures: SharedFigures,
}

impl Canary {
    /// Lets the version behind the candidate do `what`, to its end. Nobody sees what it puts out.
    fn behind(
        &mut self,
        what: impl FnOnce(&mut dyn Operator, &mut Output) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let Some(behind) = &mut self.behind else { return Ok(()) };
        what(behind.as_mut(), &mut Output::default())?;
        while behind.go_on(&mut Output::default())? {}
        Ok(())
    }

    /// Lets the candidate do `what`; its dead rows are marked as its own.
    fn candidate(
        &mut self,
        rows: usize,
        out: &mut Output,
        what: impl FnOnce(&mut dyn Operator, &mut Output) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let dead = out.dead.len();
        let mut side = Side::default();
        let result = timed(&mut side, rows, out, |out| what(self.candidate.as_mut(), out));
        if out.dead.len() > dead {
            out.dead_by.push((dead..out.dead.len(), Arc::clone(&self.versions)));
        }
        note(&self.figures, |figures| {
            figures.candidate.add(&side);
            if let Err(error) = &result {
                figures.failed = Some(error.to_string());
            }
        });
        result
    }

    fn running(&mut self, input: usize, batch: Batch, is_control: bool, out: &mut Output) -> Result<(), OperatorError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut side = Side::default();
        let result = timed(&mut side, batch.rows(), out, |out| self.running.on_input(input, batch, out));
        if !is_control {
            side.cost = Cost::default();
        }
        note(&self.figures, |figures| figures.running.add(&side));
        result
    }

    /// Rows of the candidate. Without state its failure undoes what it did, and the running version does it instead.
    fn tried(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        if batch.is_empty() {
            return Ok(());
        }
        let before = Mark::of(out);
        let result = self.candidate(batch.rows(), out, |operator, out| operator.on_input(input, batch.clone(), out));
        if !self.is_stateless || result.is_ok() {
            result?;
            return self.behind(|operator, out| operator.on_input(input, batch, out));
        }
        out.batches.truncate(before.batches);
        out.sides.truncate(before.sides);
        out.dead.truncate(before.dead);
        out.dead_by.retain(|(rows, _)| rows.end <= before.dead);
        (out.skipped_rows, out.late_rows) = (before.skipped, before.late);
        self.is_off = true;
        self.running(input, batch, false, out)
    }
}

impl Operator for Canary {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(0, batch, out)
    }

    fn on_input(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        if self.is_off {
            return self.running(input, batch, false, out);
        }
        let parts = self.share.split(input, &batch)?;
        self.running(input, parts.rest, false, out)?;
        self.running(input, parts.control, true, out)?;
        self.tried(input, parts.candidate, out)
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.goes_on = [true; 2];
        let before = Mark::of(out);
        self.running.on_watermark(watermark, out)?;
        note(&self.figures, |figures| before.account(out, &mut figures.running));
        self.candidate(0, out, |operator, out| operator.on_watermark(watermark, out))?;
        self.behind(|operator, out| operator.on_watermark(watermark, out))
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        if self.goes_on[0] {
            let before = Mark::of(out);
            self.goes_on[0] = self.running.go_on(out)?;
            note(&self.figures, |figures| before.account(out, &mut figures.running));
            if self.goes_on[0] {
                return Ok(true);
            }
        }
        if self.goes_on[1] {
            let mut more = false;
            self.candidate(0, out, |operator, out| {
                more = operator.go_on(out)?;
                Ok(())
            })?;
            self.goes_on[1] = more;
        }
        Ok(self.goes_on[1])
    }

    fn next_processing_time(&self) -> Option<i64> {
        let behind = self.behind.as_deref().and_then(Operator::next_processing_time);
        earlier(self.running.as_ref(), Some(self.candidate.as_ref())).into_iter().chain(behind).min()
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        self.goes_on = [true; 2];
        let before = Mark::of(out);
        clock_to(self.running.as_mut(), now_ms, out)?;
        note(&self.figures, |figures| before.account(out, &mut figures.running));
        self.candidate(0, out, |operator, out| clock_to(operator, now_ms, out))?;
        self.behind(|operator, out| clock_to(operator, now_ms, out))
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        let of_candidate = self.behind.as_mut().unwrap_or(&mut self.candidate).snapshot()?;
        Ok(union(self.running.snapshot()?, of_candidate))
    }

    fn snapshot_apart(&mut self) -> Result<(Snapshot, Option<Snapshot>), OperatorError> {
        match self.behind {
            Some(_) => Ok((self.running.snapshot()?, Some(self.candidate.snapshot()?))),
            None => Ok((self.snapshot()?, None)),
        }
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        let (running, candidate) = self.share.divide(state)?;
        self.running.restore(&running, watermark)?;
        if self.behind.is_some() {
            return Err(begin::no_restore());
        }
        self.candidate.restore(&candidate, watermark)
    }

    fn state_rows(&self) -> Option<u64> {
        // what a promotion migrates
        self.running.state_rows()
    }

    fn replace(&mut self, slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.running.replace(slot, replacement)
    }

    fn take_apart(&mut self) -> Option<Apart> {
        let running = std::mem::replace(&mut self.running, Box::new(begin::Gone));
        let candidate = std::mem::replace(&mut self.candidate, Box::new(begin::Gone));
        Some(Apart { running, canary: Some(self.behind.take().unwrap_or(candidate)) })
    }
}

/// The running version alone, timed: before a swap on the account of the running version, behind it on the candidate's.
struct Watched {
    operator: Box<dyn Operator>,
    is_swapped: bool,
    figures: SharedFigures,
}

impl Watched {
    fn watched(
        &mut self,
        rows: usize,
        out: &mut Output,
        what: impl FnOnce(&mut dyn Operator, &mut Output) -> Result<(), OperatorError>,
    ) -> Result<(), OperatorError> {
        let mut side = Side::default();
        let result = timed(&mut side, rows, out, |out| what(self.operator.as_mut(), out));
        note(&self.figures, |figures| {
            let of = if self.is_swapped { &mut figures.candidate } else { &mut figures.running };
            of.add(&side);
        });
        result
    }
}

impl Operator for Watched {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.on_input(0, batch, out)
    }

    fn on_input(&mut self, input: usize, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        self.watched(batch.rows(), out, |operator, out| operator.on_input(input, batch, out))
    }

    fn on_watermark(&mut self, watermark: Watermark, out: &mut Output) -> Result<(), OperatorError> {
        self.watched(0, out, |operator, out| operator.on_watermark(watermark, out))
    }

    fn go_on(&mut self, out: &mut Output) -> Result<bool, OperatorError> {
        let mut more = false;
        self.watched(0, out, |operator, out| {
            more = operator.go_on(out)?;
            Ok(())
        })?;
        Ok(more)
    }

    fn next_processing_time(&self) -> Option<i64> {
        self.operator.next_processing_time()
    }

    fn on_processing_time(&mut self, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
        self.watched(0, out, |operator, out| operator.on_processing_time(now_ms, out))
    }

    fn snapshot(&mut self) -> Result<Snapshot, OperatorError> {
        self.operator.snapshot()
    }

    fn restore(&mut self, state: &Snapshot, watermark: Watermark) -> Result<(), OperatorError> {
        self.operator.restore(state, watermark)
    }

    fn state_rows(&self) -> Option<u64> {
        self.operator.state_rows()
    }

    fn sweeping(&mut self) -> Option<Sweeping<'_>> {
        self.operator.sweeping()
    }

    fn adopt(&mut self, slot: usize, replacement: Replacement, made: MadeColumns) -> Result<Left, OperatorError> {
        self.is_swapped = true;
        self.operator.adopt(slot, replacement, made)
    }

    fn replace(&mut self, slot: usize, replacement: Replacement) -> Result<(), OperatorError> {
        self.is_swapped = true;
        self.operator.replace(slot, replacement)
    }

    fn take_apart(&mut self) -> Option<Apart> {
        let running = std::mem::replace(&mut self.operator, Box::new(begin::Gone));
        Some(Apart { running, canary: None })
    }
}

fn earlier(running: &dyn Operator, candidate: Option<&dyn Operator>) -> Option<i64> {
    let candidate = candidate.and_then(Operator::next_processing_time);
    running.next_processing_time().into_iter().chain(candidate).min()
}

/// The clock, for one that waits for it.
fn clock_to(operator: &mut dyn Operator, now_ms: i64, out: &mut Output) -> Result<(), OperatorError> {
    match operator.next_processing_time() {
        Some(time_ms) if time_ms <= now_ms => operator.on_processing_time(now_ms, out),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
