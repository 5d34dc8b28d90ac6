//! Reading topics.

use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink as PipelineSink, Source as PipelineSource, Step};
use millstream::sink::ChannelSink;
use millstream_tests::run;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_are_read_in_order_with_their_times_and_end() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("all");
    broker.create_topic(&topic, 3).await.unwrap();
    let to_topic = producer(broker, &[]);
    for i in 0..30_000 {
        produce(&to_topic, &topic, i % 2, Some(&format!("row {i}")), 1_000 + i64::from(i));
    }
    to_topic.flush(PATIENCE).unwrap();

    let mut source = open(spec(broker, &topic), context(Format::Text)).await;
    assert_eq!(source.partitions(), [0, 1, 2]);
    let mut told = read_to_end(&mut *source).await;
    for partition in 0..2 {
        let expected: Vec<String> = (0..30_000).filter(|i| i % 2 == partition).map(|i| format!("row {i}")).collect();
        assert_eq!(told.of_partition(partition), expected);
    }
    for (_, value, time_ms) in &told.rows {
        assert_eq!(time_ms - 1_000, value.strip_prefix("row ").unwrap().parse::<i64>().unwrap());
    }
    told.ended.sort_unstable();
    assert_eq!(told.ended, [0, 1, 2], "the empty one too");
    assert!(matches!(source.next().await, Ok(SourceEvent::End)));
}

