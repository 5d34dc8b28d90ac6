//! Round trips of every call, damage, and secrets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};

use super::*;
use crate::record::{Field, Kind, Schema};
use crate::wasm::{
    Call, CallError, Digest, FailedCall, Fresh, OperatorKind, ProcessArguments, ProcessWork, RowFailure, Secret,
    Secrets, Setting, Settings, TimerClock, World, with_secrets,
};

const SECRET: &str = "hunter2hunter2";

fn rows(texts: &[&str]) -> RecordBatch {
    let schema = Schema::new([
        Field::new("t", Kind::Text),
        Field::new("n", Kind::Int64).nullable(),
        Field::new("f", Kind::Float64),
        Field::new("b", Kind::Boolean),
        Field::new("bytes", Kind::Binary),
    ]);
    let count = texts.len();
    let columns: Vec<arrow_array::ArrayRef> = vec![
        Arc::new(StringArray::from(texts.to_vec())),
        Arc::new((0..count).map(|row| (row % 2 == 0).then_some(row as i64)).collect::<Int64Array>()),
        Arc::new(Float64Array::from(vec![-0.0; count])),
        Arc::new(BooleanArray::from(vec![true; count])),
        Arc::new(BinaryArray::from(vec![&b"\0\xff"[..]; count])),
    ];
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()
}

fn settings() -> Settings {
    let settings: Settings = Arc::new(BTreeMap::from([
        ("b".to_owned(), Setting::Boolean(true)),
        ("f".to_owned(), Setting::Float64(f64::INFINITY)),
        ("i".to_owned(), Setting::Int64(i64::MIN)),
        ("t".to_owned(), Setting::Text("a \"text\"".to_owned())),
        ("token".to_owned(), Setting::Secret(Secret::new("TOKEN"))),
    ]));
    with_secrets(&settings, &|_| Some(SECRET.to_owned())).unwrap()
}

fn failed(call: Call, error: CallError) -> FailedCall {
    FailedCall {
        version: 3,
        candidate: true,
        name: "1-s-trap-2".to_owned(),
        at_ms: 1_000,
        step: "s".to_owned(),
        task: 3,
        component: "guests/s.wasm".to_owned(),
        digest: Digest::of(b"s"),
        kind: OperatorKind::Mapper,
        settings: settings(),
        memory_bytes: 1 << 20,
        deadline: Duration::from_millis(50),
        world: World { clock_ns: 0, random: u64::MAX },
        call,
        error,
        fresh: Fresh::Other("the call succeeds".to_owned()),
    }
}

fn trap() -> CallError {
    CallError::Trap { reason: "boom".to_owned(), backtrace: Some("0: s.wasm!boom".to_owned()) }
}

fn secrets() -> Secrets {
    Secrets::of(&settings())
}

fn calls() -> Vec<Call> {
    let input = || rows(&["a", "", "ü"]);
    let arguments = |work| ProcessArguments {
        now_ms: i64::MIN,
        watermark_ms: i64::MAX,
        keys: rows(&["k", "l"]),
        present: vec![0, 1],
        state: rows(&["s"]),
        groups: vec![1, 0, 1],
        times: vec![-1, 0, 1],
        work,
    };
    vec![
        Call::Transform { input: input() },
        Call::Transform { input: input().slice(1, 2) },
        Call::Select { input: input() },
        Call::Expand { input: input().slice(0, 0) },
        Call::Route { input: input(), targets: 7 },
        Call::Create,
        Call::Accumulate { groups: vec![0, 1, 0], accumulators: rows(&["x", "y"]), input: input() },
        Call::Merge { left: input(), right: input() },
        Call::Finish { accumulators: input() },
        Call::Process(arguments(ProcessWork::Rows { port: 1, input: input() })),
        Call::Process(arguments(ProcessWork::Timers { clock: TimerClock::Processing })),
        Call::ProcessWindows {
            starts: vec![0, 10],
            ends: vec![10, 20],
            groups: vec![0, 1, 1],
            times: vec![1, 11, 12],
            input: input(),
        },
    ]
}

