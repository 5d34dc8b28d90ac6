//! Guests that crash, hang, grow, or ask for what they may not have. The host outlives them all.

use super::super::{CallError, DescribeError, GuestError, Setting, Settings};
use super::template::{Values, Wat, echo};
use super::*;

fn mapper(body: &str) -> Wat {
    Wat::new(OperatorKind::Mapper, &[], &[]).function("transform", body)
}

fn one_row() -> RecordBatch {
    record_batch(&[], 1, vec![])
}

#[test]
fn an_endless_loop_ends_at_the_deadline_and_costs_one_instance_a_call() {
    let limit = Duration::from_millis(20);
    let endless = mapper("(loop $l (br $l)) unreachable");
    let mut guest = guest_with(OperatorKind::Mapper, &endless, GuestOptions { deadline: limit, ..options() });
    for _ in 0..2 {
        assert_eq!(guest.transform(&one_row()), Err(CallError::Deadline { limit }));
    }
    let counts = guest.counters().counts();
    assert_eq!((counts.instances, counts.calls, counts.deadlines, counts.traps), (2, 2, 2, 0));
}

#[test]
fn a_guest_that_eats_memory_is_stopped_at_its_limit() {
    let bomb = mapper("(loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable");
    let mut guest = guest(OperatorKind::Mapper, &bomb);
    let error = guest.transform(&one_row()).unwrap_err();
    assert_eq!(error, CallError::Memory { wanted_bytes: (4 << 20) + (64 << 10), limit_bytes: 4 << 20 });
    assert_eq!(
        error.to_string(),
        "the guest wanted 4160 KiB of memory, more than its limit of 4 MiB; raise `limits.memory` of the step if it \
         needs more"
    );
    assert_eq!(guest.counters().counts().memory_denials, 1);
}

#[test]
fn a_guest_that_is_larger_than_its_limit_is_not_made() {
    let large = mapper(&echo(0)).pages(65);
    let component = sandbox().load_bytes("large.wasm", &large.bytes()).unwrap();
    let error = component.guest(OperatorKind::Mapper, options()).unwrap_err();
    let GuestError::Describe(DescribeError::Call { source, .. }) = error else { panic!("{error}") };
    assert_eq!(source, CallError::Memory { wanted_bytes: 65 << 16, limit_bytes: 4 << 20 });
}

#[test]
fn deep_recursion_ends_in_a_trap() {
    let deep = mapper("(call $transform (local.get 0) (local.get 1) (local.get 2))");
    let text = deep.text().replace("(func (export \"transform\")", "(func $transform (export \"transform\")");
    let component = sandbox().load_bytes("deep", &wat::parse_str(text).unwrap()).unwrap();
    let mut guest = component.guest(OperatorKind::Mapper, options()).unwrap();
    let CallError::Trap { reason, backtrace } = guest.transform(&one_row()).unwrap_err() else { panic!() };
    assert_eq!(reason, "wasm trap: call stack exhausted");
    assert!(backtrace.unwrap().contains("transform"));
}

#[test]
fn after_a_trap_the_next_call_gets_a_fresh_instance() {
    // traps at the second call of an instance: the byte at 8 remembers the first
    let body = format!(
        "(if (i32.load8_u (i32.const 8)) (then unreachable)) (i32.store8 (i32.const 8) (i32.const 1)) {}",
        echo(0)
    );
    let mut guest = guest(OperatorKind::Mapper, &mapper(&body));
    let outcomes: Vec<bool> = (0..6).map(|_| guest.transform(&one_row()).is_ok()).collect();
    assert_eq!(outcomes, [true, false, true, false, true, false]);
    let counts = guest.counters().counts();
    assert_eq!((counts.instances, counts.traps, counts.rows_in, counts.rows_out), (3, 3, 6, 3));
}

#[test]
fn pointers_outside_of_memory_are_refused() {
    for words in [[0, 1, u32::MAX - 7, 1], [0, 1, 8, u32::MAX / 32], [0, 1, 65_536 * 2, 1]] {
        let wat = Wat::new(OperatorKind::Mapper, &[], &[field("n", Kind::Int64)]).answers("transform", &words);
        let CallError::Contract { reason } = guest(OperatorKind::Mapper, &wat).transform(&one_row()).unwrap_err()
        else {
            panic!()
        };
        assert_eq!(reason, "calling it failed: list pointer/length out of bounds of memory");
    }
    let wat = mapper("(i32.const 2000000000)");
    assert!(matches!(guest(OperatorKind::Mapper, &wat).transform(&one_row()), Err(CallError::Contract { .. })));
}

#[test]
fn an_answer_that_shows_the_same_memory_many_times_does_not_fill_the_host() {
    let fields: Vec<Field> = (0..40).map(|i| field(&format!("c{i}"), Kind::Binary)).collect();
    let mut wat = Wat::new(OperatorKind::Mapper, &[], &fields);
    let [rows, columns, count] = wat.batch(1, &vec![(Values::Binary(vec![0, 131_072], vec![]), None); 40]);
    // each column's bytes are the whole of memory
    let body: String = (0..40)
        .map(|i| {
            let bytes = columns + i * 32 + 12;
            format!(
                "(i32.store (i32.const {bytes}) (i32.const 0)) (i32.store (i32.const {}) (i32.const 131072))",
                bytes + 4
            )
        })
        .chain([format!(
            "(i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const {rows}))
             (i32.store (i32.const 24) (i32.const {columns})) (i32.store (i32.const 28) (i32.const {count})) (i32.const 16)"
        )])
        .collect();
    let wat = wat.function("transform", &body);
    let error = guest(OperatorKind::Mapper, &wat).transform(&one_row()).unwrap_err();
    let CallError::Contract { reason } = error else { panic!("{error:?}") };
    assert_eq!(reason, "returned more than its whole memory may hold (4 MiB)");
}

