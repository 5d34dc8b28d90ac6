//! Real processes that die, at named places and at random moments, and are started again: what is visible at the end is the
//! image of the input, every row once.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use support::{Folder, From, Output, Process};

const ROWS: usize = 12_000;

/// Places in the making of a checkpoint at which the process dies.
const FAIL_POINTS: [&str; 7] =
    ["cut", "before-manifest", "after-manifest", "before-commit", "between-commits", "after-commit", "restored"];

/// `ROWS` numbered rows in about half a second, a checkpoint every 20 ms.
fn generated(folder: &Folder) {
    folder.write(
        "pipeline.toml",
        format!(
            r#"
name = "numbers"
checkpoint = {{ store = "state", interval = "20ms", retain = 3 }}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS}, rate = 24_000 }}
parallelism = 2
[sink.out]
from = "numbers"
file = {{ path = "out/rows.json" }}
"#
        ),
    );
}

/// Names and contents of the visible parts.
fn parts(folder: &Path) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return parts };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with('.') {
            parts.insert(name, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
    parts
}

/// The numbers that are visible, sorted.
fn numbers(folder: &Path) -> Vec<usize> {
    let parts = parts(folder);
    let lines = parts.values().flat_map(|part| part.lines());
    let number = |line: &str| -> usize {
        let rest = line.split("\"sequence\":").nth(1).unwrap();
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    };
    let mut numbers: Vec<usize> = lines.map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[track_caller]
fn assert_each_once(folder: &Folder, what: &str) {
    let numbers = numbers(&folder.path("out"));
    let repeated = numbers.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert_eq!((numbers.len(), repeated), (ROWS, 0), "{what}: rows, repeated rows");
    assert_eq!(numbers.last(), Some(&(ROWS - 1)), "{what}");
    let pending = std::fs::read_dir(folder.path("out")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".pending")
    });
    assert_eq!(pending.count(), 0, "{what}: pending files");
}

fn run_until_it_dies(folder: &Folder, point: &str, arguments: &[&str]) -> Option<i32> {
    let mut command = folder.command(&[&["run", "pipeline.toml"], arguments].concat());
    command.env("MILLSTREAM_FAILPOINT", point).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().unwrap().code()
}

#[test]
fn dying_at_any_place_of_a_checkpoint_loses_and_repeats_nothing() {
    for point in FAIL_POINTS {
        let folder = Folder::new();
        generated(&folder);
        for nth in [1, 3, 2] {
            let died = run_until_it_dies(&folder, &format!("{point}:{nth}"), &[]);
            assert!(died.is_none() || point == "restored", "{point}:{nth} was not reached: {died:?}");
        }
        folder.run(&["run", "pipeline.toml"]).expect(0);
        assert_each_once(&folder, point);
    }
}

#[test]
fn dying_at_the_last_checkpoint_of_all_is_finished_by_the_next_start() {
    let folder = Folder::new();
    folder.write(
        "pipeline.toml",
        format!(
            r#"
name = "numbers"
checkpoint = {{ store = "state", interval = "1h" }}
[source.numbers]
generator = {{ kind = "sequence", rows = {ROWS} }}
[sink.out]
from = "numbers"
file = {{ path = "out/rows.json" }}
"#
        ),
    );
    assert_eq!(run_until_it_dies(&folder, "before-commit", &[]), None);
    assert!(parts(&folder.path("out")).is_empty());
    for _ in 0..2 {
        folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint", "had been read"]);
        assert_each_once(&folder, "the end");
    }
}

/// Kills it after random times until it gets through.
fn kill_until_done(folder: &Folder, seed: u64, mut arguments: impl FnMut(usize) -> Vec<String>) -> (Output, usize) {
    let mut random = seed;
    for round in 0.. {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut all = vec!["run".to_owned(), "pipeline.toml".to_owned()];
        all.extend(arguments(round));
        let process = folder.start(&all.iter().map(String::as_str).collect::<Vec<_>>());
        if round >= 8 {
            return (process.finish(), round);
        }
        std::thread::sleep(Duration::from_millis(40 + (random >> 33) % 160));
        process.signal("KILL");
        let output = process.finish();
        if output.code.is_some() {
            return (output, round);
        }
    }
    unreachable!()
}

