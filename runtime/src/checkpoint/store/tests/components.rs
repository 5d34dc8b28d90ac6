//! The files of components beside those of checkpoints.

use super::*;
use crate::checkpoint::component_version::{SlotVersions, VersionEntry};
use crate::checkpoint::store::components;

fn digest_of(content: &str) -> String {
    components::digest_of(content.as_bytes())
}

/// A checkpoint that names components with these contents.
fn with_components(epoch: u64, contents: &[&str]) -> Draft {
    let mut draft = draft(epoch, "a");
    let version = |(at, content): (usize, &&str)| VersionEntry {
        number: at as u64 + 1,
        digest: digest_of(content),
        path: "sum.wasm".into(),
        since_ms: 1,
        swapped: at > 0,
        change: at as u64,
        state: None,
    };
    let versions: Vec<VersionEntry> = contents.iter().enumerate().map(version).collect();
    let current = versions.len() as u64;
    let declared = versions[0].digest.clone();
    draft.manifest.versions =
        vec![SlotVersions { step: "sum".into(), slot: 0, declared, numbers: current, current, versions }];
    draft.components = contents.iter().map(|content| (digest_of(content), Arc::from(content.as_bytes()))).collect();
    draft
}

fn files(store: &Store) -> Vec<String> {
    let entries = std::fs::read_dir(path(store, "components")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn named(contents: &[&str]) -> Vec<String> {
    let mut names: Vec<String> = contents.iter().map(|content| format!("{}.wasm", digest_of(content))).collect();
    names.sort();
    names
}

#[tokio::test]
async fn components_are_written_once_and_go_with_the_last_checkpoint_that_names_them() {
    let (folder, store) = store();
    store.write(with_components(1, &["first", "second"])).await.unwrap();
    assert_eq!(files(&store), named(&["first", "second"]));
    let written = |content: &str| {
        let file = path(&store, &format!("components/{}.wasm", digest_of(content)));
        std::fs::metadata(file).unwrap().modified().unwrap()
    };
    let before = written("second");
    store.save(1, "before").await.unwrap();
    store.write(with_components(2, &["second", "third"])).await.unwrap();
    assert_eq!(written("second"), before);
    store.write(with_components(3, &["third"])).await.unwrap();
    store.retain(1, u64::MAX).await.unwrap();
    assert_eq!(files(&store), named(&["first", "second", "third"]), "the savepoint names the first two");
    store.objects.remove_folder("savepoints/before").await.unwrap();
    // by another process as well, which knows of nothing
    let other = open(folder.path(), None);
    other.write(with_components(4, &["third"])).await.unwrap();
    other.retain(1, u64::MAX).await.unwrap();
    assert_eq!(files(&store), named(&["third"]));
    assert_eq!(other.component(&digest_of("third")).await.unwrap(), b"third");
}

#[tokio::test]
async fn a_component_that_is_missing_or_damaged_is_told_and_no_checkpoint_is_kept_without_it() {
    let (_folder, store) = store();
    store.write(with_components(1, &["first"])).await.unwrap();
    let digest = digest_of("first");
    let file = path(&store, &format!("components/{digest}.wasm"));
    std::fs::write(&file, "fir5t").unwrap();
    let error = store.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains("is damaged: its digest is") && error.contains(&digest), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = store.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
    for name in ["../1/manifest", "", "ff"] {
        let error = store.component(name).await.unwrap_err().to_string();
        assert!(error.contains("expected 64 hexadecimal digits"), "{error}");
    }
    let error = store.save(1, "kept").await.unwrap_err().to_string();
    assert!(error.contains("is missing"), "{error}");
    assert!(store.savepoints().await.unwrap().is_empty());
}

#[tokio::test]
async fn components_are_encrypted_where_checkpoints_are() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), Some(&"0b".repeat(32)));
    store.write(with_components(1, &["a component"])).await.unwrap();
    let digest = digest_of("a component");
    let file = path(&store, &format!("components/{digest}.wasm"));
    assert!(std::fs::read(&file).unwrap().starts_with(b"MSEN"));
    assert_eq!(store.component(&digest).await.unwrap(), b"a component");
    std::fs::write(&file, "a component").unwrap();
    let error = store.component(&digest).await.unwrap_err().to_string();
    assert!(error.contains("is not encrypted"), "{error}");
}
