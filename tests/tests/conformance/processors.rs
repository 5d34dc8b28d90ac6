//! Processors: the same calls, one after the other, to guests in several languages, with the state that each has answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch, RecordBatchOptions};
use millstream::record::{Field, Kind, Schema};
use millstream::wasm::{CallError, Guest, GuestOptions, OperatorKind, ProcessCall, TimerClock, Work};
use millstream_tests::{built, run};

/// What is done: rows as (key, v, time), or timers as (key, time).
enum Step {
    Rows(Vec<(u32, i64, i64)>),
    Timers(Vec<(u32, i64)>),
}

const KEYS: usize = 3;

/// Answers, then state and timers after them, call by call.
fn told(guest: &mut Guest, steps: &[Step]) -> Vec<String> {
    let mut present = vec![0; KEYS];
    let mut state = RecordBatch::new_empty(Arc::clone(guest.signature().state.as_ref().unwrap().fields.arrow()));
    let mut timers: BTreeSet<(u32, i64)> = BTreeSet::new();
    let options = RecordBatchOptions::new().with_row_count(Some(KEYS));
    let nothing = Schema::new([]);
    let keys = RecordBatch::try_new_with_options(Arc::clone(nothing.arrow()), Vec::new(), &options).unwrap();
    let schema = Schema::new([Field::new("v", Kind::Int64)]);
    let mut told = Vec::new();
    for step in steps {
        let (groups, times, values) = match step {
            Step::Rows(rows) => (
                rows.iter().map(|row| row.0).collect::<Vec<_>>(),
                rows.iter().map(|row| row.2).collect::<Vec<_>>(),
                rows.iter().map(|row| row.1).collect::<Int64Array>(),
            ),
            Step::Timers(due) => {
                due.iter().for_each(|timer| assert!(timers.remove(timer), "{timer:?} was not set: {timers:?}"));
                (
                    due.iter().map(|timer| timer.0).collect(),
                    due.iter().map(|timer| timer.1).collect(),
                    Int64Array::from(vec![0; 0]),
                )
            }
        };
        let input = RecordBatch::try_new(Arc::clone(schema.arrow()), vec![Arc::new(values)]).unwrap();
        let work = match step {
            Step::Rows(_) => Work::Rows { port: 0, groups: &groups, times: &times, input: &input },
            Step::Timers(_) => Work::Timers { groups: &groups, times: &times, clock: TimerClock::Event },
        };
        let call = ProcessCall { now_ms: 0, watermark_ms: 0, keys: &keys, present: &present, state: &state, work };
        match guest.process(&call) {
            Err(CallError::Rows(failures)) => {
                let failed: Vec<_> = failures.iter().map(|failure| (failure.row, failure.reason.as_str())).collect();
                told.push(format!("{failed:?}"));
            }
            Err(error) => panic!("{}: {error}", guest.component().name()),
            Ok(done) => {
                done.deleted.iter().for_each(|timer| _ = timers.remove(&(timer.group, timer.time_ms)));
                timers.extend(done.set.iter().map(|timer| (timer.group, timer.time_ms)));
                present = done.present.values().iter().map(u8::from).collect();
                let rows = run::record_batch_rows(&done.output);
                let held = run::record_batch_rows(&done.state);
                told.push(format!("{:?} {rows:?} / {present:?} {held:?} / {timers:?}", done.origin));
                state = done.state;
            }
        }
    }
    told
}

#[test]
fn a_processor_does_the_same_in_every_language() {
    let many: Vec<(u32, i64, i64)> = (0..8_192).map(|row| (row % 3, i64::from(row), i64::from(row) / 7)).collect();
    let steps = [
        Step::Rows(vec![(0, 5, 10), (1, 7, 20), (0, 6, 30)]),
        Step::Rows(vec![(2, 1, 40), (0, -1, 50), (1, -2, 60)]),
        Step::Rows(vec![(1, i64::MAX - 7, 70)]),
        Step::Timers(vec![(0, 1_030), (1, 1_070)]),
        Step::Timers(vec![]),
        Step::Rows(vec![(0, 1, 1_040), (2, 3, 1_041)]),
        Step::Rows(many),
        Step::Rows(vec![]),
    ];
    let sandbox = run::sandbox().unwrap();
    let answers = |name: &str| -> Option<Vec<String>> {
        let path = built::guest(name).map_err(|why| println!("SKIPPED conformance of {name}: {why}")).ok()?;
        let component = sandbox.load(&path).unwrap();
        let mut guest = component.guest(OperatorKind::Processor, GuestOptions::new("step")).unwrap();
        Some(told(&mut guest, &steps))
    };
    let rust = answers("bursts").unwrap();
    assert!(rust[0].starts_with("[0, 1, 2]") && rust[1].contains("v is negative"), "{rust:?}");
    for name in ["bursts-c", "bursts-go"] {
        // compilers of other languages need not be there
        let Some(found) = answers(name) else {
            assert!(std::env::var_os("CI").is_none(), "{name} is not built");
            continue;
        };
        for (step, (found, rust)) in found.iter().zip(&rust).enumerate() {
            assert_eq!(found, rust, "{name}, step {step}");
        }
    }
}
