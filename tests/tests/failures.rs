//! Guests that fail: in a stream of 10,000 good rows exactly the bad ones are taken out, with the reason, and every good
//! row comes out once. The guests are `hostile-map` and `hostile-sum`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use millstream::control::Status;
use millstream::format::Format;
use millstream::operator::OnError;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::builder::{Pipeline, Sink, Source, Step};
use millstream::record::{Batch, Field, Kind};
use millstream::sink::{ChannelSink, SinkKind};
use millstream::wasm::Digest;
use millstream_tests::{built, run};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

type Row = Map<String, Value>;

const GOOD: usize = 10_000;

/// Words that make trouble, and what the reason must say of each.
const BAD: [(&str, &[&str]); 4] = [
    ("boom", &["trap", "went boom on purpose"]),
    ("loop", &["50ms", "deadline"]),
    ("bomb", &["8 MiB", "limits.memory"]),
    ("refuse", &["does not want \"refuse\""]),
];

fn guests() -> std::path::PathBuf {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    assert!(guests.join("hostile-map.wasm").exists(), "no hostile guests in {}: cargo xtask guests", guests.display());
    guests
}

/// Where the bad rows stand among the good ones: at the edges of the stream, side by side, alone.
fn bad_at(position: usize) -> Option<&'static str> {
    match position {
        0 | 5_000 | 9_001 => Some("boom"),
        1 | 7_777 => Some("refuse"),
        // the first stands far from other bad rows, so the deadline is missed with many rows at once
        3_333 | 5_001 => Some("loop"),
        5_002 | 9_500 => Some("bomb"),
        _ => None,
    }
}

/// Which of the two guests is tried.
#[derive(Clone, Copy, PartialEq)]
enum Guest {
    /// reads `value: text`
    Map,
    /// reads `word: text`, `value: int64`
    Sum,
}

/// Groups of the aggregate.
const GROUPS: usize = 7;

/// One JSON object a line for the guest, with a word that is bad at some places, and where these are.
fn input(guest: Guest) -> (tempfile::TempDir, Vec<(usize, &'static str)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut text, mut bad, mut good) = (String::new(), Vec::new(), 0);
    for position in 0.. {
        let word = match bad_at(position) {
            Some(word) => {
                bad.push((position, word));
                word.to_owned()
            }
            None if good == GOOD => break,
            None => {
                good += 1;
                format!("word {}", position % 13)
            }
        };
        let read = match guest {
            Guest::Map => format!("\"id\":{position},\"value\":\"{word}\""),
            Guest::Sum => format!("\"group\":{},\"word\":\"{word}\",\"value\":{position}", position % GROUPS),
        };
        writeln!(text, "{{\"at\":{position},{read}}}").expect("text");
    }
    std::fs::write(folder.path().join("rows.jsonl"), text).expect("a file");
    (folder, bad)
}

struct Outcome {
    rows: Vec<Row>,
    dead: Vec<Row>,
    status: Result<Status, String>,
}

fn drained(results: &mut mpsc::Receiver<Batch>) -> Vec<Row> {
    let mut rows = Vec::new();
    while let Ok(batch) = results.try_recv() {
        rows.extend(run::rows(&batch));
    }
    rows
}

/// Runs the rows of [`input`] through one step.
fn run_step(folder: &Path, guest: Guest, step: Step, parallelism: usize) -> Outcome {
    let (sink, mut rows) = ChannelSink::new(100_000);
    let (dead_sink, mut dead) = ChannelSink::new(100_000);
    let mut schema = vec![Field::new("at", Kind::TimestampMs)];
    schema.extend(match guest {
        Guest::Map => vec![Field::new("id", Kind::Int64), Field::new("value", Kind::Text)],
        Guest::Sum => {
            vec![Field::new("group", Kind::Int64), Field::new("word", Kind::Text), Field::new("value", Kind::Int64)]
        }
    });
    let source = Source::file(folder.join("rows.jsonl").display().to_string());
    let spec = Pipeline::new("failures")
        .base(guests())
        .parallelism(parallelism)
        .source("rows", source.format(Format::Json).schema(schema).event_time("at"))
        .step("hostile", step.from("rows"))
        .sink("out", Sink::of(SinkKind::Channel(sink)).from("hostile"))
        .dead_letter(SinkKind::Channel(dead_sink))
        .build()
        .expect("a pipeline");
    let status =
        run::run(spec, &RunOptions { shuffle_batches: Some(1).filter(|_| parallelism > 1), ..RunOptions::default() });
    Outcome { rows: drained(&mut rows), dead: drained(&mut dead), status }
}

fn hostile_map(on_error: OnError) -> Step {
    let map = Step::map("hostile-map.wasm").keep(["id"]).on_error(on_error);
    map.deadline(Duration::from_millis(50)).memory_bytes(8 << 20)
}

fn hostile_sum(on_error: OnError) -> Step {
    let aggregate = Step::aggregate().key_by(["group"]).tumbling(Duration::from_secs(100)).count("n");
    let aggregate = aggregate.component("sum", "hostile-sum.wasm").on_error(on_error);
    aggregate.deadline(Duration::from_millis(50)).memory_bytes(8 << 20)
}

fn int(row: &Row, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} of {row:?}"))
}

