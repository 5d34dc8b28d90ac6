//! A pipeline that reads a Kafka topic, beside the same reading a file. The broker is the one of `--kafka HOST:PORT`, which
//! must make topics by itself, or a throw-away one started here where Java and Maven are installed.

use millstream::format::Format;
use millstream::pipeline::builder::{Pipeline, Sink, Source};
use millstream::source::{KafkaSourceSpec, KafkaStart, SourceKind};
use millstream_tests::broker::Broker;
use tempfile::TempDir;

use super::{Engine, files, pipelines, wall};
use crate::arguments::Arguments;
use crate::measure::Failed;
use crate::{Measure, Wanted};

/// The topic is written once, by a pipeline, and read in every round. It stays: the broker is expected to be a
/// throw-away.
pub(super) fn groups(
    engine: &Engine,
    arguments: &Arguments,
    wanted: &Wanted<'_>,
    measure: &mut Measure<'_>,
) -> Result<(), Failed> {
    let name = "engine: Kafka topic of 100-byte lines";
    if !wanted(name) {
        return Ok(());
    }
    let topic = format!("millstream-bench-{}", std::process::id());
    let own = if arguments.kafka.is_none() { Broker::start()? } else { None };
    if let Some(broker) = &own {
        engine.runtime.block_on(broker.create_topic(&topic, 1))?;
    }
    let Some(brokers) = arguments.kafka.clone().or_else(|| own.as_ref().map(Broker::bootstrap)) else { return Ok(()) };
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
        brokers,
        topic,
        start: KafkaStart::Earliest,
        bounded: true,
        discover: std::time::Duration::from_secs(30),
        properties: Vec::new(),
    }));
    let sides = vec![
        engine.side("file → filter → discard", pipelines::lines(file())?)?,
        engine.side("topic → filter → discard", pipelines::lines(kafka)?)?,
    ];
    measure(wall(name, sides))
}
