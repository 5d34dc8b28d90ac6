//! Runs `cargo test` and reads from its output what passed, failed and was skipped, program by program.
//!
//! A test that misses something (Java, say) prints `SKIPPED <its name>: <reason>` and returns; the test harness counts
//! it as passed, we count it as skipped.

use std::time::{Duration, Instant};

use super::now;
use super::outcome::{Outcome, Part};
use crate::command::{cargo, root, run_lines, say};

/// Follows the name of a test that is marked `#[ignore]`.
const IGNORED: &str = ": ignored";

/// The tests of the workspace, all in one run of cargo.
pub(super) fn workspace(filter: Option<&str>) -> Vec<Part> {
    let mut arguments = vec!["test", "--release", "--workspace", "--no-fail-fast"];
    arguments.extend(filter);
    arguments.extend(["--", "--show-output"]);
    run("tests", &mut cargo(&arguments))
}

/// The tests of the example guests, on this machine instead of in WebAssembly.
pub(super) fn guest_examples(filter: Option<&str>) -> Vec<Part> {
    let manifest = root().join("guest-examples/Cargo.toml").display().to_string();
    let mut arguments = vec!["test", "--release", "--workspace", "--no-fail-fast", "--manifest-path", &manifest];
    arguments.extend(filter);
    arguments.extend(["--", "--show-output"]);
    // built beside the workspace's own artefacts the two would throw each other out
    let target = crate::command::target().join("guest-tests");
    let mut command = cargo(&arguments);
    command.env("CARGO_TARGET_DIR", target);
    // what makes components small and quick makes their tests slow to build
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    run("guest-examples", &mut command)
}

fn run(name: &str, command: &mut std::process::Command) -> Vec<Part> {
    let mut reading = Reading::new(name);
    let status = run_lines(command, |line| {
        if reading.read(line) {
            say(line);
        }
    });
    let mut parts = reading.finish();
    let failed = parts.iter().any(|part| !part.failed.is_empty());
    match status {
        Ok(status) if status.success() || failed => {}
        // a test that does not compile, or a program that crashed: no test is to blame
        Ok(status) => {
            parts.push(Part::single(name, Outcome::Failed(format!("cargo test ended with {status}")), Duration::ZERO));
        }
        Err(reason) => parts.push(Part::single(name, Outcome::Failed(reason), Duration::ZERO)),
    }
    parts
}

/// Which section of a test program's output a line is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Section {
    /// `test a::b ... ok`
    Tests,
    /// what tests that passed have printed
    Successes,
    /// what tests that failed have printed, and their names
    Failures,
}

/// Reads the output of `cargo test -- --show-output` line by line.
#[derive(Debug)]
struct Reading {
    /// put before the names of programs
    prefix: String,
    section: Section,
    current: Option<(Part, Instant)>,
    done: Vec<Part>,
}

impl Reading {
    fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), section: Section::Tests, current: None, done: Vec::new() }
    }

    /// Takes a line in; says whether it is worth showing.
    fn read(&mut self, line: &str) -> bool {
        if let Some(program) = program(line) {
            self.close();
            let part = Part { name: format!("{}: {program}", self.prefix), ..Part::default() };
            self.current = Some((part, now()));
            self.section = Section::Tests;
            return true;
        }
        let Some((part, started)) = &mut self.current else { return true };
        if let Some(counts) = line.strip_prefix("test result: ") {
            // the harness has counted these as passed; those it ignored it has not
            let skipped = part.skipped.iter().filter(|skipped| !skipped.contains(IGNORED)).count() as u64;
            part.passed = count(counts, " passed").saturating_sub(skipped);
            part.took = started.elapsed();
            self.close();
            self.section = Section::Tests;
            return true;
        }
        if let Some(skipped) = line.trim_start().strip_prefix("SKIPPED ") {
            if !part.skipped.iter().any(|known| known == skipped) {
                part.skipped.push(skipped.to_owned());
            }
            return true;
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED")) {
            part.failed.push(name.to_owned());
            return true;
        }
        if let Some((name, reason)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ignored")) {
            part.skipped.push(format!("{name}{IGNORED}{reason}"));
            return true;
        }
        match line {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Failures,
            _ => {}
        }
        match self.section {
            Section::Tests => !(line.is_empty() || line.ends_with(" ... ok") || line.starts_with("running ")),
            Section::Successes => false,
            Section::Failures => true,
        }
    }

    fn close(&mut self) {
        let Some((mut part, started)) = self.current.take() else { return };
        if part.took.is_zero() {
            // no result: the program died, by a signal or an abort
            part.took = started.elapsed();
            if part.failed.is_empty() && part.passed == 0 {
                part.failed.push("ended without a result".to_owned());
            }
        }
        let is_empty = part.passed == 0 && part.failed.is_empty() && part.skipped.is_empty();
        if !is_empty {
            self.done.push(part);
        }
    }

    fn finish(mut self) -> Vec<Part> {
        self.close();
        self.done
    }
}

/// The program that cargo says it runs now: `millstream_cli-1a2b` by its source, `src/main.rs of millstream_cli`.
fn program(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (documentation)"));
    }
    let (source, file) = line.strip_prefix("Running ")?.split_once(" (")?;
    let file = file.strip_suffix(')')?.rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    match source.strip_prefix("unittests ") {
        Some(source) => Some(format!("{name} {source}")),
        None => Some(source.to_owned()),
    }
}

/// The number before `word` in `ok. 3 passed; 0 failed; ..`.
fn count(text: &str, word: &str) -> u64 {
    let before = text.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "   Compiling x v0.1.0
     Running unittests src/lib.rs (target/release/deps/millstream-12ab)

running 4 tests
test window::fires ... ok
test window::late ... FAILED
test source::kafka ... ok
test slow ... ignored, takes an hour

successes:

---- source::kafka stdout ----
SKIPPED source::kafka: no Java
test in a success's output ... FAILED later

successes:
    source::kafka

failures:

---- window::late stdout ----
thread panicked

failures:
    window::late

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/empty.rs (target/release/deps/empty-34cd)
test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
   Doc-tests millstream
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
     Running tests/dead.rs (target/release/deps/dead-56ef)
running 1 test
";

    fn read(output: &str) -> (Vec<Part>, Vec<&str>) {
        let mut reading = Reading::new("t");
        let shown = output.lines().filter(|line| reading.read(line)).collect();
        let mut parts = reading.finish();
        parts.iter_mut().for_each(|part| part.took = Duration::ZERO);
        (parts, shown)
    }

    fn part(name: &str, passed: u64, failed: &[&str], skipped: &[&str]) -> Part {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Part { name: name.to_owned(), passed, failed: own(failed), skipped: own(skipped), took: Duration::ZERO }
    }

    #[test]
    fn tests_are_counted_by_program_and_named_where_they_failed_or_were_skipped() {
        let (parts, _) = read(OUTPUT);
        let skipped = ["slow: ignored, takes an hour", "source::kafka: no Java"];
        assert_eq!(
            parts,
            [
                part("t: millstream src/lib.rs", 1, &["window::late"], &skipped),
                part("t: millstream (documentation)", 5, &[], &[]),
                part("t: tests/dead.rs", 0, &["ended without a result"], &[]),
            ]
        );
    }

    #[test]
    fn what_passed_is_not_shown_but_what_failed_is() {
        let (_, shown) = read(OUTPUT);
        assert!(shown.contains(&"thread panicked") && shown.contains(&"SKIPPED source::kafka: no Java"));
        assert!(!shown.iter().any(|line| line.contains("... ok") || line.contains("source::kafka stdout")));
    }
}
