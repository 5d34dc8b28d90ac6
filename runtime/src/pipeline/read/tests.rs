//! Right pipelines, arbitrary text, JSON, and the documentation.

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::operator::{AggregateFunction, OnError};
use crate::pipeline::spec::{AggregateSpec, Keep, StepKind};
use crate::record::{Field, Kind};
use crate::source::{GeneratorKind, KafkaStart, SourceKind};
use crate::wasm::Setting;
use crate::window::WindowSpec;

/// The pipeline that the documentation opens with.
pub(in crate::pipeline) const EXAMPLE: &str = r#"
name = "uppercase-counts"
[source.lines]
kafka = { brokers = "localhost:9092", topic = "test" }
format = "text"
watermark = { max_out_of_orderness = "2s", idle_after = "10s" }
[step.upper]
from = "lines"
map = "upper.wasm"
[step.counts]
from = "upper"
key_by = ["value"]
window = { tumbling = "5s" }
aggregate = { count = "count()", total = "sum(amount)" }
[sink.out]
from = "counts"
print = {}
"#;

/// Every key that is right at the same time.
pub(in crate::pipeline) const FULL: &str = r#"
name = "everything"
parallelism = 4

[source.z_first]
generator = { kind = "customers", keys = 7, rows = 1_000, rate = 50, seed = 3, start = -5, interval = "200ns" }
parallelism = 1

[source.bids]
file = { path = "bids-*.csv", header = true }
format = "csv"
schema = { auction = "int64", name = "text?", at = "timestamp_ms" }
event_time = "at"
on_error = "skip"

[source.wire]
tcp = { listen = "127.0.0.1:7000", framing = "length", connections = 2 }
format = "msgpack"

[source.topic]
kafka = { brokers = "a:1,b:2", topic = "in", start = "latest", until = "end", properties = { "client.id" = "m", "fetch.min.bytes" = 5, "enable.ssl" = true } }
format = "json"

[source.input]
stdin = {}
format = "raw"

[step.clean]
from = ["bids", "wire", "topic", "input", "z_first"]
flat_map = { component = "clean.wasm", config = { strict = true, language = "en", factor = 1.5, depth = 3 } }
keep = ["auction"]
parallelism = 2
on_error = "fail"
limits = { memory = "16MiB", deadline = "1.5s" }

[step.wanted]
from = "clean"
filter = "wanted.wasm"
config = { minimum = -3 }

[step.named]
from = "wanted"
map = "named.wasm"
keep = "all"

[step.totals]
from = "named"
key_by = "auction"
window = { tumbling = "1h30m", offset = "-15m" }
aggregate = { n = " count ( ) ", named = "count(name)", top = "max( price )", mean = "mean.wasm", spread = { component = "spread.wasm" } }
config = { digits = 2 }

[sink.file]
from = "totals"
file = { path = "totals.json" }
format = "json"

[sink.topic]
from = ["totals"]
kafka = { brokers = "a:1", topic = "out", key = "auction", properties = { "linger.ms" = 5 } }
format = "msgpack"
parallelism = 1

[sink.none]
from = "clean"
discard = {}

[dead_letter]
file = { path = "dead.json" }
"#;

pub(in crate::pipeline) fn parse_text(text: &str) -> Result<PipelineSpec, PipelineError> {
    parse(text, Path::new("pipeline.toml"), Path::new("folder"))
}

/// Forgets places, so that specs of different origin can be compared. Works on the debug form: a new field with a
/// place cannot be forgotten.
pub(in crate::pipeline) fn without_places(spec: &PipelineSpec) -> String {
    let mut spec = spec.clone();
    spec.text = "".into();
    spec.path = PathBuf::new();
    spec.base = PathBuf::new();
    let mut rest = format!("{spec:#?}");
    let mut kept = String::new();
    while let Some(at) = rest.find("span: Span {") {
        kept.push_str(&rest[..at]);
        let end = rest[at..].find('}').expect("spans are closed");
        rest = rest[at + end + 1..].to_owned();
    }
    kept + &rest
}

#[test]
fn the_example_is_read() {
    let spec = parse_text(EXAMPLE).expect("the example is right");
    assert_eq!(spec.name.value, "uppercase-counts");
    assert_eq!(spec.base, Path::new("folder"));
    assert_eq!(&spec.text[spec.name.span.start..spec.name.span.end], "\"uppercase-counts\"");
    let source = &spec.sources[0];
    assert_eq!(&spec.text[source.name.span.start..source.name.span.end], "lines");
    assert_eq!(source.watermark.max_out_of_orderness, Duration::from_secs(2));
    assert_eq!(source.watermark.idle_after, Some(Duration::from_secs(10)));
    assert!(matches!(&spec.steps[0].kind.value, StepKind::Map(component) if component.path.value == "upper.wasm"));
    let StepKind::Aggregate { key_by, window, aggregates, .. } = &spec.steps[1].kind.value else {
        panic!("no aggregate")
    };
    assert_eq!(key_by[0].value, "value");
    assert_eq!(window.value, WindowSpec::Tumbling { size: Duration::from_secs(5), offset_ms: 0 });
    assert_eq!(aggregates.len(), 2);
    assert!(spec.dead_letter.is_none());
}

