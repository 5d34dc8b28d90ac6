//! Puts an operator through snapshot and restore at every position of a script, for tests of operators.
//!
//! ```ignore
//! use crate::restoring::{Event, Restoring};
//!
//! let make = || -> Box<dyn Operator> { Box::new(MyOperator::new(..).unwrap()) };
//! let script = [Event::rows(0, batch), Event::Watermark(9), Event::rows(1, other), Event::Clock(1_000)];
//! Restoring::new(make).keyed(&[&[0], &[2]]).check(&script);
//! ```
//!
//! `check` runs the script straight and then, for every position in it, with a restore there. It panics where
//! - a snapshot changes what the operator does next (order counts here);
//! - a snapshot does not come back from a state file as it was;
//! - a restored operator does not give the same snapshot again (unless it is [`Restoring::in_runs`]);
//! - results, side outputs, dead rows with their reasons, or the counts of late and skipped rows differ after a restore
//!   in one task, in two tasks that become three half-way to the end, in three that become four, or in four that become one.
//!   Rows are compared as a multiset: order between keys is no promise.
//!
//! `equals` holds what comes out against a model: from one task on to four, each put away and taken up again by another number
//! of tasks after each third of the script.
//!
//! `keyed` says which columns of each input are the step's key; rows go to tasks by these, as in a pipeline, and the
//! operator's tables are shared out by `Shares`. Without it the operator stays in one task. `in_any_order` takes
//! a function that makes a result comparable (letters of a text that may come in another order, say). An operator that puts
//! out more than one row a key and window is compared as well as any other: rows are compared one by one.

use std::collections::BTreeMap;

use crate::checkpoint::{decode, encode};
use crate::operator::{Operator, Output};
use crate::partition::Partitioner;
use crate::pipeline::cut::{Cut, TaskState};
use crate::pipeline::shares::Shares;
use crate::record::{Batch, Watermark};
use crate::state::Snapshot;
use crate::state::cells::{Cell, rows};

/// What happens to an operator.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// rows of one of its inputs
    Rows(usize, Batch),
    /// event time advances to this; one that is not later than the last does not reach the operator, as in a task
    Watermark(i64),
    /// the host's clock, ms
    #[allow(dead_code)]
    Clock(i64),
}

impl Event {
    /// Rows of input `input`.
    pub(crate) fn rows(input: usize, batch: Batch) -> Self {
        Self::Rows(input, batch)
    }
}

/// What an operator has put out.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    rows: Vec<String>,
    late: u64,
    skipped: u64,
}

/// What has come out, to be held against a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    /// results as `[cells] @ time`, or as `worded` has it, sorted
    pub(crate) results: Vec<String>,
    /// rows that could not be handled
    pub(crate) dead: usize,
    /// rows that were late
    pub(crate) late: u64,
}

impl Outcome {
    /// Of results in any order.
    pub(crate) fn of(mut results: Vec<String>, dead: usize, late: u64) -> Self {
        results.sort();
        Self { results, dead, late }
    }
}

impl From<Seen> for Outcome {
    fn from(seen: Seen) -> Self {
        let of = |kind: &'static str| seen.rows.iter().filter_map(move |row| row.strip_prefix(kind));
        Self::of(of("result: ").map(str::to_owned).collect(), of("dead: ").count(), seen.late)
    }
}

impl Seen {
    fn sorted(mut self) -> Self {
        self.rows.sort();
        self
    }
}

/// The verdict on one operator.
pub(crate) struct Restoring<F> {
    make: F,
    keys: Option<Vec<Vec<usize>>>,
    wording: Wording,
    in_runs: bool,
}

/// How rows become texts that can be compared.
#[derive(Clone, Copy)]
struct Wording {
    comparable: fn(&mut [Cell]),
    result: fn(&[Cell], i64) -> String,
}

/// A row with its time.
const PLAIN: fn(&[Cell], i64) -> String = |row, time| format!("{row:?} @ {time}");

/// An operator in several tasks.
struct Tasks<'a> {
    operators: Vec<Box<dyn Operator>>,
    /// by input
    keys: &'a [Vec<usize>],
    wording: Wording,
    watermark: i64,
}

impl<F: Fn() -> Box<dyn Operator>> Restoring<F> {
    /// Of the operators that `make` makes, all alike.
    pub(crate) fn new(make: F) -> Self {
        let wording = Wording { comparable: |_| {}, result: PLAIN };
        Self { make, keys: None, wording, in_runs: false }
    }

    /// The key columns of each input.
    pub(crate) fn keyed(self, keys: &[&[usize]]) -> Self {
        Self { keys: Some(keys.iter().map(|keys| keys.to_vec()).collect()), ..self }
    }

