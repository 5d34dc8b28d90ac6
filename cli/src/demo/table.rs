//! What people see of the demo: a line for each window as soon as it is complete, what happens in between, and on a
//! terminal the rates below.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::clock::Stopwatch;
use millstream::control::{NodeRole, Status, SwapReport};

use super::sales::{SEGMENTS, Sales, Window};
use crate::console::{self, Paint, StatusLine, Stream};
use crate::figures;

/// Results of one window come from several tasks: a window is shown when this has passed since its first.
const COMPLETE_AFTER: Duration = Duration::from_millis(200);

/// Without a status line the rates are told this often.
const RATES_EVERY: Duration = Duration::from_secs(3);

/// The live table.
pub(super) struct Table {
    paint: Paint,
    line: Option<StatusLine>,
    /// windows that have come but are not shown yet
    waiting: BTreeMap<i64, Stopwatch>,
    shown: Option<i64>,
    before: Option<Status>,
}

impl Table {
    /// Begins with the heading.
    pub(super) fn open(plain: bool) -> Self {
        let paint = Stream::Stdout.paint();
        let line = (!plain && Stream::Stdout.is_terminal() && Stream::Stderr.is_terminal()).then(StatusLine::open);
        console::result(format!(
            "{}\n\n  visits ──▶ {} ──▶ {} ──▶ sales by segment and second\n",
            paint.bold("Millstream demo: visits to a shop, through two WebAssembly operators, counted in event time"),
            paint.bold("interested.wasm"),
            paint.bold("segment.wasm"),
        ));
        let heads = SEGMENTS.iter().map(|name| format!("{name:>9}")).collect::<String>();
        console::result(paint.dim(format!("{:<10}{heads}{:>15}", "window", "revenue")));
        Self { paint, line, waiting: BTreeMap::new(), shown: None, before: None }
    }

    /// Shows the windows that are complete, and the rates.
    pub(super) fn show(&mut self, sales: &Sales, status: &Status) {
        let next = self.shown.map_or(i64::MIN, |shown| shown + 1);
        for (start, window) in sales.windows.range(next..) {
            let since = self.waiting.entry(*start).or_insert_with(Stopwatch::start);
            if since.elapsed() < COMPLETE_AFTER {
                break;
            }
            console::result(row(*start, window, self.paint));
            self.shown = Some(*start);
        }
        self.waiting.retain(|start, _| self.shown.is_none_or(|shown| *start > shown));
        self.rates(status);
    }

    fn rates(&mut self, status: &Status) {
        let since_ms = self.before.as_ref().map_or(0, |before| before.elapsed_ms);
        let during = Duration::from_millis(status.elapsed_ms.saturating_sub(since_ms));
        let due = if self.line.is_some() { Duration::from_millis(500) } else { RATES_EVERY };
        if during < due {
            return;
        }
        let node = |node: &millstream::control::NodeStatus| {
            let rows = |status: &Status| {
                status.node(&node.name).map_or(0, |node| match node.role {
                    NodeRole::Source => node.counts.rows_out,
                    NodeRole::Step | NodeRole::Sink => node.counts.rows_in,
                })
            };
            let before = self.before.as_ref().map_or(0, rows);
            format!("{} {}", node.name, figures::rate(rows(status).saturating_sub(before), during))
        };
        // what reaches the table is a handful of rows
        let busy = status.nodes.iter().filter(|node| node.role != NodeRole::Sink);
        let text = busy.map(node).collect::<Vec<_>>().join(" ▶ ");
        match &self.line {
            Some(line) => line.show(text),
            None => console::say(self.paint.dim(format!("rows a second: {text}"))),
        }
        self.before = Some(status.clone());
    }

    /// Something is about to happen.
    pub(super) fn announce(&self, text: &str) {
        console::result(self.paint.yellow(format!("── {text}")));
    }

    /// It has happened.
    pub(super) fn swapped(&self, report: &SwapReport) {
        console::result(self.paint.green(format!("── {}", swap_line(report))));
    }

    /// Shows what is left.
    pub(super) fn finish(mut self, sales: &Sales) {
        self.line = None;
        let next = self.shown.map_or(i64::MIN, |shown| shown + 1);
        for (start, window) in sales.windows.range(next..) {
            console::result(row(*start, window, self.paint));
        }
    }
}

fn row(start: i64, window: &Window, paint: Paint) -> String {
    let cell = |visits: u64| if visits == 0 { "-".to_owned() } else { figures::count(visits) };
    let cells = window.visits.iter().map(|visits| format!("{:>9}", cell(*visits))).collect::<String>();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // shown without cents, never negative
    let revenue = figures::count(window.total().round() as u64);
    format!("{}  {cells}{revenue:>15}", paint.bold(time_of_day(start)))
}

/// `swapped   segment 1a2b3c4d5e6f → 6f5e4d3c2b1a in 18 ms; tasks stood still for 21 µs`
pub(super) fn swap_line(report: &SwapReport) -> String {
    let total = Duration::try_from_secs_f64(report.total_ms / 1e3).unwrap_or_default();
    let names = report
        .swapped
        .iter()
        .map(|swapped| format!("{} {} → {}", swapped.step, figures::short(&swapped.from), figures::short(&swapped.to)));
    format!(
        "swapped   {}: loaded, checked and switched in {}; no task stood still for more than {}",
        names.collect::<Vec<_>>().join(", "),
        figures::duration(total),
        figures::duration(Duration::from_nanos(report.pause_ns))
    )
}

/// `15:04:05` of a time in ms since the epoch, UTC.
pub(super) fn time_of_day(time_ms: i64) -> String {
    let seconds = time_ms.div_euclid(1_000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_hold_before_the_epoch_too() {
        assert_eq!(
            [0, 3_661_000, -1_000, 86_400_000].map(time_of_day),
            ["00:00:00", "01:01:01", "23:59:59", "00:00:00"]
        );
    }
}
