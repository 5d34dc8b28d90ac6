//! Wrong pipelines with real components: each is refused before anything starts, with the place, a stable code, what was
//! expected and found, and what to do next.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use millstream::error::{Diagnostic, PipelineError, line_column};
use millstream::pipeline;
use millstream::pipeline::problems::code;
use millstream::pipeline::resolve::resolve;
use millstream::wasm::Sandbox;
use millstream_tests::run;

/// A component that exports something, but no operator.
const NOTHING: &str = r#"(component (instance $i) (export "other:package/thing@1.0.0" (instance $i)))"#;

/// A component of a contract that is yet to come.
const NEWER: &str = r#"(component (instance $i) (export "millstream:operator/mapper@0.2.0" (instance $i)))"#;

/// A component that wants files.
const CURIOUS: &str = r#"(component (import "other:files/open@1.0.0" (instance)))"#;

fn sandbox() -> &'static Sandbox {
    static SANDBOX: OnceLock<Sandbox> = OnceLock::new();
    SANDBOX.get_or_init(|| run::sandbox().expect("a sandbox"))
}

/// A folder with a pipeline and all the components that the cases name.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
        for guest in ["uppercase", "even", "average", "min-amount", "tokenize", "enrich", "fraud-rules", "dedup"] {
            let (from, to) = (guests.join(format!("{guest}.wasm")), folder.path().join(format!("{guest}.wasm")));
            std::fs::copy(&from, to).unwrap_or_else(|error| panic!("{}: {error}; cargo xtask guests", from.display()));
        }
        for (name, text) in [("nothing", NOTHING), ("newer", NEWER), ("curious", CURIOUS), ("core", "(module)")] {
            let bytes = wat::parse_str(text).expect("WebAssembly");
            std::fs::write(folder.path().join(format!("{name}.wasm")), bytes).expect("a file");
        }
        std::fs::write(folder.path().join("text.wasm"), "#!/bin/sh\n").expect("a file");
        std::fs::create_dir(folder.path().join("empty")).expect("a folder");
        folder
    });
    folder.path()
}

/// Reads and resolves `text`, in which `«` marks where mistakes are to be seen; gives the marked places too.
fn refused(text: &str) -> (PipelineError, Vec<(usize, usize)>) {
    let mut clean = String::new();
    let mut places = Vec::new();
    for (i, piece) in text.split('«').enumerate() {
        if i > 0 {
            places.push(clean.len());
        }
        clean.push_str(piece);
    }
    let places = places.into_iter().map(|place| line_column(&clean, place)).collect();
    let (mut file, path): (_, PathBuf) =
        tempfile::Builder::new().suffix(".toml").tempfile_in(folder()).expect("a file").keep().expect("a path");
    std::io::Write::write_all(&mut file, clean.as_bytes()).expect("a pipeline");
    let outcome = pipeline::read(&path).and_then(|spec| resolve(spec, sandbox()));
    std::fs::remove_file(&path).expect("removed");
    match outcome {
        Ok(_) => panic!("nothing is wrong with\n{clean}"),
        Err(error) => {
            assert_eq!(error.path, path);
            assert_eq!(*error.text, *clean, "the text is kept for printing the place");
            (error, places)
        }
    }
}

/// What is to be said at one place.
struct Said {
    code: &'static str,
    /// in the label: expected and found
    label: &'static str,
    /// in message and help
    words: &'static [&'static str],
}

#[track_caller]
fn check(text: &str, wanted: &[Said]) {
    let (error, places) = refused(text);
    let found: Vec<(&str, (usize, usize))> =
        error.diagnostics.iter().map(|d| (d.code, line_column(&error.text, d.span.start))).collect();
    let expected: Vec<(&str, (usize, usize))> = wanted.iter().map(|said| said.code).zip(places).collect();
    assert_eq!(found, expected, "\n{error}");
    for (said, diagnostic) in wanted.iter().zip(&error.diagnostics) {
        assert!(diagnostic.label.contains(said.label), "{:?} is not in {:?}", said.label, diagnostic.label);
        let all = words(diagnostic);
        for word in said.words {
            assert!(all.contains(word), "{word:?} is not in {all:?}");
        }
    }
}

