//! What must hold for every pipeline, whether read from a file or built: names, wiring, ranges, keys that exclude
//! each other. Components and schemas are not looked at; that is the planner's work.

mod capsules;
mod process;
mod step;
mod transactions;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::check_state::check_state;
use super::duration::{NANOSECONDS_MAX, display_ns};
use super::problems::{Problems, code, quote};
use super::spec::{CheckpointSpec, PipelineSpec, SinkSpec, SourceSpec};
use super::wiring::Wiring;
use crate::error::{Diagnostic, Span, Spanned};
use crate::format::Format;
use crate::limits::KEY_GROUPS;
use crate::objects::Location;
use crate::sink::{ObjectSinkSpec, SinkKind};
use crate::source::{GeneratorKind, SourceKind};

pub(super) use step::check_window;

/// Bytes of a name.
pub const NAME_BYTES_MAX: usize = 64;

/// Least memory of a guest: one page of WebAssembly. Most need more; those are refused when they are instantiated.
pub const GUEST_MEMORY_BYTES_MIN: usize = 64 << 10;

/// Most memory of a guest: all that 32 bits address.
pub const GUEST_MEMORY_BYTES_MAX: usize = 4 << 30;

/// Bytes of a Kafka topic's name.
const TOPIC_BYTES_MAX: usize = 249;

/// Columns that a windowed aggregate adds itself.
pub(super) const WINDOW_COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// Formats as users write them.
pub(super) const FORMATS: [(&str, Format); 6] = [
    ("json", Format::Json),
    ("msgpack", Format::Msgpack),
    ("csv", Format::Csv),
    ("text", Format::Text),
    ("raw", Format::Raw),
    ("parquet", Format::Parquet),
];

/// All that is wrong with a pipeline as written, in file order; empty when it can be planned.
///
/// The reader and the builder have already called this.
pub fn check_structure(spec: &PipelineSpec) -> Vec<Diagnostic> {
    let mut problems = Problems::default();
    check(spec, &Wiring::of(spec), &mut problems);
    problems.into_diagnostics()
}

/// As [`check_structure`], with a wiring that may have more parts than could be read.
pub(super) fn check(spec: &PipelineSpec, wiring: &Wiring, problems: &mut Problems) {
    name("pipeline", &spec.name, problems);
    parallelism("the pipeline", spec.parallelism.as_ref(), problems);
    for source in &spec.sources {
        check_source(source, problems);
    }
    for step in &spec.steps {
        step::check_step(step, problems);
    }
    for sink in &spec.sinks {
        check_sink(sink, problems);
    }
    check_kept_formats(spec, problems);
    check_rolls(spec, problems);
    if let Some(dead_letter) = &spec.dead_letter {
        check_sink_kind("the dead-letter output", dead_letter, problems);
        if dead_letter.value == SinkKind::Print {
            problems.add(
                code::BAD_VALUE,
                dead_letter.span,
                "the dead-letter output cannot be `print`",
                "stdout carries results only",
                "use `file = { path = \"dead.json\" }`, `kafka = { .. }` or `discard = {}`",
            );
        }
    }
    if let Some(checkpoint) = &spec.checkpoint {
        check_checkpoint(checkpoint, problems);
        transactions::check(spec, checkpoint, problems);
    }
    check_restart(spec, problems);
    if let Some(state) = &spec.state {
        check_state(state, problems);
    }
    if let Some(capsules) = &spec.capsules {
        capsules::check(capsules, problems);
    }
    check_files_differ(spec, problems);
    wiring.check(&spec.text, problems);
}

/// Checkpoints kept at most.
const RETAIN_MAX: usize = 1_000;

/// Shorter intervals would spend their time in waiting for the disk.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(10);

