//! Configuration, components, sinks and branches that change.

use millstream::control::{Effect, Part};

use super::*;

/// Rows under a name that is configured.
fn named(name: &str) -> Pipeline {
    Pipeline::new("named")
        .source("numbers", generator())
        .step("numbered", Step::select(["sequence"]).renamed("sequence", "counter").from("numbers"))
        .step("named", Step::map(path("named")).config("name", name).from("numbered"))
}

fn number(row: &Row, column: &str) -> u64 {
    row[column].as_u64().unwrap_or_else(|| panic!("no {column} in {row:?}"))
}

/// Each number once, and those before some number under `first`, the others under `second`.
fn assert_one_cut(rows: &[Row], column: &str, (first, second): (&str, &str)) {
    let mut seen: Vec<(u64, &str)> =
        rows.iter().map(|row| (number(row, "counter"), row[column].as_str().unwrap())).collect();
    seen.sort_unstable();
    assert!(seen.iter().map(|(number, _)| *number).eq(0..ROWS), "{} rows", seen.len());
    let cut = seen.partition_point(|(_, by)| *by == first);
    assert!(cut > 0 && cut < seen.len(), "{cut}");
    assert!(seen[cut..].iter().all(|(_, by)| *by == second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_changes_at_a_barrier_and_stays_through_changes_of_shape() {
    let (sink, rows) = channel();
    let running = start(named("first").sink("out", sink.from("named")).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    passed(&handle, "named", ROWS / 8).await;

    let wrong = handle.set(&[("named.nmae".to_owned(), "second".to_owned())]).await.unwrap_err();
    assert!(wrong.to_string().contains("nmae"), "{wrong}");
    let unknown = handle.set(&[("name.name".to_owned(), "second".to_owned())]).await.unwrap_err();
    assert!(unknown.to_string().contains("did you mean `named`?"), "{unknown}");

    let report = handle.set(&[("named.name".to_owned(), "second".to_owned())]).await.unwrap();
    let [difference] = report.differences.as_slice() else { panic!("{report:?}") };
    assert_eq!(difference.to_string(), "step `named`: config.name \"first\" → \"second\"");
    assert_eq!((report.effect, report.generation, handle.status().generation), (Some(Effect::Swap), None, 0));
    passed(&handle, "named", ROWS / 2).await;
    assert_eq!(handle.rescale(2, &["named".to_owned()]).await.unwrap().generation, Some(1));
    let report = handle.set(&[("named.limits.memory".to_owned(), "32MiB".to_owned())]).await.unwrap();
    assert_eq!((report.effect, report.generation, handle.status().generation), (Some(Effect::Swap), None, 1));
    let running_now = handle.status().node("named").unwrap().components.clone();
    assert_eq!((running_now.len(), running_now[0].version), (1, 3), "the same component under other limits");
    drop(handle);
    running.wait().await.unwrap();
    assert_one_cut(&rows.await.unwrap(), "source", ("first", "second"));
}

/// A configuration and the number of tasks change together; the version and its number go on through what follows.
async fn set_with_parallelism(checkpoints: bool) {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (sink, rows) = channel();
    let mut pipeline = named("first");
    if checkpoints {
        pipeline = pipeline.checkpoint(text("state"), Duration::from_millis(200));
    }
    let running = start(pipeline.sink("out", sink.from("named")).build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    let version = |handle: &Handle| handle.status().node("named").unwrap().components[0].version;
    passed(&handle, "named", ROWS / 8).await;
    let both = [("named.name".to_owned(), "second".to_owned()), ("named.parallelism".to_owned(), "2".to_owned())];
    let report = handle.set(&both).await.unwrap();
    assert_eq!((report.effect, tasks(&handle.status(), "named")), (Some(Effect::Rebuild), 2));
    assert_eq!(version(&handle), 2, "another configuration is another version");
    // and the number of tasks alone is none
    handle.rescale(3, &["named".to_owned()]).await.unwrap();
    assert_eq!((version(&handle), tasks(&handle.status(), "named")), (2, 3));
    let known: Vec<u64> = handle.history()["named"].iter().map(|version| version.number).collect();
    assert_eq!(known, [1, 2]);
    passed(&handle, "named", ROWS / 2).await;
    drop(handle);
    running.wait().await.unwrap();
    assert_one_cut(&rows.await.unwrap(), "source", ("first", "second"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_set_with_parallelism_is_a_new_version() {
    set_with_parallelism(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_set_with_parallelism_is_a_new_version_with_checkpoints() {
    set_with_parallelism(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_that_nobody_waits_for_any_more_and_a_change_of_shape_are_both_done() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let other =
            built::version("version-map", "version-000a", "version-000b", &folder.path().join(format!("{round}.wasm")));
        let (sink, rows) = channel();
        let pipeline = Pipeline::new("dropped").source("numbers", generator());
        let step = Step::map(path("version-map")).keep_all().from("numbers");
        let running = start(pipeline.step("tag", step).sink("out", sink.from("tag")).build().unwrap()).await;
        let (handle, rows) = (running.handle(), run::collect(rows));
        passed(&handle, "tag", ROWS / 8).await;
        let offers = [("tag".to_owned(), other.unwrap())];
        // begun, and given up at once
        {
            let mut swap = std::pin::pin!(handle.swap(&offers));
            let begun =
                std::future::poll_fn(|context| std::task::Poll::Ready(swap.as_mut().poll(context).is_pending()));
            assert!(begun.await);
        }
        handle.rescale(2, &["tag".to_owned()]).await.unwrap();
        // whichever took its turn first
        let both = async {
            loop {
                let status = handle.status();
                let runs = &status.node("tag").unwrap().components;
                if (runs.len(), runs[0].version, tasks(&status, "tag")) == (1, 2, 2) {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), both).await.unwrap();
        handle.stop().await;
        drop(handle);
        running.wait().await.unwrap();
        rows.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_and_the_number_of_its_tasks_change_at_one_cut() {
    let folder = tempfile::tempdir().unwrap();
    let second = folder.path().join("second.wasm");
    built::version("version-map", "version-000a", "version-000b", &second).unwrap();
    let second = second.to_string_lossy().into_owned();
    let pipeline = |component: &str, tasks| {
        let tag = Step::map(component.to_owned()).keep_all().parallelism(tasks).from("numbers");
        Pipeline::new("tagged")
            .source("numbers", generator())
            .step("tag", tag)
            .step("numbered", Step::select(["sequence", "version"]).renamed("sequence", "counter").from("tag"))
    };
    let (sink, rows) = channel();
    let first = pipeline(&path("version-map"), 1).sink("out", sink.clone().from("numbered"));
    let running = start(first.build().unwrap()).await;
    let (handle, rows) = (running.handle(), run::collect(rows));
    passed(&handle, "tag", ROWS / 4).await;
    let wanted = pipeline(&second, 3).sink("out", sink.from("numbered")).build().unwrap();
    let planned = handle.plan_apply(wanted.clone()).await.unwrap();
    assert_eq!((planned.effect, planned.generation), (Some(Effect::Rebuild), None));
    let keys: Vec<_> = planned.differences.iter().map(|one| (one.key.as_deref().unwrap(), one.effect)).collect();
    assert_eq!(keys, [("parallelism", Effect::Rebuild), ("component", Effect::Swap)]);
    handle.apply(wanted.clone(), &[]).await.unwrap();
    assert_eq!(handle.apply(wanted, &[]).await.unwrap().effect, None, "nothing is different any more");
    drop(handle);
    running.wait().await.unwrap();
    let rows: Vec<Row> = rows.await.unwrap();
    assert_one_cut(&rows, "version", ("version-000a", "version-000b"));
}

/// The first and last number in a file, where those of each of the generator's two tasks are in one piece.
fn piece(lines: &[String]) -> (u64, u64) {
    let numbers = lines.iter().map(|line| number(&serde_json::from_str::<Row>(line).unwrap(), "sequence"));
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    for task in 0..2 {
        let of_task: Vec<u64> = numbers.iter().copied().filter(|number| number % 2 == task).collect();
        assert!(of_task.windows(2).all(|pair| pair[0] + 2 == pair[1]), "task {task}, {} numbers", of_task.len());
    }
    (numbers[0], numbers[numbers.len() - 1])
}

/// A sink and a branch with windows come and go beside what was there.
async fn come_and_go(checkpoints: bool) {
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (out, rows) = channel();
    let (side, windows) = channel();
    let pipeline = || {
        let pipeline = Pipeline::new("branches")
            .parallelism(2)
            .source("numbers", generator())
            .step("sums", counts(Duration::from_secs(7)).from("numbers"))
            .sink("out", out.clone().from("sums"));
        if checkpoints { pipeline.checkpoint(text("state"), Duration::from_millis(20)) } else { pipeline }
    };
    let (sink, straight) = channel();
    let expected = Pipeline::new("straight").parallelism(2).source("numbers", generator());
    let expected = expected.step("sums", counts(Duration::from_secs(7)).from("numbers").parallelism(2));
    let expected = unchanged(expected, sink.from("sums"), straight).await;

    let running = start(pipeline().build().unwrap()).await;
    let handle = running.handle();
    let (rows, windows) = (run::collect(rows), run::collect(windows));
    passed(&handle, "numbers", ROWS / 8).await;
    let with_sink = || pipeline().sink("copy", Sink::file(text("copy/rows.json")).from("numbers"));
    let report = handle.apply(with_sink().build().unwrap(), &[]).await.unwrap();
    let added = report.differences.iter().find(|one| one.name == "copy").unwrap();
    assert_eq!((added.part, added.key.as_deref(), added.to.as_deref()), (Part::Sink, None, Some("added")));
    passed(&handle, "copy", ROWS / 8).await;
    let with_branch =
        with_sink().step("beside", counts(Duration::from_secs(1)).from("numbers")).sink("windows", side.from("beside"));
    handle.apply(with_branch.build().unwrap(), &[]).await.unwrap();
    passed(&handle, "windows", 40).await;

    let refused = handle.apply(pipeline().build().unwrap(), &[]).await.unwrap_err();
    assert_eq!(refused.code(), "unapproved");
    assert!(refused.to_string().contains("step `beside` removed"), "{refused}");
    let report = handle.apply(pipeline().build().unwrap(), &["beside".to_owned()]).await.unwrap();
    assert_eq!((report.generation, report.effect), (Some(3), Some(Effect::DropsState)));
    let copied = lines(&folder.path().join("copy"));
    let (first, last) = piece(&copied);
    assert!(first > 0 && last < ROWS, "{first}..={last}");
    assert!(handle.status().node("copy").is_none());
    drop((handle, out));
    running.wait().await.unwrap();
    assert_eq!(sorted(&rows.await.unwrap()), expected);
    // windows that were whole while the branch was there have all their rows
    let seen = windows.await.unwrap();
    let whole: u64 = seen.iter().filter(|row| number(row, "rows") > 0).map(|row| number(row, "rows")).sum();
    assert!(whole > 0 && whole < ROWS, "{whole}");
    assert_eq!(lines(&folder.path().join("copy")), copied, "nothing is added to it any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_and_branches_come_and_go_beside_what_was_there() {
    come_and_go(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_and_branches_come_and_go_between_checkpoints() {
    come_and_go(true).await;
}
