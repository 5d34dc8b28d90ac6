//! The contract from every language: guests of the same meaning are given the same columns and must answer the same,
//! wherever a batch is cut. A case is a folder of `tests/conformance`; its `case.json` has
//!
//! - `about`: what it is about
//! - `guests`: who is asked; `config`: their configuration
//! - `input`: columns by name; `rows`: repeated until there are so many
//! - `failed`: rows that the guest refuses
//! - `expected`: columns of the answer; of a filter, the columns of the rows that it keeps
//! - of an aggregate also `groups`, a group for each row (repeated too), and `accumulators`, how many groups there are
//! - of a partitioner also `targets`, how many tasks there are; the answer is a column `task`
//! - of a window-processor also `windows`, each as `[start, end]`, and `times`; `groups` has the window of each row, and the
//!   answer a column `window`
//! - `from`, a version: then `input` is state of that version, which an aggregate or processor takes over

// clippy knows tests by their attribute, not their helpers
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream::wasm::{Guest, GuestOptions, OperatorKind, Sandbox, Setting, Settings, Signature};
use millstream_tests::{built, run};
use serde::Deserialize;
use serde_json::{Map, Value};

mod columns;
mod folded;
mod migrations;
mod processors;
mod rowwise;
mod windows;

type Row = Map<String, Value>;
type Columns = BTreeMap<String, Vec<Value>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(skip)]
    name: String,
    about: String,
    guests: Vec<String>,
    #[serde(default)]
    config: BTreeMap<String, Value>,
    rows: Option<usize>,
    input: Columns,
    #[serde(default)]
    groups: Vec<u32>,
    accumulators: Option<usize>,
    targets: Option<u32>,
    #[serde(default)]
    windows: Vec<(i64, i64)>,
    #[serde(default)]
    times: Vec<i64>,
    from: Option<u32>,
    #[serde(default)]
    failed: Vec<u32>,
    expected: Columns,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().join("case.json")).collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn read(file: &Path) -> Case {
    let text = std::fs::read_to_string(file).unwrap();
    let mut case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    case.name = file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let given = case.input.values().map(Vec::len).max().unwrap_or(0);
    let rows = case.rows.unwrap_or(given);
    for column in case.input.values_mut() {
        repeat(column, rows);
    }
    if case.accumulators.is_some() {
        repeat(&mut case.groups, rows);
    }
    // an aggregate answers for each group, all others for each row
    if case.rows.is_some() && case.accumulators.is_none() {
        case.expected.values_mut().for_each(|column| repeat(column, rows));
    }
    case
}

fn repeat<T: Clone>(values: &mut Vec<T>, rows: usize) {
    *values = values.iter().cloned().cycle().take(rows).collect();
}

/// Where the rows of a case are cut in two: anywhere if they are few.
fn cuts(rows: usize) -> Vec<usize> {
    if rows <= 64 { (0..=rows).collect() } else { vec![0, 1, 7, 255, rows / 2, rows / 2 + 1, rows - 1, rows] }
}

/// Columns as rows, to compare with what comes out of guests.
fn as_rows(columns: &Columns) -> Vec<Row> {
    let rows = columns.values().map(Vec::len).max().unwrap_or(0);
    (0..rows).map(|row| columns.iter().map(|(name, values)| (name.clone(), values[row].clone())).collect()).collect()
}

fn settings(case: &Case) -> Settings {
    let setting = |value: &Value| match value.as_i64() {
        Some(whole) => Setting::from(whole),
        None => Setting::from(value.as_f64().unwrap()),
    };
    Arc::new(case.config.iter().map(|(name, value)| (name.clone(), setting(value))).collect())
}

/// The guest, or why it was not built.
fn guest(sandbox: &Sandbox, case: &Case, name: &str) -> Result<Guest, String> {
    let component = sandbox.load(&built::guest(name)?).map_err(|error| error.to_string())?;
    let [kind] = component.kinds()[..] else { panic!("{name} has kinds {:?}", component.kinds()) };
    let options = GuestOptions { settings: settings(case), ..GuestOptions::new(name) };
    Ok(component.guest(kind, options).unwrap_or_else(|error| panic!("{}: {error}", case.name)))
}

fn check(case: &Case, guest: &mut Guest) {
    match guest.kind() {
        _ if case.from.is_some() => migrations::check(case, guest),
        OperatorKind::Aggregator => folded::check(case, guest),
        OperatorKind::WindowProcessor => windows::check(case, guest),
        _ => rowwise::check(case, guest),
    }
}

#[test]
fn guests_of_one_meaning_answer_the_same_in_every_language() {
    let sandbox = run::sandbox().unwrap();
    let mut missing = BTreeMap::new();
    let mut asked = 0;
    for case in cases() {
        assert!(!case.about.is_empty() && !case.guests.is_empty(), "{}", case.name);
        let mut signature: Option<(String, Signature)> = None;
        for name in &case.guests {
            let mut guest = match guest(&sandbox, &case, name) {
                Ok(guest) => guest,
                Err(why) => {
                    missing.insert(name.clone(), why);
                    continue;
                }
            };
            let (first, expected) = signature.get_or_insert_with(|| (name.clone(), guest.signature().clone()));
            assert_eq!(guest.signature(), expected, "{name} and {first} declare different columns");
            check(&case, &mut guest);
            asked += 1;
        }
    }
    assert!(asked > 0, "no guest is built; run `cargo xtask guests`");
    missing.iter().for_each(|(name, why)| skipped(name, why));
}

/// Rust is always there; compilers of other languages need not be.
fn skipped(name: &str, why: &str) {
    let may_miss = name.ends_with("-c") || name.ends_with("-go");
    assert!(may_miss && std::env::var_os("CI").is_none(), "{why}");
    println!("SKIPPED conformance of {name}: {why}");
}
