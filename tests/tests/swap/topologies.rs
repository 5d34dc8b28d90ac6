//! The same promises in pipelines that branch, unite, meet again, and are held back by a slow reader.

use super::*;

/// Windows of rows with a `version`: folded by the sums' version of the same name, all rows of `rows` among them.
fn assert_versions_agree(windows: &[Row], rows: u64) {
    for row in windows {
        let (of_first, of_second) = (int(row, "rows_a"), int(row, "rows_b"));
        let (mine, other) =
            if text(row, "version") == "version-000a" { (of_first, of_second) } else { (of_second, of_first) };
        assert_eq!((mine, other), (int(row, "rows"), 0), "{row:?}");
    }
    assert_eq!(total(windows, "rows"), rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn branches_change_at_the_cut_of_what_they_read() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("fan-out")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("tag", map().from("numbers"))
            .step("by-key", sums(["key", "version"]).from("tag"))
            .step("by-version", sums(["version"]).from("tag").parallelism(2))
            .step("again", flat_map().from("tag"));
        let (branch, by_version) = ChannelSink::new(4);
        let (others, again) = ChannelSink::new(4);
        let pipeline = pipeline
            .sink("by-version-out", Sink::of(SinkKind::Channel(branch)).from("by-version"))
            .sink("again-out", Sink::of(SinkKind::Channel(others)).from("again"));
        let job = start(pipeline, &["tag"], &["by-key"]).await;
        let (by_version, again) = (run::collect(by_version), run::collect(again));
        let handle = job.handle();
        let changing = async {
            passed(&handle, "tag", ROWS / 4).await;
            let (map, sums, flat_map) = (second.map(), second.sums(), second.flat_map());
            let requests = [("again", &flat_map), ("by-key", &sums), ("tag", &map), ("by-version", &sums)];
            assert_eq!(swap(&handle, &requests).await.unwrap().swapped.len(), 4);
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        assert_one_cut(&second_by_task(&outcome.rows, ROWS, parallelism as u64, |_| 1));
        assert_versions_agree(&outcome.windows, ROWS);
        assert_versions_agree(&by_version.await.unwrap(), ROWS);
        let again = again.await.unwrap();
        assert_one_cut(&second_by_task(&again, ROWS, parallelism as u64, |second| if second { 2 } else { 1 }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn united_sources_change_each_at_one_row() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("united")
            .parallelism(parallelism)
            .source("fast", generator(Some(ROWS), Some(RATE)))
            .source("slow", generator(Some(ROWS / 8), Some(RATE / 8)).parallelism(1))
            .step("tag-fast", map().from("fast"))
            .step("tag-slow", map().from("slow"))
            .step("sums", sums(["key", "version"]).from("tag-fast").from("tag-slow"))
            // both streams must have the same columns: those that sinks take, all of them
            .sink("dropped", Sink::discard().from("tag-fast"));
        let job = start(pipeline, &["tag-slow"], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "tag-slow", ROWS / 32).await;
            let (map, sums) = (second.map(), second.sums());
            swap(&handle, &[("tag-fast", &map), ("tag-slow", &map), ("sums", &sums)]).await.unwrap();
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        assert_one_cut(&second_by_task(&outcome.rows, ROWS / 8, 1, |_| 1));
        assert_versions_agree(&outcome.windows, ROWS + ROWS / 8);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_diamond_changes_on_both_its_sides_and_where_they_meet() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("diamond")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("tag", map().from("numbers"))
            .step("left", flat_map().from("tag").parallelism(2))
            .step("right", Step::filter(path("version-filter")).from("tag"))
            .step("copied-right", flat_map().from("right"))
            .step("sums", sums(["key", "version"]).from("left").from("copied-right"));
        let job = start(pipeline, &["left", "copied-right"], &["sums"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "tag", ROWS / 4).await;
            let (map, flat_map, filter, sums) = (second.map(), second.flat_map(), second.filter(), second.sums());
            let requests =
                [("tag", &map), ("left", &flat_map), ("right", &filter), ("copied-right", &flat_map), ("sums", &sums)];
            swap(&handle, &requests).await.unwrap();
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        // left: once, then twice; right beside it: even ones once, then odd ones twice
        let mut times: BTreeMap<i64, (bool, u64)> = BTreeMap::new();
        for row in &outcome.rows {
            let second = text(row, "version") == "version-000b";
            assert_eq!(text(row, "copies") == "twice-rows", second, "{row:?}");
            times.entry(int(row, "sequence")).or_insert((second, 0)).1 += 1;
        }
        assert_eq!(times.len() as u64, ROWS);
        for (sequence, (second, count)) in &times {
            let wanted = match (second, sequence % 2) {
                (false, 0) => 2,
                (false, _) => 1,
                (true, 0) => 2,
                (true, _) => 4,
            };
            assert_eq!(*count, wanted, "row {sequence}, second version: {second}");
        }
        let seconds: Vec<Vec<bool>> = (0..parallelism as i64)
            .map(|task| times.iter().filter(|(n, _)| *n % parallelism as i64 == task).map(|(_, (s, _))| *s).collect())
            .collect();
        assert_one_cut(&seconds);
        assert_versions_agree(&outcome.windows, outcome.rows.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_waits_behind_a_slow_reader_and_then_takes_effect() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("held-back")
            .parallelism(parallelism)
            .source("numbers", generator(None, None))
            .step("tag", map().from("numbers"))
            .step("copies", flat_map().from("tag").parallelism(2));
        let mut job = start(pipeline, &["copies"], &[]).await;
        let handle = job.handle();
        let mut first = run::rows(&job.rows.recv().await.unwrap());
        standstill(&handle).await;
        let swapping = {
            let handle = handle.clone();
            tokio::spawn(async move {
                swap(&handle, &[("tag", &second.map()), ("copies", &second.flat_map())]).await.unwrap()
            })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!swapping.is_finished(), "the barrier must not overtake rows");
        while !swapping.is_finished() {
            first.extend(run::rows(&job.rows.recv().await.unwrap()));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        swapping.await.unwrap();
        let stopping = async {
            let read = handle.status().node("numbers").unwrap().counts.rows_out;
            passed(&handle, "numbers", read + 100_000).await;
            handle.stop().await;
            drop(handle);
        };
        let (mut outcome, ()) = job.finish(stopping).await;
        outcome.rows.extend(first);
        let read = outcome.status.node("numbers").unwrap().counts.rows_out;
        assert_one_cut(&second_by_task(&outcome.rows, read, parallelism as u64, |second| if second { 2 } else { 1 }));
        for row in &outcome.rows {
            assert_eq!(text(row, "version") == "version-000b", text(row, "copies") == "twice-rows", "{row:?}");
        }
    }
}

/// Waits until all channels are full and the source makes no more rows.
async fn standstill(handle: &Handle) {
    let read = || handle.status().node("numbers").unwrap().counts.rows_out;
    let watch = Stopwatch::start();
    loop {
        let before = read();
        tokio::time::sleep(Duration::from_millis(100)).await;
        if before > 0 && read() == before {
            return;
        }
        assert!(watch.elapsed() < PATIENCE, "rows go by though nobody takes them");
    }
}
