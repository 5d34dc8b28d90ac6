//! `[source.<name>]`

use super::item::{Item, Table};
use super::kafka::read_security;
use super::keys;
use super::step::read_component;
use crate::error::Spanned;
use crate::format::Format;
use crate::operator::OnError;
use crate::pipeline::check::FORMATS;
use crate::pipeline::problems::{Problems, alternatives, code, quote};
use crate::pipeline::spec::{ComponentSpec, SourceSpec};
use crate::record::{Field, Kind, Schema};
use crate::source::{
    Framing, GeneratorKind, GeneratorSpec, KAFKA_DISCOVER, KafkaSourceSpec, KafkaStart, NexmarkStream, SourceKind,
    WatermarkSpec,
};

const ON_ERROR: [(&str, OnError); 3] =
    [("dead_letter", OnError::DeadLetter), ("skip", OnError::Skip), ("fail", OnError::Fail)];

/// Reads a source; `None` if anything in it is wrong.
pub(super) fn read(name: Spanned<String>, item: Item, problems: &mut Problems) -> Option<SourceSpec> {
    let mut table = Table::open(item, &keys::SOURCE, problems)?;
    let kind = table.take_kind(&keys::SOURCE_KINDS, "where records come from", problems);
    let kind = kind.and_then(|(key, item)| read_kind(key, item, problems));
    let format = optional(table.take("format"), |item| read_format(item, problems));
    let schema = optional(table.take("schema"), |item| read_schema(item, problems));
    let event_time = optional(table.take("event_time"), |item| item.text(problems));
    let watermark = optional(table.take("watermark"), |item| read_watermark(item, problems));
    let parallelism = optional(table.take("parallelism"), |item| item.integer(problems));
    let on_error = optional(table.take("on_error"), |item| read_on_error(item, problems));
    let Watermarks { figures, assigner, column } = watermark?.unwrap_or_default();
    Some(SourceSpec {
        name,
        kind: kind?,
        format: format?,
        schema: schema?,
        event_time: event_time?,
        watermark: figures,
        assigner,
        watermark_column: column,
        parallelism: parallelism?,
        on_error: on_error?.unwrap_or_default(),
    })
}

/// An item that may be absent: `Some(None)` if it is, `None` if it is there and wrong.
pub(super) fn optional<T>(item: Option<Item>, read: impl FnOnce(Item) -> Option<T>) -> Option<Option<T>> {
    match item {
        Some(item) => read(item).map(Some),
        None => Some(None),
    }
}

pub(super) fn read_on_error(item: Item, problems: &mut Problems) -> Option<OnError> {
    item.choice(&ON_ERROR, problems).map(|on_error| on_error.value)
}

pub(super) fn read_format(item: Item, problems: &mut Problems) -> Option<Spanned<Format>> {
    if let super::node::Value::Text(text) = &item.node.value
        && keys::FORMATS_LATER.contains(&text.as_str())
    {
        problems.add(
            code::NOT_AVAILABLE,
            item.span(),
            format!("{} is {}, which is not available in this version", item.what, quote(text)),
            "not available",
            "available: json, msgpack, csv, text, raw, parquet",
        );
        return None;
    }
    item.choice(&FORMATS, problems)
}

fn read_schema(item: Item, problems: &mut Problems) -> Option<Spanned<Schema>> {
    let place = item.span();
    let what = item.what.clone();
    let columns = item.entries("write `schema = { auction = \"int64\", name = \"text?\" }`", problems)?;
    if columns.is_empty() {
        let help = "name the columns, or leave `schema` out";
        problems.add(code::BAD_VALUE, place, format!("{what} is empty"), "expected at least one column", help);
        return None;
    }
    let count = columns.len();
    let fields: Vec<Field> =
        columns.into_iter().filter_map(|(name, item)| read_field(name.value, item, problems)).collect();
    (fields.len() == count).then(|| Spanned::new(Schema::new(fields), place))
}

fn read_field(name: String, item: Item, problems: &mut Problems) -> Option<Field> {
    let what = item.what.clone();
    let text = item.text(problems)?;
    let (kind, nullable) = match text.value.strip_suffix('?') {
        Some(kind) => (kind, true),
        None => (text.value.as_str(), false),
    };
    let Some(kind) = Kind::from_name(kind) else {
        let message = format!("{what} is {}", quote(&text.value));
        let kinds = Kind::ALL.map(Kind::name);
        let help = format!("{}; a trailing `?` allows nulls", alternatives("kinds", kind, &kinds));
        problems.add(code::UNKNOWN_VALUE, text.span, message, "no such kind of column", help);
        return None;
    };
    Some(Field { name, kind, nullable })
}

/// What a `watermark` table says.
#[derive(Default)]
struct Watermarks {
    figures: WatermarkSpec,
    assigner: Option<ComponentSpec>,
    column: Option<Spanned<String>>,
}

