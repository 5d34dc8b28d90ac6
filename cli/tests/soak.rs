//! A pipeline that is killed, started at another parallelism, swapped and disturbed at random for as long as one likes. What
//! is visible at the end: every row once, every key's counts without a gap, every window complete.
//!
//! `cargo xtask soak --seconds 600 --seed 7`, or by hand `MILLSTREAM_SOAK_SECONDS` and `MILLSTREAM_SOAK_SEED`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::disallowed_methods)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Folder, From, Process};

const KEYS: u64 = 97;

/// Without the option.
const SECONDS: u64 = 8;

const COMPONENT: &str = "map.wasm";

/// A row is 50 µs of event time, a window 200 ms: 4,000 rows.
const WINDOW_ROWS: u64 = 4_000;

const PIPELINE: &str = r#"
name = "soak"
checkpoint = { store = "state", interval = "25ms" }
restart = { attempts = 1_000, first = "10ms", max = "100ms" }
[source.numbers]
generator = { kind = "sequence", keys = 97, rate = 60_000, interval = "50us" }
watermark = { max_out_of_orderness = "10ms" }
[step.marked]
from = "numbers"
map = "map.wasm"
keep = "all"
[step.counts]
from = "marked"
key_by = ["key"]
aggregate = { rows = "count()", total = "sum(sequence)" }
[step.windows]
from = "marked"
key_by = ["key"]
window = { tumbling = "200ms" }
aggregate = { rows = "count()", total = "sum(sequence)" }
[sink.rows]
from = "marked"
file = { path = "rows/part.json" }
[sink.counts]
from = "counts"
file = { path = "counts/part.json" }
[sink.windows]
from = "windows"
file = { path = "windows/part.json" }
"#;

fn option(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}

/// What was done, for the last line.
#[derive(Debug, Default)]
struct Done {
    starts: u64,
    kills: u64,
    swaps: u64,
    outages: u64,
    stops: u64,
}

/// Puts one of two components of the same logic in place, as a build tool does.
fn install(folder: &Folder, second: bool) {
    let mut bytes = std::fs::read(support::guest("version-map.wasm")).unwrap();
    if second {
        // a custom section: the same logic under another digest
        bytes.extend([0, 5, 4]);
        bytes.extend(b"note");
    }
    std::fs::write(folder.path("map.part"), bytes).unwrap();
    std::fs::rename(folder.path("map.part"), folder.path(COMPONENT)).unwrap();
}

fn say(since: Instant, text: &str) {
    println!("{:8.3} s  {text}", since.elapsed().as_secs_f64());
}

/// A process from its start to its violent or peaceful end.
fn live(folder: &Folder, random: &mut Random, done: &mut Done, since: Instant) {
    let parallelism = (1 + random.below(3)).to_string();
    say(since, &format!("start at parallelism {parallelism}"));
    let arguments = ["run", "pipeline.toml", "--watch", "--json", "--parallelism", &parallelism];
    let process: Process = folder.start(&arguments);
    done.starts += 1;
    for _ in 0..1 + random.below(4) {
        std::thread::sleep(Duration::from_millis(random.below(400)));
        match random.below(6) {
            0 | 1 => {
                let second = random.below(2) == 0;
                say(since, &format!("component {} goes in", 1 + u8::from(second)));
                install(folder, second);
                done.swaps += 1;
            }
            2 => {
                say(since, "an output is away");
                outage(folder, Duration::from_millis(random.below(120)));
                done.outages += 1;
            }
            _ => {}
        }
    }
    let stop = random.below(5) == 0;
    say(since, if stop { "stop" } else { "kill" });
    (done.kills, done.stops) = (done.kills + u64::from(!stop), done.stops + u64::from(stop));
    process.signal(if stop { "TERM" } else { "KILL" });
    let output = process.finish();
    assert!(output.code == if stop { Some(0) } else { None }, "{output:?}");
}

/// Points the link `windows` somewhere else, at once.
fn link(folder: &Folder, to: &str) {
    let part = folder.path("windows.part");
    std::os::unix::fs::symlink(to, &part).unwrap();
    std::fs::rename(&part, folder.path("windows")).unwrap();
}

/// The folder of an output is something else for a while: the pipeline fails and is started again by itself.
fn outage(folder: &Folder, time: Duration) {
    link(folder, COMPONENT);
    std::thread::sleep(time);
    link(folder, "shown");
}

