//! What crosses the boundary, and what of it is refused.

use arrow_array::builder::{BinaryBuilder, StringBuilder};
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, BooleanArray, Float64Array, Int64Array, PrimitiveArray, RecordBatch};
use proptest::prelude::*;

use super::super::{CallError, OperatorKind, RowFailure};
use super::template::{Column, Values, Wat, echo};
use super::*;

fn all_kinds(nullable: bool) -> Vec<Field> {
    let named = |kind: &Kind| field(kind.name(), *kind);
    Kind::ALL.iter().map(|kind| if nullable { named(kind).nullable() } else { named(kind) }).collect()
}

fn echo_mapper(fields: &[Field]) -> Wat {
    Wat::new(OperatorKind::Mapper, fields, fields).function("transform", &echo(0))
}

/// A row of the batch that travels: a number from which all columns are made, or nothing.
fn batch_of(fields: &[Field], rows: &[Option<i64>]) -> RecordBatch {
    let mut text = StringBuilder::new();
    let mut binary = BinaryBuilder::new();
    for row in rows {
        text.append_option(row.map(|n| "é".repeat(usize::try_from(n.rem_euclid(5)).unwrap())));
        binary.append_option(row.map(|n| n.to_le_bytes()));
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.map(|n| n % 2 == 0)).collect::<BooleanArray>()),
        Arc::new(Int64Array::from(rows.to_vec())),
        Arc::new(rows.iter().map(|row| row.map(|n| n as f64 / 3.0)).collect::<Float64Array>()),
        Arc::new(text.finish()),
        Arc::new(binary.finish()),
        Arc::new(PrimitiveArray::<TimestampMillisecondType>::from(rows.to_vec())),
    ];
    record_batch(fields, rows.len(), columns)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_kind_comes_back_as_it_went(rows in prop::collection::vec(any::<Option<i64>>(), 1..200), skip in 0usize..100) {
        let fields = all_kinds(true);
        let whole = batch_of(&fields, &rows);
        let skip = skip.min(rows.len() - 1);
        let sliced = whole.slice(skip, rows.len() - skip);
        let mut guest = guest(OperatorKind::Mapper, &echo_mapper(&fields));
        prop_assert_eq!(&guest.transform(&whole).unwrap(), &whole);
        prop_assert_eq!(&guest.transform(&sliced).unwrap(), &sliced);
    }
}

#[test]
fn a_batch_without_columns_or_rows_is_a_batch() {
    let mut guest_without_columns = guest(OperatorKind::Mapper, &echo_mapper(&[]));
    let three = record_batch(&[], 3, vec![]);
    assert_eq!(guest_without_columns.transform(&three).unwrap().num_rows(), 3);
    let fields = all_kinds(false);
    let mut guest = guest(OperatorKind::Mapper, &echo_mapper(&fields));
    let calls = guest.counters().counts().calls;
    assert_eq!(guest.transform(&batch_of(&fields, &[])).unwrap().num_rows(), 0);
    assert_eq!(guest.counters().counts().calls, calls);
}

#[test]
fn a_batch_that_does_not_fit_the_signature_is_the_hosts_mistake() {
    let fields = [field("a", Kind::Int64)];
    let mut guest = guest(OperatorKind::Mapper, &echo_mapper(&fields));
    let nulls = record_batch(&[field("a", Kind::Int64).nullable()], 1, vec![Arc::new(Int64Array::from(vec![None]))]);
    let text = batch_of(&all_kinds(false), &[Some(1)]).project(&[3]).unwrap();
    for (wrong, expected) in [
        (record_batch(&[], 1, vec![]), "input: expected 1 columns (a: int64), got 0"),
        (nulls, "input: column `a: int64` is declared without nulls, got 1"),
        (text, "input: column `a: int64` is stored as Utf8"),
    ] {
        assert_eq!(guest.transform(&wrong), Err(CallError::Internal { reason: expected.into() }));
    }
}

