//! State that is migrated while its step goes on: in the end it is what a migration at the cut would have made of it, what is
//! left for the cut is what was touched last, and what goes wrong at any moment leaves all as it was.

use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch};
use millstream::control::{TrialRequest, TrialState};
use millstream::operator::{
    AggregateCall, AggregateFunction, AggregateStep, GuestFold, Migration, OnError, Operator, Output, Replacement,
    WindowAggregateSpec,
};
use millstream::pipeline::sweep::{Sweep, SweepProgress, SweepTask};
use millstream::record::{Batch, Field, Kind, Schema, Watermark};
use millstream::state::Snapshot;
use millstream::wasm::{Guest, GuestOptions, OperatorKind, Sandbox, SandboxOptions};
use millstream::window::{Emit, Firing, Trigger, WindowSpec};

use super::*;

mod kinds;
mod running;

const SECOND: i64 = 1_000;

/// A step in one task, and what is to become of it.
struct Stepped {
    operator: AggregateStep,
    sandbox: Sandbox,
    watermark: i64,
}

fn guest(sandbox: &Sandbox, name: &str) -> Guest {
    let component = sandbox.load(&built::guest(name).unwrap()).unwrap();
    component.guest(OperatorKind::Aggregator, GuestOptions::new("sums")).unwrap()
}

impl Stepped {
    fn new(window: WindowSpec) -> Self {
        let sandbox = Sandbox::new(SandboxOptions::default()).unwrap();
        let first = guest(&sandbox, "migrate-sum-1");
        let output = first.signature().outputs.clone();
        let fold = GuestFold::new(first, vec![1], output.clone(), OnError::Fail).unwrap();
        let count = AggregateCall::BuiltIn { output: "rows".into(), function: AggregateFunction::Count, column: None };
        let spec = WindowAggregateSpec {
            input: Schema::new([Field::new("key", Kind::Int64), Field::new("amount", Kind::Int64)]),
            keys: vec![0],
            window,
            allowed_lateness: Duration::ZERO,
            late: false,
            gap: None,
            trigger: Trigger::End,
            firing: Firing::Accumulating,
            clock: millstream::clock::Clock::virtual_at_ms(0),
            aggregates: vec![count, AggregateCall::Fold(Box::new(fold))],
            spill: None,
        };
        let operator = AggregateStep::new(spec, OnError::Fail, vec![None, Some(output)]).unwrap();
        Self { operator, sandbox, watermark: i64::MIN }
    }

    fn rolling() -> Self {
        Self::new(WindowSpec::Rolling { emit: Emit::Latest })
    }

