//! Window-process: the way of a customer through a session, page by page. Sessions of one page have none.

use millstream_sdk::{Row, WindowRows};

/// What is read of a row.
#[derive(Clone, Debug, Row)]
pub struct Visit<'a> {
    pub page: &'a str,
}

/// What comes out for each step of the way.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Step {
    /// from 1
    pub step: i64,
    pub from: String,
    pub to: String,
    /// how long the customer stayed on the page that was left, ms
    pub after_ms: i64,
}

#[millstream_sdk::window_process]
pub fn path(window: WindowRows<Visit<'_>>) -> Vec<Step> {
    let pairs = window.rows.windows(2).zip(window.times.windows(2));
    let step = |(number, (pages, times)): (i64, (&[Visit<'_>], &[i64]))| Step {
        step: number,
        from: pages[0].page.to_owned(),
        to: pages[1].page.to_owned(),
        after_ms: times[1] - times[0],
    };
    (1..).zip(pairs).map(step).collect()
}
