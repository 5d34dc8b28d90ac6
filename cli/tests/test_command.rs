//! `test`: scripts that hold, scripts that do not, scripts that are wrong.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use serde_json::Value;
use support::{Folder, guest};

const VISITS: &str = r#"
name = "visits"
[source.visits]
file = { path = "never-opened.jsonl" }
format = "json"
schema = { event = "text", amount = "float64", at = "timestamp_ms" }
event_time = "at"
[step.segment]
from = "visits"
map = "parts/segment.wasm"
[step.counts]
from = "segment"
key_by = ["segment"]
window = { tumbling = "1s" }
aggregate = { visits = "count()" }
[sink.out]
from = "counts"
file = { path = "never-written.jsonl" }
"#;

const GOOD: &str = r#"
# carts and orders of the first second
{"row":{"event":"add_to_cart","amount":0},"time":100}
{"row":{"event":"order","amount":150},"time":200}
{"watermark":998}
{"expect":[]}
{"swap":{"step":"segment","component":"finer.wasm"}}
{"row":{"event":"order","amount":150},"time":300}
{"restore":true,"parallelism":2}
{"watermark":999}
{"expect":[{"segment":"medium","visits":1},{"segment":"small","visits":1},{"segment":"cart","visits":1.0}]}
{"row":{"event":"order","amount":150},"time":300}
{"expect_late":1}
{"expect_dead":0}
{"row":{"event":"order","amount":1},"time":1300}
{"end":true}
{"expect":[{"segment":"small","window_start":1000}],"sink":"out"}
"#;

/// The second expectation is wrong in one column of one row, and has a row too many.
const WRONG: &str = r#"{"row":{"event":"add_to_cart","amount":0},"time":100}
{"row":{"event":"add_to_cart","amount":0},"time":100}
{"row":{"event":"order","amount":300},"time":200}
{"expect":[]}
{"watermark":999}
{"expect":[{"segment":"cart","visits":3,"window_end":1000},{"segment":"large","visits":1},{"segment":"tiny","window_end":7}]}
{"expect_late":9}
"#;

fn visits() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("parts")).unwrap();
    std::fs::create_dir_all(folder.path("scripts")).unwrap();
    std::fs::copy(guest("segment.wasm"), folder.path("parts/segment.wasm")).unwrap();
    folder.write("p.toml", VISITS).write("scripts/good.jsonl", GOOD).write("scripts/wrong.jsonl", WRONG);
    folder.install("segment-finer.wasm", "finer.wasm");
    folder
}

/// Standard output without the times, which differ.
fn without_times(stdout: &str) -> String {
    let line = |line: &str| {
        if line.contains(" rows  ") {
            return line.rsplit_once("rows").map(|(head, _)| format!("{head}rows")).unwrap();
        }
        if line.starts_with("all as") || line.starts_with("FAILED:") {
            line.rsplit_once(',').unwrap().0.to_owned()
        } else {
            line.to_owned()
        }
    };
    stdout.lines().map(|text| line(text) + "\n").collect()
}

#[test]
fn a_script_that_holds_is_ok_and_nothing_is_opened() {
    let folder = visits();
    let output = folder.run(&["test", "p.toml", "scripts/good.jsonl"]).expect(0);
    assert_eq!(
        without_times(&output.stdout),
        "scripts/good.jsonl  ok            5 rows\nall as expected: 1 script\n",
        "{}",
        output.stderr
    );
    assert_eq!(output.stderr, "");
    assert!(!folder.path("never-written.jsonl").exists());
}

#[test]
fn a_script_that_does_not_hold_shows_what_differs_and_the_next_one_is_run() {
    let output = visits().run(&["test", "p.toml", "scripts/wrong.jsonl", "scripts/good.jsonl"]).expect(1);
    let shown = r#"scripts/wrong.jsonl  FAILED        3 rows
  scripts/wrong.jsonl:6: sink `out`: expected 3 rows, 2 came: 2 missing, 1 unexpected
      6 | {"expect":[{"segment":"cart","visits":3,"window_end":1000},{"segment":"large","visits":1},{"segment":"tiny","window_end":7}]}
    - missing     {"segment":"cart","window_end":1000,"visits":3}
      nearest     {"segment":"cart","window_start":0,"window_end":1000,"visits":2}
                  visits: expected 3, found 2
    - missing     {"segment":"tiny","window_end":7}
    + unexpected  {"segment":"cart","window_start":0,"window_end":1000,"visits":2}
scripts/good.jsonl   ok            5 rows
FAILED: 1 of 2 scripts
"#;
    assert_eq!(without_times(&output.stdout), shown);
}

#[test]
fn tasks_and_batches_do_not_matter() {
    let folder = visits();
    for parallelism in ["1", "2", "3"] {
        for seed in ["1", "2", "3"] {
            let options = ["--parallelism", parallelism, "--shuffle-batches", seed];
            folder.run(&[&["test", "p.toml", "scripts/good.jsonl"], &options[..]].concat()).expect(0);
        }
    }
}

