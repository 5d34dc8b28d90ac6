//! Candidates tried while rows flow: beside the running version, for a share of its keys, or in its place and watched.
//! Whatever becomes of them, no row is lost, doubled or under two versions.

use std::collections::BTreeSet;
use std::path::Path;

use millstream::capsule;
use millstream::control::{TrialRequest, TrialState, TrialStatus};
use millstream::pipeline::spec::CapsulesSpec;

use super::*;

fn shadow(during: &str, rollback_on: &str) -> TrialRequest {
    TrialRequest { shadow: Some(during.into()), ..budgets(rollback_on) }
}

fn canary(share: &str, rollback_on: &str) -> TrialRequest {
    TrialRequest { canary: Some(share.into()), ..budgets(rollback_on) }
}

fn watch(during: &str, rollback_on: &str) -> TrialRequest {
    TrialRequest { watch: Some(during.into()), ..budgets(rollback_on) }
}

fn budgets(rollback_on: &str) -> TrialRequest {
    let rollback_on = (!rollback_on.is_empty()).then(|| rollback_on.to_owned());
    TrialRequest { rollback_on, ..TrialRequest::default() }
}

async fn try_out(
    handle: &Handle,
    offers: &[(&str, &PathBuf)],
    request: &TrialRequest,
) -> Result<TrialStatus, SwapError> {
    let offers: Vec<_> = offers.iter().map(|(step, path)| ((*step).to_owned(), (*path).clone())).collect();
    handle.try_out(&offers, request.read()?).await
}