#[test]
fn every_call_and_every_failure_comes_back_as_it_was() {
    let errors = [
        CallError::Rows(vec![RowFailure { row: 1, reason: "no".to_owned() }]),
        CallError::Batch("no".to_owned()),
        trap(),
        CallError::Deadline { limit: Duration::from_millis(50) },
        CallError::Memory { wanted_bytes: 2, limit_bytes: 1 },
        CallError::Contract { reason: "lies".to_owned() },
    ];
    for (at, call) in calls().into_iter().enumerate() {
        let error = errors[at % errors.len()].clone();
        let capsule = Capsule::of(&failed(call.clone(), error.clone()), "p", Some(-5)).unwrap();
        let again = Capsule::from_bytes(&capsule.to_bytes(&secrets()).unwrap()).unwrap();
        assert_eq!((&again, &again.call), (&capsule, &call));
        assert_eq!(again.facts.failure, Failure::of(&error).unwrap());
        assert_eq!(again.kind().unwrap(), OperatorKind::Mapper);
        let config = facts::settings(&again.facts.config).unwrap();
        assert_eq!((&config["f"], &config["i"]), (&Setting::Float64(f64::INFINITY), &Setting::Int64(i64::MIN)));
    }
    let host = CallError::Internal { reason: "x".to_owned() };
    assert_eq!(Capsule::of(&failed(Call::Create, host), "p", None), None, "what is not the guest's doing");
}

#[test]
fn a_call_alone_with_one_row_is_about_that_row() {
    for call in calls() {
        for row in 0..call.count() {
            let alone = call.only(row).unwrap();
            assert_eq!(alone.count(), 1, "{}", call.function());
            let input = |call: &Call| match call {
                Call::Accumulate { groups, accumulators, input } => {
                    assert_eq!(accumulators.num_rows(), usize::from(groups[0] == 0) + usize::from(groups.len() > 1));
                    Some(input.clone())
                }
                Call::Process(ProcessArguments { work: ProcessWork::Rows { input, .. }, .. }) => Some(input.clone()),
                Call::Transform { input } => Some(input.clone()),
                _ => None,
            };
            if let (Some(whole), Some(alone)) = (input(&call), input(&alone)) {
                assert_eq!(alone, whole.slice(row, 1));
            }
        }
        assert_eq!(call.only(call.count()), None);
    }
    let Call::Process(of_second) = calls()[9].only(0).unwrap() else { panic!() };
    assert_eq!(
        (of_second.present, of_second.keys, of_second.state),
        (vec![1], rows(&["k", "l"]).slice(1, 1), rows(&["s"]))
    );
    let Call::Process(of_first) = calls()[9].only(1).unwrap() else { panic!() };
    assert_eq!((of_first.present, of_first.state.num_rows()), (vec![0], 0));
    let Call::ProcessWindows { groups, times, .. } = calls()[11].only(1).unwrap() else { panic!() };
    assert_eq!((groups, times), (vec![0, 0], vec![11, 12]));
}

#[test]
fn damaged_bytes_are_an_error_wherever_they_are() {
    for call in calls() {
        let bytes = Capsule::of(&failed(call, trap()), "p", None).unwrap().to_bytes(&secrets()).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            let error = Capsule::from_bytes(&changed).unwrap_err();
            assert!(error.to_string().starts_with("no capsule, or a damaged one: "), "byte {at}: {error}");
            assert!(Capsule::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
        assert!(Capsule::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    }
}

/// Bytes that someone has made to fit their checksum.
#[test]
fn contents_that_were_forged_are_an_error_and_no_panic() {
    let mut accepted = 0;
    for call in calls() {
        let bytes = Capsule::of(&failed(call, trap()), "p", None).unwrap().to_bytes(&secrets()).unwrap();
        let content = crate::checkpoint::open_seal(*b"MSCP", 1, &bytes).unwrap();
        for at in 0..content.len() {
            for changed_to in [0, 0xff, content[at] ^ 1, content[at] ^ 0x80] {
                let mut changed = content.to_vec();
                changed[at] = changed_to;
                let forged = crate::checkpoint::seal(*b"MSCP", 1, &changed);
                accepted += usize::from(Capsule::from_bytes(&forged).is_ok());
            }
        }
    }
    assert!(accepted > 0, "values may differ");
}

#[test]
fn a_secret_is_in_no_capsule_and_a_call_that_holds_one_is_none() {
    let capsule = Capsule::of(&failed(calls().remove(0), trap()), "p", None).unwrap();
    let bytes = capsule.to_bytes(&secrets()).unwrap();
    let holds = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(!holds(&bytes, SECRET) && holds(&bytes, "TOKEN"));
    let input = rows(&["ok", &format!("..{SECRET}..")]);
    let capsule = Capsule::of(&failed(Call::Transform { input }, trap()), "p", None).unwrap();
    let error = capsule.to_bytes(&secrets()).unwrap_err();
    assert_eq!(error, CapsuleError::Secret { variable: "TOKEN".to_owned() });
}
