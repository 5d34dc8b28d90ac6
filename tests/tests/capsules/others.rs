//! Replays with another component than the one that failed.

use millstream::capsule::{ReplayError, replay};
use millstream::wasm::Answer;
use serde_json::json;

use super::*;

/// A capsule of a trap of `hostile-map`.
fn trap() -> Capsule {
    let case = Case::new([json!({"at": 0, "value": "boom"})]);
    case.run(Step::map("hostile-map.wasm"), &[("at", Kind::TimestampMs), ("value", Kind::Text)], 1);
    let [capsule] = case.kept().try_into().unwrap();
    capsule
}

fn with(capsule: &Capsule, guest: &str) -> Result<Replay, ReplayError> {
    replay(capsule, &run::sandbox().unwrap(), Some(&guests().join(guest)), &|_| None)
}

#[test]
fn another_component_shows_what_it_makes_of_the_rows() {
    let made = with(&trap(), "uppercase.wasm").unwrap();
    let Answer::Rows(rows) = made.outcome.unwrap() else { panic!() };
    assert_eq!(run::record_batch_rows(&rows)[0]["value"], "BOOM");
    assert!(!made.same);
    assert!(with(&trap(), "hostile-map.wasm").unwrap().same, "the same component, named");
}

#[test]
fn a_component_that_cannot_take_the_call_is_refused_with_what_it_lacks() {
    let refused = |guest: &str| with(&trap(), guest).unwrap_err().to_string();
    let kind = refused("hostile-sum.wasm");
    assert!(kind.contains("is no mapper; it exports `aggregator`"), "{kind}");
    let columns = refused("nexmark-euro.wasm");
    assert!(columns.contains("which the capsule does not hold; it holds `value: text`"), "{columns}");
    let none = refused("no-such.wasm");
    assert!(none.contains("cannot read component"), "{none}");
}

#[test]
fn a_file_that_was_built_anew_is_not_taken_for_what_failed() {
    let mut capsule = trap();
    capsule.facts.component.file = guests().join("uppercase.wasm").display().to_string();
    let error = replay(&capsule, &run::sandbox().unwrap(), None, &|_| None).unwrap_err().to_string();
    assert!(error.contains("is not the component that failed any more") && error.contains("--component"), "{error}");
}

#[test]
fn a_call_that_does_not_fit_together_is_an_error_of_the_capsule() {
    let mut capsule = trap();
    capsule.facts.component.kind = "filter".to_owned();
    assert!(replay(&capsule, &run::sandbox().unwrap(), None, &|_| None).is_err());
    capsule.facts.component.kind = "nothing".to_owned();
    let error = replay(&capsule, &run::sandbox().unwrap(), None, &|_| None).unwrap_err().to_string();
    assert!(error.contains("no operator is a `nothing`"), "{error}");
}
