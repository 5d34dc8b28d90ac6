//! The scratch store by itself.

use std::fs;

use super::*;

fn all(area: &Area) -> Vec<(Vec<u8>, Vec<u8>)> {
    let entries = area.range(&[], &[255]).map(Result::unwrap);
    entries.map(|(key, value)| (key, value.to_vec())).collect()
}

fn put(area: &Area, about_bytes: usize, rows: &[(&[u8], Option<&[u8]>)]) -> Result<(), SpillError> {
    area.write(about_bytes, |put| rows.iter().try_for_each(|(key, value)| put(key, *value)))
}

#[test]
fn areas_of_a_store_do_not_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = SpillStore::open(folder.path(), "p", 0).unwrap();
    let (one, other) = (store.area(), store.area());
    put(&one, 0, &[(b"a", Some(b"1")), (b"b", Some(b"2"))]).unwrap();
    // as tables of the tree
    put(&other, usize::MAX, &[(b"a", Some(b"3")), (b"c", Some(b"4"))]).unwrap();
    put(&other, 0, &[(b"c", None)]).unwrap();
    assert_eq!(all(&one), [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
    assert_eq!(all(&other), [(b"a".to_vec(), b"3".to_vec())]);
    assert_eq!(one.get(b"b").unwrap().as_deref(), Some(b"2".as_slice()));
    assert!(other.get(b"c").unwrap().is_none());
}

#[test]
fn keys_that_do_not_ascend_are_an_error_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let area = SpillStore::open(folder.path(), "p", 0).unwrap().area();
    for about_bytes in [0, usize::MAX] {
        let error = put(&area, about_bytes, &[(b"b", Some(b"1")), (b"a", Some(b"2"))]).unwrap_err();
        assert!(error.to_string().contains("keys do not ascend"), "{error}");
    }
}

#[test]
fn a_start_removes_what_dead_processes_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("p");
    let open = SpillStore::open(folder.path(), "p", 0).unwrap();
    // what a killed process leaves: the folder, and a lock that nobody holds
    fs::create_dir_all(home.join("7/store")).unwrap();
    fs::write(home.join("7/lock"), "").unwrap();
    fs::write(home.join("7/store/rows"), "left").unwrap();
    fs::create_dir_all(home.join("8")).unwrap();
    fs::write(home.join("notes"), "mine").unwrap();
    fs::write(folder.path().join("other"), "mine").unwrap();
    put(&open.area(), 0, &[(b"a", Some(b"1"))]).unwrap();
    let second = SpillStore::open(folder.path(), "p", 0).unwrap();
    assert_ne!(open.folder(), second.folder());
    assert!(all(&second.area()).is_empty());
    assert!(!home.join("7").exists());
    assert!(open.folder().exists() && home.join("8").exists() && home.join("notes").exists());
    assert!(folder.path().join("other").exists());
    let gone = open.folder().to_owned();
    drop(open);
    assert!(!gone.exists() && second.folder().exists());
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let error = SpillStore::open(&folder.path().join("file"), "p", 0).unwrap_err().to_string();
    assert!(error.contains("cannot make") && error.contains("file/p") && error.contains("state.spill"), "{error}");
}