fn read_watermark(item: Item, problems: &mut Problems) -> Option<Watermarks> {
    let mut table = Table::open(item, &keys::WATERMARK, problems)?;
    let max_out_of_orderness = optional(table.take("max_out_of_orderness"), |item| item.duration(problems));
    let idle_after = optional(table.take("idle_after"), |item| item.positive_duration(problems));
    let column = optional(table.take("column"), |item| item.text(problems));
    let assigner = optional(table.take("assigner"), |item| read_component(item, None, problems));
    let max_drift = optional(table.take("max_drift"), |item| item.positive_duration(problems));
    let figures = WatermarkSpec {
        max_out_of_orderness: max_out_of_orderness?.unwrap_or_default(),
        idle_after: idle_after?,
        max_drift: max_drift?,
    };
    Some(Watermarks { figures, assigner: assigner?, column: column? })
}

fn read_kind(key: &str, item: Item, problems: &mut Problems) -> Option<Spanned<SourceKind>> {
    let place = item.span();
    let kind = match key {
        "generator" => read_generator(item, problems).map(SourceKind::Generator),
        "file" => read_file(item, problems),
        "stdin" => Table::open(item, &keys::STDIN, problems).map(|_| SourceKind::Stdin),
        "tcp" => read_tcp(item, problems),
        _ => read_kafka(item, problems).map(SourceKind::Kafka),
    };
    kind.map(|kind| Spanned::new(kind, place))
}

fn read_file(item: Item, problems: &mut Problems) -> Option<SourceKind> {
    let mut table = Table::open(item, &keys::FILE_SOURCE, problems)?;
    let path = table.required("path", problems).and_then(|item| item.text(problems));
    let header = optional(table.take("header"), |item| item.boolean(problems));
    Some(SourceKind::File { path: path?.value, header: header?.unwrap_or_default() })
}

fn read_tcp(item: Item, problems: &mut Problems) -> Option<SourceKind> {
    let mut table = Table::open(item, &keys::TCP, problems)?;
    let listen = table.required("listen", problems).and_then(|item| item.text(problems));
    let framings = [("lines", Framing::Lines), ("length", Framing::Length)];
    let framing = optional(table.take("framing"), |item| item.choice(&framings, problems));
    let connections = optional(table.take("connections"), |item| item.integer(problems));
    Some(SourceKind::Tcp {
        listen: listen?.value,
        framing: framing?.map(|framing| framing.value).unwrap_or_default(),
        connections: connections?.map(|connections| connections.value),
    })
}

fn read_kafka(item: Item, problems: &mut Problems) -> Option<KafkaSourceSpec> {
    let mut table = Table::open(item, &keys::KAFKA_SOURCE, problems)?;
    let brokers = table.required("brokers", problems).and_then(|item| item.text(problems));
    let topic = table.required("topic", problems).and_then(|item| item.text(problems));
    let starts = [("earliest", KafkaStart::Earliest), ("latest", KafkaStart::Latest)];
    let start = optional(table.take("start"), |item| item.choice(&starts, problems));
    let until = optional(table.take("until"), |item| item.choice(&[("end", true)], problems));
    let security = read_security(&mut table, problems);
    let discover = optional(table.take("discover"), |item| item.positive_duration(problems));
    let properties = optional(table.take("properties"), |item| item.properties(problems));
    Some(KafkaSourceSpec {
        brokers: brokers?.value,
        topic: topic?.value,
        start: start?.map(|start| start.value).unwrap_or_default(),
        bounded: until?.is_some(),
        security: security?,
        discover: discover?.unwrap_or(KAFKA_DISCOVER),
        properties: properties?.unwrap_or_default(),
    })
}

fn read_generator(item: Item, problems: &mut Problems) -> Option<GeneratorSpec> {
    const KEYS_DEFAULT: u64 = 100;
    let mut table = Table::open(item, &keys::GENERATOR, problems)?;
    let kinds: [(_, fn(u64) -> _); 5] = [
        ("sequence", |keys| GeneratorKind::Sequence { keys }),
        ("customers", |keys| GeneratorKind::Customers { keys }),
        ("nexmark_person", |_| GeneratorKind::Nexmark(NexmarkStream::Person)),
        ("nexmark_auction", |_| GeneratorKind::Nexmark(NexmarkStream::Auction)),
        ("nexmark_bid", |_| GeneratorKind::Nexmark(NexmarkStream::Bid)),
    ];
    let kind = table.required("kind", problems).and_then(|item| item.choice(&kinds, problems));
    let keys = optional(table.take("keys"), |item| item.integer(problems));
    let rows = optional(table.take("rows"), |item| item.integer(problems));
    let rate = optional(table.take("rate"), |item| item.integer(problems));
    let seed = optional(table.take("seed"), |item| item.integer(problems));
    let start = optional(table.take("start"), |item| item.integer(problems));
    let interval = optional(table.take("interval"), |item| item.duration_ns(problems));
    let keys = keys?.map_or(KEYS_DEFAULT, |keys| keys.value);
    Some(GeneratorSpec {
        kind: (kind?.value)(keys),
        rows: rows?.map(|rows| rows.value),
        rate: rate?.map(|rate| rate.value),
        seed: seed?.map(|seed| seed.value).unwrap_or_default(),
        start_ms: start?.map(|start| start.value).unwrap_or_default(),
        interval_ns: interval?,
    })
}
