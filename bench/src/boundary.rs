//! What it costs that logic is a guest: the same logic as a component and as a native function, over the same columns,
//! each making fresh output. Where the guest's loop is the SDK's, `native` is that same loop, and a further side is what a native
//! author would write by hand over Arrow columns.

mod native;
mod rows;
mod through_sdk;

#[cfg(test)]
mod tests;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use millstream::wasm::{Guest, GuestOptions, OperatorKind, Sandbox, SandboxOptions};

use crate::arguments::Arguments;
use crate::measure::{Clock, Failed, Group, Side};
use crate::{Measure, Wanted, guests};

use rows::{Fold, Pool};

/// Rows of a call.
const SIZES: [usize; 3] = [64, 1_024, 8_192];

/// All groups of this kind.
pub(crate) fn groups(_: &Arguments, wanted: &Wanted<'_>, measure: &mut Measure<'_>) -> Result<(), Failed> {
    // compiled anew where nothing is cached: never what is measured
    let sandbox = Sandbox::new(SandboxOptions::default()).map_err(|error| error.to_string())?;
    let kinds: [(&str, Make); 7] = [
        ("map", map),
        ("map of text", map_text),
        ("map of three columns", map_bids),
        ("filter", filter),
        ("mask of a filter", mask),
        ("flat_map", flat_map),
        ("aggregate", aggregate),
    ];
    for (name, make) in kinds {
        for rows in SIZES {
            let name = format!("boundary: {name}, {rows} rows a call");
            if wanted(&name) {
                measure(make(&sandbox, name, rows)?)?;
            }
        }
    }
    let name = "boundary: call with 1 row";
    if wanted(name) {
        measure(fixed(&sandbox, name.to_owned())?)?;
    }
    Ok(())
}

type Make = fn(&Sandbox, String, usize) -> Result<Group<'static>, Failed>;

fn thread_cpu(name: String, unit: &'static str, sides: Vec<Side<'static>>) -> Group<'static> {
    Group { name, clock: Clock::ThreadCpu, unit, sides }
}

/// A guest as a task has it.
fn guest(sandbox: &Sandbox, name: &str, kind: OperatorKind) -> Result<Guest, Failed> {
    let component = sandbox.load(&guests::path(name)?).map_err(|error| error.to_string())?;
    component.guest(kind, GuestOptions::new(name)).map_err(|error| error.to_string())
}

fn map(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "bench-map", OperatorKind::Mapper)?;
    let (pool, same) = (Pool::amounts(rows), Pool::amounts(rows));
    let batches = pool.as_each(through_sdk::columns)?;
    let native = Side::new("native", move || rows::each(&batches, through_sdk::map));
    let by_hand = Side::new("native, by hand over Arrow", move || pool.each(native::map));
    let wasm = Side::new("wasm", move || same.each(|batch| guest.transform(batch).map_err(|error| error.to_string())));
    Ok(thread_cpu(name, "row", vec![native, by_hand, wasm]))
}

fn map_text(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "uppercase", OperatorKind::Mapper)?;
    let (pool, same) = (Pool::lines(rows), Pool::lines(rows));
    let native = Side::new("native", move || pool.each(native::uppercase));
    let wasm = Side::new("wasm", move || same.each(|batch| guest.transform(batch).map_err(|error| error.to_string())));
    Ok(thread_cpu(name, "row", vec![native, wasm]))
}

fn map_bids(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "bench-bids", OperatorKind::Mapper)?;
    let (pool, same) = (Pool::bids(rows), Pool::bids(rows));
    let batches = pool.as_each(through_sdk::columns)?;
    let native = Side::new("native", move || rows::each(&batches, through_sdk::bids));
    let by_hand = Side::new("native, by hand over Arrow", move || pool.each(native::bids));
    let wasm = Side::new("wasm", move || same.each(|batch| guest.transform(batch).map_err(|error| error.to_string())));
    Ok(thread_cpu(name, "row", vec![native, by_hand, wasm]))
}

/// The mask, then the kept rows: what a filter step does.
fn filter(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "bench-filter", OperatorKind::Filter)?;
    let (pool, same) = (Pool::amounts(rows), Pool::amounts(rows));
    let native = Side::new("native", move || pool.each(|batch| kept(batch, &native::select(batch)?)));
    let wasm = Side::new("wasm", move || {
        same.each(|batch| kept(batch, &guest.select(batch).map_err(|error| error.to_string())?))
    });
    Ok(thread_cpu(name, "row", vec![native, wasm]))
}

/// The mask alone: all that the guest has a part in.
fn mask(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "bench-filter", OperatorKind::Filter)?;
    let (pool, same) = (Pool::amounts(rows), Pool::amounts(rows));
    let native = Side::new("native", move || pool.each(native::select));
    let wasm = Side::new("wasm", move || same.each(|batch| guest.select(batch).map_err(|error| error.to_string())));
    Ok(thread_cpu(name, "row", vec![native, wasm]))
}

fn flat_map(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "bench-words", OperatorKind::FlatMapper)?;
    let (pool, same) = (Pool::lines(rows), Pool::lines(rows));
    let native = Side::new("native", move || pool.each(native::expand));
    let wasm = Side::new("wasm", move || same.each(|batch| guest.expand(batch).map_err(|error| error.to_string())));
    Ok(thread_cpu(name, "row", vec![native, wasm]))
}

fn aggregate(sandbox: &Sandbox, name: String, rows: usize) -> Result<Group<'static>, Failed> {
    let mut guest = guest(sandbox, "bench-totals", OperatorKind::Aggregator)?;
    let (folds, same) = (Fold::pool(rows), Fold::pool(rows));
    let native = Side::new("native", move || {
        rows::each(&folds, |fold| native::accumulate(&fold.groups, &fold.accumulators, &fold.input))
    });
    let wasm = Side::new("wasm", move || {
        rows::each(&same, |fold| {
            let folded = guest.accumulate(&fold.groups, &fold.accumulators, &fold.input);
            folded.map_err(|error| error.to_string())
        })
    });
    Ok(thread_cpu(name, "row", vec![native, wasm]))
}

fn kept(batch: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch, Failed> {
    filter_record_batch(batch, mask).map_err(|error| error.to_string())
}

/// One row a call: what is left is the cost of calling.
fn fixed(sandbox: &Sandbox, name: String) -> Result<Group<'static>, Failed> {
    let mut mapper = guest(sandbox, "bench-map", OperatorKind::Mapper)?;
    let mut selector = guest(sandbox, "bench-filter", OperatorKind::Filter)?;
    let row = rows::amounts(0, 1)?;
    let (for_map, for_filter) = (row.clone(), row.clone());
    let calls = 1_000;
    let native = Side::new("native map", move || repeat(calls, || native::map(&row)));
    let map =
        Side::new("wasm map", move || repeat(calls, || mapper.transform(&for_map).map_err(|error| error.to_string())));
    let filter = Side::new("wasm filter", move || {
        repeat(calls, || selector.select(&for_filter).map_err(|error| error.to_string()))
    });
    Ok(thread_cpu(name, "call", vec![native, map, filter]))
}

fn repeat<T>(calls: u64, mut call: impl FnMut() -> Result<T, Failed>) -> Result<u64, Failed> {
    for _ in 0..calls {
        std::hint::black_box(call()?);
    }
    Ok(calls)
}
