//! `millstream rehearse`: a candidate on input that is read again, with production untouched.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use serde_json::Value;
use support::Folder;

fn visits() -> Folder {
    let settings = "checkpoint = { store = \"store\", interval = \"100ms\" }";
    let ends = "[sink.out]\nfrom = \"counts\"\nfile = { path = \"out\" }\n[dead_letter]\nfile = { path = \"dead\" }\n";
    support::visits::visits(5_000, settings, ends)
}

fn json(folder: &Folder, arguments: &[&str], code: i32) -> Value {
    serde_json::from_str(&folder.run(arguments).expect(code).stdout).unwrap()
}

/// All files below a folder with their lengths.
fn files(folder: &Folder, name: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut open = vec![folder.path(name)];
    while let Some(path) = open.pop() {
        let Ok(metadata) = path.metadata() else { continue };
        if metadata.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push((path.display().to_string(), metadata.len()));
        }
    }
    found.sort();
    found
}

#[test]
fn what_differs_is_told_and_what_is_the_same_passes() {
    let folder = visits();
    let differs = json(&folder, &["rehearse", "p.toml", "segment=finer.wasm", "--rows", "50000", "--json"], 1);
    let step = &differs["trial"]["steps"][0];
    assert_eq!(differs["passed"], false);
    let read = differs["rows_read"].as_u64().unwrap();
    // two tasks end behind the batch with which there is enough
    assert!((50_000..80_000).contains(&read), "{read}");
    let (compared, differing) = (step["compared"].as_u64().unwrap(), step["differing"].as_u64().unwrap());
    assert!(differing > 0 && differing < compared, "{step}");
    assert!(step["examples"][0]["candidate"].as_str().unwrap().contains("medium"), "{step}");
    assert!(step["candidate"]["p99_ns"].as_f64().unwrap() > 0.0);

    let same = folder.run(&["rehearse", "p.toml", "segment=segment.wasm", "--rows", "50000"]).expect(0).stdout;
    assert!(
        same.contains(" 0 differ (0.000%)") && same.contains("passed; nothing in production was touched"),
        "{same}"
    );
    let within = ["rehearse", "p.toml", "segment=finer.wasm", "--rows", "50000", "--rollback-on", "diff>99%,traps>0"];
    folder.run(&within).expect(0);
    let over = ["rehearse", "p.toml", "segment=finer.wasm", "--rows", "50000", "--rollback-on", "diff>0.1%"];
    let over = folder.run(&over).expect(1).stdout;
    assert!(over.contains("diff>0.1%: ") && over.contains("not passed"), "{over}");
    for made in ["out", "dead", "store"] {
        assert!(!folder.path(made).exists(), "{made} was made");
    }
}

#[test]
fn a_checkpoint_is_forked_while_the_pipeline_goes_on_from_it() {
    let folder = visits();
    let process = folder.start(&["run", "p.toml", "--no-control"]);
    let until = std::time::Instant::now() + support::SOON;
    while folder.run(&["checkpoint", "ls", "p.toml"]).stdout.lines().count() < 3 {
        assert!(std::time::Instant::now() < until, "no checkpoint");
    }
    process.signal("TERM");
    process.finish().expect(0);
    let before = (files(&folder, "store"), files(&folder, "out"), files(&folder, "dead"));
    let arguments =
        ["rehearse", "p.toml", "segment=finer.wasm", "--from-checkpoint", "--rows", "20000", "--for", "30s", "--json"];
    let found = json(&folder, &arguments, 1);
    assert!(found["trial"]["steps"][0]["differing"].as_u64().unwrap() > 0, "{found}");
    assert_eq!(before, (files(&folder, "store"), files(&folder, "out"), files(&folder, "dead")));
    let unknown = ["rehearse", "p.toml", "segment=finer.wasm", "--from-checkpoint", "nothing"];
    folder.run(&unknown).expect(2).says(&["nothing"]);
}