#[test]
fn an_aggregator_folds_merges_and_finishes() {
    let state = [field("sum", Kind::Int64)];
    let empty: Column = (Values::Int64(vec![7]), None);
    let wat = Wat::new(OperatorKind::Aggregator, &[field("n", Kind::Int64)], &state)
        .answers_batch("create", 1, &[empty])
        .function("accumulate", &echo(2))
        .function("merge", &echo(3))
        .function("finish", &echo(0));
    let mut guest = guest(OperatorKind::Aggregator, &wat);
    let sums = |values: Vec<i64>| record_batch(&state, values.len(), vec![Arc::new(Int64Array::from(values))]);
    let input = record_batch(&[field("n", Kind::Int64)], 3, vec![Arc::new(Int64Array::from(vec![1, 2, 3]))]);
    assert_eq!(guest.signature().state.as_ref().unwrap().version, 1);
    assert_eq!(guest.create(), Ok(sums(vec![7])));
    assert_eq!(guest.accumulate(&[0, 1, 0], &sums(vec![4, 5]), &input), Ok(sums(vec![4, 5])));
    assert_eq!(guest.merge(&sums(vec![1, 2]), &sums(vec![3, 4])), Ok(sums(vec![3, 4])));
    assert_eq!(guest.finish(&sums(vec![9])), Ok(sums(vec![9])));
    assert!(matches!(guest.accumulate(&[0], &sums(vec![4]), &input), Err(CallError::Internal { .. })));
    assert!(matches!(guest.select(&input), Err(CallError::Internal { .. })));
}

#[test]
fn a_mask_has_a_zero_or_one_for_each_row() {
    let input = record_batch(&[], 3, vec![]);
    let answer = |mask: &[u8]| {
        let mut wat = Wat::new(OperatorKind::Filter, &[], &[]);
        let [at, length] = wat.string(std::str::from_utf8(mask).unwrap());
        guest(OperatorKind::Filter, &wat.answers("select", &[0, at, length])).select(&input)
    };
    assert_eq!(answer(&[1, 0, 1]).unwrap(), BooleanArray::from(vec![true, false, true]));
    let reason = |mask| answer(mask).unwrap_err().to_string();
    assert_eq!(reason(&[1, 0]), "returned a mask of 2 bytes, expected one for each of 3 rows");
    assert_eq!(reason(&[1, 2, 0]), "row 1 of the mask is 2, expected 0 (drop) or 1 (keep)");
}

#[test]
fn a_route_is_a_task_that_exists_for_each_row() {
    let answer = |routes: &[u32], targets| {
        let mut wat = Wat::new(OperatorKind::Partitioner, &[], &[]);
        let bytes: Vec<u8> = routes.iter().flat_map(|route| route.to_le_bytes()).collect();
        let [at, _] = wat.string(std::str::from_utf8(&bytes).unwrap());
        let wat = wat.answers("route", &[0, at, u32::try_from(routes.len()).unwrap()]);
        guest(OperatorKind::Partitioner, &wat).route(&record_batch(&[], 3, vec![]), targets)
    };
    assert_eq!(answer(&[2, 0, 1], 3).unwrap(), [2, 0, 1]);
    let reason = |routes, targets| answer(routes, targets).unwrap_err().to_string();
    assert_eq!(reason(&[2, 0, 1], 2), "row 0 is routed to task 2, expected 0 to 1");
    assert_eq!(reason(&[0, 0, 127], 3), "row 2 is routed to task 127, expected 0 to 2");
    assert_eq!(reason(&[0, 0], 3), "returned 2 targets, expected one for each of 3 rows");
    assert_eq!(reason(&[0; 4], 3), "returned 4 targets, expected one for each of 3 rows");
    let named = Wat::new(OperatorKind::Partitioner, &[], &[field("n", Kind::Int64)]).function("route", "unreachable");
    let component = sandbox().load_bytes("router", &named.bytes()).unwrap();
    let error = component.guest(OperatorKind::Partitioner, options()).unwrap_err().to_string();
    assert!(error.contains("outputs of a partitioner must be empty"), "{error}");
}

