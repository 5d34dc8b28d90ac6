//! The operator with `hostile-window` of `guest-examples/`, against the windowed aggregates, which have a model of their own.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::Clock;
use crate::operator::{AggregateCall, AggregateFunction, AggregateStep, result_field};
use crate::restoring::{Event, Outcome, Restoring};
use crate::spill::testing;
use crate::state::cells::{self, Cell};
use crate::wasm::{Component, GuestOptions, OperatorKind, Sandbox, SandboxOptions};
use crate::window::{Firing, Trigger, WindowSpec};

fn guest() -> Guest {
    // the sandbox measures deadlines for as long as it lives
    static LOADED: OnceLock<(Sandbox, Component)> = OnceLock::new();
    let (_, component) = LOADED.get_or_init(|| {
        let sandbox = Sandbox::new(SandboxOptions { cache: None, instances_max: 400 }).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/hostile-window.wasm");
        let component = sandbox.load(&path).expect("run `cargo xtask guests` first");
        (sandbox, component)
    });
    let deadline = Duration::from_millis(300);
    component.guest(OperatorKind::WindowProcessor, GuestOptions { deadline, ..GuestOptions::new("step") }).unwrap()
}

fn input() -> Schema {
    Schema::new([
        Field::new("k", Kind::Text).nullable(),
        Field::new("word", Kind::Text),
        Field::new("v", Kind::Int64),
        Field::new("gap", Kind::Int64).nullable(),
    ])
}

const FUNCTIONS: [AggregateFunction; 3] = [AggregateFunction::Count, AggregateFunction::Sum, AggregateFunction::Min];

fn spec(window: WindowSpec, lateness_ms: u64, trigger: Trigger, firing: Firing) -> WindowAggregateSpec {
    WindowAggregateSpec {
        input: input(),
        keys: vec![0],
        window,
        allowed_lateness: Duration::from_millis(lateness_ms),
        spill: None,
        late: true,
        gap: (window == WindowSpec::SessionByColumn).then_some(3),
        trigger,
        firing,
        clock: Clock::virtual_at_ms(0),
        aggregates: Vec::new(),
    }
}

fn tumbling() -> WindowAggregateSpec {
    let window = WindowSpec::Tumbling { size: Duration::from_millis(10), offset_ms: 0 };
    spec(window, 0, Trigger::End, Firing::Accumulating)
}

fn processing(spec: WindowAggregateSpec, on_error: OnError) -> WindowProcess {
    let guest = guest();
    let bounds = ["window_start", "window_end"].map(|name| Field::new(name, Kind::TimestampMs));
    let key = input().fields()[0].clone();
    let outputs = guest.signature().outputs.fields().to_vec();
    let output = Schema::new(std::iter::once(key).chain(bounds).chain(outputs).collect::<Vec<_>>());
    WindowProcess::new(spec, guest, vec![1, 2], output, on_error).unwrap()
}

