//! Real processes whose state is larger than the memory that they may use for it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use support::Folder;

/// Rows with `keys` different keys, at random.
fn write(folder: &Folder, keys: u64, rows: u64, more: &str, rate: &str) {
    folder.write(
        "pipeline.toml",
        format!(
            r#"
name = "counts"
parallelism = 1
{more}
[source.rows]
generator = {{ kind = "sequence", keys = {keys}, rows = {rows}, interval = "1us"{rate} }}
[step.counts]
from = "rows"
key_by = "key"
window = {{ tumbling = "1h" }}
aggregate = {{ n = "count()", total = "sum(amount)", last = "last(sequence)" }}
[sink.out]
from = "counts"
file = {{ path = "out/rows.json" }}
"#
        ),
    );
}

/// Rows of all visible parts.
fn rows(folder: &Folder) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder.path("out")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            rows.extend(std::fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
    }
    rows.sort();
    rows
}

/// The most memory that a process had, in KiB. `/proc/<pid>/status` is gone with the process: looked at until then.
fn peak_kib(folder: &Folder) -> u64 {
    let mut child =
        folder.command(&["run", "pipeline.toml"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        if let Ok(text) = std::fs::read_to_string(&status)
            && let Some(line) = text.lines().find(|line| line.starts_with("VmHWM:"))
        {
            peak = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        }
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return peak;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn two_million_keys_take_no_more_memory_than_they_may() {
    let peak_with = |more: &str| {
        let folder = Folder::new();
        // so many that hardly any comes twice
        write(&folder, 1_000_000_000, 2_000_000, more, "");
        (peak_kib(&folder), rows(&folder))
    };
    let (bounded, found) = peak_with("state = { memory = \"24MiB\", spill = \"scratch\" }");
    let (unbounded, expected) = peak_with("");
    assert!(found.len() > 1_990_000 && found == expected, "{} rows, {} expected", found.len(), expected.len());
    println!("peak: {} MiB bounded, {} MiB unbounded", bounded >> 10, unbounded >> 10);
    assert!(bounded < 100 << 10, "{} MiB, unbounded {} MiB", bounded >> 10, unbounded >> 10);
    assert!(bounded * 2 < unbounded, "{} MiB, unbounded {} MiB", bounded >> 10, unbounded >> 10);
}

#[test]
fn a_killed_process_goes_on_from_its_checkpoint_and_not_from_its_scratch() {
    let straight = Folder::new();
    write(&straight, 2_000, 30_000, "", "");
    straight.run(&["run", "pipeline.toml"]).expect(0);
    let folder = Folder::new();
    let more = "checkpoint = { store = \"state\", interval = \"100ms\" }\n\
                state = { memory = \"8KiB\", spill = \"scratch\" }";
    write(&folder, 2_000, 30_000, more, ", rate = 15_000");
    let mut folders = BTreeMap::new();
    for _ in 0..3 {
        let process = folder.start(&["run", "pipeline.toml"]);
        std::thread::sleep(Duration::from_millis(700));
        process.signal("KILL");
        process.finish();
        for entry in std::fs::read_dir(folder.path("scratch/counts")).unwrap() {
            *folders.entry(entry.unwrap().file_name()).or_insert(0) += 1;
        }
    }
    // one run's and no more: each start removes what the last left
    assert!(folders.len() <= 2, "{folders:?}");
    folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint"]);
    assert_eq!(rows(&folder), rows(&straight));
}

#[test]
fn a_scratch_folder_that_cannot_be_made_is_said_before_anything_runs() {
    let folder = Folder::new();
    write(&folder, 10, 10, "state = { memory = \"1MiB\", spill = \"pipeline.toml\" }", "");
    folder.run(&["run", "pipeline.toml"]).expect(1).says(&["cannot make", "pipeline.toml/counts", "state.spill"]);
}
