//! What is not done, or only where it is approved: the pipeline runs on as it was.

use millstream::control::{ApplyError, Effect};
use millstream::source::SourceKind;

use super::*;

fn sums(window: Duration, sink: Sink) -> Pipeline {
    Pipeline::new("sums")
        .source("numbers", generator())
        .step("sums", counts(window).from("numbers"))
        .sink("out", sink.from("sums"))
}

const WINDOW: Duration = Duration::from_secs(7);

async fn expected() -> Vec<String> {
    let (sink, rows) = channel();
    let running = start(sums(WINDOW, sink).build().unwrap()).await;
    let rows = run::collect(rows);
    running.wait().await.unwrap();
    sorted(&rows.await.unwrap())
}

fn total(rows: &[Row]) -> u64 {
    rows.iter().map(|row| row["rows"].as_u64().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_is_given_up_only_where_it_is_approved_by_name() {
    let (sink, rows) = channel();
    let running = start(sums(WINDOW, sink.clone()).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    passed(&handle, "sums", 20).await;
    let other = || sums(Duration::from_secs(5), sink.clone()).build().unwrap();
    for approved in [vec![], vec!["numbers".to_owned()]] {
        let error = handle.apply(other(), &approved).await.unwrap_err();
        let ApplyError::Unapproved { names, .. } = &error else { panic!("{error}") };
        assert_eq!(names, &["sums"]);
        assert!(error.to_string().contains("`--approve sums`"), "{error}");
    }
    assert_eq!(handle.status().generation, 0);
    let report = handle.apply(other(), &["sums".to_owned()]).await.unwrap();
    assert_eq!((report.effect, report.generation), (Some(Effect::DropsState), Some(1)));
    drop((handle, sink));
    running.wait().await.unwrap();
    let rows = rows.await.unwrap();
    let counted = total(&rows);
    // what an open window of 7 s had is gone, and nothing else
    assert!(counted < ROWS && counted + 7_000 >= ROWS, "{counted} of {ROWS}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_in_a_running_pipeline_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (expected, (sink, rows)) = (expected().await, channel());
    let running = start(sums(WINDOW, sink.clone()).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    passed(&handle, "numbers", ROWS / 8).await;
    let wanted = || sums(WINDOW, sink.clone()).build().unwrap();
    let mut other_rows = wanted();
    if let SourceKind::Generator(spec) = &mut other_rows.sources[0].kind.value {
        spec.seed += 1;
    }
    let mut other_name = wanted();
    other_name.name = "other".to_owned().into();
    let mut other_folder = wanted();
    other_folder.base = folder.path().to_owned();
    for (spec, part) in [(other_rows, "generator"), (other_name, "name"), (other_folder, "folder")] {
        let error = handle.apply(spec, &["numbers".to_owned()]).await.unwrap_err();
        let ApplyError::Restart(differences) = &error else { panic!("{error}") };
        assert_eq!(differences[0].key.as_deref(), Some(part), "{error}");
    }
    let mut other_component = wanted();
    other_component.steps.clear();
    other_component.sinks[0].from[0] = "nowhere".to_owned().into();
    assert_eq!(handle.apply(other_component, &[]).await.unwrap_err().code(), "wrong_pipeline");
    for (tasks, names) in [(0, vec![]), (129, vec![]), (2, vec!["sum".to_owned()])] {
        let code = handle.rescale(tasks, &names).await.unwrap_err().code();
        assert_eq!(code, if names.is_empty() { "wrong_value" } else { "unknown_name" });
    }
    assert_eq!(handle.status().generation, 0);
    running.wait().await.unwrap();
    assert_eq!(handle.rescale(2, &[]).await.unwrap_err().code(), "ended");
    drop((handle, sink));
    assert_eq!(sorted(&rows.await.unwrap()), expected);
}

/// The new shape has a sink whose folder is a file.
async fn goes_on_as_it_was(checkpoints: bool) {
    let (expected, folder) = (expected().await, tempfile::tempdir().unwrap());
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(text("file"), "in the way").unwrap();
    let pipeline = || {
        let pipeline = sums(WINDOW, Sink::file(text("out/rows.json")));
        if checkpoints { pipeline.checkpoint(text("state"), Duration::from_millis(50)) } else { pipeline }
    };
    let running = start(pipeline().build().unwrap()).await;
    let handle = running.handle();
    for turn in 1..=3 {
        passed(&handle, "numbers", turn * ROWS / 5).await;
        let wrong = pipeline().parallelism(3).sink("copy", Sink::file(text("file/rows.json")).from("numbers"));
        let error = handle.apply(wrong.build().unwrap(), &[]).await.unwrap_err();
        assert_eq!(error.code(), "cannot_start", "{error}");
        assert!(error.to_string().contains("sink `copy`"), "{error}");
        let status = handle.status();
        assert_eq!((status.generation, status.ended, tasks(&status, "sums")), (0, false, 1));
    }
    let status = running.wait().await.unwrap();
    assert_eq!(status.restarts.count, 0);
    assert_eq!(as_rows(&lines(&folder.path().join("out"))), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shape_that_cannot_start_leaves_the_old_one_running() {
    goes_on_as_it_was(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shape_that_cannot_start_leaves_the_old_one_running_on_its_checkpoints() {
    goes_on_as_it_was(true).await;
}
