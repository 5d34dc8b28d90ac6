//! The proof: the same visits made once more, counted by native code, and compared window by window.
//!
//! A visit depends on its number alone, so the second making gives the same visits. If a swap is what it claims to be,
//! there is one number such that every visit before it went through the old version and every visit from it on
//! through the new one, in all tasks; then the counts fit exactly. Anything else (a visit lost, counted twice, or
//! treated by the wrong version) leaves no such number.

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use millstream::control::Running;
use millstream::pipeline::build::RunOptions;
use millstream::pipeline::resolve::resolve;
use millstream::pipeline::spec::PipelineSpec;
use millstream::record::Batch;
use millstream::source::SourceKind;
use millstream::wasm::Sandbox;

use super::into_channel;
use super::sales::{SEGMENTS, Sales, Segment, Window};
use super::table::time_of_day;
use crate::failure::Failure;

/// Length of a window, ms.
const WINDOW_MS: i64 = 1_000;

/// A visit that the filter keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Visit {
    /// number among all visits
    number: u64,
    /// start of its window
    window: i64,
    amount: f64,
    /// by the old version
    old: Segment,
    /// by the new version
    new: Segment,
}

impl Visit {
    /// What `interested.wasm`, `segment.wasm` and `segment-finer.wasm` do, natively; `None` for page views.
    fn of(number: u64, time_ms: i64, event: &str, amount: f64) -> Option<Self> {
        const CART: Segment = 0;
        const SMALL: Segment = 1;
        const MEDIUM: Segment = 2;
        const LARGE: Segment = 3;
        let (old, new) = match event {
            "page_view" => return None,
            "add_to_cart" => (CART, CART),
            _ => {
                let old = if amount < 250.0 { SMALL } else { LARGE };
                let new = match amount {
                    amount if amount < 100.0 => SMALL,
                    amount if amount < 250.0 => MEDIUM,
                    _ => LARGE,
                };
                (old, new)
            }
        };
        Some(Self { number, window: time_ms.div_euclid(WINDOW_MS) * WINDOW_MS, amount, old, new })
    }
}

/// Makes the first `rows` visits again, through nothing but the source.
pub(super) async fn visits(spec: &PipelineSpec, sandbox: &Sandbox, rows: u64) -> Result<Vec<Visit>, Failure> {
    let mut spec = spec.clone();
    for source in &mut spec.sources {
        if let SourceKind::Generator(generator) = &mut source.kind.value {
            // the pace gave the distance between event times; without one it must be said
            generator.interval_ns = generator.interval_ns.or(generator.rate.map(|rate| 1_000_000_000 / rate.max(1)));
            (generator.rate, generator.rows) = (None, Some(rows));
        }
    }
    let from: Vec<_> = spec.sources.iter().map(|source| source.name.clone()).collect();
    spec.steps.clear();
    spec.sinks.iter_mut().for_each(|sink| sink.from.clone_from(&from));
    let mut batches = into_channel(&mut spec, 8);
    let running = Running::start(resolve(spec, sandbox)?, sandbox.clone(), &RunOptions::default()).await?;
    let ended = tokio::spawn(running.wait());
    let mut visits = Vec::new();
    let mut number = 0;
    while let Some(batch) = batches.recv().await {
        take(&batch, &mut number, &mut visits)?;
    }
    ended.await.map_err(|error| Failure::Process { what: "recount", reason: error.to_string() })??;
    Ok(visits)
}

fn take(batch: &Batch, number: &mut u64, visits: &mut Vec<Visit>) -> Result<(), Failure> {
    let missing = |name: &str| Failure::NotVerified(format!("visits have no column `{name}`"));
    let columns = batch.columns();
    let events = columns.column_by_name("event").and_then(|column| column.as_string_opt::<i32>());
    let amounts = columns.column_by_name("amount").and_then(|column| column.as_primitive_opt::<Float64Type>());
    let (events, amounts) = (events.ok_or_else(|| missing("event"))?, amounts.ok_or_else(|| missing("amount"))?);
    for (row, time_ms) in batch.times().iter().enumerate() {
        visits.extend(Visit::of(*number, *time_ms, events.value(row), amounts.value(row)));
        *number += 1;
    }
    Ok(())
}

/// Compares; the number of the first visit that the new version treated, where there was a swap that shows.
pub(super) fn compare(visits: &[Visit], sales: &Sales, swapped: bool) -> Result<Option<u64>, String> {
    let mut cut = None;
    let mut compared = 0;
    for visits in visits.chunk_by(|left, right| left.window == right.window) {
        let Some(start) = visits.first().map(|visit| visit.window) else { continue };
        let counted = sales.windows.get(&start).copied().unwrap_or_default();
        compared += 1;
        let expected = if cut.is_some() { window(visits, 0) } else { window(visits, visits.len()) };
        if same(&expected, &counted) {
            continue;
        }
        let from = if swapped && cut.is_none() { cut_in(visits, &counted) } else { None };
        match from.and_then(|position| visits.get(position)) {
            Some(visit) => cut = Some(visit.number),
            None => return Err(difference(start, &expected, &counted)),
        }
    }
    if compared != sales.windows.len() {
        return Err(format!("{} windows came, {compared} were expected", sales.windows.len()));
    }
    Ok(cut)
}

