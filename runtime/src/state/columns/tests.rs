//! Tests of the columns.

use super::*;
use crate::record::{Field, Kind};
use crate::state::cells::{Cell, batch, rows};

fn schema() -> Schema {
    let field = |at: usize, kind: Kind, nullable| Field { name: format!("{kind}{at}"), kind, nullable };
    let all = Kind::ALL.iter().enumerate();
    Schema::new(all.flat_map(|(at, kind)| [field(at, *kind, false), field(at, *kind, true)]).collect::<Vec<_>>())
}

fn row(of: i64, null: bool) -> Vec<Cell> {
    let text = "x".repeat(of as usize);
    let cells = [
        Cell::Bool(of % 2 == 1),
        Cell::Int(of),
        Cell::Float(of as f64 / 2.0),
        Cell::Text(text.clone()),
        Cell::Bytes(text.into_bytes()),
        Cell::Time(-of),
    ];
    cells.into_iter().flat_map(|cell| [cell.clone(), if null { Cell::Null } else { cell }]).collect()
}

fn columns() -> Columns {
    let mut columns = Columns::new(&schema(), &batch(&schema(), &[row(1, true)])).unwrap();
    columns.allocate(0);
    columns.allocate(3);
    columns
}

#[test]
fn what_was_scattered_is_gathered() {
    let mut columns = columns();
    let written = [row(5, false), row(0, true), row(700, false)];
    let sliced = batch(&schema(), &[vec![row(9, true)], written.to_vec()].concat()).slice(1, 3);
    columns.scatter(&[800, 2, 7], &sliced).unwrap();
    columns.scatter(&[7], &batch(&schema(), &[row(3, true)])).unwrap();
    let found = rows(columns.gather(&[7, 2, 800, 1]).unwrap().columns());
    assert_eq!(found, [row(3, true), row(0, true), row(5, false), row(1, true)]);
}

#[test]
fn a_replaced_long_value_gives_its_memory_back() {
    let mut value = Some(vec![0; 100_000]);
    overwrite(&mut value, Some(b"ab"));
    assert!(value.is_some_and(|value| value == b"ab" && value.capacity() < 100));
}

#[test]
fn another_initial_row_reaches_untouched_slots_only() {
    let mut columns = columns();
    columns.scatter(&[0], &batch(&schema(), &[row(1, true)])).unwrap();
    let other = Columns::new(&schema(), &batch(&schema(), &[row(8, false)])).unwrap();
    columns.set_initial(&other, |slot| slot != 0);
    columns.allocate(1);
    let found = rows(columns.gather(&[0, 1, 300]).unwrap().columns());
    assert_eq!(found, [row(1, true), row(8, false), row(8, false)]);
}

#[test]
fn renumbered_slots_keep_their_rows() {
    let mut columns = columns();
    columns.scatter(&[800], &batch(&schema(), &[row(5, false)])).unwrap();
    columns.renumber(&[(3, 0), (800, 1)]);
    assert_eq!(rows(columns.gather(&[0, 1]).unwrap().columns()), [row(1, true), row(5, false)]);
}

#[test]
fn rows_of_another_schema_are_refused_and_not_written() {
    let mut columns = columns();
    let other = Schema::new([Field::new("a", Kind::Int64)]);
    let wrong = batch(&other, &[vec![Cell::Int(1)]]);
    assert!(matches!(columns.scatter(&[0], &wrong), Err(StateError::ColumnCount { .. })));
    assert!(matches!(columns.scatter(&[0, 1], &batch(&schema(), &[row(1, true)])), Err(StateError::RowCount { .. })));
    assert!(matches!(check_rows(&Schema::new([Field::new("a", Kind::Text)]), 1, &wrong), Err(StateError::Kind { .. })));
    let nullable = batch(&Schema::new([Field::new("a", Kind::Int64).nullable()]), &[vec![Cell::Null]]);
    assert!(matches!(check_rows(&other, 1, &nullable), Err(StateError::Nulls { .. })));
}
