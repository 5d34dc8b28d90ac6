//! Canaries that keep other state than the running version: their keys begin with a migrated copy, and the running version goes on
//! with the same keys unseen, so that it has them whole again at any moment.

use std::collections::BTreeSet;
use std::path::Path;

use millstream::control::{TrialRequest, TrialState, TrialStatus};

use super::*;

/// Rows of a run with a trial in it.
const ALL: u64 = 3 * ROWS;

fn other(guest: &str) -> PathBuf {
    built::guest(guest).unwrap()
}

async fn canary(handle: &Handle, step: &str, to: &Path, share: &str) -> Result<TrialStatus, SwapError> {
    let request = TrialRequest { canary: Some(share.into()), ..TrialRequest::default() };
    handle.try_out(&[(step.to_owned(), to.to_owned())], request.read()?).await
}

async fn end(handle: &Handle, is_promoted: bool) {
    let (state, expected) = match is_promoted {
        true => (handle.promote().await.unwrap().state, TrialState::Promoted),
        false => (handle.abandon_trial().await.unwrap().state, TrialState::RolledBack),
    };
    assert_eq!(state, expected);
}

fn numbers(parallelism: usize) -> Pipeline {
    Pipeline::new("canary").parallelism(parallelism).source("numbers", generator(Some(ALL), Some(RATE)))
}

/// A trial of the second version for a third of the rows, with windows that fire before, in and after it.
async fn tried(step: Step, parallelism: usize, is_promoted: bool) -> Vec<Row> {
    let job = start(numbers(parallelism).step("sums", step), &[], &["sums"]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "numbers", ALL / 4).await;
        canary(&handle, "sums", &other("migrate-sum-2"), "40%").await.unwrap();
        passed(&handle, "numbers", ALL / 4 * 3).await;
        end(&handle, is_promoted).await;
        let expected = if is_promoted { 2 } else { 1 };
        assert_eq!(handle.status().node("sums").unwrap().components[0].version, expected);
        drop(handle);
    };
    let (outcome, ()) = job.finish(trying).await;
    assert!(outcome.dead.is_empty());
    outcome.windows
}

/// Keys of windows in which the second version has counted.
fn of_second<'a>(windows: impl Iterator<Item = &'a Row>) -> BTreeSet<i64> {
    windows.filter(|row| int(row, "rows_2") > 0).map(|row| int(row, "key")).collect()
}

