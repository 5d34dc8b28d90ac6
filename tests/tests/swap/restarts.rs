//! Components that were swapped in, and handles, in a pipeline that fails and is started again.

use std::path::Path;

use millstream::pipeline::spec::RestartSpec;

use super::*;

/// A pipeline that writes to the link `out`.
fn pipeline(folder: &Path) -> Pipeline {
    let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
    Pipeline::new("restarted")
        .checkpoint(text("state"), Duration::from_millis(20))
        .restart(RestartSpec {
            attempts: 1_000.into(),
            first: Duration::from_millis(10).into(),
            max: Duration::from_millis(50).into(),
            ..RestartSpec::default()
        })
        .parallelism(2)
        .source("numbers", generator(Some(ROWS), Some(RATE)))
        .step("mapped", map().from("numbers"))
        .sink("out", Sink::of(SinkKind::File { path: text("out/rows.json") }).from("mapped"))
}

fn link(folder: &Path, to: &str) {
    let part = folder.join("link");
    std::os::unix::fs::symlink(to, &part).unwrap();
    std::fs::rename(&part, folder.join("out")).unwrap();
}

async fn until(handle: &Handle, what: &str, is_so: impl Fn(&Status) -> bool) {
    let watch = Stopwatch::start();
    while !is_so(&handle.status()) {
        assert!(watch.elapsed() < PATIENCE, "not {what}: {:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_was_swapped_in_stays_in_when_the_pipeline_is_started_again() {
    let (second, folder) = (Second::new(), tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("shown")).unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    link(folder.path(), "shown");
    let running = run::start(pipeline(folder.path()).build().unwrap(), &RunOptions::default()).await.unwrap();
    let handle = running.handle();
    let first = digests(&handle.status(), "mapped");
    swap(&handle, &[("mapped", &second.map())]).await.unwrap();
    let swapped = digests(&handle.status(), "mapped");
    assert_ne!(first, swapped);
    let made = handle.status().checkpoints.unwrap().made;
    until(&handle, "kept", |status| status.checkpoints.as_ref().unwrap().made > made + 1).await;

    link(folder.path(), "file");
    until(&handle, "down", |status| status.restarts.count > 0).await;
    // waits until there is something to swap
    let original = PathBuf::from(path("version-map"));
    let again = tokio::spawn({
        let handle = handle.clone();
        async move { swap(&handle, &[("mapped", &original)]).await }
    });
    link(folder.path(), "shown");
    let report = again.await.unwrap().unwrap();
    assert_eq!(vec![report.swapped[0].from.clone()], swapped, "the version of the checkpoint runs after the restart");
    assert_eq!(digests(&handle.status(), "mapped"), first);

    let status = running.wait().await.unwrap();
    assert!(status.restarts.count > 0 && status.restarts.next_try_ms.is_none(), "{:?}", status.restarts);
    let mut versions: BTreeMap<u64, String> = BTreeMap::new();
    for part in std::fs::read_dir(folder.path().join("shown")).unwrap() {
        for line in std::fs::read_to_string(part.unwrap().path()).unwrap().lines() {
            let row: Row = serde_json::from_str(line).unwrap();
            let before = versions.insert(row["sequence"].as_u64().unwrap(), text(&row, "version").to_owned());
            assert_eq!(before, None, "twice: {row:?}");
        }
    }
    assert_eq!(versions.len() as u64, ROWS, "rows are missing");
    let by_second = versions.values().filter(|version| *version == "version-000b").count();
    assert!(by_second > 0 && by_second < versions.len(), "{by_second} rows under the second version");
}
