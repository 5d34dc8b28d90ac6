//! A pipeline that reads a Kafka topic, beside the same reading a file. The broker is the one of `--kafka HOST:PORT`, which
//! must make topics by itself, or a throw-away one started here where Java and Maven are installed.

use std::path::Path;
use std::time::Duration;

use millstream::format::Format;
use millstream::kafka::KafkaSecurity;
use millstream::pipeline::builder::{Pipeline, Sink, Source};
use millstream::source::{KafkaSourceSpec, KafkaStart, SourceKind};
use millstream_tests::broker::Broker;
use tempfile::TempDir;

use super::{Engine, files, pipelines, wall};
use crate::arguments::Arguments;
use crate::measure::{Failed, Side};
use crate::{Measure, Wanted};

const READ: &str = "engine: Kafka topic of 100-byte lines";
const WRITTEN: &str = "engine: 100-byte lines to a Kafka topic";

/// The topic that is read is written once, by a pipeline, and read in every round. It stays: the broker is expected to be a
/// throw-away.
pub(super) fn groups(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let names = [READ, WRITTEN];
    if !names.into_iter().any(wanted) {
        return Ok(());
    }
    let topics =
        ["read", "plain", "transactions"].map(|what| format!("millstream-bench-{what}-{}", std::process::id()));
    let own = if arguments.kafka.is_none() { Broker::start()? } else { None };
    if let Some(broker) = &own {
        topics.iter().try_for_each(|topic| engine.runtime.block_on(broker.create_topic(topic, 1)))?;
    }
    let Some(brokers) = arguments.kafka.clone().or_else(|| own.as_ref().map(Broker::bootstrap)) else { return Ok(()) };
    let [topic, plain, transactions] = topics;
    if wanted(WRITTEN) {
        written(engine, arguments, (&brokers, &plain, &transactions), measure)?;
    }
    if wanted(READ) { read(engine, arguments, brokers, topic, measure) } else { Ok(()) }
}

/// Lines from a file to a topic, without checkpoints and in transactions.
fn written(
    engine: &Engine,
    arguments: &Arguments,
    (brokers, plain, transactions): (&str, &str, &str),
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let rows = if arguments.quick { 500_000 } else { 2_000_000 };
    let io = |error: std::io::Error| format!("cannot write what is to be read: {error}");
    let folder = TempDir::new().map_err(io)?;
    let path = files::lines(&folder, rows).map_err(io)?;
    let spec = |topic: &str, store: Option<&Path>| {
        let sink = Sink::kafka(brokers, topic).from("in").format(Format::Text);
        let pipeline = Pipeline::new("written").parallelism(1);
        let pipeline = pipeline.source("in", Source::file(path.to_string_lossy()).format(Format::Text));
        let pipeline = match store {
            Some(store) => pipeline.checkpoint(store.to_string_lossy(), Duration::from_secs(1)),
            None => pipeline,
        };
        pipeline.sink("out", sink).build().map_err(|error| error.to_string())
    };
    let side = Side::new("transactions, every 1 s", || {
        let store = TempDir::new().map_err(io)?;
        let mut spec = spec(transactions, Some(store.path()))?;
        // the marker of the round before is of a store that is gone
        spec.name =
            format!("written-{}", store.path().display().to_string().replace(|c: char| !c.is_alphanumeric(), ""))
                .into();
        engine.run(engine.resolve(spec)?)
    });
    measure(wall(WRITTEN, vec![engine.side("without checkpoints", spec(plain, None)?)?, side]))
}

fn read(
    engine: &Engine,
    arguments: &Arguments,
    brokers: String,
    topic: String,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let rows = if arguments.quick { 1_000_000 } else { 5_000_000 };
    let io = |error: std::io::Error| format!("cannot write what is to be read: {error}");
    let folder = TempDir::new().map_err(io)?;
    let path = files::lines(&folder, rows).map_err(io)?;
    let file = || Source::file(path.to_string_lossy()).format(Format::Text);
    let fill = Pipeline::new("fill")
        .source("in", file())
        .sink("out", Sink::kafka(&brokers, &topic).from("in").format(Format::Text))
        .build();
    engine.run(engine.resolve(fill.map_err(|error| error.to_string())?)?)?;
    let kafka = Source::of(SourceKind::Kafka(KafkaSourceSpec {
        security: KafkaSecurity::default(),
        brokers,
        topic,
        start: KafkaStart::Earliest,
        bounded: true,
        discover: Duration::from_secs(30),
        properties: Vec::new(),
    }));
    let sides = vec![
        engine.side("file → filter → discard", pipelines::lines(file())?)?,
        engine.side("topic → filter → discard", pipelines::lines(kafka)?)?,
    ];
    measure(wall(READ, sides))
}