    /// What spilled is in a snapshot as the store has it, in runs: the same state may be other rows.
    pub(crate) fn in_runs(self) -> Self {
        Self { in_runs: true, ..self }
    }

    /// Changes results before they are compared.
    pub(crate) fn in_any_order(self, comparable: fn(&mut [Cell])) -> Self {
        Self { wording: Wording { comparable, ..self.wording }, ..self }
    }

    /// Says results, with their times, as a model says them.
    pub(crate) fn worded(self, result: fn(&[Cell], i64) -> String) -> Self {
        Self { wording: Wording { result, ..self.wording }, ..self }
    }

    /// Panics where a restore can be told from none.
    pub(crate) fn check(&self, script: &[Event]) {
        let mut straight = Seen::default();
        let mut tasks = self.tasks(1);
        script.iter().for_each(|event| tasks.take(event, &mut straight));
        let mut disturbed = Seen::default();
        let mut cuts = Vec::new();
        let mut tasks = self.tasks(1);
        for event in script {
            cuts.push((through_files(tasks.cut()), disturbed.clone()));
            tasks.take(event, &mut disturbed);
        }
        assert_eq!(straight, disturbed, "a snapshot changes what the operator does");
        let straight = straight.sorted();
        let spread: &[(usize, usize)] = if self.keys.is_some() { &[(1, 1), (2, 3), (3, 4), (4, 1)] } else { &[(1, 1)] };
        for (position, (cut, before)) in cuts.iter().enumerate() {
            for (first, then) in spread {
                let found = self.run_on(cut, before.clone(), script, position, (*first, *then));
                assert_eq!(
                    found.sorted(),
                    straight,
                    "restored before event {position} in {first} tasks, later in {then}"
                );
            }
        }
    }

    /// Panics where the operators put out other rows than those of `other`, in whatever order.
    pub(crate) fn same_as<G: Fn() -> Box<dyn Operator>>(&self, other: &Restoring<G>, script: &[Event]) {
        assert_eq!(self.straight(script), other.straight(script));
    }

    /// Panics where what comes out is not what `model` says, whatever number of tasks begins, from one to four.
    pub(crate) fn equals(&self, model: &Outcome, script: &[Event]) {
        let most = if self.keys.is_some() { TASKS_MAX } else { 1 };
        for tasks in 1..=most {
            let then = [tasks, tasks % most + 1, (tasks + 1) % most + 1];
            let found = Outcome::from(self.restored_by(then, script));
            assert_eq!(found, *model, "the model is on the right; one after the other {then:?} tasks are on the left");
        }
    }

    /// A third of the script by each of these numbers of tasks.
    fn restored_by(&self, numbers: [usize; 3], script: &[Event]) -> Seen {
        let (mut seen, mut tasks) = (Seen::default(), self.tasks(numbers[0]));
        for (at, event) in script.iter().enumerate() {
            for (third, number) in (1..).zip(&numbers[1..]) {
                if at == script.len() * third / 3 {
                    tasks = self.restored(&through_files(tasks.cut()), *number);
                }
            }
            tasks.take(event, &mut seen);
        }
        seen
    }

    fn straight(&self, script: &[Event]) -> Seen {
        let (mut seen, mut tasks) = (Seen::default(), self.tasks(1));
        script.iter().for_each(|event| tasks.take(event, &mut seen));
        seen.sorted()
    }

    /// Goes on from `cut` at `position` in `first` tasks, from half-way to the end on in `then`.
    fn run_on(
        &self,
        cut: &Cut,
        mut seen: Seen,
        script: &[Event],
        position: usize,
        (first, then): (usize, usize),
    ) -> Seen {
        let mut tasks = self.restored(cut, first);
        if first == 1 && !self.in_runs {
            assert_eq!(texts(&tasks.cut()), texts(cut), "the snapshot before event {position} and after a restore");
        }
        let half = position + (script.len() - position) / 2;
        for (at, event) in script.iter().enumerate().skip(position) {
            if at == half && first != then {
                tasks = self.restored(&tasks.cut(), then);
            }
            tasks.take(event, &mut seen);
        }
        seen
    }

    fn tasks(&self, tasks: usize) -> Tasks<'_> {
        Tasks {
            operators: (0..tasks).map(|_| (self.make)()).collect(),
            keys: self.keys.as_deref().unwrap_or_default(),
            wording: self.wording,
            watermark: i64::MIN,
        }
    }

    fn restored(&self, cut: &Cut, tasks: usize) -> Tasks<'_> {
        let mut restored = self.tasks(tasks);
        let shares = Shares::new(cut, |_| tasks);
        for (task, operator) in restored.operators.iter_mut().enumerate() {
            let share = shares.share(STEP, task).unwrap().unwrap();
            operator.restore(&share.state, share.watermark).unwrap();
            restored.watermark = share.watermark.0;
        }
        restored
    }
}

