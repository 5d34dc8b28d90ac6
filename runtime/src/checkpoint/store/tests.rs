//! Whole, torn, damaged, kept and removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch};

use super::super::manifest::{StepEntry, TaskEntry};
use super::*;

mod components;

fn draft(epoch: u64, attempt: &str) -> Draft {
    let rows = Int64Array::from(vec![1, i64::try_from(epoch).unwrap()]);
    draft_of(epoch, attempt, RecordBatch::try_from_iter([("key", Arc::new(rows) as _)]).unwrap())
}

fn draft_of(epoch: u64, attempt: &str, rows: RecordBatch) -> Draft {
    let task = |subtask| TaskEntry { subtask, watermark_ms: 5, state: Vec::new() };
    let steps =
        vec![StepEntry { step: "sum".into(), components: Vec::new(), tasks: vec![task(0), task(1)], kept: None }];
    let manifest = Manifest {
        given_up: Vec::new(),
        pipeline: "orders".into(),
        epoch,
        attempt: attempt.into(),
        written_ms: 1,
        finished: false,
        sources: Vec::new(),
        steps,
        prepared: Vec::new(),
        transactional_id: None,
        versions: Vec::new(),
    };
    let state = Snapshot::default().with("rows", Some(1), vec![rows]);
    let states = BTreeMap::from([(("sum".into(), 0), state), (("sum".into(), 1), Snapshot::default())]);
    Draft { manifest, states, components: BTreeMap::new() }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), None);
    (folder, store)
}

fn open(folder: &Path, keys: Option<&str>) -> Store {
    let keys = keys.map(|keys| Keys::parse(keys, "the test").unwrap());
    Store::open(&Location::Folder(folder.to_owned()), "orders", keys).unwrap()
}

fn in_memory() -> Store {
    Store::new(Objects::in_memory(), "orders", None)
}

fn path(store: &Store, name: &str) -> PathBuf {
    store.objects.local_folder().unwrap().join(name)
}

async fn epochs(store: &Store) -> Vec<u64> {
    store.list().await.unwrap().iter().map(|listed| listed.epoch).collect()
}

#[tokio::test]
async fn what_is_written_is_loaded_and_only_tasks_with_state_have_files() {
    let (_folder, store) = store();
    assert_eq!(store.newest_epoch().await.unwrap(), None);
    store.write(draft(3, "a")).await.unwrap();
    let loaded = store.load(3).await.unwrap();
    assert!(!loaded.committed);
    assert_eq!(loaded.manifest.state_files().count(), 1);
    assert_eq!(loaded.states[&("sum".to_owned(), 0)].rows("rows")[0].num_rows(), 2);
    store.mark_committed(3).await.unwrap();
    assert!(store.load(3).await.unwrap().committed);
    assert_eq!(store.newest_epoch().await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_folder_without_manifest_is_no_checkpoint_and_whoever_finishes_it_first_has_its_number() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).await.unwrap();
    store.objects.put("0000000002/a-sum-0-0.state", b"half".to_vec()).await.unwrap();
    assert_eq!(epochs(&store).await, [1]);
    assert_eq!(store.newest_epoch().await.unwrap(), Some(1), "a process that comes back would finish 2 as well");
}

#[tokio::test]
async fn a_manifest_that_has_gone_is_damage_and_its_epoch_is_not_begun_again() {
    let (_folder, store) = store();
    for epoch in 1..=3 {
        store.write(draft(epoch, "a")).await.unwrap();
        store.mark_committed(epoch).await.unwrap();
    }
    std::fs::remove_file(path(&store, "0000000003/manifest")).unwrap();
    // a process has died while it removed this one
    std::fs::remove_file(path(&store, "0000000001/manifest")).unwrap();
    let listed = store.list().await.unwrap();
    assert_eq!(
        listed.iter().map(|listed| (listed.epoch, listed.manifest.is_ok())).collect::<Vec<_>>(),
        [(3, false), (2, true)]
    );
    for error in [listed[0].manifest.as_ref().unwrap_err(), &store.load(3).await.unwrap_err()] {
        let error = error.to_string();
        assert!(error.contains("checkpoint 3") && error.contains("0000000003/manifest` is missing"), "{error}");
    }
    let candidates = store.candidates().await.unwrap().all;
    assert!(matches!(
        &candidates[..],
        [Candidate { epoch: 3, health: Health::Damaged(_) }, Candidate { epoch: 2, .. }]
    ));
    // or it would count as shown before it is
    assert_eq!(store.newest_epoch().await.unwrap(), Some(3));
}