async fn windows_of_both(parallelism: usize, is_promoted: bool) {
    let step = summed(Step::aggregate().key_by(["key"]).tumbling(Duration::from_secs(2)));
    let windows = tried(step, parallelism, is_promoted).await;
    assert_each_once(&windows, ALL);
    let keys: BTreeSet<i64> = windows.iter().map(|row| int(row, "key")).collect();
    // of one window all keys have a row: before the trial, in it, at its end
    let mut by_number: BTreeMap<i64, usize> = BTreeMap::new();
    let nth: Vec<usize> = windows
        .iter()
        .map(|row| {
            let nth = by_number.entry(int(row, "key")).or_insert(0);
            *nth += 1;
            *nth
        })
        .collect();
    let last = nth.iter().copied().max().unwrap();
    let at =
        |wanted: usize| of_second(windows.iter().zip(&nth).filter(move |(_, nth)| **nth == wanted).map(|(row, _)| row));
    assert!(at(1).is_empty(), "before the trial");
    let tried = at(last / 2);
    assert!(!tried.is_empty() && tried.len() < keys.len(), "{tried:?} of {keys:?}");
    assert_eq!(at(last), if is_promoted { keys } else { BTreeSet::new() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_a_canary_are_its_own_until_it_goes_in_one_task() {
    windows_of_both(1, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_of_a_canary_are_its_own_until_it_goes_in_three_tasks() {
    windows_of_both(3, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_migrates_when_a_canary_is_promoted_in_one_task() {
    windows_of_both(1, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_migrates_when_a_canary_is_promoted_in_three_tasks() {
    windows_of_both(3, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_open_all_the_time_is_counted_under_the_version_that_fires_it() {
    for (parallelism, is_promoted) in [(1, true), (1, false), (3, true), (3, false)] {
        let windows = tried(
            summed(Step::aggregate().key_by(["key"]).session(Duration::from_secs(100))),
            parallelism,
            is_promoted,
        )
        .await;
        assert_each_once(&windows, ALL);
        assert_eq!(windows.len(), 20);
        if !is_promoted {
            assert_eq!(total(&windows, "rows_2"), 0, "the running version has seen all rows of the canary's keys");
            continue;
        }
        // what the canary has counted of its keys is not counted anew: theirs is half of the rows, of the others a quarter
        let (own, rest): (Vec<_>, Vec<_>) = windows.iter().partition(|row| int(row, "rows_2") * 2 > int(row, "rows"));
        assert!(!own.is_empty() && !rest.is_empty(), "{windows:?}");
        assert!(windows.iter().all(|row| int(row, "rows_1") > 0 && int(row, "rows_2") > 0), "{windows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_processor_goes_on_where_it_was_though_it_knows_nothing_of_what_its_canary_keeps() {
    for (parallelism, is_promoted) in [(1, true), (1, false), (3, true), (3, false)] {
        let step = Step::process(path("version-process")).key_by(["key"]).side_output("totals").from("numbers");
        let job = start(numbers(parallelism).step("count", step), &["count"], &["totals"]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "count", ALL / 4).await;
            canary(&handle, "count", &other("migrate-process-2"), "40%").await.unwrap();
            passed(&handle, "count", ALL / 4 * 3).await;
            end(&handle, is_promoted).await;
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        let mut by_key: BTreeMap<i64, Vec<(i64, &str)>> = BTreeMap::new();
        for row in &outcome.rows {
            by_key.entry(int(row, "key")).or_default().push((int(row, "number"), text(row, "version")));
        }
        let mut tried = 0;
        for (key, mut rows) in by_key {
            rows.sort_unstable();
            assert!(rows.iter().map(|row| row.0).eq(1..=rows.len() as i64), "key {key}: lost or doubled");
            let mut versions: Vec<&str> = rows.iter().map(|row| row.1).collect();
            versions.dedup();
            let [first, second] = ["version-000a", "version-0002"];
            match (is_promoted, versions.as_slice()) {
                (true, [from, to]) => assert_eq!((*from, *to), (first, second), "key {key}"),
                (false, [only]) => assert_eq!(*only, first, "key {key}"),
                (false, [before, within, after]) => {
                    assert_eq!((*before, *within, *after), (first, second, first), "key {key}");
                    tried += 1;
                }
                (_, found) => panic!("key {key} was of {found:?}"),
            }
        }
        assert!(is_promoted || (1..20).contains(&tried), "{tried} of 20 keys were tried");
        assert_eq!(total(&outcome.windows, "rows"), ALL, "timers fire once, in whichever version");
        assert_eq!(outcome.windows.len(), 20);
    }
}

/// A thousand keys; the candidate cannot migrate a sum of 0, which is that of one key alone.
fn by_amount(parallelism: usize) -> Pipeline {
    numbers(parallelism).step("sums", summed(Step::aggregate().key_by(["amount"]).session(Duration::from_secs(100))))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_in_the_migrated_share_leaves_all_keys_with_the_running_version() {
    for parallelism in [1, 3] {
        let job = start(by_amount(parallelism), &[], &["sums"]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "numbers", ALL / 4).await;
            // all groups but one
            let refused = canary(&handle, "sums", &other("hostile-migrate"), "99.9%").await.unwrap_err().to_string();
            assert!(refused.contains("of the key amount = 0: ") && refused.contains("a sum of 0"), "{refused}");
            let trial = handle.trial().unwrap();
            assert_eq!(trial.state, TrialState::RolledBack);
            assert!(trial.reason.is_some_and(|reason| reason.contains("of the key amount = 0: ")));
            // and what was refused is not in the way of another
            let trial = canary(&handle, "sums", &other("migrate-sum-2"), "99.9%").await.unwrap();
            assert_eq!(trial.steps[0].to_versions, [2], "what could not begin has taken no number");
            passed(&handle, "numbers", ALL / 2).await;
            end(&handle, true).await;
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        assert_each_once(&outcome.windows, ALL);
        assert!(total(&outcome.windows, "rows_2") >= ALL / 2 && outcome.dead.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_in_the_rest_leaves_the_trial_as_it_was() {
    for parallelism in [1, 3] {
        let job = start(by_amount(parallelism), &[], &["sums"]).await;
        let handle = job.handle();
        let trying = async {
            passed(&handle, "numbers", ALL / 4).await;
            // one group
            canary(&handle, "sums", &other("hostile-migrate"), "1%").await.unwrap();
            passed(&handle, "numbers", ALL / 2).await;
            let refused = handle.promote().await.unwrap_err();
            let said = refused.to_string();
            assert!(refused.code() == "migration" && said.contains("of the key amount = 0: "), "{said}");
            let trial = handle.trial().unwrap();
            assert_eq!(trial.state, TrialState::Running, "{trial:?}");
            assert!(trial.steps[0].candidate.rows_in > 0, "{trial:?}");
            passed(&handle, "numbers", ALL / 4 * 3).await;
            end(&handle, false).await;
            drop(handle);
        };
        let (outcome, ()) = job.finish(trying).await;
        assert_each_once(&outcome.windows, ALL);
        assert_eq!(total(&outcome.windows, "rows_2"), 0);
        assert!(outcome.dead.is_empty());
    }
}
