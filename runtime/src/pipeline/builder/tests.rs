//! Built pipelines are those that are read, and are checked like them.

use super::*;
use crate::operator::JoinKind;
use crate::pipeline::check_structure;
use crate::pipeline::join::Exclusive;
use crate::pipeline::problems::code;
use crate::pipeline::read::tests::{EXAMPLE, parse_text, without_places};
use crate::pipeline::spec::StepSpec;
use crate::record::Kind;
use crate::window::WindowSpec;

fn example() -> Pipeline {
    Pipeline::new("uppercase-counts")
        .source(
            "lines",
            Source::kafka("localhost:9092", "test")
                .format(Format::Text)
                .max_out_of_orderness(Duration::from_secs(2))
                .idle_after(Duration::from_secs(10)),
        )
        .step("upper", Step::map("upper.wasm").from("lines"))
        .step(
            "counts",
            Step::aggregate()
                .from("upper")
                .key_by(["value"])
                .tumbling(Duration::from_secs(5))
                .count("count")
                .sum("total", "amount"),
        )
        .sink("out", Sink::print().from("counts"))
}

fn codes(pipeline: Pipeline) -> Vec<&'static str> {
    match pipeline.build() {
        Ok(_) => Vec::new(),
        Err(error) => error.diagnostics.iter().map(|diagnostic| diagnostic.code).collect(),
    }
}

#[test]
fn the_built_example_is_the_one_that_is_read() {
    let built = example().build().expect("the example is right");
    let read = parse_text(EXAMPLE).expect("the example is right");
    assert_eq!(without_places(&built), without_places(&read));
    let other = example().parallelism(2).build().expect("right too");
    assert_ne!(without_places(&other), without_places(&read));
    assert!(check_structure(&built).is_empty());
}

#[test]
fn built_pipelines_are_checked_like_files() {
    assert_eq!(codes(Pipeline::new("p")), [code::NO_SOURCE, code::NO_SINK]);
    assert_eq!(codes(example().parallelism(0)), [code::BAD_VALUE]);
    let misspelt = example().step("Upper", Step::map("a").from("nothing"));
    assert_eq!(codes(misspelt), [code::BAD_NAME, code::UNKNOWN_INPUT]);
    assert_eq!(codes(example().sink("o", Sink::print().from("out"))), [code::SINK_AS_INPUT]);
    assert_eq!(codes(example().sink("o", Sink::print())), [code::MISSING_KEY]);
    assert_eq!(codes(example().dead_letter(SinkKind::Print)), [code::BAD_VALUE]);
    let twice = example().step("lines", Step::filter("f").from("lines"));
    assert_eq!(codes(twice), [code::DUPLICATE_NAME]);
    let circle = example().step("a", Step::filter("f").from("a")).sink("o", Sink::print().from("a"));
    assert_eq!(codes(circle), [code::CYCLE]);
    let no_format = example().source("s", Source::stdin()).sink("o", Sink::print().from("s"));
    assert_eq!(codes(no_format), [code::MISSING_KEY]);
    let twice = [Field::new("a", Kind::Text), Field::new("a", Kind::Text)];
    let columns = Source::stdin().format(Format::Json).schema(twice);
    assert_eq!(codes(example().source("s", columns).sink("o", Sink::print().from("s"))), [code::DUPLICATE_COLUMN]);
}

