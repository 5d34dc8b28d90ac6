//! Rows there and back.

use std::sync::Arc;

use arrow_array::{Decimal128Array, Int64Array, ListArray};
use proptest::prelude::*;

use super::*;
use crate::state::cells::{Cell, array, cell};

const KINDS: [Kind; 6] = [Kind::Boolean, Kind::Int64, Kind::Float64, Kind::Text, Kind::Binary, Kind::TimestampMs];

fn cell_of(kind: Kind) -> BoxedStrategy<Cell> {
    let value = match kind {
        Kind::Boolean => any::<bool>().prop_map(Cell::Bool).boxed(),
        Kind::Int64 => any::<i64>().prop_map(Cell::Int).boxed(),
        Kind::Float64 => (-9.0..9.0).prop_map(Cell::Float).boxed(),
        Kind::Text => ".{0,20}".prop_map(Cell::Text).boxed(),
        Kind::Binary => prop::collection::vec(any::<u8>(), 0..200).prop_map(Cell::Bytes).boxed(),
        Kind::TimestampMs => any::<i64>().prop_map(Cell::Time).boxed(),
    };
    prop_oneof![5 => value, 1 => Just(Cell::Null)].boxed()
}

fn fields() -> Vec<ArrowField> {
    let plain = KINDS.iter().enumerate().map(|(at, kind)| ArrowField::new(format!("c{at}"), kind.data_type(), true));
    let others = [DataType::Decimal128(38, 0), DataType::new_list(DataType::Int64, false)];
    plain.chain(others.map(|data_type| ArrowField::new("other", data_type, false))).collect()
}

fn row() -> impl Strategy<Value = (Vec<Cell>, i128, Vec<i64>)> {
    let cells = KINDS.map(cell_of);
    (cells.to_vec(), -(1_i128 << 100)..1 << 100, prop::collection::vec(any::<i64>(), 0..5))
}

fn columns(rows: &[(Vec<Cell>, i128, Vec<i64>)]) -> Vec<ArrayRef> {
    let plain = KINDS.iter().enumerate().map(|(at, kind)| array(*kind, rows.iter().map(|row| &row.0[at])));
    let sums = Decimal128Array::from_iter_values(rows.iter().map(|row| row.1));
    let items = Int64Array::from_iter_values(rows.iter().flat_map(|row| row.2.clone()));
    let item = Arc::new(ArrowField::new_list_field(DataType::Int64, false));
    let lengths = OffsetBuffer::from_lengths(rows.iter().map(|row| row.2.len()));
    let lists = ListArray::try_new(item, lengths, Arc::new(items), None).unwrap();
    let others: [ArrayRef; 2] = [Arc::new(sums.with_precision_and_scale(38, 0).unwrap()), Arc::new(lists)];
    plain.chain(others).collect()
}

proptest! {
    #[test]
    fn rows_come_back_as_they_were(rows in prop::collection::vec(row(), 0..20)) {
        let codec = RowCodec::new(&fields()).unwrap();
        let columns = columns(&rows);
        let writer = codec.writer(&columns).unwrap();
        let mut bytes = Vec::new();
        (0..rows.len()).for_each(|row| writer.push(row, &mut bytes));
        let mut reader = codec.reader(0);
        reader.read(&bytes).unwrap().unwrap();
        prop_assert_eq!(reader.rows(), rows.len());
        let found = reader.finish().unwrap();
        for (found, column) in found.iter().zip(&columns).take(KINDS.len()) {
            for row in 0..rows.len() {
                prop_assert_eq!(cell(found, row), cell(column, row));
            }
        }
        prop_assert_eq!(&found[KINDS.len()..], &columns[KINDS.len()..]);
    }

    #[test]
    fn bytes_that_are_no_rows_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let codec = RowCodec::new(&fields()).unwrap();
        let mut reader = codec.reader(0);
        // whatever is read: no panic
        if let Some(Ok(())) = reader.read(&bytes) {
            let _ = reader.finish();
        }
    }
}