#[test]
fn an_expansion_names_an_input_row_for_each_row() {
    let outputs = [field("n", Kind::Int64)];
    let answer = |rows: u32, origin: &[u32], values: Vec<i64>| {
        let mut wat = Wat::new(OperatorKind::FlatMapper, &[], &outputs);
        let [rows, columns, count] = wat.batch(rows, &[(Values::Int64(values), None)]);
        let bytes: Vec<u8> = origin.iter().flat_map(|row| row.to_le_bytes()).collect();
        let [at, _] = wat.string(std::str::from_utf8(&bytes).unwrap());
        let length = u32::try_from(origin.len()).unwrap();
        let wat = wat.answers("expand", &[0, at, length, rows, columns, count]);
        guest(OperatorKind::FlatMapper, &wat).expand(&record_batch(&[], 2, vec![]))
    };
    let expansion = answer(3, &[0, 0, 1], vec![5, 6, 7]).unwrap();
    assert_eq!((expansion.origin, expansion.output.num_rows()), (vec![0, 0, 1], 3));
    assert_eq!(answer(0, &[], vec![]).unwrap().output.num_rows(), 0);
    let reason = |rows, origin, values| answer(rows, origin, values).unwrap_err().to_string();
    assert_eq!(reason(2, &[0], vec![1, 2]), "returned 1 origins, expected one for each of 2 rows");
    assert_eq!(reason(2, &[1, 0], vec![1, 2]), "origin decreases from 1 to 0 at row 1");
    assert_eq!(reason(1, &[2], vec![1]), "origin of the last row is 2, expected less than the 2 rows of the input");
    assert_eq!(reason(1, &[1], vec![1, 2]), "column `n: int64`: returned 2 values, expected 1 (one a row)");
    assert_eq!(reason(1 << 21, &[1], vec![1]), "returned 2097152 rows, at most 1048576 in one call");
}

/// Two rows are asked for; what comes instead, and how it is refused.
fn breach(output: &Field, rows: u32, columns: &[Column]) -> String {
    let wat =
        Wat::new(OperatorKind::Mapper, &[], std::slice::from_ref(output)).answers_batch("transform", rows, columns);
    let mut guest = guest(OperatorKind::Mapper, &wat);
    let error = guest.transform(&record_batch(&[], 2, vec![])).unwrap_err();
    assert_eq!(guest.counters().counts().contract_breaches, 1);
    let CallError::Contract { reason } = error else { panic!("{error:?}") };
    reason
}

#[test]
fn a_lie_about_counts_and_kinds_is_refused() {
    let int = field("n", Kind::Int64);
    let two = (Values::Int64(vec![1, 2]), None);
    assert_eq!(breach(&int, 3, std::slice::from_ref(&two)), "returned a batch of 3 rows, expected 2");
    assert_eq!(breach(&int, 2, &[]), "returned 0 columns, expected the 1 of its signature (n: int64)");
    assert_eq!(breach(&int, 2, &[(Values::Boolean(vec![1, 1]), None)]), "column `n: int64`: returned boolean values");
    assert_eq!(
        breach(&int, 2, &[(Values::Int64(vec![1]), None)]),
        "column `n: int64`: returned 1 values, expected 2 (one a row)"
    );
    assert_eq!(
        breach(&field("b", Kind::Boolean), 2, &[(Values::Boolean(vec![0, 3]), None)]),
        "column `b: boolean`: row 1 is 3, expected 0 (false) or 1 (true)"
    );
}

#[test]
fn a_lie_about_nulls_is_refused() {
    let int = field("n", Kind::Int64);
    let with = |validity: &[u8]| vec![(Values::Int64(vec![1, 2]), Some(validity.to_vec()))];
    let prefix = "column `n: int64`: ";
    assert_eq!(
        breach(&int, 2, &with(&[1, 0])),
        format!("{prefix}row 1 is null, but the signature declares the column without nulls")
    );
    assert_eq!(breach(&int, 2, &with(&[1])), format!("{prefix}returned a validity of 1 bytes, expected 2 (one a row)"));
    assert_eq!(breach(&int, 2, &with(&[9, 1])), format!("{prefix}validity of row 0 is 9, expected 0 (null) or 1"));
    let wat = Wat::new(OperatorKind::Mapper, &[], &[int]).answers_batch("transform", 2, &with(&[1, 1]));
    let batch = guest(OperatorKind::Mapper, &wat).transform(&record_batch(&[], 2, vec![])).unwrap();
    assert_eq!(batch.column(0).null_count(), 0);
}