/// The row that a letter is about.
fn letter_row(letter: &Row) -> Row {
    serde_json::from_str(letter["row"].as_str().expect("a row")).expect("JSON")
}

fn ids(rows: &[Row]) -> Vec<i64> {
    let mut ids: Vec<i64> = rows.iter().map(|row| int(row, "id")).collect();
    ids.sort_unstable();
    ids
}

fn good_ids(bad: &[(usize, &str)]) -> Vec<i64> {
    (0..GOOD + bad.len()).filter(|position| bad_at(*position).is_none()).map(|id| id as i64).collect()
}

/// Every bad row once, from the step, with the row as it came and a reason that names the trouble.
fn check_letters(dead: &[Row], bad: &[(usize, &str)], id: &str) {
    let mut letters: BTreeMap<i64, &Row> = BTreeMap::new();
    for letter in dead {
        let row = letter_row(letter);
        assert!(letters.insert(int(&row, id), letter).is_none(), "two letters for {row:?}");
    }
    let found: Vec<i64> = letters.keys().copied().collect();
    let wanted: Vec<i64> = bad.iter().map(|(position, _)| *position as i64).collect();
    assert_eq!(found, wanted);
    for (letter, (position, word)) in letters.values().zip(bad) {
        assert_eq!(letter["node"], "hostile");
        assert_eq!(letter["time"].as_i64(), Some(*position as i64));
        assert_eq!(letter["component"].as_str().map(str::len), Some(64), "the component's digest");
        let reason = letter["reason"].as_str().expect("a reason");
        let words = BAD.iter().find(|(known, _)| known == word).map(|(_, words)| *words).expect("a known word");
        for word in words {
            assert!(reason.contains(word), "{word:?} is not in {reason:?}");
        }
    }
}

#[test]
fn exactly_the_bad_rows_of_a_map_become_dead_letters() {
    let (folder, bad) = input(Guest::Map);
    for parallelism in [1, 3] {
        let Outcome { rows, dead, status } =
            run_step(folder.path(), Guest::Map, hostile_map(OnError::DeadLetter), parallelism);
        let status = status.expect("a run");
        assert_eq!(ids(&rows), good_ids(&bad));
        check_letters(&dead, &bad, "id");
        let counts = &status.node("hostile").expect("the step").counts;
        assert_eq!((counts.rows_out, counts.dead_rows), (GOOD as u64, bad.len() as u64));
    }
}

#[test]
fn bad_rows_are_skipped_and_counted_where_the_step_says_so() {
    let (folder, bad) = input(Guest::Map);
    let Outcome { rows, dead, status } = run_step(folder.path(), Guest::Map, hostile_map(OnError::Skip), 1);
    assert_eq!(ids(&rows), good_ids(&bad));
    assert!(dead.is_empty(), "{dead:?}");
    let status = status.expect("a run");
    assert_eq!(status.node("hostile").expect("the step").counts.skipped_rows, bad.len() as u64);
}

#[test]
fn the_first_bad_row_stops_the_pipeline_where_the_step_says_so() {
    let (folder, _) = input(Guest::Map);
    let Outcome { dead, status, .. } = run_step(folder.path(), Guest::Map, hostile_map(OnError::Fail), 1);
    let error = status.expect_err("a failure");
    assert!(error.contains("step `hostile`, task 0"), "{error}");
    assert!(error.contains("on_error = \"fail\"") && error.contains("went boom on purpose"), "{error}");
    assert!(dead.is_empty(), "{dead:?}");
}

/// Rows and sum of each group, bad rows not added up. The row count is the host's, which takes them all.
fn sums(bad: &[(usize, &str)]) -> Vec<(i64, i64, i64)> {
    let mut sums: Vec<(i64, i64, i64)> = (0..GROUPS).map(|group| (group as i64, 0, 0)).collect();
    for position in 0..GOOD + bad.len() {
        let (_, rows, sum) = &mut sums[position % GROUPS];
        *rows += 1;
        *sum += if bad_at(position).is_none() { position as i64 } else { 0 };
    }
    sums
}