const STEP: &str = "step";

/// As many tasks as a model is held against at most.
const TASKS_MAX: usize = 4;

/// The cut as a checkpoint would give it back.
fn through_files(mut cut: Cut) -> Cut {
    for task in cut.steps.values_mut().flat_map(BTreeMap::values_mut) {
        let read = decode(&encode(&task.state).unwrap()).unwrap();
        let tables = |state: &Snapshot| state.tables.iter().map(|t| (t.name.clone(), t.keys)).collect::<Vec<_>>();
        assert_eq!(tables(&read), tables(&task.state), "tables in a state file");
        assert_eq!(texts_of(&read), texts_of(&task.state), "rows in a state file");
        task.state = read;
    }
    cut
}

impl Tasks<'_> {
    fn take(&mut self, event: &Event, seen: &mut Seen) {
        let wording = self.wording;
        match event {
            Event::Rows(input, batch) => {
                let parts = match self.operators.len() {
                    1 => vec![(0, batch.clone())],
                    tasks => Partitioner::key(self.keys[*input].clone(), tasks).unwrap().split(batch).unwrap(),
                };
                for (task, part) in parts {
                    let mut out = Output::default();
                    self.operators[task].on_input(*input, part, &mut out).unwrap();
                    note(out, wording, seen);
                }
            }
            Event::Watermark(time) if *time <= self.watermark => {}
            Event::Watermark(time) => {
                self.watermark = *time;
                for operator in &mut self.operators {
                    let mut out = Output { rows_at_once: 2, ..Output::default() };
                    operator.on_watermark(Watermark(*time), &mut out).unwrap();
                    note(out, wording, seen);
                    let_out(operator.as_mut(), wording, seen);
                }
            }
            Event::Clock(now_ms) => {
                for operator in &mut self.operators {
                    let mut out = Output { rows_at_once: 2, ..Output::default() };
                    if operator.next_processing_time().is_some_and(|time_ms| time_ms <= *now_ms) {
                        operator.on_processing_time(*now_ms, &mut out).unwrap();
                    }
                    note(out, wording, seen);
                    let_out(operator.as_mut(), wording, seen);
                }
            }
        }
    }

    fn cut(&mut self) -> Cut {
        let watermark = Watermark(self.watermark);
        let states = self.operators.iter_mut().map(|operator| operator.snapshot().unwrap().made().unwrap());
        let tasks = states.map(|state| TaskState { watermark, state }).enumerate().collect();
        Cut { steps: BTreeMap::from([(STEP.to_owned(), tasks)]), ..Cut::default() }
    }
}

/// What is left of a firing, in parts of two rows or so.
fn let_out(operator: &mut dyn Operator, wording: Wording, seen: &mut Seen) {
    loop {
        let mut out = Output { rows_at_once: 2, ..Output::default() };
        let left = operator.go_on(&mut out).unwrap();
        note(out, wording, seen);
        if !left {
            return;
        }
    }
}

fn note(out: Output, wording: Wording, seen: &mut Seen) {
    let sides = out.sides.into_iter().map(|(number, batch)| (format!("side {number}"), batch));
    for (name, batch) in out.batches.into_iter().map(|batch| ("result".to_owned(), batch)).chain(sides) {
        let mut cells = rows(batch.columns().columns());
        cells.iter_mut().for_each(|row| (wording.comparable)(row));
        let rows = cells.iter().zip(batch.times());
        let word = if name == "result" { wording.result } else { PLAIN };
        seen.rows.extend(rows.map(|(row, time)| format!("{name}: {}", word(row, *time))));
    }
    for dead in out.dead {
        let row = rows(dead.row.columns());
        seen.rows.push(format!("dead: {row:?} @ {}: {}", dead.time, dead.reason));
    }
    seen.late += out.late_rows;
    seen.skipped += out.skipped_rows;
}

/// The rows of all tables, in some order of their own.
fn texts(cut: &Cut) -> Vec<String> {
    let snapshots = cut.steps.values().flat_map(BTreeMap::values).map(|task| &task.state);
    let mut texts: Vec<String> = snapshots.flat_map(texts_of).collect();
    texts.sort();
    texts
}

fn texts_of(snapshot: &Snapshot) -> Vec<String> {
    let mut texts = Vec::new();
    for table in &snapshot.tables {
        for batch in &table.rows {
            let text =
                |row| batch.columns().iter().map(|column| format!("{:?}", column.slice(row, 1))).collect::<String>();
            texts.extend((0..batch.num_rows()).map(|row| format!("{}: {}", table.name, text(row))));
        }
    }
    texts
}
