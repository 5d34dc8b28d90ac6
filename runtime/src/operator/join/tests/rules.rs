//! Rules of joins, one by one.

use super::*;
use crate::limits::BATCH_ROWS;
use crate::restoring::Restoring;
use crate::spill::testing;
use crate::state::Snapshot;

fn interval(kind: JoinKind, lower: Bound, upper: Bound) -> IntervalJoin {
    IntervalJoin::new(columns(kind, false), JoinBounds { lower, upper, strict: true })
}

#[test]
fn rows_of_one_window_meet_and_carry_its_last_time() {
    let mut join = WindowJoin::new(columns(JoinKind::Full, true), tumbling(10)).unwrap();
    let script = [
        rows_of(LEFT, &[row(1, 10, 0), row(1, 11, 9), row(2, 12, 9), row(1, 13, 10)]),
        rows_of(RIGHT, &[row(1, 20, 5), row(3, 21, 5)]),
        Event::Watermark(9),
    ];
    let expected = ["- 21 0 10 @ 9", "1 10 20 0 10 @ 9", "1 11 20 0 10 @ 9", "2 12 - 0 10 @ 9"];
    let (found, late) = run(&mut join, &script);
    assert_eq!((found.len(), late), (4, 0), "{found:?}");
    for row in expected {
        assert!(found.iter().any(|found| found.ends_with(row)), "{row} in {found:?}");
    }
}

#[test]
fn both_ends_of_an_interval_count() {
    let mut join = interval(JoinKind::Inner, Bound::Offset(-5), Bound::Offset(5));
    let rights: Vec<Row> = [4, 5, 15, 16].into_iter().zip(20..).map(|(time, id)| row(1, id, time)).collect();
    let (found, _) = run(&mut join, &[rows_of(LEFT, &[row(1, 10, 10)]), rows_of(RIGHT, &rights)]);
    assert_eq!(found, ["1 10 21 @ 10", "1 10 22 @ 15"]);
}

#[test]
fn a_lower_bound_in_a_column_begins_with_the_row_itself() {
    let column = Bound::Column { index: 2, shift_ms: 0 };
    let mut join = interval(JoinKind::Inner, column, Bound::Offset(10));
    let lefts = [Row { until: Some(3), ..row(1, 10, 10) }, Row { until: Some(14), ..row(1, 11, 10) }, row(1, 12, 10)];
    let rights: Vec<Row> = [9, 10, 14].into_iter().zip(20..).map(|(time, id)| row(1, id, time)).collect();
    let (found, _) = run(&mut join, &[rows_of(RIGHT, &rights), rows_of(LEFT, &lefts)]);
    assert_eq!(found, ["1 10 21 @ 10", "1 10 22 @ 14", "1 11 22 @ 14"]);
}

#[test]
fn state_goes_with_the_watermark() {
    let mut join = interval(JoinKind::Inner, Bound::Offset(-5), Bound::Offset(20));
    let mut out = Output::default();
    for time in 0..50_000 {
        for side in [LEFT, RIGHT] {
            let Event::Rows(_, batch) = rows_of(side, &[row(time, time, time)]) else { continue };
            join.on_input(side, batch, &mut out).unwrap();
        }
        join.on_watermark(Watermark(time), &mut out).unwrap();
        assert!(join.rows_held() <= 30, "{} rows at {time}", join.rows_held());
        assert!(join.keys_held() <= 3_000, "{} keys at {time}", join.keys_held());
    }
    assert_eq!(out.batches.iter().map(Batch::rows).sum::<usize>(), 50_000);
}

#[test]
fn many_results_come_in_batches() {
    let mut join = WindowJoin::new(columns(JoinKind::Inner, true), tumbling(10)).unwrap();
    let mut out = Output::default();
    for side in [LEFT, RIGHT] {
        for id in 0..200 {
            let Event::Rows(_, batch) = rows_of(side, &[row(1, id, 0)]) else { continue };
            join.on_input(side, batch, &mut out).unwrap();
        }
    }
    join.on_watermark(Watermark::MAX, &mut out).unwrap();
    assert_eq!(out.batches.iter().map(Batch::rows).sum::<usize>(), 40_000);
    assert!(out.batches.iter().all(|batch| batch.rows() <= BATCH_ROWS));
}

