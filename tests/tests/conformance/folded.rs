//! Aggregates: the answer is the same whether rows are folded at once, one part after the other, or each part by itself
//! and the results merged.

use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use millstream::record::Kind;
use millstream::wasm::Guest;
use millstream_tests::run;

use super::{Case, Row, as_rows, columns, cuts};

pub(crate) fn check(case: &Case, guest: &mut Guest) {
    let whole = columns::batch(case, &guest.signature().inputs.clone());
    let name = format!("{} of {}", guest.component().name(), case.name);
    let groups = case.groups.as_slice();
    let fresh = fresh(guest, case.accumulators.unwrap_or(0));
    let wanted = as_rows(&case.expected);
    let folded = guest.accumulate(groups, &fresh, &whole).unwrap();
    assert_eq!(finished(guest, &folded), wanted, "{name}");
    for cut in cuts(whole.num_rows()) {
        let (before, behind) = (whole.slice(0, cut), whole.slice(cut, whole.num_rows() - cut));
        let left = guest.accumulate(&groups[..cut], &fresh, &before).unwrap();
        let on = guest.accumulate(&groups[cut..], &left, &behind).unwrap();
        assert_eq!(finished(guest, &on), wanted, "{name}: folded on from row {cut}");
        let right = guest.accumulate(&groups[cut..], &fresh, &behind).unwrap();
        let merged = guest.merge(&left, &right).unwrap();
        assert_eq!(finished(guest, &merged), wanted, "{name}: merged at row {cut}");
    }
}

fn finished(guest: &mut Guest, accumulators: &RecordBatch) -> Vec<Row> {
    run::record_batch_rows(&guest.finish(accumulators).unwrap())
}

/// As many accumulators without rows as there are groups.
fn fresh(guest: &mut Guest, groups: usize) -> RecordBatch {
    let one = guest.create().unwrap();
    let state = guest.signature().state.clone().unwrap().fields;
    let row = &run::record_batch_rows(&one)[0];
    let columns = state.fields().iter().map(|field| -> ArrayRef {
        let value = &row[&field.name];
        match field.kind {
            Kind::Int64 => Arc::new(Int64Array::from(vec![value.as_i64().unwrap(); groups])),
            Kind::Float64 => Arc::new(Float64Array::from(vec![value.as_f64().unwrap(); groups])),
            other => panic!("no case has accumulators of kind {other}"),
        }
    });
    RecordBatch::try_new(Arc::clone(state.arrow()), columns.collect()).unwrap()
}
