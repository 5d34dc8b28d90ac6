//! `[sink.<name>]` and `[dead_letter]`

use super::item::{Item, Table};
use super::kafka::read_security;
use super::keys;
use super::source::{optional, read_format};
use crate::error::Spanned;
use crate::pipeline::problems::Problems;
use crate::pipeline::spec::SinkSpec;
use crate::sink::{KafkaSinkSpec, ObjectSinkSpec, SinkKind};

/// What a sink reads, and the sink unless anything in it is wrong.
pub(super) fn read(
    name: Spanned<String>,
    item: Item,
    problems: &mut Problems,
) -> (Option<Vec<Spanned<String>>>, Option<SinkSpec>) {
    let Some(mut table) = Table::open(item, &keys::SINK, problems) else { return (None, None) };
    let from = table.required("from", problems).and_then(|item| item.texts(problems));
    let kind = read_kind(&mut table, &keys::SINK_KINDS, problems);
    let format = optional(table.take("format"), |item| read_format(item, problems));
    let parallelism = optional(table.take("parallelism"), |item| item.integer(problems));
    let sink = || Some(SinkSpec { name, from: from.clone()?, kind: kind?, format: format?, parallelism: parallelism? });
    let sink = sink();
    (from, sink)
}

pub(super) fn read_dead_letter(item: Item, problems: &mut Problems) -> Option<Spanned<SinkKind>> {
    let mut table = Table::open(item, &keys::DEAD_LETTER, problems)?;
    read_kind(&mut table, &keys::SINK_KINDS, problems)
}

fn read_kind(table: &mut Table, kinds: &[&'static str], problems: &mut Problems) -> Option<Spanned<SinkKind>> {
    let (key, item) = table.take_kind(kinds, "where rows go", problems)?;
    let place = item.span();
    let kind = match key {
        "print" => Table::open(item, &keys::EMPTY_SINK, problems).map(|_| SinkKind::Print),
        "discard" => Table::open(item, &keys::EMPTY_SINK, problems).map(|_| SinkKind::Discard),
        "file" => read_file(item, problems),
        "object" => read_object(item, problems),
        _ => read_kafka(item, problems).map(SinkKind::Kafka),
    };
    kind.map(|kind| Spanned::new(kind, place))
}

fn read_file(item: Item, problems: &mut Problems) -> Option<SinkKind> {
    let mut table = Table::open(item, &keys::FILE_SINK, problems)?;
    let path = table.required("path", problems)?.text(problems)?;
    Some(SinkKind::File { path: path.value })
}

fn read_object(item: Item, problems: &mut Problems) -> Option<SinkKind> {
    let mut table = Table::open(item, &keys::OBJECT_SINK, problems)?;
    let url = table.required("url", problems).and_then(|item| item.text(problems));
    let roll = optional(table.take("roll"), |item| item.bytes(problems));
    Some(SinkKind::Object(ObjectSinkSpec { url: url?.value, roll: roll? }))
}

fn read_kafka(item: Item, problems: &mut Problems) -> Option<KafkaSinkSpec> {
    let mut table = Table::open(item, &keys::KAFKA_SINK, problems)?;
    let brokers = table.required("brokers", problems).and_then(|item| item.text(problems));
    let topic = table.required("topic", problems).and_then(|item| item.text(problems));
    let key = optional(table.take("key"), |item| item.text(problems));
    let security = read_security(&mut table, problems);
    let properties = optional(table.take("properties"), |item| item.properties(problems));
    Some(KafkaSinkSpec {
        brokers: brokers?.value,
        topic: topic?.value,
        key: key?,
        security: security?,
        properties: properties?.unwrap_or_default(),
    })
}