fn check_checkpoint(checkpoint: &CheckpointSpec, problems: &mut Problems) {
    let store = &checkpoint.store;
    if let Err(error) = checkpoint.location(Path::new("")) {
        let message = format!("the checkpoint store is {}", quote(&store.value));
        problems.add(code::BAD_VALUE, store.span, message, format!("expected {}", error.expected), "");
    }
    if checkpoint.interval.value < CHECKPOINT_INTERVAL_MIN {
        let (message, help) = ("the checkpoint interval is too short", "write a duration like `1s`");
        problems.add(code::BAD_DURATION, checkpoint.interval.span, message, "expected 10ms or more", help);
    }
    if !(1..=RETAIN_MAX).contains(&checkpoint.retain.value) {
        let message = format!("{} checkpoints are to be kept", checkpoint.retain.value);
        let label = format!("expected 1 to {RETAIN_MAX}");
        problems.add(code::BAD_VALUE, checkpoint.retain.span, message, label, "the default is 3");
    }
}

fn check_restart(spec: &PipelineSpec, problems: &mut Problems) {
    let Some(Spanned { value: restart, span }) = &spec.restart else { return };
    if spec.checkpoint.is_none() && restart.attempts.value > 0 {
        let message = "a pipeline without checkpoints cannot be started again by itself";
        let label = "there is nothing to go on from";
        let help = "add `checkpoint = { store = \"state\" }`, or remove `restart`";
        problems.add(code::CONFLICT, *span, message, label, help);
    }
    if restart.first.value > restart.max.value {
        let message = "the first pause before a restart is longer than the longest";
        problems.add(code::BAD_DURATION, restart.first.span, message, "expected at most `max`", "");
    }
}

/// Parquet files are read and written as a whole: a restart would read rows again, or leave a file without its end.
fn check_kept_formats(spec: &PipelineSpec, problems: &mut Problems) {
    if spec.checkpoint.is_none() {
        return;
    }
    let sources = spec.sources.iter().map(|source| ("source", &source.name, &source.format));
    // an object is a whole file each epoch
    let sinks = spec.sinks.iter().filter(|sink| !matches!(sink.kind.value, SinkKind::Object(_)));
    let sinks = sinks.map(|sink| ("sink", &sink.name, &sink.format));
    for (role, name, format) in sources.chain(sinks) {
        let Some(format) = format.as_ref().filter(|format| format.value == Format::Parquet) else { continue };
        let message = format!("{role} {} is parquet in a pipeline with checkpoints", quote(&name.value));
        let label = "checkpoints do not reach into parquet files in this version";
        let help = "remove `checkpoint`, since a pipeline over files can be run again, or use another format";
        problems.add(code::NOT_AVAILABLE, format.span, message, label, help);
    }
}

/// With checkpoints an object ends with its epoch.
fn check_rolls(spec: &PipelineSpec, problems: &mut Problems) {
    for kind in spec.sinks.iter().map(|sink| &sink.kind).chain(&spec.dead_letter) {
        let SinkKind::Object(ObjectSinkSpec { roll: Some(_), .. }) = &kind.value else { continue };
        if spec.checkpoint.is_some() {
            let message = "`roll` in a pipeline with checkpoints";
            let help = "remove `roll`; a longer `interval` makes larger objects";
            problems.add(code::CONFLICT, kind.span, message, "an object ends with its epoch", help);
        }
    }
}

/// Two sinks that write one file would each cut off what the other has written.
fn check_files_differ(spec: &PipelineSpec, problems: &mut Problems) {
    let sinks = spec.sinks.iter().map(|sink| &sink.kind);
    let mut seen: Vec<&str> = Vec::new();
    for kind in sinks.chain(&spec.dead_letter) {
        let (SinkKind::File { path } | SinkKind::Object(ObjectSinkSpec { url: path, .. })) = &kind.value else {
            continue;
        };
        let path = path.trim_start_matches("./");
        if seen.contains(&path) {
            let message = format!("two sinks write the file {}", quote(path));
            let help = "give each sink, and the dead-letter output, a file of its own";
            problems.add(code::CONFLICT, kind.span, message, "another sink writes it", help);
        }
        seen.push(path);
    }
}

