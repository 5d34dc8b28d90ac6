//! What a start accepts and refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::*;
use crate::broker_or_return;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_ends_is_committed_whole_and_a_start_after_it_adds_nothing() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "whole", "retain = 2").await;
    job.run(&[]).expect(0);
    job.assert_once("whole");
    let again = job.run(&[]).expect(0).says(&["all input that there was had been read"]);
    assert!(again.restored().is_some_and(|epoch| epoch > 2), "{}", again.stderr);
    job.assert_once("started again");
    let markers = topics::records(&broker.bootstrap(), &format!("{}-epochs", job.id));
    let last = String::from_utf8(markers.last().unwrap().1.clone()).unwrap();
    assert!(last.starts_with("v1;epoch=") && last.contains(";attempt="), "{last}");
    assert_eq!(markers[0].1.split(|byte| *byte == b';').nth(1).unwrap(), b"epoch=0");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_follow_the_broker() {
    let broker = broker_or_return!();
    for point in ["drained:3", "decided:3", "between-commits:1"] {
        let job = Job::new(broker, "files", "retain = 2").await;
        job.append("[sink.files]\nfrom = \"numbers\"\nfile = { path = \"out/rows.json\" }\n");
        assert_eq!(job.run_to(point, &["--parallelism", "2"]).code, None, "{point}");
        job.run(&[]).expect(0);
        job.assert_once(point);
        let mut lines = 0;
        for entry in std::fs::read_dir(job.path("out")).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.to_string_lossy().ends_with(".pending"), "{point}: {}", path.display());
            lines += std::fs::read_to_string(path).unwrap().lines().count();
        }
        assert_eq!(lines, ROWS, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_what_the_broker_has_decided_is_refused() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "refused", "retain = 1").await;
    assert_eq!(job.run_to("decided:3", &[]).code, None);
    // the marker names checkpoint 2
    let (checkpoint, away) = (job.path("state/numbers/0000000002"), job.path("away"));
    std::fs::rename(&checkpoint, &away).unwrap();
    job.run(&[]).expect(1).says(&["epoch 2", "not in the store", "--fresh"]);
    std::fs::rename(&away, &checkpoint).unwrap();
    let manifest = checkpoint.join("manifest");
    let whole = std::fs::read(&manifest).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x40;
    std::fs::write(&manifest, damaged).unwrap();
    job.run(&[]).expect(1).says(&["epoch 2", "cannot be read", "damaged"]);
    std::fs::write(&manifest, whole).unwrap();
    // nothing was touched
    let ended = job.run(&[]).expect(0);
    assert_eq!(ended.restored(), Some(2));
    job.assert_once("brought back");
    // the marker is lost
    broker.delete_topic(&format!("{}-epochs", job.id)).await.unwrap();
    job.run(&[]).expect(1).says(&["no marker", "--fresh"]);
}

/// How often each row is in a topic.
fn counted(broker: &str, topic: &str) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for row in topics::read_committed(broker, topic) {
        *counted.entry(serde_json::to_string(&row).unwrap()).or_default() += 1;
    }
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_restored_a_second_time_only_where_that_is_asked_for_and_gives_the_same_rows() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "twice", "retain = 100").await;
    assert_eq!(job.run_to("decided:3", &[]).code, None);
    let (store, copy, newer) = (job.path("state"), job.path("copy"), job.path("newer"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&store).arg(&copy).status().unwrap();
    assert!(copied.success());
    assert_eq!(job.run(&[]).expect(0).restored(), Some(2));
    job.assert_once("the first time");
    let before = [&job.rows, &job.counts].map(|topic| counted(&broker.bootstrap(), topic));
    // the store as it was: the broker knows that it has gone on
    std::fs::rename(&store, &newer).unwrap();
    std::fs::rename(&copy, &store).unwrap();
    job.run(&[]).expect(1).says(&["the broker has committed epoch", "not in the store"]);
    std::fs::remove_dir_all(&store).unwrap();
    std::fs::rename(&newer, &store).unwrap();
    job.assert_once("refused");
    // in so many words
    let ended = job.run(&["--from-savepoint", "2", "--parallelism", "3"]).expect(0);
    assert_eq!(ended.restored(), Some(2));
    for (topic, before) in [&job.rows, &job.counts].into_iter().zip(before) {
        let after = counted(&broker.bootstrap(), topic);
        assert!(after.keys().eq(before.keys()), "{topic}: other rows than the first time");
        let twice = after.values().filter(|count| **count == 2).count();
        assert!(after.values().all(|count| *count <= 2) && twice > 0 && twice < after.len(), "{topic}: {twice} twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_waits_for_a_transaction_of_others_that_hides_its_own_records() {
    let broker = broker_or_return!();
    let job = Job::new(broker, "hidden", "retain = 2").await;
    let other: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", format!("other-{}", job.id))
        .create()
        .unwrap();
    other.init_transactions(Duration::from_secs(30)).unwrap();
    other.begin_transaction().unwrap();
    for partition in 0..3 {
        other.send(BaseRecord::<(), [u8]>::to(&job.rows).partition(partition).payload(b"other")).unwrap();
    }
    other.flush(Duration::from_secs(30)).unwrap();
    assert_eq!(job.run_to("decided:3", &[]).code, None);
    let mut waiting = job.start(&[]);
    std::thread::sleep(Duration::from_secs(5));
    assert!(!waiting.has_ended(), "it did not wait");
    other.abort_transaction(Duration::from_secs(30)).unwrap();
    let ended = waiting.finish().expect(0).says(&["another producer's open transaction"]);
    assert_eq!(ended.restored(), Some(2));
    job.assert_once("the other has ended");
}
