//! The operators against loops over all pairs of rows.

use proptest::prelude::*;

use super::*;
use crate::restoring::{Outcome, Restoring};
use crate::spill::testing;

/// What happens, as data that a model can look at.
#[derive(Clone, Debug)]
enum Happens {
    Rows(usize, Vec<Row>),
    Watermark(i64),
}

/// A row with what held when it came.
#[derive(Clone, Copy, Debug)]
struct Came {
    row: Row,
    watermark: i64,
    /// its place among all rows
    order: usize,
}

fn happenings() -> impl Strategy<Value = Vec<Happens>> {
    let row = (prop::option::weighted(0.85, 0i64..3), 0i64..60, prop::option::weighted(0.8, 0i64..80))
        .prop_map(|(key, time, until)| Row { key, id: 0, time, until });
    let rows = (0usize..2, prop::collection::vec(row, 1..6)).prop_map(|(side, rows)| Happens::Rows(side, rows));
    prop::collection::vec(prop_oneof![3 => rows, 1 => (0i64..60).prop_map(Happens::Watermark)], 0..12).prop_map(
        |mut all| {
            let mut next = 0;
            for happens in &mut all {
                let Happens::Rows(_, rows) = happens else { continue };
                for row in rows {
                    row.id = next;
                    next += 1;
                }
            }
            all.push(Happens::Watermark(i64::MAX));
            all
        },
    )
}

fn script(happenings: &[Happens]) -> Vec<Event> {
    let event = |happens: &Happens| match happens {
        Happens::Rows(side, rows) => rows_of(*side, rows),
        Happens::Watermark(time) => Event::Watermark(*time),
    };
    happenings.iter().map(event).collect()
}

/// All rows by side.
fn came(happenings: &[Happens]) -> [Vec<Came>; 2] {
    let (mut came, mut watermark, mut order) = ([Vec::new(), Vec::new()], i64::MIN, 0);
    for happens in happenings {
        match happens {
            Happens::Watermark(time) => watermark = watermark.max(*time),
            Happens::Rows(side, rows) => {
                for row in rows {
                    came[*side].push(Came { row: *row, watermark, order });
                    order += 1;
                }
            }
        }
    }
    came
}

/// Results of two sides of which only `of` is looked at: pairs for which `meet` gives a time, then rows alone.
fn joined(
    kind: JoinKind,
    sides: &[Vec<Came>; 2],
    window: &str,
    meet: impl Fn(&Came, &Came) -> Option<i64>,
    alone: impl Fn(usize, &Came) -> i64,
) -> Vec<String> {
    let mut results = Vec::new();
    let key = |came: &Came| came.row.key.map_or("-".to_owned(), |key| key.to_string());
    let pair =
        |one: &Came, other: &Came| meet(one, other).filter(|_| one.row.key.is_some() && one.row.key == other.row.key);
    for one in &sides[LEFT] {
        for other in &sides[RIGHT] {
            let time = pair(one, other);
            results.extend(time.map(|time| format!("{} {} {}{window} @ {time}", key(one), one.row.id, other.row.id)));
        }
        if kind.keeps(LEFT) && !sides[RIGHT].iter().any(|other| pair(one, other).is_some()) {
            results.push(format!("{} {} -{window} @ {}", key(one), one.row.id, alone(LEFT, one)));
        }
    }
    for other in &sides[RIGHT] {
        if kind.keeps(RIGHT) && !sides[LEFT].iter().any(|one| pair(one, other).is_some()) {
            results.push(format!("{} - {}{window} @ {}", key(other), other.row.id, alone(RIGHT, other)));
        }
    }
    results
}

fn kinds() -> impl Strategy<Value = JoinKind> {
    prop::sample::select(JoinKind::ALL.to_vec())
}

/// Windows one by one, each with the rows that came before it fired.
fn window_model(happenings: &[Happens], kind: JoinKind, size: i64, every: i64, offset: i64) -> (Vec<String>, u64) {
    let sides = came(happenings);
    let holds = |start: i64, came: &&Came| {
        start <= came.row.time && came.row.time < start + size && start + size - 1 > came.watermark
    };
    let starts: Vec<i64> = (-100..200).filter(|start| (start - offset).rem_euclid(every) == 0).collect();
    let late = sides.iter().flatten().filter(|came| !starts.iter().any(|start| holds(*start, came))).count();
    let mut results = Vec::new();
    for start in starts {
        let inside = [LEFT, RIGHT].map(|side| sides[side].iter().filter(|came| holds(start, came)).copied().collect());
        let (time, window) = (start + size - 1, format!(" {start} {}", start + size));
        results.extend(joined(kind, &inside, &window, |_, _| Some(time), |_, _| time));
    }
    results.sort();
    (results, late as u64)
}

