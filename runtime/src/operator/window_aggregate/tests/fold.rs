//! Aggregates that components would make.

use arrow_array::StringArray;

use super::*;
use crate::wasm::RowFailure;

/// A sum that another is not added to.
pub(super) const UNMERGEABLE: i64 = -667;

/// Counts and sums an int64 column and joins a text column in row order. Refuses 13, and to merge [`UNMERGEABLE`].
pub(in crate::operator) struct Joined {
    state: Schema,
    output: Schema,
    initial: i64,
}

impl Joined {
    pub(in crate::operator) fn new() -> Self {
        let count = Field::new("n", Kind::Int64);
        let sum = Field::new("total", Kind::Int64);
        let joined = Field::new("joined", Kind::Text).nullable();
        let state = Schema::new([count.clone(), sum.clone(), joined.clone()]);
        Self { output: state.clone(), state, initial: 0 }
    }
}

impl Fold for Joined {
    fn input(&self) -> &[usize] {
        &[2, 4]
    }

    fn state(&self) -> &Schema {
        &self.state
    }

    fn output(&self) -> &Schema {
        &self.output
    }

    fn create(&mut self) -> Result<RecordBatch, OperatorError> {
        Ok(batch(&self.state, &[vec![Cell::Int(self.initial), Cell::Int(0), Cell::Null]]))
    }

    fn accumulate(
        &mut self,
        groups: &[u32],
        accumulators: &RecordBatch,
        input: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        assert_eq!(groups.len(), input.num_rows());
        let mut states = rows(accumulators.columns());
        let mut touched = vec![false; states.len()];
        for (row, cells) in rows(input.columns()).iter().enumerate() {
            let state = &mut states[groups[row] as usize];
            touched[groups[row] as usize] = true;
            if cells[0] == Cell::Int(13) {
                let reason = "thirteen".to_owned();
                failed.push(RowFailure { row: row as u32, reason });
                continue;
            }
            if let (Cell::Int(count), Cell::Int(sum), Cell::Int(value)) = (&state[0], &state[1], &cells[0]) {
                (state[0], state[1]) = (Cell::Int(count + 1), Cell::Int(sum.wrapping_add(*value)));
            }
            if let Cell::Text(value) = &cells[1] {
                let joined = if let Cell::Text(joined) = &state[2] { joined.as_str() } else { "" };
                state[2] = Cell::Text(format!("{joined}{value}"));
            }
        }
        assert!(touched.iter().all(|touched| *touched), "an accumulator came that no row is for");
        Ok(batch(&self.state, &states))
    }

    fn merge(
        &mut self,
        left: &RecordBatch,
        right: &RecordBatch,
        failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        let mut states = rows(left.columns());
        if let Some(row) = states.iter().position(|state| state[1] == Cell::Int(UNMERGEABLE)) {
            failed.push(RowFailure { row: row as u32, reason: "will not merge".to_owned() });
        }
        for (state, other) in states.iter_mut().zip(rows(right.columns())) {
            for (cell, other) in state.iter_mut().zip(other) {
                *cell = match (&*cell, other) {
                    (Cell::Int(a), Cell::Int(b)) => Cell::Int(a.wrapping_add(b)),
                    (Cell::Text(a), Cell::Text(b)) => Cell::Text(format!("{a}{b}")),
                    (cell, Cell::Null) => cell.clone(),
                    (_, other) => other,
                };
            }
        }
        let gone = failed.iter().map(|failure| failure.row as usize);
        gone.for_each(|row| _ = states.remove(row));
        Ok(batch(&self.state, &states))
    }

    fn finish(
        &mut self,
        accumulators: &RecordBatch,
        _failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        Ok(accumulators.clone())
    }
}

/// Answers what it should not.
struct Hostile {
    joined: Joined,
    answer: fn(&Joined, RecordBatch) -> RecordBatch,
}

impl Fold for Hostile {
    fn input(&self) -> &[usize] {
        self.joined.input()
    }

    fn state(&self) -> &Schema {
        self.joined.state()
    }