fn found_sums(rows: &[Row]) -> Vec<(i64, i64, i64)> {
    let mut found: Vec<_> = rows.iter().map(|row| (int(row, "group"), int(row, "n"), int(row, "sum"))).collect();
    found.sort_unstable();
    found
}

#[test]
fn bad_rows_of_an_aggregate_leave_no_trace_in_its_sums() {
    let (folder, bad) = input(Guest::Sum);
    for parallelism in [1, 3] {
        let Outcome { rows, dead, status } =
            run_step(folder.path(), Guest::Sum, hostile_sum(OnError::DeadLetter), parallelism);
        status.expect("a run");
        assert_eq!(found_sums(&rows), sums(&bad));
        check_letters(&dead, &bad, "value");
        for letter in &dead {
            let row = letter_row(letter);
            assert_eq!(int(&row, "group"), int(&row, "value") % GROUPS as i64, "the key is that of the row");
        }
    }
}

#[test]
fn bad_rows_of_an_aggregate_are_skipped_or_stop_the_pipeline_where_the_step_says_so() {
    let (folder, bad) = input(Guest::Sum);
    let Outcome { rows, dead, status } = run_step(folder.path(), Guest::Sum, hostile_sum(OnError::Skip), 1);
    assert_eq!(found_sums(&rows), sums(&bad));
    assert!(dead.is_empty(), "{dead:?}");
    assert_eq!(status.expect("a run").node("hostile").expect("the step").counts.skipped_rows, bad.len() as u64);
    let Outcome { rows, status, .. } = run_step(folder.path(), Guest::Sum, hostile_sum(OnError::Fail), 1);
    let error = status.expect_err("a failure");
    assert!(error.contains("step `hostile`") && error.contains("went boom on purpose"), "{error}");
    assert!(rows.is_empty(), "{rows:?}");
}

#[test]
fn a_sum_out_of_range_is_subject_to_the_policy_like_a_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let row = |group: i64, value: i64| format!("{{\"at\":1,\"group\":{group},\"word\":\"\",\"value\":{value}}}\n");
    let lines = [row(1, i64::MAX), row(2, 5), row(1, 1), row(2, 6)].concat();
    std::fs::write(folder.path().join("rows.jsonl"), lines).expect("a file");
    let run_with = |on_error| {
        let sums = Step::aggregate().key_by(["group"]).tumbling(Duration::from_secs(1)).sum("sum", "value");
        run_step(folder.path(), Guest::Sum, sums.on_error(on_error), 1)
    };
    let letters = run_with(OnError::DeadLetter);
    assert_eq!((letters.rows.len(), int(&letters.rows[0], "sum")), (1, 11));
    let reason = letters.dead[0]["reason"].as_str().expect("a reason");
    assert!(letters.dead.len() == 1 && reason.contains("outside int64"), "{reason}");
    let skipped = run_with(OnError::Skip);
    assert_eq!((skipped.rows.len(), skipped.dead.len()), (1, 0));
    assert_eq!(skipped.status.expect("a run").node("hostile").expect("the step").counts.skipped_rows, 1);
    let error = run_with(OnError::Fail).status.expect_err("a failure");
    assert!(error.contains("step `hostile`") && error.contains("outside int64"), "{error}");
}

/// Groups, times and values of a few rows for `hostile-sum`, and a run of `step` over them.
fn run_few(rows: &[(i64, i64, i64)], step: Step) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let line = |(group, at, value): &(i64, i64, i64)| {
        format!("{{\"at\":{at},\"group\":{group},\"word\":\"\",\"value\":{value}}}\n")
    };
    let lines: String = rows.iter().map(line).collect();
    std::fs::write(folder.path().join("rows.jsonl"), lines).expect("a file");
    run_step(folder.path(), Guest::Sum, step, 1)
}

