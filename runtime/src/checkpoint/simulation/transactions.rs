//! The same for epochs that a broker decides: processes that die, stop and wake up, a broker that fences, times out, loses
//! answers and forgets to tell partitions how a transaction ended, and a store, all of them models, against the real
//! decisions of `protocol/decided.rs`.

use std::collections::BTreeMap;

use super::world::Random;
use super::{PEACEFUL_STEPS, SEEDS, STEPS, option};
use crate::checkpoint::epoch::{is_overtaken, next_epoch};
use crate::checkpoint::protocol::{Cure, Decision, Facts, Held, HeldBack, Marker, Named, Stored, choose_decided, cure};

const ROWS: usize = 40;
const RETAIN: usize = 2;
const ID: &str = "orders";

/// The partitions: rows, markers.
const MARKERS: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// of a transaction that is open, or whose end the partition has not heard of
    Pending,
    Committed,
    Aborted,
}

#[derive(Clone, Debug)]
struct Record {
    epoch: u64,
    /// a row's number, a marker's attempt
    what: usize,
    fate: Fate,
}

#[derive(Debug, Default)]
struct Broker {
    /// the producer that is not shut out
    producer: usize,
    /// partitions of its open transaction
    open: Option<Vec<usize>>,
    partitions: [Vec<Record>; 2],
}

#[derive(Clone, Debug)]
struct Manifest {
    attempt: usize,
    position: usize,
    in_transaction: bool,
    damaged: bool,
    committed: bool,
}

#[derive(Debug, Default)]
struct World {
    broker: Broker,
    store: BTreeMap<u64, Manifest>,
    attempts: usize,
    /// something has happened that a start may answer by a refusal
    excused: bool,
    peaceful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    ShutOut,
    Overtaken,
    Unanswered,
    Refused,
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Init,
    Look,
    Choose(Option<(u64, usize)>),
    Begin,
    Rows,
    /// the marker and the manifest, in any order
    Seal {
        marked: bool,
        written: bool,
    },
    Commit,
    Note,
    Tidy,
}

#[derive(Debug)]
struct Process {
    attempt: usize,
    producer: usize,
    phase: Phase,
    /// a checkpoint without a transaction, which the first marker names
    base: bool,
    epoch: u64,
    position: usize,
    paused: bool,
}

impl World {
    /// Whether all partitions have heard of it.
    fn end(&mut self, fate: Fate, random: &mut Random) -> bool {
        let mut all = true;
        for partition in self.broker.open.take().unwrap_or_default() {
            // a broker that restarts meanwhile
            if !self.peaceful && random.one_in(40) {
                (self.excused, all) = (true, false);
                continue;
            }
            let pending = self.broker.partitions[partition].iter_mut().filter(|record| record.fate == Fate::Pending);
            pending.for_each(|record| record.fate = fate);
        }
        all
    }

    fn shut_out(&mut self, random: &mut Random) {
        self.broker.producer += 1;
        self.end(Fate::Aborted, random);
    }

    fn append(&mut self, partition: usize, epoch: u64, what: usize) {
        let Some(open) = &mut self.broker.open else { panic!("a record outside of a transaction") };
        if !open.contains(&partition) {
            open.push(partition);
        }
        self.broker.partitions[partition].push(Record { epoch, what, fate: Fate::Pending });
    }

    /// Readers of committed records see what is before the first that is pending.
    fn marker(&self) -> Option<(u64, usize)> {
        let seen = self.broker.partitions[MARKERS].iter().take_while(|record| record.fate != Fate::Pending);
        seen.filter(|record| record.fate == Fate::Committed).last().map(|record| (record.epoch, record.what))
    }

    fn held(&self) -> Vec<Held> {
        let first = |partition: usize| {
            let pending = self.broker.partitions[partition].iter().find(|record| record.fate == Fate::Pending)?;
            let first = HeldBack::Ours { epoch: pending.epoch };
            Some(Held { partition: partition.to_string(), of_markers: partition == MARKERS, first })
        };
        (0..2).filter_map(first).collect()
    }

    fn check(&self) {
        let committed = self.broker.partitions[0].iter().filter(|record| record.fate == Fate::Committed);
        let rows: Vec<usize> = committed.map(|record| record.what).collect();
        // what a broker has forgotten to commit is missing for a while: rows are never doubled and never out of order
        assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "rows come twice: {rows:?}");
        assert!(self.excused || rows.iter().copied().eq(0..rows.len()), "rows are missing: {rows:?}");
    }
}

