//! Windows that have few of the keys that there are: every key has its place in all windows, and most of them stay empty.

use super::*;

/// More keys than two blocks of a frozen copy have places.
const KEYS: i64 = 40_000;

fn counting() -> (Schema, WindowAggregate) {
    let input = Schema::new([Field::new("id", Kind::Int64)]);
    let operator = operator(&input, &[0], 1_000, vec![built_in("rows", AggregateFunction::Count, None)]);
    (input, operator)
}

/// Results of all windows, which come in parts.
fn all(operator: &mut WindowAggregate) -> Vec<Vec<Cell>> {
    let mut all = results(&advance(operator, i64::MAX));
    let mut out = Output::default();
    while operator.go_on(&mut out).unwrap() {
        all.extend(results(&std::mem::take(&mut out)));
    }
    all
}

#[test]
fn rows_of_a_window_with_few_of_the_keys_are_all_in_a_snapshot() {
    // in the first window all keys, in the second some far from each other, in the third one, the last
    for step in [1, 7, 80, 9_999] {
        let (input, mut running) = counting();
        let rows = |keys: &mut dyn Iterator<Item = i64>, time| keys.map(|key| (vec![Cell::Int(key)], time)).collect();
        let sparse: Vec<i64> = (0..KEYS).rev().step_by(step).collect();
        let script: [Vec<_>; 3] = [
            rows(&mut (0..KEYS), 0),
            rows(&mut sparse.iter().copied(), 1_000),
            rows(&mut std::iter::once(KEYS - 1), 2_000),
        ];
        for rows in &script {
            put_in(&mut running, &input, rows);
        }
        let state = running.snapshot().unwrap().made().unwrap();
        let saved: usize = state.tables.iter().flat_map(|table| &table.rows).map(RecordBatch::num_rows).sum();
        assert_eq!(saved, script.iter().map(Vec::len).sum::<usize>(), "every {step} keys");
        let (_, mut restored) = counting();
        restored.restore(&state, Watermark::MIN).unwrap();
        let mut ends = [&mut running, &mut restored].map(all);
        ends.iter_mut().for_each(|rows| rows.sort_by_cached_key(|row| format!("{row:?}")));
        assert_eq!(ends[0].len(), saved);
        assert!(ends[0] == ends[1], "every {step} keys");
    }
}
