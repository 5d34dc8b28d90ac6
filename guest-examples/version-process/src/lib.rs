//! Process for tests of swaps: numbers the rows of each key and puts its version beside them; when the input ends, a timer
//! tells how many there were.
//!
//! Tests make the other version by writing `version-000b` over [`VERSION`] in the component's file.

use std::hint::black_box;

use millstream_sdk::{Context, Process, Row, Side, Timer};

/// What tests replace; of fixed length.
static VERSION: &str = "version-000a";

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

/// What is remembered.
#[derive(Clone, Debug, Row)]
pub struct Seen {
    pub seen_rows: i64,
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
pub struct VersionProcess;

#[millstream_sdk::process(sides(TOTALS))]
impl Process for VersionProcess {
    type Key = Key;
    type Input<'a> = Numbered;
    type State = Seen;
    type Output = Told;

    fn on_row(&self, row: Numbered, state: &mut Option<Seen>, context: &mut Context<Self>) {
        let seen = state.get_or_insert(Seen { seen_rows: 0 });
        seen.seen_rows += 1;
        let (key, number) = (context.key().key, seen.seen_rows);
        context.set_timer(i64::MAX);
        context.emit(Told { key, sequence: row.sequence, version: black_box(VERSION).to_owned(), number });
    }

    fn on_timer(&self, _timer: Timer, state: &mut Option<Seen>, context: &mut Context<Self>) {
        if let Some(seen) = state.take() {
            let key = context.key().key;
            context.emit_to(&TOTALS, Total { key, rows: seen.seen_rows });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_sdk::testing::Processing;

    #[test]
    fn rows_are_numbered_and_summed_up_at_the_end() {
        let mut process = Processing::<VersionProcess>::new(&[]).unwrap();
        for sequence in [7, 8] {
            process.row(Key { key: 1 }, Numbered { sequence }, 0).unwrap();
        }
        process.watermark(i64::MAX).unwrap();
        let numbers: Vec<i64> = process.take().unwrap().iter().map(|(_, told)| told.number).collect();
        assert_eq!(numbers, [1, 2]);
        assert_eq!(process.take_side(&TOTALS).unwrap(), [(i64::MAX, Total { key: 1, rows: 2 })]);
    }
}