impl Process {
    fn new(world: &mut World) -> Self {
        world.attempts += 1;
        let attempt = world.attempts;
        Self { attempt, producer: 0, phase: Phase::Init, base: false, epoch: 0, position: 0, paused: false }
    }

    /// One effect.
    fn step(&mut self, world: &mut World, random: &mut Random) -> Option<Stopped> {
        let asks_producer =
            !matches!(self.phase, Phase::Init | Phase::Look | Phase::Choose(_) | Phase::Note | Phase::Tidy);
        let writes = matches!(self.phase, Phase::Seal { marked: true, .. });
        if asks_producer && !writes && self.producer != world.broker.producer {
            return Some(Stopped::ShutOut);
        }
        match self.phase {
            Phase::Init => {
                world.shut_out(random);
                self.producer = world.broker.producer;
                self.phase = Phase::Look;
            }
            Phase::Look => return self.look(world, random),
            Phase::Choose(marker) => return self.choose(world, marker),
            Phase::Begin => {
                world.broker.open = Some(Vec::new());
                self.phase = if self.base { Phase::Seal { marked: false, written: true } } else { Phase::Rows };
            }
            Phase::Rows if self.position == ROWS || random.one_in(4) => {
                self.phase = Phase::Seal { marked: false, written: false };
            }
            Phase::Rows => {
                world.append(0, self.epoch, self.position);
                self.position += 1;
            }
            Phase::Seal { marked: true, written: true } => self.phase = Phase::Commit,
            Phase::Seal { marked, written } => {
                if !marked && (written || random.one_in(2)) {
                    world.append(MARKERS, self.epoch, self.attempt);
                    self.phase = Phase::Seal { marked: true, written };
                } else {
                    self.phase = Phase::Seal { marked, written: true };
                    return self.write(world);
                }
            }
            Phase::Commit => {
                let heard = world.end(Fate::Committed, random);
                self.phase = Phase::Note;
                // a broker that restarts gives no answer either. (If it did, and the process went on, the next abort would
                // take the epoch with it: nothing looks while a process lives, see docs/guarantees.md.)
                return (!heard || !world.peaceful && random.one_in(15)).then_some(Stopped::Unanswered);
            }
            Phase::Note => {
                world.store.get_mut(&self.epoch).into_iter().for_each(|manifest| manifest.committed = true);
                self.phase = Phase::Tidy;
            }
            Phase::Tidy => {
                let older: Vec<u64> = world.store.range(..=self.epoch).rev().map(|(epoch, _)| *epoch).collect();
                older.iter().skip(RETAIN).for_each(|epoch| _ = world.store.remove(epoch));
                if self.position == ROWS && !self.base {
                    return Some(Stopped::Finished);
                }
                (self.base, self.epoch, self.phase) = (false, self.epoch + 1, Phase::Begin);
            }
        }
        None
    }

    fn look(&mut self, world: &mut World, random: &mut Random) -> Option<Stopped> {
        let marker = world.marker();
        let stored = |epoch: u64| match world.store.get(&epoch) {
            None => Stored::Never,
            Some(manifest) if manifest.committed => Stored::Committed,
            Some(_) => Stored::Perhaps,
        };
        match cure(&world.held(), marker.map(|(epoch, _)| epoch), stored) {
            Cure::None => self.phase = Phase::Choose(marker),
            Cure::AbortAgain(_) if self.producer != world.broker.producer => return Some(Stopped::ShutOut),
            Cure::AbortAgain(partitions) => {
                world.broker.open = Some(partitions.iter().map(|name| name.parse().unwrap()).collect());
                world.end(Fate::Aborted, random);
            }
            Cure::Refuse { .. } => return Some(Stopped::Refused),
            Cure::Wait => panic!("there are no other producers"),
        }
        None
    }

