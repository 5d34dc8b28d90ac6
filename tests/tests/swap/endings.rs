//! Swaps near the end of a run, and the end itself.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_end_there_is_nothing_to_change() {
    let second = Second::new();
    let pipeline =
        Pipeline::new("ended").source("numbers", generator(Some(1_000), None)).step("tag", map().from("numbers"));
    let job = start(pipeline, &["tag"], &[]).await;
    let handle = job.handle();
    let ended = async {
        while !handle.status().ended {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let error = swap(&handle, &[("tag", &second.map())]).await.unwrap_err();
        assert!(matches!(error, SwapError::Ended), "{error}");
        assert_eq!(error.to_string(), "the pipeline has ended");
        drop(handle);
    };
    job.finish(ended).await;
}

/// A swap that says it took effect did so, one that does not did not. The pipeline is held back with more and more rows in
/// it, so that in some rounds the swap finds the source with rows to come, in others between its last row and its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_at_the_very_end_tells_the_truth() {
    let second = Second::new();
    let path = second.map();
    let (mut took_effect, mut too_late) = (0, 0);
    for round in 1..=40 {
        let rows = round * 4_096;
        let pipeline = Pipeline::new("ending")
            .source("numbers", generator(Some(rows), None))
            .step("tag", map().from("numbers"))
            .step("copies", flat_map().from("tag").parallelism(2));
        let job = start(pipeline, &["copies"], &[]).await;
        let handle = job.handle();
        let first = digests(&handle.status(), "tag");
        tokio::time::sleep(Duration::from_millis(20)).await;
        let swapping = {
            let (handle, path) = (handle.clone(), path.clone());
            tokio::spawn(async move { swap(&handle, &[("tag", &path)]).await })
        };
        // in the last rounds long enough for the barrier to be sent on any machine
        tokio::time::sleep(Duration::from_millis(if round > 37 { 500 } else { 40 })).await;
        let Job { running, rows: results, .. } = job;
        let results = run::count(results);
        let swapped = swapping.await.unwrap();
        drop(handle);
        let status = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
        assert_eq!(results.await.unwrap(), rows);
        let last = digests(&status, "tag");
        match swapped {
            Ok(report) => {
                took_effect += 1;
                assert_eq!(last, [report.swapped[0].to.as_str()], "round {round}: told that it runs");
            }
            Err(SwapError::Ended) => {
                too_late += 1;
                assert_eq!(last, first, "round {round}: told that nothing changed");
            }
            Err(error) => panic!("round {round}: {error}"),
        }
    }
    assert!(took_effect > 0 && too_late > 0, "{took_effect} swaps took effect, {too_late} came too late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_finishes_all_that_was_read() {
    for parallelism in [1, 3] {
        let pipeline = Pipeline::new("stopped")
            .parallelism(parallelism)
            .source("numbers", generator(None, None))
            .step("tag", map().from("numbers"))
            .step("copies", flat_map().from("tag").parallelism(2))
            .step("sums", sums(["key", "version"]).from("copies"));
        let job = start(pipeline, &["copies"], &["sums"]).await;
        let handle = job.handle();
        let stopping = async {
            passed(&handle, "copies", 50_000).await;
            handle.stop().await;
            // a second time does no harm
            handle.stop().await;
            drop(handle);
        };
        let (outcome, ()) = job.finish(stopping).await;
        let read = outcome.status.node("numbers").unwrap().counts.rows_out;
        let mut sequences: Vec<i64> = outcome.rows.iter().map(|row| int(row, "sequence")).collect();
        sequences.sort_unstable();
        sequences.dedup();
        assert_eq!((outcome.rows.len() as u64, sequences.len() as u64), (read, read));
        assert_eq!(total(&outcome.windows, "rows"), read, "windows that had not ended fire too");
    }
}
