//! Writing topics.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_writes_a_source_reads() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("sink");
    broker.create_topic(&topic, 4).await.unwrap();
    let context_out = sink_context(Format::Json, &["user", "value"]);
    let mut out = sink::open(&sink_kind(broker, &topic, Some("user")), context_out.clone()).await.unwrap();
    let rows = 20_000;
    for first in (0..rows).step_by(1_000) {
        let users = (first..first + 1_000).map(|i| format!("user {}", i % 10)).collect();
        let values = (first..first + 1_000).map(|i| i.to_string()).collect();
        let times = (first..first + 1_000).map(|i| 10_000 + i64::from(i)).collect();
        out.write(&text_batch(&context_out.schema, &[users, values], times)).await.unwrap();
    }
    out.flush().await.unwrap();
    out.finish().await.unwrap();

    let schema = Schema::new([Field::new("value", Kind::Text), Field::new("user", Kind::Text)]);
    let context_in = SourceContext { schema: schema.clone(), wanted: schema, ..context(Format::Json) };
    let mut source = open(spec(broker, &topic), context_in).await;
    let (mut partition_of, mut last_of) = (vec![None; 10], vec![-1; 10]);
    let mut seen = 0;
    loop {
        let (partition, batch) = match source.next().await.unwrap() {
            SourceEvent::End => break,
            SourceEvent::Batch { partition, batch, .. } => (partition, batch),
            _ => continue,
        };
        for row in 0..batch.rows() {
            let value: i64 = batch.column(0).as_string::<i32>().value(row).parse().unwrap();
            let user = (value % 10) as usize;
            assert_eq!(batch.column(1).as_string::<i32>().value(row), format!("user {user}"));
            assert_eq!(batch.times()[row], 10_000 + value);
            assert_eq!(*partition_of[user].get_or_insert(partition), partition, "a key has one partition");
            assert!(value > last_of[user], "in order");
            last_of[user] = value;
            seen += 1;
        }
    }
    assert_eq!(seen, rows);
    assert!(partition_of.iter().any(|partition| *partition != partition_of[0]), "keys are spread");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_arrive_as_written() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let broker = broker_or_return!();
    let topic = broker.topic_name("keys");
    broker.create_topic(&topic, 1).await.unwrap();
    let context_out = sink_context(Format::Text, &["value"]);
    let mut out = sink::open(&sink_kind(broker, &topic, Some("value")), context_out.clone()).await.unwrap();
    let batch = text_batch(&context_out.schema, &[vec!["a".into(), String::new()]], vec![NO_EVENT_TIME, 7]);
    out.write(&batch).await.unwrap();
    out.finish().await.unwrap();

    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("group.id", &topic);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let next = || consumer.poll(PATIENCE).unwrap().unwrap().detach();
    let (first, second) = (next(), next());
    assert_eq!((first.key(), first.payload()), (Some(&b"a"[..]), Some(&b"a"[..])));
    assert!(first.timestamp().to_millis().unwrap() > 1_600_000_000_000, "the time of sending");
    assert_eq!((second.key(), second.timestamp().to_millis()), (Some(&b""[..]), Some(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_broker_refuses_ends_the_sink_with_an_error() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("refused");
    broker.create_topic(&topic, 1).await.unwrap();
    let kind = SinkKind::Kafka(KafkaSinkSpec {
        brokers: broker.bootstrap(),
        topic: topic.clone(),
        key: None,
        security: KafkaSecurity::default(),
        properties: vec![("message.max.bytes".into(), "10000000".into())],
    });
    let context_out = sink_context(Format::Text, &["value"]);
    let mut out = sink::open(&kind, context_out.clone()).await.unwrap();
    // the broker's limit is 1 MiB
    let batch = text_batch(&context_out.schema, &[vec!["x".repeat(2 << 20)]], vec![5]);
    out.write(&batch).await.unwrap();
    let error = out.finish().await.err().unwrap().to_string();
    assert!(error.contains(&format!("topic `{topic}`")) && error.contains("was not delivered"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_needs_its_topic() {
    let broker = broker_or_return!();
    let topic = broker.topic_name("nowhere");
    let opened = sink::open(&sink_kind(broker, &topic, None), sink_context(Format::Text, &["value"])).await;
    let error = opened.err().unwrap().to_string();
    assert!(error.starts_with(&format!("sink `out`: kafka topic `{topic}`")), "{error}");
    assert!(error.contains("there is no such topic"), "{error}");
}