/// Names begin with a letter and have lower-case letters, digits, `_` and `-`. Lower case only: names become file
/// names, and file systems that ignore case would make one of two.
pub(super) fn name(what: &str, name: &Spanned<String>, problems: &mut Problems) {
    let value = &name.value;
    let first_is_letter = value.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if first_is_letter && value.len() <= NAME_BYTES_MAX && value.bytes().all(allowed) {
        return;
    }
    let (message, label) = if value.is_empty() {
        (format!("the name of the {what} is empty"), "expected a name".to_owned())
    } else if value.len() > NAME_BYTES_MAX {
        let label = format!("expected at most {NAME_BYTES_MAX} bytes, found {}", value.len());
        (format!("the name {} of the {what} is too long", quote(value)), label)
    } else if !first_is_letter && value.bytes().all(allowed) {
        let label = "expected a lower-case letter first".to_owned();
        (format!("the name {} of the {what} does not begin with a letter", quote(value)), label)
    } else {
        let bad = value.chars().find(|&c| !c.is_ascii() || !allowed(c as u8));
        let label = format!("found {}", quote(&bad.map(String::from).unwrap_or_default()));
        (format!("the name {} of the {what} has characters that names may not have", quote(value)), label)
    };
    let rule = "names begin with a lower-case letter and have lower-case letters, digits, `_` and `-` only";
    let lower: String = value.to_ascii_lowercase().replace([' ', '.'], "_");
    let suggested = !value.is_empty() && lower != *value && value.len() <= NAME_BYTES_MAX && lower.bytes().all(allowed);
    let help = if suggested { format!("{rule}, like `{lower}`") } else { rule.to_owned() };
    problems.add(code::BAD_NAME, name.span, message, label, help);
}

fn parallelism(of: &str, parallelism: Option<&Spanned<usize>>, problems: &mut Problems) {
    let Some(tasks) = parallelism else { return };
    if !(1..=KEY_GROUPS as usize).contains(&tasks.value) {
        problems.add(
            code::BAD_VALUE,
            tasks.span,
            format!("`parallelism` of {of} is {}", tasks.value),
            format!("expected 1 to {KEY_GROUPS}"),
            format!("keyed state is spread over {KEY_GROUPS} key groups, so more tasks would have nothing to do"),
        );
    }
}

fn check_source(source: &SourceSpec, problems: &mut Problems) {
    let of = format!("source {}", quote(&source.name.value));
    parallelism(&of, source.parallelism.as_ref(), problems);
    let generator = matches!(source.kind.value, SourceKind::Generator(_));
    match &source.format {
        None if !generator => problems.add(
            code::MISSING_KEY,
            source.name.span,
            format!("{of} has no `format`"),
            "expected `format`",
            "add `format = \"json\"`, or msgpack, csv, text (a line is one column), raw",
        ),
        Some(format) if generator => problems.add(
            code::CONFLICT,
            format.span,
            format!("{of} is a generator and has a `format`"),
            "a generator makes columns, not bytes",
            "remove `format`",
        ),
        _ => {}
    }
    if let (true, Some(schema)) = (generator, &source.schema) {
        let label = "a generator has the columns of its kind";
        problems.add(
            code::CONFLICT,
            schema.span,
            format!("{of} is a generator and has a `schema`"),
            label,
            "remove `schema`",
        );
    }
    if let Some(schema) = &source.schema {
        let names = schema.value.fields().iter().map(|field| (field.name.as_str(), schema.span));
        unique_columns(&format!("`schema` of {of}"), names, problems);
    }
    check_watermark(&of, source, problems);
    files_only(&of, source.format.as_ref(), matches!(source.kind.value, SourceKind::File { .. }), problems);
    check_source_kind(&of, source, problems);
}

