//! Trials of built-in aggregates: with the same logic nothing may change, wherever a trial begins and ends.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch};

use super::*;
use crate::clock::Clock;
use crate::operator::{
    AggregateCall, AggregateFunction, AggregateStep, DeadRow, OnError, WindowAggregateSpec, put_in_place,
};
use crate::record::{Field, Kind, Schema};
use crate::state::cells::rows;
use crate::wasm::{Digest, ExactVersion};
use crate::window::{Emit, Firing, Trigger, WindowSpec};

const SECOND: Duration = Duration::from_secs(1);

fn aggregate(window: WindowSpec, function: AggregateFunction) -> Box<dyn Operator> {
    let column = (function != AggregateFunction::Count).then_some(1);
    let spec = WindowAggregateSpec {
        input: Schema::new([Field::new("k", Kind::Int64), Field::new("v", Kind::Int64)]),
        keys: vec![0],
        window,
        allowed_lateness: Duration::ZERO,
        spill: None,
        late: true,
        gap: None,
        trigger: Trigger::End,
        firing: Firing::Accumulating,
        clock: Clock::virtual_at_ms(0),
        aggregates: vec![AggregateCall::BuiltIn { output: "n".into(), function, column }],
    };
    Box::new(AggregateStep::new(spec, OnError::DeadLetter, vec![None]).unwrap())
}

fn windows() -> [WindowSpec; 4] {
    [
        WindowSpec::Tumbling { size: SECOND, offset_ms: 0 },
        WindowSpec::Sliding { size: SECOND * 2, every: SECOND, offset_ms: 0 },
        WindowSpec::Session { gap: SECOND / 4 },
        WindowSpec::Rolling { emit: Emit::Latest },
    ]
}

fn batch(keys: std::ops::Range<i64>, time: i64) -> Batch {
    let schema = Schema::new([Field::new("k", Kind::Int64), Field::new("v", Kind::Int64)]);
    let times: Vec<i64> = keys.clone().map(|key| time + key % 7).collect();
    let columns = [keys.clone(), keys].map(|numbers| Arc::new(Int64Array::from_iter_values(numbers)) as _);
    Batch::new(RecordBatch::try_new(schema.arrow().clone(), columns.to_vec()).unwrap(), times.into()).unwrap()
}

#[derive(Clone)]
enum Event {
    Rows(Batch),
    Watermark(i64),
}

/// Keys that come and go, a late batch, windows that close.
fn script() -> Vec<Event> {
    vec![
        Event::Rows(batch(0..40, 100)),
        Event::Rows(batch(20..60, 900)),
        Event::Watermark(950),
        Event::Rows(batch(10..50, 1_200)),
        Event::Watermark(2_000),
        // late by now, but for what reaches into the next window
        Event::Rows(batch(0..10, 500)),
        Event::Rows(batch(30..90, 2_100)),
        Event::Watermark(3_300),
        Event::Watermark(i64::MAX),
    ]
}

/// What a step puts out, as a task would see it: late rows, rows and rows of sides, in any order.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    rows: Vec<String>,
    late: u64,
}

struct Task {
    operator: Box<dyn Operator>,
    watermark: i64,
    seen: Seen,
}

impl Task {
    fn new(operator: Box<dyn Operator>) -> Self {
        Self { operator, watermark: i64::MIN, seen: Seen::default() }
    }

    fn apply(&mut self, step: TrialStep) {
        put_in_place(&mut self.operator, step, Watermark(self.watermark)).unwrap();
    }

    fn take(&mut self, event: &Event) {
        let mut out = Output { rows_at_once: 7, ..Output::default() };
        match event {
            Event::Rows(batch) => {
                self.operator.on_batch(batch.clone(), &mut out).unwrap();
                self.see(&mut out);
            }
            Event::Watermark(time) => {
                self.watermark = *time;
                self.operator.on_watermark(Watermark(*time), &mut out).unwrap();
                self.see(&mut out);
                while self.operator.go_on(&mut out).unwrap() {
                    self.see(&mut out);
                }
            }
        }
        // as a checkpoint anywhere
        self.operator.snapshot().unwrap();
    }

