//! `check`, `inspect` and what all commands say to wrong input.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use support::Folder;

const UPPER: &str = r#"
name = "shout"
[source.lines]
file = { path = "in.txt" }
format = "text"
[step.upper]
from = "lines"
map = "upper.wasm"
[step.counts]
from = "upper"
key_by = ["value"]
window = { tumbling = "5s" }
aggregate = { count = "count()" }
parallelism = 2
[sink.out]
from = "counts"
print = {}
"#;

/// Without windows: rows of a text file have no event time.
fn shout() -> String {
    let start = UPPER.find("[step.counts]").unwrap();
    let end = UPPER.find("[sink.out]").unwrap();
    format!("{}{}", &UPPER[..start], UPPER[end..].replace("counts", "upper"))
}

#[test]
fn a_plan_shows_nodes_columns_components_and_chains() {
    let folder = Folder::new();
    folder.write("p.toml", shout()).install("uppercase.wasm", "upper.wasm");
    let output = folder.run(&["check", "p.toml"]).expect(0);
    for part in ["pipeline shout", "map upper.wasm", "from lines", "value: text", "components", "[lines · upper · out]"]
    {
        assert!(output.stdout.contains(part), "`{part}` is missing in:\n{}", output.stdout);
    }
    assert_eq!(output.stderr, "");
}

#[test]
fn a_plan_as_json_names_digest_and_exchanges() {
    let folder = Folder::new();
    folder.write("p.toml", shout()).install("uppercase.wasm", "upper.wasm");
    let output = folder.run(&["check", "p.toml", "--json"]).expect(0);
    let plan: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(plan["nodes"][1]["columns"][0]["kind"], "text");
    assert_eq!(plan["components"][0]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(plan["chains"][0]["nodes"], serde_json::json!(["lines", "upper", "out"]));
}

#[test]
fn mistakes_are_shown_where_they_are_with_what_was_meant() {
    let folder = Folder::new();
    folder.write("p.toml", UPPER.replace("parallelism = 2", "parallelsm = 2")).install("uppercase.wasm", "upper.wasm");
    let human = folder.run(&["check", "p.toml"]).expect(2);
    assert_eq!(human.stdout, "");
    human.says(&["parallelsm = 2", "p.toml:14:1", "did you mean `parallelism`?", "nothing was started"]);
    let machine = folder.run(&["check", "p.toml", "--json"]).expect(2);
    let line: serde_json::Value = serde_json::from_str(machine.stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&line["line"], &line["column"], &line["file"]), (&14.into(), &1.into(), &"p.toml".into()));
    assert!(line["message"].as_str().unwrap().contains("parallelsm"));
}

#[test]
fn wrong_inputs_are_refused_with_a_next_step_and_exit_code_2() {
    let folder = Folder::new();
    folder.write("p.toml", shout()).write("in.txt", "a\n");
    folder.run(&["run", "p.toml"]).expect(2).says(&["upper.wasm", "cannot read component", "millstream build"]);
    folder.install("uppercase.wasm", "uper.wasm");
    folder.run(&["run", "p.toml"]).expect(2).says(&["did you mean `uper.wasm`?"]);
    folder.write("upper.wasm", "not wasm at all");
    folder.run(&["run", "p.toml"]).expect(2).says(&["is not WebAssembly"]);
    folder.write("upper.wasm", b"\0asm\x01\0\0\0");
    folder.run(&["run", "p.toml"]).expect(2).says(&["core module", "millstream build"]);
    folder.install("min-amount.wasm", "upper.wasm");
    folder.run(&["run", "p.toml"]).expect(2).says(&["expected a mapper, found a filter"]);
    folder.run(&["run", "absent.toml"]).expect(2).says(&["absent.toml", "cannot read the pipeline"]);
    folder.run(&["run"]).expect(2).says(&["Usage: millstream run"]);
    folder.run(&["ruin", "p.toml"]).expect(2).says(&["run"]);
    folder.run(&["run", "p.toml", "--status-interval", "5"]).expect(2).says(&["has no unit", "1s or 500ms"]);
    folder.run(&["run", "p.toml", "--parallelism", "0"]).expect(2).says(&["1..=128"]);
    folder.run(&["--log", "millstream=loud", "check", "p.toml"]).expect(2).says(&["log filter `millstream=loud`"]);
}

#[test]
fn errors_are_json_lines_where_a_machine_reads() {
    let folder = Folder::new();
    folder.write("p.toml", shout()).install("uppercase.wasm", "upper.wasm");
    // the input file is missing: the pipeline is right, but does not start
    let output = folder.run(&["run", "p.toml", "--json"]).expect(1);
    let line: serde_json::Value = serde_json::from_str(output.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["code"]), (&"error".into(), &"start".into()), "{line}");
    assert!(line["message"].as_str().unwrap().contains("in.txt"));
}

#[test]
fn inspect_shows_the_signature() {
    let folder = Folder::new();
    folder.install("uppercase.wasm", "u.wasm");
    let output = folder.run(&["inspect", "u.wasm"]).expect(0);
    for part in ["u.wasm", "sha256", "reads     value: text", "produces  value: text", "imports"] {
        assert!(output.stdout.contains(part), "`{part}` is missing in:\n{}", output.stdout);
    }
    let json = folder.run(&["inspect", "u.wasm", "--json"]).expect(0);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        json["operators"][0]["inputs"][0],
        serde_json::json!({"name": "value", "kind": "text", "nullable": false})
    );
    assert_eq!(json["cached"], true, "the second time it comes from the cache");
}

#[test]
fn inspect_hands_over_a_configuration() {
    let folder = Folder::new();
    folder.install("min-amount.wasm", "m.wasm");
    folder.run(&["inspect", "m.wasm"]).expect(2).says(&["missing field `minimum`"]);
    let output = folder.run(&["inspect", "m.wasm", "--config", "minimum=10"]).expect(0);
    assert!(output.stdout.contains("amount: float64?"), "{}", output.stdout);
}

#[test]
fn nothing_is_coloured_where_no_terminal_is() {
    let folder = Folder::new();
    folder.write("p.toml", UPPER.replace("print", "prnt"));
    let output = folder.run(&["check", "p.toml"]).expect(2);
    assert!(!output.stderr.contains('\x1b'), "{:?}", output.stderr);
}

#[test]
fn completions_name_the_commands() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = folder.run(&["completions", shell]).expect(0);
        assert!(output.stdout.contains("millstream") && output.stdout.contains("inspect"), "{shell}");
    }
}

#[test]
fn help_lists_commands_and_exit_codes() {
    let output = Folder::new().run(&["--help"]).expect(0);
    for part in ["run ", "check ", "inspect ", "dev ", "new ", "build ", "demo ", "completions ", "130 ", "NO_COLOR"] {
        assert!(output.stdout.contains(part), "`{part}` is missing in:\n{}", output.stdout);
    }
    let run = Folder::new().run(&["run", "--help"]).expect(0);
    for part in ["--watch", "--json", "--status-interval", "--shuffle-batches", "--parallelism", "Ctrl-C"] {
        assert!(run.stdout.contains(part), "`{part}` is missing in:\n{}", run.stdout);
    }
}
