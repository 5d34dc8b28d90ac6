//! Pipelines whose rows flow on while processors, sessions, counted windows and state in the scratch store are migrated.

use std::collections::BTreeSet;

use super::*;

/// Keys, rows, and how many rows there are a second.
struct Load {
    keys: u64,
    rows: u64,
    rate: u64,
}

impl Load {
    /// What spills takes longer, on a machine that is busy, too.
    fn new(spills: bool) -> Self {
        if spills {
            Self { keys: 10_000, rows: 60_000, rate: 10_000 }
        } else {
            Self { keys: 40_000, rows: 240_000, rate: RATE }
        }
    }

    fn source(&self) -> Source {
        let kind = GeneratorKind::Sequence { keys: self.keys };
        let (rows, rate) = (Some(self.rows), Some(self.rate));
        Source::generator(GeneratorSpec { kind, rows, rate, seed: 3, start_ms: 0, interval_ns: None })
    }

    /// When most keys have come.
    fn midway(&self) -> u64 {
        2 * self.keys
    }
}

/// Where state may spill, if it is to: some of it fits into memory.
struct Scratch(Option<tempfile::TempDir>);

impl Scratch {
    fn new(spills: bool) -> Self {
        Self(spills.then(|| tempfile::tempdir().unwrap()))
    }

    fn of(&self, pipeline: Pipeline, parallelism: usize) -> Pipeline {
        let Some(folder) = &self.0 else { return pipeline };
        pipeline.state(parallelism * (96 << 10), folder.path().to_string_lossy())
    }
}

/// Numbers of each key's rows, and whether the second version gave them; in order, each once, the second's last.
fn assert_numbered_on(rows: &[Row]) {
    let mut by_key: BTreeMap<i64, Vec<(i64, bool)>> = BTreeMap::new();
    for row in rows {
        let is_second = text(row, "version") == "version-0002";
        by_key.entry(int(row, "key")).or_default().push((int(row, "number"), is_second));
    }
    for (key, mut rows) in by_key {
        rows.sort_unstable();
        assert!(rows.iter().map(|row| row.0).eq(1..=rows.len() as i64), "key {key}: {rows:?}");
        assert!(rows.is_sorted_by_key(|row| row.1), "key {key}: the old version counted after the new");
    }
}

fn assert_ahead(report: &SwapReport, load: &Load) {
    let migrated = report.migrated.unwrap();
    assert!(migrated.rows_ahead >= load.keys * 8 / 10 && migrated.rounds >= 2, "{migrated:?}");
    // how much has changed since the last piece is up to the machine
    assert!(migrated.rows_at_cut < load.keys / 3, "{migrated:?}");
}

