//! Each change of a pipeline with what is told of it.

use std::path::Path;

use super::*;
use crate::pipeline::parse;
use crate::pipeline::plan::{Signatures, plan};
use crate::record::{Field, Kind};
use crate::wasm::StateSchema;

const PIPELINE: &str = r#"
name = "bids"
parallelism = 2
checkpoint = { store = "state", interval = "10s" }
[source.bids]
generator = { kind = "nexmark_bid", rate = 100, seed = 1 }
[source.lines]
tcp = { listen = "127.0.0.1:7000" }
format = "json"
schema = { auction = "int64", name = "text", note = "text" }
[step.tag]
from = "bids"
map = { component = "tag.wasm", config = { word = "a" } }
keep = "all"
[step.sums]
from = "tag"
key_by = ["auction"]
window = { tumbling = "10s" }
aggregate = { bids = "count()", total = "sum(price)", tags = "tags.wasm" }
[step.named]
from = "sums"
join = { with = "lines", on = ["auction"], state_ttl = "1h" }
[step.names]
from = "lines"
select = ["auction", "name"]
[sink.out]
from = "named"
file = { path = "out/rows.json" }
[sink.names]
from = "names"
print = {}
"#;

fn signature(outputs: Kind, state: Option<u32>) -> Signature {
    let fields = |name: &str, kind| Schema::new([Field::new(name, kind)]);
    Signature {
        inputs: fields("price", Kind::Int64),
        outputs: fields("tag", outputs),
        state: state.map(|version| StateSchema { version, fields: fields("count", Kind::Int64) }),
        process: None,
        sources: Vec::new(),
    }
}

/// Component files are their own digests; `-n` in the name of one is the version of its state, `-text` its output, and one that
/// `-takes` takes over the state of version 1.
fn known(file: &str, kind: OperatorKind, settings: Settings) -> Known {
    let output = if file.contains("-text") { Kind::Text } else { Kind::Int64 };
    let version = file.split('-').find_map(|part| part.trim_end_matches(".wasm").parse().ok()).unwrap_or(1);
    let state = (kind == OperatorKind::Aggregator).then_some(version);
    let mut signature = signature(output, state);
    if file.contains("-takes") {
        signature.sources.extend(self::signature(output, Some(1)).state);
    }
    Known { digest: file.to_owned(), file: file.to_owned(), kind, signature, settings }
}

fn shape(text: &str) -> (Plan, BTreeMap<SlotId, Known>) {
    let spec = parse(text, Path::new("p.toml"), Path::new("")).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let mut components = BTreeMap::new();
    for step in &spec.steps {
        for (slot, component, kind) in crate::pipeline::resolve::components_of(step) {
            let known = known(&component.path.value, kind, component.config.clone());
            components.insert(SlotId { step: step.name.value.clone(), slot }, known);
        }
    }
    let signatures: Signatures =
        components.iter().map(|(slot, known)| (slot.clone(), known.signature.clone())).collect();
    (plan(spec, &signatures).unwrap_or_else(|error| panic!("{error}\n{text}")), components)
}

/// What is told where each `from` in the text becomes its `to`.
fn told(edits: &[(&str, &str)]) -> Vec<String> {
    let mut text = PIPELINE.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    let ((old, of_old), (new, of_new)) = (shape(PIPELINE), shape(&text));
    let (old, new) = (Shape { plan: &old, components: of_old }, Shape { plan: &new, components: of_new });
    let word = |effect| match effect {
        Effect::Swap => "swap",
        Effect::Rebuild => "rebuild",
        Effect::DropsState => "DROPS",
        Effect::Restart => "RESTART",
    };
    diff(&old, &new).iter().map(|one| format!("{} {one}", word(one.effect))).collect()
}

#[test]
fn what_is_written_in_another_way_is_no_difference() {
    assert_eq!(told(&[]), [""; 0]);
    let moved =
        [("\nname = \"bids\"", "# a remark\n\n\nname = \"bids\""), ("\"10s\" }\n[source", "\"10000ms\" }\n[source")];
    assert_eq!(told(&moved), [""; 0]);
}

