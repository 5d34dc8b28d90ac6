//! Versions that keep other state: it is migrated at the cut, for all keys in all tasks or for none.

use millstream::control::{MigrationPlan, RowFigure, TrialRequest};
use millstream::window::{Firing, Trigger};

use super::*;

fn other(guest: &str) -> PathBuf {
    built::guest(guest).unwrap()
}

/// `step`'s component after the first third of the rows is `to`; what `f` is told of the swap.
async fn swap_midway<T>(
    job: Job,
    step: &str,
    to: &PathBuf,
    f: impl FnOnce(Result<SwapReport, SwapError>) -> T,
) -> (Outcome, T) {
    let handle = job.handle();
    let changing = async {
        passed(&handle, "numbers", ROWS / 3).await;
        let result = swap(&handle, &[(step, to)]).await;
        if let Ok(report) = &result {
            assert_eq!(digests(&handle.status(), step), [report.swapped[0].to.as_str()]);
        }
        drop(handle);
        f(result)
    };
    job.finish(changing).await
}

fn numbers(parallelism: usize) -> Pipeline {
    Pipeline::new("migrated").parallelism(parallelism).source("numbers", generator(Some(ROWS), Some(RATE)))
}

/// More of them, for more than one swap.
const MANY: u64 = 4 * ROWS;

fn many(parallelism: usize) -> Pipeline {
    Pipeline::new("migrated").parallelism(parallelism).source("numbers", generator(Some(MANY), Some(RATE)))
}

/// Every row was counted once, by either version.
fn assert_each_once(windows: &[Row], rows: u64) {
    for row in windows {
        assert_eq!(int(row, "rows_1") + int(row, "rows_2"), int(row, "rows"), "{row:?}");
        assert_eq!(int(row, "sum_1") + int(row, "sum_2"), int(row, "amounts"), "{row:?}");
    }
    assert_eq!(total(windows, "rows"), rows);
}

/// Kinds of window, with a step for each.
fn kinds(component: &str) -> Vec<(&'static str, Step)> {
    let seconds = Duration::from_secs;
    let all = |step: Step| step.count("rows").sum("amounts", "amount").component("sums", path(component));
    vec![
        ("tumbling", all(Step::aggregate().key_by(["key"]).tumbling(seconds(2)))),
        (
            "early",
            all(Step::aggregate()
                .key_by(["key"])
                .tumbling(seconds(2))
                .trigger(Trigger::Every { interval: seconds(1) })
                .firing(Firing::Discarding)),
        ),
        ("session", all(Step::aggregate().key_by(["key"]).session(seconds(100)))),
    ]
}

