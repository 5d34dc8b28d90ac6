//! Swaps that are refused change nothing, and say why.

use super::*;

/// Why the swap is refused.
async fn refusal(handle: &Handle, requests: &[(&str, &PathBuf)]) -> String {
    match swap(handle, requests).await {
        Ok(report) => panic!("not refused: {report:?}"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_by_name_and_the_running_version_goes_on() {
    let second = Second::new();
    let pipeline = Pipeline::new("refusing")
        .parallelism(2)
        .source("numbers", generator(None, Some(RATE)))
        .step("tag", map().from("numbers"))
        .step("some", Step::filter(path("version-filter")).from("tag"))
        .step("sums", sums(["key", "version"]).from("some"));
    let job = start(pipeline, &["some"], &["sums"]).await;
    let handle = job.handle();
    let before: Vec<_> = ["tag", "some", "sums"].map(|step| digests(&handle.status(), step)).into();
    let offering = async {
        passed(&handle, "some", 5_000).await;
        let guest = |name: &str| built::guest(name).unwrap();
        let not_wasm = second.folder.path().join("text.wasm");
        std::fs::write(&not_wasm, "not a component").unwrap();
        let missing = second.folder.path().join("nothing.wasm");
        let other_state = second.write("version-sum", "kept_rows_b", "held_rows_b");
        let cases: [(&str, PathBuf, &[&str]); 9] = [
            (
                "tag",
                guest("uppercase"),
                &["does not fit step `tag`", "output `version`", "text", "offered value: text"],
            ),
            ("tag", guest("version-filter"), &["version-filter.wasm", "mapper", "filter"]),
            ("some", second.map(), &["filter", "mapper"]),
            ("sums", guest("average"), &["does not fit step `sums`", "output `rows_a`", "int64"]),
            ("sums", other_state, &["state `kept_rows_b`", "offered held_rows_b: int64"]),
            ("tag", not_wasm, &["text.wasm"]),
            ("tag", missing, &["nothing.wasm"]),
            ("tags", second.map(), &["no step `tags`", "some, sums, tag", "did you mean `tag`?"]),
            ("numbers", second.map(), &["no step `numbers`"]),
        ];
        for (step, path, parts) in cases {
            let why = refusal(&handle, &[(step, &path)]).await;
            for part in parts {
                assert!(why.contains(part), "`{part}` is missing in: {why}");
            }
            let file = path.file_name().unwrap().to_string_lossy();
            assert!(why.matches(&*file).count() <= 1, "the file is named twice: {why}");
        }
        // one of two fits, and is not put in place either
        let why = refusal(&handle, &[("tag", &second.map()), ("some", &guest("average"))]).await;
        assert!(why.contains("average.wasm"), "{why}");
        let why = refusal(&handle, &[("tag", &second.map()), ("tag", &guest("version-map"))]).await;
        assert!(why.contains("`tag` is to become both"), "{why}");
        let now = handle.status();
        let after: Vec<_> = ["tag", "some", "sums"].map(|step| digests(&now, step)).into();
        assert_eq!(before, after);
        // and what does fit is still taken
        swap(&handle, &[("sums", &second.sums())]).await.unwrap();
        let at = handle.status().node("some").unwrap().counts.rows_out;
        passed(&handle, "some", at + 5_000).await;
        handle.stop().await;
        drop(handle);
    };
    let (outcome, ()) = job.finish(offering).await;
    assert!(outcome.rows.iter().all(|row| text(row, "version") == "version-000a"));
    assert!(outcome.rows.iter().all(|row| int(row, "sequence") % 2 == 0));
    assert_eq!(total(&outcome.windows, "rows"), outcome.rows.len() as u64);
    assert!(total(&outcome.windows, "rows_b") > 0);
    assert!(outcome.dead.is_empty(), "{:?}", outcome.dead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_on_which_the_new_version_traps_is_a_dead_letter_and_the_rest_goes_on() {
    let second = Second::new();
    for parallelism in [1, 3] {
        let pipeline = Pipeline::new("trapping")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step("tag", map().from("numbers"));
        let job = start(pipeline, &["tag"], &[]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "tag", ROWS / 4).await;
            let trapping = second.write("version-map", "version-000a", "trap-0010000");
            let to = swap(&handle, &[("tag", &trapping)]).await.unwrap().swapped[0].to.clone();
            drop(handle);
            to
        };
        let (outcome, to) = job.finish(changing).await;
        assert!((1..=12).contains(&outcome.dead.len()), "{} dead letters", outcome.dead.len());
        let mut all: Vec<i64> = outcome.rows.iter().map(|row| int(row, "sequence")).collect();
        for letter in &outcome.dead {
            let row: Row = serde_json::from_str(text(letter, "row")).unwrap();
            assert_eq!(int(&row, "sequence") % 10_000, 0);
            assert_eq!((text(letter, "node"), text(letter, "component")), ("tag", to.as_str()));
            assert!(text(letter, "reason").contains("one to trap on"), "{letter:?}");
            all.push(int(&row, "sequence"));
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..ROWS as i64), "every row came out or is a dead letter, once");
        let behind = outcome.rows.iter().filter(|row| text(row, "version").starts_with("trap-"));
        assert!(behind.clone().count() > 0 && behind.clone().all(|row| int(row, "sequence") % 10_000 != 0));
        assert_eq!(outcome.status.node("tag").unwrap().counts.dead_rows, outcome.dead.len() as u64);
    }
}