fn words(diagnostic: &Diagnostic) -> String {
    format!("{}; {}", diagnostic.message, diagnostic.help.as_deref().unwrap_or_default())
}

/// A source with every kind of column, a step, a sink.
fn with_step(step: &str) -> String {
    format!(
        r#"
name = "wrong"
[source.bids]
file = {{ path = "bids.json" }}
format = "json"
schema = {{ auction = "int64", price = "float64", value = "text", amount = "float64?", at = "timestamp_ms" }}
event_time = "at"
[step.s]
from = "bids"
{step}
[sink.out]
from = "s"
print = {{}}
"#
    )
}

#[track_caller]
fn step(body: &str, code: &'static str, label: &'static str, words: &'static [&'static str]) {
    check(&with_step(body), &[Said { code, label, words }]);
}

#[test]
fn an_unknown_key_is_told_with_its_near_match() {
    step(
        "map = \"uppercase.wasm\"\n«parallelsm = 2",
        code::UNKNOWN_KEY,
        "",
        &["`parallelsm`", "did you mean `parallelism`", "known keys: from, map"],
    );
}

#[test]
fn a_missing_column_is_told_with_those_there_are() {
    step(
        "key_by = [«\"acution\"]\nwindow = { tumbling = \"1s\" }\naggregate = { n = \"count()\" }",
        code::MISSING_COLUMN,
        "no such column",
        &["`acution`", "step `s`", "did you mean `auction`", "auction, price, value, amount, at"],
    );
    step(
        "map = \"uppercase.wasm\"\nkeep = [«\"url\"]",
        code::MISSING_COLUMN,
        "no such column",
        &["`url`", "columns: auction, price"],
    );
    let text = with_step("map = \"uppercase.wasm\"")
        .replace("event_time = ", "event_time = «")
        .replace("\"at\"\n", "\"when\"\n");
    check(&text, &[Said { code: code::MISSING_COLUMN, label: "no such column", words: &["`when`", "source `bids`"] }]);
}

#[test]
fn a_column_that_a_component_reads_and_the_stream_lacks_is_told() {
    step(
        "map = «\"enrich.wasm\"\nconfig = { target = \"EUR\" }",
        code::MISSING_COLUMN,
        "no such column",
        &["the input of step `s` has no column `currency`", "columns: auction, price"],
    );
}

#[test]
fn a_column_of_the_wrong_kind_is_told_with_both_kinds() {
    step(
        "filter = «\"even.wasm\"",
        code::WRONG_TYPE,
        "expected int64, found text",
        &["step `s` reads `value` as int64", "`schema` of its source"],
    );
    step(
        "key_by = \"auction\"\nwindow = { tumbling = \"1s\" }\naggregate = { mean = «\"average.wasm\" }",
        code::WRONG_TYPE,
        "expected float64, found text",
        &["`value`"],
    );
    step(
        "key_by = \"auction\"\nwindow = { tumbling = \"1s\" }\naggregate = { total = «\"sum(value)\" }",
        code::WRONG_TYPE,
        "sum(value) of a text column: expected int64 or float64",
        &["sum cannot be computed in step `s`", "columns of such a kind: auction, price, amount"],
    );
    let text = with_step("map = \"uppercase.wasm\"").replace("event_time = \"at\"", "event_time = «\"price\"");
    let label = "expected timestamp_ms or int64 (milliseconds), found float64";
    check(&text, &[Said { code: code::WRONG_TYPE, label, words: &["event time `price`", "timestamp_ms"] }]);
}

#[test]
fn nulls_that_a_component_does_not_accept_are_told() {
    let text = with_step("map = «\"uppercase.wasm\"").replace("value = \"text\"", "value = \"text?\"");
    check(
        &text,
        &[Said {
            code: code::NULLABLE,
            label: "expected value: text, found value: text?",
            words: &["step `s` does not accept nulls in `value`", "optional", "take the `?` off"],
        }],
    );
}

