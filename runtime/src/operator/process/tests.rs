//! The operator with `hostile-process` of `guest-examples/`, whose rows say what it does.

mod kept;

use std::path::Path;
use std::sync::OnceLock;

use super::*;
use crate::record::Kind;
use crate::restoring::{Event, Restoring};
use crate::state::cells::{self, Cell};
use crate::wasm::{Component, GuestOptions, OperatorKind, Sandbox, SandboxOptions};

const NONE: Option<&str> = None;

/// Key, word and number of a row, and its event time.
type Asked<'a> = (Option<&'a str>, &'a str, i64, i64);

fn guest() -> Guest {
    // the sandbox measures deadlines for as long as it lives
    static LOADED: OnceLock<(Sandbox, Component)> = OnceLock::new();
    let (_, component) = LOADED.get_or_init(|| {
        let sandbox = Sandbox::new(SandboxOptions { cache: None, instances_max: 200 }).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests/hostile-process.wasm");
        let component = sandbox.load(&path).expect("run `cargo xtask guests` first");
        (sandbox, component)
    });
    let deadline = Duration::from_millis(300);
    component.guest(OperatorKind::Processor, GuestOptions { deadline, ..GuestOptions::new("step") }).unwrap()
}

fn inputs() -> Vec<Schema> {
    let key = |name: &str| Field::new(name, Kind::Text);
    vec![
        Schema::new([Field::new("word", Kind::Text), key("k").nullable(), Field::new("at", Kind::Int64)]),
        Schema::new([key("id"), Field::new("more", Kind::Int64)]),
    ]
}

fn step_with(state_ttl: Option<Duration>, on_error: OnError, clock: Clock) -> ProcessStep {
    step_of(state_ttl, on_error, clock, None)
}

fn step_of(state_ttl: Option<Duration>, on_error: OnError, clock: Clock, spill: Option<Spill>) -> ProcessStep {
    let (inputs, keys) = (inputs(), vec![vec![1], vec![0]]);
    let spec = ProcessSpec { inputs, keys, sides: vec![Some(0)], state_ttl, on_error, clock, spill };
    ProcessStep::new(guest(), spec).unwrap()
}

