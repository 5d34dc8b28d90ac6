//! Expected rows against those that came: as many pairs as there can be, and what is nearest to the rest.

use super::cell::Cell;
use super::outcome::{Missing, Nearest, RowsDiffer};
use crate::record::Schema;

/// A row as a script expects it.
#[derive(Clone, Debug)]
pub(super) struct ExpectedRow {
    /// as it was written
    pub(super) text: String,
    /// the columns that count, by position
    pub(super) cells: Vec<(usize, Cell)>,
}

impl ExpectedRow {
    fn is(&self, found: &[Cell]) -> bool {
        self.cells.iter().all(|(column, cell)| found.get(*column).is_some_and(|found| found.is(cell)))
    }

    fn differing(&self, found: &[Cell]) -> Vec<usize> {
        let differs = |(column, cell): &&(usize, Cell)| !found.get(*column).is_some_and(|found| found.is(cell));
        self.cells.iter().filter(differs).map(|(column, _)| *column).collect()
    }
}

/// How what came differs from what was expected; nothing if it does not.
pub(super) fn compare(
    sink: &str,
    schema: &Schema,
    expected: &[ExpectedRow],
    found: &[Vec<Cell>],
) -> Option<RowsDiffer> {
    let pairs = Pairs::of(expected, found);
    let missing: Vec<&ExpectedRow> =
        expected.iter().zip(&pairs.of_expected).filter(|(_, pair)| pair.is_none()).map(|(row, _)| row).collect();
    let unexpected: Vec<&Vec<Cell>> =
        found.iter().zip(&pairs.of_found).filter(|(_, pair)| pair.is_none()).map(|(row, _)| row).collect();
    if missing.is_empty() && unexpected.is_empty() {
        return None;
    }
    let mut free: Vec<bool> = vec![true; unexpected.len()];
    let missing = missing.into_iter().map(|row| Missing {
        row: row.text.clone(),
        nearest: nearest(row, &unexpected, &mut free).map(|(found, columns)| describe(schema, row, found, &columns)),
    });
    Some(RowsDiffer {
        sink: sink.to_owned(),
        expected_rows: expected.len(),
        found_rows: found.len(),
        missing: missing.collect(),
        unexpected: unexpected.iter().map(|row| show(schema, row.iter().enumerate())).collect(),
    })
}

/// The unexpected row with the fewest wrong columns, if it has a right one; each is the nearest of one row at most.
fn nearest<'a>(row: &ExpectedRow, found: &[&'a Vec<Cell>], free: &mut [bool]) -> Option<(&'a Vec<Cell>, Vec<usize>)> {
    let candidates = found.iter().enumerate().filter(|(index, _)| free.get(*index).copied().unwrap_or(false));
    let differing = candidates.map(|(index, found)| (index, *found, row.differing(found)));
    let some_right = differing.filter(|(_, _, columns)| columns.len() < row.cells.len() || row.cells.len() == 1);
    let (index, found, columns) = some_right.min_by_key(|(_, _, columns)| columns.len())?;
    if let Some(free) = free.get_mut(index) {
        *free = false;
    }
    Some((found, columns))
}

fn describe(schema: &Schema, row: &ExpectedRow, found: &[Cell], columns: &[usize]) -> Nearest {
    let text = |cell: Option<&Cell>| cell.map(|cell| cell.json().to_string()).unwrap_or_default();
    let differing = columns.iter().map(|column| {
        let name = schema.fields().get(*column).map(|field| field.name.clone()).unwrap_or_default();
        let expected = row.cells.iter().find(|(position, _)| position == column).map(|(_, cell)| cell);
        (name, text(expected), text(found.get(*column)))
    });
    Nearest { row: show(schema, found.iter().enumerate()), differing: differing.collect() }
}

/// Cells, each with the position of its column, as one line of JSON.
pub(super) fn show<'a>(schema: &Schema, cells: impl IntoIterator<Item = (usize, &'a Cell)>) -> String {
    let columns = cells.into_iter().filter_map(|(column, cell)| {
        let name = serde_json::Value::from(schema.fields().get(column)?.name.as_str());
        Some(format!("{name}:{}", cell.json()))
    });
    format!("{{{}}}", columns.collect::<Vec<_>>().join(","))
}

/// A largest matching, found by augmenting paths (Berge): rows that name few columns leave those to others that only they
/// can have.
struct Pairs {
    of_expected: Vec<Option<usize>>,
    of_found: Vec<Option<usize>>,
}

impl Pairs {
    fn of(expected: &[ExpectedRow], found: &[Vec<Cell>]) -> Self {
        let mut pairs = Self { of_expected: vec![None; expected.len()], of_found: vec![None; found.len()] };
        // rows mostly come in the order in which they are expected, or there are few
        for (index, row) in expected.iter().enumerate() {
            let free = |other: &usize| pairs.of_found.get(*other).is_some_and(Option::is_none);
            let mut order = (index..found.len()).chain(0..index.min(found.len()));
            let first = order.find(|other| free(other) && found.get(*other).is_some_and(|found| row.is(found)));
            if let Some(other) = first {
                pairs.join(index, other);
            }
        }
        if pairs.of_found.iter().any(Option::is_none) {
            for index in 0..expected.len() {
                if pairs.of_expected.get(index).is_some_and(Option::is_none) {
                    pairs.augment(index, expected, found);
                }
            }
        }
        pairs
    }

    fn join(&mut self, index: usize, other: usize) {
        if let (Some(one), Some(two)) = (self.of_expected.get_mut(index), self.of_found.get_mut(other)) {
            (*one, *two) = (Some(other), Some(index));
        }
    }

    /// Looks breadth-first for a free found row that `start` can get if others change theirs.
    fn augment(&mut self, start: usize, expected: &[ExpectedRow], found: &[Vec<Cell>]) {
        let mut reached_from: Vec<Option<usize>> = vec![None; found.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(index) = queue.pop_front() {
            let Some(row) = expected.get(index) else { continue };
            for (other, cells) in found.iter().enumerate() {
                if reached_from[other].is_some() || !row.is(cells) {
                    continue;
                }
                reached_from[other] = Some(index);
                match self.of_found[other] {
                    Some(next) => queue.push_back(next),
                    None => return self.change(start, other, &reached_from),
                }
            }
        }
    }

    /// Gives `last` to the row that reached it, what that row had to the one before it, and so on to `start`.
    fn change(&mut self, start: usize, mut last: usize, reached_from: &[Option<usize>]) {
        while let Some(index) = reached_from.get(last).copied().flatten() {
            let before = self.of_expected.get(index).copied().flatten();
            self.join(index, last);
            match before {
                Some(before) if index != start => last = before,
                _ => return,
            }
        }
    }
}