#[tokio::test]
async fn a_savepoint_has_a_name_that_no_epoch_has() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).await.unwrap();
    let error = store.save(1, "20261124").await.unwrap_err().to_string();
    assert!(error.contains("`20261124`") && error.contains("epoch"), "{error}");
    store.save(1, "2026-11-24").await.unwrap();
    std::fs::remove_file(path(&store, "savepoints/2026-11-24/manifest")).unwrap();
    let error = store.load_savepoint("2026-11-24").await.unwrap_err().to_string();
    assert_eq!(error, "there is no savepoint 2026-11-24; there are none");
}

#[tokio::test]
async fn every_damaged_byte_of_a_checkpoint_is_found() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).await.unwrap();
    store.write(draft(2, "a")).await.unwrap();
    for file in ["manifest", "a-sum-0-0.state"] {
        let path = path(&store, &format!("0000000002/{file}"));
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let candidates = store.candidates().await.unwrap().all;
            assert!(matches!(&candidates[0].health, Health::Damaged(reason) if !reason.is_empty()), "{file} byte {at}");
            assert_eq!(candidates[1], Candidate { epoch: 1, health: Health::Whole });
        }
        std::fs::write(&path, &whole).unwrap();
    }
    std::fs::remove_file(path(&store, "0000000002/a-sum-0-0.state")).unwrap();
    let Health::Damaged(reason) = &store.candidates().await.unwrap().all[0].health else { panic!("whole") };
    assert!(reason.contains("step `sum`, task 0") && reason.contains("missing"), "{reason}");
}

#[tokio::test]
async fn an_epoch_is_written_by_one_process_only_and_repeated_by_it() {
    let (_folder, store) = store();
    store.write(draft(1, "a")).await.unwrap();
    store.write(draft(1, "a")).await.unwrap();
    let error = store.write(draft(1, "b")).await.unwrap_err();
    assert!(matches!(error, StoreError::Fenced { epoch: 1, .. }), "{error}");
    assert_eq!(store.load(1).await.unwrap().manifest.attempt, "a");
}

#[tokio::test]
async fn a_second_process_is_refused_while_the_first_lives() {
    let (_folder, store) = store();
    let lease = store.lease("process 7").await.unwrap();
    let error = store.lease("process 8").await.unwrap_err().to_string();
    assert!(error.contains("process 7") && error.contains("another store"), "{error}");
    drop(lease);
    store.lease("process 8").await.unwrap();
}

#[tokio::test]
async fn retention_keeps_the_newest_and_savepoints() {
    let (_folder, store) = store();
    for epoch in 1..=5 {
        store.write(draft(epoch, "a")).await.unwrap();
    }
    store.save(2, "before-upgrade").await.unwrap();
    let error = store.save(3, "before-upgrade").await.unwrap_err().to_string();
    assert!(error.contains("there is one of this name"), "{error}");
    assert!(store.save(3, "../x").await.is_err());
    store.objects.put("0000000003.b/half", b"".to_vec()).await.unwrap();
    store.objects.put("0000000006/b-half.state", b"".to_vec()).await.unwrap();
    store.retain(2, u64::MAX).await.unwrap();
    assert_eq!(epochs(&store).await, [5, 4]);
    assert!(!path(&store, "0000000001").exists() && !path(&store, "0000000003").exists());
    assert!(path(&store, "0000000006").exists(), "it may be in the works");
    assert_eq!(store.load_savepoint("before-upgrade").await.unwrap().manifest.epoch, 2);
    let error = store.load_savepoint("before").await.unwrap_err().to_string();
    assert_eq!(error, "there is no savepoint before; there are before-upgrade");
}

#[tokio::test]
async fn a_checkpoint_that_sinks_may_not_have_shown_is_none_of_those_that_are_kept() {
    let (_folder, store) = store();
    for epoch in 1..=4 {
        store.write(draft(epoch, "a")).await.unwrap();
    }
    store.retain(2, 3).await.unwrap();
    assert_eq!(epochs(&store).await, [4, 3, 2]);
}

#[tokio::test]
async fn a_savepoint_knows_whether_all_sinks_had_shown_its_checkpoint() {
    let (_folder, store) = store();
    for epoch in 1..=2 {
        store.write(draft(epoch, "a")).await.unwrap();
    }
    store.mark_committed(1).await.unwrap();
    for (epoch, name) in [(1, "shown"), (2, "not-shown")] {
        store.save(epoch, name).await.unwrap();
        assert_eq!(store.load_savepoint(name).await.unwrap().committed, epoch == 1);
    }
}

/// 100 000 keys; the values of those in `changed` differ.
fn many(changed: std::ops::Range<i64>) -> RecordBatch {
    let values = (0..100_000).map(|key| if changed.contains(&key) { -key } else { key });
    let keys = Int64Array::from_iter_values(0..100_000);
    let wide = |add: i64| Arc::new(Int64Array::from_iter_values(values.clone().map(|value| value + add))) as _;
    RecordBatch::try_from_iter([("key", Arc::new(keys) as _), ("a", wide(0)), ("b", wide(1)), ("c", wide(2))]).unwrap()
}