fn groups_and_sums(rows: &[Row]) -> Vec<(i64, i64)> {
    let mut found: Vec<_> = rows.iter().map(|row| (int(row, "group"), int(row, "sum"))).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_key_whose_result_cannot_be_made_is_subject_to_the_policy_and_the_others_have_theirs() {
    // enough keys that the one at fault is looked for
    let mut rows: Vec<(i64, i64, i64)> = (0..100).map(|group| (group, 1, group)).collect();
    rows[40].2 = -666;
    let good: Vec<_> = (0..100).filter(|group| *group != 40).map(|group| (group, group)).collect();
    let letters = run_few(&rows, hostile_sum(OnError::DeadLetter));
    assert_eq!(groups_and_sums(&letters.rows), good);
    assert_eq!(letters.dead.len(), 1, "{:?}", letters.dead);
    let row = letter_row(&letters.dead[0]);
    assert_eq!(int(&row, "group"), 40);
    assert!(row.contains_key("window_start") && row.contains_key("window_end"), "{row:?}");
    let reason = letters.dead[0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("will not finish"), "{reason}");
    let skipped = run_few(&rows, hostile_sum(OnError::Skip));
    assert_eq!((groups_and_sums(&skipped.rows), skipped.dead.len()), (good, 0));
    assert_eq!(skipped.status.expect("a run").node("hostile").expect("the step").counts.skipped_rows, 1);
    let error = run_few(&rows, hostile_sum(OnError::Fail)).status.expect_err("a failure");
    assert!(error.contains("on_error = \"fail\"") && error.contains("will not finish"), "{error}");
}

#[test]
fn windows_of_a_key_that_cannot_be_merged_are_dead_and_no_others() {
    let step = |on_error| {
        let sum = Step::aggregate().key_by(["group"]).sliding(Duration::from_secs(2), Duration::from_secs(1));
        sum.component("sum", "hostile-sum.wasm").on_error(on_error)
    };
    let rows = [(1, 500, -667), (2, 500, 1), (1, 1_500, 5), (2, 1_500, 2)];
    let letters = run_few(&rows, step(OnError::DeadLetter));
    // the first and the last window of a key have one slice with rows: nothing to merge
    assert_eq!(groups_and_sums(&letters.rows), [(1, -667), (1, 5), (2, 1), (2, 2), (2, 3)]);
    assert_eq!(letters.dead.len(), 1, "{:?}", letters.dead);
    assert_eq!(int(&letter_row(&letters.dead[0]), "group"), 1);
    assert!(letters.dead[0]["reason"].as_str().expect("a reason").contains("will not merge"));
    let error = run_few(&rows, step(OnError::Fail)).status.expect_err("a failure");
    assert!(error.contains("will not merge"), "{error}");
}

#[test]
fn each_component_of_a_step_signs_what_it_refuses() {
    let folder = tempfile::tempdir().unwrap();
    let same = built::same_logic("hostile-sum", &folder.path().join("again.wasm")).unwrap();
    let digest = |path: &Path| Digest::of(&std::fs::read(path).unwrap()).to_string();
    let (first, second) = (digest(&guests().join("hostile-sum.wasm")), digest(&same));
    // a row that both refuse, and a group (2) without a result in either: the first is asked first, and then nobody
    let rows = [(1, "good", 5), (1, "refuse", 1), (2, "good", -666), (1, "good", 6)];
    let line = |(at, (group, word, value)): (usize, &(i64, &str, i64))| {
        format!("{{\"at\":{at},\"group\":{group},\"word\":\"{word}\",\"value\":{value}}}\n")
    };
    let text: String = rows.iter().enumerate().map(line).collect();
    std::fs::write(folder.path().join("rows.jsonl"), text).unwrap();
    let steps = [
        Step::aggregate().key_by(["group"]).tumbling(Duration::from_secs(100)),
        Step::aggregate().key_by(["group"]).session(Duration::from_secs(100)),
        Step::aggregate().key_by(["group"]),
    ];
    for (kind, step) in steps.into_iter().enumerate() {
        let step = step.count("n").component("sum", "hostile-sum.wasm").component("again", same.display().to_string());
        let outcome = run_step(folder.path(), Guest::Sum, step.on_error(OnError::DeadLetter), 1);
        outcome.status.unwrap();
        let mut signed: Vec<(String, i64, String)> = outcome
            .dead
            .iter()
            .map(|letter| {
                let row = letter_row(letter);
                let word = row.get("word").and_then(Value::as_str).unwrap_or("a result").to_owned();
                (word, int(letter, "version"), letter["component"].as_str().unwrap().to_owned())
            })
            .collect();
        // the order of refusals is that of the components; a result follows when its window fires
        assert_eq!(
            signed.iter().filter(|(word, ..)| word == "refuse").map(|of| &of.2).collect::<Vec<_>>(),
            [&first, &second],
            "{kind}"
        );
        signed.retain(|(word, ..)| word == "a result");
        assert_eq!(signed, [("a result".to_owned(), 1, first.clone())], "{kind}");
    }
}
