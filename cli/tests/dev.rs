//! `new`, `build` and `dev` together: a project is made, run, broken, mended and changed while its pipeline runs.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use support::{Folder, From};

/// Whether one of the compilers is there that builds C operators.
fn has_c_compiler() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: String| std::env::split_paths(&path).any(|folder| folder.join(&name).is_file());
    (14..=22).any(|version| there(format!("clang-{version}"))) || there("clang".into()) || there("zig".into())
}

/// The template's operator without what it does.
fn unchanged(source: &str) -> String {
    let other = source.replace("? 'a' - 'A' : 0", "? 0 : 0");
    assert_ne!(other, source, "the template has changed: change this test too");
    other
}

/// A pipeline that does not end, for the operator of the template.
const ENDLESS: &str = r#"
name = "endless"
[source.sales]
tcp = { listen = "127.0.0.1:0" }
format = "json"
schema = { product = "text", amount = "float64", at = "timestamp_ms" }
[step.operator]
from = "sales"
map = "build/shout.wasm"
[sink.out]
from = "operator"
discard = {}
"#;

#[test]
fn a_project_is_rebuilt_and_swapped_while_its_pipeline_runs() {
    if !has_c_compiler() {
        println!("SKIPPED a_project_is_rebuilt_and_swapped_while_its_pipeline_runs: no clang or zig");
        return;
    }
    let folder = Folder::new();
    folder.run(&["new", "shout", "--lang", "c", "--kind", "map"]).expect(0);
    folder.write("shout/endless.toml", ENDLESS);
    let source = std::fs::read_to_string(folder.path("shout/operator.c")).unwrap();
    let mut process = folder.start(&["dev", "shout/endless.toml", "--project", "operator=shout"]);
    process.wait_for(From::Stderr, "shout.wasm built in");
    // until it watches
    std::thread::sleep(std::time::Duration::from_millis(500));
    folder.write("shout/operator.c", format!("{source}\nthis is not C\n"));
    process.wait_for(From::Stderr, "error:");
    process.wait_for(From::Stderr, "the running version goes on");
    folder.write("shout/operator.c", format!("{source}\n/* a comment changes nothing */\n"));
    process.wait_for(From::Stderr, "the same component as before");
    folder.write("shout/operator.c", unchanged(&source));
    let swapped = process.wait_for(From::Stderr, "swapped operator");
    assert!(swapped.contains("built in") && swapped.contains("pause"), "{swapped}");
    process.signal("INT");
    process.finish().expect(0);
}

#[test]
fn a_pipeline_that_has_ended_runs_again_at_the_next_change() {
    if !has_c_compiler() {
        println!("SKIPPED a_pipeline_that_has_ended_runs_again_at_the_next_change: no clang or zig");
        return;
    }
    let folder = Folder::new();
    folder.run(&["new", "shout", "--lang", "c", "--kind", "map"]).expect(0);
    let source = std::fs::read_to_string(folder.path("shout/operator.c")).unwrap();
    let mut process = folder.start(&["dev", "shout"]);
    process.wait_for(From::Stdout, "{");
    process.wait_for(From::Stderr, "save a change");
    folder.write("shout/operator.c", unchanged(&source));
    process.wait_for(From::Stderr, "save a change");
    process.wait_for(From::Stdout, "een tea");
    process.signal("INT");
    process.finish().expect(0);
}

/// A pipeline without components that does not end.
const PLAIN: &str = r#"
name = "plain"
[source.sales]
tcp = { listen = "127.0.0.1:0" }
format = "json"
schema = { product = "text", amount = "float64" }
[sink.out]
from = "sales"
discard = {}
"#;

#[test]
fn a_change_of_the_pipeline_file_is_applied_or_starts_it_anew_and_a_mistake_changes_nothing() {
    let folder = Folder::new();
    folder.write("p.toml", PLAIN);
    let mut process = folder.start(&["dev", "p.toml"]);
    // until it watches
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    folder.write("p.toml", PLAIN.replace("from = \"sales\"", "from = \"sale\""));
    process.wait_for(From::Stderr, "did you mean `sales`");
    process.wait_for(From::Stderr, "the running pipeline goes on");
    let selected = "[step.names]\nfrom = \"sales\"\nselect = [\"product\"]\n[sink.out]\nfrom = \"names\"";
    folder.write("p.toml", PLAIN.replace("[sink.out]\nfrom = \"sales\"", selected));
    let told = process.wait_for(From::Stderr, "the pipeline starts anew");
    assert!(told.contains("[sink.out] changed") && told.contains("[step.names] is new"), "{told}");
    assert!(told.contains("it cannot be read again"), "{told}");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let more = format!("{selected}\ndiscard = {{}}\n[sink.more]\nfrom = \"names\"");
    folder.write("p.toml", PLAIN.replace("[sink.out]\nfrom = \"sales\"", &more));
    let told = process.wait_for(From::Stderr, ", state is kept");
    assert!(told.contains("[sink.more] is new"), "{told}");
    process.signal("INT");
    process.finish().expect(0);
}

#[test]
fn what_cannot_be_made_or_built_is_told_with_the_choices() {
    let folder = Folder::new();
    folder.run(&["new", "x", "--lang", "cobol"]).expect(2).says(&["cobol", "rust, c, go"]);
    folder.run(&["new", "../x"]).expect(2).says(&["../x", "letter"]);
    folder.run(&["build", "."]).expect(2).says(&["is not a project", "Cargo.toml"]);
    folder.write("p.toml", ENDLESS);
    folder.run(&["dev", "p.toml", "--project", "operater=."]).expect(2).says(&["did you mean `operator`?"]);
    folder.run(&["dev", "p.toml", "--project", "operator"]).expect(2).says(&["STEP=DIR"]);
    folder.run(&["dev", "p.toml", "--project", "operator=absent"]).expect(2).says(&["no such folder"]);
}