#[test]
fn what_a_guest_logs_as_an_error_is_the_reason_of_its_trap() {
    let mut wat = mapper("").import(
        "millstream:operator/host@0.1.0",
        "log",
        r#"(type $level-def (enum "trace" "debug" "info" "warn" "error")) (export "level" (type $level (eq $level-def)))
           (export "log" (func (param "level" $level) (param "message" string)))"#,
        "log",
        "(param i32 i32 i32)",
    );
    let [at, length] = wat.string("price of row 3\x1b[2J is missing");
    let wat = wat
        .function("transform", &format!("(call $log (i32.const 4) (i32.const {at}) (i32.const {length})) unreachable"));
    let mut guest = guest(OperatorKind::Mapper, &wat);
    let CallError::Trap { reason, .. } = guest.transform(&one_row()).unwrap_err() else { panic!() };
    assert_eq!(reason, "price of row 3 [2J is missing (wasm trap: wasm `unreachable` instruction executed)");
    assert_eq!(guest.counters().counts().log_lines, 1);
}

#[test]
fn counters_and_settings_reach_guest_and_host() {
    let mut wat = mapper("")
        .import(
            "millstream:operator/host@0.1.0",
            "counter",
            r#"(export "counter" (func (param "name" string) (param "delta" u64)))"#,
            "count",
            "(param i32 i32 i64)",
        )
        .import(
            "millstream:operator/config@0.1.0",
            "get",
            r#"(type $setting-def (variant (case "boolean" bool) (case "int64" s64) (case "float64" f64) (case "text" string)))
               (export "setting" (type $setting (eq $setting-def)))
               (export "get" (func (param "name" string) (result (option $setting))))"#,
            "get",
            "(param i32 i32 i32)",
        );
    let [at, length] = wat.string("factor");
    // option at 32: case at 32, setting's case at 40, its value at 48
    let body = format!(
        "(call $get (i32.const {at}) (i32.const {length}) (i32.const 32))
         (call $count (i32.const {at}) (i32.const {length}) (i64.load (i32.const 48))) {}",
        echo(0)
    );
    let wat = wat.function("transform", &body);
    let settings: Settings = Arc::new([("factor".to_owned(), Setting::Int64(21))].into());
    let mut guest = guest_with(OperatorKind::Mapper, &wat, GuestOptions { settings, ..options() });
    guest.transform(&one_row()).unwrap();
    guest.transform(&one_row()).unwrap();
    assert_eq!(guest.counters().counts().counters["factor"], 42);
}

#[test]
fn wasi_gives_no_file_and_says_so() {
    let wat = mapper("(call $sync) unreachable").import(
        "wasi:filesystem/types@0.2.3",
        "open-everything",
        r#"(export "open-everything" (func))"#,
        "sync",
        "",
    );
    let CallError::Trap { reason, .. } = guest(OperatorKind::Mapper, &wat).transform(&one_row()).unwrap_err() else {
        panic!()
    };
    assert_eq!(
        reason,
        "the guest called `wasi:filesystem/types.open-everything`, which the sandbox denies: operators have no files, \
         network or environment"
    );
}

#[test]
fn wasi_clock_and_random_numbers_are_the_same_in_every_call() {
    let wat = Wat::new(OperatorKind::Mapper, &[], &[field("n", Kind::Int64), field("m", Kind::Int64)])
        .import(
            "wasi:random/random@0.2.0",
            "get-random-u64",
            r#"(export "get-random-u64" (func (result u64)))"#,
            "random",
            "(result i64)",
        )
        .import(
            "wasi:clocks/monotonic-clock@0.2.6",
            "now",
            r#"(export "now" (func (result u64)))"#,
            "now",
            "(result i64)",
        );
    let mut wat = wat;
    let [rows, columns, count] = wat.batch(1, &[(Values::Int64(vec![0]), None), (Values::Int64(vec![0]), None)]);
    let body = format!(
        "(i64.store (i32.const 40) (call $random)) (i64.store (i32.const 48) (call $now))
         (i32.store (i32.const {}) (i32.const 40)) (i32.store (i32.const {}) (i32.const 48))
         (i32.store8 (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const {rows}))
         (i32.store (i32.const 24) (i32.const {columns})) (i32.store (i32.const 28) (i32.const {count})) (i32.const 16)",
        columns + 4,
        columns + 36
    );
    let wat = wat.function("transform", &body);
    let run = |step: &str| {
        let mut guest = guest_with(OperatorKind::Mapper, &wat, GuestOptions { step: step.into(), ..options() });
        (0..3).map(|_| guest.transform(&one_row()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run("a"), run("a"));
    // no call depends on an earlier one
    assert_eq!(run("a")[0], run("a")[1]);
    assert_ne!(run("a"), run("b"));
}

#[test]
fn wasi_with_a_type_of_its_own_traps() {
    let wat = mapper("(call $random) unreachable").import(
        "wasi:random/random@0.2.0",
        "get-random-u64",
        r#"(export "get-random-u64" (func (result string)))"#,
        "random",
        "(param i32)",
    );
    let text = wat.text().replace("(call $random)", "(call $random (i32.const 32))");
    let component = sandbox().load_bytes("typed", &wat::parse_str(text).unwrap()).unwrap();
    let mut guest = component.guest(OperatorKind::Mapper, options()).unwrap();
    assert!(matches!(guest.transform(&one_row()), Err(CallError::Trap { .. })));
}
