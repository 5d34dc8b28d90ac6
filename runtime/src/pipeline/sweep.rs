//! State migrated ahead of the cut: between two elements a task hands over a piece of what its operator keeps, and a thread
//! makes it into that of the new version meanwhile.
//!
//! ```text
//!   task    ── rows ──┬─ rows ──┬─ rows ────┬─ … ──┬─ rows ─ barrier: what is left is migrated here ─▶ ballot
//!                     │ piece   │ piece     │      │ what has changed in the last 5 ms
//!   thread  ─ asks ───┴▶ migrate ┴▶ migrate ─┴▶ … ─┴▶ migrate
//! ```
//!
//! The thread asks for the next piece when it is done with the one before, so a slow guest holds up nobody. Once all that there
//! is has been handed over it asks every 5 ms for what has changed, until the barrier is there, however long that takes.
//! The operator is untouched until the ballot has been decided: where one key does not migrate, in whatever piece,
//! there is nothing to be undone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crate::checkpoint::fail_point;
use crate::limits::{SWEEP_PAUSE, SWEEP_ROWS};
use crate::operator::{Kept, Left, Made, MadeColumns, Migration, Operator, Piece};

/// An idle task looks so often whether a piece is wanted.
pub(super) const SWEEP_TICK: Duration = Duration::from_millis(1);

/// The thread looks so often whether it is still needed.
const LOOK: Duration = Duration::from_millis(100);

/// State of one step in one task on its way to another version.
#[derive(Debug)]
pub struct Sweep {
    kept: Vec<Kept>,
    /// the thread waits for a piece
    wants: AtomicBool,
    over: AtomicBool,
    progress: Mutex<SweepProgress>,
    /// held while a piece is migrated
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Debug)]
struct Work {
    made: Made,
    waiting: Option<Piece>,
    /// all has been migrated, and the task may take it over at any moment
    is_ready: bool,
    /// of the version before
    left: Vec<Left>,
}

/// How far a [`Sweep`] is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepProgress {
    /// every row of state has been migrated at least once
    pub has_seen_all: bool,
    /// when a piece was last taken in nothing was left
    pub caught_up: bool,
    /// the task has ended, or never began with it
    pub is_gone: bool,
    /// why it cannot be done
    pub failed: Option<String>,
    /// pieces migrated ahead
    pub rounds: u64,
    /// rows of state in them, each as often as it was
    pub rows_ahead: u64,
    /// rows of state migrated while the task stood still
    pub rows_at_cut: u64,
}

impl SweepProgress {
    /// A piece of so many rows has been migrated, with which all has been seen, or not; or it has `failed`.
    fn piece(&mut self, rows: usize, has_seen_all: bool, failed: Option<String>) {
        self.has_seen_all |= has_seen_all;
        // what is full may not have been all
        self.caught_up = has_seen_all && rows < SWEEP_ROWS;
        self.failed = self.failed.take().or(failed);
    }

    /// How long to wait for more to change before the next piece; not at all where more is waiting.
    fn pause(&self) -> Option<Duration> {
        self.caught_up.then_some(SWEEP_PAUSE)
    }
}

impl Sweep {
    /// Nothing is done before a task has it. An error is one of a component that fails to make an empty accumulator.
    pub fn new(migrations: Vec<Migration>) -> Result<Self, String> {
        let made = Made::new(migrations)?;
        let kept = made.kept();
        let progress = SweepProgress { is_gone: true, ..SweepProgress::default() };
        let work = Mutex::new(Work { made, waiting: None, is_ready: false, left: Vec::new() });
        let (wants, over) = (AtomicBool::new(true), AtomicBool::new(false));
        Ok(Self { kept, wants, over, progress: Mutex::new(progress), work, changed: Condvar::new() })
    }

    /// How far it is.
    pub fn progress(&self) -> SweepProgress {
        self.noted().clone()
    }

    /// Migrates what the task hands over, in a thread that ends with [`Sweep::end`].
    pub fn spawn(self: &Arc<Self>) -> io::Result<()> {
        let sweep = Arc::clone(self);
        thread::Builder::new().name("migration".to_owned()).spawn(move || sweep.work()).map(drop)
    }

