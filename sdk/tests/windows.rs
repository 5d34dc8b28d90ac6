//! `testing::Windows`: windows as the runtime has them, and what it finds wrong with an aggregate.

#![allow(clippy::unwrap_used, clippy::panic)]

use millstream_sdk::testing::{self, Fired, Window, Windows};
use millstream_sdk::{Aggregate, Failure, Row};

#[derive(Clone, Debug, Row)]
struct Visit<'a> {
    page: &'a str,
    seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Visits {
    pages: String,
    count: i64,
    seconds: f64,
}

/// Joins pages in the order in which they come; a part that is merged is the later one.
#[derive(Default)]
struct Path;

#[millstream_sdk::aggregate]
impl Aggregate for Path {
    type Input<'a> = Visit<'a>;
    type Accumulator = Visits;
    type Output = Visits;

    fn create(&self) -> Visits {
        Visits { pages: String::new(), count: 0, seconds: 0.0 }
    }

    fn fold(&self, visits: &mut Visits, visit: Visit<'_>) {
        visits.pages.push_str(visit.page);
        visits.count += 1;
        visits.seconds += visit.seconds.unwrap_or(0.1);
    }

    fn merge(&self, left: &mut Visits, right: Visits) {
        left.pages.push_str(&right.pages);
        left.count += right.count;
        left.seconds += right.seconds;
    }

    fn finish(&self, visits: &Visits) -> Visits {
        visits.clone()
    }
}

/// Forgets to merge.
#[derive(Default)]
struct Forgetful;

#[millstream_sdk::aggregate]
impl Aggregate for Forgetful {
    type Input<'a> = Visit<'a>;
    type Accumulator = Visits;
    type Output = Visits;

    fn create(&self) -> Visits {
        Path.create()
    }

    fn fold(&self, visits: &mut Visits, visit: Visit<'_>) {
        Aggregate::fold(&Path, visits, visit);
    }

    fn merge(&self, left: &mut Visits, right: Visits) {
        left.count += right.count;
    }

    fn finish(&self, visits: &Visits) -> Visits {
        visits.clone()
    }
}

fn visit(page: &str) -> Visit<'_> {
    Visit { page, seconds: None }
}

fn windows(window: Window) -> Windows<Path> {
    Windows::new(window, &[]).unwrap()
}

/// Start, end and pages of what fired.
fn fired(fired: Result<Vec<Fired<Visits>>, Failure>) -> Vec<(i64, i64, String)> {
    fired.unwrap().into_iter().map(|fired| (fired.start_ms, fired.end_ms, fired.result.pages)).collect()
}

fn of(start_ms: i64, end_ms: i64, pages: &str) -> (i64, i64, String) {
    (start_ms, end_ms, pages.to_owned())
}

#[test]
fn a_tumbling_window_fires_at_its_last_millisecond_and_takes_nothing_more() {
    let mut windows = windows(Window::Tumbling { length_ms: 10 });
    windows.rows([(0, visit("a")), (9, visit("b")), (10, visit("c")), (-1, visit("d"))]).unwrap();
    assert_eq!(fired(windows.watermark(8)), [of(-10, 0, "d")]);
    assert_eq!(fired(windows.watermark(9)), [of(0, 10, "ab")]);
    windows.rows([(9, visit("e")), (10, visit("f"))]).unwrap();
    assert_eq!(windows.late(), 1);
    assert_eq!(fired(windows.end()), [of(10, 20, "cf")]);
}

#[test]
fn a_row_is_in_all_sliding_windows_that_hold_it_and_late_only_for_all() {
    let mut windows = windows(Window::Sliding { length_ms: 10, every_ms: 4 });
    windows.rows([(5, visit("a"))]).unwrap();
    assert_eq!(fired(windows.watermark(5)), [of(-4, 6, "a")]);
    windows.rows([(4, visit("b"))]).unwrap();
    assert_eq!((windows.late(), fired(windows.end())), (0, vec![of(0, 10, "ab"), of(4, 14, "ab")]));
}

#[test]
fn sessions_that_touch_are_one_and_a_row_between_two_joins_them() {
    let mut windows = windows(Window::Session { gap_ms: 10 });
    windows.rows([(0, visit("a")), (15, visit("b")), (40, visit("c")), (10, visit("d"))]).unwrap();
    assert_eq!(fired(windows.watermark(24)), [of(0, 25, "abd")]);
    windows.rows([(20, visit("e")), (30, visit("f"))]).unwrap();
    assert_eq!((windows.late(), fired(windows.end())), (0, vec![of(20, 50, "cef")]));
}

#[test]
fn an_aggregate_that_does_not_merge_is_found_out() {
    let mut windows: Windows<Forgetful> = Windows::new(Window::Tumbling { length_ms: 10 }, &[]).unwrap();
    windows.rows([(0, visit("a")), (1, visit("b"))]).unwrap();
    let failure = windows.end().unwrap_err();
    assert!(failure.to_string().contains("parts merged give another result"), "{failure}");
}

/// Knows where its batch begins, which no operator may.
#[millstream_sdk::map]
fn first_of_batch(rows: millstream_sdk::Columns<Numbered>) -> Result<millstream_sdk::Columns<Numbered>, String> {
    let ranks = (0..rows.rows()).map(|row| Numbered { n: i64::from(row == 0) });
    Ok(millstream_sdk::Columns::from_rows(ranks))
}

#[derive(Clone, Debug, PartialEq, Row)]
struct Numbered {
    n: i64,
}

#[test]
fn an_operator_whose_results_depend_on_its_batches_is_found_out() {
    let rows = (0..10).map(|n| Numbered { n });
    let failure = testing::map::<first_of_batch, _, Numbered>(&[], rows).unwrap_err();
    assert!(failure.to_string().contains("in a batch of their own give another result"), "{failure}");
}