#[tokio::test]
async fn what_has_not_changed_is_not_written_again_and_kept_as_long_as_it_is_needed() {
    let (_folder, local) = store();
    for store in [local, in_memory()] {
        let all = store.write(draft_of(1, "a", many(0..0))).await.unwrap();
        assert!(all > 3_000_000, "{all}");
        let mut manifests = Vec::new();
        for epoch in 2..=5 {
            let key = i64::try_from(epoch).unwrap();
            let new = store.write(draft_of(epoch, "a", many(key..key + 1))).await.unwrap();
            assert!(new < all * 2 / 3, "checkpoint {epoch}: {new} of {all} bytes");
            store.retain(2, u64::MAX).await.unwrap();
            manifests.push(store.load(epoch).await.unwrap().manifest);
        }
        assert!(manifests[3].state_files().any(|(.., file)| file.epoch == 1), "the first checkpoint's files are used");
        assert_eq!(epochs(&store).await, [5, 4]);
        let loaded = store.load(5).await.unwrap();
        let rows: usize = loaded.states[&("sum".to_owned(), 0)].rows("rows").iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 100_000);
        let referred = manifests[2].state_files().chain(manifests[3].state_files());
        let referred: std::collections::BTreeSet<String> = referred.map(|(.., file)| path_of(file)).collect();
        let mut there = std::collections::BTreeSet::new();
        for epoch in store.epochs().await.unwrap() {
            let folder = folder_of(epoch);
            let (_, files) = store.objects.list(&folder).await.unwrap();
            there.extend(files.iter().filter(|file| file.ends_with(".state")).map(|file| format!("{folder}/{file}")));
        }
        assert_eq!(there, referred, "no more and no less than what the kept checkpoints name");
    }
}

/// A step whose state is `blocks` of frozen copies: the number of each, and how often its rows have been made.
fn frozen(epoch: u64, blocks: &[(u128, Arc<AtomicUsize>)]) -> Draft {
    let mut draft = draft_of(epoch, "a", many(0..0).slice(0, 0));
    let later = |(id, made): &(u128, Arc<AtomicUsize>)| {
        let (id, made) = (*id, Arc::clone(made));
        let rows = move || {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(many(0..0).slice(usize::try_from(id).unwrap() * 10, 10))
        };
        crate::state::Later::new(move || id, rows)
    };
    let state = Snapshot::default().with("rows", Some(1), Vec::new()).with_later(blocks.iter().map(later).collect());
    draft.states = BTreeMap::from([(("sum".to_owned(), 0), state)]);
    draft
}

