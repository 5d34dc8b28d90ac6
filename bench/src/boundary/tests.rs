//! Tests of the boundary.

use super::rows::{Fold, amounts, lines};
use super::*;

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