#[test]
fn dying_at_random_moments_loses_and_repeats_nothing() {
    for seed in 0..4 {
        let folder = Folder::new();
        generated(&folder);
        let (output, kills) = kill_until_done(&folder, seed, |_| Vec::new());
        output.expect(0);
        assert_each_once(&folder, &format!("seed {seed}, {kills} kills"));
    }
}

#[test]
fn a_start_with_other_parallelism_goes_on_with_the_same_rows() {
    for seed in 10..13 {
        let folder = Folder::new();
        generated(&folder);
        let (output, kills) =
            kill_until_done(&folder, seed, |round| vec!["--parallelism".to_owned(), (1 + round % 4).to_string()]);
        output.expect(0);
        assert_each_once(&folder, &format!("seed {seed}, {kills} kills"));
    }
}

#[test]
fn files_are_read_on_where_reading_stopped() {
    let folder = Folder::new();
    for file in 0..3 {
        let lines = (0..ROWS / 3).map(|row| format!("{{\"sequence\":{}}}\n", row * 3 + file));
        folder.write(&format!("in-{file}.json"), lines.collect::<String>());
    }
    folder.write(
        "pipeline.toml",
        r#"
name = "numbers"
parallelism = 2
checkpoint = { store = "state", interval = "10ms" }
[source.numbers]
file = { path = "in-*.json" }
format = "json"
schema = { sequence = "int64" }
[sink.out]
from = "numbers"
file = { path = "out/rows.json" }
"#,
    );
    // small batches and a checkpoint between them: `cut` is reached while files are read
    for nth in [1, 1, 1] {
        run_until_it_dies(&folder, &format!("after-commit:{nth}"), &["--shuffle-batches", "7"]);
    }
    folder.run(&["run", "pipeline.toml", "--parallelism", "3"]).expect(0);
    assert_each_once(&folder, "files");
    // a file that comes later is read, the others are not read again
    std::fs::remove_dir_all(folder.path("out")).unwrap();
    folder.write("in-9.json", "{\"sequence\":77}\n");
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_eq!(numbers(&folder.path("out")), [77]);
}

/// How many checkpoints a line of status tells of.
fn made(line: &str) -> u64 {
    let number = line.split("\"made\":").nth(1).unwrap_or_default();
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().unwrap_or(0)
}

#[test]
fn a_stop_goes_on_later_as_if_there_had_been_none() {
    let folder = Folder::new();
    generated(&folder);
    for _ in 0..2 {
        let mut process = folder.start(&["run", "pipeline.toml", "--json", "--status-interval", "10ms"]);
        // the status may miss any of the numbers in between
        process.wait_until(From::Stderr, "two checkpoints", |line| made(line) >= 2);
        process.signal("TERM");
        process.finish().expect(0);
    }
    let so_far = numbers(&folder.path("out")).len();
    assert!(so_far > 0 && so_far < ROWS, "{so_far}");
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_each_once(&folder, "stopped twice");
}

#[test]
fn a_second_process_on_the_same_store_is_refused() {
    let folder = Folder::new();
    generated(&folder);
    let mut first: Process = folder.start(&["run", "pipeline.toml", "--status-interval", "10ms"]);
    first.wait_for(From::Stderr, "numbers");
    folder.run(&["run", "pipeline.toml"]).expect(1).says(&["is in use", "another store"]);
    first.finish().expect(0);
    assert_each_once(&folder, "two processes");
}

