//! Calls that fail are kept at their smallest, and fail again in the same way wherever they are made.

use arrow_array::{Array, Int64Array};

use super::super::{Call, CallError, FailedCall, Fresh, Gate, GuestMetrics, Witness, World};
use super::template::{Values, Wat, echo};
use super::*;
use crate::clock::Clock;

/// A guest whose failed calls are kept.
fn watched(kind: OperatorKind, wat: &Wat) -> Guest {
    let gate = Arc::new(Gate::new(Clock::virtual_at_ms(7)));
    let counters = Arc::new(GuestMetrics::watched(Witness::new(gate)));
    let deadline = Duration::from_millis(50);
    guest_with(kind, wat, GuestOptions { counters, deadline, ..options() })
}

fn kept(guest: &Guest) -> Vec<FailedCall> {
    guest.counters().witness().unwrap().take()
}

fn numbers(values: &[i64]) -> RecordBatch {
    record_batch(&[field("n", Kind::Int64)], values.len(), vec![Arc::new(Int64Array::from(values.to_vec()))])
}

/// The only call kept, which fails again in the same way in another guest that knows nothing but what was kept.
fn only(guest: &Guest, wat: &Wat) -> FailedCall {
    let [failed] = kept(guest).try_into().unwrap();
    let FailedCall { memory_bytes, deadline, world, .. } = failed;
    let options = GuestOptions { memory_bytes, deadline, world: Some(world), ..GuestOptions::new("another step") };
    let mut other = guest_with(failed.kind, wat, options);
    assert_eq!(other.make(&failed.call).unwrap_err(), failed.error);
    failed
}

#[test]
fn whatever_a_hostile_guest_does_is_kept_and_done_again() {
    let n = || [field("n", Kind::Int64)];
    let mapper = |body: &str| Wat::new(OperatorKind::Mapper, &n(), &n()).function("transform", body);
    let mut lying = Wat::new(OperatorKind::Mapper, &n(), &[field("t", Kind::Text)]);
    let words = lying.batch(1, &[(Values::Text(vec![0, 5], b"abc".to_vec()), None)]);
    let lying = lying.answers("transform", &[0, words[0], words[1], words[2]]);
    let mut not_text = Wat::new(OperatorKind::Mapper, &n(), &[field("t", Kind::Text)]);
    let words = not_text.batch(1, &[(Values::Text(vec![0, 2], vec![0xc3, 0x28]), None)]);
    let not_text = not_text.answers("transform", &[0, words[0], words[1], words[2]]);
    let far = mapper("").answers("transform", &[0, 1, u32::MAX - 7, 1]);
    let cases = [
        (mapper("unreachable"), "trap"),
        (mapper("(loop $l (br $l)) unreachable"), "deadline"),
        (mapper("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable"), "memory"),
        (lying, "contract"),
        (not_text, "contract"),
        (far, "contract"),
    ];
    for (wat, word) in cases {
        let mut guest = watched(OperatorKind::Mapper, &wat);
        let error = guest.transform(&numbers(&[4])).unwrap_err();
        let failed = only(&guest, &wat);
        assert_eq!(failed.error, error, "{word}");
        assert!(failed.name.contains(word), "{}", failed.name);
        let fresh = if word == "deadline" { Fresh::Untried } else { Fresh::Same };
        assert_eq!((failed.fresh, failed.call), (fresh, Call::Transform { input: numbers(&[4]) }));
    }
}

#[test]
fn filters_and_flat_mappers_are_watched_too() {
    let n = || [field("n", Kind::Int64)];
    let filter = Wat::new(OperatorKind::Filter, &n(), &[]).function("select", "unreachable");
    let mut guest = watched(OperatorKind::Filter, &filter);
    guest.select(&numbers(&[1])).unwrap_err();
    assert_eq!(only(&guest, &filter).call, Call::Select { input: numbers(&[1]) });
    let flat = Wat::new(OperatorKind::FlatMapper, &n(), &n()).function("expand", "unreachable");
    let mut guest = watched(OperatorKind::FlatMapper, &flat);
    guest.expand(&numbers(&[2])).unwrap_err();
    assert_eq!(only(&guest, &flat).call, Call::Expand { input: numbers(&[2]) });
}