async fn a_processor_goes_on(parallelism: usize, spills: bool) {
    let load = Load::new(spills);
    let scratch = Scratch::new(spills);
    let step = Step::process(path("version-process")).key_by(["key"]).side_output("totals").from("numbers");
    let pipeline = Pipeline::new("ahead").parallelism(parallelism).source("numbers", load.source()).step("count", step);
    let job = start(scratch.of(pipeline, parallelism), &["count"], &["totals"]).await;
    let handle = job.handle();
    let changing = async {
        passed(&handle, "count", load.midway()).await;
        assert_eq!(handle.status().node("count").unwrap().counts.spilled_bytes > 0, spills);
        let report = swap(&handle, &[("count", &built::guest("migrate-process-2").unwrap())]).await.unwrap();
        drop(handle);
        report
    };
    let (outcome, report) = job.finish(changing).await;
    assert_ahead(&report, &load);
    assert_eq!(outcome.rows.len() as u64, load.rows);
    assert_numbered_on(&outcome.rows);
    let versions: BTreeSet<&str> = outcome.rows.iter().map(|row| text(row, "version")).collect();
    assert_eq!(versions.len(), 2);
    // timers that the old version has set have stayed
    assert_eq!(total(&outcome.windows, "rows"), load.rows);
    assert!(outcome.dead.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_a_processor_of_many_keys_is_migrated() {
    a_processor_goes_on(1, false).await;
    a_processor_goes_on(3, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_a_processor_is_migrated_whose_keys_have_spilled() {
    a_processor_goes_on(1, true).await;
    a_processor_goes_on(3, true).await;
}

/// Aggregates, with so many accumulators half-way as there are keys.
fn aggregates() -> Vec<(&'static str, Step)> {
    let all = |step: Step| {
        let step = step.count("rows").sum("amounts", "amount").component("sums", path("migrate-sum-1"));
        step.from("numbers")
    };
    let by_key = || Step::aggregate().key_by(["key"]);
    let hours = Duration::from_secs(7_200);
    vec![
        ("session", all(by_key().session(hours))),
        ("count", all(by_key().window(WindowSpec::Count { rows: 4 }))),
        ("early", all(by_key().tumbling(hours).trigger(Trigger::Every { interval: hours / 2 }))),
        ("running", all(by_key().latest())),
        ("tumbling", all(by_key().tumbling(hours))),
        ("sliding", all(by_key().sliding(hours, hours / 2))),
    ]
}

async fn windows_go_on(parallelism: usize, spills: bool, kinds: &[&str]) {
    let load = Load::new(spills);
    for (kind, step) in aggregates().into_iter().filter(|(kind, _)| kinds.contains(kind)) {
        let scratch = Scratch::new(spills);
        let pipeline = Pipeline::new("ahead").parallelism(parallelism).source("numbers", load.source());
        let job = start(scratch.of(pipeline.step("sums", step), parallelism), &[], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "numbers", load.midway()).await;
            let status = handle.status();
            assert_eq!(status.node("sums").unwrap().counts.spilled_bytes > 0, spills, "{kind}");
            let report = swap(&handle, &[("sums", &built::guest("migrate-sum-2").unwrap())]).await.unwrap();
            drop(handle);
            report
        };
        let (outcome, report) = job.finish(changing).await;
        let migrated = report.migrated.unwrap();
        // counted windows come and go
        assert!(migrated.rows_ahead >= load.keys / 4 && migrated.rows_at_cut < load.keys / 3, "{kind}: {migrated:?}");
        for row in &outcome.windows {
            assert_eq!(int(row, "rows_1") + int(row, "rows_2"), int(row, "rows"), "{kind}: {row:?}");
            assert_eq!(int(row, "sum_1") + int(row, "sum_2"), int(row, "amounts"), "{kind}: {row:?}");
        }
        let of = |column| total(&outcome.windows, column);
        assert!(of("rows_1") > 0 && of("rows_2") > 0, "{kind}");
        match kind {
            "count" => assert!(outcome.windows.iter().all(|row| int(row, "rows") == 4), "{kind}"),
            // the last result of a key has all its rows
            "running" => {
                let mut last: BTreeMap<i64, i64> = BTreeMap::new();
                for row in &outcome.windows {
                    let rows = last.entry(int(row, "key")).or_default();
                    *rows = int(row, "rows").max(*rows);
                }
                assert_eq!(last.values().sum::<i64>().unsigned_abs(), load.rows, "{kind}");
            }
            // which is in two windows
            "sliding" => assert_eq!(of("rows"), 2 * load.rows, "{kind}"),
            _ => assert_eq!(of("rows"), load.rows, "{kind}"),
        }
        assert!(outcome.dead.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_windows_of_each_key_are_migrated() {
    windows_go_on(1, false, &["session", "count", "early"]).await;
    windows_go_on(3, false, &["session", "count", "early"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_windows_of_each_key_are_migrated_that_have_spilled() {
    windows_go_on(1, true, &["session", "early"]).await;
    windows_go_on(3, true, &["count"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_flow_on_while_aggregates_of_rows_and_of_slices_are_migrated_that_have_spilled() {
    windows_go_on(1, true, &["running", "tumbling", "sliding"]).await;
    windows_go_on(3, true, &["running", "tumbling", "sliding"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_a_processor_does_not_migrate_holds_all_tasks_back() {
    for (parallelism, spills) in [(1, false), (3, false), (3, true)] {
        // by a quarter of the rows there are keys with 13 rows
        let Load { keys, rows, rate } = Load::new(spills);
        let load = Load { keys: keys / 4, rows, rate };
        let scratch = Scratch::new(spills);
        let step = Step::process(path("version-process")).key_by(["key"]).side_output("totals").from("numbers");
        let pipeline = Pipeline::new("ahead").parallelism(parallelism).source("numbers", load.source());
        // they take little memory
        let pipeline = scratch.of(pipeline.step("count", step), 1);
        let job = start(pipeline, &["count"], &["totals"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "count", load.rows / 4).await;
            let hostile = kinds::traps_at_13();
            let refused = swap(&handle, &[("count", &hostile)]).await.unwrap_err();
            let said = refused.to_string();
            assert!(refused.code() == "migration" && said.contains("of the key key = "), "{said}");
            assert!(said.contains("13 rows were not expected"), "{said}");
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        assert_eq!(outcome.rows.len() as u64, load.rows);
        assert!(outcome.rows.iter().all(|row| text(row, "version") == "version-000a"));
        assert_numbered_on(&outcome.rows);
        assert_eq!(total(&outcome.windows, "rows"), load.rows);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_migrated_ahead_is_in_the_checkpoint_that_a_start_goes_on_from() {
    for spills in [false, true] {
        let load = Load::new(spills);
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(spills);
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let pipeline = |component: &str, parallelism: usize| {
            let step = Step::process(path(component)).key_by(["key"]).from("numbers");
            let pipeline = Pipeline::new("restored")
                .checkpoint(file("state"), Duration::from_secs(60))
                .parallelism(parallelism)
                .source("numbers", load.source().parallelism(1))
                .step("count", step)
                .sink("out", Sink::of(SinkKind::File { path: file("out/rows.json") }).from("count"));
            scratch.of(pipeline, parallelism).build().unwrap()
        };
        let running = run::start(pipeline("version-process", 1), &RunOptions::default()).await.unwrap();
        let handle = running.handle();
        passed(&handle, "numbers", load.keys).await;
        let report = swap(&handle, &[("count", &built::guest("migrate-process-2").unwrap())]).await.unwrap();
        assert!(report.migrated.unwrap().rows_ahead > 0);
        passed(&handle, "numbers", load.midway()).await;
        handle.stop().await;
        drop(handle);
        running.wait().await.unwrap();
        let running = run::start(pipeline("migrate-process-2", 3), &RunOptions::default()).await.unwrap();
        running.wait().await.unwrap();
        let mut rows: Vec<Row> = Vec::new();
        for part in std::fs::read_dir(folder.path().join("out")).unwrap() {
            let part = std::fs::read_to_string(part.unwrap().path()).unwrap();
            rows.extend(part.lines().map(|line| serde_json::from_str::<Row>(line).unwrap()));
        }
        assert_eq!(rows.len() as u64, load.rows);
        assert_numbered_on(&rows);
    }
}
