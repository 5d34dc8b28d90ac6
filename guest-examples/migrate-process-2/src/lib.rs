//! Process for tests of migrations: `version-process` with more state, which it takes over.
//!
//! Tests make one that does not take over all by writing `not-thirteen` over [`MODE`] in the component's file.

use std::hint::black_box;

use millstream_sdk::{Context, Process, Row, Side, Timer};

/// What tests replace; of fixed length.
static MODE: &str = "migrates-all";

/// The key.
#[derive(Clone, Debug, Row)]
pub struct Key {
    pub key: i64,
}

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Numbered {
    pub sequence: i64,
}

/// What version 1 remembers.
#[derive(Clone, Debug, Row)]
pub struct SeenV1 {
    pub seen_rows: i64,
}

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Seen {
    /// where they come from
    pub note: String,
    pub seen_rows: i64,
    /// the last of them, once this version has seen one
    pub last: Option<i64>,
}

impl From<SeenV1> for Seen {
    fn from(older: SeenV1) -> Self {
        assert!(black_box(MODE) != "not-thirteen" || older.seen_rows != 13, "13 rows were not expected");
        Self { note: format!("{} of version 1", older.seen_rows), seen_rows: older.seen_rows, last: None }
    }
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Told {
    pub key: i64,
    pub sequence: i64,
    pub version: String,
    /// which of the key's rows it is, from 1
    pub number: i64,
}

/// How many rows a key had.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Total {
    pub key: i64,
    pub rows: i64,
}

/// Comes at the end of the input.
pub const TOTALS: Side<Total> = Side::new("totals");

/// The operator.
#[derive(Default)]
pub struct MigrateProcess;

#[millstream_sdk::process(version = 2, migrate(1 = SeenV1), sides(TOTALS))]
impl Process for MigrateProcess {
    type Key = Key;
    type Input<'a> = Numbered;
    type State = Seen;
    type Output = Told;

    fn on_row(&self, row: Numbered, state: &mut Option<Seen>, context: &mut Context<Self>) {
        let seen = state.get_or_insert(Seen { note: String::new(), seen_rows: 0, last: None });
        seen.seen_rows += 1;
        seen.last = Some(row.sequence);
        let (key, number) = (context.key().key, seen.seen_rows);
        context.set_timer(i64::MAX);
        context.emit(Told { key, sequence: row.sequence, version: "version-0002".to_owned(), number });
    }

    fn on_timer(&self, _timer: Timer, state: &mut Option<Seen>, context: &mut Context<Self>) {
        if let Some(seen) = state.take() {
            let key = context.key().key;
            context.emit_to(&TOTALS, Total { key, rows: seen.seen_rows });
        }
    }
}