#[test]
fn steps_in_a_circle_are_named() {
    let text = r#"
name = "wrong"
[source.lines]
file = { path = "x" }
format = "text"
[step.«a]
from = ["lines", "b"]
map = "uppercase.wasm"
[step.b]
from = "a"
map = "uppercase.wasm"
[sink.out]
from = "b"
print = {}
"#;
    let words = &["circle: a -> b -> a", "let one of them read"];
    check(text, &[Said { code: code::CYCLE, label: "", words }]);
}

#[test]
fn a_component_that_is_not_there_is_told_with_those_that_are() {
    step(
        "map = «\"upercase.wasm\"",
        code::MISSING_COMPONENT,
        "no such file",
        &["upercase.wasm", "did you mean `uppercase.wasm`", "even.wasm"],
    );
    step(
        "map = «\"guests/x.wasm\"",
        code::MISSING_COMPONENT,
        "no such file",
        &["there is no folder", "millstream build"],
    );
    step("map = «\"empty/x.wasm\"", code::MISSING_COMPONENT, "no such file", &["holds no .wasm files"]);
    step("map = «\"empty\"", code::MISSING_COMPONENT, "expected a file", &["is not a file"]);
}

#[test]
fn files_that_are_no_operators_are_told_apart() {
    let label = "expected an operator, found none";
    step(
        "map = «\"nothing.wasm\"",
        code::BAD_COMPONENT,
        label,
        &[
            "exports no operator",
            "millstream:operator/mapper@0.1.0",
            "found `other:package/thing@1.0.0`",
            "millstream build",
        ],
    );
    let label = "expected `millstream:operator/mapper@0.1.0`, found `millstream:operator/mapper@0.2.0`";
    step(
        "map = «\"newer.wasm\"",
        code::BAD_COMPONENT,
        label,
        &["was built for", "rebuild it with the SDK of this version"],
    );
    let label = "expected a component, found a core module";
    step("map = «\"core.wasm\"", code::BAD_COMPONENT, label, &["core.wasm is a core module", "millstream build"]);
    let label = "expected a component, found another file";
    step("map = «\"text.wasm\"", code::BAD_COMPONENT, label, &["is not WebAssembly", "found `#!/bin/s`"]);
    step("map = «\"curious.wasm\"", code::BAD_COMPONENT, "", &["imports `other:files/open@1.0.0`", "allowed are"]);
}

#[test]
fn an_operator_of_another_kind_is_told_with_the_key_that_fits() {
    step(
        "map = «\"even.wasm\"",
        code::WRONG_OPERATOR,
        "expected a mapper, found a filter",
        &["step `s` uses", "even.wasm as a mapper", "write `filter` for it"],
    );
    step(
        "key_by = \"auction\"\nwindow = { tumbling = \"1s\" }\naggregate = { n = «\"uppercase.wasm\" }",
        code::WRONG_OPERATOR,
        "expected an aggregator, found a mapper",
        &["write `map` for it"],
    );
    step("filter = «\"tokenize.wasm\"", code::WRONG_OPERATOR, "found a flat-mapper", &["write `flat_map` for it"]);
}

#[test]
fn a_configuration_that_the_component_refuses_is_told_in_its_words() {
    step(
        "filter = «\"min-amount.wasm\"\nconfig = { minimun = 1.0 }",
        code::BAD_CONFIG,
        "unknown field `minimun`, expected `minimum`",
        &["refuses its config", "min-amount.wasm", "`config = { .. }` of step `s`"],
    );
    step("filter = «\"min-amount.wasm\"", code::BAD_CONFIG, "missing field `minimum`", &["refuses its config"]);
    step("filter = «\"min-amount.wasm\"\nconfig = { minimum = \"ten\" }", code::BAD_CONFIG, "expected f64", &[]);
}

#[test]
fn a_window_over_rows_without_event_time_is_refused() {
    let body = "key_by = \"auction\"\nwindow = «{ tumbling = \"1s\" }\naggregate = { n = \"count()\" }";
    let text = with_step(body).replace("event_time = \"at\"\n", "");
    check(
        &text,
        &[Said {
            code: code::NO_EVENT_TIME,
            label: "needs event time",
            words: &["rows of source `bids` have no event time", "add `event_time = \"<column>\"` to [source.bids]"],
        }],
    );
}