#[test]
fn calls_that_succeed_or_will_be_split_are_not_kept() {
    let n = [field("n", Kind::Int64)];
    let wat = Wat::new(OperatorKind::Mapper, &n, &n).function("transform", &echo(0));
    let mut guest = watched(OperatorKind::Mapper, &wat);
    guest.transform(&numbers(&[1])).unwrap();
    assert!(kept(&guest).is_empty() && !guest.counters().witness().unwrap().waits());
    let wat = Wat::new(OperatorKind::Mapper, &n, &n).function("transform", "unreachable");
    let mut guest = watched(OperatorKind::Mapper, &wat);
    guest.transform(&numbers(&[1, 2])).unwrap_err();
    assert!(kept(&guest).is_empty());
    let traps = guest.counters().counts().traps;
    guest.transform(&numbers(&[1])).unwrap_err();
    assert_eq!(guest.counters().counts().traps, traps + 1, "asking a fresh instance is not counted");
    assert!(guest.counters().witness().unwrap().waits());
}

#[test]
fn of_rows_that_a_guest_names_one_stands_alone() {
    let n = [field("n", Kind::Int64)];
    let mut wat = Wat::new(OperatorKind::Mapper, &n, &n);
    let [at, length] = wat.string("no");
    let bytes: Vec<u8> = [0, at, length].into_iter().flat_map(u32::to_le_bytes).collect();
    let [list, _] = wat.string(&String::from_utf8(bytes).unwrap());
    let wat = wat.answers("transform", &[1, 0, list, 1]);
    let mut guest = watched(OperatorKind::Mapper, &wat);
    let error = guest.transform(&numbers(&[5, 6, 7])).unwrap_err();
    assert!(matches!(&error, CallError::Rows(rows) if rows.len() == 1), "{error:?}");
    assert_eq!(only(&guest, &wat).call, Call::Transform { input: numbers(&[5]) });
}

#[test]
fn a_guest_that_remembers_calls_is_told_apart() {
    let n = [field("n", Kind::Int64)];
    // fails at the second call of an instance
    let body = format!(
        "(if (i32.load8_u (i32.const 8)) (then unreachable)) (i32.store8 (i32.const 8) (i32.const 1)) {}",
        echo(0)
    );
    let wat = Wat::new(OperatorKind::Mapper, &n, &n).function("transform", &body);
    let mut guest = watched(OperatorKind::Mapper, &wat);
    guest.transform(&numbers(&[1])).unwrap();
    guest.transform(&numbers(&[1])).unwrap_err();
    let [failed] = kept(&guest).try_into().unwrap();
    assert_eq!(failed.fresh, Fresh::Other("the call succeeds".to_owned()));
}

#[test]
fn a_call_sees_the_clock_and_random_numbers_that_it_is_given() {
    let out = [field("n", Kind::Int64)];
    let mut wat = Wat::new(OperatorKind::Mapper, &[], &out).import(
        "wasi:random/random@0.2.0",
        "get-random-u64",
        r#"(export "get-random-u64" (func (result u64)))"#,
        "random",
        "(result i64)",
    );
    let [rows, columns, count] = wat.batch(1, &[(Values::Int64(vec![0]), None)]);
    let body = format!(
        "(i64.store (i32.const 40) (call $random)) (i32.store (i32.const {}) (i32.const 40))
         (i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const {rows}))
         (i32.store (i32.const 24) (i32.const {columns})) (i32.store (i32.const 28) (i32.const {count})) (i32.const 16)",
        columns + 4
    );
    let wat = wat.function("transform", &body);
    let made = |step: &str, world: Option<World>| {
        let mut guest = guest_with(OperatorKind::Mapper, &wat, GuestOptions { world, ..GuestOptions::new(step) });
        let made = guest.transform(&record_batch(&[], 1, vec![])).unwrap();
        made.column(0).to_data()
    };
    let world = Some(World { clock_ns: 5, random: 9 });
    assert_ne!(made("a", None), made("b", None));
    assert_eq!(made("a", world), made("b", world));
}