/// Times and watermarks come from one place each.
fn check_watermark(of: &str, source: &SourceSpec, problems: &mut Problems) {
    let figures = [("idle_after", source.watermark.idle_after), ("max_drift", source.watermark.max_drift)];
    for (key, figure) in figures {
        if let Some(duration) = figure {
            positive(&format!("`{key}` of {of}"), duration, source.kind.span, problems);
        }
    }
    if let Some(assigner) = &source.assigner {
        not_empty(&format!("the watermark assigner of {of}"), &assigner.path.value, assigner.path.span, problems);
        if let Some(column) = &source.event_time {
            let message = format!("{of} has `event_time` and a watermark assigner");
            let help = "remove `event_time`; the assigner may read the column and put it out as `event_time`";
            problems.add(code::CONFLICT, column.span, message, "the assigner gives rows their event time", help);
        }
    }
    let Some(column) = &source.watermark_column else { return };
    let twice = if source.assigner.is_some() {
        ("a watermark assigner", "keep one: the assigner can put the column out as `watermark`")
    } else if !source.watermark.max_out_of_orderness.is_zero() {
        ("`max_out_of_orderness`", "keep one: rows say what has been reached, or it follows from their times")
    } else {
        return;
    };
    let message = format!("{of} has its watermarks from a `column` and from {}", twice.0);
    problems.add(code::CONFLICT, column.span, message, "watermarks come from one place", twice.1);
}

/// Parquet is read and written as whole files.
fn files_only(of: &str, format: Option<&Spanned<Format>>, is_file: bool, problems: &mut Problems) {
    if let Some(format) = format.filter(|format| format.value == Format::Parquet && !is_file) {
        problems.add(
            code::CONFLICT,
            format.span,
            format!("{of} has the format parquet and is no file"),
            "parquet is for files only",
            "use `file = { path = \"rows.parquet\" }`, or one of json, msgpack, csv, text, raw",
        );
    }
}

fn check_source_kind(of: &str, source: &SourceSpec, problems: &mut Problems) {
    let span = source.kind.span;
    match &source.kind.value {
        SourceKind::Generator(generator) => {
            let keys = match generator.kind {
                GeneratorKind::Sequence { keys } | GeneratorKind::Customers { keys } => keys,
                GeneratorKind::Nexmark(_) => 1,
            };
            for (key, zero) in [("keys", keys == 0), ("rate", generator.rate == Some(0))] {
                if zero {
                    problems.add(code::BAD_VALUE, span, format!("`{key}` of {of} is 0"), "expected 1 or more", "");
                }
            }
        }
        SourceKind::File { path, header } => {
            not_empty(&format!("`path` of {of}"), path, span, problems);
            let format = source.format.as_ref().map(|format| format.value);
            if *header && format.is_some_and(|format| format != Format::Csv) {
                problems.add(
                    code::CONFLICT,
                    span,
                    format!("{of} has `header = true` and a format that is not csv"),
                    "only csv files have a header",
                    "remove `header` or write `format = \"csv\"`",
                );
            }
        }
        SourceKind::Stdin | SourceKind::Channel(_) => {}
        SourceKind::Tcp { listen, connections, .. } => {
            if !is_address(listen) {
                problems.add(
                    code::BAD_VALUE,
                    span,
                    format!("{of} cannot listen on {}", quote(listen)),
                    "expected host:port",
                    "write `listen = \"127.0.0.1:7000\"`",
                );
            }
            if *connections == Some(0) {
                let help = "leave it out to accept connections for ever";
                problems.add(code::BAD_VALUE, span, format!("`connections` of {of} is 0"), "expected 1 or more", help);
            }
        }
        SourceKind::Kafka(kafka) => check_kafka(of, &kafka.brokers, &kafka.topic, span, problems),
    }
}

fn check_sink(sink: &SinkSpec, problems: &mut Problems) {
    let of = format!("sink {}", quote(&sink.name.value));
    parallelism(&of, sink.parallelism.as_ref(), problems);
    inputs(&of, &sink.from, sink.name.span, problems);
    files_only(
        &of,
        sink.format.as_ref(),
        matches!(sink.kind.value, SinkKind::File { .. } | SinkKind::Object(_)),
        problems,
    );
    check_sink_kind(&of, &sink.kind, problems);
}

