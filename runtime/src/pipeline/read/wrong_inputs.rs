//! Wrong pipelines: for each the place, the code and the words that help.

use super::tests::parse_text;
use crate::error::{Diagnostic, line_column};
use crate::pipeline::problems::code::*;

/// A wrong pipeline and what has to be said about it. `text` has one `«` where the mistake is to be seen.
struct Case {
    text: String,
    code: &'static str,
    words: &'static [&'static str],
}

fn case(text: impl Into<String>, code: &'static str, words: &'static [&'static str]) -> Case {
    Case { text: text.into(), code, words }
}

/// A right pipeline around what is wrong in its source.
fn source(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    case(format!("name = \"p\"\n[source.s]\n{body}\n[sink.out]\nfrom = \"s\"\nprint = {{}}\n"), code, words)
}

/// A right source around what is wrong in its table.
fn stdin(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    source(&format!("stdin = {{}}\nformat = \"json\"\n{body}"), code, words)
}

fn step(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let source = "[source.s]\nstdin = {}\nformat = \"json\"";
    case(format!("name = \"p\"\n{source}\n[step.t]\n{body}\n[sink.out]\nfrom = \"t\"\nprint = {{}}\n"), code, words)
}

fn aggregate(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    step(&format!("from = \"s\"\n{body}"), code, words)
}

fn window(window: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    aggregate(&format!("key_by = [\"k\"]\nwindow = {window}\naggregate = {{ n = \"count()\" }}"), code, words)
}

/// A right pair of sources around a step that joins them.
fn join(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let source = |name: &str| format!("[source.{name}]\nstdin = {{}}\nformat = \"json\"\n");
    let sources = source("s") + &source("o");
    let rest = "[sink.out]\nfrom = \"t\"\nprint = {}\n[sink.other]\nfrom = \"o\"\nprint = {}\n";
    case(format!("name = \"p\"\n{sources}[step.t]\nfrom = \"s\"\n{body}\n{rest}"), code, words)
}

fn result(result: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let keyed = "key_by = [\"k\"]\nwindow = { tumbling = \"1s\" }";
    aggregate(&format!("{keyed}\naggregate = {{ {result} }}"), code, words)
}

fn sink(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let source = "[source.s]\nstdin = {}\nformat = \"json\"";
    case(format!("name = \"p\"\n{source}\n[sink.out]\nfrom = \"s\"\n{body}\n"), code, words)
}

/// A right pipeline after what is wrong above it.
fn top(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let rest = "[source.s]\nstdin = {}\nformat = \"json\"\n[sink.out]\nfrom = \"s\"\nprint = {}\n";
    case(format!("{body}\n{rest}"), code, words)
}

fn restart(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    top(&format!("name = \"p\"\ncheckpoint = {{ store = \"s\" }}\nrestart = {body}"), code, words)
}

/// Keys of `checkpoint` beside a Kafka sink, and tables behind it.
fn transactions(keys: &str, tables: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let source = "[source.s]\nstdin = {}\nformat = \"text\"";
    let sink = "[sink.o]\nfrom = \"s\"\nkafka = { brokers = \"b\", topic = \"t\" }";
    case(format!("name = \"p\"\ncheckpoint = {{ store = \"state\", {keys} }}\n{source}\n{sink}\n{tables}"), code, words)
}

/// `sasl` of a Kafka sink.
fn sasl(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    let source = "[source.s]\nstdin = {}\nformat = \"text\"";
    let sink = format!("[sink.o]\nfrom = \"s\"\nkafka = {{ brokers = \"b\", topic = \"t\", sasl = {body} }}");
    case(format!("name = \"p\"\n{source}\n{sink}"), code, words)
}

fn checkpoint(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    top(&format!("name = \"p\"\ncheckpoint = {body}"), code, words)
}

fn wiring(body: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    case(format!("name = \"p\"\n{body}"), code, words)
}

fn check(cases: Vec<Case>) {
    let mut failures = Vec::new();
    for Case { text, code, words } in cases {
        let place = text.find('«').expect("a case says where its mistake is");
        let text = text.replace('«', "");
        let expected = line_column(&text, place);
        let diagnostics = parse_text(&text).err().map(|error| error.diagnostics).unwrap_or_default();
        if let Err(why) = check_one(&diagnostics, &text, expected, code, words) {
            failures.push(format!("{why}\nin\n{text}\ngot {diagnostics:#?}"));
        }
    }
    assert!(failures.is_empty(), "{} cases:\n{}", failures.len(), failures.join("\n----\n"));
}

fn check_one(
    diagnostics: &[Diagnostic],
    text: &str,
    place: (usize, usize),
    code: &str,
    words: &[&str],
) -> Result<(), String> {
    let [diagnostic] = diagnostics else { return Err(format!("expected one mistake, got {}", diagnostics.len())) };
    let found = line_column(text, diagnostic.span.start);
    if found != place || diagnostic.code != code {
        return Err(format!("expected {code} at {place:?}, got {} at {found:?}", diagnostic.code));
    }
    let said =
        format!("{} ({}) {}", diagnostic.message, diagnostic.label, diagnostic.help.as_deref().unwrap_or_default());
    if said.starts_with(char::is_uppercase) || diagnostic.span.end > text.len() {
        return Err("messages begin in lower case and spans stay inside".to_owned());
    }
    match words.iter().find(|word| !said.contains(*word)) {
        Some(word) => Err(format!("{word:?} is missing in {said:?}")),
        None => Ok(()),
    }
}

#[test]
fn wrong_tops_are_refused_with_place_and_help() {
    check(vec![
        top("name = «", SYNTAX, &["not TOML"]),
        top("name = \"p\"\n«name = \"q\"", SYNTAX, &["duplicate key"]),
        top("name = \"p\"\nparallelism = «1x", SYNTAX, &["not TOML"]),
        top("«", MISSING_KEY, &["the pipeline has no `name`", "name = "]),
        top("name = «\"\"", BAD_VALUE, &["`name` of the pipeline is empty"]),
        top("name = «7", WRONG_TYPE, &["expected text, found an integer"]),
        top("name = «\"Orders\"", BAD_NAME, &["`Orders`", "like `orders`", "lower-case"]),
        top("name = «\"7up\"", BAD_NAME, &["does not begin with a letter"]),
        top("name = «\"my pipeline\"", BAD_NAME, &["found ` `", "like `my_pipeline`"]),
        top(&format!("name = «\"{}\"", "a".repeat(90)), BAD_NAME, &["at most 64 bytes, found 90", "a..`"]),
        top("name = \"p\"\n«parallelsm = 2", UNKNOWN_KEY, &["`parallelsm`", "did you mean `parallelism`", "name"]),
        top("name = \"p\"\nparallelism = «0", BAD_VALUE, &["is 0", "1 to 128"]),
        top("name = \"p\"\nparallelism = «129", BAD_VALUE, &["is 129", "key groups"]),
        top("name = \"p\"\nparallelism = «-1", BAD_VALUE, &["is -1", "0 or more"]),
        top("name = \"p\"\nparallelism = «99999999999999999999", BAD_VALUE, &["a smaller number"]),
        top("name = \"p\"\nparallelism = «\"2\"", WRONG_TYPE, &["expected an integer, found text"]),
        top("name = \"p\"\n«checkpoint = { interval = \"1s\" }", MISSING_KEY, &["`store`", "store = "]),
        checkpoint("{ store = «7 }", WRONG_TYPE, &["expected text"]),
        checkpoint("{ store = «\"gs://bucket\" }", BAD_VALUE, &["gs://bucket", "s3://bucket/prefix", "file:///"]),
        checkpoint("{ store = «\"file://state\" }", BAD_VALUE, &["file://state", "from the root"]),
        checkpoint("{ store = «\"s3://My_Bucket/a\" }", BAD_VALUE, &["My_Bucket", "a bucket of 3 to 63"]),
        checkpoint("{ store = «\"hdfs:///a\" }", BAD_VALUE, &["hdfs:///a", "hdfs://host:port/path"]),
        checkpoint("{ store = \"state\", encrypt = «\"key\" }", WRONG_TYPE, &["table"]),
        checkpoint("{ store = \"state\", «encrypt = {} }", NO_KIND, &["key_file", "key_env"]),
        checkpoint(
            "{ store = \"state\", encrypt = { key_env = \"K\", «file = \"k\" } }",
            UNKNOWN_KEY,
            &["`file`", "key_file"],
        ),
        checkpoint("{ store = \"state\", encrypt = { key_env = «7 } }", WRONG_TYPE, &["expected text"]),
        checkpoint("{ store = \"state\", interval = «\"9ms\" }", BAD_DURATION, &["too short", "10ms"]),
        checkpoint("{ store = \"state\", interval = «1 }", WRONG_TYPE, &["a duration in quotes"]),
        checkpoint("{ store = \"state\", retain = «0 }", BAD_VALUE, &["0 checkpoints", "1 to 1000"]),
        checkpoint("{ store = \"state\", «every = \"1s\" }", UNKNOWN_KEY, &["`every`", "interval"]),
        top("name = \"p\"\n«restart = { attempts = 3 }", CONFLICT, &["without checkpoints", "checkpoint = {"]),
        top("name = \"p\"\ncapsules = «\"on\"", UNKNOWN_VALUE, &["`on`", "off"]),
        top("name = \"p\"\ncapsules = «true", WRONG_TYPE, &["expected a table"]),
        top("name = \"p\"\ncapsules = { keep = «0 }", BAD_VALUE, &["0 capsules", "1 to 1000"]),
        top("name = \"p\"\ncapsules = { max = «\"1KiB\" }", BAD_VALUE, &["1024 bytes", "64KiB"]),
        top("name = \"p\"\ncapsules = { max = «\"much\" }", BAD_SIZE, &["`much`"]),
        top("name = \"p\"\ncapsules = { folder = «\"\" }", BAD_VALUE, &["is empty"]),
        top("name = \"p\"\ncapsules = { «count = 3 }", UNKNOWN_KEY, &["`count`", "keep"]),
        step(
            "from = \"s\"\nmap = \"m.wasm\"\nconfig = { a = { «secrt = \"X\" } }",
            UNKNOWN_KEY,
            &["`secrt`", "secret"],
        ),
        step("from = \"s\"\nmap = \"m.wasm\"\nconfig = { a = { secret = «7 } }", WRONG_TYPE, &["expected text"]),
        restart("«\"never\"", UNKNOWN_VALUE, &["`never`", "off"]),
        restart("«7", WRONG_TYPE, &["expected a table"]),
        restart("{ attempts = «-1 }", BAD_VALUE, &["is -1"]),
        restart("{ first = «\"2m\" }", BAD_DURATION, &["longer than the longest", "max"]),
        restart("{ max = «\"0s\" }", BAD_DURATION, &["`max`", "is zero"]),
        restart("{ «delay = \"1s\" }", UNKNOWN_KEY, &["`delay`", "first"]),
        checkpoint("{ store = \"state\", transactional_id = «\"x\" }", CONFLICT, &["there are none", "Kafka sink"]),
        transactions("transactional_id = «\"a b\"", "", BAD_VALUE, &["`a b`", "transactional id"]),
        transactions("interval = \"2s\", transaction_timeout = «\"3s\"", "", BAD_DURATION, &["3000 ms", "2000 ms"]),
        transactions("interval = «\"1h\"", "", BAD_DURATION, &["900000 ms", "two intervals"]),
        transactions(
            "interval = \"1s\"",
            "[sink.q]\nfrom = \"s\"\nkafka = «{ brokers = \"c\", topic = \"t\" }",
            CONFLICT,
            &["different Kafka clusters", "do not commit together"],
        ),
        transactions(
            "interval = \"1s\"",
            "[dead_letter]\nkafka = «{ brokers = \"b\", topic = \"t\", tls = {} }",
            CONFLICT,
            &["dead-letter", "share one producer"],
        ),
        source(
            "kafka = { brokers = \"b\", topic = \"t\", tls = «{ cert = \"c\" } }\nformat = \"json\"",
            MISSING_KEY,
            &["`cert` and `key`"],
        ),
        source(
            "kafka = { brokers = \"b\", topic = \"t\", tls = { «caa = \"c\" } }\nformat = \"json\"",
            UNKNOWN_KEY,
            &["`ca`"],
        ),
        sasl("«{ mechanism = \"PLAIN\", username = \"u\" }", MISSING_KEY, &["no password", "password_env"]),
        sasl(
            "«{ mechanism = \"PLAIN\", username = \"u\", password_env = \"P\", password_file = \"p\" }",
            CONFLICT,
            &["two passwords"],
        ),
        sasl("{ mechanism = «\"GSSAPI\", username = \"u\", password_env = \"P\" }", UNKNOWN_VALUE, &["SCRAM-SHA-256"]),
        sasl("{ mechanism = \"PLAIN\", username = \"u\", «password = \"x\" }", UNKNOWN_KEY, &["password_env"]),
        top("name = \"p\"\nstate = { memory = «7.5, spill = \"x\" }", WRONG_TYPE, &["a size in quotes"]),
        top("name = \"p\"\nstate = { memory = «\"7 bytes\", spill = \"x\" }", BAD_SIZE, &["7 bytes", "64MiB"]),
        top("name = \"p\"\nstate = { memory = «\"1023B\", spill = \"x\" }", BAD_VALUE, &["1023", "1KiB", "256MiB"]),
        top("name = \"p\"\n«state = { memory = \"1GiB\" }", MISSING_KEY, &["`spill`", "spill = "]),
        top("name = \"p\"\nstate = { memory = \"1GiB\", spill = «\"\" }", BAD_VALUE, &["empty", "expected text"]),
        top("name = \"p\"\nstate = { memory = \"1GiB\", spill = \"x\", «disk = 1 }", UNKNOWN_KEY, &["`disk`", "spill"]),
        top("name = \"p\"\ndead_letter = «\"dead.json\"", WRONG_TYPE, &["expected a table", "file"]),
        top("name = \"p\"\n«dead_letter = {}", NO_KIND, &["where rows go", "file"]),
        top("name = \"p\"\ndead_letter = { print = «{} }", BAD_VALUE, &["stdout carries results only", "file"]),
        top("name = \"p\"\nstep = «3", WRONG_TYPE, &["expected a table, found an integer", "[step.<name>]"]),
    ]);
}

#[test]
fn wrong_sources_are_refused_with_place_and_help() {
    check(vec![
        case("name = \"p\"\n[source.«s]\nformat = \"json\"\n[sink.o]\nfrom = \"s\"\nprint = {}", NO_KIND, &["kafka"]),
        source(
            "stdin = {}\n«file = { path = \"x\" }\nformat = \"json\"",
            SEVERAL_KINDS,
            &["`stdin`, `file`", "keep one"],
        ),
        source(
            "«kafak = { brokers = \"b\", topic = \"t\" }\nformat = \"json\"",
            UNKNOWN_KEY,
            &["did you mean `kafka`"],
        ),
        source("«http = {}\nformat = \"json\"", NOT_AVAILABLE, &["`http`", "available: generator, file"]),
        source("«kafka = { brokers = \"b\" }\nformat = \"json\"", MISSING_KEY, &["no `topic`", "add `topic = "]),
        source("kafka = { «broker = \"b\", topic = \"t\" }\nformat = \"json\"", UNKNOWN_KEY, &["`brokers`"]),
        source("kafka = «{ brokers = \"a,,b\", topic = \"t\" }\nformat = \"json\"", BAD_VALUE, &["empty address"]),
        source("kafka = «{ brokers = \"a\", topic = \"a b\" }\nformat = \"json\"", BAD_VALUE, &["cannot be a topic"]),
        source(
            "kafka = { brokers = \"b\", topic = \"t\", start = «\"earlest\" }\nformat = \"json\"",
            UNKNOWN_VALUE,
            &["did you mean `earliest`", "latest"],
        ),
        source(
            "kafka = { brokers = \"b\", topic = \"t\", until = «\"now\" }\nformat = \"json\"",
            UNKNOWN_VALUE,
            &["possible: end"],
        ),
        source(
            "kafka = { brokers = \"b\", topic = \"t\", properties = { a = «[1] } }\nformat = \"json\"",
            WRONG_TYPE,
            &["`a` of `properties`", "found a list"],
        ),
        source("tcp = «{ listen = \"7000\" }\nformat = \"text\"", BAD_VALUE, &["`7000`", "host:port"]),
        source(
            "tcp = { listen = \"a:1\", framing = «\"line\" }\nformat = \"text\"",
            UNKNOWN_VALUE,
            &["did you mean `lines`", "length"],
        ),
        source("tcp = «{ listen = \"a:1\", connections = 0 }\nformat = \"text\"", BAD_VALUE, &["`connections`"]),
        source("stdin = { «path = \"x\" }\nformat = \"text\"", UNKNOWN_KEY, &["takes no keys"]),
        source("stdin = «true\nformat = \"text\"", WRONG_TYPE, &["expected a table, found a boolean", "write `{}`"]),
        source("file = { path = «\"\" }\nformat = \"text\"", BAD_VALUE, &["`path` of `file` of source `s` is empty"]),
        source("file = «{ path = \"x\", header = true }\nformat = \"json\"", CONFLICT, &["only csv"]),
        source("file = { path = \"x\", header = «1 }\nformat = \"csv\"", WRONG_TYPE, &["true or false"]),
        source("generator = { kind = «\"sequences\" }", UNKNOWN_VALUE, &["did you mean `sequence`", "customers"]),
        source("«generator = { keys = 5 }", MISSING_KEY, &["`kind`"]),
        source("generator = «{ kind = \"sequence\", keys = 0 }", BAD_VALUE, &["`keys`", "1 or more"]),
        source("generator = { kind = \"sequence\", interval = «\"1\" }", BAD_DURATION, &["`1` has no unit"]),
        source("generator = { kind = \"sequence\" }\nformat = «\"json\"", CONFLICT, &["generator", "remove `format`"]),
        case("name = \"p\"\n[source.«s]\nstdin = {}\n[sink.o]\nfrom = \"s\"\nprint = {}", MISSING_KEY, &["`format`"]),
        source("stdin = {}\nformat = «\"jsn\"", UNKNOWN_VALUE, &["did you mean `json`", "msgpack, csv, text, raw"]),
        source("stdin = {}\nformat = «\"avro\"", NOT_AVAILABLE, &["`avro`", "available: json"]),
        source("stdin = {}\nformat = «\"parquet\"", CONFLICT, &["format parquet", "files only"]),
        source("file = «{ path = \"a\", header = true }\nformat = \"parquet\"", CONFLICT, &["only csv files"]),
    ]);
}

#[test]
fn wrong_columns_and_times_are_refused_with_place_and_help() {
    check(vec![
        stdin("schema = { a = «\"int46\" }", UNKNOWN_VALUE, &["did you mean `int64`", "timestamp_ms", "allows nulls"]),
        stdin("schema = { a = «\"texte?\" }", UNKNOWN_VALUE, &["did you mean `text`"]),
        stdin("schema = { a = \"text\", «a = \"int64\" }", SYNTAX, &["duplicate key"]),
        stdin("schema = «{}", BAD_VALUE, &["at least one column"]),
        stdin("schema = «[\"a\"]", WRONG_TYPE, &["expected a table, found a list", "schema = {"]),
        stdin("event_time = «[\"at\"]", WRONG_TYPE, &["expected text, found a list"]),
        stdin("on_error = «\"ignore\"", UNKNOWN_VALUE, &["dead_letter, skip, fail"]),
        stdin("watermark = { max_out_of_orderness = «2 }", WRONG_TYPE, &["duration in quotes", "`1h30m`"]),
        stdin("watermark = { max_out_of_orderness = «\"2\" }", BAD_DURATION, &["`2` has no unit"]),
        stdin("watermark = { max_out_of_orderness = «\"2sec\" }", BAD_DURATION, &["`sec` is no unit"]),
        stdin("watermark = { max_out_of_orderness = «\"-1s\" }", BAD_DURATION, &["is not a number"]),
        stdin("watermark = { max_out_of_orderness = «\"99999d\" }", BAD_DURATION, &["longer than 36500d"]),
        stdin("watermark = { max_out_of_orderness = «\"1us\" }", BAD_DURATION, &["whole number of ms"]),
        stdin("watermark = { idle_after = «\"0s\" }", BAD_DURATION, &["is zero", "1ms or more"]),
        stdin("watermark = { «idle = \"1s\" }", UNKNOWN_KEY, &["idle_after"]),
        stdin("watermark = { column = «3 }", WRONG_TYPE, &["expected text, found an integer"]),
        stdin("watermark = { assigner = «3 }", WRONG_TYPE, &["`assigner` of `watermark`", "found an integer"]),
        stdin("watermark = { assigner = «\"\" }", BAD_VALUE, &["is empty"]),
        stdin(
            "watermark = { assigner = { component = \"a.wasm\", «confg = {} } }",
            UNKNOWN_KEY,
            &["did you mean `config`"],
        ),
        stdin("watermark = { max_drift = «\"0s\" }", BAD_DURATION, &["`max_drift`", "1ms or more"]),
        stdin(
            "event_time = «\"at\"\nwatermark = { assigner = \"a.wasm\" }",
            CONFLICT,
            &["`event_time` and a watermark assigner", "remove `event_time`"],
        ),
        stdin(
            "watermark = { column = «\"w\", assigner = \"a.wasm\" }",
            CONFLICT,
            &["from a `column` and from a watermark assigner", "one place"],
        ),
        stdin(
            "watermark = { column = «\"w\", max_out_of_orderness = \"1s\" }",
            CONFLICT,
            &["`max_out_of_orderness`", "one place"],
        ),
        stdin("event_time = «2020-01-01", WRONG_TYPE, &["found a date or time"]),
    ]);
}

#[test]
fn wrong_window_processors_are_refused_with_place_and_help() {
    let whole = |rest: &str, code, words| {
        step(
            &format!("from = \"s\"\nwindow = {{ tumbling = \"1s\" }}\nwindow_process = \"a.wasm\"\n{rest}"),
            code,
            words,
        )
    };
    check(vec![
        step("from = \"s\"\n«window_process = \"a.wasm\"", MISSING_KEY, &["no `window`", "all rows of a window"]),
        step("from = \"s\"\nwindow = { global = true }\nwindow_process = «7", WRONG_TYPE, &["found an integer"]),
        whole("«state_ttl = \"1s\"", CONFLICT, &["`state_ttl` has no meaning", "belongs to `process`"]),
        whole("«emit = \"latest\"", CONFLICT, &["`emit` has no meaning", "`window`"]),
        whole("keep = «\"all\"", CONFLICT, &["`keep` has no meaning"]),
        whole("allowed_lateness = «5", WRONG_TYPE, &["duration in quotes"]),
    ]);
}

#[test]
fn wrong_processors_are_refused_with_place_and_help() {
    let process = |rest: &str, code, words| {
        step(&format!("from = \"s\"\nkey_by = \"k\"\nprocess = \"a.wasm\"\n{rest}"), code, words)
    };
    check(vec![
        case(
            "name = \"p\"\n[source.s]\nstdin = {}\nformat = \"json\"\n[step.«t]\nfrom = \"s\"\nprocess = \"a.wasm\"\n[sink.o]\nfrom = \"t\"\nprint = {}",
            MISSING_KEY,
            &["step `t` has no `key_by`"],
        ),
        step("from = \"s\"\nprocess = «\"a.wasm\"\nkey_by = []", BAD_VALUE, &["`key_by`", "at least one column"]),
        step("from = \"s\"\nprocess = \"a.wasm\"\nkey_by = [\"k\", «\"k\"]", DUPLICATE_COLUMN, &["`k` comes twice"]),
        process("«window = { tumbling = \"1s\" }", CONFLICT, &["`window` has no meaning", "`process`", "sets timers"]),
        process("«late = \"x\"", CONFLICT, &["`late` has no meaning", "`process`"]),
        process("«with_key_by = \"k\"", CONFLICT, &["`with_key_by` and no `with`", "add `with"]),
        process("with = «7", WRONG_TYPE, &["found an integer"]),
        process("state_ttl = «\"0s\"", BAD_DURATION, &["is zero"]),
        process("state_ttl = «5", WRONG_TYPE, &["duration in quotes"]),
        process("side_outputs = «7", WRONG_TYPE, &["found an integer"]),
        process("keep = «\"all\"", CONFLICT, &["`keep` has no meaning", "columns of its component"]),
        step("from = \"s\"\nmap = \"a.wasm\"\n«with = \"s\"", CONFLICT, &["`with`", "`map`", "`process`"]),
        step("from = \"s\"\nmap = \"a.wasm\"\n«state_ttl = \"1s\"", CONFLICT, &["belongs to `process`"]),
        step("from = \"s\"\nmap = \"a.wasm\"\n«side_outputs = [\"x\"]", CONFLICT, &["belongs to `process`"]),
    ]);
}

#[test]
fn wrong_steps_are_refused_with_place_and_help() {
    check(vec![
        case(
            "name = \"p\"\n[source.s]\nstdin = {}\nformat = \"json\"\n[step.«t]\nfrom = \"s\"\n[sink.o]\nfrom = \"t\"\nprint = {}",
            NO_KIND,
            &["what to do", "map, filter, flat_map, aggregate"],
        ),
        step("from = \"s\"\nmap = \"a.wasm\"\n«filter = \"b.wasm\"", SEVERAL_KINDS, &["`map`, `filter`"]),
        step("from = \"s\"\n«mpa = \"a.wasm\"", UNKNOWN_KEY, &["did you mean `map`"]),
        step("from = \"s\"\nmap = «7", WRONG_TYPE, &["expected a table, found an integer", "component"]),
        step("from = \"s\"\nmap = «\"\"", BAD_VALUE, &["is empty"]),
        step("from = \"s\"\nmap = { component = \"a\", «configg = {} }", UNKNOWN_KEY, &["did you mean `config`"]),
        step("from = \"s\"\n«map = { config = { a = 1 } }", MISSING_KEY, &["`component`"]),
        step(
            "from = \"s\"\nmap = { component = \"a\", config = { b = 1 } }\n«config = { a = 1 }",
            CONFLICT,
            &["twice", "keep one"],
        ),
        step("from = \"s\"\nmap = \"a.wasm\"\nconfig = { a = «[1] }", WRONG_TYPE, &["`a` of `config`", "found a list"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nconfig = «3", WRONG_TYPE, &["expected a table"]),
        step("from = \"s\"\nmap = \"a.wasm\"\n«key_by = [\"k\"]", CONFLICT, &["`key_by`", "`map`", "`aggregate`"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nkeep = «\"some\"", UNKNOWN_VALUE, &["`some`", "keep = [\"some\"]"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nkeep = [\"a\", «\"a\"]", DUPLICATE_COLUMN, &["`a` comes twice"]),
        step("from = \"s\"\nfilter = \"a.wasm\"\nkeep = «\"all\"", CONFLICT, &["a filter keeps all columns"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nkeep = «1", WRONG_TYPE, &["found an integer", "all"]),
        step("from = \"s\"\nmap = \"a.wasm\"\non_error = «\"dead-letter\"", UNKNOWN_VALUE, &["`dead_letter`"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nlimits = { memory = «\"64mb\" }", BAD_SIZE, &["`mb` is no unit", "MiB"]),
        step("from = \"s\"\nmap = «\"a.wasm\"\nlimits = { memory = 1 }", BAD_SIZE, &["1 bytes", "64KiB to 4GiB"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nlimits = { memory = «true }", WRONG_TYPE, &["a size in quotes"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nlimits = { deadline = «\"0ms\" }", BAD_DURATION, &["is zero"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nlimits = { «memroy = \"1MiB\" }", UNKNOWN_KEY, &["`memory`"]),
        step("from = \"s\"\nmap = \"a.wasm\"\nparallelism = «1.5", WRONG_TYPE, &["found a floating-point number"]),
    ]);
}

#[test]
fn wrong_aggregates_are_refused_with_place_and_help() {
    let keyed = "key_by = [\"k\"]\n";
    check(vec![
        aggregate("«key_by = [\"k\"]", NO_KIND, &["`key_by` needs `aggregate`"]),
        aggregate("select = «[]", BAD_VALUE, &["`select`", "at least one column"]),
        aggregate("select = [\"a\", «\"a\"]", DUPLICATE_COLUMN, &["`a`"]),
        aggregate("select = { a = «4 }", WRONG_TYPE, &["expected text"]),
        aggregate("select = [\"a\"]\n«config = { a = 1 }", CONFLICT, &["`config`", "`select`"]),
        aggregate("select = [\"a\"]\n«key_by = [\"a\"]", CONFLICT, &["belongs to `aggregate`"]),
        aggregate("select = [\"a\"]\nkeep = «\"all\"", CONFLICT, &["`keep`", "names all columns"]),
        aggregate(
            "key_by = [\"k\", «\"k\"]\nwindow = { tumbling = \"1s\" }\naggregate = { n = \"count()\" }",
            DUPLICATE_COLUMN,
            &["`k` comes twice"],
        ),
        aggregate(
            &format!("{keyed}window = {{ tumbling = \"1s\" }}\naggregate = «\"a.wasm\""),
            WRONG_TYPE,
            &["give each result a name"],
        ),
        aggregate(&format!("{keyed}window = {{ tumbling = \"1s\" }}\naggregate = «{{}}"), BAD_VALUE, &["result"]),
        aggregate(
            &format!(
                "{keyed}window = {{ tumbling = \"1s\" }}\naggregate = {{ n = \"count()\" }}\n«config = {{ a = 1 }}"
            ),
            CONFLICT,
            &["no component"],
        ),
        aggregate(
            &format!("{keyed}window = {{ tumbling = \"1s\" }}\naggregate = {{ n = \"count()\" }}\nkeep = «\"all\""),
            CONFLICT,
            &["`keep`"],
        ),
        result("n = «\"cuont()\"", BAD_AGGREGATE, &["did you mean `count`", "sum, avg"]),
        result("n = «\"median(x)\"", BAD_AGGREGATE, &["`median`", "functions: count"]),
        result("n = «\"count\"", BAD_AGGREGATE, &["expected `function(column)`", "count()"]),
        result("n = «\"sum(x\"", BAD_AGGREGATE, &["`)` at the end"]),
        result("n = «\"sum()\"", BAD_AGGREGATE, &["`sum` needs a column"]),
        result("n = «\"sum(a, b)\"", BAD_AGGREGATE, &["one column"]),
        result("n = «\"count(*)\"", BAD_AGGREGATE, &["write `count()`"]),
        result("n = «4", WRONG_TYPE, &["expected text, found an integer"]),
        result("«k = \"count()\"", DUPLICATE_COLUMN, &["`k` comes twice"]),
        result("«window_end = \"count()\"", DUPLICATE_COLUMN, &["every window adds"]),
    ]);
}

#[test]
fn wrong_triggers_are_refused_with_place_and_help() {
    let of = |rest: &str, code: &'static str, words: &'static [&'static str]| {
        window(&format!("{{ tumbling = \"1s\" }}\n{rest}"), code, words)
    };
    check(vec![
        of("«trigger = {}", NO_KIND, &["count, every, processing_time"]),
        of("trigger = «\"1s\"", WRONG_TYPE, &["expected a table, found text"]),
        of("trigger = { «cuont = 4 }", UNKNOWN_KEY, &["did you mean `count`"]),
        of("trigger = { count = 4, «every = \"1s\" }", SEVERAL_KINDS, &["`count`, `every`"]),
        of("trigger = «{ count = 0 }", BAD_VALUE, &["`count`", "1 or more"]),
        of("trigger = { count = «\"4\" }", WRONG_TYPE, &["an integer"]),
        of("trigger = { every = «\"0s\" }", BAD_DURATION, &["is zero"]),
        of("trigger = { every = «4 }", WRONG_TYPE, &["`every`"]),
        of("trigger = { every = \"1s\", «at_end = true }", CONFLICT, &["belongs to `count`"]),
        of("trigger = { processing_time = «\"1us\" }", BAD_DURATION, &["`processing_time`"]),
        of("trigger = { count = 4, at_end = «1 }", WRONG_TYPE, &["true or false"]),
        of("trigger = { count = 4 }\nfiring = «\"purging\"", UNKNOWN_VALUE, &["accumulating", "discarding"]),
        of("firing = «\"discarding\"", CONFLICT, &["every window fires once", "allowed_lateness"]),
        window("{ count = 4 }\ntrigger = «{ count = 2 }", CONFLICT, &["`trigger`", "global = true"]),
        aggregate("map = \"a.wasm\"\n«trigger = { count = 4 }", CONFLICT, &["belongs to `aggregate`"]),
        aggregate("map = \"a.wasm\"\n«firing = \"discarding\"", CONFLICT, &["belongs to `aggregate`"]),
    ]);
}

#[test]
fn wrong_windows_are_refused_with_place_and_help() {
    check(vec![
        window("{ tumbling = «\"0s\" }", BAD_DURATION, &["is zero"]),
        window("{ tumbling = «\"5\" }", BAD_DURATION, &["`5` has no unit"]),
        window("{ tumbling = «\"30m1h\" }", BAD_DURATION, &["out of order"]),
        window("«{ tumbling = \"1s\", offset = \"1s\" }", BAD_DURATION, &["not smaller", "less than 1s"]),
        window("«{ tumbling = \"1s\", offset = \"-2s\" }", BAD_DURATION, &["not smaller"]),
        window("{ tumbling = \"1s\", offset = «\"- 1s\" }", BAD_DURATION, &["no duration"]),
        window("{ «tumblin = \"1s\" }", UNKNOWN_KEY, &["did you mean `tumbling`"]),
        window("{ sliding = \"10s\", every = «\"0s\" }", BAD_DURATION, &["`every`", "is zero"]),
        window("«{ count = 5, every = 0 }", BAD_VALUE, &["`every`", "is 0"]),
        window("«{ count = 5, every = 6 }", BAD_VALUE, &["gaps", "the 5 rows"]),
        window("«{ count = 5_000, every = 1 }", BAD_VALUE, &["5000 windows at once", "`every = 5`"]),
        window("{ count = 5, every = «\"1s\" }", WRONG_TYPE, &["`every`"]),
        window("«{ sliding = \"1s\", every = \"2s\" }", BAD_DURATION, &["gaps", "longer than the window, 1s"]),
        window("«{ sliding = \"9s\", every = \"2s\", offset = \"2s\" }", BAD_DURATION, &["not smaller than `every`"]),
        window("{ sliding = \"1s\", «tumbling = \"2s\" }", SEVERAL_KINDS, &["`sliding`, `tumbling`"]),
        window("{ tumbling = \"1s\", «every = \"2s\" }", CONFLICT, &["belongs to `sliding`"]),
        window("{ session = «\"0s\" }", BAD_DURATION, &["`session`", "is zero"]),
        window("{ session = \"1s\", «offset = \"1ms\" }", CONFLICT, &["belongs to `tumbling` and `sliding`"]),
        window("«{ count = 0 }", BAD_VALUE, &["`count`", "1 or more"]),
        window("{ count = «-1 }", BAD_VALUE, &["`count`"]),
        window("{ global = «false }", BAD_VALUE, &["expected true"]),
        window("«{ global = true }\nallowed_lateness = \"1s\"", CONFLICT, &["no row is late"]),
        window("{ tumbling = \"1s\", «allowed_lateness = \"1s\" }", UNKNOWN_KEY, &["`allowed_lateness`"]),
        window("{ tumbling = \"1s\" }\nallowed_lateness = «\"-1s\"", BAD_DURATION, &["`allowed_lateness`"]),
        aggregate("map = \"a.wasm\"\n«allowed_lateness = \"1s\"", CONFLICT, &["belongs to `aggregate`"]),
        aggregate("«allowed_lateness = \"1s\"", NO_KIND, &["`allowed_lateness` needs `aggregate`"]),
        window("«\"5s\"", WRONG_TYPE, &["expected a table, found text", "tumbling"]),
        window("{ session = { «gaps = \"gap\" } }", UNKNOWN_KEY, &["did you mean `gap`"]),
        window("{ «session = {} }", MISSING_KEY, &["`gap`"]),
        window("{ session = { gap = «5 } }", WRONG_TYPE, &["expected text"]),
        window("{ session = «5 }", WRONG_TYPE, &["`session`"]),
        window("{ tumbling = \"1s\", «trigger = { count = 4 } }", UNKNOWN_KEY, &["`trigger`"]),
        aggregate("map = \"a.wasm\"\n«late = \"late_rows\"", CONFLICT, &["belongs to `aggregate`"]),
    ]);
}

#[test]
fn wrong_sinks_are_refused_with_place_and_help() {
    let head = "name = \"p\"\n[source.s]\nstdin = {}\nformat = \"json\"\n";
    check(vec![
        sink("«object = {}", MISSING_KEY, &["`url`", "url = "]),
        sink("object = «{ url = \"gs://bucket/rows.json\" }", BAD_VALUE, &["gs://bucket", "s3://bucket/prefix"]),
        sink("object = «{ url = \"s3://bucket\" }", BAD_VALUE, &["names a place", "rows.json"]),
        sink("object = { url = «7 }", WRONG_TYPE, &["expected text"]),
        sink("object = { url = \"rows.json\", roll = «\"64mb\" }", BAD_SIZE, &["`mb` is no unit", "MiB"]),
        sink("object = { url = \"rows.json\", «path = \"x\" }", UNKNOWN_KEY, &["`path`", "url"]),
        sink("print = {}\nformat = «\"parquet\"", CONFLICT, &["format parquet", "files only"]),
        case(
            format!("{head}[sink.«o]\nfrom = \"s\""),
            NO_KIND,
            &["where rows go", "print, discard, file, object, kafka"],
        ),
        case(format!("{head}[sink.«o]\nprint = {{}}"), MISSING_KEY, &["`from`"]),
        sink("print = {}\n«discard = {}", SEVERAL_KINDS, &["`print`, `discard`"]),
        sink("print = { «colour = true }", UNKNOWN_KEY, &["takes no keys"]),
        sink("«file = {}", MISSING_KEY, &["`path`"]),
        sink("«elasticsearch = {}", NOT_AVAILABLE, &["`elasticsearch`", "kafka"]),
        sink("kafka = { brokers = \"b\", topic = \"t\", key = «1 }", WRONG_TYPE, &["expected text"]),
        sink("print = {}\nformat = «\"jsonl\"", UNKNOWN_VALUE, &["did you mean `json`"]),
        sink("print = {}\nparallelism = «1000", BAD_VALUE, &["1 to 128"]),
    ]);
}

#[test]
fn wrong_wiring_is_refused_with_place_and_help() {
    let s = "[source.s]\nstdin = {}\nformat = \"json\"\n";
    let out = "[sink.out]\nprint = {}\n";
    let map = "map = \"m.wasm\"\n";
    check(vec![
        wiring(&format!("{s}{out}from = «\"z\"\n[sink.o]\nprint = {{}}\nfrom = \"s\""), UNKNOWN_INPUT, &["`z`", "known names: s"]),
        wiring(
            &format!("[source.lines]\nstdin = {{}}\nformat = \"text\"\n{out}from = [\"lines\", «\"linse\"]"),
            UNKNOWN_INPUT,
            &["did you mean `lines`"],
        ),
        wiring(&format!("{s}{out}from = \"s\"\n[step.t]\n{map}from = [\"s\", «\"out\"]\n[sink.o]\nprint = {{}}\nfrom = \"t\""), SINK_AS_INPUT, &["the sink `out`", "one of: s"]),
        wiring(&format!("{s}{out}from = [\"s\", «\"s\"]"), DUPLICATE_NAME, &["twice"]),
        wiring(&format!("{s}{out}from = [\"s\", «3]"), WRONG_TYPE, &["an entry of `from`", "found an integer"]),
        wiring(&format!("{s}{out}from = «{{ a = 1 }}"), WRONG_TYPE, &["text or a list of texts"]),
        wiring(&format!("{s}{out}from = \"s\"\n[sink.«out]\ndiscard = {{}}"), SYNTAX, &["duplicate key", "`out`"]),
        wiring(&format!("{s}[step.«s]\n{map}from = \"s\"\n{out}from = \"s\""), DUPLICATE_NAME, &["line 2, column 9", "source"]),
        wiring(
            &format!("{s}[step.a]\n{map}from = [\"s\", \"c\"]\n[step.b]\n{map}from = \"a\"\n[step.c]\n{map}from = \"b\"\n{out}from = \"c\"")
                .replace("[step.a]", "[step.«a]"),
            CYCLE,
            &["a -> b -> c -> a"],
        ),
        wiring(&format!("{s}[step.«a]\n{map}from = [\"s\", \"a\"]\n{out}from = \"a\""), CYCLE, &["a -> a"]),
        wiring(&format!("{s}[step.«a]\n{map}from = \"s\"\n{out}from = \"s\""), UNUSED, &["nobody reads step `a`", "add a sink"]),
        wiring(&format!("{s}[source.«r]\nstdin = {{}}\nformat = \"raw\"\n{out}from = \"s\""), UNUSED, &["source `r`"]),
        wiring(&format!("{s}[step.\"«A\"]\n{map}from = \"s\"\n{out}from = \"A\"").replace("\"«A\"", "«\"A\""), BAD_NAME, &["like `a`"]),
        wiring(&format!("{s}[step.«\"\"]\n{map}from = \"s\"\n{out}from = \"s\"\n"), BAD_NAME, &["empty"]),
    ]);
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_file_order() {
    let text = "nam = \"p\"\n[source.s]\nkafka = { broker = \"b\" }\nformat = \"jsn\"\n[step.t]\nfrom = \"x\"\nmap = 3\n\
                [sink.out]\nfrom = \"t\"\nprint = { a = 1 }\nparallelism = 0\n";
    let error = parse_text(text).expect_err("all of it is wrong");
    let found: Vec<(usize, &str)> =
        error.diagnostics.iter().map(|d| (line_column(text, d.span.start).0, d.code)).collect();
    let expected = [
        (1, UNKNOWN_KEY),
        (3, MISSING_KEY),
        (3, UNKNOWN_KEY),
        (4, UNKNOWN_VALUE),
        (6, UNKNOWN_INPUT),
        (7, WRONG_TYPE),
        (10, UNKNOWN_KEY),
        (11, BAD_VALUE),
    ];
    assert_eq!(found, expected, "{error}");
}

#[test]
fn a_pipeline_of_nothing_lacks_everything() {
    let codes = |text: &str| -> Vec<&str> {
        parse_text(text).expect_err("nothing there").diagnostics.iter().map(|d| d.code).collect()
    };
    assert_eq!(codes(""), [MISSING_KEY, NO_SOURCE, NO_SINK]);
    assert_eq!(codes("name = \"p\"\n[sources.s]\nstdin = {}"), [UNKNOWN_KEY], "what is missing is misspelt");
    assert_eq!(codes("name = \"p\"\n[[source]]\nstdin = {}"), [WRONG_TYPE]);
}

fn top_n(step: &str, code: &'static str, words: &'static [&'static str]) -> Case {
    aggregate(&format!("key_by = \"k\"\n{step}"), code, words)
}

#[test]
fn wrong_top_steps_are_refused_with_place_and_help() {
    check(vec![
        top_n("top = «3", WRONG_TYPE, &["expected a table", "n, by"]),
        top_n("«top = { by = \"n\" }", MISSING_KEY, &["no `n`", "add `n = 3`"]),
        top_n("«top = { n = 3 }", MISSING_KEY, &["no `by`"]),
        top_n("top = { n = «0, by = \"n\" }", BAD_VALUE, &["`n` of `top`", "1 or more"]),
        top_n("top = { n = «-1, by = \"n\" }", BAD_VALUE, &["0 or more"]),
        top_n("top = «{ n = 1, by = [] }", BAD_VALUE, &["`by`", "at least one column"]),
        top_n("top = { n = 1, by = [\"a\", «\"a asc\"] }", DUPLICATE_COLUMN, &["`a`"]),
        top_n("top = { n = 1, by = «4 }", WRONG_TYPE, &["text or a list of texts"]),
        top_n("top = { n = 1, by = \"a\", ties = «\"all\" }", UNKNOWN_VALUE, &["`all`", "cut, keep"]),
        top_n("top = { n = 1, by = \"a\", rank = «\"\" }", BAD_VALUE, &["`rank`", "is empty"]),
        top_n("top = { n = 1, by = \"a\", «order = \"asc\" }", UNKNOWN_KEY, &["`order`"]),
        top_n("top = { n = 1, by = \"a\" }\n«config = { a = 1 }", CONFLICT, &["`config`", "`top`"]),
        top_n("top = { n = 1, by = \"a\" }\n«allowed_lateness = \"1s\"", CONFLICT, &["`allowed_lateness`", "`top`"]),
        top_n("top = { n = 1, by = \"a\" }\nkeep = «\"all\"", CONFLICT, &["keeps all columns"]),
        top_n("top = { n = 1, by = \"a\" }\nwindow = «{ session = \"1s\" }", CONFLICT, &["tumbling", "sliding"]),
        top_n("top = { n = 1, by = \"a\" }\n«aggregate = { n = \"count()\" }", SEVERAL_KINDS, &["`top`, `aggregate`"]),
    ]);
}

#[test]
fn wrong_joins_are_refused_with_place_and_help() {
    check(vec![
        join("join = «\"o\"", WRONG_TYPE, &["expected a table"]),
        join("«join = { on = \"k\" }", MISSING_KEY, &["no `with`", "add `with = "]),
        join("«join = { with = \"o\" }", MISSING_KEY, &["no `on`", "seller = id"]),
        join("join = { with = «\"oo\", on = \"k\" }", UNKNOWN_INPUT, &["`oo`"]),
        join("join = { with = \"o\", on = «\"a = b = c\" }", BAD_VALUE, &["`a = b = c`", "left = right"]),
        join("join = { with = \"o\", on = [\"k\", «\"= b\"] }", BAD_VALUE, &["`= b`", "seller = id"]),
        join("join = «{ with = \"o\", on = [] }", BAD_VALUE, &["`on` of step `t` is empty"]),
        join("join = «{ with = [], on = \"k\" }", MISSING_KEY, &["`with` of step `t` names nothing"]),
        join("join = { with = \"o\", on = \"k\", kind = «\"outer\" }", UNKNOWN_VALUE, &["inner, left, right, full"]),
        join(
            "join = { with = \"o\", on = \"k\", kind = «\"left\" }",
            CONFLICT,
            &["a left join", "cannot be taken back", "window"],
        ),
        join(
            "lookup = { with = \"o\", on = \"k\", kind = «\"full\" }",
            CONFLICT,
            &["a full join", "looked up", "left"],
        ),
        join(
            "lookup = { with = \"o\", on = \"k\", «between = [\"0s\", \"1s\"] }",
            UNKNOWN_KEY,
            &["`between`", "select"],
        ),
        join(
            "lookup = { with = \"o\", on = \"k\" }\n«window = { tumbling = \"1s\" }",
            CONFLICT,
            &["`window`", "write `join`"],
        ),
        join(
            "join = { with = \"o\", on = \"k\" }\nwindow = «{ session = { gap = \"g\" } }",
            CONFLICT,
            &["a gap by column"],
        ),
        join(
            "join = { with = \"o\", on = \"k\" }\nwindow = «{ count = 5 }",
            CONFLICT,
            &["tumbling, sliding or session"],
        ),
        join(
            "join = { with = \"o\", on = \"k\" }\nwindow = «{ tumbling = \"1s\", offset = \"2s\" }",
            BAD_DURATION,
            &["offset"],
        ),
        join("join = { with = \"o\", on = \"k\" }\n«key_by = \"k\"", CONFLICT, &["`key_by`", "`join`"]),
        join(
            "join = { with = \"o\", on = \"k\" }\n«allowed_lateness = \"1s\"",
            CONFLICT,
            &["`allowed_lateness`", "`join`"],
        ),
        join("join = { with = \"o\", on = \"k\" }\nlate_with = «7", WRONG_TYPE, &["`late_with`"]),
        join(
            "lookup = { with = \"o\", on = \"k\" }\n«late_with = \"l\"",
            CONFLICT,
            &["`late_with`", "belongs to `join`"],
        ),
        join("join = { with = \"o\", on = \"k\" }\nkeep = «\"all\"", CONFLICT, &["`keep`", "select"]),
        join("join = { with = \"o\", on = \"k\" }\n«config = { a = 1 }", CONFLICT, &["a join takes none"]),
        join("join = { with = \"o\", on = \"k\" }\n«map = \"m.wasm\"", SEVERAL_KINDS, &["`join`, `map`"]),
        join("join = { with = \"o\", on = \"k\", between = «[\"0s\"] }", BAD_VALUE, &["two ends", "-10m"]),
        join("join = { with = \"o\", on = \"k\", between = [\"0s\", «\"5\"] }", BAD_DURATION, &["`5`", "no unit"]),
        join(
            "join = { with = \"o\", on = \"k\", between = [«\"2s\", \"1s\"] }",
            BAD_DURATION,
            &["no time", "earliest first"],
        ),
        join(
            "join = { with = \"o\", on = \"k\", between = [«\"0s\", \"1ms\"], exclusive = \"both\" }",
            BAD_DURATION,
            &["no time lies in `between`"],
        ),
        join("join = { with = \"o\", on = \"k\", «exclusive = \"both\" }", CONFLICT, &["no `between`"]),
        join(
            "join = { with = \"o\", on = \"k\", between = [«\"0s\", \"1s\"] }\nwindow = { tumbling = \"1s\" }",
            CONFLICT,
            &["has a `window`", "keep one"],
        ),
        join(
            "join = { with = \"o\", on = \"k\", «state_ttl = \"1s\" }\nwindow = { tumbling = \"1s\" }",
            CONFLICT,
            &["`state_ttl`", "forgotten"],
        ),
        join("join = { with = \"o\", on = \"k\", state_ttl = «\"0s\" }", BAD_DURATION, &["is zero"]),
        join("join = { with = \"o\", on = \"k\", select = [\"a\", «\"a\"] }", DUPLICATE_COLUMN, &["`a` comes twice"]),
        join("join = { with = \"o\", on = \"k\", prefix = «\"\" }", BAD_VALUE, &["`prefix`", "empty"]),
    ]);
}

#[test]
fn wrong_aggregates_without_windows_are_refused_with_place_and_help() {
    let running = |rest: &str, code, words| {
        aggregate(&format!("key_by = \"k\"\naggregate = {{ n = \"count()\" }}\n{rest}"), code, words)
    };
    check(vec![
        running("emit = «\"last\"", UNKNOWN_VALUE, &["`last`", "changes, latest"]),
        running("emit = «1", WRONG_TYPE, &["expected text"]),
        running("window = { count = 3 }\n«emit = \"latest\"", CONFLICT, &["`emit`", "`window`"]),
        aggregate(
            "key_by = \"k\"\naggregate = «{ n = \"count()\" }\nallowed_lateness = \"1s\"",
            CONFLICT,
            &["`allowed_lateness`", "no row is late"],
        ),
        case(
            "name = \"p\"\n[source.s]\nstdin = {}\nformat = \"json\"\n[step.t]\nfrom = \"s\"\nkey_by = \"k\"\naggregate = { n = \"count()\" }\nlate = «\"l\"\n[sink.o]\nfrom = [\"t\"]\nprint = {}\n[sink.l]\nfrom = \"l\"\nprint = {}",
            CONFLICT,
            &["`late`", "no row is late"],
        ),
        step("from = \"s\"\nmap = \"a.wasm\"\n«emit = \"latest\"", CONFLICT, &["`emit`", "belongs to `aggregate`"]),
        top_n("top = { n = 1, by = \"a\" }\n«emit = \"latest\"", CONFLICT, &["`emit`", "`top`"]),
    ]);
}

#[test]
fn wrong_partitions_are_refused_with_place_and_help() {
    let map = |partition: &str, code, words| step(&format!("from = \"s\"\nmap = \"m.wasm\"\n{partition}"), code, words);
    check(vec![
        map("partition = «\"round_robin\"", UNKNOWN_VALUE, &["forward, rebalance, broadcast"]),
        map("«partition = {}", NO_KIND, &["by what rows are spread"]),
        map("partition = «{ key = [] }", BAD_VALUE, &["`key`", "at least one column"]),
        map("partition = { hash = «\"rows\" }", UNKNOWN_VALUE, &["row"]),
        map("partition = { custom = «7 }", WRONG_TYPE, &["`custom`"]),
        map("partition = { «range = { splits = [1] } }", MISSING_KEY, &["`column`"]),
        map("partition = { range = { column = \"a\", splits = «[] } }", BAD_VALUE, &["at least one"]),
        map("partition = { range = { column = \"a\", splits = «[2, 1] } }", BAD_VALUE, &["ascend"]),
        map("partition = { range = { column = \"a\", splits = «[1, \"a\"] } }", WRONG_TYPE, &["one kind"]),
        map("partition = { range = { column = \"a\", splits = «[7], sample = 100 } }", CONFLICT, &["not both"]),
        map("partition = { range = { column = \"a\", splits = [7], every = «\"1s\" } }", CONFLICT, &["`sample`"]),
        map("partition = { range = { column = \"a\", sample = «63 } }", BAD_VALUE, &["64 to 65536", "63"]),
        map("partition = { range = { column = \"a\", sample = «-1 } }", BAD_VALUE, &["-1"]),
        map("partition = { range = { column = \"a\", sample = 64, every = «\"0s\" } }", BAD_DURATION, &["zero"]),
        map("partition = { range = { column = \"a\", splits = «7 } }", WRONG_TYPE, &["one kind", "[10, 100]"]),
        aggregate(
            "key_by = \"k\"\nwindow = { global = true }\naggregate = { n = \"count()\" }\npartition = «\"rebalance\"",
            CONFLICT,
            &["holds their key"],
        ),
        join("join = { with = \"o\", on = \"k\" }\npartition = «\"broadcast\"", CONFLICT, &["holds their key"]),
    ]);
}