fn newest_checkpoint(folder: &Folder) -> std::path::PathBuf {
    let store = folder.path("state/numbers");
    let mut epochs: Vec<_> = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path()).collect();
    epochs.retain(|path| path.join("manifest").exists());
    epochs.sort();
    epochs.pop().unwrap()
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_manifest_is_passed_over_only_while_nothing_of_it_is_visible() {
    // dies with the manifest written and nothing committed: the older checkpoint is as good
    let folder = Folder::new();
    generated(&folder);
    assert_eq!(run_until_it_dies(&folder, "after-manifest:3", &[]), None);
    damage(&newest_checkpoint(&folder).join("manifest"));
    folder.run(&["run", "pipeline.toml"]).expect(0).says(&["passed over", "damaged", "restored from checkpoint 2"]);
    assert_each_once(&folder, "passed over");
    // dies after the commit: going on would show rows twice
    let folder = Folder::new();
    generated(&folder);
    assert_eq!(run_until_it_dies(&folder, "after-commit:3", &[]), None);
    let manifest = newest_checkpoint(&folder).join("manifest");
    damage(&manifest);
    let before = parts(&folder.path("out"));
    folder.run(&["run", "pipeline.toml"]).expect(1).says(&["sink `out` shows rows of epoch 3", "damaged", "--fresh"]);
    assert_eq!(parts(&folder.path("out")), before, "nothing was touched");
    damage(&manifest);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_each_once(&folder, "brought back");
}

#[test]
fn one_checkpoint_restored_twice_gives_the_same_twice() {
    let folder = Folder::new();
    generated(&folder);
    assert_eq!(run_until_it_dies(&folder, "after-commit:4", &[]), None);
    let copy = Folder::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(folder.path(".")).arg(copy.path(".")).status();
    assert!(copied.unwrap().success());
    for folder in [&folder, &copy] {
        folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint 4"]);
        assert_each_once(folder, "restored");
    }
}

#[test]
fn output_without_its_checkpoints_is_refused_and_fresh_starts_beside_it() {
    let folder = Folder::new();
    generated(&folder);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    std::fs::remove_dir_all(folder.path("state")).unwrap();
    folder.run(&["run", "pipeline.toml"]).expect(1).says(&["there is no checkpoint", "--fresh"]);
    folder.run(&["run", "pipeline.toml", "--fresh"]).expect(0);
    assert_eq!(numbers(&folder.path("out")).len(), 2 * ROWS, "beside the old output, none of it replaced");
}

#[test]
fn dead_letters_are_exactly_once_too() {
    let folder = Folder::new();
    let bad =
        (0..ROWS).map(|row| if row % 10 == 0 { format!("bad {row}\n") } else { format!("{{\"sequence\":{row}}}\n") });
    folder.write("in.json", bad.collect::<String>());
    folder.write(
        "pipeline.toml",
        r#"
name = "numbers"
checkpoint = { store = "state", interval = "10ms" }
dead_letter = { file = { path = "dead/rows.json" } }
[source.numbers]
file = { path = "in.json" }
format = "json"
schema = { sequence = "int64" }
[sink.out]
from = "numbers"
file = { path = "out/rows.json" }
"#,
    );
    for _ in 0..3 {
        run_until_it_dies(&folder, "between-commits:1", &[]);
    }
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_eq!(numbers(&folder.path("out")).len(), ROWS - ROWS / 10);
    let dead = parts(&folder.path("dead"));
    assert_eq!(dead.values().flat_map(|part| part.lines()).count(), ROWS / 10);
}

/// Windows that take longer than checkpoints are apart, and rows that are late.
const WINDOWS: &str = r#"
name = "numbers"
@checkpoint@
[source.numbers]
generator = { kind = "sequence", rows = 12_000, rate = 24_000, interval = "1ms", keys = 40 }
watermark = { max_out_of_orderness = "50ms" }
parallelism = 2
[step.sums]
from = "numbers"
key_by = ["key"]
window = { sliding = "900ms", every = "300ms" }
aggregate = { rows = "count()", total = "sum(amount)", first = "min(sequence)", mean = "avg(amount)" }
[step.all]
from = "sums"
key_by = ["key"]
window = { session = "1s" }
aggregate = { windows = "count()", totals = "sum(total)" }
[sink.out]
from = "sums"
file = { path = "out/rows.json" }
[sink.all]
from = "all"
file = { path = "all/rows.json" }
"#;

