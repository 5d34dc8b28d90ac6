//! Whole, torn, damaged, kept and removed.

use std::sync::Arc;

use arrow_array::{Int64Array, RecordBatch};

use super::super::manifest::{StepEntry, TaskEntry};
use super::*;

fn draft(epoch: u64, attempt: &str) -> Draft {
    let rows = RecordBatch::try_from_iter([("key", Arc::new(Int64Array::from(vec![1, 2])) as _)]).unwrap();
    let task = |subtask| TaskEntry { subtask, watermark_ms: 5, state: None };
    let steps = vec![StepEntry { step: "sum".into(), components: Vec::new(), tasks: vec![task(0), task(1)] }];
    let manifest = Manifest {
        pipeline: "orders".into(),
        epoch,
        attempt: attempt.into(),
        written_ms: 1,
        finished: false,
        sources: Vec::new(),
        steps,
        prepared: Vec::new(),
        transactional_id: None,
    };
    let state = Snapshot::default().with("rows", Some(1), vec![rows]);
    Draft { manifest, states: BTreeMap::from([(("sum".into(), 0), state), (("sum".into(), 1), Snapshot::default())]) }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path(), "orders");
    (folder, store)
}

fn epochs(store: &Store) -> Vec<u64> {
    store.list().unwrap().iter().map(|listed| listed.epoch).collect()
}

#[test]
fn what_is_written_is_loaded_and_only_tasks_with_state_have_files() {
    let (_folder, store) = store();
    assert_eq!(store.unused_epoch().unwrap(), 1);
    store.write(draft(3, "a")).unwrap();
    let loaded = store.load(3).unwrap();
    assert!(!loaded.committed);
    assert_eq!(loaded.manifest.state_files().count(), 1);
    assert_eq!(loaded.states[&("sum".to_owned(), 0)].rows("rows")[0].num_rows(), 2);
    store.mark_committed(3).unwrap();
    assert!(store.load(3).unwrap().committed);
    assert_eq!(store.unused_epoch().unwrap(), 4);
}

#[test]
fn a_folder_without_manifest_is_no_checkpoint_and_its_number_is_not_used_again() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).unwrap();
    store.folder.put("0000000002/a-sum-0.state", b"half").unwrap();
    assert_eq!(epochs(&store), [1]);
    assert_eq!(store.unused_epoch().unwrap(), 3);
}

#[test]
fn every_damaged_byte_of_a_checkpoint_is_found() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).unwrap();
    store.write(draft(2, "a")).unwrap();
    for file in ["manifest", "a-sum-0.state"] {
        let path = store.folder.path(&format!("0000000002/{file}"));
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let candidates = store.candidates().unwrap();
            assert!(matches!(&candidates[0].health, Health::Damaged(reason) if !reason.is_empty()), "{file} byte {at}");
            assert_eq!(candidates[1], Candidate { epoch: 1, health: Health::Whole });
        }
        std::fs::write(&path, &whole).unwrap();
    }
    std::fs::remove_file(store.folder.path("0000000002/a-sum-0.state")).unwrap();
    let Health::Damaged(reason) = &store.candidates().unwrap()[0].health else { panic!("whole") };
    assert!(reason.contains("step `sum`, task 0") && reason.contains("missing"), "{reason}");
}

#[test]
fn an_epoch_is_written_by_one_process_only_and_repeated_by_it() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).unwrap();
    store.write(draft(1, "a")).unwrap();
    let error = store.write(draft(1, "b")).unwrap_err();
    assert!(matches!(error, StoreError::Fenced { epoch: 1, .. }), "{error}");
    assert_eq!(store.load(1).unwrap().manifest.attempt, "a");
}

#[test]
fn a_second_process_is_refused_while_the_first_lives() {
    let (_folder, store) = store();
    let lease = store.lease("process 7").unwrap();
    let error = store.lease("process 8").unwrap_err().to_string();
    assert!(error.contains("process 7") && error.contains("another store"), "{error}");
    drop(lease);
    store.lease("process 8").unwrap();
}

#[test]
fn retention_keeps_the_newest_and_savepoints() {
    let (_folder, store) = store();
    for epoch in 1..=5 {
        store.write(draft(epoch, "a")).unwrap();
    }
    store.save(2, "before-upgrade").unwrap();
    let error = store.save(3, "before-upgrade").unwrap_err().to_string();
    assert!(error.contains("there is one of this name"), "{error}");
    assert!(store.save(3, "../x").is_err());
    store.folder.put("0000000003.b/half", b"").unwrap();
    store.folder.put("0000000006/b-half.state", b"").unwrap();
    store.retain(2, u64::MAX).unwrap();
    assert_eq!(epochs(&store), [5, 4]);
    assert!(store.folder.path("0000000006").exists(), "it may be in the works");
    assert_eq!(store.load_savepoint("before-upgrade").unwrap().manifest.epoch, 2);
    let error = store.load_savepoint("before").unwrap_err().to_string();
    assert_eq!(error, "there is no savepoint before; there are before-upgrade");
}
