//! Third-party inputs and expected outputs: every folder of `tests/acceptance` is a pipeline for one of them.
//!
//! The data is not part of the repository. `MILLSTREAM_ACCEPTANCE` names the folder that has it; without it each case is
//! named as skipped. A pipeline's comment `# expected: <file>` says which file of that folder its output must equal, as a
//! multiset, at every parallelism and however batches are cut.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};

use millstream::error::Spanned;
use millstream::pipeline;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Kind;
use millstream::script::{Runner, RunnerOptions, Script};
use millstream::sink::{ChannelSink, SinkKind};
use millstream::source::SourceKind;
use millstream_tests::run;
use serde_json::{Map, Number, Value};

type Row = Map<String, Value>;

/// Parallelism and seed of the cuts, for each run of a case.
const VARIANTS: [(usize, Option<u64>); 4] = [(1, None), (2, Some(1)), (3, None), (3, Some(2))];

/// Floats that differ by less, relative to the larger, are equal: some of the data was rounded by who made it.
const FLOAT_TOLERANCE: f64 = 1e-9;

struct Case {
    name: String,
    text: String,
    path: PathBuf,
    expected: PathBuf,
}

/// All cases, or none where the data is missing; each of them is named as skipped then.
fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("acceptance");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("tests/acceptance")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let data = std::env::var_os("MILLSTREAM_ACCEPTANCE").map(PathBuf::from).filter(|data| data.is_dir());
    let Some(data) = data.and_then(|data| data.canonicalize().ok()) else {
        for name in &names {
            // also where the output of tests is captured
            let _ = writeln!(std::io::stderr(), "SKIPPED acceptance {name}: MILLSTREAM_ACCEPTANCE names no folder");
        }
        return Vec::new();
    };
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    let case = |name: String| {
        let path = folder.join(&name).join("pipeline.toml");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let expected = text.lines().find_map(|line| line.strip_prefix("# expected: ")).expect("a line `# expected: `");
        let expected = data.join(expected.trim());
        let text = text.replace("$MILLSTREAM_ACCEPTANCE", &data.to_string_lossy());
        let text = text.replace("$GUESTS", &guests.to_string_lossy());
        Case { name, text, path, expected }
    };
    names.into_iter().map(case).collect()
}

/// The rows of a file; a line of a change log stands for the row after the change.
fn expected(path: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let row = |line: &str| -> Row {
        let mut row: Row = serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        match (row.contains_key("op"), row.remove("after")) {
            (true, Some(Value::Object(after))) => after,
            _ => row,
        }
    };
    lines.map(row).collect()
}

/// A value as it is compared: times as milliseconds, whole floats as integers, others to so many digits.
fn normal(value: &Value) -> Value {
    match value {
        Value::String(text) => match time_ms(text) {
            Some(time) => time.into(),
            None => value.clone(),
        },
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap_or_default();
            if float.fract() == 0.0 && float.abs() < 9e15 {
                return (float as i64).into();
            }
            let digits = 10_f64.powf(-float.abs().log10().floor() - FLOAT_TOLERANCE.log10());
            Number::from_f64((float * digits).round() / digits).map_or(Value::Null, Value::Number)
        }
        _ => value.clone(),
    }
}

