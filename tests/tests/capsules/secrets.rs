//! What must not be in a file is not.

use millstream::capsule::{ReplayError, replay};
use millstream::pipeline::resolve::resolve;
use millstream::wasm::Secret;
use serde_json::json;

use super::*;

/// Every test process has it: cargo sets it for tests, and it is long enough.
const VARIABLE: &str = "CARGO_MANIFEST_DIR";

const SECRET: &str = env!("CARGO_MANIFEST_DIR");

const WORDS: [(&str, Kind); 2] = [("at", Kind::TimestampMs), ("value", Kind::Text)];

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_capsule_names_the_secret_and_a_replay_asks_for_it() {
    let case = Case::new([json!({"at": 0, "value": "boom"})]);
    // the component's path must not hold it by chance
    let map = case.folder.path().join("map.wasm");
    std::fs::copy(guests().join("hostile-map.wasm"), &map).unwrap();
    let step = Step::map(map.display().to_string()).config("token", Secret::new(VARIABLE));
    let outcome = case.run(step, &WORDS, 1);
    let bytes = std::fs::read(text(&outcome.dead[0], "capsule")).unwrap();
    assert!(!holds(&bytes, SECRET) && holds(&bytes, VARIABLE));
    let [capsule] = case.kept().try_into().unwrap();
    let error = replay(&capsule, &run::sandbox().unwrap(), None, &|_| None).unwrap_err();
    assert!(matches!(error, ReplayError::Secret(_)) && error.to_string().contains("--secret"), "{error}");
    let given = |variable: &str| (variable == VARIABLE).then(|| "another value".to_owned());
    assert!(replay(&capsule, &run::sandbox().unwrap(), None, &given).unwrap().same);
}

#[test]
fn a_call_whose_rows_hold_a_secret_is_not_kept() {
    let case = Case::new([json!({"at": 0, "k": SECRET, "word": "boom", "v": 1})]);
    let schema = [("at", Kind::TimestampMs), ("k", Kind::Text), ("word", Kind::Text), ("v", Kind::Int64)];
    // the row as a guest gets it: the word is read, and is longer than asked for
    let step = |case: &Case| {
        let map = case.folder.path().join("map.wasm");
        std::fs::copy(guests().join("hostile-window.wasm"), &map).unwrap();
        let step = Step::window_process(map.display().to_string()).key_by(["k"]).tumbling(Duration::from_secs(1));
        step.config("token", Secret::new(VARIABLE))
    };
    let outcome = case.run(step(&case), &schema, 1);
    assert_eq!(case.kept().len(), 1, "the guest does not read the key");
    assert_eq!(outcome.dead.len(), 1);
    let rows = [json!({"at": 0, "k": "a", "word": "boom", "v": 1}), json!({"at": 1, "k": "a", "word": SECRET, "v": 1})];
    let case = Case::new(rows);
    let outcome = case.run(step(&case), &schema, 1);
    assert_eq!((outcome.dead.len(), &outcome.dead[0]["capsule"]), (1, &Value::Null));
    assert!(case.kept().is_empty());
}

#[test]
fn a_component_that_says_a_secret_while_it_refuses_its_config_is_quoted_without_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(guests().join("more-than.wasm"), folder.path().join("more-than.wasm")).unwrap();
    let pipeline = |variable: &str| {
        Pipeline::new("refusing")
            .base(folder.path())
            .source("rows", Source::stdin().format(Format::Json).schema(vec![Field::new("count", Kind::Int64)]))
            .step("some", Step::filter("more-than.wasm").config("minimum", Secret::new(variable)).from("rows"))
            .sink("out", Sink::of(SinkKind::Discard).from("some"))
            .build()
            .unwrap()
    };
    let error = resolve(pipeline(VARIABLE), &run::sandbox().unwrap()).unwrap_err().to_string();
    assert!(error.contains(&format!("[secret {VARIABLE}]")) && !error.contains(SECRET), "{error}");
    let error = resolve(pipeline("MILLSTREAM_NOT_SET"), &run::sandbox().unwrap()).unwrap_err().to_string();
    assert!(error.contains("`minimum` is the secret of environment variable `MILLSTREAM_NOT_SET`"), "{error}");
}