/// A window in which the first `old` visits went through the old version and the others through the new one.
fn window(visits: &[Visit], old: usize) -> Window {
    let mut window = Window::default();
    for (position, visit) in visits.iter().enumerate() {
        window.add(if position < old { visit.old } else { visit.new }, visit.amount);
    }
    window
}

/// The position from which on visits must have gone through the new version for the counts to be what they are.
fn cut_in(visits: &[Visit], counted: &Window) -> Option<usize> {
    let mut counts = window(visits, 0).visits;
    for (position, visit) in visits.iter().enumerate() {
        if counts == counted.visits && same(&window(visits, position), counted) {
            return Some(position);
        }
        if let Some(new) = counts.get_mut(visit.new) {
            *new -= 1;
        }
        if let Some(old) = counts.get_mut(visit.old) {
            *old += 1;
        }
    }
    None
}

/// Counts must be equal; sums of floating point numbers depend on the order by their last digits.
fn same(expected: &Window, counted: &Window) -> bool {
    let close = |(left, right): (&f64, &f64)| (left - right).abs() <= 1e-9 * left.abs().max(1.0);
    expected.visits == counted.visits && expected.revenue.iter().zip(&counted.revenue).all(close)
}

fn difference(start: i64, expected: &Window, counted: &Window) -> String {
    let list = |window: &Window| {
        let parts = SEGMENTS.iter().zip(window.visits).map(|(name, visits)| format!("{name} {visits}"));
        format!("{} (revenue {:.2})", parts.collect::<Vec<_>>().join(", "), window.total())
    };
    format!("window {}: expected {}; counted {}", time_of_day(start), list(expected), list(counted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three windows of 300 visits, every third an order.
    fn some() -> Vec<Visit> {
        let visit = |number: u64| {
            let event = if number.is_multiple_of(3) { "order" } else { "add_to_cart" };
            let amount = if event == "order" { (number * 7 % 499) as f64 } else { 0.0 };
            Visit::of(number, number as i64 * 10 / 3, event, amount)
        };
        (0..900).filter_map(visit).collect()
    }

    fn sold(visits: &[Visit], cut: u64) -> Sales {
        let mut sales = Sales::default();
        for visit in visits {
            let segment = if visit.number < cut { visit.old } else { visit.new };
            sales.windows.entry(visit.window).or_default().add(segment, visit.amount);
        }
        sales
    }

    #[test]
    fn one_cut_through_all_tasks_is_found() {
        let visits = some();
        // the cut shows at the first visit from it on that the versions treat differently
        for cut in [150, 301, 600, 777] {
            let found = compare(&visits, &sold(&visits, cut), true).unwrap().unwrap();
            let differs = |visit: &&Visit| visit.old != visit.new;
            let between = found.min(cut)..found.max(cut);
            assert_eq!(
                visits.iter().filter(differs).filter(|visit| between.contains(&visit.number)).count(),
                0,
                "{cut}"
            );
        }
        assert_eq!(compare(&visits, &sold(&visits, 900), true), Ok(None));
        assert_eq!(compare(&visits, &sold(&visits, 900), false), Ok(None));
    }

    #[test]
    fn a_visit_lost_doubled_or_treated_by_the_wrong_version_is_noticed() {
        let visits = some();
        let lost: Vec<Visit> = visits.iter().copied().filter(|visit| visit.number != 400).collect();
        assert!(compare(&visits, &sold(&lost, 450), true).unwrap_err().contains("expected"));
        let mut doubled = visits.clone();
        doubled.push(visits[700]);
        assert!(compare(&visits, &sold(&doubled, 450), true).is_err());
        // two tasks that changed at different visits
        let task = |odd: bool, cut| {
            sold(&visits.iter().copied().filter(|v| (v.number % 2 == 1) == odd).collect::<Vec<_>>(), cut)
        };
        let (mut both, late) = (task(true, 100), task(false, 700));
        for (start, window) in late.windows {
            let sum = both.windows.entry(start).or_default();
            (0..SEGMENTS.len()).for_each(|i| {
                sum.visits[i] += window.visits[i];
                sum.revenue[i] += window.revenue[i];
            });
        }
        assert!(compare(&visits, &both, true).is_err());
        assert!(compare(&visits, &sold(&visits, 450), false).is_err(), "a swap that nobody asked for");
        let mut extra = sold(&visits, 450);
        extra.windows.insert(99_000, Window::default());
        assert_eq!(compare(&visits, &extra, true).unwrap_err(), "4 windows came, 3 were expected");
    }
}