async fn each_row_is_counted_under_one_version(parallelism: usize) {
    for (kind, step) in kinds("migrate-sum-1") {
        let job = start(numbers(parallelism).step("sums", step.from("numbers")), &[], &["sums"]).await;
        let (outcome, report) = swap_midway(job, "sums", &other("migrate-sum-2"), Result::unwrap).await;
        assert_eq!(serde_json::to_value(&report.swapped[0].verdict).unwrap()["migrate"]["from"], 1, "{kind}");
        assert_each_once(&outcome.windows, ROWS);
        let (first, second) = (total(&outcome.windows, "rows_1"), total(&outcome.windows, "rows_2"));
        assert!(first >= ROWS / 3 && second > 0, "{kind}: {first} and {second}");
        if kind == "session" {
            assert!(outcome.windows.iter().all(|row| int(row, "rows_1") > 0 && int(row, "rows_2") > 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_of_the_old_version_are_those_of_the_new_one_in_one_task() {
    each_row_is_counted_under_one_version(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_of_the_old_version_are_those_of_the_new_one_in_three_tasks() {
    each_row_is_counted_under_one_version(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_migrates_changes_at_the_same_cut_as_one_that_does_not() {
    let second = Second::new();
    let sums = Step::aggregate().key_by(["key", "version"]).tumbling(Duration::from_secs(2)).count("rows");
    let sums = sums.sum("amounts", "amount").component("sums", path("migrate-sum-1"));
    let pipeline = many(3).step("tag", map().from("numbers")).step("sums", sums.from("tag"));
    let job = start(pipeline, &["tag"], &["sums"]).await;
    let handle = job.handle();
    let changing = async {
        passed(&handle, "tag", ROWS / 3).await;
        // all or none: what does not need to wait waits for what does
        let hostile = second.write("hostile-migrate", "trap-on-a-key", "none-at-all--");
        let refused = swap(&handle, &[("tag", &second.map()), ("sums", &hostile)]).await.unwrap_err();
        assert_eq!(refused.code(), "migration");
        passed(&handle, "tag", ROWS).await;
        swap(&handle, &[("tag", &second.map()), ("sums", &other("migrate-sum-2"))]).await.unwrap();
        drop(handle);
    };
    let (outcome, ()) = job.finish(changing).await;
    assert_one_cut(&second_by_task(&outcome.rows, MANY, 3, |_| 1));
    assert_each_once(&outcome.windows, MANY);
    for row in &outcome.windows {
        let other = if text(row, "version") == "version-000a" { "rows_2" } else { "rows_1" };
        assert_eq!(int(row, other), 0, "{row:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_sums_go_on_where_they_were() {
    let sums = Step::aggregate().key_by(["key"]).count("rows").sum("amounts", "amount");
    let step = sums.component("sums", path("migrate-sum-1")).from("numbers");
    let job = start(numbers(3).step("sums", step), &["sums"], &[]).await;
    let (outcome, _) = swap_midway(job, "sums", &other("migrate-sum-2"), Result::unwrap).await;
    assert_eq!(outcome.rows.len() as u64, ROWS);
    let mut last: BTreeMap<i64, &Row> = BTreeMap::new();
    for row in &outcome.rows {
        assert_eq!(int(row, "rows_1") + int(row, "rows_2"), int(row, "rows"), "{row:?}");
        let before = last.insert(int(row, "key"), row);
        let rows = |row: &Row| (int(row, "rows_1"), int(row, "rows_2"));
        let fits = |before: (i64, i64), now: (i64, i64)| now == (before.0 + 1, 0) || now == (before.0, before.1 + 1);
        assert!(fits(before.map_or((0, 0), rows), rows(row)), "{before:?}, then {row:?}");
    }
    assert!(last.values().all(|row| int(row, "rows_1") > 0 && int(row, "rows_2") > 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_takes_over_state_and_timers() {
    for parallelism in [1, 3] {
        let step = Step::process(path("version-process")).key_by(["key"]).side_output("totals").from("numbers");
        let job = start(numbers(parallelism).step("count", step), &["count"], &["totals"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "count", ROWS / 3).await;
            swap(&handle, &[("count", &other("migrate-process-2"))]).await.unwrap();
            // the first version knows nothing of the second
            let refused = handle.rollback(&[]).await.unwrap_err();
            assert!(
                refused.to_string().contains("state `note`: running note: text, offered seen_rows: int64"),
                "{refused}"
            );
            assert!(refused.stub().unwrap().contains("process(version = 1, migrate(2 = StateV2))"));
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        let mut by_key: BTreeMap<i64, Vec<(i64, bool)>> = BTreeMap::new();
        for row in &outcome.rows {
            let is_second = text(row, "version") == "version-0002";
            by_key.entry(int(row, "key")).or_default().push((int(row, "number"), is_second));
        }
        for (key, mut rows) in by_key {
            rows.sort_unstable();
            assert!(rows.iter().map(|row| row.0).eq(1..=rows.len() as i64), "key {key}");
            assert!(rows.is_sorted_by_key(|row| row.1) && rows[0].1 != rows[rows.len() - 1].1, "key {key}");
        }
        assert_eq!(total(&outcome.windows, "rows"), ROWS, "timers of the first version fire in the second");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_goes_wrong_changes_nothing() {
    let second = Second::new();
    for (mode, says) in [
        ("fails-one-row", "no, thank you"),
        ("too-few-rows-", "returned a batch of 1 rows, expected"),
        ("more-columns-", "returned 6 columns, expected the 4 of its signature"),
        ("none-at-all--", "returned 0 columns, expected the 4 of its signature"),
        ("loops-forever", "deadline"),
    ] {
        let step = kinds("migrate-sum-1").remove(0).1;
        // rows come on for as long as a guest that loops is waited for
        let (source, rows) = if says == "deadline" { (many(3), MANY) } else { (numbers(3), ROWS) };
        let job = start(source.step("sums", step.from("numbers")), &[], &["sums"]).await;
        let hostile = second.write("hostile-migrate", "trap-on-a-key", mode);
        let (outcome, refused) = swap_midway(job, "sums", &hostile, Result::unwrap_err).await;
        let refused = refused.to_string();
        assert!(refused.contains("step `sums` stays as it is") && refused.contains(says), "{mode}: {refused}");
        assert_each_once(&outcome.windows, rows);
        assert_eq!(total(&outcome.windows, "rows_2"), 0, "{mode}");
        assert!(outcome.dead.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_on_one_key_in_one_task_holds_all_tasks_back_and_is_told_with_the_key() {
    for parallelism in [1, 3] {
        // a thousand keys; it traps where a sum is 0, which is that of one key alone
        let sums = Step::aggregate().key_by(["amount"]).session(Duration::from_secs(100)).count("rows");
        let sums = sums.sum("amounts", "amount").component("sums", path("migrate-sum-1")).from("numbers");
        let job = start(many(parallelism).step("sums", sums), &[], &["sums"]).await;
        let (outcome, refused) = swap_midway(job, "sums", &other("hostile-migrate"), Result::unwrap_err).await;
        let refused = refused.to_string();
        assert!(
            refused.contains("of the key amount = 0: ") && refused.contains("a sum of 0 was not expected"),
            "{refused}"
        );
        assert_each_once(&outcome.windows, MANY);
        assert_eq!(total(&outcome.windows, "rows_2"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_migrates_back_where_the_older_version_can() {
    for parallelism in [1, 3] {
        let step = kinds("migrate-sum-1").remove(2).1;
        let job = start(many(parallelism).step("sums", step.from("numbers")), &[], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "numbers", ROWS / 4).await;
            swap(&handle, &[("sums", &other("migrate-sum-2"))]).await.unwrap();
            passed(&handle, "numbers", ROWS).await;
            let report = handle.rollback(&[]).await.unwrap();
            let verdict = serde_json::to_value(&report.swapped[0].verdict).unwrap();
            assert_eq!((&verdict["migrate"]["from"], &verdict["migrate"]["to"]), (&2.into(), &1.into()));
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        assert_each_once(&outcome.windows, MANY);
        assert_eq!(total(&outcome.windows, "rows_2"), 0, "on the way back all is counted as the first version's");
    }
}

/// The last result of each key that the parts of `out` hold.
fn shown(folder: &std::path::Path) -> BTreeMap<i64, Row> {
    let mut all: BTreeMap<i64, Row> = BTreeMap::new();
    for part in std::fs::read_dir(folder).unwrap() {
        for line in std::fs::read_to_string(part.unwrap().path()).unwrap().lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let key = int(&row, "key");
            if all.get(&key).is_none_or(|known| int(known, "rows") < int(&row, "rows")) {
                all.insert(key, row);
            }
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_of_a_checkpoint_is_migrated_when_another_version_goes_on_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let pipeline = |component: &str, parallelism: usize| {
        let sums = Step::aggregate().key_by(["key"]).count("rows").sum("amounts", "amount");
        Pipeline::new("restored")
            .checkpoint(file("state"), Duration::from_secs(60))
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)).parallelism(1))
            .step("sums", sums.component("sums", path(component)).from("numbers"))
            .sink("out", Sink::of(SinkKind::File { path: file("out/rows.json") }).from("sums"))
            .build()
            .unwrap()
    };
    let running = run::start(pipeline("migrate-sum-1", 1), &RunOptions::default()).await.unwrap();
    passed(&running.handle(), "numbers", ROWS / 3).await;
    running.handle().stop().await;
    running.wait().await.unwrap();

    let refused = run::start(pipeline("version-sum", 3), &RunOptions::default()).await.unwrap_err().to_string();
    assert!(refused.contains("does not take over") && refused.contains("migrate(1 = AccumulatorV1)"), "{refused}");

    // refused starts leave everything as it was
    let running = run::start(pipeline("migrate-sum-2", 3), &RunOptions::default()).await.unwrap();
    running.wait().await.unwrap();
    let last = shown(&folder.path().join("out"));
    assert_eq!(last.len(), 20);
    let rows: Vec<Row> = last.into_values().collect();
    assert_each_once(&rows, ROWS);
    assert!(rows.iter().all(|row| int(row, "rows_1") > 0 && int(row, "rows_2") > 0), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_leaves_out_what_migrates_ahead_also_of_state_that_may_spill() {
    let scratch = tempfile::tempdir().unwrap();
    let to = [("sums".to_owned(), other("migrate-sum-2"))];
    for spills in [false, true] {
        let sums = Step::aggregate().key_by(["amount"]).count("rows").sum("amounts", "amount");
        for sums in [sums.clone().latest(), sums.tumbling(Duration::from_secs(1_000))] {
            let mut pipeline = many(2).step("sums", sums.component("sums", path("migrate-sum-1")).from("numbers"));
            if spills {
                pipeline = pipeline.state(1 << 30, scratch.path().to_string_lossy());
            }
            let job = start(pipeline, &["sums"], &[]).await;
            let handle = job.handle();
            let asking = async {
                passed(&handle, "numbers", ROWS / 3).await;
                let plan = handle.plan(&to).await.unwrap();
                assert_eq!(plan.planned[0].migration, Some(MigrationPlan::Ahead), "spills: {spills}");
                assert_eq!(plan.expected_pause.unwrap().migration, None);
                handle.stop().await;
                drop(handle);
            };
            job.finish(asking).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_says_how_long_state_that_migrates_at_the_cut_would_take() {
    let to = [("sums".to_owned(), other("migrate-sum-2"))];
    for parallelism in [1, 2] {
        let sums = Step::aggregate().key_by(["amount"]).count("rows").sum("amounts", "amount").latest();
        let sums = sums.component("sums", path("migrate-sum-1")).from("numbers");
        let job = start(many(parallelism).step("sums", sums), &["sums"], &[]).await;
        let handle = job.handle();
        let asking = async {
            passed(&handle, "numbers", ROWS / 3).await;
            // a canary's state is put together with that of the running version where all stands still
            let canary = || TrialRequest { canary: Some("40%".into()), ..TrialRequest::default() };
            handle.try_out(&to, canary().read().unwrap()).await.unwrap();
            let plan = handle.plan(&to).await.unwrap();
            assert_eq!(plan.planned[0].migration, Some(MigrationPlan::AtCut));
            let pause = plan.expected_pause.unwrap();
            let migration = pause.migration.unwrap();
            // of a thousand keys those that are not the candidate's, in the task that has most of them
            let (least, most) = if parallelism == 1 { (500, 700) } else { (250, 600) };
            assert!((least..=most).contains(&migration.rows), "{migration:?}");
            assert_eq!(migration.row_from, RowFigure::Stated);
            assert!(pause.pause_ns >= migration.pause_ns && migration.pause_ns > 0, "{pause:?}");
            handle.promote().await.unwrap();
            // now it is known what a row costs
            let back = [("sums".to_owned(), other("migrate-sum-1"))];
            handle.try_out(&back, canary().read().unwrap()).await.unwrap();
            let migration = handle.plan(&back).await.unwrap().expected_pause.unwrap().migration.unwrap();
            assert_eq!(migration.row_from, RowFigure::LastMigration, "{migration:?}");
            handle.abandon_trial().await.unwrap();
            handle.stop().await;
            drop(handle);
        };
        job.finish(asking).await;
    }
}
