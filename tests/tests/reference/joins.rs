//! Joins: loops over all pairs of rows.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::drive::{Expected, Question, holds};
use crate::events::{Event, Model, Nulls, Row, events, replay};
use crate::windows::{Window, timed};

/// A row, and how far event time was when it came.
#[derive(Clone, Debug)]
struct Came {
    row: Row,
    watermark: i64,
}

/// All rows, in their order.
struct Rows {
    watermark: i64,
    rows: Vec<Came>,
}

impl Model for Rows {
    fn row(&mut self, row: &Row) {
        self.rows.push(Came { row: row.clone(), watermark: self.watermark });
    }

    fn advance(&mut self, watermark: i64) {
        self.watermark = watermark;
    }
}

impl Came {
    fn time(&self) -> i64 {
        self.row.time.unwrap()
    }
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    /// whether rows without partner come out, by side
    alone: [bool; 2],
}

const KINDS: [Kind; 4] = [
    Kind { name: "inner", alone: [false; 2] },
    Kind { name: "left", alone: [true, false] },
    Kind { name: "right", alone: [false, true] },
    Kind { name: "full", alone: [true; 2] },
];

/// Pairs of one key for which `meet` holds, and rows that have none.
fn joined(kind: Kind, rows: &[&Came], beside: &Value, meet: impl Fn(&Came, &Came) -> bool) -> Vec<Value> {
    let side = |side: usize| rows.iter().copied().filter(move |came| came.row.source == side);
    let pair = |a: &Came, b: &Came| a.row.key.is_some() && a.row.key == b.row.key && meet(a, b);
    let mut results = Vec::new();
    let mut result = |of: &Came, a: Option<&Came>, b: Option<&Came>| {
        let mut result = json!({ "k": of.row.key(), "id": a.map(|a| a.row.id), "other": b.map(|b| b.row.id) });
        result.as_object_mut().unwrap().extend(beside.as_object().unwrap().clone());
        results.push(result);
    };
    for a in side(0) {
        side(1).filter(|b| pair(a, b)).for_each(|b| result(a, Some(a), Some(b)));
        if kind.alone[0] && !side(1).any(|b| pair(a, b)) {
            result(a, Some(a), None);
        }
    }
    for b in side(1) {
        if kind.alone[1] && !side(0).any(|a| pair(a, b)) {
            result(b, None, Some(b));
        }
    }
    results
}

fn in_windows(rows: &[Came], kind: Kind, window: Window) -> (Vec<Value>, u64) {
    let open = |came: &Came| {
        let windows = window.of(came.time()).into_iter().filter(|(_, end)| end - 1 > came.watermark);
        windows.collect::<Vec<_>>()
    };
    let mut bounds: Vec<_> = rows.iter().flat_map(open).collect();
    bounds.sort_unstable();
    bounds.dedup();
    let of = |(start, end): (i64, i64)| {
        let inside: Vec<&Came> = rows.iter().filter(|came| open(came).contains(&(start, end))).collect();
        joined(kind, &inside, &json!({ "window_start": start, "window_end": end }), |_, _| true)
    };
    (bounds.into_iter().flat_map(of).collect(), rows.iter().filter(|came| open(came).is_empty()).count() as u64)
}

/// A session: its start, its end and its rows.
type Session<'a> = (i64, i64, Vec<&'a Came>);

/// Sessions of the rows of both sides; a row without a key is one by itself.
fn in_sessions(rows: &[Came], kind: Kind, gap: i64) -> (Vec<Value>, u64) {
    let (mut sessions, mut late): (Vec<Session<'_>>, u64) = (Vec::new(), 0);
    for came in rows {
        let (mut start, mut end, mut all) = (came.time(), came.time() + gap, Vec::new());
        let touches = |session: &mut Session<'_>| {
            // what has fired is gone
            let open = session.1 - 1 > came.watermark;
            let of_key = came.row.key.is_some() && session.2[0].row.key == came.row.key;
            open && of_key && session.0 <= came.time() + gap && came.time() <= session.1
        };
        let touched: Vec<_> = sessions.extract_if(.., touches).collect();
        if touched.is_empty() && end - 1 <= came.watermark {
            late += 1;
            continue;
        }
        for session in touched {
            (start, end) = (start.min(session.0), end.max(session.1));
            all.extend(session.2);
        }
        all.push(came);
        sessions.push((start, end, all));
    }
    let of = |(start, end, rows): &(i64, i64, Vec<&Came>)| {
        joined(kind, rows, &json!({ "window_start": start, "window_end": end }), |_, _| true)
    };
    (sessions.iter().flat_map(of).collect(), late)
}