#[tokio::test]
async fn rows_of_a_frozen_copy_are_made_only_where_it_has_changed() {
    let (_folder, local) = store();
    for store in [local, in_memory()] {
        let made: Vec<_> = (0..4).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let block = |id: usize| (id as u128, Arc::clone(&made[id]));
        let counts = || made.iter().map(|made| made.load(Ordering::Relaxed)).collect::<Vec<_>>();
        store.write(frozen(1, &[block(0), block(1)])).await.unwrap();
        assert_eq!(counts(), [1, 1, 0, 0]);
        store.write(frozen(2, &[block(0), block(2)])).await.unwrap();
        assert_eq!(counts(), [1, 1, 1, 0]);
        store.retain(1, u64::MAX).await.unwrap();
        // what has not been in the last checkpoint is made again: its file may be gone
        store.write(frozen(3, &[block(1), block(2), block(3)])).await.unwrap();
        assert_eq!(counts(), [1, 2, 1, 1]);
        let loaded = store.load(3).await.unwrap();
        let keys = loaded.states[&("sum".to_owned(), 0)].rows("rows").iter();
        let keys: Vec<i64> =
            keys.flat_map(|rows| rows.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert_eq!(keys, (10..40).collect::<Vec<i64>>());
        // another checkpoint has been taken up: nothing is known of its files
        store.load(2).await.ok();
        store.write(frozen(4, &[block(3)])).await.unwrap();
        assert_eq!(counts()[3], 2);
    }
}

#[tokio::test]
async fn a_process_that_goes_on_writes_only_what_changed_since_the_checkpoint_it_loaded() {
    let (folder, first) = store();
    let all = first.write(draft_of(1, "a", many(0..0))).await.unwrap();
    let second = open(folder.path(), None);
    second.load(1).await.unwrap();
    let new = second.write(draft_of(2, "b", many(7..8))).await.unwrap();
    assert!(new < all * 2 / 3, "{new} of {all}");
    second.load(2).await.unwrap();
}

#[tokio::test]
async fn a_savepoint_keeps_what_it_refers_to_and_an_unreadable_one_keeps_everything() {
    let (_folder, store) = store();
    store.write(draft_of(1, "a", many(0..0))).await.unwrap();
    store.save(1, "before").await.unwrap();
    for epoch in 2..=6 {
        store.write(draft(epoch, "a")).await.unwrap();
        store.retain(1, u64::MAX).await.unwrap();
    }
    assert_eq!(epochs(&store).await, [6]);
    assert_eq!(store.load_savepoint("before").await.unwrap().manifest.epoch, 1);
    store.objects.put("savepoints/before/manifest", b"damaged".to_vec()).await.unwrap();
    store.write(draft(7, "a")).await.unwrap();
    assert!(store.retain(1, u64::MAX).await.is_err());
    assert_eq!(epochs(&store).await, [7, 6]);
    store.objects.remove_folder("savepoints/before").await.unwrap();
    store.retain(1, u64::MAX).await.unwrap();
    assert_eq!(store.epochs().await.unwrap(), [7], "nothing refers to the first any more");
}

#[tokio::test]
async fn where_there_are_no_locks_the_last_to_start_takes_over_and_the_first_stops() {
    let store = in_memory();
    let first = store.lease("process 7, attempt a").await.unwrap();
    first.check().await.unwrap();
    let second = store.lease("process 8, attempt b").await.unwrap();
    second.check().await.unwrap();
    let error = first.check().await.unwrap_err();
    assert!(matches!(error, StoreError::TakenOver { .. }) && error.to_string().contains("process 8"), "{error}");
    // also without a look at the lease only one of them has an epoch
    let epoch = store.newest_epoch().await.unwrap().map_or(1, |newest| newest + 1);
    let other = Store::new(store.objects.clone(), "orders", None);
    assert_eq!(other.newest_epoch().await.unwrap(), store.newest_epoch().await.unwrap());
    let (a, b) = tokio::join!(store.write(draft(epoch, "a")), other.write(draft(epoch, "b")));
    let lost = [&a, &b].into_iter().filter(|written| matches!(written, Err(StoreError::Fenced { .. }))).count();
    assert_eq!((lost, a.is_ok() != b.is_ok()), (1, true), "{a:?} {b:?}");
}

#[tokio::test]
async fn encrypted_checkpoints_show_nothing_and_open_with_their_key_only() {
    let (folder, _) = store();
    let (old, new) = (Keys::generate().unwrap(), Keys::generate().unwrap());
    let store = open(folder.path(), Some(&old));
    let mut secret = draft(1, "a");
    secret.manifest.prepared.push(super::super::manifest::PreparedEntry {
        sink: "out".into(),
        shown: "hush-hush".into(),
        bytes: b"hush-hush".to_vec(),
    });
    store.write(secret.clone()).await.unwrap();
    store.save(1, "kept").await.unwrap();
    for file in ["0000000001/manifest", "0000000001/a-sum-0-0.state", "savepoints/kept/manifest"] {
        let bytes = std::fs::read(path(&store, file)).unwrap();
        assert!(bytes.starts_with(b"MSEN"));
        assert!(!bytes.windows(4).any(|bytes| bytes == b"hush" || bytes == b"rows" || bytes == b"MSST"), "{file}");
    }
    assert_eq!(store.load(1).await.unwrap().manifest.prepared, secret.manifest.prepared);
    // another key, no key, and an old key that is still given
    for keys in [Some(new.as_str()), None] {
        let error = open(folder.path(), keys).candidates().await.unwrap_err();
        assert!(matches!(&error, StoreError::Key { .. }), "a missing key is no damage: {error}");
        assert!(!error.to_string().contains(&old) && !error.to_string().contains(&new));
    }
    let rotated = open(folder.path(), Some(&format!("{new} {old}")));
    rotated.load(1).await.unwrap();
    rotated.load_savepoint("kept").await.unwrap();
    rotated.write(draft(2, "b")).await.unwrap();
    assert!(matches!(store.load(2).await, Err(StoreError::Key { .. })), "the first key encrypts");
    open(folder.path(), Some(&new)).load(2).await.unwrap();
    // a manifest in another's place, a plain one, and a plain store with keys
    std::fs::copy(path(&store, "0000000001/manifest"), path(&store, "0000000002/manifest")).unwrap();
    let error = rotated.load(2).await.unwrap_err().to_string();
    assert!(error.contains("another file's content"), "{error}");
    let plain = tempfile::tempdir().unwrap();
    open(plain.path(), None).write(draft(1, "a")).await.unwrap();
    let error = open(plain.path(), Some(&new)).load(1).await.unwrap_err().to_string();
    assert!(error.contains("is not encrypted"), "{error}");
}