/// Edits of the text, and what is told of them.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn each_change_is_told_with_what_it_takes() {
    let table: [Case; 24] = [
        // guests only
        (&[("word = \"a\"", "word = \"b\"")], &["swap step `tag`: config.word \"a\" → \"b\""]),
        (&[("word = \"a\"", "word = \"a\", x = 1")], &["swap step `tag`: config.x none → 1"]),
        (&[("\"tag.wasm\"", "\"tag2.wasm\"")], &["swap step `tag`: component tag.wasm → tag2.wasm"]),
        (&[("\"tags.wasm\"", "\"tags2.wasm\"")], &["swap step `sums`: component tags.wasm → tags2.wasm"]),
        // another life, with all state
        (&[("\"tag.wasm\"", "\"tag-text.wasm\"")], &["rebuild step `tag`: component tag.wasm → tag-text.wasm"]),
        (&[("[step.sums]", "[step.sums]\nparallelism = 3")], &["rebuild step `sums`: parallelism 2 → 3"]),
        (
            &[("[step.sums]", "[step.sums]\nlimits = { memory = \"1MiB\" }")],
            &["swap step `sums`: limits.memory 64MiB → 1MiB"],
        ),
        (
            &[("[step.sums]", "[step.sums]\nlimits = { deadline = \"2s\" }")],
            &["swap step `sums`: limits.deadline 1s → 2s"],
        ),
        (
            &[("[step.sums]", "[step.sums]\nallowed_lateness = \"1s\"")],
            &["rebuild step `sums`: allowed_lateness 0ns → 1s"],
        ),
        (
            &[("select = [\"auction\", \"name\"]", "select = [\"name\"]")],
            &["rebuild step `names`: select auction = auction, name = name → name = name"],
        ),
        (&[("rate = 100", "rate = 200")], &["rebuild source `bids`: generator.rate 100 → 200"]),
        (
            &[("interval = \"10s\"", "interval = \"1s\"")],
            &["rebuild pipeline `bids`: checkpoint.interval \"10s\" → \"1s\""],
        ),
        (&[("out/rows.json", "out/other.json")], &["rebuild sink `out`: to file out/rows.json → file out/other.json"]),
        (
            &[("[sink.names]", "[sink.more]\nfrom = \"names\"\ndiscard = {}\n[sink.names]")],
            &["rebuild sink `more` added"],
        ),
        // state is lost
        (
            &[("tumbling = \"10s\"", "tumbling = \"20s\"")],
            &["DROPS step `sums`: window { tumbling = \"10s\" } → { tumbling = \"20s\" }"],
        ),
        (
            &[("total = \"sum(price)\"", "total = \"max(price)\"")],
            &["DROPS step `sums`: aggregate bids = count(), total = sum(price), tags = a component → bids = count(), \
             total = max(price), tags = a component"],
        ),
        (
            &[("\"tags.wasm\"", "\"tags-2.wasm\"")],
            &["DROPS step `sums`: component tags.wasm → tags-2.wasm (its state is of another kind)"],
        ),
        (
            &[("\"tags.wasm\"", "\"tags-2-takes.wasm\"")],
            &["swap step `sums`: component tags.wasm → tags-2-takes.wasm (its state is migrated)"],
        ),
        (
            &[("state_ttl = \"1h\"", "state_ttl = \"2h\"")],
            &["DROPS step `named`: join.when Always { state_ttl: Some(3600s) } → Always { state_ttl: Some(7200s) }"],
        ),
        (
            &[("127.0.0.1:7000", "127.0.0.1:7001")],
            &["DROPS source `lines`: tcp { listen = \"127.0.0.1:7000\" } → { listen = \"127.0.0.1:7001\" }"],
        ),
        (
            &[("step.named]", "step.renamed]"), ("from = \"named\"", "from = \"renamed\"")],
            &["DROPS step `named` removed", "rebuild step `renamed` added", "rebuild sink `out`: from named → renamed"],
        ),
        // not in a running pipeline
        (
            &[("name = \"bids\"", "name = \"other\"")],
            &[
                "RESTART pipeline `bids`: name bids → other (another name is another pipeline: start it beside this one)",
            ],
        ),
        (
            &[("store = \"state\"", "store = \"elsewhere\"")],
            &[
                "RESTART pipeline `bids`: checkpoint.store \"state\" → \"elsewhere\" (checkpoints go on where they are: stop, \
             copy them, start)",
            ],
        ),
        (
            &[("seed = 1", "seed = 2")],
            &[
                "RESTART source `bids`: generator { kind = \"nexmark_bid\", rate = 100, seed = 1 } → { kind = \"nexmark_bid\", \
             rate = 100, seed = 2 } (its positions mean other rows: give the source another name)",
            ],
        ),
    ];
    for (edits, expected) in table {
        assert_eq!(told(edits), expected, "{edits:?}");
    }
}

#[test]
fn checkpoints_that_come_or_go_need_a_restart() {
    let told = told(&[("checkpoint = { store = \"state\", interval = \"10s\" }", "")]);
    assert!(told.iter().any(|line| line.starts_with("RESTART") && line.contains("checkpoint.store")), "{told:?}");
}

#[test]
fn another_column_of_a_source_that_cannot_be_read_again_is_a_loss() {
    let told = told(&[("\"auction\", \"name\"]", "\"auction\", \"name\", \"note\"]")]);
    let lost = told.iter().find(|line| line.starts_with("DROPS source `lines`"));
    // the join holds whole rows, so all columns are wanted already: nothing is opened anew
    assert_eq!(lost, None, "{told:?}");
    let ((plan, components), (wider, of_wider)) = (shape(&one_sink("name")), shape(&one_sink("note")));
    let old = Shape { plan: &plan, components };
    let found = diff(&old, &Shape { plan: &wider, components: of_wider });
    let source = found.iter().find(|one| one.part == Part::Source).unwrap();
    assert_eq!((source.effect, source.key.as_deref()), (Effect::DropsState, Some("columns")), "{found:?}");
    assert_eq!(to_approve(&found), ["lines"]);
}

