//! Files that people change while a pipeline runs: components ([`files`]) and the sources they are built from ([`tree`]).
//!
//! The operating system's events only say that it is worth looking; what is looked at decides. So neither the order of
//! events, nor an editor that writes a new file over the old, nor a copy that takes its time can mislead.

mod files;
mod swaps;
mod tree;

use std::path::Path;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

pub(crate) use files::FileWatch;
pub(crate) use swaps::{Watched, slot_name, swap_on_change, swapped};
pub(crate) use tree::TreeWatch;

use crate::failure::Failure;

/// How long nothing must have happened before a change counts as finished.
const QUIET: Duration = Duration::from_millis(60);

/// Watches folders; sends a word for every event in them that `concerns` us. Reading a file is no event.
fn watch(
    folders: &[(&Path, RecursiveMode)],
    concerns: impl Fn(&Event) -> bool + Send + 'static,
) -> Result<(RecommendedWatcher, mpsc::Receiver<()>), Failure> {
    // one word is enough to wake whoever looks; more would say the same
    let (sender, receiver) = mpsc::channel(1);
    let report = move |event: notify::Result<Event>| {
        let look = event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_)) && concerns(&event));
        if look {
            let _ = sender.try_send(());
        }
    };
    let refused = |path: &Path, error: notify::Error| Failure::File {
        what: "watch",
        path: path.to_owned(),
        source: std::io::Error::other(error),
    };
    let first = folders.first().map_or(Path::new("."), |(path, _)| path);
    let mut watcher = notify::recommended_watcher(report).map_err(|error| refused(first, error))?;
    for (folder, mode) in folders {
        watcher.watch(folder, *mode).map_err(|error| refused(folder, error))?;
    }
    Ok((watcher, receiver))
}

/// Waits for a word and then until none has come for [`QUIET`]. `false` when the watcher is gone.
async fn settled(words: &mut mpsc::Receiver<()>) -> bool {
    words.recv().await.is_some() && quiet(words).await
}

/// Waits until no word has come for [`QUIET`]. `false` when the watcher is gone.
async fn quiet(words: &mut mpsc::Receiver<()>) -> bool {
    while let Ok(word) = tokio::time::timeout(QUIET, words.recv()).await {
        if word.is_none() {
            return false;
        }
    }
    true
}
