//! Every kind of operator and of failure.

use std::collections::BTreeSet;

use millstream::capsule::FreshFact;
use millstream::operator::OnError;
use millstream::pipeline::partition::PartitionSpec;
use serde_json::json;

use super::*;

/// Every capsule is of one row (or window, timer, accumulator), fails again in the same way, and failures are of `words`.
fn check(case: &Case, outcome: &Outcome, words: &[&str]) {
    let kept = case.kept();
    for capsule in &kept {
        let facts = &capsule.facts;
        assert!(capsule.call.count() <= 1, "{} rows in a call of {}", capsule.call.count(), facts.step);
        let replay = replayed(capsule);
        assert!(replay.same, "{facts:?}\nis now\n{:?}", replay.outcome);
        let expected = if facts.failure.word() == "deadline" { FreshFact::Untried } else { FreshFact::Same };
        assert_eq!((&facts.fresh, facts.pipeline.as_str()), (&expected, "capsules"));
        assert_eq!(facts.component.digest.len(), 64);
    }
    let found: BTreeSet<&str> = kept.iter().map(|capsule| capsule.facts.failure.word()).collect();
    assert_eq!(found, words.iter().copied().collect(), "failures that are kept");
    for letter in &outcome.dead {
        let file = Path::new(text(letter, "capsule"));
        let capsule = Capsule::from_bytes(&std::fs::read(file).unwrap()).unwrap();
        let message = capsule.facts.failure.message();
        assert!(text(letter, "reason").ends_with(&message), "{message}, {letter:?}");
        assert_eq!(capsule.facts.component.digest, text(letter, "component"));
    }
}

fn words() -> Vec<Value> {
    let mut rows: Vec<Value> =
        (0..2_000).map(|at| json!({"at": at, "id": at, "value": format!("word {at}")})).collect();
    for (at, word) in [(0, "boom"), (700, "loop"), (701, "refuse"), (1_500, "bomb"), (1_999, "boom")] {
        rows[at]["value"] = word.into();
    }
    rows
}

const WORDS: [(&str, Kind); 3] = [("at", Kind::TimestampMs), ("id", Kind::Int64), ("value", Kind::Text)];

#[test]
fn calls_of_a_map_fail_again_as_they_did() {
    for parallelism in [1, 3] {
        let case = Case::new(words());
        let outcome = case.run(Step::map("hostile-map.wasm").keep(["id"]), &WORDS, parallelism);
        assert_eq!(outcome.status.as_ref().unwrap().nodes.len(), 3);
        assert_eq!(outcome.dead.len(), 5);
        check(&case, &outcome, &["trap", "deadline", "memory", "row"]);
        let trap = case.kept().into_iter().find(|capsule| capsule.facts.failure.word() == "trap").unwrap();
        let message = trap.facts.failure.message();
        assert!(message.contains("went boom on purpose"), "{message}");
        assert!(trap.facts.failure.backtrace().is_some());
        assert!(trap.facts.event_time_ms.is_some_and(|time_ms| [0, 1_999].contains(&time_ms)));
        assert!(trap.facts.component.file.ends_with("hostile-map.wasm"));
    }
}

#[test]
fn rows_that_are_skipped_leave_a_capsule_and_one_that_ends_the_run_is_named_by_the_error() {
    let case = Case::new(words());
    let outcome = case.run(Step::map("hostile-map.wasm").on_error(OnError::Skip), &WORDS, 1);
    assert!(outcome.dead.is_empty());
    check(&case, &outcome, &["trap", "deadline", "memory", "row"]);
    let case = Case::new(words());
    let outcome = case.run(Step::map("hostile-map.wasm").on_error(OnError::Fail), &WORDS, 1);
    let error = outcome.status.unwrap_err();
    let (_, file) = error.split_once("the call is kept: millstream replay ").unwrap_or_else(|| panic!("{error}"));
    let capsule = Capsule::from_bytes(&std::fs::read(file).unwrap()).unwrap();
    assert!(error.contains(&capsule.facts.failure.message()), "{error}");
    assert!(replayed(&capsule).same);
}