#[test]
fn offsets_that_do_not_cut_the_bytes_into_rows_are_refused() {
    let binary = field("b", Kind::Binary);
    let reason = |offsets: &[u32]| {
        let reason = breach(&binary, 2, &[(Values::Binary(offsets.to_vec(), b"abcd".to_vec()), None)]);
        reason.strip_prefix("column `b: binary`: ").unwrap().to_owned()
    };
    assert_eq!(reason(&[]), "returned no offsets, expected 3 (rows + 1)");
    assert_eq!(reason(&[0, 4]), "returned 2 offsets, expected 3 (rows + 1)");
    assert_eq!(reason(&[1, 2, 4]), "offset 0 is 1, expected 0");
    assert_eq!(reason(&[0, 2, 3]), "the last offset is 3, expected 4 (the number of bytes)");
    assert_eq!(reason(&[0, 2, 9]), "the last offset is 9, expected 4 (the number of bytes)");
    assert_eq!(reason(&[0, 5, 4]), "offsets decrease from 5 to 4 at row 1");
    assert_eq!(reason(&[0, u32::MAX, 4]), "offsets decrease from 4294967295 to 4 at row 1");
}

#[test]
fn text_that_is_not_utf8_in_each_row_is_refused() {
    let text = field("t", Kind::Text);
    let reason =
        |offsets: &[u32], bytes: &[u8]| breach(&text, 2, &[(Values::Text(offsets.to_vec(), bytes.to_vec()), None)]);
    assert_eq!(reason(&[0, 1, 2], b"a\xff"), "column `t: text`: row 1 is not UTF-8");
    // the whole is UTF-8, the rows are halves of a character
    assert_eq!(reason(&[0, 1, 2], "é".as_bytes()), "column `t: text`: row 0 is not UTF-8");
}

#[test]
fn failures_that_a_guest_reports_reach_the_caller() {
    let input = record_batch(&[], 2, vec![]);
    let failing = |case: u32, words: &[u32]| {
        let mut wat = Wat::new(OperatorKind::Mapper, &[], &[]);
        let [at, length] = wat.string("no\nprice");
        let mut list = Vec::new();
        for row in words {
            list.extend([*row, at, length]);
        }
        let bytes: Vec<u8> = list.iter().flat_map(|word| word.to_le_bytes()).collect();
        let [list, _] = wat.string(&String::from_utf8(bytes).unwrap());
        let count = u32::try_from(words.len()).unwrap();
        let payload = if case == 0 { [list, count] } else { [at, length] };
        let wat = wat.answers("transform", &[1, case, payload[0], payload[1]]);
        let mut guest = guest(OperatorKind::Mapper, &wat);
        let error = guest.transform(&input).unwrap_err();
        (error, guest.counters().counts())
    };
    let row = |row| RowFailure { row, reason: "no price".into() };
    assert_eq!(failing(0, &[1, 0, 1]).0, CallError::Rows(vec![row(0), row(1)]));
    assert_eq!(failing(0, &[]).0.to_string(), "reported failed rows, but named none");
    assert_eq!(failing(0, &[2]).0.to_string(), "reported row 2 as failed, but the batch has 2 rows");
    let (error, counts) = failing(1, &[]);
    assert_eq!((error, counts.calls), (CallError::Batch("no price".into()), 1));
    let (error, counts) = failing(2, &[]);
    assert_eq!(error, CallError::Batch("no price (after 3 retries)".into()));
    assert_eq!((counts.calls, counts.retries, counts.instances), (4, 3, 1));
}