#[test]
fn every_key_is_read() {
    let spec = parse_text(FULL).expect("all of it is right");
    assert_eq!(spec.parallelism.as_ref().map(|tasks| tasks.value), Some(4));
    let names: Vec<&str> = spec.sources.iter().map(|source| source.name.value.as_str()).collect();
    assert_eq!(names, ["z_first", "bids", "wire", "topic", "input"], "in file order");
    let SourceKind::Generator(generator) = &spec.sources[0].kind.value else { panic!("no generator") };
    assert_eq!(generator.kind, GeneratorKind::Customers { keys: 7 });
    assert_eq!((generator.rows, generator.rate, generator.seed), (Some(1000), Some(50), 3));
    assert_eq!((generator.start_ms, generator.interval_ns), (-5, Some(200)));
    let bids = &spec.sources[1];
    assert_eq!(bids.kind.value, SourceKind::File { path: "bids-*.csv".into(), header: true });
    let schema = bids.schema.as_ref().expect("a schema").value.clone();
    let expected = [
        Field::new("auction", Kind::Int64),
        Field::new("name", Kind::Text).nullable(),
        Field::new("at", Kind::TimestampMs),
    ];
    assert_eq!(schema.fields(), expected);
    assert_eq!(bids.on_error, OnError::Skip);
    let SourceKind::Kafka(kafka) = &spec.sources[3].kind.value else { panic!("no topic") };
    assert_eq!((kafka.start, kafka.bounded), (KafkaStart::Latest, true));
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = [property("client.id", "m"), property("fetch.min.bytes", "5"), property("enable.ssl", "true")];
    assert_eq!(kafka.properties, expected);
}

#[test]
fn every_key_of_a_step_is_read() {
    let spec = parse_text(FULL).expect("all of it is right");
    let clean = &spec.steps[0];
    assert_eq!(clean.from.len(), 5);
    let StepKind::FlatMap(component) = &clean.kind.value else { panic!("no flat_map") };
    assert_eq!(component.config.get("factor"), Some(&Setting::Float64(1.5)));
    assert_eq!(component.config.get("depth"), Some(&Setting::Int64(3)));
    assert_eq!(clean.limits.memory_bytes, 16 << 20);
    assert_eq!(clean.limits.deadline, Duration::from_millis(1_500));
    assert!(matches!(&spec.steps[2].keep, Some(keep) if keep.value == Keep::All));
    let StepKind::Aggregate { window, aggregates, .. } = &spec.steps[3].kind.value else { panic!("no aggregate") };
    assert_eq!(window.value, WindowSpec::Tumbling { size: Duration::from_secs(5_400), offset_ms: -900_000 });
    let described: Vec<String> = aggregates
        .iter()
        .map(|aggregate| match aggregate {
            AggregateSpec::BuiltIn { output, function, column } => {
                format!("{}={:?}({})", output.value, function.value, column.as_ref().map_or("", |c| &c.value))
            }
            AggregateSpec::Rows { .. } => panic!("no window-processor"),
            AggregateSpec::Component { output, component } => {
                assert_eq!(component.config.get("digits"), Some(&Setting::Int64(2)), "the step's configuration");
                format!("{}={}", output.value, component.path.value)
            }
        })
        .collect();
    let expected = ["n=Count()", "named=Count(name)", "top=Max(price)", "mean=mean.wasm", "spread=spread.wasm"];
    assert_eq!(described, expected);
    assert!(
        matches!(aggregates[2], AggregateSpec::BuiltIn { ref function, .. } if function.value == AggregateFunction::Max)
    );
}

#[test]
fn json_and_toml_give_the_same_pipeline() {
    let json = r#"{
        "name": "uppercase-counts",
        "source": {"lines": {
            "kafka": {"brokers": "localhost:9092", "topic": "test"},
            "format": "text",
            "watermark": {"max_out_of_orderness": "2s", "idle_after": "10s"}}},
        "step": {
            "upper": {"from": "lines", "map": "upper.wasm"},
            "counts": {"from": "upper", "key_by": ["value"], "window": {"tumbling": "5s"},
                       "aggregate": {"count": "count()", "total": "sum(amount)"}}},
        "sink": {"out": {"from": "counts", "print": {}}}
    }"#;
    let from_json = parse_json(json).expect("the same in JSON");
    let from_toml = parse_text(EXAMPLE).expect("the example is right");
    assert_eq!(without_places(&from_json), without_places(&from_toml));
}