/// Sessions that are open, each with its rows; rows without key are sessions of their own.
fn session_model(happenings: &[Happens], kind: JoinKind, gap: i64) -> (Vec<String>, u64) {
    struct Session {
        key: Option<i64>,
        start: i64,
        end: i64,
        rows: [Vec<Came>; 2],
    }
    let (mut open, mut results, mut late, mut watermark): (Vec<Session>, _, _, _) =
        (Vec::new(), Vec::new(), 0, i64::MIN);
    for happens in happenings {
        match happens {
            Happens::Watermark(time) => {
                watermark = watermark.max(*time);
                let (done, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|session| session.end - 1 <= watermark);
                open = rest;
                for session in done {
                    let (time, window) = (session.end - 1, format!(" {} {}", session.start, session.end));
                    results.extend(joined(kind, &session.rows, &window, |_, _| Some(time), |_, _| time));
                }
            }
            Happens::Rows(side, rows) => {
                for row in rows {
                    let mut own =
                        Session { key: row.key, start: row.time, end: row.time + gap, rows: [vec![], vec![]] };
                    own.rows[*side].push(Came { row: *row, watermark, order: 0 });
                    let touches = |session: &Session| {
                        row.key.is_some()
                            && session.key == row.key
                            && session.start <= own.end
                            && own.start <= session.end
                    };
                    let (touching, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(touches);
                    open = rest;
                    if touching.is_empty() && own.end - 1 <= watermark {
                        late += 1;
                        continue;
                    }
                    for session in touching {
                        own.start = own.start.min(session.start);
                        own.end = own.end.max(session.end);
                        own.rows.iter_mut().zip(session.rows).for_each(|(own, rows)| own.extend(rows));
                    }
                    open.push(own);
                }
            }
        }
    }
    results.sort();
    (results, late)
}

/// First and last time of the partners of a left row.
fn range(row: &Row, lower: Option<i64>, upper: Option<i64>) -> Option<(i64, i64)> {
    // a bound that is a column is `until` for the upper, and the row's own time for the lower
    let high = match upper {
        Some(ms) => row.time + ms,
        None => row.until?,
    };
    Some((row.time + lower.unwrap_or(0), high))
}

fn interval_model(
    happenings: &[Happens],
    kind: JoinKind,
    lower: Option<i64>,
    upper: Option<i64>,
) -> (Vec<String>, u64) {
    let all = came(happenings);
    let late = all.iter().flatten().filter(|came| came.row.time <= came.watermark).count();
    let in_time = all.map(|side| side.into_iter().filter(|came| came.row.time > came.watermark).collect());
    let meet = |one: &Came, other: &Came| {
        let (low, high) = range(&one.row, lower, upper)?;
        (low <= other.row.time && other.row.time <= high).then_some(one.row.time.max(other.row.time))
    };
    let alone = |side: usize, came: &Came| match side {
        LEFT => range(&came.row, lower, upper).map_or(came.row.time, |(_, high)| high.max(came.row.time)),
        _ => came.row.time.max(came.row.time - lower.unwrap_or(0)),
    };
    let mut results = joined(kind, &in_time, "", meet, alone);
    results.sort();
    (results, late as u64)
}

/// Rows that meet whenever they come, unless one of them has been forgotten when the other comes.
fn always_model(happenings: &[Happens], ttl: Option<i64>) -> (Vec<String>, u64) {
    let all = came(happenings);
    let forgotten = |row: &Row, watermark: i64| ttl.is_some_and(|ttl| row.time + ttl <= watermark);
    let late = all.iter().flatten().filter(|came| forgotten(&came.row, came.watermark)).count();
    let in_time = all.map(|side| side.into_iter().filter(|came| !forgotten(&came.row, came.watermark)).collect());
    let meet = |one: &Came, other: &Came| {
        let (earlier, later) = if one.order < other.order { (one, other) } else { (other, one) };
        let near = ttl.is_none_or(|ttl| one.row.time.abs_diff(other.row.time) <= ttl.unsigned_abs());
        (near && !forgotten(&earlier.row, later.watermark)).then_some(one.row.time.max(other.row.time))
    };
    let mut results = joined(JoinKind::Inner, &in_time, "", meet, |_, _| 0);
    results.sort();
    (results, late as u64)
}

fn bounds(lower: Option<i64>, upper: Option<i64>) -> JoinBounds {
    // a lower bound in a column that is always null or earlier than the row would be no test: 0 ms stands for it
    let lower = Bound::Offset(lower.unwrap_or(0));
    let upper = upper.map_or(Bound::Column { index: 2, shift_ms: 0 }, Bound::Offset);
    JoinBounds { lower, upper, strict: true }
}

fn sliding(size: i64, every: i64, offset: i64) -> WindowSpec {
    let (size, every) = (Duration::from_millis(size as u64), Duration::from_millis(every as u64));
    WindowSpec::Sliding { size, every, offset_ms: offset }
}

/// The same of one task to four, with restores on the way.
fn in_tasks(rule: JoinRule, columns: JoinColumns, (results, late): (Vec<String>, u64), script: &[Event]) {
    let make = || join_operator(&columns, rule, None).unwrap();
    Restoring::new(make).keyed(&[&[0], &[0]]).worded(text).equals(&Outcome::of(results, 0, late), script);
}

/// Restores at every position.
fn restored(rule: JoinRule, columns: JoinColumns, script: &[Event]) {
    let keys: &[&[usize]] = &[&[0], &[0]];
    let in_memory = Restoring::new(|| join_operator(&columns, rule, None).unwrap()).keyed(keys);
    in_memory.check(script);
    // all at once, or some of it now and then
    for memory_bytes in [1, 30_000] {
        let spill = || Some(testing::spill(memory_bytes));
        let spilling = Restoring::new(|| join_operator(&columns, rule, spill()).unwrap()).keyed(keys);
        spilling.same_as(&in_memory, script);
        spilling.check(script);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_window_join_is_all_pairs_of_each_window(
        happenings in happenings(),
        kind in kinds(),
        (size, every) in (1i64..25, 1i64..25),
        offset in -20i64..20,
    ) {
        let every = every.min(size);
        let offset = offset % every;
        let mut operator = WindowJoin::new(columns(kind, true), sliding(size, every, offset)).unwrap();
        let found = run(&mut operator, &script(&happenings));
        let expected = window_model(&happenings, kind, size, every, offset);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(operator.slices_held(), 0);
        in_tasks(JoinRule::Window(sliding(size, every, offset)), columns(kind, true), expected, &script(&happenings));
    }

    #[test]
    fn a_session_join_is_all_pairs_of_each_session(happenings in happenings(), kind in kinds(), gap in 1i64..20) {
        let window = WindowSpec::Session { gap: Duration::from_millis(gap as u64) };
        let mut operator = SessionJoin::new(columns(kind, true), window).unwrap();
        let found = run(&mut operator, &script(&happenings));
        let expected = session_model(&happenings, kind, gap);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(operator.rows_held(), 0);
        in_tasks(JoinRule::Window(window), columns(kind, true), expected, &script(&happenings));
    }

    #[test]
    fn an_interval_join_is_all_pairs_within_the_bounds(
        happenings in happenings(),
        kind in kinds(),
        lower in -30i64..20,
        upper in prop::option::weighted(0.7, -20i64..30),
    ) {
        // with a column as the upper bound the model's lower bound is 0 or more, as that of a column would be
        let lower = if upper.is_none() { lower.abs() } else { lower };
        let mut operator = IntervalJoin::new(columns(kind, false), bounds(Some(lower), upper));
        let found = run(&mut operator, &script(&happenings));
        let expected = interval_model(&happenings, kind, Some(lower), upper);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!((operator.rows_held(), operator.keys_held()), (0, 0));
        let rule = JoinRule::Interval(bounds(Some(lower), upper));
        in_tasks(rule, columns(kind, false), expected, &script(&happenings));
    }

    #[test]
    fn a_join_without_bounds_is_all_pairs(happenings in happenings(), ttl in prop::option::of(1i64..40)) {
        let ends = ttl.map_or([Bound::None; 2], |ttl| [Bound::Offset(-ttl), Bound::Offset(ttl)]);
        let bounds = JoinBounds { lower: ends[0], upper: ends[1], strict: false };
        let mut operator = IntervalJoin::new(columns(JoinKind::Inner, false), bounds);
        let expected = always_model(&happenings, ttl);
        prop_assert_eq!(&run(&mut operator, &script(&happenings)), &expected);
        in_tasks(JoinRule::Interval(bounds), columns(JoinKind::Inner, false), expected, &script(&happenings));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn joins_go_on_after_a_restore_as_if_nothing_had_happened(happenings in happenings(), kind in kinds()) {
        let script = script(&happenings);
        restored(JoinRule::Window(sliding(12, 8, 3)), columns(kind, true), &script);
        restored(JoinRule::Window(sliding(10, 10, 0)), columns(kind, true), &script);
        let session = WindowSpec::Session { gap: Duration::from_millis(6) };
        restored(JoinRule::Window(session), columns(kind, true), &script);
        restored(JoinRule::Interval(bounds(Some(-9), Some(4))), columns(kind, false), &script);
        restored(JoinRule::Interval(bounds(Some(0), None)), columns(kind, false), &script);
        let always = JoinBounds { lower: Bound::None, upper: Bound::None, strict: false };
        restored(JoinRule::Interval(always), columns(JoinKind::Inner, false), &script);
    }
}