#[test]
fn calls_of_an_aggregate_fail_again_with_the_accumulators_of_then() {
    let mut rows: Vec<Value> =
        (0..1_000).map(|at| json!({"at": at, "group": at % 7, "word": "fine", "value": 1})).collect();
    for (at, word) in [(3, "boom"), (500, "refuse"), (501, "bomb"), (800, "loop")] {
        rows[at]["word"] = word.into();
    }
    // one group's sum cannot be finished
    rows.push(json!({"at": 999, "group": 100, "word": "fine", "value": -666}));
    let schema = [("at", Kind::TimestampMs), ("group", Kind::Int64), ("word", Kind::Text), ("value", Kind::Int64)];
    let case = Case::new(rows);
    let step = Step::aggregate().key_by(["group"]).tumbling(Duration::from_secs(10));
    let outcome = case.run(step.component("sum", "hostile-sum.wasm"), &schema, 1);
    check(&case, &outcome, &["trap", "deadline", "memory", "row"]);
    let functions: BTreeSet<&str> = case.kept().iter().map(|capsule| capsule.call.function()).collect();
    assert_eq!(functions, BTreeSet::from(["accumulate", "finish"]));
}

#[test]
fn calls_of_a_processor_fail_again_with_the_state_of_their_keys() {
    let row = |ts: i64| json!({"ts": ts, "k": format!("k{}", ts % 5), "word": "fine", "at": ts});
    let mut rows: Vec<Value> = (0..300).map(row).collect();
    for (at, word) in [(100, "boom"), (150, "refuse"), (200, "loop"), (250, "explode")] {
        rows[at]["word"] = word.into();
    }
    // the last word of the key is what its timer sees
    rows.truncate(255);
    let schema = [("ts", Kind::TimestampMs), ("k", Kind::Text), ("word", Kind::Text), ("at", Kind::Int64)];
    let case = Case::new(rows);
    std::fs::write(case.folder.path().join("more.jsonl"), "").unwrap();
    let outcome = case.run(Step::process("hostile-process.wasm").key_by(["k"]), &schema, 1);
    check(&case, &outcome, &["trap", "deadline", "row"]);
    let kept = case.kept();
    let tables = |word: &str| {
        let of_word = |capsule: &&Capsule| capsule.facts.failure.word() == word;
        kept.iter().find(of_word).unwrap().tables().into_iter().map(|(name, rows)| (name, rows.num_rows())).collect()
    };
    let of_trap: std::collections::BTreeMap<&str, usize> = tables("trap");
    assert_eq!((of_trap["state"], of_trap["keys"], of_trap["input"]), (1, 1, 1));
    let timer = kept.iter().find(|capsule| capsule.facts.failure.message().contains("a timer refused")).unwrap();
    assert!(timer.facts.call.timers == Some(0) && timer.facts.call.port.is_none(), "{:?}", timer.facts.call);
}

#[test]
fn calls_of_a_window_processor_fail_again_with_the_rows_of_their_window() {
    let mut rows: Vec<Value> = (0..100).map(|at| json!({"at": at, "k": at % 4, "word": "fine", "v": at})).collect();
    for (at, word) in [(0, "boom"), (1, "refuse"), (2, "loop")] {
        rows[at]["word"] = word.into();
    }
    let schema = [("at", Kind::TimestampMs), ("k", Kind::Int64), ("word", Kind::Text), ("v", Kind::Int64)];
    let case = Case::new(rows);
    let step = Step::window_process("hostile-window.wasm").key_by(["k"]).tumbling(Duration::from_secs(1));
    let outcome = case.run(step, &schema, 1);
    check(&case, &outcome, &["trap", "deadline", "row"]);
    for capsule in case.kept() {
        let (_, input) = capsule.tables().into_iter().find(|(name, _)| *name == "input").unwrap();
        assert_eq!(input.num_rows(), 25);
    }
}

#[test]
fn calls_of_a_partitioner_fail_again() {
    let case = Case::new(words().into_iter().filter(|row| row["value"] != "bomb"));
    let partition = PartitionSpec::Custom(millstream::pipeline::spec::ComponentSpec {
        path: "hostile-partition.wasm".to_owned().into(),
        config: std::sync::Arc::default(),
    });
    let step = Step::map("uppercase.wasm").keep(["id"]).partition(partition);
    let outcome = case.run(step, &WORDS, 2);
    assert_eq!(outcome.dead.len(), 4);
    assert!(case.kept().iter().all(|capsule| capsule.call.function() == "route"));
    assert!(case.kept().len() >= 2);
    case.kept().iter().for_each(|capsule| assert!(replayed(capsule).same));
}