fn one_sink(column: &str) -> String {
    format!(
        "name = \"lines\"\n[source.lines]\ntcp = {{ listen = \"127.0.0.1:7000\" }}\nformat = \"json\"\n\
         schema = {{ name = \"text\", note = \"text\" }}\n[step.one]\nfrom = \"lines\"\nselect = [\"{column}\"]\n\
         [sink.out]\nfrom = \"one\"\nprint = {{}}\n"
    )
}

#[test]
fn a_name_is_to_be_approved_once_however_much_of_it_differs() {
    let edited = PIPELINE.replace("tumbling = \"10s\"", "tumbling = \"20s\"").replace("sum(price)", "max(price)");
    let edited = edited.replace("state_ttl = \"1h\"", "state_ttl = \"2h\"");
    let ((old, of_old), (new, of_new)) = (shape(PIPELINE), shape(&edited));
    let found = diff(&Shape { plan: &old, components: of_old }, &Shape { plan: &new, components: of_new });
    let dropped: Vec<&str> =
        found.iter().filter(|one| one.effect == Effect::DropsState).map(|one| one.name.as_str()).collect();
    assert_eq!(dropped, ["sums", "sums", "named"]);
    assert_eq!(to_approve(&found), ["sums", "named"]);
}

#[test]
fn a_configured_value_that_differs_is_told_once_and_one_that_does_not_is_not() {
    let with = |config: &str| PIPELINE.replace("{ word = \"a\" }", config);
    let ((old, of_old), (new, of_new)) = (
        shape(&with("{ word = \"a\", gone = true, same = 1 }")),
        shape(&with("{ word = \"b\", new = 2.5, same = 1 }")),
    );
    let found = diff(&Shape { plan: &old, components: of_old }, &Shape { plan: &new, components: of_new });
    let told: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "step `tag`: config.gone true → none",
        "step `tag`: config.new none → 2.5",
        "step `tag`: config.word \"a\" → \"b\"",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_a_component_takes_depends_on_what_is_kept_for_it_and_how_it_is_called() {
    let (plan, components) = shape(PIPELINE);
    let running = Shape { plan: &plan, components };
    let sides = |name: &str| crate::wasm::ProcessSignature {
        second: None,
        keys: Schema::new([]),
        sides: vec![(name.to_owned(), Schema::new([Field::new("n", Kind::Int64)]))],
    };
    let of = |kind, state: u32, side: Option<&str>| {
        let mut known = known(&format!("x-{state}.wasm"), OperatorKind::Aggregator, Settings::default());
        known.kind = kind;
        known.signature.process = side.map(sides);
        known
    };
    let takes = |mut known: Known| {
        known.signature.sources.extend(signature(Kind::Int64, Some(1)).state);
        known
    };
    let reads = |mut known: Known, column: &str| {
        known.signature.inputs = Schema::new([Field::new(column, Kind::Int64)]);
        known
    };
    let makes = |mut known: Known| {
        known.signature.outputs = Schema::new([Field::new("tag", Kind::Text)]);
        known
    };
    use OperatorKind::{Aggregator, Filter, Mapper, Processor, WindowProcessor};
    let (drops, migrates) = (Some("its state is of another kind"), Some("its state is migrated"));
    // step, as it runs, as it is wanted, what it takes
    let table = [
        ("sums", of(Processor, 1, Some("a")), of(Processor, 1, Some("a")), (Effect::Swap, None)),
        ("sums", of(Processor, 1, Some("a")), takes(of(Processor, 2, Some("a"))), (Effect::Swap, migrates)),
        ("sums", of(Processor, 1, Some("a")), of(Processor, 2, Some("a")), (Effect::DropsState, drops)),
        // other outputs beside: tasks are made anew, and a migration is not for that
        ("sums", of(Processor, 1, Some("a")), of(Processor, 1, Some("b")), (Effect::Rebuild, None)),
        ("sums", of(Processor, 1, Some("a")), of(Processor, 1, None), (Effect::Rebuild, None)),
        ("sums", of(Processor, 1, Some("a")), of(Processor, 2, Some("b")), (Effect::DropsState, drops)),
        // another kind keeps something else; where nothing is kept tasks are made anew
        ("sums", of(Aggregator, 1, None), of(Processor, 1, None), (Effect::DropsState, drops)),
        ("tag", of(Mapper, 1, None), of(Filter, 1, None), (Effect::Rebuild, None)),
        // rows of open windows are kept as the component reads them
        ("sums", of(WindowProcessor, 1, None), makes(of(WindowProcessor, 1, None)), (Effect::Rebuild, None)),
        (
            "sums",
            of(WindowProcessor, 1, None),
            makes(reads(of(WindowProcessor, 1, None), "auction")),
            (Effect::DropsState, drops),
        ),
        ("sums", of(Aggregator, 1, None), makes(reads(of(Aggregator, 1, None), "auction")), (Effect::Rebuild, None)),
    ];
    for (at, (step, before, after, expected)) in table.into_iter().enumerate() {
        let slot = SlotId { step: step.to_owned(), slot: 2 };
        assert_eq!(component_effect(&running, &slot, &before, &after), expected, "{at}: {before:?} to {after:?}");
    }
}