fn sorted_lines(folder: &Path) -> Vec<String> {
    let parts = parts(folder);
    let mut lines: Vec<String> = parts.values().flat_map(|part| part.lines()).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn windows_go_on_after_any_death_with_any_parallelism_as_if_nothing_had_been() {
    let straight = Folder::new();
    straight.write("pipeline.toml", WINDOWS.replace("@checkpoint@", ""));
    straight.run(&["run", "pipeline.toml"]).expect(0);
    let expected = ["out", "all"].map(|sink| sorted_lines(&straight.path(sink)));
    assert!(expected[0].len() > 1_000 && !expected[1].is_empty());
    for seed in 20..25 {
        let folder = Folder::new();
        let checkpoint = "checkpoint = { store = \"state\", interval = \"20ms\" }";
        folder.write("pipeline.toml", WINDOWS.replace("@checkpoint@", checkpoint));
        let (output, kills) =
            kill_until_done(&folder, seed, |round| vec!["--parallelism".to_owned(), (1 + round % 3).to_string()]);
        output.expect(0);
        for (sink, expected) in ["out", "all"].iter().zip(&expected) {
            let found = sorted_lines(&folder.path(sink));
            assert!(
                found == *expected,
                "seed {seed}, {kills} kills, {sink}: {} lines of {}",
                found.len(),
                expected.len()
            );
        }
    }
}

#[test]
fn checkpoints_and_their_state_can_be_looked_at_and_kept() {
    let folder = Folder::new();
    let checkpoint = "checkpoint = { store = \"state\", interval = \"20ms\" }";
    folder.write("pipeline.toml", WINDOWS.replace("@checkpoint@", checkpoint));
    assert_eq!(run_until_it_dies(&folder, "after-commit:6", &[]), None);
    let list = folder.run(&["checkpoint", "ls", "pipeline.toml"]).expect(0).stdout;
    assert!(list.contains("         6  20") && list.contains("not yet shown"), "{list}");
    let shown = folder.run(&["checkpoint", "show", "pipeline.toml", "6"]).expect(0).stdout;
    for part in ["numbers, epoch 6", "source numbers", "1/2  next is", "step sums", "windows", "sink out"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
    let tables = folder.run(&["state", "ls", "pipeline.toml"]).expect(0).stdout;
    assert!(tables.contains("sums  task 0  windows") && tables.contains("key"), "{tables}");
    let rows = folder.run(&["state", "export", "--step", "sums", "pipeline.toml"]).expect(0).stdout;
    assert!(
        rows.lines().count() > 10 && rows.lines().all(|row| row.starts_with("{\"table\":\"windows\",\"key\":")),
        "{rows}"
    );
    folder.run(&["state", "export", "--step", "sum", "pipeline.toml"]).expect(2).says(&["state is of: all, sums"]);
    let other = ["state", "export", "--step", "sums", "--table", "window", "pipeline.toml"];
    folder.run(&other).expect(2).says(&["step `sums` has no table `window`; it has: ", "windows"]);

    let of_one: Vec<&str> = rows.lines().filter(|row| row.contains("\"key\":7,")).collect();
    let got = folder.run(&["state", "get", "pipeline.toml", "sums", "key=7"]).expect(0).stdout;
    assert!(!of_one.is_empty() && got.lines().eq(of_one), "{got}");
    folder.run(&["state", "get", "pipeline.toml", "sums", "key=700"]).expect(0).says(&["nothing of key=700"]);
    folder.run(&["state", "get", "pipeline.toml", "sums", "7"]).expect(2).says(&["as `auction=7`, got `7`"]);

    folder.run(&["checkpoint", "savepoint", "pipeline.toml", "before"]).expect(0).says(&["kept as savepoint `before`"]);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(0);
    folder.run(&["run", "pipeline.toml", "--from-savepoint", "other"]).expect(1).says(&["there are before"]);
    for restore in [
        &["run", "pipeline.toml", "--from-savepoint", "before"][..],
        &["checkpoint", "restore", "pipeline.toml", "before", "--parallelism", "3"],
    ] {
        folder.run(restore).expect(0).says(&["restored from savepoint `before` (epoch 6)", "come again"]);
    }
    let state = newest_checkpoint(&folder).join("manifest");
    damage(&state);
    folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(3).says(&["1 of 4 are damaged"]);
}

#[test]
fn a_checkpoint_that_is_not_the_newest_is_restored_by_its_epoch() {
    let folder = Folder::new();
    generated(&folder);
    assert_eq!(run_until_it_dies(&folder, "after-commit:4", &[]), None);
    folder.run(&["checkpoint", "restore", "pipeline.toml", "9"]).expect(1).says(&["there is no checkpoint 9", "4, 3"]);
    let shown = parts(&folder.path("out"));
    folder
        .run(&["checkpoint", "restore", "pipeline.toml", "3"])
        .expect(0)
        .says(&["restored from checkpoint 3", "come again"]);
    // what was there stays, and epochs are numbered on
    let all = parts(&folder.path("out"));
    assert!(shown.iter().all(|(name, content)| all.get(name) == Some(content)) && all.len() > shown.len());
    let after: Vec<usize> = {
        let mut numbers = numbers(&folder.path("out"));
        numbers.dedup();
        numbers
    };
    assert_eq!(after, (0..ROWS).collect::<Vec<_>>(), "all rows, those of epoch 4 twice");
}

#[test]
fn a_wrong_key_is_told_from_damage() {
    let folder = Folder::new();
    let key = || {
        let key = folder.run(&["checkpoint", "key"]).expect(0).stdout;
        assert_eq!(key.lines().count(), 1, "{key}");
        key
    };
    let (first, second) = (key(), key());
    assert_ne!(first, second);
    generated(&folder);
    let pipeline = std::fs::read_to_string(folder.path("pipeline.toml")).unwrap();
    folder.write("pipeline.toml", pipeline.replace("retain = 3", "retain = 3, encrypt = { key_file = \"keys\" }"));
    folder.write("keys", &first);
    assert_eq!(run_until_it_dies(&folder, "after-commit:4", &[]), None);
    folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(0);
    folder.write("keys", &second);
    let verified = folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(3);
    assert!(verified.stdout.contains("wrong key: ") && !verified.stderr.contains("damaged;"), "{verified:?}");
    verified.says(&["cannot be read with the keys that are given"]);
    folder.run(&["run", "pipeline.toml"]).expect(1);
    // a new key in front of the old one: both are read, the new one writes
    folder.write("keys", format!("{second}{first}"));
    folder.run(&["checkpoint", "verify", "pipeline.toml"]).expect(0);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_each_once(&folder, "with a new key");
}

#[test]
fn a_store_that_is_away_for_a_while_is_waited_for() {
    let folder = Folder::new();
    generated(&folder);
    let arguments = ["run", "pipeline.toml", "--json", "--status-interval", "10ms"];
    let mut process = folder.start(&arguments);
    process.wait_for(From::Stderr, "\"made\":3");
    let (store, away) = (folder.path("state/numbers"), folder.path("away"));
    std::fs::rename(&store, &away).unwrap();
    std::fs::write(&store, "in the way").unwrap();
    process.wait_for(From::Stderr, "\"failing\":\"cannot write");
    std::fs::remove_file(&store).unwrap();
    std::fs::rename(&away, &store).unwrap();
    process.finish().expect(0);
    assert_each_once(&folder, "a store that was away");
}

#[test]
fn a_fresh_start_finishes_what_was_whole_and_begins_beside_it() {
    let folder = Folder::new();
    generated(&folder);
    assert_eq!(run_until_it_dies(&folder, "after-manifest:3", &[]), None);
    let third = |name: &String| name.starts_with("rows-0000000003-");
    assert!(!parts(&folder.path("out")).keys().any(third), "not shown yet");
    folder.run(&["run", "pipeline.toml", "--fresh"]).expect(0);
    assert!(parts(&folder.path("out")).keys().any(third), "shown, as its checkpoint was whole");
    let before = numbers(&folder.path("out")).len() - ROWS;
    assert!(before > 0, "the old rows and all of the new ones");
}

#[test]
fn a_start_that_is_refused_leaves_everything_as_it_was() {
    let folder = Folder::new();
    generated(&folder);
    assert_eq!(run_until_it_dies(&folder, "after-manifest:3", &[]), None);
    // the checkpoint cannot be read, so it is passed over; and then the pipeline cannot be opened
    let manifest = newest_checkpoint(&folder).join("manifest");
    damage(&manifest);
    std::os::unix::fs::symlink("nowhere/at all", folder.path("gone")).unwrap();
    let pipeline = std::fs::read_to_string(folder.path("pipeline.toml")).unwrap();
    let more = "\n[sink.zzz]\nfrom = \"numbers\"\nfile = { path = \"gone/rows.json\" }\n";
    folder.write("pipeline.toml", format!("{pipeline}{more}"));
    folder.run(&["run", "pipeline.toml"]).expect(1).says(&["sink `zzz`"]);
    // all is put right again
    damage(&manifest);
    folder.write("pipeline.toml", pipeline);
    folder.run(&["run", "pipeline.toml"]).expect(0).says(&["restored from checkpoint 3"]);
    assert_each_once(&folder, "after a refusal");
}

#[test]
fn what_is_appended_after_the_end_goes_on_with_sums_and_lateness() {
    let folder = Folder::new();
    folder.write(
        "pipeline.toml",
        r#"
name = "sums"
checkpoint = { store = "state", interval = "1h" }
[source.rows]
file = { path = "in.json" }
format = "json"
schema = { key = "text", amount = "int64", at = "timestamp_ms" }
event_time = "at"
[step.sums]
from = "rows"
key_by = ["key"]
aggregate = { total = "sum(amount)", kinds = "count_distinct(amount)" }
[step.windows]
from = "rows"
key_by = ["key"]
window = { tumbling = "10ms" }
aggregate = { rows = "count()" }
[sink.sums]
from = "sums"
file = { path = "sums/rows.json" }
[sink.windows]
from = "windows"
file = { path = "windows/rows.json" }
"#,
    );
    let row = |key: &str, amount: i64, at: i64| format!("{{\"key\":\"{key}\",\"amount\":{amount},\"at\":{at}}}\n");
    let mut input = row("a", 5, 1) + &row("b", 7, 12) + &row("a", 6, 25);
    folder.write("in.json", &input);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    let windows = sorted_lines(&folder.path("windows")).len();
    assert_eq!(windows, 3);
    // nothing new: nothing changes
    folder.run(&["run", "pipeline.toml"]).expect(0);
    assert_eq!((sorted_lines(&folder.path("sums")).len(), sorted_lines(&folder.path("windows")).len()), (3, 3));
    // one row in time, and one that is late: the watermark had been at 24
    input += &(row("a", 5, 31) + &row("a", 100, 3));
    folder.write("in.json", &input);
    folder.run(&["run", "pipeline.toml"]).expect(0);
    let sums = sorted_lines(&folder.path("sums"));
    let last = sums.iter().filter(|line| line.contains("\"total\":16") && line.contains("\"kinds\":2"));
    assert_eq!(last.count(), 1, "{sums:#?}");
    let last = sums.iter().filter(|line| line.contains("\"total\":116") && line.contains("\"kinds\":3"));
    assert_eq!(last.count(), 1, "{sums:#?}");
    let windows = sorted_lines(&folder.path("windows"));
    assert_eq!(windows.len(), 4, "late rows stay late: {windows:#?}");
}
