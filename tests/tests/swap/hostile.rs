//! Candidates that would do harm: refused with a reason, while the running version goes on as if nothing had been offered.

use millstream::control::{TrialRequest, TrialState};
use millstream::operator::OnError;

use super::template::Wat;
use super::*;
use crate::record::{Field, Kind};
use crate::wasm::OperatorKind;

fn field(name: &str) -> Field {
    Field::new(name, Kind::Int64)
}

/// A mapper whose `describe` does this.
fn describing(body: &str) -> Vec<u8> {
    Wat::new(OperatorKind::Mapper, &[], &[]).function("transform", "unreachable").function("describe", body).bytes()
}

/// A mapper that describes itself with itself, until its stack is full.
fn describing_without_end() -> Vec<u8> {
    let wat = Wat::new(OperatorKind::Mapper, &[], &[]).function("transform", "unreachable");
    let text = wat.function("describe", "(call $describe)").text();
    let text = text.replace("(func (export \"describe\")", "(func $describe (export \"describe\")");
    wat::parse_str(text).unwrap()
}

/// A mapper that reads more columns than any may.
fn giant() -> Vec<u8> {
    let fields: Vec<Field> = (0..1_100).map(|column| field(&format!("c{column}"))).collect();
    Wat::new(OperatorKind::Mapper, &fields, &[]).function("transform", "unreachable").bytes()
}

/// An aggregator that fits `version-sum` in all it says, and whose `create` does this.
fn creating(body: &str) -> Vec<u8> {
    let state = ["kept_rows_a", "kept_sum_a", "kept_rows_b", "kept_sum_b"].map(field);
    let outputs = ["rows_a", "sum_a", "rows_b", "sum_b"].map(field);
    let mut wat = Wat::new(OperatorKind::Aggregator, &[], &[]);
    let described = wat.signature(&[field("amount")], &outputs, Some((1, &state)));
    let wat = wat.function("describe", &format!("(i32.const {described})")).function("create", body);
    ["accumulate", "merge", "finish"].into_iter().fold(wat, |wat, name| wat.function(name, "unreachable")).bytes()
}