/// Waits until the trial is over.
async fn over(handle: &Handle) -> TrialStatus {
    let watch = Stopwatch::start();
    loop {
        let trial = handle.trial().unwrap();
        if trial.state.is_over() {
            return trial;
        }
        assert!(watch.elapsed() < PATIENCE, "the trial goes on for ever: {trial:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Which version saw each row; every row came once.
fn version_by_row(rows: &[Row]) -> BTreeMap<i64, String> {
    let mut seen = BTreeMap::new();
    for row in rows {
        let before = seen.insert(int(row, "sequence"), text(row, "version").to_owned());
        assert_eq!(before, None, "came twice: {row:?}");
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_differs_in_every_row_and_none_of_its_rows_leaves() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("shadowed")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("tag", map().from("numbers"));
        let job = start(pipeline, &["tag"], &[]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "tag", ROWS / 10).await;
            let started = try_out(&handle, &[("tag", &second.map())], &shadow("300ms", "")).await.unwrap();
            assert_eq!(started.state, TrialState::Running);
            let refused = swap(&handle, &[("tag", &second.map())]).await.unwrap_err();
            assert_eq!(refused.to_string(), "a trial of `tag` goes on; end it with `promote` or `rollback` first");
            let trial = over(&handle).await;
            assert_eq!(trial.state, TrialState::Finished);
            let step = &trial.steps[0];
            assert!(step.compared > 1_000, "{trial:?}");
            assert_eq!(
                (step.differing, step.only_running, step.only_candidate),
                (step.compared, step.compared, step.compared)
            );
            assert_eq!((step.running.rows_out, step.candidate.rows_out), (step.compared, step.compared));
            assert!(step.candidate.p99_ns.unwrap() >= step.candidate.p50_ns.unwrap());
            let example = &step.examples[0];
            assert!(example.running.as_ref().unwrap().contains("version-000a"), "{example:?}");
            let theirs = example.candidate.as_ref().unwrap();
            assert_eq!(theirs.replace("version-000b", "version-000a"), *example.running.as_ref().unwrap());
            assert_eq!(digests(&handle.status(), "tag"), step.from);
            assert_eq!(handle.history()["tag"].len(), 1);
            // and what is over is out of the way
            swap(&handle, &[("tag", &second.map())]).await.unwrap();
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        assert_one_cut(&second_by_task(&outcome.rows, ROWS, parallelism as u64, |_| 1));
        assert!(outcome.dead.is_empty());
    }
}

/// Windows of a run, with a trial of `tried` for a part of it.
async fn windows_with(
    parallelism: usize,
    tried: Option<(&PathBuf, &TrialRequest, &str)>,
) -> (Vec<String>, Option<TrialStatus>) {
    let pipeline = Pipeline::new("same")
        .parallelism(parallelism)
        .source("numbers", generator(Some(ROWS), Some(RATE)))
        .step("sums", sums(["key"]).from("numbers"));
    let job = start(pipeline, &[], &["sums"]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "numbers", ROWS / 4).await;
        let mut trial = None;
        if let Some((path, request, end)) = tried {
            try_out(&handle, &[("sums", path)], request).await.unwrap();
            let rows_out = handle.status().node("numbers").unwrap().counts.rows_out;
            passed(&handle, "numbers", rows_out + ROWS / 3).await;
            trial = Some(match end {
                "promote" => handle.promote().await.unwrap(),
                "abandon" => handle.abandon_trial().await.unwrap(),
                _ => over(&handle).await,
            });
        }
        drop(handle);
        trial
    };
    let (outcome, trial) = job.finish(trying).await;
    let mut windows: Vec<String> = outcome.windows.into_iter().map(|row| Value::Object(row).to_string()).collect();
    windows.sort();
    (windows, trial)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_logic_tried_in_any_way_gives_the_same_windows() {
    let folder = tempfile::tempdir().unwrap();
    let same = built::same_logic("version-sum", &folder.path().join("same.wasm")).unwrap();
    let (expected, _) = windows_with(2, None).await;
    assert!(expected.len() > 100);
    for parallelism in [1, 3] {
        for (request, end) in [
            (shadow("200ms", "diff>0%,traps>0"), ""),
            (shadow("1h", ""), "promote"),
            (canary("30%", "traps>0"), "promote"),
            (canary("30%", ""), "abandon"),
        ] {
            let (windows, trial) = windows_with(parallelism, Some((&same, &request, end))).await;
            let trial = trial.unwrap();
            assert_eq!(windows, expected, "{request:?} {end}: {trial:?}");
            let state = match end {
                "promote" => TrialState::Promoted,
                "abandon" => TrialState::RolledBack,
                _ => TrialState::Finished,
            };
            assert_eq!((trial.state, trial.steps[0].differing), (state, 0), "{trial:?}");
            assert!(trial.steps[0].candidate.rows_in > 0, "{trial:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_has_its_keys_until_it_is_promoted_or_goes() {
    for (parallelism, is_promoted) in [(1, true), (3, true), (3, false)] {
        let second = Second::new();
        let pipeline = Pipeline::new("canary")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("tag", map().from("numbers"));
        let job = start(pipeline, &["tag"], &[]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "tag", ROWS / 10).await;
            let request = TrialRequest { by: vec!["key".into()], ..canary("40%", "traps>0") };
            let started = try_out(&handle, &[("tag", &second.map())], &request).await.unwrap();
            assert_eq!(started.share_percent, Some(51.0 / 128.0 * 100.0));
            let begun = handle.status().node("numbers").unwrap().counts.rows_out as i64;
            passed(&handle, "tag", ROWS / 4 * 3).await;
            let until = handle.status().node("tag").unwrap().counts.rows_out as i64;
            let trial = match is_promoted {
                true => handle.promote().await.unwrap(),
                false => handle.abandon_trial().await.unwrap(),
            };
            let now = digests(&handle.status(), "tag");
            assert_eq!(now, if is_promoted { &trial.steps[0].to } else { &trial.steps[0].from }[..]);
            assert_eq!(handle.history()["tag"].len(), 1 + usize::from(is_promoted));
            drop(handle);
            (begun, until, trial)
        };
        let (outcome, (begun, until, trial)) = job.finish(trying).await;
        assert_eq!(version_by_row(&outcome.rows).len() as u64, ROWS);
        // well within the trial: what was in the pipeline when it began or ended may be on either side of its cut
        let margin = 10_000;
        let during = |row: &&Row| (begun + margin..until - margin).contains(&int(row, "sequence"));
        let keys = |version: &str| -> BTreeSet<i64> {
            let of_version = outcome.rows.iter().filter(during).filter(|row| text(row, "version") == version);
            of_version.map(|row| int(row, "key")).collect()
        };
        let (of_first, of_second) = (keys("version-000a"), keys("version-000b"));
        assert!(!of_first.is_empty() && !of_second.is_empty(), "{begun} {until} {of_first:?} {of_second:?}");
        assert!(of_first.is_disjoint(&of_second), "{of_first:?} {of_second:?}");
        let step = &trial.steps[0];
        assert!(step.candidate.rows_in > 0 && step.candidate.rows_in == step.candidate.rows_out);
        let last = outcome.rows.iter().max_by_key(|row| int(row, "sequence")).unwrap();
        if is_promoted {
            assert_eq!(text(last, "version"), "version-000b");
        }
        let seconds = outcome.rows.iter().filter(|row| text(row, "version") == "version-000b").count() as u64;
        if !is_promoted {
            assert_eq!(seconds, step.candidate.rows_out);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_row_of_a_canary_is_counted_under_one_version_and_state_moves_with_its_key() {
    for (parallelism, is_promoted) in [(1, true), (1, false), (3, true), (3, false)] {
        let second = Second::new();
        let pipeline = Pipeline::new("counted")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("count", Step::process(path("version-process")).key_by(["key"]).from("numbers"))
            .step("sums", sums(["key"]).from("numbers"));
        let job = start(pipeline, &["count"], &["sums"]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "count", ROWS / 4).await;
            let other = second.write("version-process", "version-000a", "version-000b");
            let offers = [("count", &other), ("sums", &second.sums())];
            let trial = try_out(&handle, &offers, &canary("30%", "traps>0,p99>1000x")).await.unwrap();
            assert_eq!(trial.steps.len(), 2);
            passed(&handle, "count", ROWS / 2).await;
            match is_promoted {
                true => handle.promote().await.unwrap(),
                false => handle.abandon_trial().await.unwrap(),
            };
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        assert_eq!(version_by_row(&outcome.rows).len() as u64, ROWS);
        let mut by_key: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut versions: BTreeMap<i64, BTreeSet<&str>> = BTreeMap::new();
        for row in &outcome.rows {
            by_key.entry(int(row, "key")).or_default().push(int(row, "number"));
            versions.entry(int(row, "key")).or_default().insert(text(row, "version"));
        }
        for (key, mut numbers) in by_key {
            numbers.sort_unstable();
            assert!(numbers.iter().copied().eq(1..=numbers.len() as i64), "key {key}: state was lost or doubled");
        }
        let tried = versions.values().filter(|versions| versions.contains("version-000b")).count();
        assert!(
            if is_promoted { tried == versions.len() } else { tried > 0 && tried < versions.len() },
            "{versions:?}"
        );
        for row in &outcome.windows {
            assert_eq!(int(row, "rows_a") + int(row, "rows_b"), int(row, "rows"), "{row:?}");
        }
        assert!(total(&outcome.windows, "rows_b") > 0);
        assert_eq!(total(&outcome.windows, "rows"), ROWS);
    }
}

/// A version of the map that traps on every thousandth row.
fn trapping(second: &Second) -> PathBuf {
    second.write("version-map", "version-000a", "trap-0001000")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_running_version_does_wrong_while_it_is_timed_is_not_on_the_account_of_who_follows_it() {
    let second = Second::new();
    let pipeline = Pipeline::new("mended")
        .source("numbers", generator(None, Some(RATE)))
        .step("tag", Step::map(trapping(&second).to_string_lossy()).keep_all().from("numbers"));
    let job = start(pipeline, &["tag"], &[]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "tag", 2_000).await;
        // timed for half a second, in which it traps once in 1,000 rows
        let request = watch("500ms", "traps>0,p99>1000000x");
        try_out(&handle, &[("tag", &second.map())], &request).await.unwrap();
        let trial = over(&handle).await;
        assert_eq!(trial.state, TrialState::Finished, "{trial:?}");
        assert!(trial.steps[0].running.traps > 0 && trial.steps[0].candidate.traps == 0, "{trial:?}");
        handle.stop().await;
        drop(handle);
    };
    let (outcome, ()) = job.finish(trying).await;
    assert!(outcome.dead.iter().all(|letter| int(letter, "version") == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_traps_is_taken_back_by_itself_and_loses_nothing() {
    for parallelism in [1, 3] {
        for request in [shadow("1h", "traps>0"), canary("50%", "traps>0,dead>1000"), watch("1h", "traps>2")] {
            let second = Second::new();
            let kept = tempfile::tempdir().unwrap();
            let capsules = CapsulesSpec {
                folder: Some(kept.path().display().to_string().into()),
                keep: 3.into(),
                ..CapsulesSpec::default()
            };
            let pipeline = Pipeline::new("trapping")
                .parallelism(parallelism)
                .capsules(capsules)
                .source("numbers", generator(Some(ROWS), Some(RATE)))
                .step("tag", map().from("numbers"));
            let job = start(pipeline, &["tag"], &[]).await;
            let handle = job.handle();
            let trying = async {
                passed(&handle, "tag", ROWS / 20).await;
                try_out(&handle, &[("tag", &trapping(&second))], &request).await.unwrap();
                let trial = over(&handle).await;
                assert_eq!(trial.state, TrialState::RolledBack, "{trial:?}");
                assert!(trial.breach.as_ref().unwrap().budget.starts_with("traps>"), "{trial:?}");
                assert!(trial.steps[0].candidate.traps > 0 && trial.steps[0].running.traps == 0, "{trial:?}");
                assert_eq!(digests(&handle.status(), "tag"), trial.steps[0].from);
                drop(handle);
                trial
            };
            let (outcome, trial) = job.finish(trying).await;
            let seen = version_by_row(&outcome.rows);
            let dead: BTreeSet<i64> = outcome
                .dead
                .iter()
                .map(|letter| {
                    assert_eq!(text(letter, "component"), trial.steps[0].to[0]);
                    assert_eq!(int(letter, "version"), 2);
                    assert!(text(letter, "capsule").starts_with(&kept.path().display().to_string()), "{letter:?}");
                    let row: Row = serde_json::from_str(text(letter, "row")).unwrap();
                    int(&row, "sequence")
                })
                .collect();
            assert_eq!(dead.len(), outcome.dead.len());
            assert!(dead.iter().all(|row| row % 1_000 == 0 && !seen.contains_key(row)), "{dead:?}");
            assert_eq!(seen.len() + dead.len(), ROWS as usize, "{request:?}");
            assert_eq!(dead.is_empty(), request.shadow.is_some());
            if request.shadow.is_some() {
                assert!(seen.values().all(|version| version == "version-000a"));
            }
            assert_capsules_of_candidate(kept.path(), &trial, request.watch.is_none());
        }
    }
}

/// There are some, bounded as all are, that say which version they are of.
fn assert_capsules_of_candidate(folder: &Path, trial: &TrialStatus, beside: bool) {
    let listed = capsule::list(folder).unwrap();
    assert!((1..=3).contains(&listed.len()), "{} capsules", listed.len());
    for one in listed {
        let kept = capsule::Capsule::from_bytes(&std::fs::read(&one.path).unwrap()).unwrap();
        let (component, name) = (&kept.facts.component, one.path.file_name().unwrap().to_string_lossy().into_owned());
        assert_eq!((component.version, &component.digest), (Some(2), &trial.steps[0].to[0]));
        assert_eq!((component.candidate, name.contains("-candidate-")), (beside, beside), "{name}");
        assert!(capsule::replay(&kept, &run::sandbox().unwrap(), None, &|_| None).unwrap().same);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_over_its_budget_of_differences_goes_and_a_watched_swap_within_its_budget_stays() {
    let second = Second::new();
    let pipeline =
        Pipeline::new("differing").source("numbers", generator(None, Some(RATE))).step("tag", map().from("numbers"));
    let job = start(pipeline, &["tag"], &[]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "tag", 5_000).await;
        try_out(&handle, &[("tag", &second.map())], &shadow("1h", "diff>0.1%,traps>0")).await.unwrap();
        let trial = over(&handle).await;
        assert_eq!(trial.state, TrialState::RolledBack);
        let breach = trial.breach.unwrap();
        assert_eq!(breach.budget, "diff>0.1%");
        assert!(breach.measured.ends_with("rows differ, 100.000%"), "{}", breach.measured);

        try_out(&handle, &[("tag", &second.map())], &watch("300ms", "traps>0,p99>1000x")).await.unwrap();
        let trial = over(&handle).await;
        assert_eq!(trial.state, TrialState::Finished, "{trial:?}");
        let step = &trial.steps[0];
        assert!(step.running.rows_in > 1_000 && step.candidate.rows_in > 1_000, "{trial:?}");
        assert_eq!(digests(&handle.status(), "tag"), step.to);
        // and what it replaced can still come back
        let back = handle.rollback(&[]).await.unwrap();
        assert_eq!(back.swapped[0].to, step.from[0]);
        handle.stop().await;
        drop(handle);
    };
    let (outcome, ()) = job.finish(trying).await;
    assert_eq!(version_by_row(&outcome.rows).len(), outcome.rows.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_tried_is_refused_with_why() {
    let second = Second::new();
    let pipeline = Pipeline::new("refusing")
        .source("numbers", generator(None, Some(RATE)))
        .step("tag", map().from("numbers"))
        .step("sums", sums([]).from("tag"));
    let job = start(pipeline, &["tag"], &["sums"]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "tag", 5_000).await;
        let (map, sums) = (second.map(), second.sums());
        let average = built::guest("average").unwrap();
        let by = |column: &str| TrialRequest { by: vec![column.into()], ..canary("10%", "") };
        for (step, path, request, why) in [
            (
                "sums",
                &sums,
                canary("10%", ""),
                "step `sums` cannot try a candidate: it has no keys that could be divided",
            ),
            ("tag", &map, by("kee"), "no column `kee` reaches it; there are"),
            ("sums", &average, shadow("1s", ""), "does not fit step `sums`"),
            ("tagg", &map, shadow("1s", ""), "did you mean `tag`?"),
            ("tag", &map, canary("10%", "diff>1%"), "`diff>1%` cannot be judged here"),
        ] {
            let refused = try_out(&handle, &[(step, path)], &request).await.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
            assert!(handle.trial().is_none());
        }
        for refused in [handle.promote().await, handle.abandon_trial().await] {
            assert_eq!(refused.unwrap_err().code(), "no_trial");
        }
        try_out(&handle, &[("tag", &map)], &shadow("1h", "")).await.unwrap();
        let twice = try_out(&handle, &[("sums", &sums)], &shadow("1h", "")).await.unwrap_err();
        assert_eq!(twice.code(), "trial_runs");
        handle.stop().await;
        assert_eq!(over(&handle).await.state, TrialState::PipelineEnded);
        drop(handle);
    };
    job.finish(trying).await;
}