#[test]
fn a_lookup_finds_the_latest_row_of_the_key_at_that_moment() {
    let mut join = LookupJoin::new(columns(JoinKind::Left, false));
    let asks = |time| rows_of(LEFT, &[row(1, time, time), row(2, time, time), Row { key: None, ..row(0, time, time) }]);
    let script = [
        asks(10),
        rows_of(RIGHT, &[row(1, 100, 0), row(2, 200, 0), row(1, 101, 99)]),
        asks(11),
        Event::Watermark(50),
        rows_of(RIGHT, &[row(2, 201, 0)]),
        asks(60),
    ];
    let (found, late) = run(&mut join, &script);
    let expected = [
        "- 10 - @ 10",
        "- 11 - @ 11",
        "- 60 - @ 60",
        "1 10 - @ 10",
        "1 11 101 @ 11",
        "1 60 101 @ 60",
        "2 10 - @ 10",
        "2 11 200 @ 11",
        "2 60 201 @ 60",
    ];
    assert_eq!((found.iter().map(String::as_str).collect::<Vec<_>>(), late), (expected.to_vec(), 0));
    assert_eq!(join.rows_held(), 2);
    let of = |spill| join_operator(&columns(JoinKind::Inner, false), JoinRule::Lookup, spill).unwrap();
    let in_memory = Restoring::new(|| of(None));
    in_memory.check(&script);
    let spilling = Restoring::new(|| of(Some(testing::spill(1))));
    spilling.same_as(&in_memory, &script);
    spilling.check(&script);
}

#[test]
fn keys_that_were_only_asked_for_are_forgotten() {
    let mut join = LookupJoin::new(columns(JoinKind::Inner, false));
    let learnt: Vec<Row> = (0..100).map(|key| row(key, key, 0)).collect();
    let mut script = vec![rows_of(RIGHT, &learnt)];
    script.extend((0..50).map(|part| {
        let asked: Vec<Row> = (part * 100..part * 100 + 100).map(|key| row(key, key, 0)).collect();
        rows_of(LEFT, &asked)
    }));
    script.push(rows_of(LEFT, &learnt));
    assert_eq!(run(&mut join, &script).0.len(), 200);
    assert!(join.keys_held() < 2_000, "{}", join.keys_held());
}

#[test]
fn every_task_that_comes_back_knows_each_rule_once() {
    let mut tasks = [(); 3].map(|()| LookupJoin::new(columns(JoinKind::Inner, false)));
    let mut state = crate::state::Snapshot::default();
    for task in &mut tasks {
        run(task, &[rows_of(RIGHT, &[row(1, 100, 0), row(2, 200, 0)])]);
        let table = task.snapshot().unwrap().made().unwrap().tables.remove(0);
        match state.tables.first_mut() {
            Some(all) => all.rows.extend(table.rows),
            None => state.tables.push(table),
        }
    }
    let mut back = LookupJoin::new(columns(JoinKind::Inner, false));
    back.restore(&state, Watermark::MIN).unwrap();
    assert_eq!(back.rows_held(), 2);
    assert_eq!(run(&mut back, &[rows_of(LEFT, &[row(2, 7, 3)])]).0, ["2 7 200 @ 3"]);
}

#[test]
fn rows_without_event_time_are_dead_where_times_decide() {
    let mut join = WindowJoin::new(columns(JoinKind::Inner, true), tumbling(10)).unwrap();
    let mut out = Output::default();
    let Event::Rows(_, batch) = rows_of(LEFT, &[row(1, 1, i64::MIN), row(1, 2, 5)]) else { return };
    join.on_input(LEFT, batch, &mut out).unwrap();
    assert_eq!((out.dead.len(), out.late_rows), (1, 0));
    assert!(out.dead[0].reason.contains("event_time"), "{}", out.dead[0].reason);
}