/// `2023-09-18T14:00:00` with or without fraction and UTC offset, `T` or a space between.
fn time_ms(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 19 || bytes.get(4) != Some(&b'-') || bytes.get(13) != Some(&b':') {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = text.get(19..)?.trim_end_matches('Z').trim_end_matches("+00:00");
    let fraction = rest.strip_prefix('.').unwrap_or(rest);
    let millis: i64 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").get(..3)?.parse().ok()? };
    // days since 1970 of a Gregorian date, with years from March
    let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

/// Rows as sorted lines of the columns that are expected.
fn lines(rows: &[Row], columns: &[String]) -> Vec<String> {
    let line = |row: &Row| {
        let mut cells: Vec<_> =
            columns.iter().map(|name| (name, normal(row.get(name).unwrap_or(&Value::Null)))).collect();
        cells.sort_by(|a, b| a.0.cmp(b.0));
        cells.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines
}

fn compare(what: &str, found: &[Row], wanted: &[Row]) -> Result<(), String> {
    let columns: Vec<String> = wanted.first().map(|row| row.keys().cloned().collect()).unwrap_or_default();
    if let Some(row) = found.first()
        && let Some(missing) = columns.iter().find(|column| !row.contains_key(*column))
    {
        return Err(format!("{what}: no column {missing}; there are {:?}", row.keys().collect::<Vec<_>>()));
    }
    let (found, wanted) = (lines(found, &columns), lines(wanted, &columns));
    if found == wanted {
        return Ok(());
    }
    let less = |of: &[String], than: &[String]| {
        let mut left = than.to_vec();
        let extra = of.iter().filter(|line| match left.iter().position(|other| other == *line) {
            Some(at) => {
                left.swap_remove(at);
                false
            }
            None => true,
        });
        extra.take(5).cloned().collect::<Vec<_>>().join("\n    ")
    };
    let (found_count, wanted_count) = (found.len(), wanted.len());
    Err(format!(
        "{what}: {found_count} rows, expected {wanted_count}\n  missing:\n    {}\n  not expected:\n    {}",
        less(&wanted, &found),
        less(&found, &wanted)
    ))
}

fn parse(case: &Case, parallelism: usize) -> Result<PipelineSpec, String> {
    let base = case.path.parent().unwrap_or(Path::new("."));
    let mut spec = pipeline::parse(&case.text, &case.path, base).map_err(|error| format!("{}: {error}", case.name))?;
    spec.parallelism = Some(Spanned::from(parallelism));
    Ok(spec)
}

fn run_case(case: &Case, parallelism: usize, shuffle_batches: Option<u64>) -> Result<(), String> {
    let what = format!("{} at parallelism {parallelism}, cuts {shuffle_batches:?}", case.name);
    let mut spec = parse(case, parallelism)?;
    let (channel, mut results) = ChannelSink::new(100_000);
    spec.sinks.iter_mut().for_each(|sink| sink.kind.value = SinkKind::Channel(channel.clone()));
    drop(channel);
    let options = RunOptions { shuffle_batches, ..RunOptions::default() };
    run::run(spec, &options).map_err(|error| format!("{what}: {error}"))?;
    let mut rows = Vec::new();
    while let Ok(batch) = results.try_recv() {
        rows.extend(run::rows(&batch));
    }
    compare(&what, &rows, &expected(&case.expected))
}

/// The input as a script, with everything put away and taken up again by other tasks at a third and at two thirds.
fn script(case: &Case, spec: &PipelineSpec) -> Result<Script, String> {
    let mut rows = Vec::new();
    for source in &spec.sources {
        let SourceKind::File { path, .. } = &source.kind.value else { return Err("expected files".to_owned()) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let row = match &source.schema {
                None => Map::from_iter([("value".to_owned(), Value::from(line))]),
                Some(schema) => {
                    let mut row: Row = serde_json::from_str(line).map_err(|error| error.to_string())?;
                    row.retain(|name, _| schema.value.index_of(name).is_some());
                    for field in schema.value.fields().iter().filter(|field| field.kind == Kind::TimestampMs) {
                        row.get_mut(&field.name).into_iter().for_each(|cell| *cell = normal(cell));
                    }
                    row
                }
            };
            rows.push(serde_json::json!({ "row": row, "source": source.name.value }).to_string());
        }
    }
    let (third, two_thirds) = (rows.len() / 3, rows.len() * 2 / 3);
    rows.insert(two_thirds, r#"{"restore":true,"parallelism":3}"#.to_owned());
    rows.insert(third, r#"{"restore":true,"parallelism":2}"#.to_owned());
    rows.push(r#"{"end":true}"#.to_owned());
    let normal_row = |row: Row| row.into_iter().map(|(name, value)| (name, normal(&value))).collect::<Row>();
    let expected: Vec<Row> = expected(&case.expected).into_iter().map(normal_row).collect();
    rows.push(serde_json::json!({ "expect": expected }).to_string());
    Script::parse(&case.path.with_file_name("script.jsonl"), &rows.join("\n")).map_err(|error| error.to_string())
}

fn run_with_restores(case: &Case) -> Result<(), String> {
    let what = format!("{} with restores", case.name);
    let spec = parse(case, 1)?;
    let script = script(case, &spec).map_err(|error| format!("{what}: {error}"))?;
    let options = RunnerOptions { parallelism: Some(1), shuffle_batches: None };
    let runner = Runner::new(spec, run::sandbox()?, options).map_err(|error| format!("{what}: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let outcome = runtime.block_on(runner.run(&script)).map_err(|error| format!("{what}: {error}"))?;
    match outcome.failure {
        None => Ok(()),
        Some(failure) => Err(format!("{what}, line {}: {}", failure.line, failure.what.heading())),
    }
}

#[test]
fn third_party_cases_give_what_is_expected_with_restores_at_other_parallelism_in_the_middle() {
    let wrong: Vec<String> = cases().iter().filter_map(|case| run_with_restores(case).err()).collect();
    assert!(wrong.is_empty(), "{} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn third_party_cases_give_what_is_expected_however_they_are_run() {
    let mut wrong = Vec::new();
    for case in cases() {
        for (parallelism, cuts) in VARIANTS {
            wrong.extend(run_case(&case, parallelism, cuts).err());
        }
    }
    assert!(wrong.is_empty(), "{} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
}
