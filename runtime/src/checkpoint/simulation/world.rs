//! The store and the outputs that outlive processes.

use std::collections::{BTreeMap, BTreeSet};

use crate::checkpoint::epoch::next_epoch;
use crate::checkpoint::protocol::{Candidate, Health};

/// Rows of the input.
pub(super) const ROWS: usize = 60;
pub(super) const KEYS: usize = 5;
/// Outputs, each of which gets all rows.
pub(super) const SINKS: usize = 2;
/// Checkpoints that are kept.
pub(super) const RETAIN: usize = 2;

/// A row of an output: which row of the input, and how many there have been of its key.
pub(super) type Row = (usize, usize);

/// How many rows of each key there have been.
pub(super) type Counts = BTreeMap<usize, usize>;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    pub(super) fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }
}

/// A file of one attempt of an epoch, by its number.
pub(super) type FileName = (u64, u64, usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) attempt: u64,
    pub(super) position: usize,
    pub(super) states: Vec<FileName>,
    pub(super) prepared: Vec<Part>,
}

/// What one task of a sink has written of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub(super) epoch: u64,
    pub(super) sink: usize,
    pub(super) task: usize,
}

#[derive(Debug, Default)]
pub(super) struct World {
    /// a network file system may have none
    pub(super) locks_work: bool,
    owner: Option<u64>,
    attempts: u64,
    /// state files; none where it is torn
    pub(super) states: BTreeMap<FileName, Option<Counts>>,
    pub(super) manifests: BTreeMap<u64, Manifest>,
    pub(super) noted: BTreeSet<u64>,
    pub(super) pending: BTreeMap<(Part, u64), Vec<Row>>,
    pub(super) visible: BTreeMap<Part, Vec<Row>>,
    /// answers get lost and files are damaged
    peaceful: bool,
    pub(super) damaged: bool,
}

impl World {
    pub(super) fn new(random: &mut Random) -> Self {
        Self { locks_work: !random.one_in(2), ..Self::default() }
    }

    pub(super) fn attempt(&mut self) -> u64 {
        self.attempts += 1;
        self.attempts
    }

    /// Whether `attempt` may write.
    pub(super) fn lock(&mut self, attempt: u64) -> bool {
        if self.locks_work && self.owner.is_some() {
            return false;
        }
        self.owner = Some(attempt);
        true
    }

    pub(super) fn unlock(&mut self, attempt: u64) {
        self.owner = self.owner.filter(|owner| *owner != attempt);
    }

    pub(super) fn peace(&mut self) {
        self.owner = None;
        self.peaceful = true;
    }

    /// Whether the answer to an effect that took place is lost.
    pub(super) fn loses_an_answer(&self, random: &mut Random) -> bool {
        !self.peaceful && random.one_in(20)
    }

    /// A state file rots, now and then. Not also where locks do not work: a process that passes over a checkpoint whose
    /// maker is still alive shows its rows twice.
    pub(super) fn damage(&mut self, random: &mut Random) {
        if !self.locks_work {
            return;
        }
        let newest = self.manifests.values().next_back().and_then(|manifest| manifest.states.first().copied());
        if let Some(state) = newest.filter(|_| random.one_in(4)) {
            self.states.insert(state, None);
            self.damaged = true;
        }
    }

    /// As the store lists them: newest first, up to the first that is whole.
    pub(super) fn candidates(&self) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (epoch, manifest) in self.manifests.iter().rev() {
            let whole = manifest.states.iter().all(|state| matches!(self.states.get(state), Some(Some(_))));
            let health = if whole { Health::Whole } else { Health::Damaged("torn".into()) };
            candidates.push(Candidate { epoch: *epoch, health });
            if whole {
                break;
            }
        }
        candidates
    }

    /// The newest epoch that an output shows.
    pub(super) fn shown(&self) -> Option<u64> {
        self.visible.keys().map(|part| part.epoch).max()
    }

    pub(super) fn next_epoch(&self) -> u64 {
        next_epoch(self.manifests.keys().next_back().copied(), self.shown())
    }

    pub(super) fn counts(&self, manifest: &Manifest) -> Counts {
        let states = manifest.states.iter().filter_map(|state| self.states.get(state)?.as_ref());
        states.flatten().map(|(key, count)| (*key, *count)).collect()
    }

    pub(super) fn retain(&mut self) {
        let kept = self.manifests.keys().rev().take(RETAIN).copied();
        let Some(oldest) = kept.min() else { return };
        self.manifests.retain(|epoch, _| *epoch >= oldest);
        self.states.retain(|(epoch, ..), _| *epoch >= oldest);
        self.noted.retain(|epoch| *epoch >= oldest);
    }

    /// The rename of a part; false where neither file is there.
    pub(super) fn show(&mut self, part: Part, attempt: u64) -> bool {
        match self.pending.remove(&(part, attempt)) {
            Some(rows) => {
                let before = self.visible.insert(part, rows);
                assert_eq!(before, None, "{part:?} takes the place of another");
                true
            }
            None => self.visible.contains_key(&part),
        }
    }

    /// Every output shows the first rows of the input, each once, those of an epoch after those of the epochs before; the
    /// newest epoch may be there in part.
    pub(super) fn check(&self) {
        for sink in 0..SINKS {
            let mut seen = BTreeMap::new();
            let mut end = 0;
            let parts: Vec<_> = self.visible.iter().filter(|(part, _)| part.sink == sink).collect();
            for (part, rows) in &parts {
                for (index, count) in rows.iter() {
                    assert_eq!(*count, index / KEYS + 1, "row {index} of sink {sink} knows another past");
                    let before = seen.insert(*index, part.epoch);
                    assert_eq!(before, None, "row {index} of sink {sink} came again in {part:?}");
                    end = end.max(index + 1);
                }
            }
            let newest = parts.last().map_or(0, |(part, _)| part.epoch);
            let mut epochs = seen.values().copied();
            let mut last = 0;
            assert!(epochs.all(|epoch| std::mem::replace(&mut last, epoch) <= epoch), "epochs are not in order");
            let older = seen.iter().filter(|(_, epoch)| **epoch < newest).map(|(index, _)| index + 1).max();
            let complete = seen.keys().take_while(|index| Some(**index) < older).count();
            assert_eq!(complete, older.unwrap_or(0), "rows before epoch {newest} are missing in sink {sink}");
        }
    }

    pub(super) fn check_complete(&self) {
        for sink in 0..SINKS {
            let rows = self.visible.iter().filter(|(part, _)| part.sink == sink).map(|(_, rows)| rows.len());
            assert_eq!(rows.sum::<usize>(), ROWS, "rows of sink {sink}");
        }
    }
}