#[test]
fn streams_with_different_columns_are_not_united() {
    let text = with_step("map = \"uppercase.wasm\"").replace("from = \"s\"", "from = [\"s\", «\"bids\"]");
    check(
        &text,
        &[Said {
            code: code::UNION_MISMATCH,
            label: "expected value: text as in `s`, found auction: int64, price: float64",
            words: &["`out` unites `s` and `bids`", "it has `auction`, `price`, `amount`, `at` too"],
        }],
    );
}

#[test]
fn a_source_whose_columns_nobody_says_needs_a_schema() {
    let text = r#"
name = "wrong"
[source.«bids]
file = { path = "bids.json" }
format = "json"
event_time = "at"
[step.s]
from = "bids"
key_by = "auction"
window = { tumbling = "1s" }
aggregate = { mean = "average.wasm" }
[sink.out]
from = "s"
print = {}
"#;
    const SUGGESTED: &str = "`schema = { value = \"float64\", auction = \"text\", at = \"timestamp_ms\" }`";
    let words = &["source `bids`", "what kind `auction` (used by step `s`) is", SUGGESTED];
    check(text, &[Said { code: code::SCHEMA_NEEDED, label: "no `schema` here", words }]);
    let csv = text.replace("\"json\"", "\"csv\"");
    let words = &["csv columns are told apart by their order", "[source.bids]"];
    check(&csv, &[Said { code: code::SCHEMA_NEEDED, label: "no `schema` here", words }]);
}

#[test]
fn operators_that_disagree_about_a_column_are_named() {
    let text = r#"
name = "wrong"
[source.«bids]
file = { path = "bids.json" }
format = "json"
[step.s]
from = "bids"
filter = "even.wasm"
[step.t]
from = "s"
map = "uppercase.wasm"
[sink.out]
from = "t"
print = {}
"#;
    let words = &["disagree about `value`", "step `s` reads it as text, another as int64"];
    check(text, &[Said { code: code::SCHEMA_NEEDED, label: "no `schema` here", words }]);
}

#[test]
fn every_mistake_is_told_at_once_in_file_order() {
    let text = with_step("map = «\"upercase.wasm\"\n[step.u]\nfrom = \"s\"\nmap = «\"core.wasm\"")
        .replace("from = \"s\"\nprint", "from = \"u\"\nprint");
    check(
        &text,
        &[
            Said { code: code::MISSING_COMPONENT, label: "no such file", words: &[] },
            Said { code: code::BAD_COMPONENT, label: "found a core module", words: &[] },
        ],
    );
    let text = with_step(
        "key_by = [«\"a1\", «\"b1\"]\nwindow = { tumbling = \"1s\" }\naggregate = { n = \"count()\", m = «\"min(c1)\" }",
    );
    let column = || Said { code: code::MISSING_COLUMN, label: "no such column", words: &[] };
    check(&text, &[column(), column(), column()]);
}

/// Two sources and a step that joins them.
fn with_join(step: &str) -> String {
    format!(
        r#"
name = "wrong"
[source.bids]
file = {{ path = "bids.json" }}
format = "json"
schema = {{ auction = "int64", price = "float64", at = "timestamp_ms", word = "text" }}
event_time = "at"
[source.auctions]
file = {{ path = "auctions.json" }}
format = "json"
schema = {{ id = "int64", price = "float64", at = "timestamp_ms", name = "text" }}
[step.s]
from = "bids"
{step}
[sink.out]
from = "s"
print = {{}}
"#
    )
}

