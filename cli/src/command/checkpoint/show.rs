//! One checkpoint in full, for people.

use std::collections::BTreeSet;

use millstream::checkpoint::{Loaded, Manifest};
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

fn steps(loaded: &Loaded, manifest: &Manifest, lines: &mut Vec<String>) {
    for entry in &manifest.steps {
        lines.push(Stream::Stdout.paint().bold(format!("step {}", entry.step)));
        for component in &entry.components {
            lines.push(format!("  component {}  sha256 {}", component.slot, component.digest));
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

/// `2026-11-23 08:30:00.125` in UTC, by the civil calendar (Hinnant, "chrono-compatible low-level date algorithms").
pub(crate) fn time(time_ms: i64) -> String {
    const DAY_MS: i64 = 86_400_000;
    let (days, ms) = (time_ms.div_euclid(DAY_MS), time_ms.rem_euclid(DAY_MS));
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}.{:03}", ms / 1_000 % 60, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_shown_in_utc() {
        for (time_ms, shown) in [
            (0, "1970-01-01 00:00:00.000"),
            (-1, "1969-12-31 23:59:59.999"),
            (951_782_400_000, "2000-02-29 00:00:00.000"),
            (1_795_422_600_125, "2026-11-23 08:30:00.125"),
        ] {
            assert_eq!(time(time_ms), shown);
        }
        for time_ms in [i64::MIN, i64::MAX] {
            assert!(!time(time_ms).is_empty());
        }
    }
}
