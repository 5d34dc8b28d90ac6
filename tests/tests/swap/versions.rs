//! Each figure, each dead letter and each report names exactly the version that it is about: number and digest.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_and_dead_letters_are_of_the_version_that_had_them() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let trapping = second.write("version-map", "version-000a", "trap-0001000");
        let pipeline = Pipeline::new("numbered")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("tag", map().from("numbers"));
        let job = start(pipeline, &["tag"], &[]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "tag", ROWS / 8).await;
            let first = handle.status().node("tag").unwrap().components.clone();
            assert_eq!((first.len(), first[0].version), (1, 1));
            assert_eq!(first[0].tasks, (0..parallelism).collect::<Vec<_>>());
            let report = swap(&handle, &[("tag", &trapping)]).await.unwrap();
            assert_eq!((report.swapped[0].from_version, report.swapped[0].to_version), (1, Some(2)));
            let rows_out = handle.status().node("tag").unwrap().counts.rows_out;
            passed(&handle, "tag", rows_out + ROWS / 4).await;
            // refused before any task had it: its number goes to the next
            swap(&handle, &[("tag", &built::guest("average").unwrap())]).await.unwrap_err();
            // neither does one that is an operator of this kind, and makes other columns
            swap(&handle, &[("tag", &built::guest("uppercase").unwrap())]).await.unwrap_err();
            let report = swap(&handle, &[("tag", &second.map())]).await.unwrap();
            assert_eq!((report.swapped[0].from_version, report.swapped[0].to_version), (2, Some(3)));
            drop(handle);
            (first[0].digest.clone(), report.swapped[0].from.clone(), report.swapped[0].to.clone())
        };
        let (outcome, (first, bad, last)) = job.finish(changing).await;
        assert!(!outcome.dead.is_empty() && first != last);
        for letter in &outcome.dead {
            assert_eq!((text(letter, "component"), int(letter, "version")), (bad.as_str(), 2));
        }
        let of_last = outcome.rows.iter().filter(|row| text(row, "version") == "version-000b").count() as u64;
        let [running] = outcome.status.node("tag").unwrap().components.as_slice() else { panic!("one version") };
        assert_eq!((running.version, &running.digest), (3, &last));
        // what came before it was put in place is of the others
        assert_eq!((running.counts.rows_in, running.counts.rows_out, running.counts.dead_rows), (of_last, of_last, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_has_a_number_of_its_own_that_nobody_gets_after_it() {
    let second = Second::new();
    let pipeline =
        Pipeline::new("tried").source("numbers", generator(None, Some(RATE))).step("tag", map().from("numbers"));
    let job = start(pipeline, &["tag"], &[]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "tag", 2_000).await;
        let canary = || {
            let request = millstream::control::TrialRequest { canary: Some("50%".into()), ..Default::default() };
            let offers = [("tag".to_owned(), second.map())];
            let handle = handle.clone();
            async move { handle.try_out(&offers, request.read().unwrap()).await.unwrap() }
        };
        let trial = canary().await;
        assert_eq!((&trial.steps[0].from_versions, &trial.steps[0].to_versions), (&vec![1], &vec![2]));
        handle.abandon_trial().await.unwrap();
        let trial = canary().await;
        assert_eq!(trial.steps[0].to_versions, [3]);
        handle.promote().await.unwrap();
        let running = handle.status().node("tag").unwrap().components.clone();
        assert_eq!((running[0].version, running[0].digest.clone()), (3, trial.steps[0].to[0].clone()));
        let known: Vec<u64> = handle.history()["tag"].iter().map(|version| version.number).collect();
        assert_eq!(known, [1, 3]);
        // the shape changes: numbers go on
        handle.rescale(2, &[]).await.unwrap();
        let running = handle.status().node("tag").unwrap().components.clone();
        assert_eq!((running[0].version, running[0].tasks.clone()), (3, vec![0, 1]));
        let back = handle.rollback(&[]).await.unwrap();
        assert_eq!((back.swapped[0].from_version, back.swapped[0].to_version), (3, Some(1)));
        handle.stop().await;
        drop(handle);
    };
    job.finish(trying).await;
}

/// Rows that are tagged and counted, without end.
async fn tagged_and_counted() -> Job {
    let pipeline = Pipeline::new("both")
        .source("numbers", generator(None, Some(RATE)))
        .step("tag", map().from("numbers"))
        .step("sums", sums(["key"]).from("numbers"));
    start(pipeline, &["tag"], &["sums"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_without_a_name_takes_back_the_last_change_alone_and_then_the_one_before() {
    let second = Second::new();
    let job = tagged_and_counted().await;
    let handle = job.handle();
    let changing = async {
        passed(&handle, "tag", 1_000).await;
        swap(&handle, &[("tag", &second.map())]).await.unwrap();
        swap(&handle, &[("sums", &second.sums())]).await.unwrap();
        let plan = handle.plan(&[("sums".to_owned(), second.sums()), ("tag".to_owned(), second.map())]).await.unwrap();
        let [sums, tag] = plan.planned.as_slice() else { panic!("{plan:?}") };
        assert!(sums.keeps.iter().any(|kept| kept.starts_with("kept_rows_a")), "{plan:?}");
        assert!(sums.migrates.is_empty() && sums.drops.is_empty() && tag.keeps.is_empty(), "{plan:?}");
        let steps = |report: SwapReport| report.swapped.into_iter().map(|of| of.step).collect::<Vec<_>>();
        assert_eq!(steps(handle.rollback(&[]).await.unwrap()), ["sums"]);
        assert_eq!(steps(handle.rollback(&[]).await.unwrap()), ["tag"]);
        assert_eq!(handle.rollback(&[]).await.unwrap_err().code(), "no_version_before");
        handle.stop().await;
        drop(handle);
    };
    job.finish(changing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_versions_can_be_gone_back_to_and_no_more() {
    let second = Second::new();
    let job = tagged_and_counted().await;
    let handle = job.handle();
    let changing = async {
        passed(&handle, "tag", 1_000).await;
        for _ in 0..5 {
            swap(&handle, &[("tag", &second.map())]).await.unwrap();
            swap(&handle, &[("tag", &built::guest("version-map").unwrap())]).await.unwrap();
        }
        let known: Vec<u64> = handle.history()["tag"].iter().map(|version| version.number).collect();
        assert_eq!(known, [4, 5, 6, 7, 8, 9, 10, 11]);
        for number in (4..11).rev() {
            let back = handle.rollback(&["tag".to_owned()]).await.unwrap();
            assert_eq!(back.swapped[0].to_version, Some(number));
        }
        assert_eq!(handle.rollback(&["tag".to_owned()]).await.unwrap_err().code(), "no_version_before");
        handle.stop().await;
        drop(handle);
    };
    job.finish(changing).await;
}
