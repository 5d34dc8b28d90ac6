//! The import table of ARCHITECTURE.md, held against the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Modules that everybody may use.
const BASE: [&str; 5] = ["error", "clock", "limits", "metrics", "rng"];

/// Files and folders that the page calls pure, and what they must not name.
const IMPURE: [&str; 6] = ["tokio::", "wasmtime::", "std::fs", "std::net", "SystemTime", "Instant::now"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// The rows of the table under "Who may import whom".
fn allowed(page: &str) -> BTreeMap<String, BTreeSet<String>> {
    let section = page.split("## Who may import whom").nth(1).expect("the section");
    let rows = section.lines().skip_while(|line| !line.starts_with("| ---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let may = cells[1].split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
            (cells[0].to_owned(), may.collect())
        })
        .collect()
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of the runtime") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Names after `crate::` in code, comments left out.
fn imports(text: &str) -> BTreeSet<String> {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let joined = code.collect::<Vec<_>>().join("\n");
    joined
        .split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn modules_import_only_what_the_architecture_page_allows() {
    let allowed = allowed(&page());
    assert!(allowed.len() > 8, "the table was not found: {allowed:?}");
    let src = root().join("runtime/src");
    let mut wrong = Vec::new();
    for (module, may) in &allowed {
        for file in rust_files(&src.join(module)) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            if text.contains("crate::{") {
                wrong.push(format!(
                    "{} imports crate::{{..}}: write a line a module, so that this test sees it",
                    file.display()
                ));
            }
            for import in imports(&text) {
                let fine = import == *module || may.contains(&import) || BASE.contains(&import.as_str());
                // `crate::` followed by something that is no folder (a macro, a test support module) is not a layer
                if !fine && allowed.contains_key(&import) {
                    wrong.push(format!("{} imports {import}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "not in the table of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn every_folder_of_the_runtime_stands_in_the_table() {
    let allowed = allowed(&page());
    for entry in std::fs::read_dir(root().join("runtime/src")).expect("runtime/src") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(allowed.contains_key(&name), "runtime/src/{name} is missing from the table of ARCHITECTURE.md");
        }
    }
}

#[test]
fn pure_modules_name_nothing_impure() {
    let page = page();
    let line = page.split("Pure modules").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("the pure modules");
    let names: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
    assert!(names.len() >= 6, "the list was not found: {names:?}");
    for name in names {
        let path = root().join("runtime/src").join(name);
        let files = if path.is_dir() { rust_files(&path) } else { vec![path] };
        for file in files {
            let text = std::fs::read_to_string(&file).expect("a source file");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for word in IMPURE {
                assert!(!code.contains(word), "{} is said to be pure and names {word}", file.display());
            }
        }
    }
}