#[test]
fn the_version_that_runs_at_a_checkpoint_is_the_one_that_is_rehearsed_against() {
    let folder = Folder::new();
    let pipeline = r#"
name = "sums"
checkpoint = { store = "store", interval = "50ms" }
[source.numbers]
generator = { kind = "sequence", rate = 5000 }
[step.sums]
from = "numbers"
key_by = ["key"]
aggregate = { sums = "sums.wasm" }
[sink.out]
from = "sums"
discard = {}
"#;
    folder.write("p.toml", pipeline).install("migrate-sum-1.wasm", "sums.wasm");
    let mut second = std::fs::read(support::guest("migrate-sum-2.wasm")).unwrap();
    folder.write("second.wasm", &second);
    // the same once more, as another build
    second.extend([0, 5, 4]);
    second.extend(b"note");
    folder.write("third.wasm", second);
    let mut process = folder.start(&["run", "p.toml"]);
    let swapped = support::wait_for_run(&folder, "sums", &mut process, &["swap", "sums", "sums=second.wasm", "--json"]);
    folder.run(&["stop", "sums"]).expect(0);
    process.finish().expect(0);
    let arguments = ["rehearse", "p.toml", "sums=third.wasm", "--from-checkpoint", "--rows", "20000", "--json"];
    let found = json(&folder, &arguments, 0);
    let step = &found["trial"]["steps"][0];
    assert_eq!(step["from"][0], swapped["swapped"][0]["to"], "{found}");
    assert!(step["compared"].as_u64().unwrap() > 0 && step["differing"] == 0, "{found}");
    let told = folder.run(&arguments[..arguments.len() - 1]).expect(0);
    told.says(&["note: step `sums` runs version 2"]);
    // and where the file names another component than it did then, that one runs, with the state migrated
    folder.write("p.toml", pipeline.replace("\"sums.wasm\"", "\"third.wasm\""));
    let found =
        json(&folder, &["rehearse", "p.toml", "sums=second.wasm", "--from-checkpoint", "--rows", "20000", "--json"], 0);
    assert_ne!(found["trial"]["steps"][0]["from"][0], swapped["swapped"][0]["to"], "{found}");
}

#[test]
fn recorded_rows_are_all_read_whatever_had_been_read_at_the_checkpoint() {
    let folder = Folder::new();
    let pipeline = r#"
name = "amounts"
checkpoint = { store = "store", interval = "50ms" }
[source.amounts]
file = { path = "amounts.jsonl" }
format = "json"
[step.sums]
from = "amounts"
aggregate = { sums = "sums.wasm" }
[sink.out]
from = "sums"
discard = {}
"#;
    let rows = "{\"amount\":1}\n{\"amount\":2}\n{\"amount\":3}\n";
    folder.write("p.toml", pipeline).write("amounts.jsonl", rows).install("migrate-sum-1.wasm", "sums.wasm");
    folder.run(&["run", "p.toml"]).expect(0);
    let again = ["rehearse", "p.toml", "sums=sums.wasm", "--from-checkpoint", "--input", "amounts.jsonl", "--json"];
    let found = json(&folder, &again, 0);
    assert_eq!(found["rows_read"], 3, "{found}");
}

#[test]
fn recorded_rows_take_the_place_of_a_source_that_gives_each_row_once() {
    let folder = Folder::new();
    let pipeline = r#"
name = "texts"
[source.texts]
stdin = {}
format = "json"
schema = { value = "text" }
[step.same]
from = "texts"
map = "hostile-map.wasm"
[sink.out]
from = "same"
print = {}
"#;
    folder.write("p.toml", pipeline).install("hostile-map.wasm", "hostile-map.wasm");
    folder.install("uppercase.wasm", "uppercase.wasm");
    folder.write("rows.jsonl", "{\"value\":\"a\"}\n{\"value\":\"boom\"}\n{\"value\":\"C\"}\n");
    let once = ["rehearse", "p.toml", "same=hostile-map.wasm"];
    folder.run(&once).expect(2).says(&["source `texts` (stdin) cannot be read again", "--input texts=rows.jsonl"]);
    let other = ["rehearse", "p.toml", "same=hostile-map.wasm", "--input", "text=rows.jsonl"];
    folder.run(&other).expect(2).says(&["no source `text`", "there are `texts`"]);
    let same = json(&folder, &["rehearse", "p.toml", "same=hostile-map.wasm", "--input", "rows.jsonl", "--json"], 0);
    let step = &same["trial"]["steps"][0];
    assert_eq!((&step["compared"], &step["differing"]), (&Value::from(2), &Value::from(0)));
    assert_eq!((&step["running"]["dead"], &step["candidate"]["dead"]), (&Value::from(1), &Value::from(1)));
    assert!(step["candidate"]["traps"].as_u64().unwrap() > 0);
}