fn field(line: &str, name: &str) -> u64 {
    let rest = line.split(&format!("\"{name}\":")).nth(1).unwrap_or_else(|| panic!("no {name} in {line}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}

fn each_line(folder: &Path, mut line: impl FnMut(&str)) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with('.') {
            std::fs::read_to_string(path).unwrap().lines().for_each(&mut line);
        }
    }
}

/// Rows of the input that are visible: each once; every `lanes`th from each lane, without a gap.
fn rows_per_key(folder: &Path, lanes: u64) -> BTreeMap<u64, u64> {
    let mut sequences = Vec::new();
    let mut keys = BTreeMap::new();
    each_line(folder, |line| {
        sequences.push(field(line, "sequence"));
        *keys.entry(field(line, "key")).or_default() += 1;
    });
    sequences.sort_unstable();
    assert!(sequences.windows(2).all(|pair| pair[0] < pair[1]), "rows came twice");
    for lane in 0..lanes {
        let of_lane = sequences.iter().filter(|sequence| *sequence % lanes == lane);
        let gap = of_lane.enumerate().find(|(at, sequence)| **sequence != *at as u64 * lanes + lane);
        assert_eq!(gap, None, "lane {lane} of {lanes} has a gap");
    }
    keys
}

/// Every key's counts go from 1 to the number of its rows.
fn check_counts(folder: &Path, keys: &BTreeMap<u64, u64>) {
    let mut counts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    each_line(folder, |line| counts.entry(field(line, "key")).or_default().push(field(line, "rows")));
    for (key, counts) in &mut counts {
        counts.sort_unstable();
        let gap = counts.iter().zip(1..).find(|(count, expected)| **count != *expected);
        assert_eq!(gap, None, "key {key}: counted, expected");
        assert_eq!(counts.len() as u64, keys[key], "key {key}: its last counts are missing");
    }
    assert_eq!(counts.len(), keys.len());
}

/// Every window that is visible came once and holds all its rows; none is left out between others.
fn check_windows(folder: &Path) -> usize {
    let mut windows: BTreeMap<u64, BTreeMap<u64, (u64, u64)>> = BTreeMap::new();
    each_line(folder, |line| {
        let (start, key) = (field(line, "window_start"), field(line, "key"));
        let before = windows.entry(start).or_default().insert(key, (field(line, "rows"), field(line, "total")));
        assert_eq!(before, None, "key {key} of window {start} came twice");
    });
    for (number, (start, found)) in windows.iter().enumerate() {
        assert_eq!(*start, number as u64 * 200, "a window is missing");
        let (rows, total) = found.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let first = number as u64 * WINDOW_ROWS;
        let expected: u64 = (first..first + WINDOW_ROWS).sum();
        assert_eq!((rows, total), (WINDOW_ROWS, expected), "window {start}");
        assert!(found.keys().all(|key| *key < KEYS));
    }
    windows.len()
}

/// The lanes of the generator: the parallelism of its first start.
fn lanes(folder: &Folder) -> u64 {
    let shown = folder.run(&["checkpoint", "show", "pipeline.toml"]).expect(0).stdout;
    let lane = shown.lines().find_map(|line| line.trim().split_once("  next is")?.0.rsplit_once('/')).unwrap().1;
    lane.parse().unwrap_or_else(|_| panic!("no lanes in {shown}"))
}

#[test]
fn whatever_happens_to_it_every_row_is_visible_once() {
    let (seconds, seed) = (option("MILLSTREAM_SOAK_SECONDS", SECONDS), option("MILLSTREAM_SOAK_SEED", 1));
    println!("soak: {seconds} s, seed {seed} (times vary from run to run, what is done does not)");
    let (mut random, mut done, since) = (Random(seed), Done::default(), Instant::now());
    let folder = Folder::new();
    folder.write("pipeline.toml", PIPELINE);
    install(&folder, false);
    std::fs::create_dir(folder.path("shown")).unwrap();
    link(&folder, "shown");
    while since.elapsed() < Duration::from_secs(seconds) {
        live(&folder, &mut random, &mut done, since);
    }
    let mut last = folder.start(&["run", "pipeline.toml", "--json", "--status-interval", "20ms"]);
    last.wait_for(From::Stderr, "\"made\":3");
    last.signal("TERM");
    last.finish().expect(0);
    let keys = rows_per_key(&folder.path("rows"), lanes(&folder));
    check_counts(&folder.path("counts"), &keys);
    let windows = check_windows(&folder.path("windows"));
    let rows: u64 = keys.values().sum();
    assert!(rows > 10_000 && windows > 2, "{rows} rows, {windows} windows");
    println!("{done:?}: {rows} rows of {} keys and {windows} windows, each once", keys.len());
}