#[tokio::test(flavor = "multi_thread")]
async fn subtasks_share_the_partitions() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("shared");
    broker.create_topic(&topic, 3).await.unwrap();
    let to_topic = producer(broker, &[]);
    for partition in 0..3 {
        produce(&to_topic, &topic, partition, Some(&format!("of {partition}")), 5);
    }
    to_topic.flush(PATIENCE).unwrap();
    let mut shares = Vec::new();
    for subtask in 0..4 {
        let context = SourceContext { subtask, parallelism: 4, ..context(Format::Text) };
        let told = read_to_end(&mut *open(spec(broker, &topic), context).await).await;
        shares.push(told.rows.into_iter().map(|row| row.1).collect::<Vec<_>>());
    }
    assert_eq!(shares, [vec!["of 0"], vec!["of 1"], vec!["of 2"], vec![]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_without_a_value_are_empty_text_but_bad_json() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("tombstones");
    broker.create_topic(&topic, 1).await.unwrap();
    let to_topic = producer(broker, &[]);
    for value in [Some("{\"value\":1}"), None, Some("{\"value\":2}"), Some("{"), Some("")] {
        produce(&to_topic, &topic, 0, value, 5);
    }
    to_topic.flush(PATIENCE).unwrap();

    let text = read_to_end(&mut *open(spec(broker, &topic), context(Format::Text)).await).await;
    assert_eq!(text.of_partition(0), ["{\"value\":1}", "", "{\"value\":2}", "{", ""]);
    assert!(text.bad.is_empty());

    let json = read_to_end(&mut *open(spec(broker, &topic), context(Format::Json)).await).await;
    assert_eq!(json.of_partition(0), ["1", "2"]);
    let mut offsets: Vec<u64> = json.bad.iter().map(|(_, bad)| bad.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [1, 3, 4], "{:?}", json.bad);
    assert!(json.bad.iter().any(|(_, bad)| bad.reason.contains("tombstone")));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_to_a_topic_are_read_from_their_beginning() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("grows");
    broker.create_topic(&topic, 1).await.unwrap();
    let to_topic = producer(broker, &[]);
    produce(&to_topic, &topic, 0, Some("of 0"), 5);
    to_topic.flush(PATIENCE).unwrap();
    let unbounded = KafkaSourceSpec { bounded: false, start: KafkaStart::Latest, ..spec(broker, &topic) };
    let subtask = |subtask| SourceContext { subtask, parallelism: 2, ..context(Format::Text) };
    let (mut first, mut second) =
        (open(unbounded.clone(), subtask(0)).await, open(unbounded.clone(), subtask(1)).await);
    assert_eq!((first.partitions().len(), second.partitions().len()), (1, 0));
    broker.add_partitions(&topic, 4).await.unwrap();
    // the other producer knows one partition
    let to_topic = producer(broker, &[]);
    for partition in 1..4 {
        produce(&to_topic, &topic, partition, Some(&format!("of {partition}")), 7);
    }
    to_topic.flush(PATIENCE).unwrap();
    for (source, expected) in [(&mut first, vec![(2, "of 2")]), (&mut second, vec![(1, "of 1"), (3, "of 3")])] {
        let mut told = Told::default();
        read_rows(&mut **source, &mut told, expected.len()).await;
        let mut rows: Vec<(u32, &str)> = told.rows.iter().map(|(partition, value, _)| (*partition, &**value)).collect();
        rows.sort_unstable();
        assert_eq!(rows, expected);
        let positions = source.positions();
        for (partition, _) in expected {
            let (_, position) = positions.iter().find(|(number, _)| *number == partition).expect("a position");
            assert_eq!((position.next, position.ended), (1, false));
            assert_eq!(position.partition, format!("{topic}/{partition}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn latest_starts_with_what_comes_after_it_was_opened() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("latest");
    broker.create_topic(&topic, 2).await.unwrap();
    let to_topic = producer(broker, &[]);
    produce(&to_topic, &topic, 0, Some("before"), 5);
    to_topic.flush(PATIENCE).unwrap();
    let latest = KafkaSourceSpec { start: KafkaStart::Latest, bounded: false, ..spec(broker, &topic) };
    let mut source = open(latest, context(Format::Text)).await;
    produce(&to_topic, &topic, 0, Some("after"), 5);
    produce(&to_topic, &topic, 1, Some("after too"), 5);
    to_topic.flush(PATIENCE).unwrap();
    let mut told = Told::default();
    read_rows(&mut *source, &mut told, 2).await;
    assert_eq!((told.of_partition(0), told.of_partition(1)), (vec!["after"], vec!["after too"]));
    assert!(matches!(source.next().await.unwrap(), SourceEvent::Quiet));
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_leave_no_trace_and_do_not_keep_a_bounded_source_from_ending() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("transactions");
    broker.create_topic(&topic, 1).await.unwrap();
    let to_topic = producer(broker, &[("transactional.id", &topic)]);
    to_topic.init_transactions(PATIENCE).unwrap();
    for (value, commit) in [("kept", true), ("aborted", false)] {
        to_topic.begin_transaction().unwrap();
        produce(&to_topic, &topic, 0, Some(value), 5);
        to_topic.flush(PATIENCE).unwrap();
        if commit { to_topic.commit_transaction(PATIENCE) } else { to_topic.abort_transaction(PATIENCE) }.unwrap();
    }
    let told = read_to_end(&mut *open(spec(broker, &topic), context(Format::Text)).await).await;
    assert_eq!(told.of_partition(0), ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named_with_those_that_are() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("orders-eu");
    broker.create_topic(&topic, 1).await.unwrap();
    let misspelled = topic.replace("orders", "ordres");
    let opened = source::open(&SourceKind::Kafka(spec(broker, &misspelled)), context(Format::Text)).await;
    let error = opened.err().unwrap().to_string();
    let expected =
        format!("source `input`: kafka topic `{misspelled}` at `{}`: there is no such topic; ", broker.bootstrap());
    assert!(error.starts_with(&expected) && error.contains(&format!("did you mean `{topic}`?")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_does_not_answer_is_named_within_seconds() {
    let watch = Stopwatch::start();
    let spec = KafkaSourceSpec {
        discover: std::time::Duration::from_secs(30),
        brokers: "127.0.0.1:1".into(),
        topic: "orders".into(),
        start: KafkaStart::Earliest,
        bounded: false,
        security: KafkaSecurity::default(),
        properties: Vec::new(),
    };
    let opened = source::open(&SourceKind::Kafka(spec), context(Format::Text)).await;
    let error = opened.err().unwrap().to_string();
    let expected = "source `input`: kafka topic `orders` at `127.0.0.1:1`: no broker answered within 10 s (";
    assert!(error.starts_with(expected), "{error}");
    assert!(watch.elapsed() < Duration::from_secs(20), "{:?}", watch.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_that_would_break_the_source_are_refused() {
    let spec = KafkaSourceSpec {
        discover: std::time::Duration::from_secs(30),
        brokers: "127.0.0.1:1".into(),
        topic: "orders".into(),
        start: KafkaStart::Earliest,
        bounded: false,
        security: KafkaSecurity::default(),
        properties: vec![("enable.auto.commit".into(), "true".into())],
    };
    let opened = source::open(&SourceKind::Kafka(spec), context(Format::Text)).await;
    assert_eq!(
        opened.err().unwrap().to_string(),
        "source `input`: kafka property `enable.auto.commit` cannot be set: \
         nothing is committed to the broker: where to start is the key `start`"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_end_the_source_with_an_error() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("gone");
    broker.create_topic(&topic, 1).await.unwrap();
    let to_topic = producer(broker, &[]);
    produce(&to_topic, &topic, 0, Some("one"), 5);
    to_topic.flush(PATIENCE).unwrap();
    let unbounded = KafkaSourceSpec { bounded: false, ..spec(broker, &topic) };
    let mut source = open(unbounded, context(Format::Text)).await;
    read_rows(&mut *source, &mut Told::default(), 1).await;
    // the same name, but nothing up to the offset where the source is
    broker.delete_topic(&topic).await.unwrap();
    broker.create_topic(&topic, 1).await.unwrap();
    let read_on = async {
        loop {
            match source.next().await {
                Ok(event) => assert!(matches!(event, SourceEvent::Quiet), "{event:?}"),
                Err(error) => return error.to_string(),
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, read_on).await.unwrap();
    assert!(error.contains(&format!("topic `{topic}`")) && error.contains("are gone"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_waits_for_a_broker_that_was_killed() {
    let Some(broker) = Broker::start().unwrap() else { return };
    broker.create_topic("survives", 2).await.unwrap();
    let unbounded = KafkaSourceSpec { bounded: false, ..spec(&broker, "survives") };
    let mut source = open(unbounded, context(Format::Text)).await;
    let mut told = Told::default();
    let first = producer(&broker, &[]);
    produce(&first, "survives", 0, Some("before"), 5);
    first.flush(PATIENCE).unwrap();
    read_rows(&mut *source, &mut told, 1).await;

    broker.kill9().unwrap();
    for _ in 0..20 {
        let quiet = source.next().await;
        assert!(matches!(quiet, Ok(SourceEvent::Quiet)), "{quiet:?}");
    }
    broker.restart().unwrap();
    let second = producer(&broker, &[]);
    produce(&second, "survives", 0, Some("after"), 6);
    produce(&second, "survives", 1, Some("after too"), 6);
    second.flush(PATIENCE).unwrap();
    read_rows(&mut *source, &mut told, 3).await;
    assert_eq!((told.of_partition(0), told.of_partition(1)), (vec!["before", "after"], vec!["after too"]));
}

/// One partition is read hours of event time ahead of the other: nothing of the other is late for it.
#[tokio::test(flavor = "multi_thread")]
async fn each_partition_has_a_watermark_of_its_own() {
    const ROWS: i32 = 20_000;
    let broker = broker_or_return!();
    let topic = broker.topic_name("watermarks");
    broker.create_topic(&topic, 3).await.unwrap();
    let to_topic = producer(broker, &[]);
    for i in 0..ROWS {
        // partition 2 stays empty
        produce(&to_topic, &topic, 0, Some("ahead"), 10_000_000 + i64::from(i) * 10);
        // librdkafka takes the time 0 for now
        produce(&to_topic, &topic, 1, Some("behind"), 1_000 + i64::from(i) * 10);
    }
    to_topic.flush(PATIENCE).unwrap();
    for parallelism in [1, 2] {
        let (sink, results) = ChannelSink::new(4);
        let kind = SourceKind::Kafka(spec(broker, &topic));
        let counts = Step::aggregate().from("rows").key_by(["value"]).tumbling(Duration::from_secs(1)).count("n");
        let pipeline = Pipeline::new("watermarks")
            .parallelism(parallelism)
            .source("rows", PipelineSource::of(kind).format(Format::Text))
            .step("counts", counts)
            .sink("out", PipelineSink::of(SinkKind::Channel(sink)).from("counts"))
            .build()
            .unwrap();
        let running = run::start(pipeline, &RunOptions::default()).await.unwrap();
        let rows = run::collect(results);
        let status = running.wait().await.unwrap();
        let late: u64 = status.nodes.iter().map(|node| node.counts.late_rows).sum();
        assert_eq!(late, 0, "{status:?}");
        let total: i64 = rows.await.unwrap().iter().map(|row| row["n"].as_i64().unwrap()).sum();
        assert_eq!(total, 2 * i64::from(ROWS));
    }
}

#[tokio::test]
async fn a_restart_reads_to_the_new_end_and_partitions_that_are_new_from_their_start() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("restart");
    broker.create_topic(&topic, 2).await.unwrap();
    let producer = producer(broker, &[]);
    produce(&producer, &topic, 0, Some("a"), 1);
    producer.flush(PATIENCE).unwrap();
    let mut source = open(spec(broker, &topic), context(Format::Text)).await;
    assert_eq!(read_to_end(source.as_mut()).await.of_partition(0), ["a"]);
    let ended: Vec<Position> = source.positions().into_iter().map(|(_, position)| position).collect();
    assert!(ended.iter().all(|position| position.ended), "{ended:?}");
    drop(source);
    for (partition, value) in [(0, "b"), (1, "c")] {
        produce(&producer, &topic, partition, Some(value), 2);
    }
    producer.flush(PATIENCE).unwrap();
    // with partition 1 known to be empty, and as one that has been added since
    for known in [ended.clone(), ended.iter().take(1).cloned().collect()] {
        for start in [KafkaStart::Earliest, KafkaStart::Latest] {
            let restore = Some(Arc::new(known.iter().cloned().collect()));
            let spec = KafkaSourceSpec { start, ..spec(broker, &topic) };
            let mut source = open(spec, SourceContext { restore, ..context(Format::Text) }).await;
            let told = read_to_end(source.as_mut()).await;
            assert_eq!((told.of_partition(0), told.of_partition(1)), (vec!["b"], vec!["c"]), "{start:?} {known:?}");
            let next: Vec<u64> = source.positions().iter().map(|(_, position)| position.next).collect();
            assert_eq!(next, [2, 1]);
        }
    }
    let beyond = Position { next: 9, ..ended[0].clone() };
    let restore = Some(Arc::new([beyond].into_iter().collect()));
    let context = SourceContext { restore, ..context(Format::Text) };
    let error = source::open(&SourceKind::Kafka(spec(broker, &topic)), context).await.err().unwrap().to_string();
    assert!(error.contains("partition 0 ends at offset 2, but had been read up to 9"), "{error}");
}