fn step() -> ProcessStep {
    step_with(None, OnError::DeadLetter, Clock::virtual_at_ms(0))
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn asked(rows: &[Asked<'_>]) -> Batch {
    let cells: Vec<Vec<Cell>> =
        rows.iter().map(|(key, word, at, _)| vec![text(word), key.map_or(Cell::Null, text), Cell::Int(*at)]).collect();
    let times = rows.iter().map(|row| row.3).collect();
    Batch::new(cells::batch(&inputs()[0], &cells), times).unwrap()
}

fn added(rows: &[(&str, i64)]) -> Batch {
    let cells: Vec<Vec<Cell>> = rows.iter().map(|(key, more)| vec![text(key), Cell::Int(*more)]).collect();
    Batch::new(cells::batch(&inputs()[1], &cells), vec![0; rows.len()].into()).unwrap()
}

/// Rows of results as `key what rows @time`.
fn told(batches: &[Batch]) -> Vec<String> {
    let line = |row: &Vec<Cell>, time: &i64| {
        let [k, Cell::Text(what), Cell::Int(rows)] = row.as_slice() else { panic!("{row:?}") };
        let k = if let Cell::Text(k) = k { k } else { "null" };
        format!("{k} {what} {rows} @{time}")
    };
    let of = |batch: &Batch| -> Vec<String> {
        cells::rows(batch.columns().columns()).iter().zip(batch.times()).map(|(row, time)| line(row, time)).collect()
    };
    batches.iter().flat_map(of).collect()
}

fn rows(step: &mut ProcessStep, rows: &[Asked<'_>]) -> Output {
    let mut out = Output::default();
    step.on_batch(asked(rows), &mut out).unwrap();
    out
}

fn watermark(step: &mut ProcessStep, time: i64) -> Vec<String> {
    let mut out = Output::default();
    step.on_watermark(Watermark(time), &mut out).unwrap();
    told(&out.batches)
}

#[test]
fn state_is_kept_by_key_from_both_inputs_and_null_is_a_key() {
    let mut step = step();
    let out = rows(&mut step, &[(Some("a"), "x", 0, 5), (NONE, "x", 0, 6), (Some("a"), "y", 0, 4)]);
    assert_eq!(told(&out.batches), ["a x 1 @5", "null x 1 @6", "a y 2 @4"]);
    let mut out = Output::default();
    step.on_input(1, added(&[("a", 10), ("b", 7)]), &mut out).unwrap();
    let out = rows(&mut step, &[(Some("b"), "x", 0, 1), (Some("a"), "clear", 0, 1), (Some("a"), "x", 0, 1)]);
    assert_eq!(told(&out.batches), ["b x 8 @1", "a clear 13 @1", "a x 1 @1"]);
}

#[test]
fn timers_fire_in_the_order_of_time_and_carry_it() {
    let mut step = step();
    let set = [(Some("b"), "timer", 20, 0), (Some("a"), "timer", 30, 0), (Some("a"), "timer", 10, 0)];
    rows(&mut step, &set);
    rows(&mut step, &[(Some("a"), "timer", 10, 0), (Some("b"), "timer", 25, 0), (Some("b"), "forget", 25, 0)]);
    assert_eq!(watermark(&mut step, 9), Vec::<String>::new());
    assert_eq!(watermark(&mut step, 40), ["a event 10 3 @10", "b event 20 3 @20", "a event 30 3 @30"]);
    assert_eq!(watermark(&mut step, i64::MAX), Vec::<String>::new());
}

#[test]
fn a_timer_that_a_timer_sets_comes_before_later_ones_however_far_the_watermark_jumps() {
    let run = |watermarks: &[i64]| {
        let mut step = step();
        rows(&mut step, &[(Some("a"), "timer", 70, 0), (Some("a"), "timer", 75, 0), (Some("a"), "step", 0, 0)]);
        watermarks.iter().flat_map(|time| watermark(&mut step, *time)).collect::<Vec<_>>()
    };
    let every: Vec<i64> = (60..130).collect();
    let jump = run(&[200]);
    assert_eq!(jump, run(&every));
    let times: Vec<&str> = jump.iter().filter_map(|line| line.split('@').nth(1)).collect();
    assert_eq!(times, ["70", "75", "80", "85", "90", "95", "100", "105"]);
}

#[test]
fn timers_of_processing_time_carry_the_first_time_that_is_not_late() {
    let clock = Clock::virtual_at_ms(1_000);
    let mut step = step_with(None, OnError::DeadLetter, clock.clone());
    rows(&mut step, &[(Some("a"), "processing", 1_500, 7), (Some("b"), "processing", 1_200, 7)]);
    watermark(&mut step, 7);
    assert_eq!(step.next_processing_time(), Some(1_200));
    clock.set_ms(2_000);
    let mut out = Output::default();
    step.on_processing_time(2_000, &mut out).unwrap();
    assert_eq!(told(&out.batches), ["b processing 1200 1 @8", "a processing 1500 1 @8"]);
    assert_eq!(step.next_processing_time(), None);
}

#[test]
fn side_outputs_go_where_the_pipeline_reads_them() {
    let out = rows(&mut step(), &[(Some("a"), "side", 0, 5), (Some("a"), "x", 0, 6)]);
    let [(0, side)] = out.sides.as_slice() else { panic!("{:?}", out.sides) };
    assert_eq!(told(std::slice::from_ref(side)), ["a side 1 @5"]);
    assert_eq!(told(&out.batches), ["a side 1 @5", "a x 2 @6"]);
}

#[test]
fn state_that_is_not_written_for_its_time_to_live_is_gone() {
    let clock = Clock::virtual_at_ms(0);
    let mut step = step_with(Some(Duration::from_secs(1)), OnError::DeadLetter, clock.clone());
    let at = |time_ms: i64, step: &mut ProcessStep| {
        clock.set_ms(time_ms);
        told(&rows(step, &[(Some("a"), "x", 0, 0)]).batches).remove(0)
    };
    let seen = [0, 999, 1_998, 2_998].map(|time_ms| at(time_ms, &mut step));
    assert_eq!(seen, ["a x 1 @0", "a x 2 @0", "a x 3 @0", "a x 1 @0"]);
    clock.set_ms(10_000);
    rows(&mut step, &[(Some("b"), "x", 0, 0)]);
    assert_eq!(step.snapshot().unwrap().made().unwrap().rows("state")[0].num_rows(), 1);
}

#[test]
fn a_row_that_fails_leaves_no_trace_in_state_and_timers() {
    for bad in ["refuse", "boom", "loop"] {
        let mut step = step();
        let out = rows(&mut step, &[(Some("a"), "timer", 9, 1), (Some("a"), bad, 9, 2), (Some("a"), "x", 9, 3)]);
        assert_eq!(told(&out.batches), ["a timer 1 @1", "a x 2 @3"], "{bad}");
        assert_eq!((out.dead.len(), out.dead[0].time), (1, 2), "{bad}");
        assert_eq!(watermark(&mut step, 10), ["a event 9 2 @9"], "{bad}");
    }
}

#[test]
fn a_timer_that_fails_is_a_dead_letter_with_its_key_and_time() {
    let mut step = step();
    rows(&mut step, &[(Some("a"), "explode", 9, 1), (Some("b"), "timer", 8, 1)]);
    let mut out = Output::default();
    step.on_watermark(Watermark(10), &mut out).unwrap();
    assert_eq!(told(&out.batches), ["b event 8 1 @8"]);
    let [dead] = out.dead.as_slice() else { panic!("{:?}", out.dead) };
    assert_eq!((dead.time, dead.reason.as_str()), (9, "a timer refused on purpose"));
    assert_eq!(cells::rows(dead.row.columns()), [[text("a"), Cell::Time(9)]]);
    assert_eq!(watermark(&mut step, 20), Vec::<String>::new());
}

#[test]
fn the_policy_says_what_becomes_of_failures() {
    let clock = Clock::virtual_at_ms(0);
    let mut skips = step_with(None, OnError::Skip, clock.clone());
    let out = rows(&mut skips, &[(Some("a"), "refuse", 0, 1), (Some("a"), "x", 0, 1)]);
    assert_eq!((out.skipped_rows, out.dead.len(), told(&out.batches)), (1, 0, vec!["a x 1 @1".to_owned()]));
    let mut fails = step_with(None, OnError::Fail, clock);
    let error = fails.on_batch(asked(&[(Some("a"), "refuse", 0, 1)]), &mut Output::default()).unwrap_err();
    assert!(matches!(error, OperatorError::Row { reason } if reason == "refused on purpose"));
}

#[test]
fn timers_without_end_stop_the_pipeline_with_a_word_about_the_end() {
    let mut step = step();
    step.handler.chained_max = 1_000;
    rows(&mut step, &[(Some("a"), "again", 9, 1)]);
    let error = step.on_watermark(Watermark::MAX, &mut Output::default()).unwrap_err();
    let OperatorError::Contract { reason } = error else { panic!("{error}") };
    assert!(reason.contains("at the end of the input"), "{reason}");
}

#[test]
fn more_rows_than_a_call_may_give_are_the_fault_of_their_row() {
    let out = rows(&mut step(), &[(Some("a"), "x", 0, 1), (Some("a"), "many", 2 << 20, 2), (Some("a"), "x", 0, 3)]);
    assert_eq!(told(&out.batches), ["a x 1 @1", "a x 2 @3"]);
    assert_eq!(out.dead.len(), 1);
}

#[test]
fn keys_without_state_and_timers_are_forgotten() {
    let mut step = step();
    let names: Vec<String> = (0..5_000).map(|key| format!("k{key}")).collect();
    for (at, name) in names.iter().enumerate() {
        let word = if at % 100 == 0 { "timer" } else { "clear" };
        rows(&mut step, &[(Some(name), word, at as i64, 0)]);
    }
    assert!(step.keys_held() < 2_500, "{}", step.keys_held());
    let fired = watermark(&mut step, i64::MAX);
    assert_eq!((fired.len(), fired[49].as_str()), (50, "k4900 event 4900 1 @4900"));
}

#[test]
fn timers_of_keys_whose_state_is_gone_still_fire() {
    let clock = Clock::virtual_at_ms(0);
    let mut step = step_with(Some(Duration::from_secs(1)), OnError::DeadLetter, clock.clone());
    let names: Vec<String> = (0..6_000).map(|key| format!("k{key}")).collect();
    let (timed, others) = names.split_at(2_000);
    rows(&mut step, &timed.iter().map(|name| (Some(name.as_str()), "timer", 50, 0)).collect::<Vec<_>>());
    clock.set_ms(5_000);
    rows(&mut step, &others.iter().map(|name| (Some(name.as_str()), "clear", 0, 0)).collect::<Vec<_>>());
    assert_eq!(step.keys_held(), 2_000);
    assert_eq!(watermark(&mut step, 50).len(), 2_000);
}

#[test]
fn another_version_takes_over_state_and_timers() {
    let mut step = step();
    rows(&mut step, &[(Some("a"), "timer", 9, 1)]);
    step.replace(0, Replacement { guest: guest(), inputs: Vec::new() }).unwrap();
    assert_eq!(told(&rows(&mut step, &[(Some("a"), "x", 0, 2)]).batches), ["a x 2 @2"]);
    assert_eq!(watermark(&mut step, 9), ["a event 9 2 @9"]);
}

/// Rows of both inputs, watermarks and the clock, with all that the guest can do.
fn script() -> Vec<Event> {
    let words = ["timer", "x", "processing", "side", "clear", "timer", "forget", "refuse", "explode", "step"];
    let mut script = Vec::new();
    for turn in 0..24_i64 {
        let row = |at: i64| -> (String, &str, i64, i64) {
            let number = (turn * 7 + at * 5) as usize;
            (format!("k{}", number % 6), words[number % words.len()], turn * 10 + at % 40, turn * 10 + at)
        };
        let rows: Vec<_> = (0..5).map(row).collect();
        let rows: Vec<Asked<'_>> =
            rows.iter().map(|(k, word, at, time)| ((k != "k5").then_some(k.as_str()), *word, *at, *time)).collect();
        script.push(Event::rows(0, asked(&rows)));
        script.push(Event::rows(1, added(&[("k1", turn), ("k3", 1)])));
        script.push(Event::Watermark(turn * 10 - 15));
        if turn % 4 == 0 {
            script.push(Event::Clock(turn * 10));
        }
    }
    script.push(Event::Watermark(i64::MAX));
    script
}

#[test]
fn a_restore_at_any_position_changes_nothing() {
    let make = || -> Box<dyn Operator> { Box::new(step()) };
    Restoring::new(make).keyed(&[&[1], &[0]]).check(&script());
}

#[test]
fn state_of_another_step_is_refused_by_table() {
    let mut from = step();
    rows(&mut from, &[(Some("a"), "timer", 10, 0)]);
    let state = from.snapshot().unwrap().made().unwrap();
    let refusal = |step: &mut ProcessStep, state: &Snapshot| {
        let error = step.restore(state, Watermark::MIN).unwrap_err();
        assert!(matches!(error, OperatorError::State { .. }), "{error}");
        error.to_string()
    };
    let error = refusal(&mut step(), &state.clone().with("windows", Some(1), Vec::new()));
    assert!(error.contains("it has a table `windows`, this step keeps `timers` and `state`"), "{error}");
}
