//! Components that keep other state and take over that of the version that runs: no state is given up, and none has to be
//! approved.

use millstream::control::Effect;

use super::*;

fn sums(component: &str, parallelism: usize, sink: Sink) -> PipelineSpec {
    let step = Step::aggregate().key_by(["key"]).tumbling(Duration::from_secs(1_000)).count("rows");
    Pipeline::new("sums")
        .source("numbers", generator())
        .step("sums", step.component("sums", path(component)).parallelism(parallelism).from("numbers"))
        .sink("out", sink.from("sums"))
        .build()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_migrates_comes_in_by_a_swap_or_by_a_rebuild_and_each_row_is_counted_once() {
    for (parallelism, effect) in [(1, Effect::Swap), (3, Effect::Rebuild)] {
        let (sink, rows) = channel();
        let running = start(sums("migrate-sum-1", 1, sink.clone())).await;
        let (handle, rows) = (running.handle(), run::collect(rows));
        passed(&handle, "numbers", ROWS / 3).await;
        let wanted = sums("migrate-sum-2", parallelism, sink.clone());
        let report = handle.apply(wanted, &[]).await.unwrap();
        assert_eq!((report.effect, report.to_approve.len()), (Some(effect), 0), "{:?}", report.differences);
        drop((handle, sink));
        running.wait().await.unwrap();
        let rows = rows.await.unwrap();
        let total = |column: &str| rows.iter().map(|row| row[column].as_u64().unwrap()).sum::<u64>();
        assert_eq!((total("rows"), total("rows_1") + total("rows_2")), (ROWS, ROWS));
        assert!(total("rows_1") >= ROWS / 3 && total("rows_2") > 0, "{rows:?}");
    }
}