    fn output(&self) -> &Schema {
        self.joined.output()
    }

    fn create(&mut self) -> Result<RecordBatch, OperatorError> {
        self.joined.create()
    }

    fn accumulate(
        &mut self,
        _groups: &[u32],
        accumulators: &RecordBatch,
        _input: &RecordBatch,
        _failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        Ok((self.answer)(&self.joined, accumulators.clone()))
    }

    fn merge(
        &mut self,
        left: &RecordBatch,
        _right: &RecordBatch,
        _failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        Ok((self.answer)(&self.joined, left.clone()))
    }

    fn finish(
        &mut self,
        accumulators: &RecordBatch,
        _failed: &mut Vec<RowFailure>,
    ) -> Result<RecordBatch, OperatorError> {
        Ok((self.answer)(&self.joined, accumulators.clone()))
    }
}

pub(in crate::operator) fn input() -> Schema {
    Schema::new([
        Field::new("id", Kind::Int64).nullable(),
        Field::new("name", Kind::Text).nullable(),
        Field::new("amount", Kind::Int64).nullable(),
        Field::new("price", Kind::Float64),
        Field::new("note", Kind::Text).nullable(),
    ])
}

fn row(id: i64, amount: i64) -> Vec<Cell> {
    vec![Cell::Int(id), Cell::Null, Cell::Int(amount), Cell::Float(0.0), Cell::Null]
}

#[test]
fn accumulators_stay_when_the_logic_is_replaced() {
    let mut operator = operator(&input(), &[0], 10, vec![AggregateCall::Fold(Box::new(Joined::new()))]);
    put_in(&mut operator, &input(), &[(row(1, 5), 0)]);
    operator.replace_fold(0, Box::new(Joined { initial: 100, ..Joined::new() })).unwrap();
    put_in(&mut operator, &input(), &[(row(1, 6), 0), (row(2, 7), 0)]);
    let counts: Vec<_> = results(&advance(&mut operator, 9)).iter().map(|row| row[3].clone()).collect();
    assert_eq!(counts, [Cell::Int(2), Cell::Int(101)]);
}

#[test]
fn logic_with_other_columns_does_not_replace() {
    let mut operator = operator(&input(), &[0], 10, vec![AggregateCall::Fold(Box::new(Joined::new()))]);
    let mut other = Joined::new();
    other.state = Schema::new([Field::new("n", Kind::Int64), Field::new("total", Kind::Int64)]);
    assert!(operator.replace_fold(0, Box::new(other)).is_err());
    let mut other = Joined::new();
    other.output = Schema::new([Field::new("n", Kind::Int64)]);
    let error = operator.replace_fold(0, Box::new(other)).unwrap_err();
    assert!(error.to_string().contains("output columns are (n: int64)"), "{error}");
    assert!(operator.replace_fold(1, Box::new(Joined::new())).is_err());
    put_in(&mut operator, &input(), &[(row(1, 5), 0)]);
    assert_eq!(results(&advance(&mut operator, 9))[0][3], Cell::Int(1));
}

#[test]
fn answers_that_break_the_contract_are_errors() {
    let answers: [fn(&Joined, RecordBatch) -> RecordBatch; 3] = [
        |_, accumulators| accumulators.slice(0, 0),
        |_, accumulators| accumulators.project(&[0]).unwrap(),
        |_, accumulators| {
            let rows = accumulators.num_rows();
            let text: ArrayRef = Arc::new(StringArray::from(vec!["1"; rows]));
            RecordBatch::try_from_iter([("n", text.clone()), ("total", text.clone()), ("joined", text)]).unwrap()
        },
    ];
    for answer in answers {
        let fold = Hostile { joined: Joined::new(), answer };
        let mut operator = operator(&input(), &[0], 10, vec![AggregateCall::Fold(Box::new(fold))]);
        let rows = Batch::new(batch(&input(), &[row(1, 1)]), vec![0].into()).unwrap();
        let error = operator.on_batch(rows, &mut Output::default()).unwrap_err();
        assert!(matches!(error, OperatorError::Contract { .. }), "{error}");
    }
}
