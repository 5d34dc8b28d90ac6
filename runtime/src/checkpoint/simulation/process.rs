//! One process: it does what `control/checkpoints.rs` does, an effect at a time.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Counts, KEYS, Manifest, Part, ROWS, Random, Row, SINKS, World};
use crate::checkpoint::epoch::{Action, is_overtaken};
use crate::checkpoint::protocol::{Choice, choose};

/// Why a process has come to its end by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// all input is shown
    Finished,
    /// another one has the store
    InUse,
    /// another one has written its epoch
    Fenced,
    /// going on would lose rows or show them twice
    Refused(String),
}

/// What it does next.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Lock,
    Choose,
    /// an epoch of an earlier process is being finished
    Finish(u64, Action),
    OpenSinks,
    Read,
    /// state files: this one, torn or whole
    WriteState(usize, bool),
    /// the manifest is there: is it the newest?
    LookAgain,
    /// the epoch is being made
    Make(Action),
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) attempt: u64,
    pub(super) paused: bool,
    pub(super) phase: Phase,
    tasks: usize,
    /// rows between two barriers
    interval: usize,
    epoch: u64,
    position: usize,
    counts: Counts,
    /// rows of this epoch that have gone to sinks
    written: usize,
    /// files of this epoch
    open: BTreeSet<Part>,
    prepared: Vec<Part>,
}

impl Process {
    pub(super) fn new(attempt: u64, tasks: usize, random: &mut Random) -> Self {
        Self {
            attempt,
            paused: false,
            phase: Phase::Lock,
            tasks,
            interval: 1 + random.below(9),
            epoch: 0,
            position: 0,
            counts: Counts::new(),
            written: 0,
            open: BTreeSet::new(),
            prepared: Vec::new(),
        }
    }

    /// One effect.
    pub(super) fn step(&mut self, world: &mut World, random: &mut Random) -> Option<Stopped> {
        match self.phase.clone() {
            Phase::Lock => {
                if !world.lock(self.attempt) {
                    return Some(Stopped::InUse);
                }
                self.phase = Phase::Choose;
            }
            Phase::Choose => return self.choose(world),
            Phase::Finish(epoch, action) => return self.finish(world, epoch, action),
            Phase::OpenSinks => {
                // what belongs to no checkpoint, of processes that are gone
                let own = self.attempt;
                world.pending.retain(|(_, attempt), _| *attempt == own);
                self.phase = Phase::Read;
            }
            Phase::Read => self.read(world),
            Phase::WriteState(task, torn) => self.write_state(world, task, torn),
            Phase::LookAgain if is_overtaken(self.epoch, world.manifests.keys().next_back().copied()) => {
                return Some(Stopped::Fenced);
            }
            Phase::LookAgain => return self.after(world, random, Action::Write),
            Phase::Make(action) => return self.make(world, random, action),
        }
        None
    }

    fn choose(&mut self, world: &World) -> Option<Stopped> {
        self.epoch = world.next_epoch();
        self.phase = Phase::OpenSinks;
        match choose(&world.candidates(), world.shown().map(|epoch| (epoch, "out"))) {
            Choice::Begin => {}
            Choice::Refuse { reason } => return Some(Stopped::Refused(reason)),
            Choice::GoOn { epoch, .. } => {
                // another process may have cleared it away since, where locks do not work
                let manifest = world.manifests.get(&epoch)?;
                (self.position, self.counts) = (manifest.position, world.counts(manifest));
                if !world.noted.contains(&epoch) {
                    self.phase = Phase::Finish(epoch, Action::to_finish(manifest.prepared.len()));
                }
            }
        }
        None
    }

    fn finish(&mut self, world: &mut World, epoch: u64, action: Action) -> Option<Stopped> {
        let Some(manifest) = world.manifests.get(&epoch).cloned() else {
            return Some(Stopped::Refused("its checkpoint is gone".into()));
        };
        match action {
            Action::Show(part) if !world.show(manifest.prepared[part], manifest.attempt) => {
                return Some(Stopped::Refused("a part is gone".into()));
            }
            Action::Show(_) => {}
            Action::Note => {
                world.noted.insert(epoch);
                self.phase = Phase::OpenSinks;
                return None;
            }
            Action::Write | Action::Tidy => unreachable!(),
        }
        self.phase = match action.next(manifest.prepared.len()) {
            Some(action) => Phase::Finish(epoch, action),
            None => Phase::OpenSinks,
        };
        None
    }

    /// One row, or a barrier.
    fn read(&mut self, world: &mut World) {
        let ended = self.position == ROWS;
        if self.written == self.interval || ended {
            self.prepared = std::mem::take(&mut self.open).into_iter().collect();
            self.phase = Phase::WriteState(0, true);
            return;
        }
        let key = self.position % KEYS;
        let count = self.counts.entry(key).or_default();
        *count += 1;
        let row: Row = (self.position, *count);
        for sink in 0..SINKS {
            let part = Part { epoch: self.epoch, sink, task: key % self.tasks };
            if self.open.insert(part) {
                world.pending.insert((part, self.attempt), vec![row]);
            } else if let Some(rows) = world.pending.get_mut(&(part, self.attempt)) {
                // a file that another process has removed takes rows as if it were there
                rows.push(row);
            }
        }
        self.position += 1;
        self.written += 1;
    }

    fn write_state(&mut self, world: &mut World, task: usize, torn: bool) {
        let mine = |(key, _): &(&usize, &usize)| **key % self.tasks == task;
        let state: BTreeMap<_, _> = self.counts.iter().filter(mine).map(|(key, count)| (*key, *count)).collect();
        let file = (self.epoch, self.attempt, task);
        if torn {
            // one that is there is replaced when the new one is whole: its manifest may have been written before
            world.states.entry(file).or_insert(None);
        } else {
            world.states.insert(file, Some(state));
        }
        self.phase = match torn {
            true => Phase::WriteState(task, false),
            false if task + 1 < self.tasks => Phase::WriteState(task + 1, true),
            false => Phase::Make(Action::Write),
        };
    }

    fn make(&mut self, world: &mut World, random: &mut Random, action: Action) -> Option<Stopped> {
        match action {
            Action::Write => {
                let states = (0..self.tasks).map(|task| (self.epoch, self.attempt, task)).collect();
                let (attempt, position, prepared) = (self.attempt, self.position, self.prepared.clone());
                let manifest = Manifest { attempt, position, states, prepared };
                if *world.manifests.entry(self.epoch).or_insert_with(|| manifest.clone()) != manifest {
                    return Some(Stopped::Fenced);
                }
                self.phase = Phase::LookAgain;
                return None;
            }
            Action::Show(part) => {
                if !world.show(self.prepared[part], self.attempt) {
                    return Some(Stopped::Refused("a part is gone".into()));
                }
            }
            Action::Note => drop(world.noted.insert(self.epoch)),
            Action::Tidy => world.retain(),
        }
        self.after(world, random, action)
    }

    fn after(&mut self, world: &World, random: &mut Random, action: Action) -> Option<Stopped> {
        if world.loses_an_answer(random) {
            // tried again; state files are written anew as well
            self.phase = if action == Action::Write { Phase::WriteState(0, true) } else { Phase::Make(action) };
            return None;
        }
        match action.next(self.prepared.len()) {
            Some(next) => self.phase = Phase::Make(next),
            None if self.position == ROWS => return Some(Stopped::Finished),
            None => {
                self.epoch += 1;
                self.written = 0;
                self.phase = Phase::Read;
            }
        }
        None
    }
}