fn step(spec: WindowAggregateSpec) -> WindowProcess {
    processing(spec, OnError::DeadLetter)
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// Key, word and value of a row, and its event time.
type Asked<'a> = (&'a str, &'a str, i64, i64);

fn asked(rows: &[Asked<'_>]) -> Batch {
    let row = |(key, word, v, _): &Asked<'_>| {
        let gap = if *v % 7 == 0 { Cell::Null } else { Cell::Int(v.rem_euclid(9)) };
        vec![if key.is_empty() { Cell::Null } else { text(key) }, text(word), Cell::Int(*v), gap]
    };
    let cells: Vec<Vec<Cell>> = rows.iter().map(row).collect();
    Batch::new(cells::batch(&input(), &cells), rows.iter().map(|row| row.3).collect()).unwrap()
}

fn run(operator: &mut dyn Operator, rows: &[Asked<'_>], watermark: i64) -> Output {
    let mut out = Output::default();
    if !rows.is_empty() {
        operator.on_batch(asked(rows), &mut out).unwrap();
    }
    operator.on_watermark(Watermark(watermark), &mut out).unwrap();
    while operator.go_on(&mut out).unwrap() {}
    out
}

/// Key, start, n, total, least, first and last of each result.
fn told(out: &Output) -> Vec<(String, Vec<i64>)> {
    let rows = out.batches.iter().flat_map(|batch| cells::rows(batch.columns().columns()));
    rows.map(|row| {
        assert_eq!(row.last(), Some(&Cell::Bool(true)), "the guest found its rows unsound");
        let key = if let Cell::Text(key) = &row[0] { key.clone() } else { "null".to_owned() };
        let numbers = row.iter().enumerate().filter(|(at, _)| *at != 2);
        let number = |(_, cell): (usize, &Cell)| if let Cell::Int(n) | Cell::Time(n) = cell { Some(*n) } else { None };
        (key, numbers.filter_map(number).collect())
    })
    .collect()
}

#[test]
fn the_guest_gets_all_rows_of_a_window_by_time_and_any_number_of_rows_come_out() {
    let mut step = step(tumbling());
    let first = run(&mut step, &[("a", "", 3, 7), ("b", "twice", 4, 1), ("a", "", 1, 2), ("a", "", 9, 12)], 5);
    assert!(first.batches.is_empty());
    let out = run(&mut step, &[("a", "", 5, 2), ("c", "nothing", 5, 2), ("", "", 6, 3)], 9);
    let expected = [
        ("a", vec![0, 3, 9, 1, 1, 3]),
        ("b", vec![0, 1, 4, 4, 4, 4]),
        ("b", vec![0, 1, 4, 4, 4, 4]),
        ("null", vec![0, 1, 6, 6, 6, 6]),
    ];
    assert_eq!(told(&out), expected.map(|(key, row)| (key.to_owned(), row)));
    assert!(out.batches.iter().all(|batch| batch.times().iter().all(|time| *time == 9)));
    let end = run(&mut step, &[("a", "", 1, 3)], i64::MAX);
    assert_eq!((told(&end), end.late_rows, end.sides.len()), (vec![("a".to_owned(), vec![10, 1, 9, 9, 9, 9])], 1, 1));
    assert_eq!((step.windows.keys_held(), step.windows.windows_open()), (0, 0));
}

#[test]
fn a_window_that_fails_is_lost_alone_and_says_how_many_rows_it_had() {
    let rows = [("a", "", 1, 1), ("b", "boom", 2, 1), ("b", "", 2, 2), ("c", "refuse", 3, 1), ("d", "loop", 4, 1)];
    let out = run(&mut step(tumbling()), &rows, i64::MAX);
    assert_eq!(told(&out), [("a".to_owned(), vec![0, 1, 1, 1, 1, 1])]);
    let dead: Vec<_> = out.dead.iter().map(|dead| (cells::rows(dead.row.columns())[0].clone(), dead)).collect();
    let mut heads: Vec<_> = dead.iter().map(|(row, dead)| (row.clone(), dead.time)).collect();
    heads.sort_by_key(|(row, _)| format!("{row:?}"));
    let head = |key, rows| (vec![text(key), Cell::Time(0), Cell::Time(10), Cell::Int(rows)], 9);
    assert_eq!(heads, [head("b", 2), head("c", 1), head("d", 1)]);
    let reason = |key| &dead.iter().find(|(row, _)| row[0] == text(key)).unwrap().1.reason;
    assert!(reason("b").starts_with("the window is lost with its 2 rows: "), "{}", reason("b"));
    assert!(reason("b").contains("told to"), "{}", reason("b"));
    assert!(reason("c").ends_with("told to refuse") && reason("d").contains("deadline"), "{}", reason("d"));
    let skipped = run(&mut processing(tumbling(), OnError::Skip), &rows, i64::MAX);
    assert_eq!((skipped.skipped_rows, skipped.dead.len()), (4, 0));
    let mut failing = processing(tumbling(), OnError::Fail);
    failing.on_batch(asked(&rows), &mut Output::default()).unwrap();
    let error = failing.on_watermark(Watermark::MAX, &mut Output::default()).unwrap_err().to_string();
    assert!(error.contains("on_error = \"fail\"") && error.contains("lost with its"), "{error}");
}

#[test]
fn a_window_of_more_rows_than_a_call_may_have_is_lost_with_their_number_and_advice() {
    let mut step = step(tumbling());
    let batch: Vec<Asked<'_>> = (0..1 << 16).map(|_| ("a", "", 1, 1)).collect();
    let batch = asked(&batch);
    for _ in 0..17 {
        step.on_batch(batch.clone(), &mut Output::default()).unwrap();
    }
    let out = run(&mut step, &[("b", "", 1, 1)], i64::MAX);
    assert_eq!(told(&out), [("b".to_owned(), vec![0, 1, 1, 1, 1, 1])]);
    let rows = 17 << 16;
    assert_eq!(cells::rows(out.dead[0].row.columns())[0][3], Cell::Int(rows));
    let reason = &out.dead[0].reason;
    assert!(reason.contains(&format!("its {rows} rows")) && reason.contains("at most 1048576 rows"), "{reason}");
}

#[test]
fn what_many_windows_make_leaves_in_parts() {
    let mut step = step(tumbling());
    let names: Vec<String> = (0..500).map(|key| format!("k{key}")).collect();
    let rows: Vec<Asked<'_>> = names.iter().map(|key| (key.as_str(), "many", 1_000, 1)).collect();
    step.on_batch(asked(&rows), &mut Output::default()).unwrap();
    let (mut parts, mut total) = (0, 0);
    let mut out = Output { rows_at_once: 100, ..Output::default() };
    step.on_watermark(Watermark::MAX, &mut out).unwrap();
    loop {
        assert!(out.batches.iter().all(|batch| batch.rows() <= BATCH_ROWS));
        let part: usize = out.batches.drain(..).map(|batch| batch.rows()).sum();
        assert!(part <= 100 * 1_000, "{part} rows of windows that have 100 rows together");
        total += part;
        if !step.go_on(&mut out).unwrap() {
            break;
        }
        parts += 1;
    }
    assert!(parts >= 4, "{parts} parts");
    assert_eq!(total, 500_000);
}

#[test]
fn another_version_reads_other_columns_of_the_rows_that_are_there() {
    let mut step = step(tumbling());
    run(&mut step, &[("a", "twice", 1, 1)], 0);
    step.replace(0, Replacement { guest: guest(), inputs: vec![1, 3] }).unwrap();
    let out = run(&mut step, &[], i64::MAX);
    assert_eq!(told(&out), vec![("a".to_owned(), vec![0, 1, 1, 1, 1, 1]); 2]);
    assert!(step.replace(1, Replacement { guest: guest(), inputs: vec![1, 2] }).is_err());
}

fn windows() -> impl Strategy<Value = WindowSpec> {
    let ms = Duration::from_millis;
    prop_oneof![
        2 => (1u64..15).prop_map(move |size| WindowSpec::Tumbling { size: ms(size), offset_ms: 0 }),
        2 => (1u64..20, 1u64..20).prop_map(move |(size, every)| {
            WindowSpec::Sliding { size: ms(size), every: ms(every.min(size)), offset_ms: 0 }
        }),
        3 => (1u64..12).prop_map(move |gap| WindowSpec::Session { gap: ms(gap) }),
        1 => Just(WindowSpec::SessionByColumn),
        1 => (1u64..6).prop_map(|rows| WindowSpec::Count { rows }),
        1 => Just(WindowSpec::Global),
    ]
}

fn triggers() -> impl Strategy<Value = Trigger> {
    let interval = (1u64..15).prop_map(Duration::from_millis);
    prop_oneof![
        2 => Just(Trigger::End),
        1 => (1u64..6, any::<bool>()).prop_map(|(rows, at_end)| Trigger::Count { rows, at_end }),
        1 => interval.prop_map(|interval| Trigger::Every { interval }),
    ]
}

/// Rows, each the number of its key, its value and its time; then a watermark.
type Happening = (Vec<(usize, i64, i64)>, i64);

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let row = (0usize..4, -20i64..20, 0i64..60);
    prop::collection::vec((prop::collection::vec(row, 0..12), 0i64..60), 1..12)
}

const KEYS: [&str; 4] = ["", "a", "b", "c"];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn rows_kept_whole_come_to_what_accumulators_do_and_a_restore_changes_nothing(
        happenings in happenings(),
        window in windows(),
        lateness in prop_oneof![2 => Just(0), 1 => 1u64..30],
        trigger in triggers(),
        firing in prop::sample::select(vec![Firing::Accumulating, Firing::Discarding]),
        memory_bytes in prop_oneof![Just(1_usize), 20_000_usize..100_000],
    ) {
        let timeless = matches!(window, WindowSpec::Count { .. } | WindowSpec::Global);
        prop_assume!(!matches!(window, WindowSpec::Count { .. }) || trigger == Trigger::End);
        let lateness = if timeless { 0 } else { lateness };
        let made = || spec(window, lateness, trigger, firing);
        let function = |function: AggregateFunction| {
            let column = (function != AggregateFunction::Count).then_some(2);
            let output = function.name().to_owned();
            prop_assert!(result_field(&input(), &output, function, column).is_ok());
            Ok(AggregateCall::BuiltIn { output, function, column })
        };
        let aggregates = FUNCTIONS.into_iter().map(function).collect::<Result<Vec<_>, TestCaseError>>()?;
        let of_aggregates = WindowAggregateSpec { aggregates, ..made() };
        let mut oracle = AggregateStep::new(of_aggregates, OnError::DeadLetter, vec![None; 3]).unwrap();
        let mut whole = step(made());
        let (mut script, mut reached) = (Vec::new(), i64::MIN);
        // what the accumulators, which have a model of their own, say of the guest's columns
        let (mut results, mut dead, mut late) = (Vec::new(), 0, 0);
        for (rows, watermark) in happenings.iter().chain([&(Vec::new(), i64::MAX)]) {
            let rows: Vec<Asked<'_>> = rows.iter().map(|(key, v, time)| (KEYS[*key], "", *v, *time)).collect();
            reached = reached.max(*watermark);
            let [expected, found] = [&mut oracle as &mut dyn Operator, &mut whole].map(|operator| {
                let out = run(operator, &rows, reached);
                let lines = out.batches.iter().flat_map(|batch| {
                    let rows = cells::rows(batch.columns().columns()).into_iter();
                    rows.zip(batch.times().to_vec()).map(|(row, time)| format!("{:?} @ {time}", &row[..6]))
                });
                let mut lines: Vec<String> = lines.collect();
                lines.sort();
                (lines, out.late_rows, out.dead.len())
            });
            prop_assert_eq!(&found, &expected);
            results.extend(expected.0);
            (late, dead) = (late + expected.1, dead + expected.2);
            if !rows.is_empty() {
                script.push(Event::rows(0, asked(&rows)));
            }
            script.push(Event::Watermark(reached));
        }
        let restoring = Restoring::new(|| Box::new(step(made())) as Box<dyn Operator>).keyed(&[&[0]]);
        restoring.check(&script);
        let spilling = || WindowAggregateSpec { spill: Some(testing::spill(memory_bytes)), ..made() };
        let spilling = Restoring::new(|| Box::new(step(spilling())) as Box<dyn Operator>).keyed(&[&[0]]);
        spilling.same_as(&restoring, &script);
        spilling.check(&script);
        let restoring = restoring.worded(|row, time| format!("{:?} @ {time}", &row[..6]));
        restoring.equals(&Outcome::of(results, dead, late), &script);
    }
}
