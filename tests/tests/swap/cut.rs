//! One barrier, one cut: through all tasks and all steps that change.

use super::*;

/// Three steps with an exchange between any two, all of which change at once.
async fn map_flat_map_and_sums_change_together(parallelism: usize) {
    let second = Second::new();
    let pipeline = Pipeline::new("together")
        .parallelism(parallelism)
        .source("numbers", generator(Some(ROWS), Some(RATE)))
        .step("tag", map().from("numbers"))
        // another number of tasks: rows change tasks here
        .step("copies", flat_map().from("tag").parallelism(parallelism + 1))
        .step("sums", sums(["key", "version", "copies"]).from("copies"));
    let job = start(pipeline, &["copies"], &["sums"]).await;
    let handle = job.handle();
    let changing = async {
        passed(&handle, "copies", ROWS / 4).await;
        let (map, flat_map, sums) = (second.map(), second.flat_map(), second.sums());
        let report = swap(&handle, &[("tag", &map), ("copies", &flat_map), ("sums", &sums)]).await.unwrap();
        assert_eq!(report.swapped.len(), 3);
        for swapped in &report.swapped {
            assert_eq!(digests(&handle.status(), &swapped.step), [swapped.to.as_str()], "{}", swapped.step);
        }
        drop(handle);
    };
    let (outcome, ()) = job.finish(changing).await;
    let by_task = second_by_task(&outcome.rows, ROWS, parallelism as u64, |second| if second { 2 } else { 1 });
    assert_one_cut(&by_task);
    for row in outcome.rows.iter().chain(&outcome.windows) {
        let pair = (text(row, "version"), text(row, "copies"));
        assert!([("version-000a", "once-a-row"), ("version-000b", "twice-rows")].contains(&pair), "{row:?}");
    }
    for row in &outcome.windows {
        let (of_first, of_second) = (int(row, "rows_a"), int(row, "rows_b"));
        assert_eq!(of_first + of_second, int(row, "rows"), "{row:?}");
        let other = if text(row, "version") == "version-000a" { of_second } else { of_first };
        assert_eq!(other, 0, "rows of one version of the map were folded by the other version of the sums: {row:?}");
    }
    assert_eq!(total(&outcome.windows, "rows"), outcome.rows.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_steps_change_between_the_same_two_rows_in_one_task() {
    map_flat_map_and_sums_change_together(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_steps_change_between_the_same_two_rows_in_three_tasks() {
    map_flat_map_and_sums_change_together(3).await;
}

/// Whether `kept`, in order, are the even ones of `rows` before a cut and the odd ones behind it.
fn is_even_then_odd(rows: &[i64], kept: &[i64]) -> bool {
    (0..=rows.len()).rev().any(|cut| {
        // cheap first: nearly all cuts are wrong by their number of rows
        let (before, behind) = rows.split_at(cut);
        let wanted = before.iter().filter(|n| *n % 2 == 0).chain(behind.iter().filter(|n| *n % 2 != 0));
        wanted.eq(kept)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_keeps_by_the_old_version_before_the_cut_and_by_the_new_one_behind_it() {
    let rows = 40_000;
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("filtered")
            .parallelism(parallelism)
            .source("numbers", generator(Some(rows), Some(RATE)))
            .step("some", Step::filter(path("version-filter")).from("numbers"));
        let job = start(pipeline, &["some"], &[]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "numbers", rows / 4).await;
            swap(&handle, &[("some", &second.filter())]).await.unwrap();
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        let mut kept: Vec<i64> = outcome.rows.iter().map(|row| int(row, "sequence")).collect();
        kept.sort_unstable();
        for task in 0..parallelism as i64 {
            let of_task = |n: &i64| n % parallelism as i64 == task;
            let all: Vec<i64> = (0..rows as i64).filter(of_task).collect();
            let kept: Vec<i64> = kept.iter().copied().filter(of_task).collect();
            assert!(kept.iter().any(|n| n % 2 != 0), "task {task} never changed");
            assert!(is_even_then_odd(&all, &kept), "task {task} of {parallelism} has no cut");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_in_a_row_lose_nothing() {
    for parallelism in [1, 3] {
        let (versions, first) = (Second::new(), built::guest("version-map").unwrap());
        let second = versions.map();
        let pipeline = Pipeline::new("often")
            .parallelism(parallelism)
            .source("numbers", generator(None, Some(RATE)))
            .step("tag", map().from("numbers"))
            .step("sums", sums(["key", "version"]).from("tag"));
        let job = start(pipeline, &["tag"], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            for number in 0..200 {
                let path = if number % 2 == 0 { &second } else { &first };
                let report = swap(&handle, &[("tag", path)]).await.unwrap();
                assert_eq!(digests(&handle.status(), "tag"), [report.swapped[0].to.as_str()]);
                // some with rows between them, some without
                tokio::time::sleep(Duration::from_millis(if number % 3 == 0 { 5 } else { 0 })).await;
            }
            handle.stop().await;
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        let read = outcome.status.node("numbers").unwrap().counts.rows_out;
        assert_eq!(outcome.rows.len() as u64, read);
        assert_eq!(total(&outcome.windows, "rows"), read);
        let mut versions: BTreeMap<i64, bool> = BTreeMap::new();
        for row in &outcome.rows {
            assert_eq!(versions.insert(int(row, "sequence"), text(row, "version") == "version-000b"), None, "{row:?}");
        }
        let of_first_task: Vec<bool> =
            versions.iter().filter(|(n, _)| *n % parallelism as i64 == 0).map(|(_, second)| *second).collect();
        let changes = of_first_task.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!((20..=200).contains(&changes), "{changes} changes are to be seen");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_logic_under_another_digest_gives_the_same_windows() {
    let folder = tempfile::tempdir().unwrap();
    let same = built::same_logic("version-sum", &folder.path().join("same.wasm")).unwrap();
    let mut results = Vec::new();
    for swapped in [false, true] {
        let pipeline = Pipeline::new("same")
            .parallelism(2)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("sums", sums(["key"]).from("numbers"));
        let job = start(pipeline, &[], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "numbers", ROWS / 3).await;
            if swapped {
                let report = swap(&handle, &[("sums", &same)]).await.unwrap();
                assert_ne!(report.swapped[0].from, report.swapped[0].to);
            }
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        let mut windows: Vec<String> = outcome.windows.into_iter().map(|row| Value::Object(row).to_string()).collect();
        windows.sort();
        results.push(windows);
    }
    assert!(results[0].len() > 100);
    assert_eq!(results[0], results[1]);
}