#[test]
fn built_steps_are_checked_like_those_of_files() {
    let with = |step: Step| codes(example().step("s", step.from("lines")).sink("o", Sink::discard().from("s")));
    assert_eq!(with(Step::map("a").config("k", 1).keep_all()), [""; 0]);
    assert_eq!(with(Step::map("a").key_by(["k"])), [code::CONFLICT]);
    assert_eq!(with(Step::map("a").memory_bytes(1)), [code::BAD_SIZE]);
    assert_eq!(with(Step::map("a").deadline(Duration::ZERO)), [code::BAD_DURATION]);
    assert_eq!(with(Step::aggregate().key_by(["k"]).count("n")), [""; 0]);
    assert_eq!(with(Step::aggregate().key_by(["k"]).latest().count("window_end")), [""; 0]);
    assert_eq!(with(Step::aggregate().key_by(["k"]).latest().count("n").late("l")), [code::CONFLICT]);
    let second = Duration::from_secs(1);
    assert_eq!(with(Step::select(["a", "a"])), [code::DUPLICATE_COLUMN]);
    assert_eq!(with(Step::select(["a", "b"]).renamed("b", "c")), [""; 0]);
    assert_eq!(with(Step::aggregate().key_by(["k"]).tumbling(second).count("k")), [code::DUPLICATE_COLUMN]);
    assert_eq!(with(Step::aggregate().key_by(["k"]).tumbling(second).count("n").config("a", 1)), [code::CONFLICT]);
    assert_eq!(with(Step::aggregate().key_by(["k"]).tumbling(second).component("n", "a").config("a", 1)), [""; 0]);
    assert_eq!(
        with(Step::aggregate().key_by(["k"]).tumbling(Duration::from_nanos(5)).count("n")),
        [code::BAD_DURATION]
    );
    assert_eq!(with(Step::top(3, "n").then_by("a").ascending().key_by(["k"]).tumbling(second)), [""; 0]);
    assert_eq!(with(Step::top(0, "n").ties(crate::operator::Ties::Keep).rank("place")), [code::BAD_VALUE]);
    assert_eq!(with(Step::top(3, "n").session(second)), [code::CONFLICT]);
    assert_eq!(with(Step::top(3, "n").count("rows")), [code::CONFLICT]);
    let huge = WindowSpec::Tumbling { size: Duration::MAX, offset_ms: i64::MIN };
    assert_eq!(with(Step::aggregate().key_by(["k"]).window(huge).count("n")), [code::BAD_DURATION]);
}

#[test]
fn built_joins_are_those_that_are_read() {
    let text = r#"
name = "joins"
[source.a]
stdin = {}
format = "json"
[source.b]
stdin = {}
format = "json"
[step.windowed]
from = "a"
join = { with = "b", on = ["x = y", "z"], kind = "full", prefix = "b_" }
window = { tumbling = "5s" }
[step.near]
from = "a"
join = { with = "b", on = ["x = y"], between = ["-1s", "until"], exclusive = "upper", select = ["x"] }
[step.all]
from = "a"
join = { with = "b", on = ["z"], state_ttl = "1h" }
[step.looked_up]
from = "a"
lookup = { with = "b", on = ["z"], kind = "left" }
[sink.out]
from = ["windowed", "near", "all", "looked_up"]
print = {}
"#;
    let stdin = || Source::stdin().format(Format::Json);
    let windowed = Step::join("b").from("a").on(["x = y", "z"]).join_kind(JoinKind::Full).prefix("b_");
    let near = Step::join("b").from("a").on(["x = y"]).between("-1s", "until").exclusive(Exclusive::Upper);
    let sink = ["windowed", "near", "all", "looked_up"].into_iter().fold(Sink::print(), Sink::from);
    let built = Pipeline::new("joins")
        .source("a", stdin())
        .source("b", stdin())
        .step("windowed", windowed.tumbling(Duration::from_secs(5)))
        .step("near", near.joined(["x"]))
        .step("all", Step::join("b").from("a").on(["z"]).state_ttl(Duration::from_secs(3_600)))
        .step("looked_up", Step::lookup("b").from("a").on(["z"]).join_kind(JoinKind::Left))
        .sink("out", sink)
        .build();
    let kinds = |steps: &[StepSpec]| -> Vec<String> {
        let bare = |step: &StepSpec| format!("{:?} {:?} {:?}", step.from, step.with, step.kind);
        let spans = |text: String| {
            text.split("Span {").map(|part| part.split_once('}').map_or(part, |(_, rest)| rest).to_owned()).collect()
        };
        steps.iter().map(|step| spans(bare(step))).collect()
    };
    assert_eq!(kinds(&built.unwrap().steps), kinds(&parse_text(text).unwrap().steps));
    let windowed = || Step::join("b").from("a").on(["z"]).tumbling(Duration::from_secs(5));
    for (wrong, expected) in [
        (windowed().between("0s", "1s"), code::CONFLICT),
        (windowed().key_by(["z"]), code::CONFLICT),
        (Step::lookup("b").from("a").on(["z"]).tumbling(Duration::from_secs(1)), code::CONFLICT),
        (Step::join("b").from("a").on(["z = "]), code::CONFLICT),
        (Step::join("b").from("a").on(["z"]).join_kind(JoinKind::Left), code::CONFLICT),
        (Step::join("b").from("a"), code::BAD_VALUE),
        (Step::map("m.wasm").from("a").on(["z"]), code::CONFLICT),
    ] {
        let pipeline = Pipeline::new("p").source("a", stdin()).source("b", stdin()).step("j", wrong);
        let found = codes(pipeline.sink("out", Sink::print().from("j")).sink("b", Sink::print().from("b")));
        assert_eq!(found, [expected]);
    }
}