fn check_sink_kind(of: &str, kind: &Spanned<SinkKind>, problems: &mut Problems) {
    match &kind.value {
        SinkKind::Print | SinkKind::Discard | SinkKind::Channel(_) | SinkKind::Documents(_) => {}
        SinkKind::File { path } => not_empty(&format!("`path` of {of}"), path, kind.span, problems),
        SinkKind::Object(object) => check_object(of, object, kind.span, problems),
        SinkKind::Kafka(kafka) => check_kafka(of, &kafka.brokers, &kafka.topic, kind.span, problems),
    }
}

fn check_object(of: &str, object: &ObjectSinkSpec, span: Span, problems: &mut Problems) {
    let location = Location::parse(&object.url, Path::new("folder"));
    let label = match &location {
        Err(error) => format!("expected {}", error.expected),
        Ok(location) if location.split().is_none() => {
            "it names a place and no object; expected a name, like `rows.json`".to_owned()
        }
        Ok(_) => return,
    };
    problems.add(code::BAD_VALUE, span, format!("`url` of {of} is {}", quote(&object.url)), label, "");
}

fn check_kafka(of: &str, brokers: &str, topic: &str, span: Span, problems: &mut Problems) {
    if brokers.split(',').any(|broker| broker.trim().is_empty()) {
        problems.add(
            code::BAD_VALUE,
            span,
            format!("`brokers` of {of} has an empty address"),
            "expected host:port, comma separated",
            "write `brokers = \"localhost:9092\"`",
        );
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let good = !topic.is_empty() && topic.len() <= TOPIC_BYTES_MAX && topic.bytes().all(allowed);
    if !good || topic == "." || topic == ".." {
        problems.add(
            code::BAD_VALUE,
            span,
            format!("{} of {of} cannot be a topic", quote(topic)),
            format!("expected letters, digits, `.`, `_` and `-`, at most {TOPIC_BYTES_MAX}"),
            "",
        );
    }
}

/// At least one input, none without a name.
fn inputs(of: &str, from: &[Spanned<String>], span: Span, problems: &mut Problems) {
    if from.is_empty() {
        let help = "name a source or step: `from = \"lines\"`";
        problems.add(code::MISSING_KEY, span, format!("`from` of {of} names nothing"), "expected `from`", help);
    }
}

pub(super) fn unique_columns<'a>(of: &str, names: impl Iterator<Item = (&'a str, Span)>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (name, span) in names {
        not_empty(&format!("a column name in {of}"), name, span, problems);
        if !seen.insert(name) {
            let taken = if WINDOW_COLUMNS.contains(&name) {
                "every window adds a column of this name"
            } else {
                "this name is taken"
            };
            let message = format!("column {} comes twice in {of}", quote(name));
            problems.add(code::DUPLICATE_COLUMN, span, message, taken, "columns of a stream have different names");
        }
    }
}

pub(super) fn not_empty(what: &str, text: &str, span: Span, problems: &mut Problems) {
    if text.is_empty() {
        problems.add(code::BAD_VALUE, span, format!("{what} is empty"), "expected text", "");
    }
}

/// At least 1 ms, whole milliseconds, not beyond what durations may be.
pub(super) fn positive(what: &str, duration: Duration, span: Span, problems: &mut Problems) -> bool {
    let label = if duration < Duration::from_millis(1) {
        "expected 1ms or more"
    } else if !duration.as_nanos().is_multiple_of(1_000_000) {
        "expected whole milliseconds"
    } else if duration.as_nanos() > u128::from(NANOSECONDS_MAX) {
        "expected at most 36500d"
    } else {
        return true;
    };
    let message = format!("{what} is {}", display_ns(ns(duration)));
    problems.add(code::BAD_DURATION, span, message, label, "write a duration like `500ms`, `1.5s` or `1h30m`");
    false
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `host:port`; the host may be a name, the port a number.
fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}