#[test]
fn state_of_another_join_is_refused_by_table_and_column() {
    let bounds = JoinBounds { lower: Bound::Offset(0), upper: Bound::Offset(10), strict: false };
    for rule in [
        JoinRule::Window(tumbling(10)),
        JoinRule::Window(WindowSpec::Session { gap: Duration::from_millis(5) }),
        JoinRule::Interval(bounds),
        JoinRule::Lookup,
    ] {
        let columns = columns(JoinKind::Inner, false);
        let mut join = join_operator(&columns, rule, None).unwrap();
        run(join.as_mut(), &[rows_of(LEFT, &[row(1, 2, 3)]), rows_of(RIGHT, &[row(4, 5, 3)])]);
        let state = join.snapshot().unwrap().made().unwrap();
        let refusal = |columns: &JoinColumns, state: &Snapshot| {
            let error = join_operator(columns, rule, None).unwrap().restore(state, Watermark::MIN).unwrap_err();
            assert!(matches!(error, OperatorError::State { .. }), "{rule:?}: {error}");
            error.to_string()
        };
        let (table, others) = match rule {
            JoinRule::Lookup => ("rules", "this step keeps `rules`"),
            _ => ("left", "this step keeps `left` and `right`"),
        };
        let error = refusal(&columns, &Snapshot::default().with("windows", Some(1), Vec::new()));
        assert!(error.contains("it has a table `windows`") && error.contains(others), "{rule:?}: {error}");
        // another key: of the right side, which is the only one that a lookup keeps
        let other = JoinColumns { keys: [vec![1], vec![1]], ..columns.clone() };
        let error = refusal(&other, &state);
        let expected = format!("table `{table}`, column 1: expected `{}`", if table == "left" { "a" } else { "b" });
        assert!(error.contains(&expected) && error.contains("found `k` Int64"), "{rule:?}: {error}");
        let mut state = state;
        state.tables[0].keys = Some(2);
        let error = refusal(&columns, &state);
        let expected = if table == "left" { "expected 1 key" } else { "expected none key" };
        assert!(error.contains(expected) && error.contains("found 2"), "{rule:?}: {error}");
    }
}

#[test]
fn a_barrier_shares_the_rows_of_both_sides_and_batches_that_have_not_changed_stay_the_same() {
    let mut join = interval(JoinKind::Full, Bound::Offset(0), Bound::Offset(1_000_000));
    let many: Vec<Row> = (0..3 * BATCH_ROWS as i64).map(|id| row(id, id, 10)).collect();
    let mut out = Output::default();
    for part in many.chunks(BATCH_ROWS) {
        let Event::Rows(side, batch) = rows_of(LEFT, part) else { panic!() };
        join.on_input(side, batch, &mut out).unwrap();
    }
    let ids = |join: &mut IntervalJoin| -> Vec<u128> {
        let snapshot = join.snapshot().unwrap();
        assert!(snapshot.tables.iter().all(|table| table.rows.is_empty()), "rows are made at the barrier");
        snapshot.tables[LEFT].later.iter().map(crate::state::Later::id).collect()
    };
    let held = join.held_batches(LEFT);
    let snapshot = join.snapshot().unwrap();
    let saved = snapshot.tables[LEFT].later[0].rows().unwrap();
    // the row's columns stand behind the key, its time and whether it has met another
    assert!(std::sync::Arc::ptr_eq(saved.column(4), held[0].column(1)), "columns are copied");
    let first = ids(&mut join);
    assert_eq!(first, ids(&mut join));
    let Event::Rows(side, batch) = rows_of(RIGHT, &[row(1, 7, 20)]) else { panic!() };
    join.on_input(side, batch, &mut out).unwrap();
    let second = ids(&mut join);
    let same: Vec<bool> = first.iter().zip(&second).map(|(one, other)| one == other).collect();
    assert_eq!(same, [false, true, true]);
    // the copy is of the barrier: nothing had met by then
    let met = snapshot.tables[LEFT].later[0].rows().unwrap().column(2).clone();
    assert!(rows(&[met]).iter().all(|met| *met == [Cell::Bool(false)]));
}