#[test]
fn machines_get_a_line_for_each_script_and_one_for_all() {
    let output = visits().run(&["test", "--json", "p.toml", "scripts/good.jsonl", "scripts/wrong.jsonl"]).expect(1);
    let lines: Vec<Value> = output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [good, wrong, summary] = lines.as_slice() else { panic!("{}", output.stdout) };
    assert_eq!(
        (&good["event"], &good["ok"], &good["rows"], &good["held"]),
        (&"script".into(), &true.into(), &5.into(), &5.into())
    );
    let failure = &wrong["failure"];
    assert_eq!((&failure["line"], &failure["kind"], &failure["sink"]), (&6.into(), &"rows".into(), &"out".into()));
    let differing = &failure["missing"][0]["nearest"]["differing"];
    assert_eq!(differing, &serde_json::json!([["visits", "3", "2"]]));
    assert_eq!((&summary["event"], &summary["failed"], &summary["ok"]), (&"summary".into(), &1.into(), &false.into()));
}

#[test]
fn counts_that_differ_and_refused_components_fail_a_script() {
    let folder = visits();
    folder.install("even.wasm", "even.wasm");
    for (script, says) in [
        ("{\"expect_late\":2}", "expected 2 late rows, there were 0"),
        ("{\"expect_dead\":1}", "expected 1 dead row, there were 0"),
        ("{\"swap\":{\"step\":\"segment\",\"component\":\"even.wasm\"}}", "the swap was refused: "),
    ] {
        folder.write("s.jsonl", script);
        let output = folder.run(&["test", "p.toml", "s.jsonl"]).expect(1);
        assert!(output.stdout.contains(says) && output.stdout.contains("s.jsonl:1: "), "{}", output.stdout);
    }
}

/// Lines that are wrong, and what is said of them.
const MISTAKES: [(&str, &str); 16] = [
    ("{\"row\":{\"event\":\"order\",\"amont\":1}}", "source `visits` has no column `amont`"),
    ("{\"row\":{\"event\":\"order\",\"amount\":\"x\"},\"time\":1}", "the row cannot be read: "),
    ("{\"row\":{\"event\":\"order\"},\"time\":1}", "`amount`"),
    ("{\"row\":{\"event\":\"order\",\"amount\":1},\"time\":\"soon\"}", "`time` is the text \"soon\""),
    ("{\"row\":{\"event\":\"order\",\"amount\":1},\"tiem\":1}", "unknown key `tiem` beside `row`"),
    ("{\"wartermark\":1}", "did you mean `watermark`?"),
    ("{\"watermark\":1,\"end\":true}", "the line has `end` and `watermark`"),
    ("{\"watermark\":1", "the line is not JSON"),
    ("[1]", "the line is not an object"),
    ("{\"idle\":\"visit\"}", "the pipeline has no source `visit`"),
    ("{\"expect\":[{\"visits\":\"many\"}]}", "expected a number (the column is int64), found the text \"many\""),
    ("{\"expect\":[{\"visit\":1}]}", "sink `out` has no column `visit`"),
    ("{\"expect\":[],\"sink\":\"in\"}", "the pipeline has no sink `in`"),
    ("{\"swap\":{\"step\":\"counts\",\"component\":\"finer.wasm\"}}", "no step `counts` with a component"),
    ("{\"swap\":{\"step\":\"segment\",\"component\":\"none.wasm\"}}", "there is no component `none.wasm`"),
    ("{\"restore\":true,\"parallelism\":0}", "expected a number from 1 to 128"),
];

#[test]
fn lines_that_are_wrong_are_told_with_their_place_and_nothing_is_run() {
    let folder = visits();
    for (line, says) in MISTAKES {
        folder.write("s.jsonl", format!("# a comment\n\n  {line}\n"));
        let output = folder.run(&["test", "p.toml", "scripts/good.jsonl", "s.jsonl"]).expect(2);
        let joined = output.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(joined.contains(says), "`{says}` is missing for {line}:\n{}", output.stderr);
        assert!(output.stderr.contains("s.jsonl:3:"), "no place for {line}:\n{}", output.stderr);
        assert_eq!(output.stdout, "", "{line}");
    }
}

#[test]
fn nothing_but_expectations_may_follow_the_end() {
    let folder = visits();
    folder.write("s.jsonl", "{\"end\":true}\n{\"expect\":[]}\n{\"watermark\":5}\n");
    folder
        .run(&["test", "p.toml", "s.jsonl"])
        .expect(2)
        .says(&["s.jsonl:3:2", "`watermark` after the end of the input"]);
}

#[test]
fn a_pipeline_that_is_wrong_and_a_script_that_is_not_there_are_refused() {
    let folder = visits();
    folder.write("wrong.toml", VISITS.replace("count()", "cuont()"));
    folder.run(&["test", "wrong.toml", "scripts/good.jsonl"]).expect(2).says(&["wrong.toml:15:", "pipeline refused"]);
    folder.run(&["test", "p.toml", "none.jsonl"]).expect(2).says(&["none.jsonl", "cannot read the script"]);
    folder.run(&["test", "p.toml"]).expect(2);
}