    fn choose(&mut self, world: &mut World, marker: Option<(u64, usize)>) -> Option<Stopped> {
        let named = marker.map(|(epoch, attempt)| {
            let named = match world.store.get(&epoch) {
                None => Named::Missing,
                Some(manifest) if manifest.damaged => Named::Damaged("torn".into()),
                Some(manifest) => Named::Whole { attempt: manifest.attempt.to_string() },
            };
            (Marker { epoch, attempt: attempt.to_string() }, named)
        });
        let newest_of_all = world.store.keys().next_back().copied();
        let in_transaction = world.store.iter().rev().find(|(_, manifest)| manifest.in_transaction);
        let in_transaction = in_transaction.map(|(epoch, _)| (*epoch, ID));
        let facts = Facts { transactional_id: ID, marker: named, in_transaction, shown: None };
        match choose_decided(&facts) {
            Decision::GoOn { epoch } => {
                self.position = world.store.get(&epoch).map_or(0, |manifest| manifest.position);
                self.epoch = next_epoch(newest_of_all, Some(epoch));
                self.phase = Phase::Begin;
                None
            }
            Decision::Undecided => {
                (self.base, self.position) = (true, 0);
                self.epoch = if newest_of_all.is_none() { 0 } else { next_epoch(newest_of_all, None) };
                self.phase = Phase::Begin;
                self.write(world)
            }
            Decision::Refuse { .. } => Some(Stopped::Refused),
        }
    }

    fn write(&self, world: &mut World) -> Option<Stopped> {
        let manifest = Manifest {
            given_up: Vec::new(),
            attempt: self.attempt,
            position: self.position,
            in_transaction: !self.base,
            damaged: false,
            committed: false,
        };
        let found = world.store.entry(self.epoch).or_insert(manifest);
        let overtaken =
            found.attempt != self.attempt || is_overtaken(self.epoch, world.store.keys().next_back().copied());
        overtaken.then_some(Stopped::Overtaken)
    }
}

#[derive(Debug)]
struct Run {
    world: World,
    processes: Vec<Process>,
}

impl Run {
    fn disturb(&mut self, random: &mut Random) {
        let running = self.processes.len();
        if running == 0 || running < 3 && random.one_in(25) {
            let process = Process::new(&mut self.world);
            self.processes.push(process);
            return;
        }
        let at = random.below(running);
        match random.below(150) {
            0..=4 => _ = self.processes.swap_remove(at),
            5..=8 => self.processes[at].paused ^= true,
            9..=10 => self.world.shut_out(random), // the transaction has been open for too long
            11 if random.one_in(8) => {
                let damaged = random.below(self.world.store.len().max(1));
                self.world.store.values_mut().skip(damaged).take(1).for_each(|manifest| manifest.damaged = true);
                self.world.excused = true;
            }
            _ if self.processes[at].paused => {}
            _ => {
                if self.processes[at].step(&mut self.world, random).is_some() {
                    self.processes.swap_remove(at);
                }
                self.world.check();
            }
        }
    }

    /// All die but a last one, to which nothing happens any more. Whether it came to the end of the input.
    fn end(mut self, random: &mut Random) -> bool {
        self.processes.clear();
        self.world.peaceful = true;
        let mut last = Process::new(&mut self.world);
        for _ in 0..PEACEFUL_STEPS {
            let stopped = last.step(&mut self.world, random);
            self.world.check();
            match stopped {
                None => {}
                Some(Stopped::Finished) => {
                    let rows = self.world.broker.partitions[0].iter();
                    let rows = rows.filter(|record| record.fate == Fate::Committed).map(|record| record.what);
                    assert!(rows.eq(0..ROWS), "rows are missing at the end: {:?}", self.world);
                    assert_eq!(self.world.held(), [], "something is held back for ever");
                    return true;
                }
                Some(Stopped::Refused) => {
                    assert!(self.world.excused, "refused without a reason: {:?}", self.world);
                    return false;
                }
                Some(other) => panic!("the last process stopped: {other:?}"),
            }
        }
        panic!("the last process comes to no end: {last:?}");
    }
}

fn simulate(seed: u64) -> bool {
    let mut random = Random::new(seed);
    let mut run = Run { world: World::default(), processes: Vec::new() };
    for _ in 0..STEPS {
        run.disturb(&mut random);
    }
    run.end(&mut random)
}

#[test]
fn whatever_a_broker_and_its_producers_go_through_rows_are_committed_once() {
    let seeds = option("MILLSTREAM_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let one = option("MILLSTREAM_SIMULATION_SEED");
    let mut complete = 0;
    for seed in one.map_or(0..seeds, |seed| seed..seed + 1) {
        match std::panic::catch_unwind(|| simulate(seed)) {
            Ok(finished) => complete += u64::from(finished),
            Err(_) => panic!("seed {seed} went wrong; again with MILLSTREAM_SIMULATION_SEED={seed}"),
        }
    }
    assert!(one.is_some() || complete * 2 > seeds, "only {complete} of {seeds} runs came to their end");
}
