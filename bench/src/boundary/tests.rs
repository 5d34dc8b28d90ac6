//! Tests of the boundary.

use super::rows::{Fold, amounts, bids, lines};
use super::*;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;

const ROWS: usize = 3_000;

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxOptions::default()).expect("a sandbox")
}

fn a_guest(name: &str, kind: OperatorKind) -> Guest {
    guest(&sandbox(), name, kind).expect("a guest")
}

#[test]
fn native_and_wasm_maps_give_the_same_columns() {
    let batch = amounts(7, ROWS).expect("rows");
    let made = a_guest("bench-map", OperatorKind::Mapper).transform(&batch).expect("an answer");
    assert_eq!(made, native::map(&batch).expect("an answer"));
}

#[test]
fn native_and_wasm_maps_of_text_give_the_same_columns() {
    let batch = lines(7, ROWS).expect("rows");
    let made = a_guest("uppercase", OperatorKind::Mapper).transform(&batch).expect("an answer");
    assert_eq!(made, native::uppercase(&batch).expect("an answer"));
    assert_ne!(made, batch);
}

#[test]
fn native_and_wasm_maps_of_bids_give_the_same_columns() {
    let batch = bids(7, ROWS).expect("rows");
    let made = a_guest("bench-bids", OperatorKind::Mapper).transform(&batch).expect("an answer");
    assert_eq!(made, native::bids(&batch).expect("an answer"));
    assert!((1..ROWS).contains(&made.column(1).as_boolean().true_count()));
}

#[test]
fn the_loop_of_the_sdk_gives_the_same_numbers() {
    let batch = bids(7, ROWS).expect("rows");
    let made = through_sdk::bids(&through_sdk::columns(&batch).expect("columns")).expect("an answer");
    let expected = native::bids(&batch).expect("an answer");
    let euros = expected.column(0).as_primitive::<Float64Type>().values().to_vec();
    assert_eq!(made.columns[0].values, millstream_sdk::Values::Float64(euros));
}

#[test]
fn native_and_wasm_filters_keep_the_same_rows() {
    let batch = amounts(7, ROWS).expect("rows");
    let mask = a_guest("bench-filter", OperatorKind::Filter).select(&batch).expect("an answer");
    assert_eq!(mask, native::select(&batch).expect("an answer"));
    assert!((1..ROWS).contains(&mask.true_count()));
}

#[test]
fn native_and_wasm_flat_maps_make_the_same_rows() {
    let batch = lines(7, ROWS).expect("rows");
    let made = a_guest("bench-words", OperatorKind::FlatMapper).expand(&batch).expect("an answer");
    let expected = native::expand(&batch).expect("an answer");
    assert_eq!(made.output, expected.output);
    assert_eq!(made.origin, expected.origin);
    assert!(made.origin.len() > ROWS);
}

#[test]
fn native_and_wasm_aggregates_fold_alike() {
    let fold = Fold::new(7, ROWS).expect("rows");
    let mut guest = a_guest("bench-totals", OperatorKind::Aggregator);
    let folded = guest.accumulate(&fold.groups, &fold.accumulators, &fold.input).expect("an answer");
    assert_eq!(folded, native::accumulate(&fold.groups, &fold.accumulators, &fold.input).expect("an answer"));
    assert_ne!(folded, fold.accumulators);
}