    /// Takes in rows: key and amount.
    fn rows(&mut self, rows: impl IntoIterator<Item = (i64, i64)>, time: i64) {
        let (keys, amounts): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
        let schema = Schema::new([Field::new("key", Kind::Int64), Field::new("amount", Kind::Int64)]);
        let times = vec![time; keys.len()];
        let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from(keys)), Arc::new(Int64Array::from(amounts))];
        let batch = RecordBatch::try_new(schema.arrow().clone(), columns).unwrap();
        let mut out = Output::default();
        self.operator.on_batch(Batch::new(batch, times.into()).unwrap(), &mut out).unwrap();
        assert!(out.dead.is_empty());
    }

    fn watermark(&mut self, time: i64) {
        self.watermark = time;
        self.operator.on_watermark(Watermark(time), &mut Output::default()).unwrap();
        while self.operator.go_on(&mut Output::default()).unwrap() {}
    }

    fn migration(&mut self, to: &str) -> Migration {
        let from = guest(&self.sandbox, "migrate-sum-1").signature().state.clone().unwrap();
        let kept = self.operator.kept_columns(1).unwrap();
        Migration { slot: 1, kept, from, guest: guest(&self.sandbox, to) }
    }

    fn begin(&mut self, to: &str) -> (Arc<Sweep>, SweepTask) {
        let sweep = Arc::new(Sweep::new(vec![self.migration(to)]).unwrap());
        sweep.spawn().unwrap();
        (Arc::clone(&sweep), SweepTask::begin(sweep))
    }

    /// Hands over until nothing is left, or it fails.
    fn catch_up(&mut self, sweep: &Sweep, task: &SweepTask) -> SweepProgress {
        let watch = Stopwatch::start();
        loop {
            assert!(task.go_on(&mut self.operator) && watch.elapsed() < PATIENCE);
            let progress = sweep.progress();
            if progress.caught_up || progress.failed.is_some() {
                return progress;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn adopt(&mut self, task: &SweepTask) {
        let replacement = Replacement { guest: guest(&self.sandbox, "migrate-sum-2"), inputs: vec![1] };
        let left = self.operator.adopt(1, replacement, task.made(1).unwrap()).unwrap();
        task.leave(left);
    }

    fn state(&mut self) -> Snapshot {
        self.operator.snapshot().unwrap().made().unwrap()
    }
}

/// Names and cells of all rows.
fn cells(snapshot: &Snapshot) -> Vec<String> {
    let rows = snapshot.tables.iter().flat_map(|table| &table.rows);
    let cells = rows.flat_map(|batch| {
        (0..batch.num_rows()).map(|row| {
            let schema = batch.schema();
            let columns = schema.fields().iter().zip(batch.columns());
            columns.map(|(field, column)| format!("{} {:?}", field.name(), column.slice(row, 1))).collect::<String>()
        })
    });
    cells.collect()
}

fn windows() -> [WindowSpec; 3] {
    let size = Duration::from_secs(4);
    [
        WindowSpec::Rolling { emit: Emit::Latest },
        WindowSpec::Tumbling { size, offset_ms: 0 },
        WindowSpec::Sliding { size, every: Duration::from_secs(1), offset_ms: 0 },
    ]
}

#[test]
fn what_was_migrated_ahead_is_what_a_migration_at_the_cut_makes() {
    for window in windows() {
        let mut step = Stepped::new(window);
        step.rows((0..20_000).map(|key| (key, key)), 0);
        let (sweep, task) = step.begin("migrate-sum-2");
        let mut random = 5;
        for time in 0..40 {
            // old keys and new ones, of windows that open and close while they are handed over
            let keys: Vec<_> = (0..200).map(|_| i64::try_from(draw(&mut random, 25_000)).unwrap()).collect();
            step.rows(keys.iter().map(|key| (*key, 7)), time * SECOND / 4);
            step.watermark(time * SECOND / 4 - SECOND);
            assert!(task.go_on(&mut step.operator));
            std::thread::sleep(Duration::from_millis(1));
        }
        step.catch_up(&sweep, &task);
        step.rows([(1, 1), (30_000, 1)], 10 * SECOND);
        let expected = step.migration("migrate-sum-2").run(step.state()).unwrap();
        task.finish(&mut step.operator).unwrap();
        step.adopt(&task);
        let adopted = step.state();
        assert!(adopted.tables[0].rows[0].schema().index_of("rows_1.old_rows").is_ok());
        assert!(cells(&adopted) == cells(&expected), "{window:?}");
        // and it goes on with them
        step.rows([(1, 5)], 10 * SECOND);
        let adopted = cells(&step.state());
        assert_eq!(adopted.iter().zip(cells(&expected)).filter(|(now, before)| **now != *before).count(), 1);
        sweep.end();
    }
}

#[test]
fn windows_that_are_open_at_once_are_all_handed_over() {
    for window in windows() {
        let mut step = Stepped::new(window);
        // of the first more than a piece has room for, of the others other keys, all before it begins
        step.rows((0..20_000).map(|key| (key, key)), 0);
        (1..6).for_each(|after| step.rows((0..5_000).map(|key| (key * after, 1)), after * SECOND * 3 / 2));
        let expected = step.migration("migrate-sum-2").run(step.state()).unwrap();
        let (sweep, task) = step.begin("migrate-sum-2");
        step.catch_up(&sweep, &task);
        task.finish(&mut step.operator).unwrap();
        assert_eq!(sweep.progress().rows_at_cut, 0, "{window:?}");
        step.adopt(&task);
        assert!(cells(&step.state()) == cells(&expected), "{window:?}");
        sweep.end();
    }
}

#[test]
fn what_is_left_for_the_cut_are_the_keys_touched_since_and_not_the_state() {
    const KEYS: i64 = 200_000;
    let mut step = Stepped::rolling();
    (0..KEYS).step_by(5_000).for_each(|from| step.rows((from..from + 5_000).map(|key| (key, 1)), 0));
    let (sweep, task) = step.begin("migrate-sum-2");
    let ahead = step.catch_up(&sweep, &task);
    assert!(ahead.rounds >= 25 && ahead.rows_ahead == 200_000, "{ahead:?}");
    // ten keys in ten different places, twice, and one that is new
    (0..2).for_each(|_| step.rows((0..10).map(|at| (at * 17_000, 2)), 1));
    step.rows([(KEYS, 1)], 1);
    task.finish(&mut step.operator).unwrap();
    assert_eq!(sweep.progress().rows_at_cut, 11);
    step.adopt(&task);
    assert_eq!(step.state().tables[0].rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 200_001);
    sweep.end();
}

#[test]
fn a_key_that_does_not_migrate_at_the_cut_leaves_the_operator_as_it_was() {
    let mut step = Stepped::rolling();
    step.rows((1..20_000).map(|key| (key, key)), 0);
    let (sweep, task) = step.begin("hostile-migrate");
    assert_eq!(step.catch_up(&sweep, &task).failed, None);
    // its sum was good until now
    step.rows([(77, -77)], 1);
    let before = cells(&step.state());
    let refused = task.finish(&mut step.operator).unwrap_err();
    assert!(refused.contains("of the key key = 77: ") && refused.contains("a sum of 0"), "{refused}");
    task.stop(&mut step.operator);
    sweep.end();
    assert_eq!(cells(&step.state()), before);
    // nothing is noted any more, and another attempt begins at the start
    step.rows([(77, 1)], 1);
    let (sweep, task) = step.begin("migrate-sum-2");
    assert_eq!(step.catch_up(&sweep, &task).rows_ahead, 19_999);
    sweep.end();
}

#[test]
fn a_key_that_does_not_migrate_in_a_later_round_is_told_then() {
    let mut step = Stepped::rolling();
    step.rows((1..20_000).map(|key| (key, key)), 0);
    let (sweep, task) = step.begin("hostile-migrate");
    step.catch_up(&sweep, &task);
    step.rows([(77, -77)], 1);
    let watch = Stopwatch::start();
    while sweep.progress().failed.is_none() {
        assert!(task.go_on(&mut step.operator) && watch.elapsed() < PATIENCE);
    }
    let progress = sweep.progress();
    assert!(progress.failed.unwrap().contains("of the key key = 77: ") && progress.rows_at_cut == 0);
    // as long as it is not given up nothing is taken over either
    assert!(task.finish(&mut step.operator).is_err());
    sweep.end();
    assert!(!task.go_on(&mut step.operator), "the task lets go of it");
}

/// All rows of a key in one window.
fn in_one_window(key: &str) -> Step {
    summed(Step::aggregate().key_by([key]).tumbling(Duration::from_secs(1_000)))
}

/// Many keys in one window.
async fn rows_flow_on(parallelism: usize) {
    const KEYS: u64 = 40_000;
    const ROWS: u64 = 240_000;
    let kind = GeneratorKind::Sequence { keys: KEYS };
    let spec = GeneratorSpec { kind, rows: Some(ROWS), rate: Some(RATE), seed: 3, start_ms: 0, interval_ns: None };
    let pipeline = Pipeline::new("ahead").parallelism(parallelism).source("numbers", Source::generator(spec));
    let job = start(pipeline.step("sums", in_one_window("key")), &[], &["sums"]).await;
    let handle = job.handle();
    let changing = async {
        passed(&handle, "numbers", ROWS / 2).await;
        let report = swap(&handle, &[("sums", &built::guest("migrate-sum-2").unwrap())]).await.unwrap();
        drop(handle);
        report.migrated.unwrap()
    };
    let (outcome, migrated) = job.finish(changing).await;
    // not every key has come by then, and how much has changed since the last piece is up to the machine
    assert!(migrated.rows_ahead >= KEYS * 9 / 10 && migrated.rounds >= 4, "{migrated:?}");
    assert!(migrated.rows_at_cut < KEYS / 4, "{migrated:?}");
    assert_each_once(&outcome.windows, ROWS);
    assert!(total(&outcome.windows, "rows_1") >= ROWS / 2 && total(&outcome.windows, "rows_2") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_state_is_migrated_and_each_is_counted_once_in_one_task() {
    rows_flow_on(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_state_is_migrated_and_each_is_counted_once_in_three_tasks() {
    rows_flow_on(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_in_one_task_ahead_of_the_cut_holds_all_back() {
    for parallelism in [1, 3] {
        // a thousand keys; it traps where a sum is 0, which is that of one key alone
        let pipeline =
            Pipeline::new("ahead").parallelism(parallelism).source("numbers", generator(Some(ROWS), Some(RATE)));
        let pipeline = pipeline.step("sums", in_one_window("amount"));
        let job = start(pipeline, &[], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "numbers", ROWS / 4).await;
            let refused = swap(&handle, &[("sums", &built::guest("hostile-migrate").unwrap())]).await.unwrap_err();
            let said = refused.to_string();
            assert!(refused.code() == "migration" && said.contains("of the key amount = 0: "), "{said}");
            assert!(said.contains("hostile-migrate.wasm"), "{said}");
            passed(&handle, "numbers", ROWS / 2).await;
            // what was refused is not in the way of another
            swap(&handle, &[("sums", &built::guest("migrate-sum-2").unwrap())]).await.unwrap();
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        assert_each_once(&outcome.windows, ROWS);
        assert!(total(&outcome.windows, "rows_1") >= ROWS / 2 && total(&outcome.windows, "rows_2") > 0);
        assert!(outcome.dead.is_empty());
    }
}

/// Knuth's MMIX generator.
fn draw(state: &mut u64, below: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % below
}

fn sums_by_key(parallelism: usize) -> Pipeline {
    let source = generator(Some(2 * ROWS), Some(RATE));
    Pipeline::new("tried").parallelism(parallelism).source("numbers", source).step("sums", in_one_window("key"))
}

fn assert_counted_once(outcome: &Outcome) {
    assert_each_once(&outcome.windows, 2 * ROWS);
    assert!(outcome.dead.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_migrates_is_tried_in_shadow_and_promoted_with_the_state_of_the_running_version() {
    for parallelism in [1, 3] {
        let job = start(sums_by_key(parallelism), &[], &["sums"]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "numbers", ROWS / 2).await;
            let to = built::guest("migrate-sum-2").unwrap();
            let offers = [("sums".to_owned(), to.clone())];
            let shadow = TrialRequest { shadow: Some("60s".into()), ..TrialRequest::default() };
            let hostile = [("sums".to_owned(), second_hostile())];
            let refused = handle.try_out(&hostile, shadow.read().unwrap()).await.unwrap_err().to_string();
            assert!(refused.contains("cannot try a candidate") && refused.contains("no, thank you"), "{refused}");
            handle.try_out(&offers, shadow.read().unwrap()).await.unwrap();
            passed(&handle, "numbers", ROWS).await;
            let trial = handle.promote().await.unwrap();
            assert_eq!(trial.state, TrialState::Promoted, "{trial:?}");
            // it can be tried in its turn: what runs keeps other state than what the run began with
            let back = [("sums".to_owned(), built::guest("migrate-sum-1").unwrap())];
            handle.try_out(&back, shadow.read().unwrap()).await.unwrap();
            handle.rollback(&[]).await.unwrap_err();
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        assert_counted_once(&outcome);
        assert!(total(&outcome.windows, "rows_1") >= ROWS && total(&outcome.windows, "rows_2") > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_swap_that_migrates_goes_back_by_migrating_back() {
    for parallelism in [1, 3] {
        let job = start(sums_by_key(parallelism), &[], &["sums"]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "numbers", ROWS / 2).await;
            let offers = [("sums".to_owned(), built::guest("migrate-sum-2").unwrap())];
            let watch = TrialRequest { watch: Some("60s".into()), ..TrialRequest::default() };
            handle.try_out(&offers, watch.read().unwrap()).await.unwrap();
            passed(&handle, "numbers", ROWS).await;
            handle.abandon_trial().await.unwrap();
            let known: Vec<_> = handle.history()["sums"].iter().map(|of| (of.number, of.current)).collect();
            assert_eq!(known, [(1, true), (2, false)], "it was rolled back, nothing was put in place");
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        assert_counted_once(&outcome);
        assert_eq!(total(&outcome.windows, "rows_2"), 0, "on the way back all is counted as the first version's");
    }
}

/// A candidate whose migration fails.
fn second_hostile() -> PathBuf {
    static FOLDER: std::sync::OnceLock<Second> = std::sync::OnceLock::new();
    FOLDER.get_or_init(Second::new).write("hostile-migrate", "trap-on-a-key", "fails-one-row")
}
