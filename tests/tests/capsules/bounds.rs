//! However much fails, little is kept, and the stream goes on.

use serde_json::json;

use super::*;

const WORDS: [(&str, Kind); 2] = [("at", Kind::TimestampMs), ("value", Kind::Text)];

#[test]
fn ten_thousand_rows_that_trap_leave_one_capsule_that_all_letters_name() {
    let case = Case::new((0..10_000).map(|at| json!({"at": at, "value": "boom"})));
    let outcome = case.run(Step::map("hostile-map.wasm"), &WORDS, 2);
    assert_eq!(outcome.dead.len(), 10_000);
    let kept = case.kept();
    // one within ten seconds; a slow machine may take longer
    assert!((1..=4).contains(&kept.len()), "{} capsules", kept.len());
    for letter in &outcome.dead {
        assert!(Path::new(text(letter, "capsule")).exists());
    }
}

#[test]
fn many_kinds_of_refusals_at_once_are_bounded_in_number_and_in_size() {
    // what serde says of each is of another class
    let lines = ["x", "\"text\"", "7", "[]", "{\"before\":3}", "true", "{", "{\"after\":{}}", "null", "1.5"];
    let case = Case::new((0..3_000).map(|at| json!({"at": at, "value": lines[at % lines.len()]})));
    let spec = CapsulesSpec { keep: 3.into(), bytes_max: (64 << 10).into(), ..case.spec() };
    let outcome = case.run_with(Step::flat_map("change-lines.wasm"), &WORDS, 1, spec);
    assert_eq!(outcome.dead.len(), 3_000);
    assert!(case.kept().iter().all(|capsule| capsule.call.function() == "expand" && replayed(capsule).same));
    let listed = capsule::list(&case.capsules()).unwrap();
    assert!(listed.len() <= 3);
    assert!(listed.iter().map(|capsule| capsule.bytes).sum::<u64>() <= 64 << 10);
}

#[test]
fn only_the_newest_are_kept() {
    let case = Case::new(
        ["boom", "refuse", "bomb", "loop"].iter().enumerate().map(|(at, word)| json!({"at": at, "value": word})),
    );
    let spec = CapsulesSpec { keep: 2.into(), ..case.spec() };
    let outcome = case.run_with(Step::map("hostile-map.wasm"), &WORDS, 1, spec);
    assert_eq!(outcome.dead.len(), 4);
    let words: Vec<&str> = case.kept().iter().map(|capsule| capsule.facts.failure.word()).collect();
    assert_eq!(words.len(), 2);
    assert!(words.contains(&"deadline"), "the last to fail: {words:?}");
}

#[test]
fn nothing_is_kept_where_the_pipeline_says_so_or_nobody_says_where() {
    let case = Case::new([json!({"at": 0, "value": "boom"})]);
    for spec in [CapsulesSpec::off(), CapsulesSpec::default()] {
        let outcome = case.run_with(Step::map("hostile-map.wasm"), &WORDS, 1, spec);
        assert_eq!(outcome.dead[0]["capsule"], Value::Null);
    }
    assert!(!case.capsules().exists());
}

#[test]
fn a_folder_that_cannot_be_written_costs_the_capsule_and_nothing_else() {
    let case = Case::new([json!({"at": 0, "value": "boom"}), json!({"at": 1, "value": "fine"})]);
    std::fs::write(case.capsules(), "a file").unwrap();
    let outcome = case.run(Step::map("hostile-map.wasm"), &WORDS, 1);
    assert_eq!((outcome.dead.len(), &outcome.dead[0]["capsule"]), (1, &Value::Null));
    assert!(outcome.status.is_ok());
}