/// One step that joins, and what its model says of all rows.
fn question(events: Vec<Event>, shuffle: u64, step: &str, model: impl Fn(&[Came]) -> (Vec<Value>, u64)) -> Question {
    let mut rows = Rows { watermark: i64::MIN, rows: Vec::new() };
    replay(&events, 2, &mut rows);
    let (results, late) = model(&rows.rows);
    Question {
        steps: format!("[step.out]\nfrom = \"a\"\n{step}\n"),
        columns: vec!["k = \"text?\", id = \"int64\"", "k = \"text?\", other = \"int64\""],
        cells: |row| json!({ "k": row.key(), (if row.source == 0 { "id" } else { "other" }): row.id }),
        events,
        shuffle: Some(shuffle),
        expected: Expected { sinks: vec![("out", results)], late, dead: 0 },
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(KINDS.to_vec())
}

const WITH: &str = "with = \"b\", on = [\"k\"]";

#[test]
fn rows_of_one_window_are_all_pairs_in_it() {
    holds(60, (events(2, Nulls::Cells), timed(), kinds(), any::<u64>()), |(events, window, kind, shuffle)| {
        let select = "select = [\"k\", \"id\", \"other\", \"window_start\", \"window_end\"]";
        let name = kind.name;
        let step = format!("window = {}\njoin = {{ {WITH}, kind = \"{name}\", {select} }}", window.toml());
        question(events, shuffle, &step, |rows| match window {
            Window::Session { gap } => in_sessions(rows, kind, gap),
            _ => in_windows(rows, kind, window),
        })
    });
}

#[test]
fn rows_within_bounds_are_all_pairs_that_are() {
    let exclusive = prop::sample::select(vec![("none", 0, 0), ("lower", 1, 0), ("upper", 0, 1), ("both", 1, 1)]);
    // bounds that leave something however they are cut
    let bounds = (-25i64..15, 2i64..25).prop_map(|(lower, width)| (lower, lower + width));
    let drawn = (events(2, Nulls::Cells), bounds, exclusive, kinds(), any::<u64>());
    holds(60, drawn, |(events, (lower, upper), (ends, above, below), kind, shuffle)| {
        let ends = if ends == "none" { String::new() } else { format!(", exclusive = \"{ends}\"") };
        let select = "select = [\"k\", \"id\", \"other\"]";
        let name = kind.name;
        let step =
            format!("join = {{ {WITH}, between = [\"{lower}ms\", \"{upper}ms\"]{ends}, kind = \"{name}\", {select} }}");
        question(events, shuffle, &step, |rows| {
            let (late, in_time): (Vec<&Came>, _) = rows.iter().partition(|came| came.time() <= came.watermark);
            let meet = |a: &Came, b: &Came| (lower + above..=upper - below).contains(&(b.time() - a.time()));
            (joined(kind, &in_time, &json!({}), meet), late.len() as u64)
        })
    });
}

#[test]
fn rows_that_meet_whenever_they_come_are_all_pairs() {
    let drawn = (events(2, Nulls::Cells), prop::option::of(1i64..40), any::<u64>());
    holds(40, drawn, |(events, ttl, shuffle)| {
        let state_ttl = ttl.map_or(String::new(), |ttl| format!(", state_ttl = \"{ttl}ms\""));
        let step = format!("join = {{ {WITH}{state_ttl}, select = [\"k\", \"id\", \"other\"] }}");
        question(events, shuffle, &step, |rows| {
            let forgotten = |came: &Came, watermark: i64| ttl.is_some_and(|ttl| came.time() + ttl <= watermark);
            let (late, in_time): (Vec<&Came>, _) = rows.iter().partition(|came| forgotten(came, came.watermark));
            let meet = |a: &Came, b: &Came| {
                let (earlier, later) = if a.row.id < b.row.id { (a, b) } else { (b, a) };
                let near = ttl.is_none_or(|ttl| (a.time() - b.time()).abs() <= ttl);
                near && !forgotten(earlier, later.watermark)
            };
            (joined(KINDS[0], &in_time, &json!({}), meet), late.len() as u64)
        })
    });
}

#[test]
fn a_row_finds_what_came_last_for_its_key() {
    let drawn = (events(2, Nulls::Cells), any::<bool>(), any::<u64>());
    holds(40, drawn, |(events, left, shuffle)| {
        let kind = if left { "left" } else { "inner" };
        let step = format!("lookup = {{ {WITH}, kind = \"{kind}\", select = [\"k\", \"id\", \"other\"] }}");
        question(events, shuffle, &step, |rows| {
            let found = |(at, came): (usize, &Came)| {
                let of_key = |other: &&Came| other.row.source == 1 && other.row.key == came.row.key;
                let last = rows[..at].iter().rfind(of_key).filter(|_| came.row.key.is_some());
                let result = json!({ "k": came.row.key(), "id": came.row.id, "other": last.map(|b| b.row.id) });
                (left || last.is_some()).then_some(result)
            };
            let asked = rows.iter().enumerate().filter(|(_, came)| came.row.source == 0);
            (asked.filter_map(found).collect(), 0)
        })
    });
}
