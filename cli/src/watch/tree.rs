//! The sources of a project: everything in its folder but what tools put there.

use std::path::{Path, PathBuf};

use notify::{Event, RecommendedWatcher, RecursiveMode};
use tokio::sync::mpsc;

use crate::failure::Failure;

/// Folders that hold what tools made.
const MADE: [&str; 3] = ["target", "build", "node_modules"];

/// Watches a project until dropped.
#[derive(Debug)]
pub(crate) struct TreeWatch {
    _watcher: RecommendedWatcher,
    words: mpsc::Receiver<()>,
}

impl TreeWatch {
    /// Watches the folder `project` from now on.
    pub(crate) fn new(project: &Path) -> Result<Self, Failure> {
        let project = project.canonicalize().map_err(|source| Failure::File {
            what: "watch",
            path: project.to_owned(),
            source,
        })?;
        let root = project.clone();
        let concerns = move |event: &Event| event.paths.iter().any(|path| is_source(&root, path));
        let (watcher, words) = super::watch(&[(&project, RecursiveMode::Recursive)], concerns)?;
        Ok(Self { _watcher: watcher, words })
    }

    /// Waits until a source has changed and nothing more happens. Never returns when the watcher is gone.
    pub(crate) async fn changed(&mut self) {
        if !super::settled(&mut self.words).await {
            std::future::pending::<()>().await;
        }
    }
}

/// Whether a path can be a source: not hidden, not made by a tool, not an editor's copy.
fn is_source(root: &Path, path: &Path) -> bool {
    let Ok(inside) = path.strip_prefix(root) else { return false };
    let inside: PathBuf = inside.to_owned();
    let mut names = inside.components().map(|part| part.as_os_str().to_string_lossy()).peekable();
    if names.peek().is_none() {
        return false;
    }
    let hidden = names.any(|name| name.starts_with('.') || MADE.contains(&name.as_ref()));
    let name = inside.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let made = [".wasm", ".part", ".swp", ".tmp", "~"].iter().any(|end| name.ends_with(end));
    // vim asks whether it may write by a file of this name
    !hidden && !made && name != "4913" && name != "Cargo.lock"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_and_editors_write_is_no_source() {
        let root = Path::new("/p");
        let source = |path: &str| is_source(root, &root.join(path));
        for path in ["src/lib.rs", "Cargo.toml", "map.c", "go.mod", "src/target.rs"] {
            assert!(source(path), "{path}");
        }
        let not = ["target/x", "build/x.wasm", ".git/index", "src/.lib.rs.swp", "src/lib.rs~", "4913", "x.wasm", ""];
        for path in not {
            assert!(!source(path), "{path}");
        }
        assert!(!is_source(root, Path::new("/elsewhere/lib.rs")));
    }
}