    /// Nothing more is to be done.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    fn work(&self) {
        let _broken = Broken(self);
        let mut work = self.lock();
        while !self.is_over() {
            if work.waiting.is_none() {
                work = self.wait(work, LOOK);
                continue;
            }
            let rows = self.take_in(&mut work);
            let pause = {
                let mut noted = self.noted();
                noted.rounds += 1;
                noted.rows_ahead += rows;
                noted.pause()
            };
            fail_point("migration-piece");
            if let Some(pause) = pause {
                work = self.wait(work, pause);
            }
            self.wants.store(true, Ordering::Release);
        }
        // what is not needed is large: it is not given back in the task
        let (waiting, left) = (work.waiting.take(), std::mem::take(&mut work.left));
        let made = (!work.is_ready).then(|| work.made.clear());
        drop(work);
        drop((waiting, left, made));
    }

    /// Migrates the piece that waits; how many rows.
    fn take_in(&self, work: &mut Work) -> u64 {
        let Some(piece) = work.waiting.take() else { return 0 };
        let (rows, has_seen_all) = (piece.rows(), piece.has_seen_all());
        let taken = if self.noted().failed.is_none() { work.made.take_in(piece) } else { Ok(0) };
        let stored = taken.as_ref().map_or(0, |rows| *rows);
        // rows of the store take long: what has changed meanwhile is for the next piece, and not for the cut
        let has_seen_all = has_seen_all && stored == 0 && work.made.has_seen_all();
        self.noted().piece(rows, has_seen_all, taken.err());
        (rows + stored) as u64
    }

    fn wait<'a>(&self, work: MutexGuard<'a, Work>, at_most: Duration) -> MutexGuard<'a, Work> {
        self.changed.wait_timeout(work, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        // a piece that was half taken in has failed, and is never taken over
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never held for long.
    fn noted(&self) -> MutexGuard<'_, SweepProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says so where the thread that migrates ends by a panic: nobody would ask for the next piece.
struct Broken<'a>(&'a Sweep);

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.noted().failed = Some("the thread that migrates has panicked; please report it".to_owned());
        }
    }
}

/// A task's hold on a [`Sweep`].
#[derive(Debug)]
pub struct SweepTask(Arc<Sweep>);

impl SweepTask {
    /// The task begins to hand over.
    pub fn begin(sweep: Arc<Sweep>) -> Self {
        sweep.noted().is_gone = false;
        Self(sweep)
    }

    /// Hands over a piece if one is wanted; false: the sweep is over.
    pub fn go_on(&self, operator: &mut dyn Operator) -> bool {
        let sweep = &self.0;
        if sweep.is_over() {
            self.stop(operator);
            return false;
        }
        if !sweep.wants.swap(false, Ordering::AcqRel) {
            return true;
        }
        match self.piece(operator) {
            Ok(piece) => sweep.lock().waiting = Some(piece),
            Err(reason) => sweep.noted().failed = Some(reason),
        }
        sweep.changed.notify_all();
        true
    }

    /// Migrates what is left, at the cut. The error is for people; `operator` goes on as it was, and [`SweepTask::stop`]
    /// is to be called.
    pub fn finish(&self, operator: &mut dyn Operator) -> Result<(), String> {
        // no longer than the thread takes for the piece that it has
        let (sweep, mut work) = (&self.0, self.0.lock());
        loop {
            let rows = sweep.take_in(&mut work);
            sweep.noted().rows_at_cut += rows;
            if let Some(reason) = sweep.noted().failed.clone() {
                return Err(reason);
            }
            let piece = self.piece(operator)?;
            if !work.made.needs(&piece) {
                work.is_ready = !sweep.is_over();
                return if work.is_ready { Ok(()) } else { Err("the migration has been given up".to_owned()) };
            }
            work.waiting = Some(piece);
        }
    }

    /// What has been made for component `slot`; none where it keeps the same state.
    pub fn made(&self, slot: usize) -> Option<MadeColumns> {
        self.0.lock().made.take(slot)
    }

    /// Takes what has become useless.
    pub fn leave(&self, left: Left) {
        self.0.lock().left.push(left);
    }

    /// The operator goes on as it was.
    pub fn stop(&self, operator: &mut dyn Operator) {
        operator.sweeping().into_iter().for_each(crate::operator::Sweeping::end);
    }

    fn piece(&self, operator: &mut dyn Operator) -> Result<Piece, String> {
        let mut sweeping = operator.sweeping().ok_or("what runs keeps its state elsewhere now")?;
        sweeping.caught_up(self.0.noted().caught_up);
        sweeping.piece(&self.0.kept, SWEEP_ROWS).map_err(|error| error.to_string())
    }
}

impl Drop for SweepTask {
    fn drop(&mut self) {
        self.0.noted().is_gone = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, whether all has been seen with them, why it failed, how long to wait for the next, and why.
    type Case = (usize, bool, Option<&'static str>, Option<Duration>, &'static str);

    #[test]
    fn pieces_follow_at_once_until_one_that_is_not_full_has_seen_all() {
        const PAUSE: Option<Duration> = Some(SWEEP_PAUSE);
        let table: [Case; 8] = [
            (SWEEP_ROWS, false, None, None, "full, and more to see"),
            (10, false, None, None, "not full, but rows of the store are left"),
            (SWEEP_ROWS, true, None, None, "the last that is new, with more that has changed"),
            (SWEEP_ROWS - 1, true, None, PAUSE, "nothing is left"),
            (0, true, None, PAUSE, "nothing has changed"),
            (SWEEP_ROWS, true, None, None, "more has changed than a piece has room for"),
            (1, true, Some("a trap"), PAUSE, "it fails"),
            (1, true, Some("another"), PAUSE, "and goes on as one that has failed"),
        ];
        let mut progress = SweepProgress::default();
        for (rows, has_seen_all, failed, pause, case) in table {
            progress.piece(rows, has_seen_all, failed.map(str::to_owned));
            assert_eq!(progress.pause(), pause, "{case}");
        }
        assert_eq!((progress.has_seen_all, progress.failed.as_deref()), (true, Some("a trap")));
        assert_eq!(SWEEP_PAUSE, Duration::from_millis(5));
    }
}
