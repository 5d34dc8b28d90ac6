//! Process for tests: does what its rows say, and counts the rows of each key in the state.
//!
//! Tests make another version by writing `word-b` over [`VERSION`] in the component's file.

use std::hint::black_box;

use millstream_sdk::{Clock, Context, Process, Row, Side, Timer};

/// What tests replace; of fixed length.
static VERSION: &str = "word-a";

/// The key.
#[derive(Clone, Debug, Row)]
pub struct Key {
    pub k: Option<String>,
}

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Asked<'a> {
    /// `timer`, `forget`, `processing`, `clear`, `side`, `again`, `many`, `refuse`, `boom`, `loop`, or anything harmless
    pub word: &'a str,
    /// when the timer is to fire, or how many rows `many` are
    pub at: i64,
}

/// What is read of a row of the second input.
#[derive(Clone, Debug, Row)]
pub struct Added {
    /// how much the count grows
    pub more: i64,
}

/// What is remembered.
#[derive(Clone, Debug, Row)]
pub struct Count {
    /// rows so far
    pub rows: i64,
    /// the last word
    pub word: Option<String>,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Told {
    pub k: Option<String>,
    /// the word, or which timer fired
    pub what: String,
    /// rows so far
    pub rows: i64,
}

/// Rows that asked for it.
pub const ASIDE: Side<Told> = Side::new("aside");

/// The operator.
#[derive(Default)]
pub struct HostileProcess;

#[millstream_sdk::process(sides(ASIDE))]
impl Process for HostileProcess {
    type Key = Key;
    type Input<'a> = Asked<'a>;
    type Second<'a> = Added;
    type State = Count;
    type Output = Told;

    fn on_row(
        &self,
        Asked { word, at }: Asked<'_>,
        state: &mut Option<Count>,
        context: &mut Context<Self>,
    ) -> Result<(), String> {
        let count = state.get_or_insert(Count { rows: 0, word: None });
        count.rows += 1;
        count.word = Some(word.to_owned());
        let what = if black_box(VERSION) == "word-a" { word.to_owned() } else { format!("{word} in b") };
        let told = Told { k: context.key().k.clone(), what, rows: count.rows };
        match word {
            "timer" | "again" | "explode" => context.set_timer(at),
            "forget" => context.delete_timer(at),
            "processing" => context.set_processing_timer(at),
            "clear" => *state = None,
            "side" => context.emit_to(&ASIDE, told.clone()),
            "many" => (0..at).for_each(|_| context.emit(told.clone())),
            "refuse" => return Err("refused on purpose".to_owned()),
            "boom" => panic!("went boom on purpose"),
            "loop" => loop {
                black_box(word);
            },
            _ => {}
        }
        context.emit(told);
        Ok(())
    }

    fn on_second(&self, added: Added, state: &mut Option<Count>, _context: &mut Context<Self>) {
        state.get_or_insert(Count { rows: 0, word: None }).rows += added.more;
    }

    fn on_timer(&self, timer: Timer, state: &mut Option<Count>, context: &mut Context<Self>) -> Result<(), String> {
        let word = state.as_ref().and_then(|count| count.word.as_deref());
        match word {
            Some("again") => context.set_timer(timer.time),
            Some("explode") => return Err("a timer refused on purpose".to_owned()),
            Some("step") if timer.time < 100 => context.set_timer(timer.time + 10),
            _ => {}
        }
        let clock = if timer.clock == Clock::Event { "event" } else { "processing" };
        let told = Told {
            k: context.key().k.clone(),
            what: format!("{clock} {}", timer.time),
            rows: state.as_ref().map_or(0, |count| count.rows),
        };
        context.emit(told);
        Ok(())
    }
}