    fn see(&mut self, out: &mut Output) {
        for batch in out.batches.drain(..) {
            self.seen.rows.extend(rows(batch.columns().columns()).iter().map(|row| format!("{row:?}")));
        }
        for (side, batch) in out.sides.drain(..) {
            self.seen.rows.extend(rows(batch.columns().columns()).iter().map(|row| format!("{side} {row:?}")));
        }
        self.seen.late += std::mem::take(&mut out.late_rows);
    }

    fn sorted(mut self) -> Seen {
        self.seen.rows.sort();
        self.seen
    }
}

fn straight(make: impl Fn() -> Box<dyn Operator>) -> Seen {
    let mut task = Task::new(make());
    script().iter().for_each(|event| task.take(event));
    assert!(task.seen.rows.len() > 50);
    task.sorted()
}

/// Runs the script with a trial from before event `begin` until before event `end`.
fn tried(
    make: &dyn Fn() -> Box<dyn Operator>,
    (begin, end): (usize, usize),
    start: &dyn Fn(SharedFigures) -> TrialStep,
    stop: &dyn Fn() -> TrialStep,
) -> (Seen, TaskFigures) {
    let figures = SharedFigures::default();
    let mut task = Task::new(make());
    for (at, event) in script().iter().enumerate() {
        if at == begin {
            task.apply(start(Arc::clone(&figures)));
        }
        if at == end {
            task.apply(stop());
        }
        task.take(event);
    }
    let figures = figures.lock().unwrap().clone();
    (task.sorted(), figures)
}

fn spans() -> impl Iterator<Item = (usize, usize)> {
    let events = script().len();
    (0..events).flat_map(move |begin| (begin + 1..=events).map(move |end| (begin, end)))
}

#[test]
fn a_shadow_of_the_same_logic_changes_nothing_and_differs_in_nothing() {
    for window in windows() {
        let make = || aggregate(window, AggregateFunction::Count);
        let expected = straight(make);
        for span in spans() {
            let start = |figures| TrialStep::Shadow { candidate: make(), migrations: Vec::new(), figures };
            let (seen, figures) = tried(&make, span, &start, &|| TrialStep::End { running: None });
            assert_eq!(seen, expected, "{window:?} {span:?}");
            assert!(figures.began && figures.failed.is_none());
            assert_eq!(figures.difference.differing, 0, "{window:?} {span:?}: {:?}", figures.difference.examples);
            assert_eq!(figures.running.rows_out, figures.candidate.rows_out);
            if span == (0, script().len()) {
                assert_eq!(figures.difference.compared, expected.rows.len() as u64);
            }
        }
    }
}

#[test]
fn a_shadow_of_other_logic_changes_nothing_and_every_result_differs() {
    for window in windows() {
        let make = || aggregate(window, AggregateFunction::Count);
        let expected = straight(make);
        let start = |figures| TrialStep::Shadow {
            candidate: aggregate(window, AggregateFunction::Max),
            migrations: Vec::new(),
            figures,
        };
        let all = (0, script().len());
        let (seen, figures) = tried(&make, all, &start, &|| TrialStep::End { running: None });
        assert_eq!(seen, expected);
        let difference = figures.difference;
        // some keys are as large as their count; late rows are the same
        assert!(difference.differing > difference.compared / 2, "{difference:?}");
        assert_eq!(difference.only_running, difference.only_candidate);
        assert_eq!(difference.examples.len(), EXAMPLES);
    }
}

/// As if the candidate kept other state, which is the same.
fn behind(make: &dyn Fn() -> Box<dyn Operator>) -> OtherState {
    OtherState { behind: make(), migrations: Vec::new() }
}

/// A candidate of other logic, with the running version behind it.
fn of_other_logic(window: WindowSpec, figures: SharedFigures) -> TrialStep {
    let make = || aggregate(window, AggregateFunction::Count);
    TrialStep::Canary {
        running: Some(make()),
        candidate: aggregate(window, AggregateFunction::Count),
        other: Some(behind(&make)),
        share: Share::new(30.0, vec![vec![0]]),
        versions: [].into(),
        figures,
    }
}