#[test]
fn rows_of_many_keys_stay_within_their_budget() {
    const MEMORY_BYTES: usize = 4 << 20;
    let bounds = JoinBounds { lower: Bound::Offset(0), upper: Bound::Offset(100), strict: true };
    let of = |spill| IntervalJoin::new(columns(JoinKind::Full, false), bounds).with_spill(spill).unwrap();
    let (mut spilling, mut in_memory) = (of(Some(testing::spill(MEMORY_BYTES))), of(None));
    let mut most = 0;
    let mut script = Vec::new();
    for part in 0..30 {
        let some = |from: i64| (from..from + 2_000).map(|id| row(id, id, 10 + id % 50)).collect::<Vec<_>>();
        script.extend([rows_of(LEFT, &some(part * 2_000)), rows_of(RIGHT, &some(part * 2_000 + 500))]);
    }
    let mut found = Vec::new();
    for event in &script {
        let (found_now, _) = run(&mut spilling, std::slice::from_ref(event));
        found.extend(found_now);
        most = most.max(crate::operator::spilled_keys::ByKey::state_bytes(&spilling));
    }
    assert!(most < MEMORY_BYTES && spilling.keys_spilled() > 20_000, "{most} bytes, {}", spilling.keys_spilled());
    found.extend(run(&mut spilling, &[Event::Watermark(i64::MAX)]).0);
    found.sort();
    script.push(Event::Watermark(i64::MAX));
    assert!(found == run(&mut in_memory, &script).0);
    assert_eq!((spilling.keys_spilled(), spilling.rows_held()), (0, 0));
}

#[test]
fn rows_of_windows_stay_within_their_budget_and_leave_in_parts() {
    const MEMORY_BYTES: usize = 1 << 20;
    let window =
        WindowSpec::Sliding { size: Duration::from_millis(40), every: Duration::from_millis(20), offset_ms: 0 };
    let of = |spill| WindowJoin::new(columns(JoinKind::Full, true), window).unwrap().with_spill(spill).unwrap();
    let (mut spilling, mut in_memory) = (of(Some(testing::spill(MEMORY_BYTES))), of(None));
    let mut most = 0;
    let mut script = Vec::new();
    for part in 0..30 {
        let some = |from: i64| (from..from + 2_000).map(|id| row(id, id, 10 + id % 20)).collect::<Vec<_>>();
        script.extend([rows_of(LEFT, &some(part * 2_000)), rows_of(RIGHT, &some(part * 2_000 + 500))]);
    }
    for event in &script {
        let (found, _) = run(&mut spilling, std::slice::from_ref(event));
        assert!(found.is_empty());
        most = most.max(spilling.state_bytes());
    }
    assert!(most < MEMORY_BYTES && spilling.entries_spilled() > 1_000, "{most} bytes, {}", spilling.entries_spilled());
    // at a barrier nothing is read, and blocks that are full stay the same
    let ids = |join: &mut WindowJoin| -> Vec<u128> {
        let snapshot = join.snapshot().unwrap();
        assert!(snapshot.tables.iter().all(|table| table.rows.is_empty()), "rows are made at the barrier");
        snapshot.tables[LEFT].later.iter().map(crate::state::Later::id).collect()
    };
    let before = ids(&mut spilling);
    let more = rows_of(LEFT, &(0..20_000).map(|id| row(id, -id, 12)).collect::<Vec<_>>());
    run(&mut spilling, std::slice::from_ref(&more));
    script.push(more);
    let after = ids(&mut spilling);
    assert!(before.iter().filter(|id| after.contains(id)).count() >= 2, "{} blocks", before.len());
    let mut out = Output::default();
    spilling.on_watermark(Watermark(i64::MAX), &mut out).unwrap();
    let mut parts = vec![texts(&out)];
    loop {
        let mut out = Output::default();
        if !spilling.go_on(&mut out).unwrap() {
            break;
        }
        parts.push(texts(&out));
    }
    let largest = parts.iter().map(Vec::len).max().unwrap();
    let mut found = parts.concat();
    assert!(parts.len() > 10 && largest < found.len() / 5, "{} parts, the largest of {largest} rows", parts.len());
    found.sort();
    script.push(Event::Watermark(i64::MAX));
    assert!(found == run(&mut in_memory, &script).0);
    assert_eq!((spilling.entries_spilled(), spilling.slices_held()), (0, 0));
}
