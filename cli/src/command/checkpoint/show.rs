//! One checkpoint in full, for people.

use std::collections::BTreeSet;

use millstream::checkpoint::{Loaded, Manifest, SlotVersions};
use millstream::clock::utc_text as time;
use millstream::record::{NO_EVENT_TIME, Position};

use crate::console::Stream;
use crate::figures;

/// All that a checkpoint consists of.
pub(super) fn text(loaded: &Loaded) -> String {
    let manifest = &loaded.manifest;
    let paint = Stream::Stdout.paint();
    let mut lines = vec![paint.bold(format!("{}, epoch {}", manifest.pipeline, manifest.epoch))];
    lines.push(format!("  written    {} by attempt {}", time(manifest.written_ms), manifest.attempt));
    let shown = if loaded.committed { "by all sinks" } else { "not yet by all sinks" };
    lines.push(format!("  shown      {shown}"));
    let (total, new) = (figures::size(manifest.state_bytes()), figures::size(manifest.new_state_bytes()));
    let files = manifest.state_files().count();
    let old: BTreeSet<u64> =
        manifest.state_files().map(|(.., file)| file.epoch).filter(|epoch| *epoch != manifest.epoch).collect();
    let of = if old.is_empty() { String::new() } else { format!("; the rest was written by {}", list(&old)) };
    lines.push(format!("  state      {total} in {files} files, {new} of it new{of}"));
    if manifest.finished {
        lines.push("  input      had ended".to_owned());
    }
    for entry in &manifest.sources {
        lines.push(paint.bold(format!("source {}", entry.source)));
        lines.extend(entry.positions.iter().map(position));
    }
    steps(loaded, manifest, &mut lines);
    let elsewhere = |slot: &&SlotVersions| !manifest.steps.iter().any(|entry| entry.step == slot.step);
    for slot in manifest.versions.iter().filter(elsewhere) {
        lines.push(paint.bold(&slot.step));
        versions(slot, &mut lines);
    }
    for entry in &manifest.prepared {
        lines.push(format!("{} {}", paint.bold(format!("sink {}", entry.sink)), entry.shown));
    }
    lines.join("\n")
}

/// `checkpoint 3`, `checkpoints 3, 5` or, of many, the first and the last.
fn list(epochs: &BTreeSet<u64>) -> String {
    let all: Vec<String> = epochs.iter().map(u64::to_string).collect();
    match all.as_slice() {
        [only] => format!("checkpoint {only}"),
        [first, .., last] if all.len() > 4 => format!("{} checkpoints from {first} to {last}", all.len()),
        _ => format!("checkpoints {}", all.join(", ")),
    }
}

fn position(position: &Position) -> String {
    let seen = match position.time_ms_max {
        NO_EVENT_TIME => String::new(),
        time_ms => format!(", event time up to {}", time(time_ms)),
    };
    let at = if position.ended { "read to its end".to_owned() } else { format!("next is {}", position.next) };
    format!("  {}  {at}{seen}", position.partition)
}

/// Which components there were, newest first.
fn versions(slot: &SlotVersions, lines: &mut Vec<String>) {
    for version in slot.versions.iter().rev() {
        let mark = if version.number == slot.current { "runs" } else { "kept" };
        let how = if version.swapped { "swapped in" } else { "started" };
        let state = version.state.as_ref().map(|state| format!(", state version {}", state.version));
        lines.push(format!(
            "    {mark} v{} {}  {how} on {}{}, {}",
            version.number,
            figures::short(&version.digest),
            time(version.since_ms),
            state.unwrap_or_default(),
            version.path
        ));
    }
}

fn steps(loaded: &Loaded, manifest: &Manifest, lines: &mut Vec<String>) {
    for entry in &manifest.steps {
        lines.push(Stream::Stdout.paint().bold(format!("step {}", entry.step)));
        for component in &entry.components {
            lines.push(format!("  component {}  sha256 {}", component.slot, component.digest));
            let of_step = |slot: &&SlotVersions| slot.step == entry.step && slot.slot == component.slot;
            manifest.versions.iter().filter(of_step).for_each(|slot| versions(slot, lines));
        }
        for task in &entry.tasks {
            let state = loaded.states.get(&(entry.step.clone(), task.subtask));
            let tables = state.iter().flat_map(|state| &state.tables).map(|table| {
                let rows: usize = table.rows.iter().map(|batch| batch.num_rows()).sum();
                format!("{} {} rows", table.name, figures::count(rows as u64))
            });
            let tables: Vec<String> = tables.collect();
            let tables = if tables.is_empty() { "nothing to remember".to_owned() } else { tables.join(", ") };
            lines.push(format!("  task {}  watermark {}  {tables}", task.subtask, task.watermark()));
        }
    }
}
