//! Window-process for tests: adds up the rows of a window, and does what their words say.

use std::hint::black_box;

use millstream_sdk::{Row, WindowRows};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Asked<'a> {
    /// `refuse`, `boom`, `loop`, `many`, `twice`, `nothing`, or anything harmless
    pub word: &'a str,
    pub v: i64,
}

/// What comes out.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Told {
    /// rows of the window
    pub n: i64,
    pub total: i64,
    pub least: i64,
    /// the value of the first row by time, and of those of one time of the first that came
    pub first: i64,
    pub last: i64,
    /// whether times and windows fit together
    pub sound: bool,
}

/// The operator.
#[millstream_sdk::window_process]
pub fn told(window: WindowRows<Asked<'_>>) -> Result<Vec<Told>, String> {
    let mut rows = 1;
    for row in &window.rows {
        match row.word {
            "refuse" => return Err("told to refuse".to_owned()),
            "boom" => panic!("told to"),
            "loop" => while black_box(true) {},
            "many" => rows = row.v,
            "twice" => rows = 2,
            "nothing" => rows = 0,
            _ => {}
        }
    }
    let values = || window.rows.iter().map(|row| row.v);
    let in_order = window.times.is_sorted() && window.times.len() == window.rows.len();
    let told = Told {
        n: window.rows.len() as i64,
        total: values().fold(0, i64::wrapping_add),
        least: values().min().unwrap_or_default(),
        first: values().next().unwrap_or_default(),
        last: values().last().unwrap_or_default(),
        sound: in_order && window.start < window.end,
    };
    Ok(vec![told; usize::try_from(rows).unwrap_or_default()])
}
