//! Pipelines whose shape changes between two transactions.

use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::Handle;
use millstream::pipeline::build::RunOptions;
use millstream_tests::run;

use super::*;
use crate::broker_or_return;

async fn passed(handle: &Handle, rows: u64) {
    let watch = Stopwatch::start();
    while handle.status().node("numbers").unwrap().counts.rows_out < rows {
        assert!(watch.elapsed() < Duration::from_secs(60), "{:?}", handle.status());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_task_three_and_one_again_write_every_row_once() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "rescaled", "retain = 2").await;
    let spec = millstream::pipeline::read(&job.path("pipeline.toml")).unwrap();
    let running = run::start(spec, &RunOptions::default()).await.unwrap();
    let handle = running.handle();
    for (turn, tasks) in [(1, 3), (2, 1)] {
        passed(&handle, turn * ROWS as u64 / 4).await;
        let report = handle.rescale(tasks, &[]).await.unwrap();
        assert_eq!(report.generation, Some(turn), "{report:?}");
    }
    // a sink that comes beside them: its epochs are those of the transactions
    job.append("[sink.files]\nfrom = \"numbers\"\nfile = { path = \"out/rows.json\" }\n");
    let with_files = millstream::pipeline::read(&job.path("pipeline.toml")).unwrap();
    assert_eq!(handle.apply(with_files, &[]).await.unwrap().generation, Some(3));
    let status = running.wait().await.unwrap();
    assert_eq!(status.restarts.count, 0);
    job.assert_once("rescaled");
    assert!(std::fs::read_dir(job.path("out")).unwrap().count() > 0);
    // the broker and the store agree
    job.run(&[]).expect(0).says(&["all input that there was had been read"]);
    job.assert_once("started again");
}
