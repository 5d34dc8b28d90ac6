//! Tests of what `new` writes.

use std::fs;

use super::{CreateError, create, create_with};

#[test]
fn every_template_leaves_no_word_in_braces() {
    for lang in ["rust", "c", "go"] {
        for kind in ["map", "filter", "flat-map", "aggregate", "process", "window-process", "partition"] {
            let folder = tempfile::tempdir().unwrap();
            let files = create(&folder.path().join("new"), "my-operator", lang, kind).unwrap();
            assert!(files.iter().any(|file| file.ends_with("pipeline.toml")));
            let script = files.iter().find(|file| file.ends_with("test.jsonl")).unwrap();
            millstream::script::Script::read(script).unwrap();
            for file in files {
                let text = fs::read_to_string(&file).unwrap();
                for word in ["name", "function", "type", "kind", "lang", "sdk", "test"] {
                    assert!(!text.contains(&format!("{{{{{word}}}}}")), "{}: {word}", file.display());
                }
            }
        }
    }
}

#[test]
fn the_pipeline_names_the_component_that_build_makes() {
    let folder = tempfile::tempdir().unwrap();
    create(folder.path(), "my-operator", "rust", "flat-map").unwrap();
    let pipeline = fs::read_to_string(folder.path().join("pipeline.toml")).unwrap();
    assert!(pipeline.contains("flat_map = \"build/my-operator.wasm\""), "{pipeline}");
    toml::de::DeTable::parse(&pipeline).unwrap();
}

#[test]
fn names_that_are_no_identifiers_are_refused_and_keywords_avoided() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["", "1st", "a b", "../up", "größe", "test"] {
        let error = create(&folder.path().join("x"), name, "rust", "map").unwrap_err();
        assert!(matches!(error, CreateError::Name { .. }), "{name}: {error}");
    }
    create(folder.path(), "match", "rust", "map").unwrap();
    assert!(fs::read_to_string(folder.path().join("src/lib.rs")).unwrap().contains("pub fn match_row("));
}

#[test]
fn a_folder_with_files_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("mine"), "").unwrap();
    let error = create(folder.path(), "a", "rust", "map").unwrap_err();
    assert!(matches!(error, CreateError::NotEmpty { .. }), "{error}");
}

#[test]
fn unknown_languages_kinds_and_sdks_name_the_alternatives() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let message = |lang, kind| create(dir, "a", lang, kind).unwrap_err().to_string();
    assert_eq!(message("cobol", "map"), "no template for \"cobol\"; there are: rust, c, go");
    assert!(message("rust", "reduce").contains("there are: map, filter, flat_map, aggregate"));
    let error = create_with(dir, "a", "rust", "map", Some(dir)).unwrap_err();
    assert!(error.to_string().contains("is not the Rust SDK"));
}
