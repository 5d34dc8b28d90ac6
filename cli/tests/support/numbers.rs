//! A pipeline of numbers with checkpoints, whose process is killed: what it begins with, how far it is, what it has shown.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Folder, SOON, guest};

/// Rows of a run: about a second of them.
pub const ROWS: u64 = 24_000;

/// `pipeline.toml` with a checkpoint every 50 ms; `steps` and sinks stand behind the source `numbers`, with as many `keys`.
pub fn numbers(parallelism: usize, keys: usize, steps: &str) -> Folder {
    let folder = Folder::new();
    let pipeline = format!(
        r#"
name = "numbers"
parallelism = {parallelism}
checkpoint = {{ store = "state", interval = "50ms" }}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS}, rate = {ROWS}, keys = {keys} }}
{steps}
"#
    );
    folder.write("pipeline.toml", pipeline);
    folder
}

/// Puts two versions of a guest there: the first as it was built, the second with `new` in the place of `old`.
pub fn two_versions(folder: &Folder, component: &str, names: (&str, &str), (old, new): (&str, &str)) {
    folder.install(component, names.0);
    let (text, old, new) = (std::fs::read(guest(component)).unwrap(), old.as_bytes(), new.as_bytes());
    let mut second = text.clone();
    for at in 0..text.len().saturating_sub(old.len()) {
        if &text[at..at + old.len()] == old {
            second[at..at + new.len()].copy_from_slice(new);
        }
    }
    assert_ne!(text, second);
    folder.write(names.1, second);
}

/// What the process says of itself; null where there is none.
pub fn status(folder: &Folder) -> Value {
    serde_json::from_str(&folder.run(&["status", "numbers", "--json"]).stdout).unwrap_or_default()
}

/// Waits until `step` has taken in a good part of the rows.
pub fn wait_for_rows(folder: &Folder, step: &str) {
    let until = Instant::now() + SOON;
    loop {
        let status = status(folder);
        let nodes = status["status"]["nodes"].as_array();
        let node = nodes.and_then(|nodes| nodes.iter().find(|node| node["name"] == step));
        if node.is_some_and(|node| node["counts"]["rows_in"].as_u64() > Some(ROWS / 6)) {
            return;
        }
        assert!(Instant::now() < until, "no rows: {status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// All rows that a sink shows, with the number of their epoch.
pub fn shown(folder: &Folder, sink: &str) -> Vec<(u64, Value)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder.path(sink)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with('.') {
            continue;
        }
        let epoch = name.split('-').nth(1).unwrap().parse().unwrap();
        let text = std::fs::read_to_string(entry.path()).unwrap();
        found.extend(text.lines().map(|line| (epoch, serde_json::from_str(line).unwrap())));
    }
    found
}