#[test]
fn a_join_that_cannot_be_is_told_with_the_columns_at_fault() {
    let said = |code, label, words| [Said { code, label, words }];
    check(
        &with_join("join = { with = \"auctions\", on = [«\"auction = word\"] }"),
        &said(code::MISSING_COLUMN, "no such column", &["`with` of step `s` has no column `word`", "name"]),
    );
    check(
        &with_join("join = { with = \"auctions\", on = [«\"word = id\"] }"),
        &said(code::WRONG_TYPE, "`word` is text, `id` is int64", &["different kinds", "schema"]),
    );
    check(
        &with_join("join = «{ with = \"auctions\", on = [\"auction = id\"] }"),
        &said(code::DUPLICATE_COLUMN, "different names", &["`price`, `at`", "prefix", "select"]),
    );
    check(
        &with_join("join = { with = \"auctions\", on = [\"auction = id\"], select = [\"word\", «\"price\"] }"),
        &said(code::DUPLICATE_COLUMN, "different names", &["`price`", "prefix"]),
    );
    check(
        &with_join("join = { with = \"auctions\", on = [\"auction = id\"], select = [\"word\", «\"nam\"] }"),
        &said(code::MISSING_COLUMN, "no such column", &["`nam`", "did you mean `name`?"]),
    );
    check(
        &with_join(
            "join = { with = \"auctions\", on = [\"auction = id\"], prefix = \"a_\" }\nwindow = «{ tumbling = \"1s\" }",
        ),
        &said(code::NO_EVENT_TIME, "needs event time", &["source `auctions`", "event_time"]),
    );
    let event_time = |text: String| text.replace("name = \"text\" }", "name = \"text\" }\nevent_time = \"at\"");
    check(
        &event_time(with_join(
            "join = { with = \"auctions\", on = \"auction = id\", prefix = \"a_\", between = [\"0s\", «\"word\"] }",
        )),
        &said(code::WRONG_TYPE, "found text", &["`word` in `between`", "at"]),
    );
}

/// A processor with one input, and with two.
#[track_caller]
fn process(body: &str, code: &'static str, label: &'static str, words: &'static [&'static str]) {
    let rules = r#"[sink.rules_out]
from = "rules"
print = {}
[source.rules]
file = { path = "rules.json" }
format = "json"
schema = { id = "text", number = "int64", limit = "float64?" }
[step.s]"#;
    let columns = with_step(body)
        .replace("value = \"text\"", "account = \"text\", order = \"text\"")
        .replace("amount = \"float64?\"", "amount = \"float64\"");
    // an output that is named is read, so that the component alone can be at fault
    let reader = "[sink.more]\nfrom = \"alert\"\nprint = {}\n";
    let rules = if body.contains("side_outputs") { format!("{reader}{rules}") } else { rules.to_owned() };
    check(&columns.replace("[step.s]", &rules), &[Said { code, label, words }]);
}

#[test]
fn a_processor_is_checked_against_its_inputs_keys_and_outputs() {
    let fraud = "with = \"rules\"\nwith_key_by = \"id\"\nprocess = \"fraud-rules.wasm\"";
    process(
        "key_by = \"account\"\nwith = \"rules\"\nwith_key_by = «\"number\"\nprocess = \"fraud-rules.wasm\"",
        code::WRONG_TYPE,
        "expected account: text, found number: int64",
        &["the inputs of step `s` have different keys", "of the same kinds"],
    );
    process(
        "key_by = \"account\"\nwith = \"rules\"\nwith_key_by = [«\"id\", \"nmber\"]\nprocess = \"fraud-rules.wasm\"",
        code::CONFLICT,
        "keys of the two inputs must be alike",
        &["names 2 columns, `key_by` 1"],
    );
    process(
        &format!("key_by = \"account\"\n{fraud}\nside_outputs = [«\"alert\"]"),
        code::MISSING_COLUMN,
        "no such output",
        &["has no side output `alert`", "did you mean `alerts`"],
    );
    process(
        "key_by = \"auction\"\nwith = \"rules\"\nwith_key_by = \"number\"\nprocess = «\"fraud-rules.wasm\"",
        code::MISSING_COLUMN,
        "no such key",
        &["wants to know the key `account`", "auction"],
    );
    process(
        "key_by = \"account\"\nprocess = «\"fraud-rules.wasm\"",
        code::MISSING_KEY,
        "limit: float64?",
        &["has a second input, but the step has none", "add `with"],
    );
    process(
        "key_by = \"account\"\nwith = «\"rules\"\nwith_key_by = \"id\"\nprocess = \"dedup.wasm\"",
        code::CONFLICT,
        "the component has one input",
        &["remove `with`"],
    );
}