#[test]
fn what_goes_on_behind_a_canary_is_what_a_checkpoint_has_and_the_candidate_is_apart() {
    for window in windows() {
        let make = || aggregate(window, AggregateFunction::Count);
        for span in spans() {
            let (mut task, mut alone) = (Task::new(make()), Task::new(make()));
            for (at, event) in script().iter().enumerate() {
                if at == span.0 {
                    task.apply(of_other_logic(window, SharedFigures::default()));
                }
                if at == span.1 {
                    break;
                }
                task.take(event);
                alone.take(event);
            }
            let rows_in = |state: Snapshot| -> Vec<Vec<crate::state::cells::Cell>> {
                let state = state.made().unwrap();
                let mut all: Vec<_> =
                    state.tables.iter().flat_map(|table| &table.rows).flat_map(|of| rows(of.columns())).collect();
                all.sort_unstable_by_key(|row| format!("{row:?}"));
                all
            };
            assert_eq!(rows_in(task.operator.snapshot().unwrap()), rows_in(alone.operator.snapshot().unwrap()));
            let (rest, own) = task.operator.snapshot_apart().unwrap();
            assert_eq!(own.is_some(), span.0 < span.1, "{span:?}");
            let Some(own) = own else { continue };
            assert_eq!(rows_in(union(rest, own)), rows_in(alone.operator.snapshot().unwrap()), "{window:?} {span:?}");
            // and a restore of a trial there is not
            let state = alone.operator.snapshot().unwrap().made().unwrap();
            assert!(task.operator.restore(&state, Watermark(0)).is_err());
        }
    }
}

#[test]
fn a_canary_of_the_same_logic_loses_and_doubles_nothing_wherever_it_begins_and_ends() {
    for window in windows() {
        let make = || aggregate(window, AggregateFunction::Count);
        let expected = straight(make);
        for (span, other) in spans().flat_map(|span| [(span, false), (span, true)]) {
            let start = |figures| TrialStep::Canary {
                running: Some(make()),
                candidate: make(),
                share: Share::new(30.0, vec![vec![0]]),
                other: other.then(|| behind(&make)),
                versions: [].into(),
                figures,
            };
            let (seen, figures) = tried(&make, span, &start, &|| TrialStep::End { running: Some(make()) });
            assert_eq!(seen, expected, "{window:?} {span:?}");
            assert!(figures.began && figures.failed.is_none());
            if span.0 == 0 && span.1 > 1 {
                assert!(figures.candidate.rows_in > 0 && figures.running.rows_in > figures.candidate.rows_in);
                assert!(figures.running.cost.rows > 0, "the control group is timed");
            }
        }
    }
}

#[test]
fn a_checkpoint_within_a_canary_is_gone_on_from_without_it() {
    for window in windows() {
        let make = || aggregate(window, AggregateFunction::Count);
        let expected = straight(make);
        for (span, other) in spans().flat_map(|span| [(span, false), (span, true)]) {
            let mut task = Task::new(make());
            for (at, event) in script().iter().enumerate() {
                if at == span.0 {
                    task.apply(TrialStep::Canary {
                        running: Some(make()),
                        candidate: make(),
                        share: Share::new(30.0, vec![vec![0]]),
                        other: other.then(|| behind(&make)),
                        versions: [].into(),
                        figures: SharedFigures::default(),
                    });
                }
                if at == span.1 {
                    let state = task.operator.snapshot().unwrap().made().unwrap();
                    task.operator = make();
                    task.operator.restore(&state, Watermark(task.watermark)).unwrap();
                }
                task.take(event);
            }
            assert_eq!(task.sorted(), expected, "{window:?} {span:?}");
        }
    }
}

