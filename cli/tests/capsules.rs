//! `millstream capsule` and `millstream replay`: a call that failed in a run is found, shown and made again by hand.

// helpers of tests are tests too; the lints see only functions marked #[test]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Folder, Output, guest};

const SECRET: &str = "hunter2-hunter2";

const PIPELINE: &str = r#"
name = "hostile"

[source.rows]
file = { path = "rows.json" }
format = "json"

[step.risky]
from = "rows"
map = "map.wasm"
config = { token = { secret = "API_TOKEN" } }

[sink.out]
from = "risky"
file = { path = "out.json" }
format = "json"

[dead_letter]
file = { path = "dead.json" }
"#;

fn millstream(folder: &Folder, arguments: &[&str], token: Option<&str>) -> Output {
    let mut command = folder.command(arguments);
    if let Some(token) = token {
        command.env("API_TOKEN", token);
    }
    let output = command.output().unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A run with one row that traps; the folder, and the capsule.
fn failed() -> (Folder, PathBuf) {
    let folder = Folder::new();
    folder.install("hostile-map.wasm", "map.wasm").write("p.toml", PIPELINE);
    folder.write("rows.json", "{\"value\":\"fine\"}\n{\"value\":\"boom\"}\n");
    let run = millstream(&folder, &["run", "p.toml"], Some(SECRET)).expect(0).says(&["millstream replay "]);
    assert!(!run.stderr.contains(SECRET));
    let digest = millstream::wasm::Digest::of(&std::fs::read(guest("hostile-map.wasm")).unwrap()).short();
    let about_it: Vec<&str> = run.stderr.lines().filter(|line| line.contains("step=")).collect();
    assert!(about_it.iter().any(|line| line.contains("millstream::guest")), "{}", run.stderr);
    for line in about_it {
        // guests' lines and the host's about a step
        for part in ["version=1", &format!("digest=\"{digest}\""), "task=0"] {
            assert!(line.contains(part), "`{part}` is missing in {line}");
        }
    }
    let dead = std::fs::read_to_string(folder.path("dead.json")).unwrap();
    let letter: Value = serde_json::from_str(dead.trim()).unwrap();
    let capsule = PathBuf::from(letter["capsule"].as_str().unwrap());
    assert_eq!(letter["version"], 1);
    assert!(capsule.starts_with(folder.path("state-home/millstream/capsules/hostile")), "{}", capsule.display());
    (folder, capsule)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_call_that_failed_is_made_again_by_the_same_and_by_another_component() {
    let (folder, capsule) = failed();
    let capsule = text(&capsule);
    let replay = |more: &[&str]| millstream(&folder, &[&["replay", capsule][..], more].concat(), Some(SECRET));
    let same = replay(&[]).expect(0).stdout;
    assert!(same.contains("the same failure") && same.contains("went boom on purpose"), "{same}");
    let (fixed, hostile) = (guest("uppercase.wasm"), guest("hostile-map.wasm"));
    let other = replay(&["--component", text(&fixed)]).expect(0).stdout;
    assert!(other.contains("the call succeeds; then trap") && other.contains("\"BOOM\""), "{other}");
    replay(&["--component", text(&hostile)]).expect(1);
    let json: Value = serde_json::from_str(&replay(&["--component", text(&fixed), "--json"]).expect(0).stdout).unwrap();
    assert_eq!((&json["same"], &json["answer"][0]["rows"][0]["value"]), (&false.into(), &"BOOM".into()));
    let json: Value = serde_json::from_str(&replay(&["--json"]).expect(0).stdout).unwrap();
    assert!(json["same"] == true && json["failure"]["trap"]["reason"].is_string(), "{json}");
    replay(&["--component", "no-such.wasm"]).expect(2).says(&["cannot read component no-such.wasm"]);
    // built anew since: another component, unless it is named
    folder.install("uppercase.wasm", "map.wasm");
    let p = folder.path("p.toml");
    let looked =
        [&format!("{}, which names no checkpoint store", p.display()), "looked in", "--pipeline", "--component"];
    replay(&[]).expect(2).says(&looked);
}

#[test]
fn a_component_that_was_built_anew_is_found_in_the_checkpoint_store() {
    let folder = Folder::new();
    let pipeline = PIPELINE.replace("out.json", "out").replace("dead.json", "dead");
    let pipeline = format!("checkpoint = {{ store = \"store\" }}\n{pipeline}");
    folder.install("hostile-map.wasm", "map.wasm").write("p.toml", &pipeline);
    folder.write("rows.json", "{\"value\":\"boom\"}\n");
    millstream(&folder, &["run", "p.toml"], Some(SECRET)).expect(0);
    let listed = millstream(&folder, &["capsule", "ls", "p.toml", "--json"], None).expect(0).stdout;
    let listed: Value = serde_json::from_str(listed.trim()).unwrap();
    let capsule = listed["capsule"].as_str().unwrap();
    let replay = |more: &[&str]| millstream(&folder, &[&["replay", capsule][..], more].concat(), Some(SECRET));

    folder.install("uppercase.wasm", "map.wasm");
    assert!(replay(&[]).expect(0).stdout.contains("the same failure"));
    std::fs::remove_file(folder.path("map.wasm")).unwrap();
    assert!(replay(&[]).expect(0).stdout.contains("the same failure"));
    // the pipeline's file has moved
    std::fs::rename(folder.path("p.toml"), folder.path("moved.toml")).unwrap();
    replay(&[]).expect(2).says(&["p.toml, which cannot be read", "--pipeline"]);
    let moved = folder.path("moved.toml");
    assert!(replay(&["--pipeline", text(&moved)]).expect(0).stdout.contains("the same failure"));
    // and the store has lost it
    let components = folder.path("store/hostile/components");
    for entry in std::fs::read_dir(&components).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let nowhere = replay(&["--pipeline", text(&moved)]).expect(2);
    nowhere.says(&["map.wasm (", "the checkpoint store of", "is missing", "is nowhere to be found"]);
}

#[test]
fn capsules_are_listed_and_shown_by_pipeline_and_by_folder() {
    let (folder, capsule) = failed();
    for of in ["p.toml", "hostile", text(capsule.parent().unwrap())] {
        let listed = millstream(&folder, &["capsule", "ls", of], None).expect(0).stdout;
        assert!(listed.contains(text(&capsule)) && listed.contains("risky  trap: "), "{listed}");
    }
    let shown = millstream(&folder, &["capsule", "show", text(&capsule)], None).expect(0).stdout;
    for part in ["trap of step risky, pipeline hostile", "token = (secret API_TOKEN)", "\"boom\"", "transform, 1 row"] {
        assert!(shown.contains(part), "`{part}` is missing in\n{shown}");
    }
    let json = millstream(&folder, &["capsule", "ls", "p.toml", "--json"], None).expect(0).stdout;
    let json: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(json["facts"]["step"], "risky");
    millstream(&folder, &["capsule", "ls", "no-such"], None).expect(2).says(&["no pipeline `no-such` has capsules"]);
}

#[test]
fn secrets_are_in_no_file_and_are_asked_for_by_name() {
    let (folder, capsule) = failed();
    for file in [capsule.clone(), folder.path("dead.json"), folder.path("out.json")] {
        let bytes = std::fs::read(&file).unwrap();
        let holds = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!holds, "{}", file.display());
    }
    let replay = ["replay", text(&capsule)];
    millstream(&folder, &replay, None).expect(2).says(&["environment variable `API_TOKEN`", "--secret"]);
    let given = format!("API_TOKEN={SECRET}");
    millstream(&folder, &[&replay[..], &["--secret", &given]].concat(), None).expect(0);
    millstream(&folder, &["check", "p.toml"], None).expect(2).says(&["`API_TOKEN`", "not set"]);
}

#[test]
fn a_damaged_capsule_is_an_error_that_says_so() {
    let (folder, capsule) = failed();
    let bytes = std::fs::read(&capsule).unwrap();
    let damaged = folder.path("damaged.capsule");
    for (content, why) in [
        (&bytes[..bytes.len() / 2], "the file is torn"),
        (&b"not a capsule, but long enough"[..], "expected a file that begins with"),
        (&b""[..], "got a file of 0"),
    ] {
        std::fs::write(&damaged, content).unwrap();
        for command in [&["replay"][..], &["capsule", "show"]] {
            let arguments = [command, &[text(&damaged)]].concat();
            millstream(&folder, &arguments, Some(SECRET)).expect(2).says(&["no capsule, or a damaged one", why]);
        }
    }
}