/// A mapper that fits `version-map` in all it says, and answers from beyond its memory.
fn lying() -> Vec<u8> {
    let version = Field::new("version", Kind::Text);
    let wat = Wat::new(OperatorKind::Mapper, &[field("sequence")], &[version]);
    wat.function("transform", "(i32.const 2000000000)").bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_candidate_that_breaks_its_contract_is_taken_back_though_nobody_gave_it_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lying.wasm");
    std::fs::write(&path, lying()).unwrap();
    let pipeline = Pipeline::new("lied-to").source("numbers", generator(None, Some(RATE)));
    let job = start(pipeline.step("tag", map().from("numbers").on_error(OnError::Fail)), &["tag"], &[]).await;
    let handle = job.handle();
    let trying = async {
        passed(&handle, "tag", 1_000).await;
        let shadow = TrialRequest { shadow: Some("1h".into()), ..TrialRequest::default() };
        handle.try_out(&[("tag".to_owned(), path.clone())], shadow.read().unwrap()).await.unwrap();
        let watch = Stopwatch::start();
        while !handle.trial().unwrap().state.is_over() {
            assert!(watch.elapsed() < PATIENCE / 2, "{:?}", handle.trial());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let trial = handle.trial().unwrap();
        assert_eq!(trial.state, TrialState::RolledBack, "{trial:?}");
        assert!(trial.breach.is_none() && trial.reason.as_ref().unwrap().contains("cannot go on"), "{trial:?}");
        handle.stop().await;
        drop(handle);
    };
    let (outcome, ()) = job.finish(trying).await;
    assert!(outcome.dead.is_empty());
}

/// What is offered to which step, and what the refusal says.
fn candidates() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    let guest = |name: &str| std::fs::read(built::guest(name).unwrap()).unwrap();
    let whole = guest("version-map");
    let endless = "(loop $l (br $l)) unreachable";
    let bomb = "(loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable";
    // `err` of four bytes that are no text, and of more bytes than there are
    let not_text = "(i32.store (i32.const 40) (i32.const -1)) (i32.store8 (i32.const 16) (i32.const 1))
        (i32.store (i32.const 20) (i32.const 40)) (i32.store (i32.const 24) (i32.const 4)) (i32.const 16)";
    let outside = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 40))
        (i32.store (i32.const 24) (i32.const -1)) (i32.const 16)";
    // its whole memory, as the reason of a refusal
    let long = "(i32.store8 (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 0))
        (i32.store (i32.const 24) (i32.const 131072)) (i32.const 16)";
    vec![
        ("tag", "loop", describing(endless), "deadline"),
        ("tag", "bomb", describing(bomb), "memory"),
        ("tag", "trap", describing("unreachable"), "unreachable"),
        ("tag", "recursion", describing_without_end(), "call stack exhausted"),
        ("tag", "not-text", describing(not_text), "describe"),
        ("tag", "outside", describing(outside), "out of bounds"),
        ("tag", "long", describing(long), "refuses its config"),
        ("tag", "giant", giant(), "at most 1024 are accepted"),
        ("tag", "filter", guest("version-filter"), "mapper"),
        ("tag", "truncated", whole[..whole.len() / 2].to_vec(), "does not compile"),
        ("tag", "text", b"not a component".to_vec(), "is not WebAssembly"),
        ("tag", "empty", Vec::new(), "an empty file"),
        ("tag", "core", b"\0asm\x01\0\0\0".to_vec(), "is a core module"),
        ("sums", "create-trap", creating("unreachable"), "unreachable"),
        ("sums", "create-loop", creating(endless), "deadline"),
        ("sums", "create-bomb", creating(bomb), "memory"),
        ("sums", "create-outside", creating("(i32.const 2000000000)"), "out of bounds"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_candidate_harms_the_version_that_runs() {
    for parallelism in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let pipeline = Pipeline::new("offered")
            .parallelism(parallelism)
            .source("numbers", generator(None, Some(20_000)))
            .step("tag", map().from("numbers"))
            .step("sums", sums(["key"]).from("tag"));
        let job = start(pipeline, &["tag"], &["sums"]).await;
        let handle = job.handle();
        let before = ["tag", "sums"].map(|step| digests(&handle.status(), step));
        let offering = async {
            passed(&handle, "tag", 1_000).await;
            for (step, name, bytes, why) in candidates() {
                let path = folder.path().join(format!("{name}.wasm"));
                std::fs::write(&path, bytes).unwrap();
                let at = handle.status().node("tag").unwrap().counts.rows_out;
                let said = swap(&handle, &[(step, &path)]).await.unwrap_err().to_string();
                assert!(said.contains(why), "{name}: `{why}` is missing in: {said}");
                assert!(said.len() < 16 << 10, "{name}: {} bytes are said", said.len());
                let now = ["tag", "sums"].map(|step| digests(&handle.status(), step));
                assert_eq!(now, before, "{name}");
                // rows go on
                passed(&handle, "tag", at + 100).await;
            }
            handle.stop().await;
            drop(handle);
        };
        let (outcome, ()) = job.finish(offering).await;
        let read = outcome.status.node("numbers").unwrap().counts.rows_out;
        assert_eq!(outcome.rows.len() as u64, read);
        for task in 0..parallelism as i64 {
            // each of the generator's tasks stops at a row of its own
            let of_task = |sequence: &i64| sequence % parallelism as i64 == task;
            let mut sequences: Vec<i64> = outcome.rows.iter().map(|row| int(row, "sequence")).filter(of_task).collect();
            sequences.sort_unstable();
            let expected = (task..).step_by(parallelism).take(sequences.len());
            assert!(expected.eq(sequences), "every row of task {task} once");
        }
        assert!(outcome.rows.iter().all(|row| text(row, "version") == "version-000a"));
        assert_eq!((total(&outcome.windows, "rows"), total(&outcome.windows, "rows_a")), (read, read));
        assert!(outcome.dead.is_empty());
    }
}
