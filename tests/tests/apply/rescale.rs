//! Another number of tasks.

use super::*;

fn windows() -> Pipeline {
    Pipeline::new("windows")
        .source("numbers", generator())
        .step("tag", Step::map(path("version-map")).keep_all().from("numbers"))
        .step("sums", counts(Duration::from_secs(7)).component("mixed", path("version-sum")).from("tag"))
}

async fn expected() -> Vec<String> {
    let (sink, rows) = channel();
    unchanged(windows(), sink.from("sums"), rows).await
}

/// 1 task, 3, 1 again, while rows flow.
async fn there_and_back(handle: &Handle) {
    for (turn, tasks_wanted) in [(1, 3), (2, 1)] {
        passed(handle, "numbers", turn * ROWS / 4).await;
        let report = handle.rescale(tasks_wanted, &[]).await.unwrap();
        assert_eq!(report.generation, Some(turn), "{report:?}");
        let status = handle.status();
        assert_eq!((status.generation, status.ended), (turn, false));
        for node in ["numbers", "tag", "sums"] {
            assert_eq!(tasks(&status, node), tasks_wanted, "{node}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_go_on_in_three_tasks_and_in_one_again() {
    let expected = expected().await;
    let (sink, rows) = channel();
    let running = start(windows().sink("out", sink.from("sums")).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    there_and_back(&handle).await;
    drop(handle);
    let status = running.wait().await.unwrap();
    assert_eq!(status.node("numbers").unwrap().counts.rows_out, ROWS, "counts go on");
    assert_eq!(sorted(&rows.await.unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_goes_on_where_it_was_without_checkpoints() {
    let (expected, folder) = (expected().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("out/rows.json").to_string_lossy().into_owned();
    let running = start(windows().sink("out", Sink::file(file).from("sums")).build().unwrap()).await;
    there_and_back(&running.handle()).await;
    running.wait().await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path().join("out")).unwrap().count(), 1, "one file");
    assert_eq!(as_rows(&lines(&folder.path().join("out"))), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_sink_with_other_tasks_stand_beside_those_that_were_there() {
    let (expected, folder) = (expected().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("out/rows.json").to_string_lossy().into_owned();
    let running = start(windows().sink("out", Sink::file(file).from("sums")).build().unwrap()).await;
    let handle = running.handle();
    for (turn, tasks_wanted) in [(1, 3), (2, 1)] {
        passed(&handle, "sums", turn * 40).await;
        handle.rescale(tasks_wanted, &["out".to_owned(), "sums".to_owned()]).await.unwrap();
    }
    running.wait().await.unwrap();
    let out = folder.path().join("out");
    for name in ["rows.json", "rows.1-0.json", "rows.1-1.json", "rows.1-2.json", "rows.2.json"] {
        assert!(out.join(name).is_file(), "{name} is missing");
    }
    assert_eq!(as_rows(&lines(&out)), expected);
}

/// With checkpoints; `each` ms between them.
async fn with_checkpoints(each: u64) {
    let (expected, folder) = (expected().await, tempfile::tempdir().unwrap());
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (sink, rows) = channel();
    let pipeline = windows().checkpoint(text("state"), Duration::from_millis(each));
    let pipeline = pipeline.sink("out", Sink::file(text("out/rows.json")).from("sums"));
    let running = start(pipeline.sink("seen", sink.from("sums")).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    there_and_back(&handle).await;
    drop(handle);
    let status = running.wait().await.unwrap();
    assert_eq!(status.restarts.count, 0, "a change is no failure");
    assert_eq!(as_rows(&lines(&folder.path().join("out"))), expected);
    assert_eq!(sorted(&rows.await.unwrap()), expected, "also where rows are shown at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_go_on_with_frequent_checkpoints() {
    with_checkpoints(10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_go_on_where_a_change_is_the_only_reason_for_a_checkpoint() {
    with_checkpoints(3_600_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_one_after_the_other_without_a_pause_lose_nothing() {
    let expected = expected().await;
    let (sink, rows) = channel();
    let running = start(windows().sink("out", sink.from("sums")).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    for turn in 0..12 {
        handle.rescale(1 + turn % 4, &[]).await.unwrap();
    }
    drop(handle);
    running.wait().await.unwrap();
    assert_eq!(sorted(&rows.await.unwrap()), expected);
}