#[test]
fn state_that_a_candidate_does_not_take_over_leaves_the_running_version_as_it_was() {
    let [tumbling, _, session, _] = windows();
    let make = || aggregate(tumbling, AggregateFunction::Count);
    let other = || aggregate(session, AggregateFunction::Max);
    let expected = straight(make);
    let shadow = |figures| TrialStep::Shadow { candidate: other(), migrations: Vec::new(), figures };
    let canary = |figures| TrialStep::Canary {
        running: Some(make()),
        candidate: other(),
        share: Share::new(30.0, vec![vec![0]]),
        other: None,
        versions: [].into(),
        figures,
    };
    let starts: [&dyn Fn(SharedFigures) -> TrialStep; 2] = [&shadow, &canary];
    for start in starts {
        let (seen, figures) = tried(&make, (2, 5), start, &|| TrialStep::End { running: Some(make()) });
        assert_eq!(seen, expected);
        assert!(!figures.began && figures.failed.is_some());
    }
}

/// Passes rows on, until it meets key `fails_at`: then it puts out half of them and fails.
struct Fails(i64);

impl Operator for Fails {
    fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
        let keys = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(batch.column(0)).clone();
        if !keys.values().contains(&self.0) {
            out.batches.push(batch);
            return Ok(());
        }
        out.batches.push(batch.slice(0, batch.rows() / 2));
        out.dead.push(DeadRow { row: batch.columns().slice(0, 1), time: 0, reason: "never seen".into(), slot: None });
        Err(OperatorError::Contract { reason: "on purpose".into() })
    }
}

#[test]
fn a_candidate_that_cannot_go_on_costs_no_row() {
    let make = || -> Box<dyn Operator> { Box::new(Fails(-1)) };
    let mut expected = Task::new(make());
    let batches = [batch(0..50, 0), batch(50..100, 0), batch(100..150, 0)];
    batches.iter().for_each(|batch| expected.take(&Event::Rows(batch.clone())));
    let expected = expected.sorted();
    // a key that both a shadow and this canary's candidate get
    let share = Share::new(50.0, vec![vec![0]]);
    let parts = share.split(0, &batches[1]).unwrap();
    let key = *arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(parts.candidate.column(0))
        .values()
        .last()
        .unwrap();
    for is_canary in [false, true] {
        let (figures, candidate) = (SharedFigures::default(), Box::new(Fails(key)));
        let mut task = Task::new(make());
        task.apply(match is_canary {
            true => TrialStep::Canary {
                running: None,
                candidate,
                share: share.clone(),
                other: None,
                versions: [].into(),
                figures: Arc::clone(&figures),
            },
            false => TrialStep::Shadow { candidate, migrations: Vec::new(), figures: Arc::clone(&figures) },
        });
        batches.iter().for_each(|batch| task.take(&Event::Rows(batch.clone())));
        task.apply(TrialStep::End { running: None });
        assert_eq!(task.sorted(), expected, "canary: {is_canary}");
        let figures = figures.lock().unwrap();
        assert!(figures.failed.as_ref().unwrap().contains("on purpose"));
        assert_eq!(figures.difference.differing, 0);
    }
}

#[test]
fn dead_rows_of_a_canary_are_marked_with_its_version() {
    /// Refuses every row.
    struct Refuses(&'static str);
    impl Operator for Refuses {
        fn on_batch(&mut self, batch: Batch, out: &mut Output) -> Result<(), OperatorError> {
            let dead = |row| DeadRow { row: batch.columns().slice(row, 1), time: 0, reason: self.0.into(), slot: None };
            out.dead.extend((0..batch.rows()).map(dead));
            Ok(())
        }
    }
    let mut task = Task::new(Box::new(Refuses("running")));
    let version = ExactVersion { number: 2, digest: Digest::of(b"candidate") };
    task.apply(TrialStep::Canary {
        running: None,
        candidate: Box::new(Refuses("candidate")),
        share: Share::new(50.0, vec![vec![0]]),
        other: None,
        versions: [(0, version)].into(),
        figures: SharedFigures::default(),
    });
    let mut out = Output::default();
    for keys in [0..50, 50..60] {
        task.operator.on_batch(batch(keys, 0), &mut out).unwrap();
    }
    assert_eq!(out.dead.len(), 60);
    for (row, dead) in out.dead.iter().enumerate() {
        let by = out.dead_by.iter().find(|(rows, _)| rows.contains(&row)).map(|(_, versions)| versions.to_vec());
        assert_eq!(by, (dead.reason == "candidate").then(|| vec![(0, version)]), "row {row} of {}", dead.reason);
    }
}
