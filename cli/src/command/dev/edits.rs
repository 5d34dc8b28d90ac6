//! The pipeline file while its pipeline runs: what an edit changed, and whether it can run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millstream::pipeline::resolve::Resolution;
use millstream::wasm::Sandbox;

use crate::failure::Failure;
use crate::watch::FileWatch;

/// Watches a pipeline file.
#[derive(Debug)]
pub(super) struct Edits {
    path: PathBuf,
    watch: FileWatch,
    /// as it runs
    text: String,
}

/// An edit that can run.
pub(super) struct Edit {
    pub(super) resolution: Resolution,
    /// which sections are new, gone or changed
    pub(super) what: String,
}

impl Edits {
    /// From the file's present state on.
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        Ok(Self { path: path.to_owned(), watch: FileWatch::new([path.to_owned()])?, text })
    }

    /// Waits for an edit that changes the text: how the pipeline can run then, or why it cannot. Dropping the future before it
    /// is ready loses no edit that was not seen.
    pub(super) async fn next(&mut self, sandbox: &Sandbox) -> Result<Edit, Failure> {
        loop {
            self.watch.changed().await;
            // gone again: the next event tells
            let Ok(text) = std::fs::read_to_string(&self.path) else { continue };
            if text == self.text {
                continue;
            }
            let (path, sandbox) = (self.path.clone(), sandbox.clone());
            // components are compiled off the threads that run the pipeline
            let resolved = tokio::task::spawn_blocking(move || super::super::resolve(&path, None, &sandbox)).await;
            let resolution =
                resolved.map_err(|error| Failure::Process { what: "check", reason: error.to_string() })??;
            let what = difference(&self.text, &text);
            self.text = text;
            return Ok(Edit { resolution, what });
        }
    }
}

/// `[step.a] new, [step.b] changed`, or that only comments and blanks differ.
fn difference(before: &str, after: &str) -> String {
    let (before, after) = (sections(before), sections(after));
    let mut all = Vec::new();
    for (name, lines) in &after {
        match before.get(name) {
            None => all.push(format!("{name} is new")),
            Some(known) if known != lines => all.push(format!("{name} changed")),
            Some(_) => {}
        }
    }
    all.extend(before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("{name} is gone")));
    if all.is_empty() { "nothing but comments changed".to_owned() } else { all.join(", ") }
}

/// Lines by header; what stands before the first belongs to the pipeline itself.
fn sections(text: &str) -> BTreeMap<String, Vec<&str>> {
    let mut name = "the pipeline".to_owned();
    let mut sections: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('[') && line.ends_with(']') {
            line.clone_into(&mut name);
        }
        sections.entry(name.clone()).or_default().push(line);
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_told_by_its_sections() {
        let before = "name = \"p\"\n[step.a]\nmap = \"a.wasm\"\n# note\n[step.b]\nx = 1\n[sink.o]\nfrom = \"a\"";
        let after = "name = \"p\"\n\n[step.a]\nmap = \"b.wasm\"\n[sink.o]\nfrom = \"a\"\n[step.c]\nx = 1";
        assert_eq!(difference(before, after), "[step.a] changed, [step.c] is new, [step.b] is gone");
        assert_eq!(difference(before, &before.replace("# note", "# other")), "nothing but comments changed");
        assert_eq!(difference("{\"name\":1}", "{\"name\":2}"), "the pipeline changed");
    }
}