#[test]
fn json_is_refused_with_the_same_messages() {
    let error = parse_json("{\n  \"name\": p\n}").expect_err("no JSON");
    assert!(error.to_string().starts_with("<json>:2:11: the text is not JSON"), "{error}");
    let error = parse_json(r#"{"name": "p", "name": "q"}"#).expect_err("twice");
    assert_eq!(error.diagnostics[0].code, code::DUPLICATE_KEY);
    let error = parse_json(r#"{"name": null, "source": [], "sink": {}}"#).expect_err("null");
    assert!(error.to_string().contains("expected text, found null"), "{error}");
    assert!(error.to_string().contains("expected a table, found a list"), "{error}");
    assert!(parse_json(&"[".repeat(100_000)).is_err());
}

#[test]
fn files_that_cannot_be_read_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("pipeline.toml");
    assert_eq!(read(&path).expect_err("missing").diagnostics[0].code, code::UNREADABLE);
    std::fs::write(&path, b"name = \"\xff\"").expect("written");
    assert_eq!(read(&path).expect_err("not UTF-8").diagnostics[0].code, code::SYNTAX);
    std::fs::write(&path, EXAMPLE).expect("written");
    assert_eq!(read(&path).expect("right").base, folder.path());
}

#[test]
fn deep_and_long_files_do_no_harm() {
    let deep = format!("[{}]\nx = 1", vec!["a"; 200_000].join("."));
    assert!(parse_text(&deep).is_err());
    assert!(parse_text(&format!("{} = 1", vec!["a"; 200_000].join("."))).is_err());
    assert!(parse_text(&format!("a = {{ {} = 1 }}", vec!["a"; 200_000].join("."))).is_err());
    assert!(parse_text(&format!("a = {}", "[".repeat(100_000))).is_err());
    assert!(parse_text(&format!("a = {}1{}", "[".repeat(70), "]".repeat(70))).is_err());
    let steps: String = (0..20_000)
        .map(|i| format!("[step.s{i}]\nfrom = [\"s{}\", \"nothing{i}\"]\nmap = \"a\"\n", (i + 1) % 20_000))
        .collect();
    let error = parse_text(&format!("name = \"p\"\n{steps}")).expect_err("a circle of 20,000 steps");
    let circle = error.diagnostics.iter().find(|diagnostic| diagnostic.code == code::CYCLE).expect("a circle");
    assert!(circle.message.ends_with("s19979 -> .. -> s0"), "cut to 24 names: {}", circle.message);
}

#[test]
fn circles_are_told_once_each() {
    let step = |name: &str, from: &str| format!("[step.{name}]\nfrom = {from}\nmap = \"m\"\n");
    let text = [
        step("hanging", "\"a\""),
        step("a", "\"b\""),
        step("b", "\"a\""),
        step("own", "[\"own\", \"b\"]"),
        step("last", "[\"own\", \"hanging\"]"),
    ];
    let error = parse_text(&format!("name = \"p\"\n{}", text.concat())).expect_err("two circles");
    let circles: Vec<_> = error.diagnostics.iter().filter(|d| d.code == code::CYCLE).map(|d| &d.message).collect();
    assert_eq!(circles.len(), 2, "{circles:?}");
    assert!(circles[0].ends_with("a -> b -> a") && circles[1].ends_with("own -> own"), "{circles:?}");
}

fn is_told_well(text: &str) -> Result<(), TestCaseError> {
    if let Err(error) = parse_text(text) {
        prop_assert!(!error.diagnostics.is_empty());
        for diagnostic in &error.diagnostics {
            prop_assert!(diagnostic.span.start <= diagnostic.span.end && diagnostic.span.end <= text.len());
            prop_assert!(code::ALL.contains(&diagnostic.code));
            prop_assert!(!diagnostic.message.is_empty());
        }
        prop_assert!(!error.to_string().is_empty());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}|[\\[\\]{}=\"'.,#a-c0-9\\n ]{0,200}") {
        is_told_well(&text)?;
        let _ = parse_json(&text);
    }

    #[test]
    fn mutated_pipelines_are_read_or_refused(
        edits in proptest::collection::vec((0..FULL.len(), 0..30_usize, "\\PC{0,3}|[\\[\\]{}=\"0-9\\n-]{0,6}|\"|[^\"]{0,2}"), 1..6),
    ) {
        let mut text = FULL.to_owned();
        for (at, length, inserted) in edits {
            let at = at.min(text.len());
            let end = (at + length).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &inserted);
            }
        }
        is_told_well(&text)?;
    }

    #[test]
    fn mistyped_values_are_read_or_refused(
        picked in 0..1_000_usize,
        value in prop_oneof![
            Just("-1"), Just("0"), Just("9223372036854775808"), Just("nan"), Just("1e999"), Just("true"), Just("\"\""),
            Just("[]"), Just("{}"), Just("[[]]"), Just("{ a = {} }"), Just("\"9999999999999999999h\""), Just("1979-05-27"),
        ],
    ) {
        let values: Vec<usize> = FULL.match_indices(" = ").map(|(at, _)| at + 3).collect();
        let at = values[picked % values.len()];
        let end = FULL[at..].find(['\n', ',', '}']).map_or(FULL.len(), |end| at + end);
        is_told_well(&format!("{}{value}{}", &FULL[..at], &FULL[end..]))?;
    }
}
