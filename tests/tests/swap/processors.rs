//! Processors: a swap leaves state and timers where they are.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_goes_on_with_the_state_of_the_old() {
    for parallelism in [1, 3] {
        let second = Second::new();
        let pipeline = Pipeline::new("numbering")
            .parallelism(parallelism)
            .source("numbers", generator(Some(ROWS), Some(RATE)))
            .step(
                "count",
                Step::process(path("version-process")).key_by(["key"]).side_output("totals").from("numbers"),
            );
        let job = start(pipeline, &["count"], &["totals"]).await;
        let handle = job.handle();
        let changing = async {
            passed(&handle, "count", ROWS / 3).await;
            let other = second.write("version-process", "version-000a", "version-000b");
            assert_eq!(swap(&handle, &[("count", &other)]).await.unwrap().swapped.len(), 1);
            drop(handle);
        };
        let (outcome, ()) = job.finish(changing).await;
        assert_one_cut(&second_by_task(&outcome.rows, ROWS, parallelism as u64, |_| 1));
        let mut by_key: BTreeMap<i64, Vec<(i64, bool)>> = BTreeMap::new();
        for row in &outcome.rows {
            let is_second = text(row, "version") == "version-000b";
            by_key.entry(int(row, "key")).or_default().push((int(row, "number"), is_second));
        }
        for (key, mut rows) in by_key {
            rows.sort_unstable();
            assert!(
                rows.iter().map(|row| row.0).eq(1..=rows.len() as i64),
                "key {key} was counted twice or not at all"
            );
            assert!(rows.is_sorted_by_key(|row| row.1), "key {key}: the old version counted after the new");
        }
        assert_eq!(total(&outcome.windows, "rows"), ROWS);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_does_not_fit_is_refused() {
    let pipeline = Pipeline::new("refusing")
        .source("numbers", generator(Some(ROWS), Some(RATE)))
        .step("count", Step::process(path("version-process")).key_by(["key"]).from("numbers"));
    let job = start(pipeline, &["count"], &[]).await;
    let handle = job.handle();
    let offering = async {
        for (guest, why) in [
            ("dedup", "output `key`: running key: int64, offered order: text"),
            ("version-map", "is no processor; it exports `mapper`"),
        ] {
            let refused = swap(&handle, &[("count", &built::guest(guest).unwrap())]).await.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        drop(handle);
    };
    let (outcome, ()) = job.finish(offering).await;
    assert_eq!(outcome.rows.len() as u64, ROWS);
}
